"""Our clients against servers that are not ours, and wrong: they say what has happened, and what was expected."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sysv_ipc

from spectacles.common.errors import NoAnswerError
from spectacles.q1_pipes import channel
from spectacles.q1_pipes.channel import NAMES
from spectacles.q2_msq import channel as queue_channel
from tests import helpers, raw_tcp

MAYBE, LATER = "la réservation a peut-être été faite", "la réservation sera peut-être faite plus tard"
LIST_SIZE, ACK_SIZE, TABLE_SIZE = 728, 8, 720

# A stranger's server reads requests and does `reply` with each; what it says goes to the test.
PIPES = """
import os, struct, sys
view, seats, show, number, ack = [os.open(name, os.O_RDWR) for name in sys.argv[1:]]
print("UP", flush=True)
while True:
    {wait}
    (asked,) = struct.unpack("i", os.read({request}, 4))
    print("asked", asked, flush=True)
    {reply}
"""
QUEUE = """
import os, struct, sys, sysv_ipc
queue = sysv_ipc.MessageQueue(int(sys.argv[1], 0), max_message_size=8192)
print("UP", flush=True)
while True:
    {wait}
    body, type_ = queue.receive(True, -2)
    client, me = struct.unpack_from("i", body)[0], os.getpid()
    whole = struct.pack("i", me) + bytes(724 if type_ == 1 else 4)
    {reply}
"""


@contextlib.contextmanager
def stranger(program: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a stranger's server until the test ends."""
    with helpers.background([sys.executable, "-c", program, *arguments]) as process:
        assert process.stdout is not None
        helpers.read_until(process.stdout.fileno(), "UP")
        yield process


def told(done: subprocess.CompletedProcess[str], text: str, fate: str = "") -> None:
    """Check that a client ended with code 3 and one line: `text`, and nothing but `fate` of the reservation."""
    assert (done.returncode, done.stdout) == (3, ""), done
    line = helpers.one_line(done)
    assert re.search(text, line), line
    assert re.findall("la réservation .*", line) == ([fate] if fate else []), line


# Question 1


@pytest.fixture
def pipes(directory: Path) -> Path:
    """Five FIFOs, and a table for the client to read the titles in."""
    for name in NAMES:
        os.mkfifo(directory / name, 0o600)
    (directory / "spectacles.dat").write_bytes(struct.pack("<i50s11s3xi", 1, b"Nom", b"2027-01-01", 7) + bytes(648))
    return directory


def ask_pipes(directory: Path, *command: str) -> subprocess.CompletedProcess[str]:
    options = ["--dir", str(directory), "--timeout", "0.5"]
    return helpers.run(helpers.client_command("q1_pipes", *options, *command))


def pipe_server(directory: Path, reply: str, request: str = "view", wait: str = "pass") -> list[str]:
    return [PIPES.format(reply=reply, request=request, wait=wait), *(str(directory / name) for name in NAMES)]


def test_q1_is_asked_for_what_it_has_and_nothing_else(pipes: Path) -> None:
    """A server that uses the number as an index, without a look, lives: the first it gets is the person's.

    (With the probe sent to any server, it gets -1.6e9 as a show and dies of it.)
    """
    reply = "os.write(seats, struct.pack('i', [7] * 10 and ([7] * 10)[asked]))"
    with stranger(*pipe_server(pipes, reply)) as process:
        for _ in range(2):
            assert ask_pipes(pipes, "consult", "3").stdout == "7 places\n"
        process.kill()
        said = process.communicate()[0].decode()
    assert re.findall("asked (.*)", said) == ["3", "3"]


