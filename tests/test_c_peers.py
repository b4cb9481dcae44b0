"""The bytes of every message against a C compiler, and C programs against Python ones, both ways round."""

from __future__ import annotations

import contextlib
import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest
import sysv_ipc

from spectacles.common import protocol
from spectacles.common.catalogue import default_path, load
from spectacles.common.limits import kernel_limit
from spectacles.common.spectacle import (
    DATE_SIZE,
    MAX_SPECTACLE,
    NOM_SIZE,
    RECORD,
    TABLE_SIZE,
    Spectacle,
    pack_table,
    unpack_table,
)
from spectacles.lab.programs.process import ServerProcess
from tests import helpers

CLIENTS = {
    "q1_pipes": "q1_client",
    "q2_msq": "q2_client",
    "q3_threads": "q2_client",
    "q4_thread_per_request": "q2_client",
    "q5_sockets": "q5_client",
}
C_SERVERS = {question: f"{question[:2]}_server" for question in CLIENTS}

# What the compiler calls it -> our format, and the fields in our order. A message counts without its mtype.
STRUCTS = {
    "Spectacle": (RECORD, ("id", "nom", "date", "places")),
    "Request_list": (protocol.LIST_REQUEST, ("pid",)),
    "Response_list": (protocol.LIST_REPLY, ("pid", "spectacles")),
    "Request_reservation": (protocol.RESERV_REQUEST, ("pid", "spectacle", "nb_places")),
    "Request": (protocol.RESERV_REQUEST, ("pid", "spectacle", "nb_places")),
    "Response_reservation": (protocol.RESERV_REPLY, ("pid", "ack")),
    "Tcp_request": (protocol.TCP_REQUEST, ("type", "spectacle", "nb_places")),
    "Tcp_response_reservation": (protocol.TCP_RESERV_REPLY, ("ack",)),
}


@pytest.fixture(scope="module")
def layout(c_programs: Path) -> dict[str, Any]:
    """What the compiler says of its structures."""
    answer: dict[str, Any] = json.loads(helpers.run([c_programs / "layout"]).stdout)
    return answer


def test_numbers(layout: dict[str, Any]) -> None:
    assert layout["table"] == layout["structs"]["Tcp_response_list"]["size"] == TABLE_SIZE
    assert layout["max_spectacle"] == MAX_SPECTACLE
    assert (layout["type_list"], layout["type_reserv"]) == (protocol.LIST, protocol.RESERV)
    fields = layout["structs"]["Spectacle"]["fields"]
    assert (fields["nom"]["size"], fields["date"]["size"]) == (NOM_SIZE, DATE_SIZE)
    assert layout["types"]["int"] == protocol.PIPE_INT.size
    assert layout["types"]["bool"] == protocol.PIPE_BOOL.size


@pytest.mark.parametrize("name", STRUCTS)
def test_layout(layout: dict[str, Any], name: str) -> None:
    """Size, and where each field lies: found by packing one field of ones at a time. (Fails with a pad byte moved.)"""
    format_, names = STRUCTS[name]
    struct = layout["structs"][name]
    assert struct["body"] == format_.size
    assert list(struct["fields"]) == list(names)
    blank = [b"" if "s" in kind else 0 for kind in field_kinds(format_.format, len(names))]
    for number, field in enumerate(names):
        values: list[object] = list(blank)
        size, offset = struct["fields"][field]["size"], struct["fields"][field]["offset"]
        values[number] = b"\xff" * size if isinstance(blank[number], bytes) else True if field == "ack" else -1
        data = format_.pack(*values)
        expected = bytearray(format_.size)
        expected[offset : offset + size] = b"\1" if field == "ack" else b"\xff" * size
        assert data == expected, field


def field_kinds(text: str, count: int) -> list[str]:
    """Split a format of struct into its fields, padding left out."""
    import re

    kinds = []
    for number, kind in re.findall(r"(\d*)([a-z?])", text):
        if kind != "x":
            kinds += ["s"] if kind == "s" else [kind] * int(number or 1)
    assert len(kinds) == count
    return kinds


def test_little_endian_is_stated() -> None:
    """Q5 works between unlike machines (defect 20), and a file can be moved."""
    formats = [getattr(protocol, name) for name in dir(protocol) if name.isupper() and not name.startswith("_")]
    for format_ in [RECORD, *formats]:
        if hasattr(format_, "format"):
            assert format_.format.startswith("<")


