"""How a server starts, and what it refuses to start on: the same in every question."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import sysv_ipc

from spectacles.common import addresses
from spectacles.common.spectacle import TABLE_SIZE
from spectacles.lab.kernel.processes import thread_count
from spectacles.lab.programs.process import QUESTIONS, ServerProcess, children
from tests import helpers

RESIDENT_MEMORY = 15_000  # KB, of each process, at `Serveur UP`


def refused(question: str, *options: str, code: int, cwd: Path | None = None) -> str:
    """Start a server that must not serve, and return the one line it says on standard error."""
    if question == "q5_sockets" and "--port" not in options:
        options = (*options, "--port", "0")
    done = helpers.run(helpers.server_command(question, *options), cwd=cwd)
    assert done.returncode == code, done
    assert "Serveur UP" not in done.stdout
    return helpers.one_line(done)


def test_processes_and_threads(server: helpers.Servers, question: str) -> None:
    """What each question is there to show: the column of README's table of the five questions."""
    guichet = server(question)
    forks = question in helpers.FORKING
    assert len(children(guichet.pid)) == (2 if forks else 0)
    assert [thread_count(pid) for pid in guichet.tree()] == {
        "q1_pipes": [1, 1, 1],
        "q2_msq": [1, 1, 1],
        "q3_threads": [3],
        "q4_thread_per_request": [2],
        "q5_sockets": [2],
    }[question]


def test_says_where_it_is(server: helpers.Servers, question: str) -> None:
    """Directory, keys and names are printed before `Serveur UP`, even with --log-level error."""
    guichet = server(question, "--log-level", "error")
    up = next(number for number, line in enumerate(guichet.lines) if "Serveur UP" in line)
    before = "\n".join(guichet.lines[:up])
    assert str(guichet.directory) in before
    for option in {"q1_pipes": ("--shm-key", "--sem-name"), "q2_msq": ("--key", "--shm-key", "--sem-name")}.get(
        question, ("--key",) if question in helpers.QUEUES else ()
    ):
        assert guichet.options[guichet.options.index(option) + 1] in before
    assert f"PID {guichet.pid}" in guichet.lines[up]
    guichet.client("list")
    assert "CONSULTATION" not in guichet.output


def test_derived_names_are_those_of_ftok(server: helpers.Servers, question: str, c_programs: Path) -> None:
    """Without options, keys come from the run directory as C's ftok computes them; client and server agree."""
    guichet = server(question, names=())
    assert guichet.client("reserve", "0", "1").returncode == 0
    for project in range(1, 256, 7):
        expected = sysv_ipc.ftok(str(guichet.directory), project, True)
        assert addresses.directory_key(str(guichet.directory), project) == expected & 0xFFFFFFFF
    layout = helpers.run([c_programs / "layout", guichet.directory])
    key = addresses.directory_key(str(guichet.directory), addresses.PROJECT_MSQ)
    assert f'"ftok":{key}' in layout.stdout
    if question in helpers.QUEUES:
        assert f"key {key:#x}" in guichet.output


@pytest.mark.parametrize("form", ["decimal", "hexadecimal"])
def test_keys_as_the_original_writes_them(server: helpers.Servers, form: str) -> None:
    """Keys in decimal, as the original's 1234, or 0x."""
    key, shm_key = helpers.fresh_key(), helpers.fresh_key()
    write = str if form == "decimal" else hex
    names = ["--key", write(key), "--shm-key", write(shm_key), "--sem-name", helpers.fresh_semaphore()]
    guichet = server("q2_msq", names=names)
    assert {f"msg {key:#x}", f"shm {shm_key:#x}", *addresses.semaphore_files(names[-1])} <= helpers.own_objects()
    assert len(addresses.semaphore_files(names[-1])) == 1
    assert guichet.client("list").returncode == 0


