"""Run directories on shared folders: what VirtualBox, WSL, cifs, sshfs and 9p refuse, and local disks do not.

What is a nicety is done without, and what it costs is said; what cannot be done without is one sentence with the file,
the cause and what to do. What was done is never reported as failed.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from spectacles.common import storage
from tests import helpers
from tests.fault.conftest import SOURCES, compile_c

LOST = {
    "dirsync": "coupure de courant",
    "filesync": "durée non garantie",
    "chmod": "droits 0600 au lieu de 0644",
    "flock": "pas de verrou",
    "link": None,
}
ERRORS = {
    "dirsync": (errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EIO),
    "filesync": (errno.EINVAL, errno.ENOSYS),
    "chmod": (errno.EPERM, errno.ENOTSUP, errno.ENOSYS),
    "flock": (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EINVAL),
    "link": (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK),
}
ALL = [(what, number) for what, numbers in ERRORS.items() for number in numbers]
CASES = pytest.mark.parametrize(
    ("what", "number"), [*ALL, ("dirsync chmod flock link", errno.EPERM)], ids=lambda value: str(value)
)


@pytest.fixture(scope="session")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled c/refuse.c; skips without a compiler."""
    path = tmp_path_factory.mktemp("refuse") / "refuse.so"
    compile_c("-shared", "-fPIC", "-o", str(path), str(SOURCES / "refuse.c"), "-ldl")
    return path


def env(library: Path, what: str, number: int) -> dict[str, str]:
    """Return the environment of a program on such a folder."""
    return {**os.environ, "LD_PRELOAD": str(library), "REFUSE": what, "REFUSE_ERRNO": str(number)}


def spectacles(directory: Path, env: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """Run the `spectacles` command on the directory."""
    return helpers.run([sys.executable, "-m", "spectacles", *words, "--dir", str(directory)], env=env)


def serves_on(server: helpers.Servers, question: str, directory: Path, env: dict[str, str]) -> str:
    """Serve, have the file removed, serve, stop, serve again; return what was printed."""
    guichet = server(question, "--mode", "0644", directory=directory, env=env)
    assert guichet.client("reserve", "0", "20").returncode == 0
    (directory / storage.FILE_NAME).rename(directory / "ailleurs")
    (directory / storage.FILE_NAME).write_text("à quelqu'un")
    guichet.wait_for("ERROR.*: remis en place")
    assert "à quelqu'un" in [path.read_text("utf-8", "replace") for path in directory.glob("spectacles.dat.*")]
    assert guichet.client("reserve", "0", "30").returncode == 0
    assert helpers.places_in_file(directory, 0) == 70
    names = helpers.fresh_names(question)
    port = ["--port", "0"] if question == "q5_sockets" else []
    second = helpers.run(helpers.server_command(question, "--dir", str(directory), *names, *port), env=env)
    assert second.returncode == 3, second
    helpers.one_line(second)
    assert guichet.stop() == 0
    assert "Traceback" not in guichet.output
    again = server(question, directory=directory, env=env)
    assert again.client("consult", "0").stdout == "70 places\n"
    return guichet.output


def test_every_question(server: helpers.Servers, question: str, directory: Path, refusing: Path) -> None:
    """Nothing but FIFOs and files: the five serve, keep their file, and keep others out, by the claim alone.

    (Without the claim two servers sell the same seats; with any of the refusals not forgiven nothing starts.)
    """
    output = serves_on(server, question, directory, env(refusing, "dirsync filesync chmod flock link", errno.ENOSYS))
    for said in LOST.values():
        assert said is None or said in output


@CASES
def test_every_refusal(server: helpers.Servers, directory: Path, refusing: Path, what: str, number: int) -> None:
    """One question, each call and each number that it is known to fail with: what is weaker is said, and served."""
    output = serves_on(server, "q3_threads", directory, env(refusing, what, number))
    for word in what.split():
        assert (LOST[word] or "") in output
    assert "Errno" not in output


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP, errno.EACCES, errno.ENOSYS, errno.EINVAL])
def test_no_fifos(directory: Path, refusing: Path, number: int) -> None:
    """Question 1 cannot do without: one line with the file, the cause and what to do; nothing is left.

    (Before: « opération non permise », and no word of what to do.)
    """
    command = helpers.server_command("q1_pipes", "--dir", str(directory), *helpers.fresh_names("q1_pipes"))
    done = helpers.run(command, env=env(refusing, "mkfifo", number))
    assert done.returncode == 1, done
    line = helpers.one_line(done)
    assert str(directory / "tub1_view") in line
    assert "--dir" in line
    assert sorted(path.name for path in directory.iterdir()) == ["logs", storage.FILE_NAME]


@CASES
def test_what_was_done_has_not_failed(directory: Path, refusing: Path, what: str, number: int) -> None:
    """`table reset`, `import` and `set`: done, and said so. (Before: code 1 for a table that had been replaced.)"""
    surroundings = env(refusing, what, number)
    catalogue = directory / "un.csv"
    catalogue.write_text("nom,date,places\nAntigone,2027-01-15,7\n")
    for words in (("table", "reset"), ("table", "import", str(catalogue)), ("table", "set", "0", "--places", "3")):
        done = spectacles(directory, surroundings, *words)
        assert done.returncode == 0, done
        assert done.stderr == ""
    assert {slot: show.places for slot, show in helpers.read_table(directory).items()} == {0: 3}


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EACCES, errno.ETXTBSY])
def test_a_name_that_cannot_be_replaced(directory: Path, refusing: Path, number: int) -> None:
    """A file that somebody has open, on Windows: one line with the file, code 1, and nothing has changed."""
    surroundings = env(refusing, "replace", number)
    assert spectacles(directory, surroundings, "table", "reset").returncode == 0
    before = (directory / storage.FILE_NAME).read_bytes()
    assert spectacles(directory, surroundings, "table", "set", "0", "--places", "3").returncode == 0
    changed = (directory / storage.FILE_NAME).read_bytes()
    assert changed != before
    done = spectacles(directory, surroundings, "table", "reset")
    assert done.returncode == 1, done
    assert str(directory / storage.FILE_NAME) in helpers.one_line(done)
    assert (directory / storage.FILE_NAME).read_bytes() == changed
    assert [path.name for path in directory.iterdir()] == [storage.FILE_NAME]


def test_several_servers_need_a_lock(directory: Path, refusing: Path) -> None:
    """Nothing else tells the first from the last: one line, and nothing is left. (Before, the number of the error.)"""
    command = helpers.server_command("x1_sessions", "--dir", str(directory), *helpers.fresh_names("x1_sessions"))
    done = helpers.run(command, env=env(refusing, "flock", errno.ENOSYS))
    assert done.returncode == 1, done
    assert "pas de verrou sur ce système de fichiers" in helpers.one_line(done)
    assert [path.name for path in directory.iterdir()] in ([], ["server.lock"])
