"""Promise 1, the name: what was acknowledged is in the file that bears it, whatever somebody does to that name.

An open file outlives its name. systemd-tmpfiles, editors, rsync, logrotate, `rm` and `mv` take it away, and a server
that does not look goes on writing into a file that nobody will ever read.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from spectacles.common import storage
from spectacles.common.spectacle import unpack_table
from spectacles.common.table import SpectacleTable
from spectacles.lab.programs.process import ServerProcess, children
from tests import helpers
from tests.fault import campaign
from tests.fault.campaign import PLENTY, Clients
from tests.fault.conftest import Shim
from tests.fault.ledger import Ledger

RESTORED = "ERROR.*: remis en place"
OTHER = bytes(range(256)) * 2 + bytes(208)  # 720 bytes that somebody else put there


def path_of(guichet: ServerProcess) -> Path:
    """Return the path of the table."""
    return guichet.directory / storage.FILE_NAME


def _rename_over(path: Path, content: bytes) -> None:
    new = path.with_name("neuf")
    new.write_bytes(content)
    new.rename(path)


def _by(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


def _in_place(path: Path, content: bytes) -> None:
    path.write_bytes(content)  # O_TRUNC, and the inode stays


# What people do -> how, and what must still be found, under some name, when it has been put right.
DEEDS: dict[str, tuple[Callable[[Path], object], bytes | None]] = {
    "rm": (Path.unlink, None),
    "mv": (lambda path: path.rename(path.with_name("ailleurs")), None),
    "another file": (lambda path: _rename_over(path, OTHER), OTHER),
    "another table": (lambda path: _rename_over(path, bytes(720)), bytes(720)),
    "an empty file": (lambda path: _rename_over(path, b""), None),
    "a directory": (lambda path: _by(path, Path.mkdir), None),
    "a link": (lambda path: _by(path, lambda name: name.symlink_to("/nulle/part")), None),
    "a FIFO": (lambda path: _by(path, os.mkfifo), None),
    "emptied": (lambda path: _in_place(path, b""), None),
    "cut": (lambda path: os.truncate(path, 100), None),
    "longer": (lambda path: os.truncate(path, 1000), None),
    "written over": (lambda path: _in_place(path, OTHER), OTHER),
    "one byte": (lambda path: _in_place(path, b"\x07" + path.read_bytes()[1:]), None),
}


@pytest.mark.parametrize("deed", DEEDS)
def test_the_name_is_kept(server: helpers.Servers, question: str, deed: str) -> None:
    """Removed, moved, replaced or changed: said, put right within a moment, what was put there kept under a name.

    What was sold before, in between and after is in the file of that name, and the next server knows it. (Fails with
    SpectacleTable.tend() doing nothing: after the restart the seats are for sale again, or the file is impossible; with
    Store._follow() doing nothing: the children's next reservation is not in the file.)
    """
    guichet = server(question)
    path = path_of(guichet)
    assert guichet.client("reserve", "5", "4").returncode == 0
    do, content = DEEDS[deed]
    do(path)
    if content is not None:  # who writes into the file itself may find, until then, a record of ours in it
        guichet.wait_for(RESTORED)
    assert guichet.client("reserve", "5", "3").returncode == 0
    guichet.wait_for(RESTORED)
    helpers.eventually(lambda: path.is_file() and not path.is_symlink(), "a file of that name")
    assert helpers.places_in_file(guichet.directory, 5) == 5
    assert guichet.client("reserve", "5", "2").returncode == 0
    assert helpers.places_in_file(guichet.directory, 5) == 3
    assert path.stat().st_mode & 0o777 == 0o600
    aside = [entry for entry in guichet.directory.iterdir() if entry.name.startswith(f"{storage.FILE_NAME}.")]
    assert all(entry.name in guichet.output for entry in aside)
    if content is not None:
        assert content in [entry.read_bytes() for entry in aside]
    if deed in ("a directory", "a link", "a FIFO"):
        assert [entry.is_dir() or entry.is_symlink() or entry.is_fifo() for entry in aside] == [True]
    if deed == "mv":  # it is somebody else's now
        assert (guichet.directory / "ailleurs").read_bytes() != path.read_bytes()
    assert guichet.stop() == 0
    assert "Traceback" not in guichet.output
    assert len(re.findall(RESTORED, guichet.output)) == 1
    again = server(question, directory=guichet.directory)
    assert again.client("consult", "5").stdout == "3 places\n"


def test_removed_while_it_stops(server: helpers.Servers, question: str, shim: Shim) -> None:
    """No round of housekeeping any more, but a request in hand: the last look, when all have left, finds it.

    (Fails with Server._finish() doing nothing: what was acknowledged is nowhere.)
    """
    guichet = server(question, env=shim.env)
    path = path_of(guichet)
    shim.ask("hold")
    with helpers.background(guichet.client_command("reserve", "0", "20")) as client:
        shim.holder()
        guichet.process.send_signal(signal.SIGTERM)
        guichet.wait_for("Arrêt")
        path.unlink()
        shim.stop("hold")
        assert client.wait(helpers.DEADLINE) == 0
    assert guichet.process.wait(helpers.DEADLINE) == 0
    assert helpers.places_in_file(guichet.directory, 0) == 100


def test_removed_again_and_again(
    server: helpers.Servers, question: str, directory: Path, clients: Clients, ledger: Ledger
) -> None:
    """Several clients reserve while the file is removed, moved, replaced, emptied and written over: the sum is exact.

    In Q1 and Q2 a child is killed now and then too. (Fails with tend() doing nothing.)
    """
    initial = [PLENTY] * 6
    campaign.write_table(directory, initial)
    guichet = server(question, directory=directory)
    for number in range(1 if question == "q1_pipes" else 3):
        clients.start(guichet, number, name=str(number), timeout=5.0)
    helpers.eventually(clients.asked(5), "first answers")
    deeds = ("rm", "mv", "another file", "emptied", "written over", "a directory", "rm", "cut")
    for number, deed in enumerate(deeds):
        told = len(re.findall(RESTORED, guichet.output))
        # Somebody may remove what housekeeping has just put back, or is about to.
        with contextlib.suppress(OSError):
            DEEDS[deed][0](directory / storage.FILE_NAME)
        if number % 4 == 2 and question in helpers.FORKING:
            os.kill(children(guichet.pid)[number % 8 // 4], signal.SIGKILL)
        helpers.eventually(lambda told=told: len(re.findall(RESTORED, guichet.output)) > told, f"{deed}: put right")  # type: ignore[misc]
        helpers.eventually(clients.asked(3), "answers after that")
    clients.stop()
    told_ = clients.told()
    assert guichet.stop() == 0
    assert "Traceback" not in guichet.output
    places = campaign.read_places(directory)
    lost = campaign.lost_seats(initial, places, told_)
    ledger.add("1 names taken away", question, tries=len(deeds), requests=told_.answered, lost=lost)
    assert lost == 0, (places, told_.acknowledged, told_.doubtful)
    again = server(question, directory=directory)
    assert again.client("list").returncode == 0


@pytest.mark.parametrize("content", [b"", bytes(720), OTHER], ids=["emptied", "another table", "nonsense"])
def test_changed_while_a_child_dies(server: helpers.Servers, forking_question: str, shim: Shim, content: bytes) -> None:
    """Somebody writes into the file, and a child is killed with the semaphore: the memory is believed, not the file.

    (With reload() believing any possible file, the shows are gone; with nothing else to believe, the server ends.)
    """
    guichet = server(forking_question, env=shim.env)
    assert guichet.client("reserve", "0", "20").returncode == 0
    shim.ask("hold")
    with helpers.background(guichet.client_command("--timeout", "0.3", "reserve", "0", "1")) as client:
        holder = shim.holder()
        path_of(guichet).write_bytes(content)
        os.kill(holder, signal.SIGKILL)
        shim.stop("hold")
        guichet.wait_for("service rétabli")
        client.wait(helpers.DEADLINE)
    assert guichet.client("consult", "0").stdout == "100 places\n"
    guichet.wait_for(RESTORED)
    assert helpers.places_in_file(guichet.directory, 0) == 100
    assert guichet.stop() == 0


@pytest.mark.parametrize("deed", ["rm", "a directory"])
def test_removed_from_a_full_disk(server: helpers.Servers, question: str, directory: Path, deed: str) -> None:
    """It cannot be put back: said once, and from the next round on nothing more is sold, until there is room again.

    (With restore() not marking the store, reservations go on being acknowledged into a file without a name.)
    """
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "none", str(directory)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no right to mount a file system of its own")
    try:
        guichet = server(question, directory=directory)
        assert guichet.client("reserve", "0", "20").returncode == 0
        path = directory / storage.FILE_NAME
        ballast = directory / "ballast"
        with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(1024)):
                pass
        path.rename(directory / "ailleurs")  # unlink would give room
        if deed == "a directory":
            os.rename(directory / "logs", path)
        guichet.wait_for("ne peut pas être remis en place")
        assert guichet.client("reserve", "0", "20").returncode == 1
        assert guichet.client("consult", "0").stdout == "100 places\n"
        time.sleep(4 * 0.25)  # rounds of housekeeping, none of which may say it again
        assert guichet.output.count("ne peut pas être remis en place") == 1
        ballast.unlink()
        guichet.wait_for(RESTORED)
        assert guichet.client("reserve", "0", "10").returncode == 0
        assert helpers.places_in_file(directory, 0) == 90
        assert guichet.stop() == 0
        assert "Traceback" not in guichet.output
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


def test_no_file_at_the_end(server: helpers.Servers, question: str, directory: Path) -> None:
    """A stop while it cannot be put back: exit code 1, and the last line says how many seats were left.

    (Fails with finish() returning None.)
    """
    guichet = server(question, directory=directory)
    assert guichet.client("reserve", "0", "20").returncode == 0
    blocked = directory / storage.TEMPORARY_NAME
    blocked.mkdir()
    (blocked / "x").touch()
    path_of(guichet).unlink()
    guichet.wait_for("ne peut pas être remis en place")
    assert guichet.stop() == 1
    assert "case 0, 100" in guichet.output
    assert "Traceback" not in guichet.output


def test_nobody_could_look_at_the_end(server: helpers.Servers, many_question: str, shim: Shim) -> None:
    """A thread keeps the lock for longer than the grace, and the file has gone: that is not passed over in silence.

    (Fails with finish() trusting tend(), which could not have the lock: code 0, and no file. Children are killed, and
    the file is put back.)
    """
    guichet = server(many_question, env=shim.env)
    assert guichet.client("reserve", "0", "20").returncode == 0
    shim.ask("hold")
    with helpers.background(guichet.client_command("--timeout", "5", "reserve", "0", "1")) as client:
        shim.holder()
        path_of(guichet).unlink()
        guichet.process.send_signal(signal.SIGTERM)
        code = guichet.process.wait(helpers.DEADLINE)
        client.wait(helpers.DEADLINE)
    guichet.stop()
    if many_question in helpers.FORKING:
        assert code == 0
        assert helpers.places_in_file(guichet.directory, 0) == 100
    else:
        assert code == 1
        assert "case 0, 100" in guichet.output


# The lock


@pytest.mark.parametrize("deed", ["rm", "another file", "a directory"])
def test_the_lock_file_is_removed(server: helpers.Servers, question: str, deed: str) -> None:
    """Neither another server nor `table` nor `clean` gets in, and the file is back, with all that `clean` needs.

    (Fails without RunDirectory._claim_inode(): the second server serves.)
    """
    guichet = server(question)
    path = guichet.directory / "server.lock"
    before = path.read_bytes()
    os.kill(guichet.pid, signal.SIGSTOP)  # not even housekeeping may be what keeps them out
    DEEDS[deed][0](path)
    port = ["--port", "0"] if question == "q5_sockets" else []
    names = helpers.fresh_names(question)
    command = [sys.executable, "-m", "spectacles"]
    try:
        for program in (
            helpers.server_command(question, *names, *port),
            [*command, "table", "reset"],
            [*command, "clean"],
        ):
            done = helpers.run([*program, "--dir", str(guichet.directory)])
            assert done.returncode == (1 if deed == "a directory" else 3), done
            assert deed == "a directory" or str(guichet.pid) in helpers.one_line(done)
    finally:
        os.kill(guichet.pid, signal.SIGCONT)
    helpers.eventually(lambda: path.is_file() and path.read_bytes() == before, "the lock file back")
    done = helpers.run([*command, "table", "show", "--dir", str(guichet.directory)])
    assert done.returncode == 3
    assert guichet.stop() == 0
    assert not path.exists()


def test_killed_without_its_lock_file(server: helpers.Servers, question: str) -> None:
    """The claim goes with the last process of the server: the next start takes over at once."""
    guichet = server(question)
    (guichet.directory / "server.lock").unlink()
    campaign.kill_parent(guichet)
    again = server(question, directory=guichet.directory, names=guichet.options)
    assert again.client("list").returncode == 0


# The log


def _log_of(guichet: ServerProcess) -> Path:
    return guichet.directory / "logs" / f"{guichet.question}.log"


@pytest.mark.parametrize("question", ["q2_msq", "q4_thread_per_request"])  # children have the file open; threads
@pytest.mark.parametrize("deed", ["rotated", "copied and cut", "removed", "folder removed", "folder moved"])
def test_the_log_is_taken_away(server: helpers.Servers, question: str, deed: str) -> None:
    """logrotate, in both its ways, and rm: within a second or so every process writes to the file of that name again.

    (Fails with _Handler.check() doing nothing: the lines go to the old file, or nowhere.)
    """
    guichet = server(question)
    path = _log_of(guichet)
    assert guichet.client("reserve", "0", "1").returncode == 0
    if deed == "rotated":
        path.rename(path.with_suffix(".old"))
    elif deed == "copied and cut":
        shutil.copy(path, path.with_suffix(".old"))
        os.truncate(path, 0)
    elif deed == "removed":
        path.unlink()
    elif deed == "folder removed":
        shutil.rmtree(path.parent)
    else:
        path.parent.rename(guichet.directory / "vieux")

    def told() -> bool:
        assert guichet.client("reserve", "0", "1").returncode == 0
        assert guichet.client("consult", "0").returncode == 0
        return path.exists() and all(tag in path.read_text() for tag in ("[RESERVATION]", "[CONSULTATION]"))

    helpers.eventually(told, "a line of either kind in the file of that name")
    assert guichet.stop() == 0
    assert "\0" not in path.read_text()


# The directory


def restart(server: helpers.Servers, question: str, directory: Path) -> ServerProcess:
    """Start a server on `directory` whose names are derived anew."""
    return server(question, directory=directory)


@pytest.mark.parametrize("then", ["nothing", "an empty directory", "another table", "a file"])
def test_the_directory_is_removed(server: helpers.Servers, question: str, directory: Path, then: str) -> None:
    """It ends, code 1, and says where it has put the table: in its place if that is free, else beside what is there.

    (Fails with Server._finish() doing nothing.)
    """
    guichet = server(question, directory=directory)
    assert guichet.client("reserve", "0", "20").returncode == 0
    os.kill(guichet.pid, signal.SIGSTOP)
    shutil.rmtree(directory)
    if then == "a file":
        directory.write_text("précieux")
    elif then != "nothing":
        directory.mkdir(0o700)
        if then == "another table":
            (directory / storage.FILE_NAME).write_bytes(OTHER)
    os.kill(guichet.pid, signal.SIGCONT)
    assert guichet.process.wait(helpers.DEADLINE) == 1
    guichet.stop()
    assert "Traceback" not in guichet.output
    assert not re.search(RESTORED, guichet.output)
    said = re.search(r"répertoire supprimé sous le serveur ; la table, à jour, est dans (\S+) ;", guichet.output)
    assert said, guichet.output
    place = Path(said[1])
    assert unpack_table(place.read_bytes())[0][1].places == 100
    if then == "a file":
        assert directory.read_text() == "précieux"
    elif then == "another table":
        assert (directory / storage.FILE_NAME).read_bytes() == OTHER
    else:
        assert place == directory / storage.FILE_NAME
        assert restart(server, question, directory).client("consult", "0").stdout == "100 places\n"


@pytest.mark.parametrize("then", ["nothing", "a copy"])
def test_the_directory_is_moved(server: helpers.Servers, question: str, directory: Path, then: str) -> None:
    """Its clients find it no more, or find another: it ends, code 1, says where the table is, and leaves nothing else.

    (Fails with RunDirectory.tend() not looking: the server serves on, seen by nobody.)
    """
    guichet = server(question, directory=directory)
    assert guichet.client("reserve", "0", "20").returncode == 0
    moved = directory.with_name("déplacé")
    directory.rename(moved)
    if then == "a copy":
        shutil.copytree(moved, directory, ignore=shutil.ignore_patterns("tub*", "server.lock"))
    assert guichet.process.wait(helpers.DEADLINE) == 1
    guichet.stop()
    assert str(moved) in guichet.output.splitlines()[-1]
    assert "Traceback" not in guichet.output
    assert helpers.places_in_file(moved, 0) == 100
    assert {path.name for path in moved.iterdir()} == {"logs", storage.FILE_NAME}
    assert restart(server, question, moved).client("consult", "0").stdout == "100 places\n"


# The disk


def test_a_death_after_a_failed_undoing(server: helpers.Servers, question: str, shim: Shim) -> None:
    """fdatasync fails, then the writing back of the seats too, then the child dies: the seats come back all the same.

    No new file can be made meanwhile either. (With the doubt noted in the child alone, as it was, recover() reads 115
    from the file, and they are gone for good; in the other questions with tend() leaving records in doubt alone.)
    """
    guichet = server(question, env=shim.env)
    blocked = guichet.directory / storage.TEMPORARY_NAME
    (blocked / "x").mkdir(parents=True)
    # The write succeeds, its fdatasync takes a while and fails; meanwhile writes begin to fail.
    shim.ask("slow", 400_000)
    shim.ask("fdatasync", 5)
    with helpers.background(guichet.client_command("reserve", "0", "5")) as client:
        helpers.eventually(lambda: helpers.places_in_file(guichet.directory, 0) == 115, "the write")
        shim.ask("pwrite", 5)
        assert client.wait(helpers.DEADLINE) == 1
    guichet.wait_for("retour en arrière impossible")
    assert helpers.places_in_file(guichet.directory, 0) == 115
    if question in helpers.FORKING:
        for pid in children(guichet.pid):
            os.kill(pid, signal.SIGKILL)
        guichet.wait_for("service rétabli")
    for wish in ("slow", "fdatasync", "pwrite"):
        shim.stop(wish)
    # Nothing but the record itself, written again by housekeeping, can put it right.
    helpers.eventually(lambda: helpers.places_in_file(guichet.directory, 0) == 120, "the seats in the file")
    assert guichet.client("consult", "0").stdout == "120 places\n"
    assert guichet.client("reserve", "0", "120").returncode == 0
    assert guichet.stop() == 0


@pytest.mark.parametrize("wish", ["slow", "hold"])
def test_stop_while_the_disk_is_slow(server: helpers.Servers, question: str, shim: Shim, wish: str) -> None:
    """SIGTERM while a write or fdatasync takes longer than the grace: no refusal of what is, or will be, in the file.

    (The thread must come back just between the closing and the end of the process to refuse it: seldom. The next test
    brings that about.)
    """
    guichet = server(question, env=shim.env)
    before = (guichet.directory / storage.FILE_NAME).read_bytes()
    shim.ask(wish, 1_500_000)
    with helpers.background(guichet.client_command("reserve", "0", "5")) as client:
        if wish == "slow":
            helpers.eventually(lambda: (guichet.directory / storage.FILE_NAME).read_bytes() != before, "the write")
        else:
            shim.holder()
        guichet.process.send_signal(signal.SIGTERM)
        helpers.eventually(lambda: guichet.process.poll() is not None, "the end of the server")
        shim.stop(wish)
        output = client.communicate(timeout=helpers.DEADLINE)[0].decode()
    guichet.stop()
    sold = 120 - helpers.places_in_file(guichet.directory, 0)
    assert "Réservation refusée" not in output or sold == 0, (output, sold, guichet.output)
    assert "Réservation OK" not in output or sold == 5
    assert "Traceback" not in guichet.output
    assert "écriture impossible" not in guichet.output


def test_close_leaves_a_busy_file_open(tmp_path: Path) -> None:
    """From inside: a thread between its write and its fdatasync, or with the lock, keeps the descriptor.

    (Fails with close() closing in any case: the thread gets EBADF, and refuses what is in the file.)
    """
    import threading

    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    campaign.write_table(tmp_path, [5])
    for step in ("written", "locked", "at rest"):
        store = storage.Store(fd, "la table")
        lock = threading.Lock()
        SpectacleTable(bytearray(720), lock, store)
        ticket = store.write(0, (tmp_path / storage.FILE_NAME).read_bytes()[:72])
        if step != "written":
            store.sync(ticket)
        if step == "locked":
            lock.acquire()
        store.close()
        if step == "at rest":
            with pytest.raises(OSError, match=os.strerror(9)):
                store.write(0, bytes(72))
        else:
            store.sync(store.write(0, (tmp_path / storage.FILE_NAME).read_bytes()[:72]))
            os.close(store._fd)
    os.close(fd)
