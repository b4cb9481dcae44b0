"""Question 5, byte by byte: what a stream does to requests, and what clients that break off do to the others."""

from __future__ import annotations

import contextlib
import random
import re
import signal
import socket
import struct
import time
from pathlib import Path

import pytest

from spectacles.common.spectacle import INT_MAX
from tests import helpers, raw_tcp
from tests.raw_tcp import LIST, NO, TABLE_SIZE, YES, ask, connect, farewell, reserve, seats_left

IDLE = ("--idle-timeout", "0.6")


def test_one_answer_is_the_table_as_in_the_file(server: helpers.Servers) -> None:
    """720 bytes, and one byte: nothing before, between or after. (Fails with a byte more in either reply.)"""
    guichet = server("q5_sockets")
    with connect(guichet) as client:
        assert ask(client) == (guichet.directory / "spectacles.dat").read_bytes()
        assert ask(client, reserve(1, 2)) == YES
        assert ask(client) == (guichet.directory / "spectacles.dat").read_bytes()
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
    assert helpers.places_in_file(guichet.directory, 1) == helpers.PLACES[1] - 2


@pytest.mark.parametrize("request_bytes", [LIST, reserve(0, 1)], ids=["list", "reserve"])
def test_single_bytes(server: helpers.Servers, request_bytes: bytes) -> None:
    """A request is taken when its 12 bytes are there, and each is read alone. (Fails with one recv() per request.)"""
    guichet = server("q5_sockets")
    with connect(guichet) as client:
        for byte in request_bytes[:-1]:
            client.sendall(bytes([byte]))
            helpers.eventually(lambda: not helpers.request_waits(guichet), "byte read by the server")
        client.settimeout(0.05)
        with pytest.raises(TimeoutError):
            client.recv(1)
        client.settimeout(helpers.DEADLINE)
        client.sendall(request_bytes[-1:])
        assert len(raw_tcp.receive(client, TABLE_SIZE if request_bytes == LIST else 1)) in (1, TABLE_SIZE)


def test_several_in_one_segment(server: helpers.Servers) -> None:
    """Each is answered, in the order sent. (Fails when what was read beyond a request is thrown away.)"""
    guichet = server("q5_sockets")
    with connect(guichet) as client:
        client.sendall(LIST + reserve(0, 1) + LIST + reserve(0, 1000) + reserve(0, 2) + LIST)
        tables = [raw_tcp.receive(client, TABLE_SIZE)]
        assert raw_tcp.receive(client, 1) == YES
        tables.append(raw_tcp.receive(client, TABLE_SIZE))
        assert raw_tcp.receive(client, 2) == NO + YES
        tables.append(raw_tcp.receive(client, TABLE_SIZE))
    assert [struct.unpack_from("<i", table, 68)[0] for table in tables] == [120, 119, 117]


def test_one_and_a_half(server: helpers.Servers) -> None:
    """A segment may end within a request: the first is answered at once, the second when it is whole.

    (Fails with one recv() per request.)
    """
    guichet = server("q5_sockets")
    with connect(guichet) as client:
        client.sendall(reserve(0, 1) + LIST[:5])
        assert raw_tcp.receive(client, 1) == YES
        helpers.eventually(lambda: not helpers.request_waits(guichet), "the half read by the server")
        client.sendall(LIST[5:])
        assert len(raw_tcp.receive(client, TABLE_SIZE)) == TABLE_SIZE


def test_stopped_and_continued_within_a_request(server: helpers.Servers) -> None:
    """Ctrl-Z and fg cut recv(2) short; the other half of the request still counts.

    (Fails when a part from MSG_WAITALL is taken for the end.)
    """
    guichet = server("q5_sockets")
    with connect(guichet) as client:
        client.sendall(reserve(0, 5)[:6])
        helpers.eventually(lambda: not helpers.request_waits(guichet), "first half read by the thread")
        helpers.freeze([guichet.pid])
        guichet.process.send_signal(signal.SIGCONT)
        with connect(guichet) as other:
            assert seats_left(other) == 120
        client.sendall(reserve(0, 5)[6:])
        assert raw_tcp.receive(client, 1) == YES


