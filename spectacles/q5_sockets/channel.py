"""TCP for question 5: exact framing, optional TLS, and limits on what clients may use up.

A connection is a stream: read(2) may return half a request, or one and a half (defect 7). Here a request is taken when
its 12 bytes are there, however they came. Silence, garbage and vanished clients cost their own connection and nothing
else (defects 19 and 21). Time limits are the kernel's (SO_RCVTIMEO, SO_SNDTIMEO, socket(7)): no extra call per request.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import threading
import time
from functools import partial

from spectacles.common import log
from spectacles.common.errors import HeldError, NoServerError, SpectaclesError, UsageError, reason
from spectacles.common.limits import raise_descriptor_limit
from spectacles.common.protocol import LIST, RESERV, TCP_REQUEST

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from argparse import Namespace
    from collections.abc import Iterator

    from spectacles.common.lifecycle import Server
    from spectacles.common.protocol import Request

BACKLOG = 1024  # connections that wait for accept(2); the kernel may lower it to net.core.somaxconn
SEND_TIMEOUT = 10.0  # seconds that a client may leave no room for its replies
HANDSHAKE_TIMEOUT = 5.0  # seconds
LINGER = 1.0  # seconds that a client turned away gets to read why
EVICTION_AGE = 1.0  # seconds without a request after which a connection may have to give way to a new one
PAUSE = 0.05  # seconds before accept(2) is tried again without descriptors
EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


def address_text(address: tuple[object, ...]) -> str:
    """Return "127.0.0.1:5000" or "[::1]:5000"."""
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"


def _resolve(host: str, port: int, flags: int) -> list[tuple[int, tuple[object, ...]]]:
    try:
        name = host.encode("ascii")  # as bytes: a str would load the tables of IDNA even for an address
        try:
            # Without the resolver first: its libraries take 1 MB that an address does not need.
            found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=flags | socket.AI_NUMERICHOST)
        except socket.gaierror:
            found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=flags)
    except OSError as error:
        raise UsageError(f"hôte « {host} » : {reason(error)}") from None
    except UnicodeError:
        raise UsageError(f"hôte « {host} » : nom introuvable, sans accent peut-être") from None
    return [(family, address) for family, _, _, _, address in found]


def _set_timeout(connection: socket.socket, option: int, duration: float) -> None:
    whole = int(duration)
    connection.setsockopt(socket.SOL_SOCKET, option, struct.pack("@ll", whole, int((duration - whole) * 1e6)))


class Listener:
    """The server's listening socket and its connections. A context manager that closes them all.

    options: host, port (0: a free one), max_clients, idle_timeout (seconds), tls_cert, tls_key, client_ca.
    Raises HeldError when the port is taken, UsageError for a bad host or certificate, SpectaclesError.
    """

    def __init__(self, server: Server, options: Namespace) -> None:
        self._tls = _server_tls(options)
        self._idle_timeout = options.idle_timeout
        self._most = min(options.max_clients, max(raise_descriptor_limit() - 64, 1))
        self._connections: set[Connection] = set()
        self._lock = threading.Lock()
        self.closing = False
        self._crowded_at = float("-inf")
        family, address = _resolve(options.host, options.port, socket.AI_PASSIVE)[0]
        if options.port:
            server.claim("port", address_text(address))
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind(address)
            self._socket.listen(BACKLOG)
        except OSError as error:
            self._socket.close()
            message = f"{address_text(address)} : {reason(error)} ; choisissez un autre --port ou --host"
            raise (HeldError if error.errno == errno.EADDRINUSE else SpectaclesError)(message) from error
        self.address = address_text(self._socket.getsockname())
        if not options.port:
            server.claim("port", self.address)
        self._never = os.eventfd(0, os.EFD_CLOEXEC)
        log.announce(f"[INFO] Serveur TCP en écoute sur {self.address}" + (", TLS 1.3" if self._tls else ", en clair"))

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._socket.close()
        os.close(self._never)

    def connections(self) -> Iterator[Connection]:
        """Yield a Connection per client until stop(). Blocks.

        When there are too many, or no descriptors are left, the one that has been silent for longest gives way; if none
        has been silent for EVICTION_AGE, the new one is turned away. Either is logged once per crowd, not per client.
        """
        while not self.closing:
            try:
                accepted, address = self._socket.accept()  # blocks
            except OSError as error:
                if error.errno in EXHAUSTED:
                    self._make_room(reason(error))
                    time.sleep(PAUSE)
                # Else the client has left already, accept(2), or stop() was called.
                continue
            if len(self._connections) >= self._most and not self._make_room(f"{self._most} clients"):
                accepted.close()
                continue
            try:
                connection = Connection(self, accepted, address_text(address), self._tls, self._idle_timeout)
            except OSError:  # gone already, found in preparing for TLS
                accepted.close()
                continue
            with self._lock:
                self._connections.add(connection)
            yield connection

    def left(self, connection: Connection) -> None:
        """Forget a connection that has ended."""
        with self._lock:
            self._connections.discard(connection)

    def fileno(self) -> int:
        """Return a descriptor for Server.run() to wait on; there is no housekeeping, so it is never readable."""
        return self._never

    def tend(self) -> None:
        """Do nothing: every connection looks after itself."""

    def stop(self) -> None:
        """End connections(), and the requests() of every connection after the request in hand."""
        self.closing = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # makes a blocked accept(2) fail
        with self._lock:
            for connection in self._connections:
                connection.stop()

    def _make_room(self, why: str) -> bool:
        now = time.monotonic()
        with self._lock:
            oldest = min(self._connections, key=lambda connection: connection.active_at, default=None)
            found = oldest is not None and now - oldest.active_at >= EVICTION_AGE
            if oldest is not None and found:
                self._connections.discard(oldest)
                oldest.evicted = True
                oldest.stop(socket.SHUT_RDWR)
        if now - self._crowded_at > PAUSE * 20:
            what = "les plus silencieux cèdent leur place" if found else "les nouveaux sont éconduits"
            log.warning("[INFO] trop de clients (%s) : %s", why, what)
        self._crowded_at = now
        return found


class Connection:
    """One client's connection, from accept to close. A context manager, entered in the thread that serves it."""

    def __init__(
        self, listener: Listener, accepted: socket.socket, client: str, tls: ssl.SSLContext | None, idle_timeout: float
    ) -> None:
        self.client = client
        self.active_at = time.monotonic()  # when the last request was complete
        self.evicted = False
        self._listener = listener
        # The handshake waits for the thread; but stop() must find the socket that is in it, which this call replaces.
        self._socket = (
            tls.wrap_socket(accepted, server_side=True, do_handshake_on_connect=False) if tls is not None else accepted
        )
        self._tls = tls
        self._idle_timeout = idle_timeout
        self._why = "déconnecté"
        self._over = False

    def __enter__(self) -> Connection:
        """Log the connection and shake hands, in TLS. Blocks for HANDSHAKE_TIMEOUT at most; never raises."""
        log.info("[INFO] client %s connecté", self.client)
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is None:
                _set_timeout(self._socket, socket.SO_SNDTIMEO, min(SEND_TIMEOUT, self._idle_timeout))
                _set_timeout(self._socket, socket.SO_RCVTIMEO, self._idle_timeout)
            else:
                # Python's time limits: without them ssl waits on, whatever the kernel's say.
                self._socket.settimeout(min(HANDSHAKE_TIMEOUT, self._idle_timeout))
                self._socket.do_handshake()  # type: ignore[attr-defined]
        except OSError as error:  # ssl.SSLError is one
            if self._tls is not None:
                self._why = f"déconnecté, TLS refusé ({tls_reason(error)})"
                self._linger()
            self._over = True
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._socket.close()
        self._listener.left(self)
        log.info("[INFO] client %s %s", self.client, "a cédé sa place" if self.evicted else self._why)

    def requests(self) -> Iterator[Request]:
        """Yield the requests of this client as (kind, address, show, seats) until it leaves. Blocks.

        Ends, with the reason in the log, on an unknown request, on silence, and when the server stops.
        """
        while not (self._over or self._listener.closing) and (frame := self._receive()):
            kind, show, seats = TCP_REQUEST.unpack(frame)
            self.active_at = time.monotonic()
            if kind not in (LIST, RESERV):
                self._why = f"déconnecté, requête de type {kind} inconnue"
                if frame[:2] == b"\x16\x03":
                    self._why += " (un client TLS sur un port en clair ?)"
                self._linger()
                return
            yield (kind, self.client, show, seats)

    def reply(self, request: Request, body: bytes) -> None:
        """Send `body`. Blocks while the client leaves no room, SEND_TIMEOUT at most; then the connection is closed."""
        try:
            self._socket.sendall(body)
        except OSError as error:  # a vanished client raises no SIGPIPE in Python (defect 19)
            self._why = "déconnecté, ne lit pas ses réponses" if _timed_out(error) else "disparu"
            self._over = True

    def stop(self, how: int = socket.SHUT_RD) -> None:
        """End requests() after the request in hand; with SHUT_RDWR, at once. For other threads."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._socket, how)  # not SSLSocket's, which would go on in clear

    def _receive(self) -> bytes:
        """Return the 12 bytes of a request, b"" when there is none to come."""
        frame = b""
        try:
            if self._tls is None:
                # One call, however the bytes arrive. Fewer come at the end, too late, or when a signal (SIGSTOP) came.
                frame = self._socket.recv(TCP_REQUEST.size, socket.MSG_WAITALL)
                while 0 < len(frame) < TCP_REQUEST.size and time.monotonic() - self.active_at < self._idle_timeout:
                    part = self._socket.recv(TCP_REQUEST.size - len(frame), socket.MSG_WAITALL)
                    if not part:
                        break
                    frame += part
            else:
                deadline = time.monotonic() + self._idle_timeout
                while len(frame) < TCP_REQUEST.size:
                    self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
                    part = self._socket.recv(TCP_REQUEST.size - len(frame))
                    if not part:
                        break
                    frame += part
                self._socket.settimeout(min(SEND_TIMEOUT, self._idle_timeout))
        except OSError as error:
            self._why = "déconnecté, trop longtemps silencieux" if _timed_out(error) else "disparu"
            return b""
        if 0 < len(frame) < TCP_REQUEST.size:
            self._why = f"déconnecté au milieu d'une requête ({len(frame)} octets)"
            return b""
        return frame

    def _linger(self) -> None:
        """Let the client read what was sent last: close(2) with bytes unread would reset the connection at once."""
        deadline = time.monotonic() + LINGER
        with contextlib.suppress(OSError):
            self.stop(socket.SHUT_WR)
            self._socket.settimeout(LINGER)
            while time.monotonic() < deadline and socket.socket.recv(self._socket, 4096):
                pass


def _timed_out(error: OSError) -> bool:
    return isinstance(error, BlockingIOError | TimeoutError)  # the first is what SO_RCVTIMEO says


def tls_reason(error: Exception) -> str:
    """Return what TLS says of a failure, in one word or line."""
    return str(getattr(error, "reason", None) or reason(error))


def _server_tls(options: Namespace) -> ssl.SSLContext | None:
    if not options.tls_cert:
        if options.tls_key or options.client_ca:
            raise UsageError("--tls-key et --client-ca demandent --tls-cert")
        return None
    import ssl  # 4 MB that plain TCP does without

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    _load(partial(context.load_cert_chain, password=_no_pass_phrase), options.tls_cert, options.tls_key)
    if options.client_ca:
        _load(context.load_verify_locations, options.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _client_tls(options: Namespace) -> ssl.SSLContext | None:
    if not options.tls:
        if options.ca or options.cert or options.key:
            raise UsageError("--ca, --cert et --key demandent --tls")
        return None
    if options.key and not options.cert:
        raise UsageError("--key demande --cert")
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks the certificate and the host name
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if options.ca:
        _load(context.load_verify_locations, options.ca)
    else:
        context.load_default_certs()
    if options.cert:
        _load(partial(context.load_cert_chain, password=_no_pass_phrase), options.cert, options.key)
    return context


def _no_pass_phrase() -> str:
    """Answer for the person whom OpenSSL would otherwise ask at the terminal, and a server has none."""
    return ""


def _load(load, *paths: str | None) -> None:  # type: ignore[no-untyped-def]
    try:
        load(*paths)
    except (OSError, ValueError) as error:
        names = ", ".join(path for path in paths if path)
        hint = " ; la clef manque ?" if "PEM lib" in str(error) and len(paths) == 2 and not paths[1] else ""
        raise UsageError(f"{names} : certificat ou clef inutilisable ({tls_reason(error)}){hint}") from None


class ClientConnection:
    """A client's connection, kept for its session. A context manager.

    options: host, port, timeout (seconds, for connecting and for each exchange), tls, ca, cert, key.
    Raises NoServerError; UsageError for a bad host or certificate.
    """

    def __init__(self, options: Namespace) -> None:
        self._options = options
        self._tls = _client_tls(options)
        self._socket: socket.socket | None = None
        self._hint = ""  # what may be wrong when not even the first answer comes
        self.connect()

    def __enter__(self) -> ClientConnection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def connect(self) -> None:
        """Connect, again if need be. Blocks. Raises NoServerError."""
        self.close()
        where = f"{self._options.host} port {self._options.port}"
        why, found = "aucune adresse", False
        for family, address in _resolve(self._options.host, self._options.port, 0):
            candidate = socket.socket(family, socket.SOCK_STREAM)
            try:
                candidate.settimeout(self._options.timeout)
                candidate.connect(address)
                found = True
                candidate.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if self._tls is not None:
                    candidate = self._tls.wrap_socket(candidate, server_hostname=self._options.host)
            except TimeoutError:
                why = f"pas de réponse en {self._options.timeout:g} s"
            except OSError as error:
                why = _explain(error) if self._tls is not None else reason(error)
            else:
                self._socket = candidate
                self._hint = "" if self._tls is not None else " ; trop de clients, ou ce port attend TLS (--tls) ?"
                return
            candidate.close()
        raise NoServerError(f"{'serveur refusé' if found else 'aucun serveur'} : {where} : {why}")

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def exchange(self, request: bytes, reply_size: int) -> bytes:
        """Send `request` and return the reply of `reply_size` bytes. Blocks, `timeout` at most.

        Raises NoServerError: no answer in time (the request may have been served), or the server has gone; the
        connection is then closed, since a late answer could be taken for the next one.
        """
        if self._socket is None:
            raise NoServerError("pas de connexion au serveur")
        deadline = time.monotonic() + self._options.timeout
        reply = b""
        try:
            self._socket.settimeout(self._options.timeout)
            self._socket.sendall(request)
            while len(reply) < reply_size:
                self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
                part = self._socket.recv(reply_size - len(reply))
                if not part:
                    break
                reply += part
        except TimeoutError:
            self.close()
            raise NoServerError(f"pas de réponse du serveur en {self._options.timeout:g} s") from None
        except OSError as error:
            self.close()
            if self._tls is not None:
                raise NoServerError(f"connexion coupée par le serveur : {_explain(error)}") from None
            raise NoServerError(f"le serveur a coupé la connexion ({reason(error)}){self._hint}") from None
        if len(reply) < reply_size:
            self.close()
            raise NoServerError(f"le serveur a fermé la connexion{self._hint}")
        self._hint = ""
        return reply


def _explain(error: OSError) -> str:
    import ssl

    said = tls_reason(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificat du serveur refusé : {error.verify_message}"
    if "CERTIFICATE_REQUIRED" in said:
        return "le serveur exige un certificat de client (--cert, --key)"
    if "UNKNOWN_CA" in said:
        return "le serveur ne connaît pas l'autorité du certificat de client"
    if "DECODE_ERROR" in said:  # the alert that OpenSSL sends where its end of the connection was shut
        return "connexion coupée"
    if isinstance(error, ssl.SSLEOFError | ConnectionResetError) or "WRONG_VERSION" in said or "RECORD" in said:
        return f"le serveur ne parle pas TLS, ou refuse ce client ({said})"
    return said
