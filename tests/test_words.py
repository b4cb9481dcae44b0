"""Whatever goes wrong, people read French: no word of Python's, the system's or a library's English reaches them."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import posix_ipc
import pytest
import sysv_ipc

from spectacles.lab.programs.process import QUESTIONS
from tests import helpers

# What English error texts are made of, and no French sentence of ours.
TELL_TALES = """
the is are was not none such exist exists does do did must should can cannot could to of in at by with without already
too than or and for from into it its this that be been has have had other directory error failed fails failure missing
required expected unexpected unknown invalid wrong bad denied refused broken unable found match string integer number
value name byte bytes codec decode encode line column character out range unsupported operation permitted resource
temporarily unavailable choose choices unrecognized optional positional errno traceback most recent call last open
closed read write address host known timed connection label long empty size limit reached system queue memory shared
semaphore device space left disk input output only full busy interrupted signal domain allowed codepoint
"""
ENGLISH = set(TELL_TALES.split())
WORD = re.compile(r"[A-Za-z][A-Za-z'-]*")


def english(text: str, said: list[str]) -> list[str]:
    """Return the English words in `text` that the command line `said` itself does not hold."""
    for word in sorted(said, key=len, reverse=True):
        text = text.replace(word, "") if len(word) > 2 else text
    text = re.sub(r"« [^»]* »|--?[a-z-]+|\{[^}]*\}|'[a-z]+'|\S*/\S*|\$?[A-Z_]{4,}|System V", " ", text)
    return [word for word in WORD.findall(text) if word.lower() in ENGLISH or word in ("Errno", "Error")]


def test_the_words_are_english() -> None:
    """What the check is for is found, and French is not."""
    assert english("[Errno 2] No such file or directory: 'x'", [])
    assert english("invalid choice: 'x' (choose from 'a', 'b')", [])
    assert english("'utf-8' codec can't decode byte 0xe9 in position 3: invalid continuation byte", [])
    assert english("Expected '=' after a key in a key/value pair (at line 1, column 5)", [])
    assert not english("table : d/x.csv : ligne 3 : « places » n'est pas un nombre entier : « the »", [])
    assert not english("aucun serveur : la file 0x2a000001 n'existe pas ; opération non permise", [])


def a_file(place: Path) -> None:
    (place / "d").write_text("un fichier")


def no_rights(place: Path) -> None:
    (place / "d").mkdir(0o500)
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")


def a_directory(name: str) -> Callable[[Path], None]:
    return lambda place: (place / "d" / name).mkdir(parents=True)


def content(name: str, data: bytes) -> Callable[[Path], None]:
    def put(place: Path) -> None:
        (place / "d").mkdir()
        (place / "d" / name).write_bytes(data)

    return put


def a_link(name: str) -> Callable[[Path], None]:
    def put(place: Path) -> None:
        (place / "d").mkdir()
        (place / "d" / name).symlink_to("ailleurs")

    return put


def nothing(place: Path) -> None:
    (place / "d").mkdir()


COMMANDS = [
    "", "vole", "server", "server 9", "client x", "server 2 --nope", "server 2 serve", "server 2 --mode", "demo 9",
    "server 2 --mode rw", "server 2 --mode 0777", "server 2 --log-level fort", "server 2 --key 0", "server 2 --key 1e9",
    "server 2 --sem-name x", "server 2 --sem-name /" + "x" * 252, "server 2 --no-fsync=1", "server 4 --max-threads 0",
    "server 5 --port 70000", "server 5 --host 256.1.1.1", "server 5 --host nulle.invalid", "server 5 --host 192.0.2.1",
    "server 5 --idle-timeout nan", "server 5 --tls-key x", "server 5 --host é.invalid", "server 5 --host ::g",
    "client 1 list", "client 2 list", "client 3 consult 0", "client 4 reserve 0 1", "client 5 --port 1 list",
    "client 2 --json", "client 2 vole", "client 2 reserve", "client 2 reserve 1 x", "client 2 reserve 1 2 3",
    "client 2 consult 99999999999", "client 2 --timeout 0 list", "client 5 --ca x list",
    "client 5 --host nulle.invalid list",
    "client 5 --host 255.255.255.255 list", "client 5 --host 2001:db8::1 --timeout 1 list",
    "table", "table vole", "table show", "table set", "table set 11 --nom x", "table set 0", "table set 0 --nom x",
    "table set 0 --nom x --empty", "table set 0 --places x", "table import", "table import rien.csv", "table import .",
    "clean", "clean --dir rien", "clean --key x", "certs", "certs /proc/x", "certs d2 --host a_b", "certs d2 --host",
    "certs d2 --host " + "x" * 64, "certs d2 --host xn--a", "compare 9", "compare --clients x", "compare --seconds 0",
]  # fmt: skip


def check(done: subprocess.CompletedProcess[str], said: list[str]) -> None:
    """Fail on an English word, or on a success."""
    assert done.returncode != 0, done
    assert english(done.stdout + done.stderr, said) == [], done
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[:40] or "nothing")
def test_commands(command: str, tmp_path: Path) -> None:
    """(With argparse left as it is, or with errors.reason() returning the system's text, many fail.)"""
    words = shlex.split(command)
    done = helpers.run([sys.executable, "-m", "spectacles", *words], cwd=tmp_path, env=plain_environment())
    check(done, words)


def plain_environment() -> dict[str, str]:
    """Return an environment in which no directory is given."""
    return {name: value for name, value in os.environ.items() if name != "SPECTACLES_DIR"}


PLACES: dict[str, Callable[[Path], None]] = {
    "a file in its place": a_file,
    "no rights": no_rights,
    "a directory for the table": a_directory("spectacles.dat"),
    "a link for the table": a_link("spectacles.dat"),
    "a short table": content("spectacles.dat", b"x"),
    "a table that makes no sense": content("spectacles.dat", b"\xff" * 720),
    "a directory for the lock": a_directory("server.lock"),
    "a link for the lock": a_link("server.lock"),
    "a file for the logs": content("logs", b""),
    "a link for the logs": a_link("logs"),
    "a bad catalogue": content("spectacles.toml", b"[[spectacle"),
    "a catalogue in another encoding": content("spectacles.toml", b"[[spectacle]]\nnom = '\x8e\xff'"),
}


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("place", PLACES)
def test_servers(place: str, question: str, tmp_path: Path) -> None:
    """A run directory that cannot be one."""
    PLACES[place](tmp_path)
    words = ["--dir", str(tmp_path / "d"), *helpers.fresh_names(question)]
    words += ["--port", str(helpers.free_port())] if question == "q5_sockets" else []
    check(helpers.run(helpers.server_command(question, *words)), words)


@pytest.mark.parametrize("command", ["show", "set 0 --places 1", "reset", "clean"])
@pytest.mark.parametrize("place", PLACES)
def test_administration(place: str, command: str, tmp_path: Path) -> None:
    """The same with the commands that work there: some can, and then say so in French too."""
    PLACES[place](tmp_path)
    words = ["clean"] if command == "clean" else ["table", *command.split()]
    words += ["--dir", str(tmp_path / "d")]
    done = helpers.run([sys.executable, "-m", "spectacles", *words])
    assert english(done.stdout + done.stderr, words) == [], done
    assert "Traceback" not in done.stderr


def limited(script: str) -> Callable[[str, list[str]], list[str]]:
    return lambda question, words: ["sh", "-c", f'{script}; exec "$@"', "sh", *helpers.server_command(question, *words)]


LIMITS = {
    "no room for a file": limited("ulimit -f 0"),
    "few descriptors": limited("ulimit -n 6"),
    "no standard streams": limited("ulimit -f 0; exec 0<&- 1>&-"),
}


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("limit", LIMITS)
def test_limits(limit: str, question: str, directory: Path) -> None:
    """What the system does not give."""
    words = ["--dir", str(directory), *helpers.fresh_names(question)]
    words += ["--port", str(helpers.free_port())] if question == "q5_sockets" else []
    check(helpers.run(["timeout", "5", *LIMITS[limit](question, words)]), words)


@pytest.mark.parametrize("what", ["--key", "--shm-key", "--sem-name"])
def test_names_of_somebody_else(what: str, directory: Path) -> None:
    """Objects that are no server's: a queue of another program, memory of one byte, a semaphore that is not one."""
    names = helpers.fresh_names("q2_msq")
    value = names[names.index(what) + 1]
    if what == "--key":
        sysv_ipc.MessageQueue(int(value, 0), sysv_ipc.IPC_CREX, mode=0o000)
    elif what == "--shm-key":
        sysv_ipc.SharedMemory(int(value, 0), sysv_ipc.IPC_CREX, size=1, mode=0o000)
    else:
        posix_ipc.Semaphore(value, posix_ipc.O_CREX).close()
        Path(f"/dev/shm/sem.{value[1:]}").unlink()
        Path(f"/dev/shm/sem.{value[1:]}").mkdir()
    words = ["--dir", str(directory), *names]
    try:
        done = helpers.run(["timeout", "-s", "TERM", "2", *helpers.server_command("q2_msq", *words)])
        assert english(done.stderr, words) == [], done
        assert "Traceback" not in done.stderr
    finally:
        helpers.remove_objects({name for name in helpers.own_objects() if not Path(name).is_dir()})
        if what == "--sem-name":
            Path(f"/dev/shm/sem.{value[1:]}").rmdir()


def test_a_peer_that_is_no_server(directory: Path) -> None:
    """A port where somebody hangs up at once."""
    with socket.create_server(("127.0.0.1", 0)) as peer:
        port = str(peer.getsockname()[1])
        words = ["--dir", str(directory), "--port", port, "list"]
        with helpers.background(helpers.client_command("q5_sockets", *words)) as client:
            peer.accept()[0].close()
            said = client.communicate(timeout=helpers.DEADLINE)[0].decode()
        assert client.returncode == 3
        assert english(said, words) == [], said


@pytest.mark.parametrize("command", ["--help", "server 1 --help", "server 5 --help", "client 2 --help", "table --help",
                                     "table set --help", "clean --help", "certs --help", "client 5 reserve --help",
                                     "client --help", "server --help"])  # fmt: skip
def test_help(command: str) -> None:
    """Help is French too."""
    words = shlex.split(command)
    done = helpers.run([sys.executable, "-m", "spectacles", *words])
    assert done.returncode == 0
    assert english(done.stdout, words) == [], done