def namespace_command() -> list[str] | None:
    """Return a prefix that gives private System V objects, mounts and /dev/shm; None where that is not allowed."""
    if not shutil.which("unshare"):
        return None
    inside = 'mount -t tmpfs none /dev/shm && exec "$@"'
    command = ["unshare", "--user", "--map-root-user", "--ipc", "--mount", "sh", "-c", inside, "sh"]
    return command if helpers.run([*command, "true"]).returncode == 0 else None


@pytest.mark.parametrize("question", QUESTIONS[:4])
def test_the_original_s_names(question: str, directory: Path) -> None:
    """--key 1234 --shm-key 1234 --sem-name /semaphore, in a namespace where nobody else can have them."""
    prefix = namespace_command()
    if prefix is None:
        pytest.skip("no private IPC namespace on this machine (unshare --user --ipc --mount)")
    names = "--key 1234 --shm-key 1234 --sem-name /semaphore"
    script = (
        f"{sys.executable} -m spectacles.{question}.server --dir {directory} {names} > {directory}/out & pid=$!\n"
        f"for i in $(seq 500); do grep -q 'Serveur UP' {directory}/out && break; sleep 0.01; done\n"
        f"{sys.executable} -m spectacles.{question}.client --dir {directory} {names} reserve 0 5; echo code $?\n"
        "ls /dev/shm; cat /proc/sysvipc/msg /proc/sysvipc/shm; kill $pid; wait $pid; echo end $?\n"
        "ls /dev/shm; tail -qn +2 /proc/sysvipc/msg /proc/sysvipc/shm"
    )
    done = helpers.run([*prefix, "sh", "-c", script])
    during, _, after = done.stdout.partition("end 0\n")
    assert "code 0" in during, done
    assert "1234" in during
    assert re.search(r"^(sem\.)?semaphore$", during, re.MULTILINE) or question not in helpers.FORKING
    assert after == ""
    assert helpers.places_in_file(directory, 0) == 115


# A second server


def test_second_server_on_the_same_directory(server: helpers.Servers, question: str) -> None:
    """Refused with code 3 and who holds it, of whatever question; the first is undisturbed (defect 9)."""
    first = server(question)
    for other in {question, "q3_threads"}:
        line = refused(other, "--dir", str(first.directory), *helpers.fresh_names(other), code=3)
        assert str(first.pid) in line
        assert question in line
    assert first.client("reserve", "0", "1").returncode == 0


@pytest.mark.parametrize(
    ("question", "option"),
    [
        ("q1_pipes", "--shm-key"),
        ("q1_pipes", "--sem-name"),
        ("q2_msq", "--key"),
        ("q2_msq", "--shm-key"),
        ("q2_msq", "--sem-name"),
        ("q3_threads", "--key"),
        ("q4_thread_per_request", "--key"),
    ],
)
def test_second_server_with_the_same_name(
    server: helpers.Servers, make_directory: Callable[[], Path], question: str, option: str
) -> None:
    """Another directory, but one name in common: refused, and nothing of the first one's is touched (defect 9).

    (With Server.claim() doing nothing, the second starts, or unlinks the first one's semaphore.)
    """
    first = server(question)
    value = first.options[first.options.index(option) + 1]
    names = helpers.fresh_names(question)
    names[names.index(option) + 1] = value
    other = make_directory()
    line = refused(question, "--dir", str(other), *names, code=3)
    assert str(first.pid) in line
    assert value in line
    assert first.client("reserve", "0", "1").returncode == 0
    assert not any(path.name.startswith("tub") for path in other.iterdir())


def test_second_server_on_the_same_port(server: helpers.Servers, make_directory: Callable[[], Path]) -> None:
    first = server("q5_sockets")
    port = str(first.address()[1])
    line = refused("q5_sockets", "--dir", str(make_directory()), "--port", port, code=3)
    assert port in line
    assert str(first.pid) in line
    assert first.client("reserve", "0", "1").returncode == 0


