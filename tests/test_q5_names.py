"""Question 5 on names with several addresses, with few descriptors, and the words for what goes wrong."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from spectacles.common.errors import HeldError
from spectacles.lab.programs.process import ServerError
from spectacles.q5_sockets import tls
from tests import helpers, raw_tcp
from tests.raw_tcp import ask, connect, seats_left

# What a resolver says of guichet.test, in the processes that find this on their path.
RESOLVER = """
import os, socket
real = socket.getaddrinfo
def getaddrinfo(host, port, family=0, type=0, proto=0, flags=0):
    if host != b"guichet.test" or flags & socket.AI_NUMERICHOST:
        return real(host, port, family, type, proto, flags)
    return [found for one in os.environ["ADDRESSES"].split() for found in real(one, port, family, type, proto, flags)]
socket.getaddrinfo = getaddrinfo
"""
ABSENT = "198.51.100.7"  # for documentation, RFC 5737: nobody's


def _has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        return True
    return False


IPV6 = pytest.mark.skipif(not _has_ipv6(), reason="no IPv6 on the loopback interface")


@pytest.fixture
def resolver(tmp_path: Path) -> Path:
    """A directory to be put on the path."""
    path = tmp_path / "resolver"
    path.mkdir()
    (path / "sitecustomize.py").write_text(RESOLVER)
    return path


def env(resolver: Path, *addresses: str) -> dict[str, str]:
    """Return the environment in which guichet.test has these addresses."""
    path = f"{resolver}{os.pathsep}{helpers.ROOT}"
    return {**os.environ, "PYTHONPATH": path, "ADDRESSES": " ".join(addresses)}


def client(port: int, *command: str, host: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    options = ["--host", host, "--port", str(port), "--timeout", "2"]
    return helpers.run(helpers.client_command("q5_sockets", *options, *command), env=env)


NAME = ("--host", "guichet.test")


@IPV6
@pytest.mark.parametrize("given", [True, False], ids=["a port", "port 0"])
def test_all_addresses_of_a_name(server: helpers.Servers, resolver: Path, given: bool) -> None:
    """Clients come by either, on one port; both are announced, claimed, and free again. (With the first address alone,
    the second client is refused.) One address is named twice, as /etc/hosts often does."""
    port = helpers.free_port() if given else 0
    here = env(resolver, "127.0.0.1", "::1", "127.0.0.1")
    for _ in range(2):
        guichet = server("q5_sockets", *NAME, "--port", str(port), env=here)
        _, used = guichet.address()
        assert used == port or not given
        assert guichet.output.count("en écoute sur") == 2
        assert f"port 127.0.0.1:{used}, port [::1]:{used}" in guichet.output
        for host in ("127.0.0.1", "::1", "guichet.test"):
            assert client(used, "reserve", "0", "1", host=host, env=here).returncode == 0
        assert re.search(r"client 127\.0\.0\.1:\d+ connecté", guichet.output)
        assert re.search(r"client \[::1\]:\d+ connecté", guichet.output)
        assert guichet.stop() == 0
        assert helpers.places_in_file(guichet.directory, 0) == helpers.PLACES[0] - 3


@IPV6
@pytest.mark.parametrize("both", [("0.0.0.0", "::"), ("::", "0.0.0.0")])
def test_everybody_twice(server: helpers.Servers, resolver: Path, both: tuple[str, str]) -> None:
    """The address "::" serves IPv4 too. (As it was, the port is taken, by us; --host * is both.)"""
    guichet = server("q5_sockets", *NAME, env=env(resolver, *both))
    _, port = guichet.address()
    for host in ("127.0.0.1", "::1"):
        assert client(port, "reserve", "0", "1", host=host).returncode == 0
    assert " WARNING " not in guichet.output


@IPV6
@pytest.mark.parametrize("taken", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("ours", [True, False])
def test_taken_on_one_of_two(server: helpers.Servers, resolver: Path, directory: Path, taken: str, ours: bool) -> None:
    """Refused as a whole, whoever has it; what the other address was bound for is free. (With errors of all but the
    first address passed over, it serves half.)"""
    family = socket.AF_INET6 if ":" in taken else socket.AF_INET
    with contextlib.ExitStack() as stack:
        if ours:
            guichet = server("q5_sockets", "--host", taken)
            _, port = guichet.address()
        else:
            other = stack.enter_context(socket.socket(family))
            other.bind((taken, 0))
            other.listen()
            port = other.getsockname()[1]
        command = helpers.server_command("q5_sockets", "--dir", str(directory), *NAME, "--port", str(port))
        done = helpers.run(command, env=env(resolver, "127.0.0.1", "::1"))
        assert done.returncode == 3
        line = helpers.one_line(done)
        assert raw_name(taken, port) in line
        assert f"PID {guichet.pid}" in line if ours else "adresse déjà utilisée" in line


def raw_name(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def test_port_0_until_it_is_free_on_all(monkeypatch: pytest.MonkeyPatch, resolver: Path) -> None:
    """The port found on one address is another program's on the next: another is found. (Without TRIES, refused.)"""
    from types import SimpleNamespace

    from spectacles.q5_sockets import channel

    real, calls = channel._listen_on, []

    def listen_on(family: int, address: tuple[object, ...]) -> socket.socket:
        calls.append(address)
        if len(calls) in (2, 4):
            raise HeldError("adresse déjà utilisée")
        return real(family, address)

    both = [(socket.AF_INET, ("127.0.0.1", 0)), (socket.AF_INET, ("127.0.0.2", 0))]
    monkeypatch.setattr(channel, "_resolve", lambda *_: both)
    monkeypatch.setattr(channel, "_listen_on", listen_on)
    claimed: list[str] = []
    sockets = channel._listen(SimpleNamespace(claim=lambda what, name: claimed.append(name)), "x", 0)  # type: ignore[arg-type]
    ports = {listening.getsockname()[1] for listening in sockets}
    for listening in sockets:
        listening.close()
    assert (len(calls), len(ports), len(claimed)) == (6, 1, 2)


