"""Question 5 in TLS: who gets in, who does not, that both sides say why, and that the service goes on each time."""

from __future__ import annotations

import contextlib
import datetime
import os
import random
import re
import signal
import socket
import ssl
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spectacles.lab.programs.process import ServerProcess
from tests import helpers, raw_tcp
from tests.raw_tcp import LIST, TABLE_SIZE, YES, ask, connect, farewell, reserve, seats_left
from tests.test_menu import terminal

pytest.importorskip("trustme", reason="the extra `tls` is not installed: no certificates can be made")

Certificates = Callable[..., Path]


def certs(*arguments: str | Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run `spectacles certs`."""
    return helpers.run([sys.executable, "-m", "spectacles", "certs", *arguments], env=env)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of certificates."""
    path = tmp_path_factory.mktemp("certs")
    done = certs(path)
    assert (done.returncode, done.stderr) == (0, "")
    return path


@pytest.fixture(scope="module")
def strange(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of certificates of another authority, for another host."""
    path = tmp_path_factory.mktemp("strange")
    assert certs(path, "--host", "guichet.example.org").returncode == 0
    return path


def server_options(path: Path) -> list[str]:
    return ["--tls-cert", str(path / "server.pem"), "--tls-key", str(path / "server.key")]


def client_options(path: Path) -> list[str]:
    return ["--cert", str(path / "client.pem"), "--key", str(path / "client.key")]


def trust(path: Path) -> list[str]:
    return ["--tls", "--ca", str(path / "ca.pem")]


def context(path: Path, *, check: bool = True) -> ssl.SSLContext:
    """Return what a client needs to trust the authority in `path`; TLS 1.2 allowed, unlike ours."""
    made = ssl.create_default_context(cafile=str(path / "ca.pem"))
    made.check_hostname = check
    return made


# spectacles certs


def test_certs_files(tmp_path: Path) -> None:
    """Five files, the keys 0600 whatever the umask; valid now and for months; a second run replaces nothing.

    (Fails without the mode in _write, with O_TRUNC for O_EXCL, with LIFETIME 0.)
    """
    path = tmp_path / "un nom avec espaces" / "certs"
    done = helpers.run(["sh", "-c", 'umask 0; exec "$@"', "sh", sys.executable, "-m", "spectacles", "certs", path])
    assert (done.returncode, done.stderr) == (0, "")
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.iterdir()}
    expected = {"ca.pem": 0o644, "server.pem": 0o644, "client.pem": 0o644, "server.key": 0o600, "client.key": 0o600}
    assert modes == expected
    for name in ("ca.pem", "server.pem", "client.pem"):
        fields = ssl._ssl._test_decode_cert(str(path / name))  # type: ignore[attr-defined]
        now = datetime.datetime.now(datetime.UTC).timestamp()
        assert ssl.cert_time_to_seconds(fields["notBefore"]) < now
        assert ssl.cert_time_to_seconds(fields["notAfter"]) > now + 86400 * 180
        if name == "server.pem":
            names = set(fields["subjectAltName"])
            assert names == {("DNS", "localhost"), ("IP Address", "127.0.0.1"), ("IP Address", "0:0:0:0:0:0:0:1")}
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    again = certs(path)
    assert again.returncode == 1
    assert "existe déjà" in helpers.one_line(again)
    (path / "ca.pem").unlink()
    before.pop("ca.pem")
    again = certs(path)  # the first name is free, the second is not: all or nothing
    assert again.returncode == 1
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before


def test_certs_never_writes_through_a_link(tmp_path: Path) -> None:
    """A symbolic link planted there counts as a file that exists. (Fails without O_EXCL.)"""
    target = tmp_path / "target"
    (tmp_path / "certs").mkdir()
    (tmp_path / "certs" / "server.key").symlink_to(target)
    assert certs(tmp_path / "certs").returncode == 1
    assert not target.exists()


def test_certs_without_the_extra(tmp_path: Path) -> None:
    """One line says what to install, and nothing is made. (Fails with the ImportError let out.)"""
    (tmp_path / "trustme.py").write_text("raise ImportError('not here')\n")
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{helpers.ROOT}"}
    done = certs(tmp_path / "certs", env=env)
    assert (done.returncode, done.stdout) == (1, "")
    assert "pip install" in helpers.one_line(done)
    assert not (tmp_path / "certs").exists()


@pytest.mark.parametrize("host", ["", "a b", "*.example.org", "10.0.0.0/8", "a@b.example", "xn--a"])
def test_certs_for_no_host(tmp_path: Path, host: str) -> None:
    """Wildcards, networks and mailboxes are no hosts. (Fails without _identity: trustme takes most of these.)"""
    done = certs(tmp_path / "certs", "--host", host)
    assert done.returncode == 2
    assert f"« {host} »" in helpers.one_line(done)
    assert not (tmp_path / "certs").exists()


def test_certs_commands_work_as_printed(tmp_path: Path, server: helpers.Servers) -> None:
    """What it prints is copied into two shells. (Fails with a word of either command changed, or without quotes.)"""
    path = tmp_path / "l'école de test"
    printed = certs(path).stdout
    found = re.findall(r"^  python -m spectacles (server|client) 5 (.*)$", printed, re.MULTILINE)
    assert [word for word, _ in found] == ["server", "client"]
    options = [helpers.run(["sh", "-c", rf"printf '%s\n' {line}"]).stdout.splitlines() for _, line in found]
    guichet = server("q5_sockets", *options[0])
    assert "TLS 1.3" in guichet.output
    done = guichet.client(*options[1], "reserve", "0", "1")
    assert (done.returncode, done.stderr) == (0, "")
    assert guichet.client(*trust(path), "reserve", "0", "1").returncode == 3  # --client-ca was among them


# Who gets in


def test_good_path(server: helpers.Servers, made: Path) -> None:
    """The client of scripts and the menu, by address and by name; TLS 1.3. (Fails with the handshake left out.)"""
    guichet = server("q5_sockets", *server_options(made))
    assert "TLS 1.3" in guichet.output
    _, port = guichet.address()
    for host in ("127.0.0.1", "localhost"):
        options = ["--host", host, "--port", str(port), *trust(made)]
        done = helpers.run(helpers.client_command("q5_sockets", *options, "reserve", "0", "1"))
        assert (done.returncode, done.stdout, done.stderr) == (0, "Réservation OK\n", "")
    done = guichet.client(*trust(made), stdin="1\n2\n0\n1\n0\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert "118 places" in done.stdout
    with connect(guichet, context(made)) as client:
        assert isinstance(client, ssl.SSLSocket)
        assert client.version() == "TLSv1.3"
        assert seats_left(client) == 117


def test_client_certificate(server: helpers.Servers, made: Path) -> None:
    """With --client-ca those who have one are served. (Fails with load_verify_locations left out.)"""
    guichet = server("q5_sockets", *server_options(made), "--client-ca", str(made / "ca.pem"))
    done = guichet.client(*trust(made), *client_options(made), "reserve", "0", "1")
    assert (done.returncode, done.stderr) == (0, "")


# Who does not


def check_goes_on(guichet: ServerProcess, *options: str) -> None:
    """Check that an honest client is served, and that nobody has taken a seat."""
    done = guichet.client(*options, "consult", "0")
    assert (done.returncode, done.stdout) == (0, "120 places\n"), done


def test_wrong_authority(server: helpers.Servers, made: Path, strange: Path) -> None:
    """A client that trusts somebody else sends nothing. (Fails with CERT_NONE in the client.)"""
    guichet = server("q5_sockets", *server_options(made))
    for options in (trust(strange), ["--tls"]):
        done = guichet.client(*options, "reserve", "0", "1")
        assert (done.returncode, done.stdout) == (3, "")
        assert "certificat du serveur refusé" in helpers.one_line(done)
    guichet.wait_for(r"TLS refusé \(.*UNKNOWN_CA\)")
    check_goes_on(guichet, *trust(made))


def test_wrong_host_name(server: helpers.Servers, strange: Path) -> None:
    """A good certificate of another host is not enough. (Fails with check_hostname off in the client.)"""
    guichet = server("q5_sockets", *server_options(strange))
    done = guichet.client(*trust(strange), "reserve", "0", "1")
    assert (done.returncode, done.stdout) == (3, "")
    assert "certificat du serveur refusé" in helpers.one_line(done)
    assert "127.0.0.1" in done.stderr
    guichet.wait_for("déconnecté")
    with connect(guichet, context(strange), "guichet.example.org") as client:
        assert seats_left(client) == 120


@pytest.mark.parametrize("command", [("list",), ("reserve", "0", "1")], ids=lambda words: words[0])
def test_plain_client_on_tls_port(
    server: helpers.Servers, made: Path, c_programs: Path, command: tuple[str, ...]
) -> None:
    """Ours says what may be missing; the C one at least does not take noise for an answer; the server says why.

    (Fails without the hint of a ClientConnection that never got an answer.)
    """
    guichet = server("q5_sockets", *server_options(made))
    done = guichet.client(*command)
    assert (done.returncode, done.stdout) == (3, "")
    assert "--tls" in helpers.one_line(done)
    _, port = guichet.address()
    done = helpers.run([c_programs / "q5_client", *command, "--host", "127.0.0.1", "--port", str(port)])
    assert (done.returncode, done.stdout) == (3, "")
    guichet.wait_for(r"TLS refusé \(WRONG_VERSION_NUMBER\)")
    check_goes_on(guichet, *trust(made))


def test_tls_client_on_plain_port(server: helpers.Servers, made: Path) -> None:
    """Both sides name the misunderstanding. (Fails without the look at the first two bytes in requests().)"""
    guichet = server("q5_sockets")
    done = guichet.client(*trust(made), "reserve", "0", "1")
    assert (done.returncode, done.stdout) == (3, "")
    assert "ne parle pas TLS" in helpers.one_line(done)
    guichet.wait_for("un client TLS sur un port en clair")
    check_goes_on(guichet)


def test_no_client_certificate(server: helpers.Servers, made: Path) -> None:
    """Ten times, since the reason must not lose a race against the end of the connection.

    (Fails with CERT_OPTIONAL, or without _linger(): most then read "ne parle pas TLS"; and without was_refused(): the
    reservation of somebody whom the server does not let in would be in doubt.)
    """
    guichet = server("q5_sockets", *server_options(made), "--client-ca", str(made / "ca.pem"))
    for number in range(10):
        command = ("reserve", "0", "1") if number % 2 else ("list",)
        done = guichet.client(*trust(made), *command)
        assert (done.returncode, done.stdout) == (3, "")
        assert "exige un certificat de client" in helpers.one_line(done)
        assert "peut-être" not in done.stderr
    guichet.wait_for("TLS refusé .*PEER_DID_NOT_RETURN_A_CERTIFICATE")
    check_goes_on(guichet, *trust(made), *client_options(made))


def test_client_certificate_of_another_authority(server: helpers.Servers, made: Path, strange: Path) -> None:
    """Nor with a stranger's. (Fails with the strangers' authority added to --client-ca.)"""
    guichet = server("q5_sockets", *server_options(made), "--client-ca", str(made / "ca.pem"))
    for _ in range(3):
        done = guichet.client(*trust(made), *client_options(strange), "reserve", "0", "1")
        assert (done.returncode, done.stdout) == (3, "")
        assert "ne connaît pas l'autorité du certificat de client" in helpers.one_line(done)
    guichet.wait_for("TLS refusé .*CERTIFICATE_VERIFY_FAILED")
    check_goes_on(guichet, *trust(made), *client_options(made))


def test_tls_1_2_is_refused(server: helpers.Servers, made: Path) -> None:
    """By the server, and by our client. (Fails with minimum_version left at its default, in either.)"""
    guichet = server("q5_sockets", *server_options(made))
    old = context(made)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError, match=r"(?i)protocol.version"):
        connect(guichet, old)
    guichet.wait_for("TLS refusé .*UNSUPPORTED_PROTOCOL")
    check_goes_on(guichet, *trust(made))

    old = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    old.load_cert_chain(made / "server.pem", made / "server.key")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.settimeout(helpers.DEADLINE)

        def serve() -> None:
            with contextlib.suppress(OSError), listener.accept()[0] as accepted:
                old.wrap_socket(accepted, server_side=True)

        thread = threading.Thread(target=serve)
        thread.start()
        port = str(listener.getsockname()[1])
        done = helpers.run(helpers.client_command("q5_sockets", "--port", port, *trust(made), "list"))
        thread.join()
    assert done.returncode == 3
    assert "PROTOCOL_VERSION" in helpers.one_line(done)


# Files that are no certificates


def test_bad_files_of_the_server(directory: Path, made: Path, strange: Path) -> None:
    """Exit code 2, one line that names the file. (Fails with _load's try taken out.)"""
    (directory / "rien").write_text("ceci n'est pas un certificat\n")
    cert, key, ca = str(made / "server.pem"), str(made / "server.key"), str(made / "ca.pem")
    nothing, junk = str(directory / "absent"), str(directory / "rien")
    for options, named in (
        (["--tls-cert", nothing, "--tls-key", key], nothing),
        (["--tls-cert", cert, "--tls-key", nothing], nothing),
        (["--tls-cert", junk, "--tls-key", key], junk),
        (["--tls-cert", cert, "--tls-key", junk], junk),
        (["--tls-cert", str(directory), "--tls-key", key], str(directory)),
        (["--tls-cert", cert, "--tls-key", str(strange / "server.key")], cert),
        (["--tls-cert", cert], cert),
        (["--tls-cert", cert, "--tls-key", key, "--client-ca", nothing], nothing),
        (["--tls-cert", cert, "--tls-key", key, "--client-ca", junk], junk),
        (["--tls-key", key], "--tls-cert"),
        (["--client-ca", ca], "--tls-cert"),
    ):
        command = helpers.server_command("q5_sockets", "--dir", str(directory / "guichet"), "--port", "0", *options)
        done = helpers.run(command)
        assert done.returncode == 2, (options, done)
        assert named in helpers.one_line(done)


def test_bad_files_of_the_client(tmp_path: Path, made: Path, strange: Path) -> None:
    """Exit code 2, one line that names the file, before anything is sent. (Fails with _load's try taken out.)"""
    (tmp_path / "rien").write_text("ceci n'est pas un certificat\n")
    nothing, junk = str(tmp_path / "absent"), str(tmp_path / "rien")
    cert = str(made / "client.pem")
    for options, named in (
        (["--tls", "--ca", nothing], nothing),
        (["--tls", "--ca", junk], junk),
        (["--tls", "--ca", str(tmp_path)], str(tmp_path)),
        ([*trust(made), "--cert", nothing, "--key", nothing], nothing),
        ([*trust(made), "--cert", cert, "--key", junk], junk),
        ([*trust(made), "--cert", cert, "--key", str(strange / "client.key")], cert),
        ([*trust(made), "--cert", cert], cert),
        (["--ca", cert], "--tls"),
        (["--cert", cert], "--tls"),
    ):
        done = helpers.run(helpers.client_command("q5_sockets", "--port", "1", *options, "list"))
        assert done.returncode == 2, (options, done)
        assert named in helpers.one_line(done)


def test_what_is_wrong_with_a_file_is_said_in_french(tmp_path: Path, made: Path, strange: Path) -> None:
    """Which of the two files, and what: no "[SSL] PEM lib". (Fails with the words of OpenSSL let through.)"""
    from cryptography.hazmat.primitives import serialization as s

    key = s.load_pem_private_key((made / "server.key").read_bytes(), None)
    phrase, der, cut = tmp_path / "phrase.key", tmp_path / "server.der", tmp_path / "cut.pem"
    phrase.write_bytes(
        key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.BestAvailableEncryption(b"une phrase"))
    )
    pem = (made / "server.pem").read_text()
    der.write_bytes(ssl.PEM_cert_to_DER_cert(pem[pem.index("-----BEGIN") :]))
    cut.write_text(pem[: len(pem) // 2])
    (tmp_path / "rien").write_text("rien")
    own_key, own = str(made / "server.key"), str(made / "server.pem")
    for cert, key_file, said in (
        (own, str(phrase), f"{phrase} : clef protégée par une phrase de passe"),
        (own, None, f"{own} : aucun bloc PEM « PRIVATE KEY » dans ce fichier ; la clef est dans un autre ?"),
        (own, str(tmp_path / "rien"), f"{tmp_path}/rien : aucun bloc PEM « PRIVATE KEY »"),
        (str(tmp_path / "rien"), own_key, f"{tmp_path}/rien : aucun bloc PEM « CERTIFICATE »"),
        (str(der), own_key, "-inform DER"),
        (str(cut), own_key, "PEM abîmé"),
        (own, str(strange / "server.key"), "la clef n'est pas celle du certificat"),
        (own, str(tmp_path), f"{tmp_path} : c'est un répertoire"),
        (str(tmp_path / "absent"), own_key, f"{tmp_path}/absent : aucun fichier ou répertoire de ce nom"),
    ):
        keys = ["--tls-key", key_file] if key_file else []
        options = ["--dir", str(tmp_path / "guichet"), "--port", "0", "--tls-cert", cert, *keys]
        done = helpers.run(helpers.server_command("q5_sockets", *options))
        assert done.returncode == 2
        assert said in helpers.one_line(done)
        assert not re.search(r"\[SSL|PEM lib|Errno", done.stderr)


def test_what_is_wrong_with_a_certificate_is_said_in_french(
    server: helpers.Servers, tmp_path: Path, made: Path, strange: Path
) -> None:
    """Expired, not yet valid, another name, an unknown authority. (Fails with OpenSSL's own message.)"""
    import trustme

    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    cases: list[tuple[str, dict[str, Any], str]] = [
        ("127.0.0.1", {"not_after": now - day}, "certificat du serveur refusé : expiré"),
        ("127.0.0.1", {"not_before": now + day}, "pas encore valable"),
        ("127.0.0.2", {}, "établi pour une autre adresse"),
    ]
    for name, dates, said in cases:
        made_for = authority.issue_cert(name, **dates)
        path = tmp_path / "server.pem"
        made_for.private_key_and_cert_chain_pem.write_to_path(path)
        guichet = server("q5_sockets", "--tls-cert", str(path))
        done = guichet.client("--tls", "--ca", str(tmp_path / "ca.pem"), "list")
        assert done.returncode == 3
        assert said in helpers.one_line(done)
        done = guichet.client(*trust(strange), "list")
        assert "certificat du serveur refusé : autorité inconnue" in helpers.one_line(done)


# Nobody in the way


def test_stalled_handshakes(server: helpers.Servers, made: Path) -> None:
    """Connections that never shake hands give way, though they fill --max-clients; none is kept for ever.

    (Fails when the socket of a handshake is out of reach of stop(), as with wrap_socket() in the thread.)
    """
    guichet = server("q5_sockets", *server_options(made), "--max-clients", "2")
    with connect(guichet) as silent, connect(guichet) as half:
        half.sendall(b"\x16\x03\x01\x02\x00\x01\x00")  # the beginning of a ClientHello

        def served() -> bool:
            with contextlib.suppress(OSError), connect(guichet, context(made)) as client:
                return len(ask(client)) == TABLE_SIZE
            return False

        helpers.eventually(served, "a client served")
        assert raw_tcp.is_closed(silent)
    check_goes_on(guichet, *trust(made))


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01"], ids=["nothing", "half"])
def test_handshake_time_limit(server: helpers.Servers, made: Path, sent: bytes) -> None:
    """A handshake has its own limit, --idle-timeout if that is less. (Fails with SO_RCVTIMEO: ssl then waits on.)"""
    guichet = server("q5_sockets", *server_options(made), "--idle-timeout", "0.5")
    with connect(guichet) as stalled, connect(guichet, context(made)) as client:
        stalled.sendall(sent)

        def refused() -> bool:
            assert ask(client) != b""
            return "TLS refusé" in guichet.output

        helpers.eventually(refused, "the stalled handshake ended")
        assert raw_tcp.is_closed(stalled)


@pytest.mark.parametrize("sent", [0, 5, 17])
def test_idle_timeout(server: helpers.Servers, made: Path, sent: int) -> None:
    """Silence and half requests, in TLS. (Fails with SO_RCVTIMEO, which a blocking ssl socket ignores.)"""
    guichet = server("q5_sockets", *server_options(made), "--idle-timeout", "0.5")
    with connect(guichet, context(made)) as client:
        client.sendall((reserve(0, 1) * 2)[:sent])
        assert raw_tcp.receive(client, sent // 12) == YES * (sent // 12)
        assert raw_tcp.is_closed(client)
        assert "trop longtemps silencieux" in farewell(guichet, client)


def test_a_client_that_never_reads(server: helpers.Servers, made: Path) -> None:
    """With its buffers full it waits alone, and not for ever. (Fails with SO_SNDTIMEO, ignored as SO_RCVTIMEO is.)"""
    guichet = server("q5_sockets", *server_options(made), "--idle-timeout", "1")
    with connect(guichet, context(made)) as deaf:
        assert raw_tcp.fill(deaf) > 10_000
        with connect(guichet, context(made)) as other:
            assert seats_left(other) == 120
        assert "ne lit pas" in farewell(guichet, deaf)


def test_framing(server: helpers.Servers, made: Path) -> None:
    """Records cut requests otherwise than segments do: single bytes, and many requests in one record.

    (Fails with one recv() per request.)
    """
    guichet = server("q5_sockets", *server_options(made))
    with connect(guichet, context(made)) as client:
        for byte in reserve(0, 1):
            client.sendall(bytes([byte]))
        assert raw_tcp.receive(client, 1) == YES
        client.sendall((LIST + reserve(0, 1)) * 10)
        for _ in range(10):
            assert len(raw_tcp.receive(client, TABLE_SIZE)) == TABLE_SIZE
            assert raw_tcp.receive(client, 1) == YES
        client.sendall(b"\x07\0\0\0" + bytes(8))
        assert raw_tcp.is_closed(client)
        name = raw_tcp.name_of(client)
    assert "requête de type 7 inconnue" in farewell(guichet, name)


def test_large_traffic(server: helpers.Servers, made: Path) -> None:
    """Several clients, several MB each way, every byte right. (Fails with one byte of a reply dropped.)"""
    guichet = server("q5_sockets", *server_options(made), "--log-level", "warning", "--no-fsync")
    table = (guichet.directory / "spectacles.dat").read_bytes()
    right: list[bool] = []

    def work() -> None:
        with connect(guichet, context(made)) as client:
            for _ in range(40):
                client.sendall(LIST * 50)
                right.append(raw_tcp.receive(client, TABLE_SIZE * 50) == table * 50)

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(helpers.DEADLINE * 3)
    assert right == [True] * 120


def test_garbage(server: helpers.Servers, made: Path, rng: random.Random) -> None:
    """Random bytes before, in and in place of the handshake. (Fails with any exception let out of __enter__().)"""
    guichet = server("q5_sockets", *server_options(made), "--idle-timeout", "1")
    hello = _client_hello(made)
    with contextlib.ExitStack() as stack:
        for _ in range(150):
            client = stack.enter_context(connect(guichet))
            data = bytearray(hello)
            if rng.random() < 0.5:
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            data = data[: rng.randrange(len(data))]
            if rng.random() < 0.5:
                data += rng.randbytes(rng.randrange(2000))
            with contextlib.suppress(OSError):
                client.sendall(data)
                if rng.random() < 0.5:
                    raw_tcp.reset(client)
            if rng.random() < 0.05:
                with connect(guichet, context(made)) as honest:
                    assert seats_left(honest) == 120
    check_goes_on(guichet, *trust(made))
    assert "ERROR" not in guichet.output


def _client_hello(made: Path) -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context(made, check=False).wrap_bio(incoming, outgoing)
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def test_stop_with_live_connections(server: helpers.Servers, made: Path) -> None:
    """Served, in its handshake, deaf: the server ends cleanly and each is told. (Fails with stop() emptied.)"""
    guichet = server("q5_sockets", *server_options(made))
    with connect(guichet, context(made)) as idle, connect(guichet) as shaking, connect(guichet, context(made)) as deaf:
        assert ask(idle, reserve(0, 1)) == YES
        raw_tcp.fill(deaf)
        assert guichet.stop(signal.SIGTERM) == 0
        assert raw_tcp.is_closed(idle)
        assert len(raw_tcp.receive(shaking, 100)) < 100  # an alert at most, then the end
        assert farewell(guichet, idle)
    assert not re.search("Traceback|ERROR", guichet.output)
    assert helpers.places_in_file(guichet.directory, 0) == 119


def test_the_server_stops_during_a_session(server: helpers.Servers, made: Path) -> None:
    """The menu says so in words, and asks whether to reconnect. (Fails with TLS alerts shown as they are.)"""
    guichet = server("q5_sockets", *server_options(made))
    with terminal(guichet, *trust(made)) as person:
        person.type("1\n")
        person.expect("120 places")
        assert guichet.stop(signal.SIGTERM) == 0
        person.type("1\n")
        shown = person.expect("(o/n) : ")
        assert re.search(r"Erreur : (le serveur a fermé la connexion|connexion coupée par le serveur)", shown)
        assert "ALERT" not in shown
        person.type("n\n")
        assert person.end() == 3


def test_plain_server_without_ssl(server: helpers.Servers, tmp_path: Path) -> None:
    """Plain TCP needs neither trustme nor the ssl module. (Fails with `import ssl` at the top of channel.py.)"""
    for name in ("ssl", "trustme", "cryptography"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('not here')\n")
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{helpers.ROOT}"}
    guichet = server("q5_sockets", env=env)
    done = helpers.run(guichet.client_command("reserve", "0", "1"), env=env)
    assert (done.returncode, done.stderr) == (0, "")