def test_q1_answers_of_a_predecessor_are_not_ours(pipes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stranger's server with a dead client's request in hand: we ask when it is silent. (Without that: 5 places.)"""
    monkeypatch.setattr(channel, "SILENCE", 1.0)  # far above how late the answer is
    reply = "import time; time.sleep(0.1); os.write(seats, struct.pack('i', asked))"
    with stranger(*pipe_server(pipes, reply)) as process:
        fd = os.open(pipes / "tub1_view", os.O_WRONLY)
        os.write(fd, struct.pack("i", 5))
        os.close(fd)
        assert process.stdout is not None
        helpers.read_until(process.stdout.fileno(), "asked 5")
        with channel.ClientPipes(str(pipes), helpers.DEADLINE) as client:
            assert client.exchange(1, 3) == 3


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        ("pass", "pas de réponse du serveur en 0.5 s : il a pris la demande, et se tait"),
        ("os._exit(139)", "le serveur s'est arrêté en traitant la demande"),
        ("os.write(seats, struct.pack('q', 7))", r"tub2_view : réponse de 8 octet\(s\) au lieu de 4"),
        ("os.write(seats, b'7')", r"tub2_view : réponse de 1 octet\(s\) au lieu de 4"),
    ],
)
def test_q1_consultation(pipes: Path, reply: str, text: str) -> None:
    """Not answered, died of, too long, too short. (As it was: "s'est arrêté" for short ones, long ones cut.)"""
    with stranger(*pipe_server(pipes, reply)):
        told(ask_pipes(pipes, "consult", "0"), text)


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        ("os.read(number, 4)", "il a pris la demande, et se tait"),
        ("os.read(number, 4); os._exit(139)", "le serveur s'est arrêté en traitant la demande"),
        ("os.read(number, 4); os.write(ack, struct.pack('i', 1))", r"réponse de 4 octet\(s\) au lieu de 1"),
        ("os.read(number, 4); os.write(ack, b'\\2')", "2 au lieu de 0 ou 1"),
    ],
)
def test_q1_reservation(pipes: Path, reply: str, text: str) -> None:
    """The same of a reservation, which may have been made each time. (With NoServerError raised, that is not said.)"""
    with stranger(*pipe_server(pipes, reply, "show")):
        told(ask_pipes(pipes, "reserve", "0", "1"), text, MAYBE)


def test_q1_unread(pipes: Path) -> None:
    """FIFOs held open and not read: the request lies there, and is not made yet. (Without _unread(): "se tait".)"""
    with stranger(*pipe_server(pipes, "pass", wait="import time; time.sleep(100)")):
        told(ask_pipes(pipes, "reserve", "0", "1"), "il ne lit pas, la demande est restée dans le tube", LATER)
        told(ask_pipes(pipes, "consult", "0"), "il ne lit pas, la demande est restée dans le tube")


def test_q1_dead_before_it_read(pipes: Path) -> None:
    """The server ends with the request unread: nothing was done, and nothing is said to have been."""
    wait = "import select; select.select([number], [], []); os._exit(0)"
    with stranger(*pipe_server(pipes, "pass", wait=wait)):
        told(ask_pipes(pipes, "reserve", "0", "1"), "le serveur s'est arrêté sans avoir lu la demande")


# Questions 2 to 4


@pytest.fixture
def queue() -> Iterator[tuple[str, sysv_ipc.MessageQueue]]:
    """The key of a queue, and the queue."""
    key = helpers.fresh_key()
    made = sysv_ipc.MessageQueue(key, sysv_ipc.IPC_CREX, max_message_size=8192)
    yield hex(key), made
    with contextlib.suppress(sysv_ipc.ExistentialError):
        made.remove()


def ask_queue(directory: Path, key: str, *command: str) -> subprocess.CompletedProcess[str]:
    options = ["--dir", str(directory), "--key", key, "--timeout", "0.5"]
    return helpers.run(helpers.client_command("q2_msq", *options, *command))


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        ("pass", "la demande a été prise, et n'a pas eu de réponse"),
        ("os._exit(139)", r"le processus \d+, qui a lu la file en dernier, s'est arrêté"),
        ("queue.remove(); os._exit(0)", "le serveur s'est arrêté sans répondre à la demande"),
        ("queue.send(whole + bytes(8), True, client)", "réponse de {more} octets au lieu de {size} .*compté en trop"),
        ("queue.send(whole[:-4], True, client)", "réponse de {less} octets au lieu de {size} .sizeof"),
        ("queue.send(bytes({other}), True, client)", "une réponse de {other} octets au lieu de {size}"),
        ("queue.send(whole, True, me)", r"une réponse de type \d+, que personne n'attend, est dans la file"),
        ("queue.send(whole, True, 2 ** 22 + 1)", "une réponse de type 4194305, que personne n'attend"),
    ],
)
@pytest.mark.parametrize("kind", ["list", "reserve"])
def test_queue(directory: Path, queue: tuple[str, sysv_ipc.MessageQueue], kind: str, reply: str, text: str) -> None:
    """A server that is mute, dies, removes its queue, answers in another size, or to another type.

    (As it was: no answer in time, each time but the third, whatever came.)
    """
    size, other = (LIST_SIZE, ACK_SIZE) if kind == "list" else (ACK_SIZE, LIST_SIZE)
    reply = reply.replace("{other}", str(other))
    with stranger(QUEUE.format(reply=reply, wait="pass"), queue[0]):
        done = ask_queue(directory, queue[0], *(("list",) if kind == "list" else ("reserve", "0", "1")))
    numbers = {"size": size, "more": size + 8, "less": size - 4, "other": other}
    told(done, text.format(**numbers) if "{" in text else text, MAYBE if kind == "reserve" else "")


def test_queue_a_strange_bool(directory: Path, queue: tuple[str, sysv_ipc.MessageQueue]) -> None:
    """Neither a yes nor a no. (With every byte but 0 taken for a yes, "Réservation OK".)"""
    with stranger(QUEUE.format(reply="queue.send(whole[:4] + b'\\2\\0\\0\\0', True, client)", wait="pass"), queue[0]):
        told(ask_queue(directory, queue[0], "reserve", "0", "1"), "2 au lieu de 0 ou 1", MAYBE)


def test_queue_nobody_reads(directory: Path, queue: tuple[str, sysv_ipc.MessageQueue]) -> None:
    """The request is still there at the end of the time limit, and stays. (Without peek(): "a été prise".)"""
    told(ask_queue(directory, queue[0], "reserve", "0", "1"), "personne ne lit la file, la demande y est restée", LATER)
    told(ask_queue(directory, queue[0], "list"), "personne ne lit la file, la demande y est restée")
    assert queue[1].current_messages == 2


def test_queue_full(directory: Path, queue: tuple[str, sysv_ipc.MessageQueue]) -> None:
    """What could not be sent was not done. (With one message for all of exchange(), it may have been.)"""
    with contextlib.suppress(sysv_ipc.BusyError):
        while True:
            queue[1].send(bytes(8), False, 77)
    told(ask_queue(directory, queue[0], "reserve", "0", "1"), "la file est pleine, la demande n'a pas pu y entrer")


def test_queue_without_msg_copy(monkeypatch: pytest.MonkeyPatch, queue: tuple[str, sysv_ipc.MessageQueue]) -> None:
    """A kernel that cannot be asked: what is known is that no answer came."""

    def peek(queue_id: int) -> Iterator[tuple[int, bytes]]:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(queue_channel, "peek", peek)
    with queue_channel.ClientQueue(int(queue[0], 0), 0.1) as client, pytest.raises(NoAnswerError, match=r"en 0.1 s$"):
        client.exchange(1, bytes(8), 728)


# Question 5


@contextlib.contextmanager
def tcp_server(*behave: Callable[[socket.socket], None]) -> Iterator[list[str]]:
    """Accept a client for each of `behave`, in turn, and do that; yield the options that lead there."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.settimeout(helpers.DEADLINE)

        def serve() -> None:
            for act in behave:
                with listener.accept()[0] as client:
                    client.settimeout(helpers.DEADLINE)
                    with contextlib.suppress(OSError):
                        act(client)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield ["--host", "127.0.0.1", "--port", str(listener.getsockname()[1]), "--timeout", "0.7"]
        finally:
            thread.join()


def answers(data: bytes, *, first: bool = False, close: bool = False) -> Callable[[socket.socket], None]:
    """Return a behaviour: read a request, send `data` (or send `first`), then close, or wait for the client."""

    def behave(client: socket.socket) -> None:
        if first:
            client.sendall(data)
        raw_tcp.receive(client, 12)
        if not first:
            client.sendall(data)
        if not close:
            client.recv(1)

    return behave


def resets(client: socket.socket) -> None:
    client.recv(12)
    raw_tcp.reset(client)


HTTP = b"HTTP/1.1 400 Bad Request\r\nServer: x\r\n\r\n"
STRANGE = [
    (answers(HTTP, close=True), "il dit « HTTP/1.1 400 Bad Request »"),
    (answers(HTTP + b"<html>" * 200), "il dit « HTTP/1.1 400 Bad Request »"),
    (answers(HTTP, first=True), "il dit « HTTP/1.1 400 Bad Request »"),
    (answers(b"SSH-2.0-OpenSSH_9.2p1\r\n", first=True), "il dit « SSH-2.0-OpenSSH_9.2p1 »"),
    (answers(b"\x15\x03\x01\x00\x02\x02\x46", close=True), "ce port attend TLS"),
    (resets, "le serveur a coupé la connexion sans répondre : trop de clients, ou TLS"),
    (answers(b"", close=True), "le serveur a fermé la connexion sans répondre : trop de clients, ou TLS"),
    (answers(b""), r"pas de réponse du serveur en 0.7 s( ;|$)"),
]


@pytest.mark.parametrize("command", [("list",), ("reserve", "0", "1")], ids=lambda words: words[0])
@pytest.mark.parametrize(("behave", "text"), STRANGE, ids=[text[:40] for _, text in STRANGE])
def test_q5(behave: Callable[[socket.socket], None], text: str, command: tuple[str, ...]) -> None:
    """Another protocol is quoted, an end of the connection told. (As it was: "octet 72", or HTML as a table.)"""
    with tcp_server(behave) as options:
        done = helpers.run(helpers.client_command("q5_sockets", *options, *command))
    assert (done.returncode, done.stdout) == (3, ""), done
    line = helpers.one_line(done)
    # What came before it was asked for tells that nothing was sent, if it came in time to be seen.
    assert re.search(text, line), line
    if command[0] == "list" or "ce qu'on ne lui demande pas" in line:
        assert "la réservation" not in line
    else:
        assert line.endswith(MAYBE)


@pytest.mark.parametrize("size", [1, 4, 718, 719])
@pytest.mark.parametrize("close", [True, False])
def test_q5_not_all_of_the_table(size: int, close: bool) -> None:
    """What came is counted, and what was to come. (As it was: "a fermé la connexion".)"""
    with tcp_server(answers(bytes(size), close=close)) as options:
        done = helpers.run(helpers.client_command("q5_sockets", *options, "list"))
    told(done, rf"\({size} octet\(s\) d'une réponse de 720\)")


@pytest.mark.parametrize("byte", [b"\2", b"\xff"])
def test_q5_a_strange_bool(byte: bytes) -> None:
    with tcp_server(answers(byte)) as options:
        done = helpers.run(helpers.client_command("q5_sockets", *options, "reserve", "0", "1"))
    told(done, f"réponse incompréhensible : octet {byte[0]}", MAYBE)


@pytest.mark.parametrize(
    ("data", "command", "text"),
    [
        (struct.pack("i", 1), ("reserve", "0", "1"), r"d'au moins 4 octets au lieu de 1 \(un bool du C\)"),
        (bytes(720), ("reserve", "0", "1"), r"d'au moins \d+ octets au lieu de 1 \(un bool du C\)"),
        (struct.pack("q", 1) + bytes(720), ("list",), r"d'au moins 728 octets au lieu de 720 \(la table\)"),
        (bytes(721), ("consult", "0"), r"d'au moins 721 octets au lieu de 720 \(la table\)"),
    ],
    ids=["an int for a bool", "the table", "with a type", "a byte more"],
)
def test_q5_more_than_an_answer(data: bytes, command: tuple[str, ...], text: str) -> None:
    """What came, and what was to come. (As it was: "Réservation OK", "Réservation refusée", "Aucun spectacle".)"""
    with tcp_server(answers(data)) as options:
        done = helpers.run(helpers.client_command("q5_sockets", *options, *command))
    told(done, text, MAYBE if command[0] == "reserve" else "")


def test_q5_two_answers() -> None:
    """The second is not the next request's, which is not sent. (As it was: refused, and "Réservation OK" at once.)"""
    read, sent = threading.Event(), threading.Event()

    def answers_twice(client: socket.socket) -> None:
        raw_tcp.receive(client, 12)
        client.sendall(b"\0")
        read.wait(helpers.DEADLINE)
        client.sendall(b"\1")
        sent.set()
        client.recv(1)

    with (
        tcp_server(answers_twice, answers(b"\1")) as options,
        helpers.background(helpers.client_command("q5_sockets", *options), stdin=subprocess.PIPE) as client,
    ):
        assert client.stdin is not None
        assert client.stdout is not None
        os.write(client.stdin.fileno(), b"2\n0\n1\n")
        helpers.read_until(client.stdout.fileno(), "Réservation NOK")
        read.set()
        assert sent.wait(helpers.DEADLINE)
        output = client.communicate(b"2\n0\n2\no\n2\n0\n3\n0\n", timeout=helpers.DEADLINE)[0].decode()
    assert client.returncode == 0, output
    answered = re.findall("Réservation N?OK|ce qu'on ne lui demande pas|peut-être", output)
    assert answered == ["ce qu'on ne lui demande pas", "Réservation OK"]


def test_q5_a_server_that_died_of_it() -> None:
    """Nobody listens there any more: that is said, and no guess is made. (With _is_served() always true: "TLS ?".)"""
    program = (
        "import os, socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True);"
        "c, _ = s.accept(); c.recv(12); os._exit(139)"
    )
    with helpers.background([sys.executable, "-c", program]) as process:
        assert process.stdout is not None
        port = helpers.read_until(process.stdout.fileno(), "\n").strip()
        done = helpers.run(helpers.client_command("q5_sockets", "--port", port, "reserve", "0", "1"))
    told(done, "le serveur a (fermé|coupé) la connexion en traitant la demande : il s'est arrêté", MAYBE)


# Ours: nothing was sent, or nothing is guessed


def test_nothing_sent_nothing_done(server: helpers.Servers, question: str) -> None:
    """The server is stopped during a session, then a reservation is asked for: it cannot have been made, nor does
    anybody guess why. (As it was: it may have been; question 5: "trop de clients, ou ce port attend TLS".)"""
    guichet = server(question)
    with helpers.background(guichet.client_command(), stdin=subprocess.PIPE) as client:
        assert client.stdout is not None
        helpers.read_until(client.stdout.fileno(), "Votre choix : ")
        assert guichet.stop() == 0
        output = client.communicate(b"2\n0\n1\nn\n", timeout=helpers.DEADLINE)[0].decode()
    assert client.returncode == 3
    assert re.search("le serveur (s'est arrêté|a (fermé|coupé) la connexion : il s'est arrêté)", output)
    assert not re.search("peut-être|trop de clients|TLS", output), output


@pytest.mark.parametrize("patience", ["0.4", "1.2"])
def test_q5_idle_timeout_is_no_riddle(server: helpers.Servers, patience: str) -> None:
    """Cut for its silence, the client sees the end before it asks. (As it was: it guessed, and was in doubt.)"""
    guichet = server("q5_sockets", "--idle-timeout", patience)
    with helpers.background(guichet.client_command(), stdin=subprocess.PIPE) as client:
        assert client.stdout is not None
        helpers.read_until(client.stdout.fileno(), "Votre choix : ")
        guichet.wait_for("trop longtemps silencieux")
        output = client.communicate(b"2\n0\n1\nn\n", timeout=helpers.DEADLINE)[0].decode()
    assert "Erreur : le serveur a fermé la connexion\n" in output
    assert not re.search("peut-être|trop de clients|TLS", output), output
    assert helpers.places_in_file(guichet.directory, 0) == 120


def closed_by_peer(port: int) -> bool:
    """Say whether a connection to `port` of this machine was closed by the other side: CLOSE_WAIT, proc(5)."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(row[2].endswith(f":{port:04X}") and row[3] == "08" for row in rows)


def test_q5_a_crowd_is_guessed(server: helpers.Servers) -> None:
    """Turned away as it connects, and however late it looks: that is a guess to make. (With AT_ONCE 0 it is not.)"""
    guichet = server("q5_sockets", "--max-clients", "1")
    host, port = guichet.address()
    stop = threading.Event()

    def keep_asking() -> None:
        with socket.create_connection((host, port)) as busy:
            while not stop.wait(0.1):
                busy.sendall(struct.pack("<iii", 1, 0, 0))
                raw_tcp.receive(busy, 720)

    others = threading.Thread(target=keep_asking)
    others.start()
    try:
        guichet.wait_for("table envoyée")
        with helpers.background(guichet.client_command(), stdin=subprocess.PIPE) as client:
            assert client.stdout is not None
            helpers.read_until(client.stdout.fileno(), "Votre choix : ")
            guichet.wait_for("les nouveaux sont éconduits")
            helpers.eventually(lambda: closed_by_peer(port), "the end, in the client's kernel, before it asks")
            output = client.communicate(b"1\nn\n", timeout=helpers.DEADLINE)[0].decode()
    finally:
        stop.set()
        others.join()
    assert "le serveur a fermé la connexion : trop de clients ?\n" in output
    assert "TLS" not in output


REFUSALS = (
    ("6", "1", "n'existe pas"),
    ("-1", "1", "n'existe pas"),
    ("0", "0", "au moins une place"),
    ("0", "-2", "au"),
)


def test_a_refusal_says_why(server: helpers.Servers, question: str) -> None:
    """In the server's log, the wire being a bool. (With REFUSED returned, "sans raison connue".)"""
    guichet = server(question)
    for show, seats, why in (*REFUSALS, ("5", "13", "il en reste 12")):
        assert guichet.client("reserve", show, seats).returncode == 1
        guichet.wait_for(rf"\[RESERVATION\] .* : {seats} place\(s\) du spectacle {show}, refusé : .*{why}")
    assert "sans raison connue" not in guichet.output


def test_our_probe_is_no_client_in_the_log(server: helpers.Servers) -> None:
    """A session of question 1 that asks for nothing leaves no line. (With the probe yielded as a request, it does.)"""
    guichet = server("q1_pipes")
    assert guichet.client(stdin="0\n").returncode == 0
    assert guichet.client("consult", "1").returncode == 0
    assert guichet.output.count("[CONSULTATION]") == 1
