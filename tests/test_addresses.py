"""Keys of all 32 bits and names as long as the system's, as C and people write them, with real servers and C peers."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from spectacles.common import addresses, cli
from spectacles.lab.programs.process import ServerProcess
from tests import helpers

WRITTEN: dict[str, Callable[[int], str]] = {
    "signed": lambda key: str(ctypes.c_int(key).value),  # as printf("%d", key)
    "unsigned": str,
    "hexadecimal": hex,
    "signed hexadecimal": lambda key: hex(ctypes.c_int(key).value),
}


@pytest.mark.parametrize("key", [1, 2**31 - 1, 2**31, 2**32 - 1, 0xFFFFFFFB, 0x2A008902])
def test_one_key_has_one_name(key: int) -> None:
    """However it is written. (With the range of a C int, as it was, half of them are refused.)"""
    assert {cli.key(write(key)) for write in WRITTEN.values()} == {key}
    assert addresses.c_key(key) == ctypes.c_int(key).value


@pytest.mark.parametrize("form", WRITTEN)
@pytest.mark.parametrize("question", ["q1_pipes", "q2_msq", "q4_thread_per_request"])
def test_servers_and_clients(
    server: helpers.Servers, c_programs: Path, directory: Path, question: str, form: str
) -> None:
    """A key above 0x7fffffff serves clients in Python and in C, is printed and claimed as one, and is cleaned up."""
    write = WRITTEN[form]
    key, shm_key = helpers.fresh_high_key(), helpers.fresh_high_key()
    written = ["--key", write(key), "--shm-key", write(shm_key), "--sem-name", helpers.fresh_semaphore()]
    plain = ["--key", hex(key), "--shm-key", hex(shm_key)]
    guichet = server(question, directory=directory, names=[*plain, *written])  # the last one counts
    uses = {"q1_pipes": f"shm-key {shm_key:#x}", "q2_msq": f"key {key:#x}, shm-key {shm_key:#x}"}
    assert uses.get(question, f"key {key:#x}") in guichet.output
    assert helpers.run(helpers.client_command(question, "--dir", str(directory), *written, "list")).returncode == 0
    if question != "q1_pipes":
        there = ["--dir", str(directory), "--key", write(key)]
        assert helpers.run([c_programs / "q2_client", *there, "reserve", "0", "1"]).returncode == 0
    other = [*written[:4], "--sem-name", helpers.fresh_semaphore()]
    second = helpers.run(helpers.server_command(question, "--dir", str(directory.parent / "d2"), *other))
    assert second.returncode == 3, second
    assert hex(shm_key if question == "q1_pipes" else key) in helpers.one_line(second)
    kill(guichet)
    assert clean(directory).returncode == 0
    assert helpers.own_objects() == set()


def kill(guichet: ServerProcess) -> None:
    """End all processes of a server with kill -9, and wait until they have gone."""
    tree = guichet.tree()
    for pid in tree:
        os.kill(pid, signal.SIGKILL)
    guichet.process.wait(helpers.DEADLINE)
    for pid in tree:
        helpers.eventually(lambda pid=pid: helpers.is_gone(pid), "the end")  # type: ignore[misc]


def clean(directory: Path) -> subprocess.CompletedProcess[str]:
    """Run `spectacles clean`."""
    return helpers.run([sys.executable, "-m", "spectacles", "clean", "--dir", str(directory)])


def test_a_python_client_of_a_server_in_c(server: helpers.Servers, c_programs: Path, directory: Path) -> None:
    """The other way round."""
    key = helpers.fresh_high_key()
    names = ["--key", WRITTEN["signed"](key)]
    guichet = server("q3_threads", directory=directory, names=names, command=[str(c_programs / "q3_server")])
    assert guichet.client("reserve", "0", "1").returncode == 0
    assert guichet.stop() == 0


@pytest.mark.parametrize("letter", ["n", "é", "\u00a0", "👩"])
def test_names_as_long_as_the_system_s(
    server: helpers.Servers, directory: Path, forking_question: str, letter: str
) -> None:
    """251 bytes, whatever they spell, also twice at once in two directories, and one of a killed server.

    (With claim() not shortening its address, "AF_UNIX path too long"; with the lock file split at no-break spaces,
    `clean` finds no name in it.)
    """
    name = helpers.fresh_semaphore()
    room = cli.SEMAPHORE_NAME_MAX - len(name[1:].encode())
    name += letter * (room // len(letter.encode()))
    name += "x" * (cli.SEMAPHORE_NAME_MAX - len(name[1:].encode()))
    guichet = server(
        forking_question, directory=directory, names=[*helpers.fresh_names("q2_msq")[:4], "--sem-name", name]
    )
    assert guichet.client("reserve", "0", "1").returncode == 0
    assert f"sem-name {name}" in guichet.output
    other = [*helpers.fresh_names("q2_msq")[:4], "--sem-name", name]
    second = helpers.run(helpers.server_command(forking_question, "--dir", str(directory.parent / "d2"), *other))
    assert second.returncode == 3, second
    assert str(guichet.pid) in helpers.one_line(second)
    third = server(forking_question, names=[*helpers.fresh_names("q2_msq")[:4], "--sem-name", name[:-1] + "y"])
    assert third.stop() == 0
    kill(guichet)
    assert clean(directory).returncode == 0
    assert helpers.own_objects() == set()


def test_a_server_in_c_takes_the_same_names(server: helpers.Servers, c_programs: Path, directory: Path) -> None:
    """Whole. (With 64 bytes for it, as it was, the semaphore has another name than the one given.)"""
    name = helpers.fresh_semaphore()
    name += "n" * (cli.SEMAPHORE_NAME_MAX - len(name) + 1)
    names = ["--shm-key", hex(helpers.fresh_key()), "--sem-name", name]
    guichet = server("q1_pipes", directory=directory, names=names, command=[str(c_programs / "q1_server")])
    assert f"/dev/shm/sem.{name[1:]}" in helpers.own_objects()
    assert guichet.stop() == 0
    too_long = helpers.run([c_programs / "q1_server", "--dir", str(directory), "--sem-name", f"{name}nnnn"])
    assert too_long.returncode == 3
    assert "trop long" in helpers.one_line(too_long)