def test_c_reads_what_python_writes(c_programs: Path, tmp_path: Path) -> None:
    path = tmp_path / "spectacles.dat"
    path.write_bytes(load(default_path("/nowhere")))
    lines = helpers.run([c_programs / "dat", "show", path]).stdout.splitlines()
    shows = unpack_table(path.read_bytes())
    assert [json.loads(line) for line in lines] == [
        {"index": slot, "id": show.id, "nom": show.nom, "date": show.date, "places": show.places}
        for slot, show in shows
    ]


def test_python_reads_what_c_writes(c_programs: Path, tmp_path: Path) -> None:
    """And writes it back byte for byte: all padding is zero."""
    path = tmp_path / "spectacles.dat"
    assert helpers.run([c_programs / "dat", "write", path, "77"]).returncode == 0
    table = path.read_bytes()
    shows = dict(unpack_table(table))
    assert shows[2] == Spectacle(3, "Soirée d'été : Noëlle à l'opéra", "20/06/2026", 77)
    assert pack_table(shows) == table


@pytest.mark.parametrize("question", CLIENTS)
def test_c_client_python_server(server: helpers.Servers, c_programs: Path, question: str) -> None:
    guichet = server(question)

    def c_client(*arguments: str) -> tuple[int, Any]:
        done = helpers.run([c_programs / CLIENTS[question], *arguments, *helpers.c_options(guichet)])
        assert done.returncode in (0, 1), done
        return done.returncode, json.loads(done.stdout)

    code, answer = c_client("list")
    assert code == 0
    assert [(show["index"], show["places"]) for show in answer["shows"]] == list(enumerate(helpers.PLACES))
    assert answer["shows"][1]["nom"] == "Œdipe roi"
    assert c_client("consult", "3")[1]["places"] == 250
    assert c_client("reserve", "3", "50")[0] == 0
    assert c_client("consult", "3")[1]["places"] == 200
    assert c_client("reserve", "3", "201")[0] == 1
    for show, seats in (("6", "1"), ("-1", "1"), ("10", "1"), ("0", "0"), ("0", "-3")):
        assert c_client("reserve", show, seats)[0] == 1
    assert c_client("consult", "6")[0] == 1
    assert helpers.places_in_file(guichet.directory, 3) == 200
    shown = helpers.run([c_programs / "dat", "show", guichet.directory / "spectacles.dat"]).stdout
    assert json.loads(shown.splitlines()[3])["places"] == 200


def key_of(guichet: ServerProcess) -> int:
    """Return the key of its queue."""
    return int(guichet.options[guichet.options.index("--key") + 1], 0)


def exchange(guichet: ServerProcess, kind: int, size: int) -> bytes:
    """Ask the server for a list, or for one seat of show 2, in `size` bytes, and return the answer."""
    queue = sysv_ipc.MessageQueue(key_of(guichet), max_message_size=kernel_limit("msgmax"))
    queue.send(struct.pack("<iii", os.getpid(), 2, 1).ljust(size, b"\xff")[:size], True, kind)
    answers: list[tuple[bytes, int]] = []

    def answered() -> bool:
        with contextlib.suppress(sysv_ipc.BusyError):
            answers.append(queue.receive(False, os.getpid()))
        return bool(answers)

    helpers.eventually(answered, f"an answer to {size} bytes")
    return answers[0][0]


@pytest.mark.parametrize("language", ["C", "Python"])
def test_requests_of_any_length(server: helpers.Servers, c_programs: Path, queue_question: str, language: str) -> None:
    """A request is taken by the bytes it needs, as C takes it: no padding, one struct for both, the type counted in.

    Whatever comes after them is nobody's business, be it the largest message there can be. (With the lengths of the
    structs alone accepted, 8 bytes are answered of all lists, and 16 of all reservations.)
    """
    guichet = server(queue_question, command=[str(c_programs / C_SERVERS[queue_question])] if language == "C" else None)
    for size in (*range(4, 33), 100, 2049, kernel_limit("msgmax")):
        assert len(exchange(guichet, protocol.LIST, size)) == protocol.LIST_REPLY.size
    before = helpers.places_in_file(guichet.directory, 2)
    for size in (*range(12, 33), 100, 2049, kernel_limit("msgmax")):
        assert protocol.RESERV_REPLY.unpack(exchange(guichet, protocol.RESERV, size))[1]
        before -= 1
    assert helpers.places_in_file(guichet.directory, 2) == before
    assert guichet.stop() == 0


