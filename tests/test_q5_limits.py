"""Question 5: where it listens, how much clients may use up, and what its client does when the server goes away."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spectacles.lab.kernel.processes import thread_count
from spectacles.lab.programs.process import ServerProcess
from tests import helpers, raw_tcp
from tests.raw_tcp import LIST, TABLE_SIZE, YES, ask, connect, reserve, seats_left
from tests.test_menu import terminal

MANY = 1000
SPARE = 200  # descriptors of the test itself


# Where it listens


def test_two_servers_on_port_0(server: helpers.Servers) -> None:
    """Each takes a free port, prints it, and has a table of its own. (Fails with 0 printed instead of getsockname.)"""
    first, second = server("q5_sockets", "--port", "0"), server("q5_sockets", "--port", "0")
    assert 0 != first.address()[1] != second.address()[1] != 0
    assert first.client("reserve", "0", "20").returncode == 0
    with connect(first) as one, connect(second) as two:
        assert (seats_left(one), seats_left(two)) == (100, 120)


def test_loopback_by_default(server: helpers.Servers) -> None:
    """Defect 21: nothing but 127.0.0.1 unless asked for. (Fails with 0.0.0.0 as the default of --host.)"""
    _, port = server("q5_sockets").address()
    assert _listeners(port) == ["0100007F"]
    _, port = server("q5_sockets", "--host", "0.0.0.0").address()
    assert _listeners(port) == ["00000000"]


def _listeners(port: int) -> list[str]:
    """Return the local addresses, in hexadecimal as in /proc/net/tcp, where somebody listens on `port`."""
    found = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                address, state = line.split()[1], line.split()[3]
                if state == "0A" and int(address.rpartition(":")[2], 16) == port:
                    found.append(address.rpartition(":")[0])
    return found


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost", "::1"])
def test_hosts(server: helpers.Servers, host: str) -> None:
    """Name, IPv4, IPv6: the client reaches it by the same word, and the log writes its address so that one can read it.

    (Fails with AF_INET instead of the family that getaddrinfo(3) says.)
    """
    if host == "::1" and not _has_ipv6():
        pytest.skip("no IPv6 on the loopback interface")
    guichet = server("q5_sockets", "--host", host)
    _, port = guichet.address()
    done = helpers.run(helpers.client_command("q5_sockets", "--host", host, "--port", str(port), "reserve", "0", "1"))
    assert (done.returncode, done.stderr) == (0, "")
    line = guichet.wait_for("RESERVATION")
    assert re.search(r"client \[::1\]:\d+ :" if host == "::1" else r"client 127\.0\.0\.\d:\d+ :", line)


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("host", "code"), [("192.0.2.1", 1), ("nulle.part.invalid", 2), ("", 2), ("a" * 300, 2), ("théâtre", 2)]
)
def test_impossible_hosts(directory: Path, host: str, code: int) -> None:
    """One line that names it, no traceback. (Fails with getaddrinfo outside its try.)

    To a client it is no server, exit code 3. (With UsageError for both, as it was, 2.)
    """
    command = helpers.server_command("q5_sockets", "--dir", str(directory), "--port", "0", "--host", host)
    done = helpers.run(command)
    assert done.returncode == code
    assert host in helpers.one_line(done)
    if code == 2:
        done = helpers.run(helpers.client_command("q5_sockets", "--host", host, "list"))
        assert done.returncode == (3 if host else 2)  # an empty one is nobody's name: a variable that was not set
        assert host in helpers.one_line(done)


def test_port_taken_by_a_server(server: helpers.Servers, directory: Path) -> None:
    """The second one says who holds it, and the first is not disturbed. (Fails without Server.claim: no PID.)"""
    first = server("q5_sockets")
    port = str(first.address()[1])
    done = helpers.run(helpers.server_command("q5_sockets", "--dir", str(directory), "--port", port))
    assert done.returncode == 3
    assert f"PID {first.pid}" in helpers.one_line(done)
    assert first.client("reserve", "0", "1").returncode == 0


def test_port_taken_by_another_program(directory: Path) -> None:
    """One line with the address. (Fails with the error of bind(2) let out.)"""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = helpers.run(helpers.server_command("q5_sockets", "--dir", str(directory), "--port", str(port)))
        assert done.returncode == 3
        assert f"127.0.0.1:{port} : adresse déjà utilisée" in helpers.one_line(done)


def test_the_same_port_again(server: helpers.Servers) -> None:
    """At once, though the last server's connections linger in TIME_WAIT. (Fails without SO_REUSEADDR.)"""
    first = server("q5_sockets")
    port = str(first.address()[1])
    with connect(first) as client:
        assert ask(client) != b""
        first.stop()  # its end closes first, and so has the TIME_WAIT
        assert raw_tcp.is_closed(client)
    second = server("q5_sockets", "--port", port)
    assert second.client("list").returncode == 0


# How much clients may use up


