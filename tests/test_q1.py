"""Question 1: five FIFOs, which carry bytes and nothing about who wrote them."""

from __future__ import annotations

import contextlib
import os
import signal
import struct
import subprocess
import time
from pathlib import Path

import posix_ipc
import pytest

from spectacles.q1_pipes.channel import NAMES, ClientPipes
from tests import helpers

INT = struct.Struct("<i")


def push(directory: Path, name: str, data: bytes) -> None:
    """Write raw bytes to a FIFO that a server reads, as a client that knows nothing of locks."""
    fd = os.open(directory / name, os.O_WRONLY | os.O_NONBLOCK)
    try:
        assert os.write(fd, data) == len(data)
    finally:
        os.close(fd)


def pending(directory: Path) -> dict[str, int]:
    """Return how many bytes lie unread in each FIFO."""
    import fcntl
    import termios

    found = {}
    for name in NAMES:
        fd = os.open(directory / name, os.O_RDONLY | os.O_NONBLOCK)
        found[name] = struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, bytes(4)))[0]
        os.close(fd)
    return found


def test_a_second_client_is_told(server: helpers.Servers) -> None:
    """It leaves at once with code 3; the first has noticed nothing (question 1.3, defect 1).

    (Without the lock on the session, the second is served, and the two take each other's answers.)
    """
    guichet = server("q1_pipes")
    with helpers.background(guichet.client_command(), stdin=subprocess.PIPE) as first:
        assert first.stdin is not None
        assert first.stdout is not None
        out = first.stdout.fileno()
        helpers.read_until(out, "Votre choix : ")
        os.write(first.stdin.fileno(), b"2\n0\n")
        helpers.read_until(out, "Nombre de places à réserver : ")
        for arguments in (("list",), ("reserve", "0", "50"), ()):
            done = guichet.client(*arguments)
            assert done.returncode == 3, done
            assert "a déjà un client" in helpers.one_line(done)
        os.write(first.stdin.fileno(), b"5\n")
        assert "Réservation OK" in helpers.read_until(out, "Votre choix : ")
        os.write(first.stdin.fileno(), b"0\n")
        assert first.wait(helpers.DEADLINE) == 0
    assert guichet.client("consult", "0").stdout == "115 places\n"


def test_two_c_clients_show_why(server: helpers.Servers, c_programs: Path) -> None:
    """A C client takes no lock: it is served beside a session that does nothing, as in the original."""
    guichet = server("q1_pipes")
    with ClientPipes(str(guichet.directory), 5.0):
        done = helpers.run([c_programs / "q1_client", "consult", "0", *helpers.c_options(guichet)])
    assert done.returncode == 0, done


@pytest.mark.parametrize("half", ["tub1_reservation", "tub2_reservation"])
def test_killed_between_its_two_writes(server: helpers.Servers, half: str) -> None:
    """One half of a reservation and no more: the next client's halves are not paired with it (defect 2).

    (Without the sweep at the start of a session, the next reservation is of the dead client's show.)
    """
    guichet = server("q1_pipes")
    push(guichet.directory, half, INT.pack(3))
    done = guichet.client("reserve", "0", "2")
    assert done.returncode == 0, done
    assert helpers.places_in_file(guichet.directory, 0) == 118
    assert helpers.places_in_file(guichet.directory, 3) == 250


def test_killed_before_it_reads_its_answer(server: helpers.Servers) -> None:
    """The answers of a dead client are not the next one's (defect 3)."""
    guichet = server("q1_pipes")
    push(guichet.directory, "tub1_view", INT.pack(4))
    push(guichet.directory, "tub1_reservation", INT.pack(5))
    push(guichet.directory, "tub2_reservation", INT.pack(1000))
    helpers.eventually(lambda: pending(guichet.directory)["tub2_view"] == 4, "the answer to a consultation")
    helpers.eventually(lambda: pending(guichet.directory)["tub3_reservation"] == 1, "the answer to a reservation")
    assert guichet.client("consult", "0").stdout == "120 places\n"
    assert guichet.client("reserve", "0", "1").returncode == 0
    assert set(pending(guichet.directory).values()) == {0}


def test_killed_while_its_request_is_worked_on(server: helpers.Servers) -> None:
    """Its answer comes after the next client has arrived, and is thrown away all the same.

    The test holds the semaphore, so that the child has the dead client's request in hand. (Without the turn, the next
    client sweeps too early and takes the late answer, 40 places, for its own.)
    """
    guichet = server("q1_pipes")
    semaphore = posix_ipc.Semaphore(guichet.options[guichet.options.index("--sem-name") + 1])
    semaphore.acquire(helpers.DEADLINE)
    push(guichet.directory, "tub1_view", INT.pack(4))  # and dies at once
    helpers.eventually(lambda: pending(guichet.directory)["tub1_view"] == 0, "the request in the child's hand")
    with helpers.background(guichet.client_command("consult", "0")) as next_client:
        with contextlib.suppress(AssertionError):  # it may send only what comes after its sweep
            helpers.eventually(lambda: pending(guichet.directory)["tub1_view"] != 0, timeout=0.5)
        semaphore.release()
        semaphore.close()
        output = next_client.communicate(timeout=helpers.DEADLINE)[0].decode()
    assert output == "120 places\n"