def test_an_address_that_is_not_here(server: helpers.Servers, resolver: Path, directory: Path) -> None:
    """A name's other machines, or ::1 without IPv6: what there is is served, and the log says what is not.

    (With every address needed, code 1.) With none of them here, it is refused.
    """
    guichet = server("q5_sockets", *NAME, env=env(resolver, ABSENT, "127.0.0.1"))
    assert f"{ABSENT} : cette adresse n'est pas à cette machine" in guichet.output
    assert client(guichet.address()[1], "list", host="127.0.0.1").returncode == 0
    command = helpers.server_command("q5_sockets", "--dir", str(directory), *NAME, "--port", "0")
    done = helpers.run(command, env=env(resolver, ABSENT))
    assert done.returncode == 1
    assert ABSENT in done.stderr


@IPV6
def test_everybody(server: helpers.Servers) -> None:
    """`::` serves IPv4 and IPv6, whatever the system's default says, and an IPv4 client is written as one."""
    guichet = server("q5_sockets", "--host", "::")
    _, port = guichet.address()
    for host in ("127.0.0.1", "::1"):
        assert client(port, "reserve", "0", "1", host=host).returncode == 0
    assert re.search(r"RESERVATION\] client 127\.0\.0\.1:\d+ :", guichet.output)
    assert re.search(r"RESERVATION\] client \[::1\]:\d+ :", guichet.output)