@pytest.mark.parametrize(("kind", "needed"), [(protocol.LIST, 4), (protocol.RESERV, 12)])
def test_requests_that_are_too_short(server: helpers.Servers, queue_question: str, kind: int, needed: int) -> None:
    """One that cannot be read is dropped, and its programmer told why. (With no line for it, or one without reason.)"""
    for size in (0, needed - 1):
        guichet = server(queue_question, "--log-level", "warning")
        queue = sysv_ipc.MessageQueue(key_of(guichet))
        queue.send(struct.pack("<iii", os.getpid(), 2, 1)[:size], True, kind)
        guichet.wait_for(rf"type {kind} et de {size} octet.* au moins {needed} .*sizeof.* « long mtype »")
        helpers.eventually(lambda queue=queue: queue.current_messages == 0, "an empty queue")  # type: ignore[misc]
        assert helpers.places_in_file(guichet.directory, 2) == 300
        assert guichet.stop() == 0


@pytest.mark.parametrize("question", CLIENTS)
def test_python_client_c_server(server: helpers.Servers, c_programs: Path, question: str) -> None:
    port = ["--port", str(helpers.free_port())] if question == "q5_sockets" else []
    guichet = server.start(question, *port, command=[str(c_programs / C_SERVERS[question])])
    guichet.wait_ready()

    def client(*arguments: str) -> tuple[int, str]:
        command = helpers.client_command(question, *(port or guichet.client_options()), *arguments)
        done = helpers.run(command)
        assert done.stderr == ""
        return done.returncode, done.stdout

    assert client("reserve", "0", "20") == (0, "Réservation OK\n")
    assert client("consult", "0") == (0, "100 places\n")
    assert client("reserve", "0", "101") == (1, "Réservation refusée\n")
    assert client("reserve", "9", "1") == (1, "Réservation refusée\n")
    assert client("consult", "9") == (1, "Spectacle inexistant\n")
    if question == "q1_pipes":  # its list needs the directory, given by client_options()
        assert "--dir" in guichet.client_options()
    code, text = client("list")
    assert code == 0
    assert text.splitlines()[2] == "[2] Soirée d'été : Noëlle à l'opéra | 20/06/2026 | 45 places"
    assert helpers.places_in_file(guichet.directory, 0) == 100


@pytest.mark.parametrize("question", CLIENTS)
def test_one_file_for_both(server: helpers.Servers, c_programs: Path, question: str) -> None:
    """A C server sells, a Python server goes on selling from the same spectacles.dat, and back."""
    directory = None
    left = 45
    for language in ("C", "Python", "C"):
        command = [str(c_programs / C_SERVERS[question])] if language == "C" else None
        port = ["--port", str(helpers.free_port())] if question == "q5_sockets" else []
        guichet = server.start(question, *port, directory=directory, command=command)
        guichet.wait_ready()
        directory = guichet.directory
        options = ["--dir", str(directory), *port] if port else guichet.client_options()
        done = helpers.run([c_programs / CLIENTS[question], "reserve", "2", "5", *options])
        assert done.returncode == 0, done
        left -= 5
        assert guichet.stop() == 0
        assert helpers.places_in_file(directory, 2) == left


@pytest.mark.parametrize("question", ["q1_pipes", *helpers.QUEUES])
def test_not_beside_a_live_server_in_c(server: helpers.Servers, c_programs: Path, question: str) -> None:
    """A server in C claims nothing of ours, but answers: ours is refused, with the code for it, and takes nothing away.

    (Without make_sure_of_death() both serve one queue in questions 3 and 4, each from its own table: seats are sold
    twice.)
    """
    names = helpers.fresh_names(question)
    c_server = server(question, names=names, command=[str(c_programs / C_SERVERS[question])])
    done = helpers.run(helpers.server_command(question, "--dir", str(c_server.directory), *names))
    assert done.returncode == 3, done
    assert "Serveur UP" not in done.stdout
    assert c_server.client("reserve", "0", "1").returncode == 0
    assert c_server.stop() == 0


def test_what_a_dead_server_left_is_taken_over(server: helpers.Servers, queue_question: str, directory: Path) -> None:
    """The queue of a killed server is no live server's: its successor serves it, and keeps nothing of its question.

    (Without the housekeeping that takes replies to the server itself, one stays.)
    """
    names = helpers.fresh_names(queue_question)
    server(queue_question, directory=directory, names=names).kill()
    second = server(queue_question, directory=directory, names=names)
    assert "reprise" in second.output
    assert second.client("list").returncode == 0
    helpers.eventually(lambda: helpers.in_queue(second)[0] == 0, "nothing left in the queue")
    assert second.stop() == 0