def test_a_killed_client_frees_the_session(server: helpers.Servers) -> None:
    guichet = server("q1_pipes")
    with helpers.background(guichet.client_command(), stdin=subprocess.PIPE) as first:
        assert first.stdout is not None
        helpers.read_until(first.stdout.fileno(), "Votre choix : ")
        first.kill()
        first.wait(helpers.DEADLINE)
        assert guichet.client("reserve", "0", "1").returncode == 0


@pytest.mark.parametrize("name", ["tub1_view", "tub1_reservation", "tub2_reservation"])
@pytest.mark.parametrize("size", [1, 3, 5, 4097])
def test_garbage(server: helpers.Servers, name: str, size: int) -> None:
    """Numbers cut short and floods of rubbish in any FIFO: the next client works, and rightly."""
    guichet = server("q1_pipes")
    push(guichet.directory, name, b"\xa5" * size)
    assert guichet.client("consult", "0").stdout == "120 places\n"
    assert guichet.client("reserve", "1", "2").returncode == 0
    assert guichet.client("consult", "1").stdout == "78 places\n"


def test_more_replies_than_a_fifo_holds(server: helpers.Servers) -> None:
    """20,000 consultations that nobody reads the answers of, more than 64 KB: no child blocks in write(2)."""
    guichet = server("q1_pipes", "--log-level", "warning")
    fd = os.open(guichet.directory / "tub1_view", os.O_WRONLY)
    for _ in range(20):
        os.write(fd, INT.pack(0) * 1000)
    os.close(fd)
    helpers.eventually(lambda: pending(guichet.directory)["tub1_view"] == 0, "all requests read", timeout=30)
    assert guichet.client("consult", "0").stdout == "120 places\n"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("how", ["removed", "replaced by a file", "replaced by a FIFO"])
def test_fifo_taken_away(server: helpers.Servers, name: str, how: str) -> None:
    """Noticed within a tick, logged, made again; what was put in its place is not destroyed.

    (With tend() returning None, every later client is refused.)
    """
    guichet = server("q1_pipes")
    path = guichet.directory / name
    path.unlink()
    if how == "replaced by a file":
        path.write_text("à moi")
    elif how == "replaced by a FIFO":
        os.mkfifo(path, 0o600)
    guichet.wait_for("service rétabli")
    assert name in guichet.wait_for("tube supprimé ou remplacé")
    assert guichet.client("reserve", "0", "1").returncode == 0
    assert guichet.client("consult", "0").stdout == "119 places\n"
    if how == "replaced by a file":
        aside = [entry for entry in guichet.directory.glob(f"{name}.*") if entry.is_file()]
        assert [entry.read_text() for entry in aside] == ["à moi"]
    assert guichet.stop() == 0
    assert not path.exists()


def test_fifos_left_by_a_kill_are_swept(server: helpers.Servers) -> None:
    """What lay in the FIFOs of a dead server belongs to nobody any more."""
    first = server("q1_pipes")
    tree = first.tree()
    helpers.freeze(tree)
    push(first.directory, "tub1_reservation", INT.pack(0))
    push(first.directory, "tub2_reservation", INT.pack(7))
    for pid in tree:
        os.kill(pid, signal.SIGKILL)
    first.process.wait(helpers.DEADLINE)
    second = server("q1_pipes", directory=first.directory, names=first.options)
    assert second.client("consult", "0").stdout == "120 places\n"


def test_client_against_a_file_in_place_of_a_fifo(directory: Path) -> None:
    for name in NAMES:
        (directory / name).write_bytes(b"")
    done = helpers.run(helpers.client_command("q1_pipes", "--dir", str(directory), "consult", "0"))
    assert done.returncode == 3, done
    assert "pas un tube" in helpers.one_line(done)


def test_no_answer_is_no_endless_wait(directory: Path) -> None:
    """FIFOs that somebody holds open and nobody serves."""
    fds = []
    for name in NAMES:
        os.mkfifo(directory / name, 0o600)
        fds.append(os.open(directory / name, os.O_RDWR | os.O_NONBLOCK))
    started = time.monotonic()
    done = helpers.run(helpers.client_command("q1_pipes", "--dir", str(directory), "--timeout", "0.2", "consult", "0"))
    assert done.returncode == 3, done
    assert "pas de réponse" in helpers.one_line(done)
    assert time.monotonic() - started >= 0.2
    for fd in fds:
        os.close(fd)


def test_list_takes_names_from_the_file_and_seats_from_the_server(server: helpers.Servers) -> None:
    """The names are the client's own reading, as in the original; a file that changes shows, seats do not.

    The parent is stopped meanwhile: its housekeeping would put the file right.
    """
    guichet = server("q1_pipes")
    helpers.freeze([guichet.pid])
    path = guichet.directory / "spectacles.dat"
    table = bytearray(path.read_bytes())
    table[4:14] = b"Autre titr"
    table[68:72] = INT.pack(1)
    path.write_bytes(table)
    first = guichet.client("list").stdout.splitlines()[0]
    assert first.startswith("[0] Autre titr")
    assert first.endswith("120 places")