def test_port_of_another_program(make_directory: Callable[[], Path]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        assert port in refused("q5_sockets", "--dir", str(make_directory()), "--port", port, code=3)


def test_two_servers_side_by_side(server: helpers.Servers, question: str) -> None:
    """Two directories, no other option: each has its own shows."""
    first, second = server(question, names=()), server(question, names=())
    assert first.client("reserve", "0", "1").returncode == 0
    assert second.client("reserve", "0", "2").returncode == 0
    assert helpers.places_in_file(first.directory, 0) == 119
    assert helpers.places_in_file(second.directory, 0) == 118
    assert second.stop() == 0
    assert first.client("reserve", "0", "1").returncode == 0


# What it creates, and with which rights


def mode(path: Path) -> int:
    """Return the permission bits of a file."""
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o077])
@pytest.mark.parametrize(("given", "objects", "file"), [("", 0o600, 0o600), ("0660", 0o660, 0o640)])
def test_modes(server: helpers.Servers, question: str, umask: int, given: str, objects: int, file: int) -> None:
    """Everything is 0600 whatever the umask; --mode opens the objects, but never spectacles.dat to writers."""
    if umask and not given:
        return
    old = os.umask(umask)
    try:
        guichet = server(question, *(["--mode", given] if given else []))
    finally:
        os.umask(old)
    assert mode(guichet.directory / "spectacles.dat") == file
    assert mode(guichet.directory / "server.lock") == 0o600
    assert mode(guichet.directory / "logs") == 0o700
    assert [mode(path) for path in (guichet.directory / "logs").iterdir()] == [0o600]
    for path in guichet.directory.glob("tub*"):
        assert mode(path) == objects
    seen = 0
    for kind in ("msg", "shm"):
        for line in Path(f"/proc/sysvipc/{kind}").read_text().splitlines()[1:]:
            words = line.split()
            if f"{kind} {int(words[0]) & 0xFFFFFFFF:#x}" in helpers.own_objects():
                assert int(words[2], 8) & 0o777 == objects
                seen += 1
    for name in helpers.own_objects():
        if name.startswith("/"):
            assert mode(Path(name)) == objects
            seen += 1
    assert seen == {"q1_pipes": 2, "q2_msq": 3, "q5_sockets": 0}.get(question, 1)
    guichet.stop()
    assert mode(guichet.directory / "spectacles.dat") == file


def test_new_directory(server: helpers.Servers, question: str, tmp_path: Path) -> None:
    """A run directory that does not exist yet is made, parents too, for its owner alone; only the data stay."""
    path = tmp_path / "a" / "b"
    guichet = server(question, directory=path)
    assert mode(path) == 0o700
    guichet.stop()
    assert sorted(entry.name for entry in path.iterdir()) == ["logs", "spectacles.dat"]


def test_own_catalogue(server: helpers.Servers, directory: Path) -> None:
    """A spectacles.toml in the run directory comes before the sample."""
    (directory / "spectacles.toml").write_text('[[spectacle]]\nnom = "Phèdre"\ndate = "demain"\nplaces = 7\ncase = 4\n')
    guichet = server("q4_thread_per_request", directory=directory)
    assert guichet.client("list").stdout == "[4] Phèdre | demain | 7 places\n"


# What it refuses to start on


@pytest.mark.parametrize(
    "arguments",
    [
        ("--nope",),
        ("serve",),
        ("--mode", "rw"),
        ("--mode", "0777"),
        ("--mode", "0400"),
        ("--log-level", "loud"),
        ("--dir",),
        ("--dir", ""),
        ("--key", "0"),
        ("--key", "0x100000000"),
        ("--shm-key", "-0x80000001"),
        ("--sem-name", "/a/b"),
        ("--sem-name", "/"),
        ("--sem-name", "/.."),
        ("--sem-name", "/a b"),
        ("--sem-name", "/" + "x" * 252),
        ("--sem-name", "/" + "é" * 126),
    ],
    ids=lambda words: " ".join(words)[:20],
)
def test_usage_errors(arguments: tuple[str, ...], tmp_path: Path) -> None:
    assert "--help" in refused("q2_msq", *arguments, code=2, cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [("--port", "65536"), ("--port", "http"), ("--max-clients", "0"), ("--idle-timeout", "0"), ("--key", "0")],
    ids=" ".join,
)
def test_usage_errors_of_q5(arguments: tuple[str, ...], tmp_path: Path) -> None:
    assert "--help" in refused("q5_sockets", *arguments, code=2, cwd=tmp_path)