def test_the_client_tries_each_address(server: helpers.Servers, resolver: Path) -> None:
    """The one that nobody serves does not matter, and one that does not answer leaves time for the next.

    (With the loop left at the first failure, nobody is reached.)
    """
    guichet = server("q5_sockets", "--host", "127.0.0.2")
    _, port = guichet.address()
    with contextlib.ExitStack() as stack:
        deaf = stack.enter_context(socket.socket())
        deaf.bind(("127.0.0.3", port))
        deaf.listen(0)
        for _ in range(4):  # its queue is full: SYNs are dropped
            one = stack.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(("127.0.0.3", port))
        here = env(resolver, "127.0.0.1", "127.0.0.3", "127.0.0.2")
        assert client(port, "reserve", "0", "1", host="guichet.test", env=here).returncode == 0
        done = client(port, "list", host="guichet.test", env=env(resolver, "127.0.0.1", "127.0.0.3"))
        both = f"127.0.0.1:{port} : connexion refusée ; 127.0.0.3:{port} : pas de réponse en 2 s\n"
        assert done.stderr.endswith(f"aucun serveur : guichet.test port {port} : {both}")
    done = client(port, "list", host="guichet.test", env=env(resolver, "127.0.0.1", "127.0.0.4"))
    assert f"guichet.test port {port} : connexion refusée\n" in done.stderr


# Few descriptors


@pytest.mark.parametrize("limit", [8, 16, 20, 32, 64])
def test_few_descriptors(directory: Path, server: helpers.Servers, limit: int) -> None:
    """A few are served, the silent giving way; or it is said at the start how many it takes.

    (With 64 kept for whatever, one client at a time of a limit of 64; with none kept, an internal error.)
    """
    command = ["prlimit", f"--nofile={limit}:{limit}", *helpers.server_command("q5_sockets")]
    if limit <= 16:
        done = helpers.run([*command, "--dir", str(directory), "--port", "0"])
        assert done.returncode == 1, done
        assert "Traceback" not in done.stderr + done.stdout
        assert re.search("descripteurs|trop de fichiers ouverts", done.stderr)
        return
    guichet = server.start("q5_sockets", command=command)
    try:
        guichet.wait_ready()
    except ServerError:  # more is open from the start here than elsewhere
        assert guichet.process.wait(helpers.DEADLINE) == 1
        assert "descripteurs" in guichet.output
        return
    with contextlib.ExitStack() as crowd:
        for _ in range(limit):
            crowd.enter_context(connect(guichet))

        def served() -> bool:
            with connect(guichet) as one:
                return ask(one) != b""

        helpers.eventually(served, "a place")
        if limit == 64:
            several = [crowd.enter_context(connect(guichet)) for _ in range(20)]
            helpers.eventually(lambda: sum(ask(one) != b"" for one in several) > 5, "places for several at once")
    with connect(guichet) as one:
        assert seats_left(one) == 120
    assert not re.search("Traceback|ERROR", guichet.output)
    assert guichet.stop() == 0


# The end of a connection, in TLS, and what else it says


def _error(kind: type[OSError], *arguments: object, word: str | None = None) -> OSError:
    error = kind(*arguments)
    if word is not None:
        error.reason = word  # type: ignore[attr-defined]
    return error


ENDS = [
    _error(ssl.SSLZeroReturnError, 6, "TLS/SSL connection has been closed (EOF) (_ssl.c:992)"),  # Python 3.11.2
    _error(ssl.SSLEOFError, 8, "EOF occurred in violation of protocol (_ssl.c:1002)"),
    _error(ssl.SSLSyscallError, 5, "Some I/O error occurred"),
    _error(ssl.SSLError, 1, "[SSL: UNEXPECTED_EOF_WHILE_READING]", word="UNEXPECTED_EOF_WHILE_READING"),
    ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
    ConnectionAbortedError(errno.ECONNABORTED, "Software caused connection abort"),
    BrokenPipeError(errno.EPIPE, "Broken pipe"),
    OSError(0, "Error"),  # a handshake cut short, in some versions
]