def test_the_most_silent_gives_way(server: helpers.Servers) -> None:
    """Beyond --max-clients, who has been silent for longest is closed. (Fails with max() for min() in _make_room.)"""
    guichet = server("q5_sockets", "--max-clients", "3")
    with connect(guichet) as first, connect(guichet) as second, connect(guichet) as third:
        for client in (second, third, first):
            assert ask(client) != b""
        helpers.eventually(lambda: _is_served(guichet), "a fourth client served")
        assert raw_tcp.is_closed(second)
        assert seats_left(third) == seats_left(first) == 120


def _is_served(server: ServerProcess) -> bool:
    with connect(server) as client:
        return len(ask(client)) == TABLE_SIZE


def test_no_room_for_more(server: helpers.Servers) -> None:
    """When all are at work the newcomers are turned away; one line says so, not one each.

    (Fails with the time of the last refusal not kept, or with EVICTION_AGE 0.)
    """
    guichet = server("q5_sockets", "--max-clients", "3", "--log-level", "warning")
    done = threading.Event()
    answers: list[int] = []

    def work(client: socket.socket) -> None:
        while not done.is_set():
            answers.append(len(ask(client)))

    with connect(guichet) as first, connect(guichet) as second, connect(guichet) as third:
        workers = [threading.Thread(target=work, args=(client,)) for client in (first, second, third)]
        assert all(ask(client) for client in (first, second, third))
        try:
            for worker in workers:
                worker.start()
            turned_away = 0
            for _ in range(200):
                with connect(guichet) as client:
                    turned_away += ask(client) == b""
        finally:
            done.set()
            for worker in workers:
                worker.join(helpers.DEADLINE)
    assert turned_away > 100
    assert set(answers) == {TABLE_SIZE}, "a client at work lost its connection"
    assert 1 <= guichet.output.count("trop de clients (3 clients)") <= 5


def test_idle_timeout(server: helpers.Servers) -> None:
    """Who says nothing leaves, who works stays. (Fails without SO_RCVTIMEO, or with a limit for whole sessions.)"""
    guichet = server("q5_sockets", "--idle-timeout", "0.5")
    with connect(guichet) as silent, connect(guichet) as worker:
        name = re.escape(raw_tcp.name_of(silent))

        def cut() -> bool:
            assert ask(worker) != b""
            return bool(re.search(rf"client {name} déconnecté, trop longtemps silencieux", guichet.output))

        helpers.eventually(cut, "the silent client cut")
        assert raw_tcp.is_closed(silent)
        assert seats_left(worker) == 120