@pytest.mark.parametrize("sent", [0, 11, 12 + 6], ids=str)
def test_then_silence(server: helpers.Servers, sent: int) -> None:
    """Part of a request, then nothing: closed, with a line that says why. (Fails without SO_RCVTIMEO.)"""
    guichet = server("q5_sockets", *IDLE)
    with connect(guichet) as client:
        client.sendall((reserve(0, 1) * 2)[:sent])
        assert raw_tcp.receive(client, sent // 12) == YES * (sent // 12)
        assert raw_tcp.is_closed(client)
        reason = f"au milieu d'une requête ({sent % 12} octets)" if sent else "trop longtemps silencieux"
        assert reason in farewell(guichet, client)
    assert helpers.places_in_file(guichet.directory, 0) == 120 - sent // 12


def test_a_trickle_gains_no_time(server: helpers.Servers) -> None:
    """A byte now and then is silence too: the limit is for the whole request.

    (Fails when every byte, or every return of recv(2), starts the limit afresh: the request is then answered.)
    """
    guichet = server("q5_sockets", *IDLE)
    with connect(guichet) as client, contextlib.suppress(*raw_tcp.GONE):
        for byte in LIST:
            client.sendall(bytes([byte]))
            time.sleep(0.2)  # what a trickle is
        assert raw_tcp.receive(client, TABLE_SIZE) == b""
    guichet.wait_for("(déconnecté|disparu)")
    assert "CONSULTATION" not in guichet.output


@pytest.mark.parametrize("sent", [1, 11])
def test_half_a_request_then_close(server: helpers.Servers, sent: int) -> None:
    """Nothing is guessed from the half; the log says how much came. (Fails when the half is padded with zeros.)"""
    guichet = server("q5_sockets")
    with connect(guichet) as client:
        client.sendall(reserve(0, 1)[:sent])
        client.shutdown(socket.SHUT_WR)
        assert raw_tcp.is_closed(client)
        assert f"({sent} octets)" in farewell(guichet, client)
    with connect(guichet) as other:
        assert seats_left(other) == 120


@pytest.mark.parametrize("kind", [0, 3, -1, 1 << 24])
def test_unknown_type(server: helpers.Servers, kind: int) -> None:
    """Closed with the type in the log, what came before is answered, what comes after is not served.

    (Fails when an unknown type is taken for a reservation, as `else` in answer() would.) 1 << 24 is a big-endian 1.
    """
    guichet = server("q5_sockets")
    with connect(guichet) as client, connect(guichet) as other:
        client.sendall(reserve(0, 1) + struct.pack("<iii", kind, 0, 1) + reserve(0, 1))
        assert raw_tcp.receive(client, 1) == YES
        assert raw_tcp.is_closed(client)
        name = raw_tcp.name_of(client)
        client.close()
        assert f"requête de type {kind} inconnue" in farewell(guichet, name)
        assert seats_left(other) == 119


@pytest.mark.parametrize("sent", [0, 5, 12 * 50], ids=str)
def test_reset(server: helpers.Servers, sent: int) -> None:
    """A client that resets, before, within and after its requests, ends its own connection and nothing else.

    (Fails with OSError let out of _receive(): the log then has an error for each.)
    """
    guichet = server("q5_sockets")
    with connect(guichet) as other:
        names = []
        for _ in range(20):
            client = connect(guichet)
            names.append(raw_tcp.name_of(client))
            client.sendall((LIST * 50)[:sent])
            raw_tcp.reset(client)
        for name in names:
            with contextlib.suppress(AssertionError):  # reset before accept(2) saw it: there is nothing to log
                if f"client {name} connecté" in guichet.output:
                    farewell(guichet, name)
        assert seats_left(other) == 120
    assert guichet.client("reserve", "0", "1").returncode == 0
    assert "ERROR" not in guichet.output


def test_a_client_that_vanishes(server: helpers.Servers) -> None:
    """Gone with 50 requests on the way: the first answer meets a reset, the second raises SIGPIPE (defect 19).

    (Fails with SIGPIPE at its default action, and write(2) for every request as in the original.)
    """
    guichet = server("q5_sockets")
    with connect(guichet) as other:
        assert seats_left(other) == 120
        client = connect(guichet)
        name = raw_tcp.name_of(client)
        assert ask(client) != b""
        helpers.freeze([guichet.pid])
        client.sendall(LIST * 50)
        client.close()
        guichet.process.send_signal(signal.SIGCONT)
        farewell(guichet, name)
        assert seats_left(other) == 120
    assert "ERROR" not in guichet.output


def test_a_client_that_never_reads(server: helpers.Servers) -> None:
    """With its buffers full it waits alone, and not for ever. (Fails with one thread for all, or no SO_SNDTIMEO.)"""
    guichet = server("q5_sockets", "--log-level", "warning", "--idle-timeout", "2")
    log = server("q5_sockets", *IDLE)
    with connect(guichet) as deaf, connect(guichet) as other:
        assert raw_tcp.fill(deaf) > 10_000
        for seats in range(10):
            assert seats_left(other) == 120 - seats
            assert ask(other, reserve(0, 1)) == YES
    with connect(log) as deaf:
        raw_tcp.fill(deaf)
        assert "ne lit pas" in farewell(log, deaf)


def test_refusals_are_answered(server: helpers.Servers) -> None:
    """Every impossible reservation gets its no, changes nothing, and the connection goes on.

    (The original answers the first with a deadlock, defect 18; fails with the lock not released on refusal.)
    """
    guichet = server("q5_sockets")
    before = (guichet.directory / "spectacles.dat").read_bytes()
    impossible = [(show, 1) for show in (-1, 6, 9, 10, 255, 256, INT_MAX, -INT_MAX - 1)]
    impossible += [(0, seats) for seats in (0, -1, 121, 65536, INT_MAX, -INT_MAX - 1)]
    with connect(guichet) as client, connect(guichet) as other:
        for show, seats in impossible:
            assert ask(client, reserve(show, seats)) == NO, (show, seats)
        assert ask(client) == ask(other) == before
        assert ask(other, reserve(0, 120)) == YES
        assert ask(client, reserve(0, 1)) == NO
    refused = len(impossible) + 1
    helpers.eventually(lambda: guichet.output.count("refusé") == refused, f"{refused} refusals in the log")


def test_the_log_names_every_client(server: helpers.Servers) -> None:
    """Connect, request and disconnect carry date, time, address; on the terminal and in the kept file.

    (The first item on the original's own wish list; fails with the client's address left out of a line.)
    """
    guichet = server("q5_sockets")
    with connect(guichet) as client:
        assert ask(client) != b""
        assert ask(client, reserve(0, 3)) == YES
        assert ask(client, reserve(0, 300)) == NO
        name = re.escape(raw_tcp.name_of(client))
    expected = (
        rf"\[INFO\] client {name} connecté",
        rf"\[CONSULTATION\] client {name} : table envoyée",
        rf"\[RESERVATION\] client {name} : 3 place\(s\) du spectacle 0, reste 117",
        rf"\[RESERVATION\] client {name} : 300 place\(s\) du spectacle 0, refusé",
        rf"\[INFO\] client {name} déconnecté",
    )
    for pattern in expected:
        line = guichet.wait_for(pattern)
        assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO ", line)
        assert line in raw_tcp.log_file(guichet).splitlines()


def test_garbage(server: helpers.Servers, rng: random.Random) -> None:
    """Random bytes, cut and ended at random, never take a seat, and honest clients in between notice nothing.

    (Fails with any exception let out of requests(), or with the check of the type taken out.)
    """
    guichet = server("q5_sockets", *IDLE)
    sold = 0
    with contextlib.ExitStack() as stack:
        for _ in range(150):
            client = stack.enter_context(connect(guichet))
            kind = rng.choice((0, 3, -1, rng.randrange(3, INT_MAX)))
            data = LIST * rng.randrange(3) + struct.pack("<iii", kind, rng.randrange(6), rng.randrange(1, 9))
            data = data[: rng.randrange(1, len(data) + 1)] + rng.randbytes(rng.choice((0, rng.randrange(60))))
            with contextlib.suppress(*raw_tcp.GONE, BlockingIOError):
                while data:
                    cut = rng.randrange(1, len(data) + 1)
                    client.sendall(data[:cut])
                    data = data[cut:]
                end = rng.choice(("close", "reset", "read", "stay"))
                if end == "read":
                    client.setblocking(False)
                    client.recv(rng.randrange(1, 999))
                elif end != "stay":
                    raw_tcp.reset(client) if end == "reset" else client.close()
            if rng.random() < 0.1:
                with connect(guichet) as honest:
                    assert ask(honest, reserve(2, 1)) == YES
                    sold += 1
    with connect(guichet) as honest:
        assert seats_left(honest, 2) == helpers.PLACES[2] - sold
    assert sum(show.places for show in helpers.read_table(guichet.directory).values()) == sum(helpers.PLACES) - sold
    assert "ERROR" not in guichet.output


def test_stop_with_live_connections(server: helpers.Servers) -> None:
    """Idle, half way through a request, deaf: all are told by the end of their stream, and the server ends cleanly.

    (Fails with Listener.stop() emptied: the exit code stays 0, but only the process's end closes the connections, and
    the log does not say that they left.)
    """
    guichet = server("q5_sockets")
    with connect(guichet) as idle, connect(guichet) as half, connect(guichet) as deaf, connect(guichet) as busy:
        assert ask(idle) != b""
        half.sendall(LIST[:7])
        raw_tcp.fill(deaf)
        assert ask(busy, reserve(0, 1)) == YES
        assert guichet.stop(signal.SIGTERM) == 0
        assert raw_tcp.is_closed(idle)
        assert raw_tcp.is_closed(half)
        assert raw_tcp.is_closed(busy)
        assert farewell(guichet, idle)
    assert not re.search("Traceback|ERROR", guichet.output)


def test_stop_finishes_the_request_in_hand(server: helpers.Servers) -> None:
    """A reservation half read when the signal comes, and whole, is in the file and acknowledged.

    (Fails with SHUT_RDWR in stop().)
    """
    guichet = server("q5_sockets")
    with connect(guichet) as client:
        client.sendall(reserve(0, 5)[:6])
        helpers.eventually(lambda: not helpers.request_waits(guichet), "first half read by the thread")
        helpers.freeze([guichet.pid])
        client.sendall(reserve(0, 5)[6:])
        guichet.process.send_signal(signal.SIGTERM)
        guichet.process.send_signal(signal.SIGCONT)
        assert raw_tcp.receive(client, 1) == YES
        assert raw_tcp.is_closed(client)
    assert guichet.process.wait(helpers.DEADLINE) == 0
    assert helpers.places_in_file(guichet.directory, 0) == 115


@pytest.mark.parametrize("command", [("list",), ("consult", "0"), ("reserve", "0", "5")], ids=lambda words: words[0])
def test_c_client(server: helpers.Servers, c_programs: Path, command: tuple[str, ...]) -> None:
    """A client that a C compiler laid out is understood, and understands. (Fails with the fields in another order.)"""
    guichet = server("q5_sockets")
    host, port = guichet.address()
    done = helpers.run([c_programs / "q5_client", *command, "--host", host, "--port", str(port)])
    assert done.returncode == 0, done
    assert helpers.places_in_file(guichet.directory, 0) == (115 if command[0] == "reserve" else 120)