def test_directory_that_cannot_be(question: str, tmp_path: Path) -> None:
    """Under a regular file, and a regular file itself: not even root can write there."""
    file = tmp_path / "fichier"
    file.write_text("contenu")
    for path in (file, file / "sous"):
        assert str(path) in refused(question, "--dir", str(path), *helpers.fresh_names(question), code=1)
    assert file.read_text() == "contenu"


def test_directory_of_somebody_else(question: str, directory: Path, ordinary_user: list[str]) -> None:
    """Without the right to write: one line, code 1. As another user when the tests run as root."""
    directory.chmod(0o555)
    port = ["--port", "0"] if question == "q5_sockets" else []
    command = helpers.server_command(question, "--dir", str(directory), *helpers.fresh_names(question), *port)
    done = helpers.run([*ordinary_user, *command], cwd=helpers.ROOT)
    directory.chmod(0o700)
    assert done.returncode == 1, done
    assert str(directory) in helpers.one_line(done)
    assert list(directory.iterdir()) == []


def test_directory_on_a_read_only_file_system(question: str, directory: Path) -> None:
    """A read-only mount, in a mount namespace."""
    prefix = namespace_command()
    if prefix is None:
        pytest.skip("no private mount namespace on this machine (unshare --user --mount)")
    port = ["--port", "0"] if question == "q5_sockets" else []
    mount = 'd=$1; shift; mount --bind "$d" "$d" && mount -o remount,bind,ro "$d" && exec "$@"'
    command = helpers.server_command(question, "--dir", str(directory), *helpers.fresh_names(question), *port)
    done = helpers.run([*prefix, "sh", "-c", mount, "sh", directory, *command])
    assert done.returncode == 1, done
    assert str(directory) in helpers.one_line(done)


# What it costs to start


ALLOWED_BINDINGS = {
    "q1_pipes": {"posix_ipc", "sysv_ipc"},
    "q2_msq": {"posix_ipc", "sysv_ipc"},
    "q3_threads": {"sysv_ipc"},
    "q4_thread_per_request": {"sysv_ipc"},
    "q5_sockets": set(),
}
HEAVY = {"asyncio", "csv", "dataclasses", "inspect", "json", "pathlib", "ssl", "subprocess", "tomllib", "typing"}


def test_start_up_imports(server: helpers.Servers, question: str) -> None:
    """A server imports the standard library, itself, and the bindings of its own question; nothing heavy.

    (Fails with `import typing`, or posix_ipc in Q3's server.)
    """
    first_run = server(question)  # the catalogue is read once, in a child that imports what TOML takes
    first_run.stop()
    profiled = {**os.environ, "PYTHONPROFILEIMPORTTIME": "1"}
    guichet = server(question, directory=first_run.directory, env=profiled)
    guichet.client("reserve", "0", "1")
    guichet.stop()
    imported = {line.rpartition("|")[2].strip() for line in guichet.lines if line.startswith("import time:")}
    assert "argparse" in imported, "the list of imports is missing"
    # Started by `python -m`, whatever `site` loads (.pth files of the environment) is not the server's doing.
    after = list(imported)
    first = next(n for n, line in enumerate(guichet.lines) if re.search(r"\| +spectacles$", line))
    after = [line.rpartition("|")[2].strip() for line in guichet.lines[first:] if line.startswith("import time:")]
    top = {name.partition(".")[0] for name in after}
    assert top - set(sys.stdlib_module_names) - {"spectacles"} == ALLOWED_BINDINGS[question]
    assert top & HEAVY == set()
    packages = {name.split(".")[1] for name in after if name.startswith("spectacles.")}
    assert packages <= {"common", question} | ({"q2_msq"} if question in helpers.QUEUES else set())