def test_out_of_descriptors(server: helpers.Servers) -> None:
    """Those inside are served, the most silent one gives way, and all is well when the crowd has gone.

    (Fails when EMFILE ends the accept loop, and when it is logged at each try.)
    """
    guichet = server("q5_sockets")
    open_now = len(os.listdir(f"/proc/{guichet.pid}/fd"))
    _, hard = resource.prlimit(guichet.pid, resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as crowd:
        inside = [crowd.enter_context(connect(guichet)) for _ in range(5)]
        assert all(ask(client) for client in inside)
        resource.prlimit(guichet.pid, resource.RLIMIT_NOFILE, (open_now + 5, hard))
        waiting = [crowd.enter_context(connect(guichet)) for _ in range(20)]
        guichet.wait_for(r"trop de clients \(trop de fichiers ouverts")
        for client in waiting[:2]:  # served in the places of two who were silent
            assert len(ask(client)) == TABLE_SIZE
        assert sum(_is_open(client) for client in inside) <= 3
    with connect(guichet) as client:
        assert ask(client, reserve(0, 1)) == YES
    assert guichet.output.count("trop de clients") <= 3
    assert "Traceback" not in guichet.output
    resource.prlimit(guichet.pid, resource.RLIMIT_NOFILE, (hard, hard))


def _is_open(connection: socket.socket) -> bool:
    with contextlib.suppress(*raw_tcp.GONE):
        connection.setblocking(False)
        try:
            return connection.recv(1) != b""
        except BlockingIOError:
            return True
    return False


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """Let this process open MANY connections, and a server that inherits the limit take them."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limits[1] != resource.RLIM_INFINITY and limits[1] < MANY + SPARE:
        pytest.skip(f"at most {limits[1]} descriptors a process")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(limits[0], MANY + SPARE), limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_a_thousand_connections(server: helpers.Servers, many_descriptors: None) -> None:
    """All at once, each served, and when they have left so have their threads.

    (Fails with --max-clients 500, and with a thread that waits for its client's next request for ever.)
    """
    guichet = server("q5_sockets", "--log-level", "warning")
    before = thread_count(guichet.pid)
    with contextlib.ExitStack() as crowd:
        clients = [crowd.enter_context(connect(guichet)) for _ in range(MANY)]
        for client in clients:
            client.sendall(LIST)
        for client in clients:
            assert len(raw_tcp.receive(client, TABLE_SIZE)) == TABLE_SIZE
        assert thread_count(guichet.pid) >= before + MANY
        for client in clients[::50]:
            assert ask(client, reserve(2, 1)) == YES
    helpers.eventually(lambda: thread_count(guichet.pid) == before, "all threads gone")
    assert helpers.places_in_file(guichet.directory, 2) == helpers.PLACES[2] - MANY // 50
    assert "trop de clients" not in guichet.output


# Its client, when the server goes away


def test_reconnect_from_the_menu(server: helpers.Servers) -> None:
    """The server is killed and comes back during a session: the client says so, asks, and goes on.

    (Fails with `reconnect` taken off the session.)
    """
    first = server("q5_sockets", "--host", "localhost")
    port = str(first.address()[1])
    with terminal(first) as person:
        person.expect("Votre choix : ")
        person.type("1\n")
        assert "120 places" in person.expect("Votre choix : ")
        first.kill()
        person.type("1\n")
        assert re.search("Erreur : le serveur a (fermé|coupé) la connexion", person.expect("(o/n) : "))
        person.type("o\n")
        assert "aucun serveur" in person.expect("(o/n) : ")
        server("q5_sockets", "--host", "localhost", "--port", port, directory=first.directory)
        person.type("o\n")
        assert "Reconnecté." in person.expect("Votre choix : ")
        person.type("2\n0\n2\n")
        assert "Réservation OK" in person.expect("Votre choix : ")
        person.type("0\n")
        assert person.end() == 0
    assert helpers.places_in_file(first.directory, 0) == 118


def test_no_reconnection_wanted(server: helpers.Servers) -> None:
    """ "n" leaves with exit code 3. (Fails when the menu swallows NoServerError.)"""
    guichet = server("q5_sockets")
    with terminal(guichet) as person:
        person.expect("Votre choix : ")
        assert guichet.stop() == 0
        person.type("1\n")
        person.expect("(o/n) : ")
        person.type("n\n")
        assert person.end() == 3


def _close(client: socket.socket) -> None:
    """Read the request, answer nothing."""
    client.recv(12)


def _close_half_way(client: socket.socket) -> None:
    client.recv(12)
    client.sendall(bytes(719))


def _reset(client: socket.socket) -> None:
    client.recv(12)
    raw_tcp.reset(client)


def _say_nothing(client: socket.socket) -> None:
    client.recv(13)


def _trickle(client: socket.socket) -> None:
    """Never silent for the client's --timeout, never done either."""
    with contextlib.suppress(*raw_tcp.GONE):
        while True:
            client.sendall(b"\0")
            time.sleep(0.05)


@contextlib.contextmanager
def _false_server(behave: Callable[[socket.socket], None]) -> Iterator[list[str]]:
    """Listen, and behave(connection) for one client; yield the options that lead there."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.settimeout(helpers.DEADLINE)

        def serve() -> None:
            with listener.accept()[0] as client:
                client.settimeout(helpers.DEADLINE)
                behave(client)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield ["--host", "127.0.0.1", "--port", str(listener.getsockname()[1])]
        finally:
            thread.join()


@pytest.mark.parametrize("behave", [_close, _close_half_way, _reset, _say_nothing, _trickle], ids=lambda f: f.__name__)
def test_a_server_that_breaks_off(behave: Callable[[socket.socket], None]) -> None:
    """One line and exit code 3, never an endless wait. (Fails without the deadline of exchange(), in the last two.)"""
    with _false_server(behave) as options:
        done = helpers.run(helpers.client_command("q5_sockets", *options, "--timeout", "0.7", "list"), timeout=10)
    assert (done.returncode, done.stdout) == (3, "")
    assert re.search("le serveur a (fermé|coupé) la connexion|pas de réponse", helpers.one_line(done))


@pytest.mark.parametrize("banner", [b"SSH-2.0-x\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x02", b"\xff"], ids=repr)
def test_what_is_no_answer_is_not_a_yes(banner: bytes) -> None:
    """Another program on that port acknowledges no reservation. (Fails with every byte but 0 taken for a yes.)"""

    def greet(client: socket.socket) -> None:
        client.sendall(banner)
        _say_nothing(client)

    with _false_server(greet) as options:
        done = helpers.run(helpers.client_command("q5_sockets", *options, "reserve", "0", "1"))
    assert (done.returncode, done.stdout) == (3, "")
    helpers.one_line(done)


def test_nobody_there() -> None:
    """Connection refused: one line, exit code 3. (Fails with the error of connect(2) let out.)"""
    port = str(helpers.free_port())
    done = helpers.run(helpers.client_command("q5_sockets", "--port", port, "list"))
    assert done.returncode == 3
    assert f"aucun serveur : 127.0.0.1 port {port} : connexion refusée" in helpers.one_line(done)


def test_server_killed_during_a_request(server: helpers.Servers) -> None:
    """The one-shot client that waits for an answer gets an error. (Fails with OSError let out of exchange().)"""
    guichet = server("q5_sockets")
    helpers.freeze([guichet.pid])
    with helpers.background(guichet.client_command("reserve", "0", "1")) as client:
        helpers.eventually(lambda: helpers.request_waits(guichet), "request sent")
        guichet.process.send_signal(signal.SIGKILL)
        output, _ = client.communicate(timeout=helpers.DEADLINE)
    assert client.returncode == 3, output
    assert re.search("le serveur a (fermé|coupé) la connexion", output.decode())
    assert helpers.places_in_file(guichet.directory, 0) == 120