@pytest.mark.parametrize("error", ENDS, ids=repr)
def test_every_end_is_one(monkeypatch: pytest.MonkeyPatch, error: OSError) -> None:
    """In the handshake, in sending, in receiving: said in French as the end that it is, no [SSL], no Errno.

    (With any of them taken out of is_end(), that one fails.)
    """
    from argparse import Namespace

    from spectacles.common.errors import NoAnswerError, NoServerError
    from spectacles.q5_sockets.channel import ClientConnection

    class Socket:
        def __init__(self, when: str) -> None:
            self.when = when

        def send(self, data: bytes) -> int:
            if self.when == "send":
                raise error
            return len(data)

        def recv(self, size: int) -> bytes:
            raise error

        def pending(self) -> int:
            return 0

        def fileno(self) -> int:
            return quiet.fileno()

        def getsockopt(self, *_: object) -> bytes:
            return b""  # as a kernel that tells nothing of the connection

        def settimeout(self, value: float) -> None: ...
        def close(self) -> None: ...

    class Context:
        def wrap_socket(self, plain: socket.socket, **_: object) -> Socket:
            plain.close()
            if Context.when == "handshake":
                raise error
            return Socket(Context.when)

        when = ""

    quiet, _other = socket.socketpair()
    monkeypatch.setattr(tls, "client_context", lambda _: Context())
    with quiet, _other, socket.create_server(("127.0.0.1", 0)) as listener:
        options = Namespace(host="127.0.0.1", port=listener.getsockname()[1], timeout=1.0, tls=True)
        for when, kind, text in (
            ("handshake", NoServerError, "fermé la connexion pendant la négociation : il ne parle pas TLS"),
            ("send", NoServerError, "le serveur a coupé la connexion"),
            ("receive", NoAnswerError, "le serveur a coupé la connexion sans répondre"),
        ):
            Context.when = when
            with pytest.raises(NoServerError, match=text) as raised, ClientConnection(options) as connection:
                connection.exchange(bytes(12), 720)
            assert type(raised.value) is kind
            assert not re.search(r"\[|Errno|_ssl|EOF|Error|rror", str(raised.value).replace("erreur", ""))


WORDS = [
    ("WRONG_VERSION_NUMBER", "ne parle pas TLS"),
    ("HTTP_REQUEST", "parle HTTP"),
    ("NO_SHARED_CIPHER", "pas de chiffrement en commun"),
    ("SSLV3_ALERT_HANDSHAKE_FAILURE", "pas de chiffrement en commun"),
    ("TLSV1_ALERT_PROTOCOL_VERSION", "ne parle pas TLS 1.3"),
    ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "exige un certificat de client"),
    ("SSLV3_ALERT_CERTIFICATE_EXPIRED", "expiré"),
    ("SSL/TLS_ALERT_BAD_CERTIFICATE", "refuse le certificat de client"),
    ("RECORD_LAYER_FAILURE", "ne parle pas TLS"),
    ("DECRYPTION_FAILED_OR_BAD_RECORD_MAC", "altérées"),
    ("SOMETHING_NEW", "erreur TLS SOMETHING_NEW"),
]


@pytest.mark.parametrize(("word", "text"), WORDS)
def test_words_of_openssl(word: str, text: str) -> None:
    """A sentence for each; a word nobody has heard of is quoted as a name."""
    error = _error(ssl.SSLError, 1, f"[SSL: {word}] {word.lower().replace('_', ' ')} (_ssl.c:1000)", word=word)
    said = tls.explain(error, tls.SERVER)
    assert text in said
    assert not re.search(r"\[SSL|_ssl\.c", said)


@pytest.mark.skipif(not Path("/usr/bin/python3").exists(), reason="no other Python")
def test_the_system_s_python(server: helpers.Servers, tmp_path: Path) -> None:
    """A TLS client on a plain port, with the Python of the system: on Debian 12, 3.11.2, whose end of file differs."""
    python = "/usr/bin/python3"
    version = helpers.run([python, "-c", "import sys, ssl; print(sys.version_info >= (3, 11))"]).stdout
    if version != "True\n":
        pytest.skip("older than 3.11, or without ssl")
    guichet = server("q5_sockets")
    (tmp_path / "ca.pem").write_text("")
    _, port = guichet.address()
    command = [python, "-m", "spectacles.q5_sockets.client", "--port", str(port), "--tls", "list"]
    done = helpers.run(command, env={**os.environ, "PYTHONPATH": str(helpers.ROOT)})
    assert done.returncode == 3
    assert "il ne parle pas TLS" in helpers.one_line(done)
    assert sys.version_info >= (3, 11)
    assert raw_tcp.log_file(guichet).count("un client TLS sur un port en clair") == 1