def resident_memory(pid: int) -> int:
    """Return VmRSS in KB."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1])


def test_resident_memory(server: helpers.Servers, question: str) -> None:
    """Under 15 MB per process at `Serveur UP`, with compiled modules. (Fails with `import asyncio` in cli.)"""
    server(question).stop()  # writes the .pyc files
    guichet = server(question)
    for pid in guichet.tree():
        assert resident_memory(pid) < RESIDENT_MEMORY


# A terminal that goes away


@pytest.mark.parametrize("output", ["closed", "no descriptor", "no descriptors", "full"])
def test_output_closed_or_full(question: str, directory: Path, output: str) -> None:
    """A server whose terminal has gone serves on, and its log file has it all."""
    names = helpers.fresh_names(question)
    port = helpers.free_port()
    where = ["--host", "127.0.0.1", "--port", str(port)] if question == "q5_sockets" else names
    command = helpers.server_command(question, "--dir", str(directory), *where)
    if output != "closed":
        # Without descriptors 0, 1 and 2 the next files opened get these numbers: no log line may end up in them.
        redirection = {"full": ">/dev/full 2>&1", "no descriptor": ">&- 2>&-"}.get(output, "<&- >&- 2>&-")
        command = ["sh", "-c", f'exec "$@" {redirection}', "sh", *command]
    log = directory / "logs" / f"{question}.log"
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    try:
        assert process.stdout is not None
        if output == "closed":
            helpers.read_until(process.stdout.fileno(), "Serveur UP")
        process.stdout.close()
        helpers.eventually(lambda: log.exists() and "Serveur UP" in log.read_text(), "`Serveur UP` in the log")
        assert "[INFO]" not in (directory / "server.lock").read_text()
        for seats in ("1", "2"):
            done = helpers.run(helpers.client_command(question, "--dir", str(directory), *where, "reserve", "0", seats))
            assert done.returncode == 0, done
        process.send_signal(signal.SIGTERM)
        assert process.wait(helpers.DEADLINE) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    assert helpers.places_in_file(directory, 0) == 117
    assert log.read_text().count("[RESERVATION]") == 2


def test_no_fsync(server: helpers.Servers, question: str) -> None:
    """--no-fsync changes nothing that can be seen without a power cut."""
    guichet = server(question, "--no-fsync")
    assert guichet.client("reserve", "0", "3").returncode == 0
    assert helpers.places_in_file(guichet.directory, 0) == 117
    assert (guichet.directory / "spectacles.dat").stat().st_size == TABLE_SIZE


def test_server_process_says_why(tmp_path: Path) -> None:
    """lab.process tells the output of a server that does not start."""
    from spectacles.lab.programs.process import ServerError

    with pytest.raises(ServerError, match="--nope"), ServerProcess("q3_threads", tmp_path, "--nope"):
        pass


# Who is in the way


def test_children_of_a_dead_server_that_stand_still(
    server: helpers.Servers, forking_question: str, directory: Path
) -> None:
    """SIGSTOP holds back what would end them: they hold the lock, and the PID in it is nobody's to be stopped.

    (As it was: "un serveur y travaille déjà (PID 123) ; arrêtez-le", which nobody can.)
    """
    guichet = server(forking_question, directory=directory)
    orphans = children(guichet.pid)
    helpers.freeze(orphans)
    os.kill(guichet.pid, signal.SIGKILL)
    guichet.process.wait(helpers.DEADLINE)
    command = helpers.server_command(forking_question, "--dir", str(directory), *helpers.fresh_names(forking_question))
    try:
        done = helpers.run(command)
    finally:
        for pid in orphans:
            os.kill(pid, signal.SIGCONT)
    assert done.returncode == 3, done
    line = helpers.one_line(done)
    assert f"PID {guichet.pid}" in line
    assert "des fils suspendus" in line
    assert f"fuser -k {directory / 'server.lock'}" in line
    helpers.eventually(lambda: all(helpers.is_gone(pid) for pid in orphans), "the children have died")
    assert server(forking_question, directory=directory, names=guichet.options).stop() == 0
