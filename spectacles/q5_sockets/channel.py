"""TCP for question 5: exact framing, optional TLS, and limits on what clients may use up.

A connection is a stream: read(2) may return half a request, or one and a half (defect 7). Here a request is taken when
its 12 bytes are there, however they came. Silence, garbage and vanished clients cost their own connection and nothing
else (defects 19 and 21). Time limits are the kernel's (SO_RCVTIMEO, SO_SNDTIMEO, socket(7)): no extra call per request.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import struct
import threading
import time

from spectacles.common import log
from spectacles.common.errors import HeldError, NoAnswerError, NoServerError, SpectaclesError, UsageError, reason
from spectacles.common.limits import free_descriptors
from spectacles.common.protocol import LIST, RESERV, TCP_REQUEST, TCP_RESERV_REPLY
from spectacles.q5_sockets import tls

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from argparse import Namespace
    from collections.abc import Iterator
    from typing import NoReturn

    from spectacles.common.lifecycle import Server
    from spectacles.common.protocol import Request

BACKLOG = 1024  # connections that wait for accept(2); the kernel may lower it to net.core.somaxconn
SEND_TIMEOUT = 10.0  # seconds that a client may leave no room for its replies
HANDSHAKE_TIMEOUT = 5.0  # seconds
LINGER = 1.0  # seconds that a client turned away gets to read why
DYING = 0.05  # seconds that a server which has closed our connection gets to close the rest, if it has died
EVICTION_AGE = 1.0  # seconds without a request after which a connection may have to give way to a new one
PAUSE = 0.05  # seconds before what failed for want of descriptors or threads is tried again
SPARE = 8  # descriptors for what a server opens for a moment: listening sockets, a new log file
TRIES = 20  # of free ports, until one is free on all addresses
FRESH = 1.0  # seconds after connecting in which an end without any answer says something about why
AT_ONCE = 0.2  # ...and an end before any request
LAST_ACK_RECV = struct.Struct("@56xI")  # in struct tcp_info, linux/tcp.h: milliseconds since the last segment came
TLS_ALERT = b"\x15\x03"  # how a server that expects TLS answers what is none
BANNER = 256  # bytes read of what is no answer...
QUOTED = 40  # ...and shown of it
EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


def address_text(address: tuple[object, ...]) -> str:
    """Return "127.0.0.1:5000" or "[::1]:5000"."""
    host, port = str(address[0]).removeprefix("::ffff:"), address[1]  # the prefix: IPv4 that came in by "::"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _resolve(
    host: str, port: int, flags: int, otherwise: type[SpectaclesError]
) -> list[tuple[int, tuple[object, ...]]]:
    """Return the addresses of `host`. Raises `otherwise` if it has none: a bad --host, or no server to be found."""
    if not host:  # not "everybody", as for bind(2): an unset variable must not open the service to the world
        raise UsageError("hôte « » : un nom ou une adresse est attendu (toutes les interfaces : 0.0.0.0, ou ::)")
    try:
        name = host.encode("ascii")  # as bytes: a str would load the tables of IDNA even for an address
        try:
            # Without the resolver first: its libraries take 1 MB that an address does not need.
            found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=flags | socket.AI_NUMERICHOST)
        except socket.gaierror:
            found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=flags)
    except OSError as error:
        raise otherwise(f"hôte « {host} » : {reason(error)}") from None
    except UnicodeError:
        raise otherwise(f"hôte « {host} » : nom introuvable, sans accent peut-être") from None
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))  # /etc/hosts may repeat itself


def _set_timeout(connection: socket.socket, option: int, duration: float) -> None:
    whole = int(duration)
    connection.setsockopt(socket.SOL_SOCKET, option, struct.pack("@ll", whole, int((duration - whole) * 1e6)))


class Listener:
    """The server's listening sockets and its connections. A context manager that closes them all.

    options: host (a name may have several addresses: all that this machine has are served), port (0: a free one, the
    same on all), max_clients, idle_timeout (seconds), tls_cert, tls_key, client_ca. kinds: of the requests served.
    Raises HeldError when the port is taken on one of them, UsageError for a bad host or certificate, SpectaclesError.
    """

    def __init__(self, server: Server, options: Namespace, kinds: tuple[int, ...] = (LIST, RESERV)) -> None:
        self.kinds = kinds
        self._tls = tls.server_context(options)
        self._idle_timeout = options.idle_timeout
        self._most = min(options.max_clients, max(free_descriptors() - SPARE, 1))
        self._connections: set[Connection] = set()
        self._newest: Connection | None = None  # that connections() yielded last
        self._lock = threading.Lock()
        self.closing = False
        self._crowded_at = float("-inf")
        self._sockets = {listening.fileno(): listening for listening in _listen(server, options.host, options.port)}
        self._never = os.eventfd(0, os.EFD_CLOEXEC)
        for listening in self._sockets.values():
            where = address_text(listening.getsockname())
            log.announce(f"[INFO] Serveur TCP en écoute sur {where}" + (", TLS 1.3" if self._tls else ", en clair"))

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        for listening in self._sockets.values():
            listening.close()
        os.close(self._never)

    def connections(self) -> Iterator[Connection]:
        """Yield a Connection per client until stop(). Blocks.

        When there are too many, or no descriptors or threads are left, the one that has been silent for longest gives
        way; if none has been silent for EVICTION_AGE, the new one is turned away. Either is logged once per crowd, not
        per client.
        """
        poll = select.poll()
        for fd in self._sockets:
            poll.register(fd, select.POLLIN)
        while not self.closing:
            for fd, _ in poll.poll():  # blocks
                if connection := self._accept(self._sockets[fd]):
                    self._newest = connection
                    yield connection

    def no_thread(self) -> bool:
        """Make room as the system has no thread for the connection yielded last; return whether to try again.

        One other gives way, which frees its thread in a moment. If none can, or that was no help (somebody else has
        taken the thread, or the memory), the new connection is closed. Blocks for PAUSE.
        """
        newest, now = self._newest, time.monotonic()
        if newest is None:
            return False
        again = now < newest.room_until
        if newest.room_until == 0.0 and self._make_room("pas de thread"):
            again, newest.room_until = True, now + EVICTION_AGE
        if again:
            time.sleep(PAUSE)
        else:
            newest.turn_away()
        return again

    def forget(self, connection: Connection) -> None:
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
        for listening in self._sockets.values():
            with contextlib.suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)  # wakes poll(2)
        with self._lock:
            for connection in self._connections:
                connection.stop()

    def _accept(self, listening: socket.socket) -> Connection | None:
        try:
            accepted, address = listening.accept()
        except (OSError, MemoryError) as error:
            if isinstance(error, MemoryError) or error.errno in EXHAUSTED:
                self._make_room(_short_of(error))
                time.sleep(PAUSE)
            return None  # else the client has left already, accept(2), or stop() was called
        if len(self._connections) >= self._most and not self._make_room(f"{self._most} clients"):
            accepted.close()
            return None
        try:
            connection = Connection(self, accepted, address_text(address), self._tls, self._idle_timeout)
        except (OSError, MemoryError):  # gone already, found in preparing for TLS
            accepted.close()
            return None
        with self._lock:
            self._connections.add(connection)
        return connection

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


def _listen(server: Server, host: str, port: int) -> list[socket.socket]:
    """Return a socket that listens on each address of `host` that this machine has, all on one port (0: a free one)."""
    found = _resolve(host, port, socket.AI_PASSIVE, UsageError)
    here = [entry for entry in found if len(found) == 1 or _is_here(*entry)]
    for _, address in found if here else ():
        if address not in (known for _, known in here):
            log.warning("[INFO] %s : cette adresse n'est pas à cette machine, je sers sans elle", address[0])
    if any(address[0] == "::" for _, address in here):  # of --host '*' too: it serves those of 0.0.0.0
        here = [entry for entry in here if entry[1][0] != "0.0.0.0"]
    tries = TRIES if port == 0 else 1
    while True:
        tries -= 1
        with contextlib.ExitStack() as undo:
            sockets: list[socket.socket] = []
            try:
                for family, address in here or found:
                    same = sockets[0].getsockname()[1] if sockets else port
                    if port:
                        server.claim("port", address_text(address))
                    sockets.append(undo.enter_context(_listen_on(family, (address[0], same, *address[2:]))))
            except HeldError:
                if tries and sockets:  # the port that is free on one address is not on another
                    continue
                raise
            if not port:
                for listening in sockets:
                    server.claim("port", address_text(listening.getsockname()))
            undo.pop_all()
            return sockets


def _listen_on(family: int, address: tuple[object, ...]) -> socket.socket:
    try:
        listening = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            if family == socket.AF_INET6:  # "::" is everybody, whatever net.ipv6.bindv6only says, ipv6(7)
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address[0] != "::")
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(BACKLOG)
        except BaseException:
            listening.close()
            raise
    except OSError as error:
        message = f"{address_text(address)} : {reason(error)} ; choisissez un autre --port ou --host"
        raise (HeldError if error.errno == errno.EADDRINUSE else SpectaclesError)(message) from error
    return listening


def _is_here(family: int, address: tuple[object, ...]) -> bool:
    """Say whether this machine has the address: a name may have others' too, or ::1 where there is no IPv6."""
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((address[0], 0, *address[2:]))
    except OSError as error:
        return error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
    return True


def _short_of(error: BaseException) -> str:
    return "plus de mémoire" if isinstance(error, MemoryError) else reason(error)


class Connection:
    """One client's connection, from accept to close. A context manager, entered in the thread that serves it."""

    def __init__(
        self,
        listener: Listener,
        accepted: socket.socket,
        client: str,
        context: ssl.SSLContext | None,
        idle_timeout: float,
    ) -> None:
        self.client = client
        self.active_at = time.monotonic()  # when the last request was complete
        self.evicted = False
        self.room_until = 0.0  # see Listener.no_thread()
        self._listener = listener
        # The handshake waits for the thread; but stop() must find the socket that is in it, which this call replaces.
        self._socket = accepted
        if context is not None:
            self._socket = context.wrap_socket(accepted, server_side=True, do_handshake_on_connect=False)
        self._tls = context
        self._idle_timeout = idle_timeout
        self._why = "déconnecté"
        self._over = False

    def __enter__(self) -> Connection:
        """Log the connection and shake hands, in TLS. Blocks for HANDSHAKE_TIMEOUT at most; never raises."""
        try:
            log.info("[INFO] client %s connecté", self.client)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is None:
                _set_timeout(self._socket, socket.SO_SNDTIMEO, min(SEND_TIMEOUT, self._idle_timeout))
                _set_timeout(self._socket, socket.SO_RCVTIMEO, self._idle_timeout)
            else:
                # Python's time limits: without them ssl waits on, whatever the kernel's say.
                self._socket.settimeout(min(HANDSHAKE_TIMEOUT, self._idle_timeout))
                self._socket.do_handshake()  # type: ignore[attr-defined]
        except (OSError, MemoryError) as error:  # ssl.SSLError is an OSError
            if isinstance(error, MemoryError):
                self._why = "déconnecté, plus de mémoire"
            elif self._tls is not None:
                word = tls.word(error)
                self._why = f"déconnecté, TLS refusé{f' ({word})' if word else ''} : {tls.explain(error, tls.CLIENT)}"
                self._linger()
            self._over = True
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._socket.close()
        self._listener.forget(self)
        log.info("[INFO] client %s %s", self.client, "a cédé sa place" if self.evicted else self._why)

    def requests(self) -> Iterator[Request]:
        """Yield the requests of this client as (kind, address, show, seats) until it leaves. Blocks.

        Ends, with the reason in the log, on an unknown request, on silence, and when the server stops.
        """
        while not (self._over or self._listener.closing) and (frame := self._receive()):
            kind, show, seats = TCP_REQUEST.unpack(frame)
            self.active_at = time.monotonic()
            if kind not in self._listener.kinds:
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

    def turn_away(self) -> None:
        """Close a connection that no thread has entered."""
        self._socket.close()
        self._listener.forget(self)

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
        except (OSError, MemoryError) as error:
            self._why = "déconnecté, trop longtemps silencieux" if _timed_out(error) else "disparu"
            if isinstance(error, MemoryError):
                self._why = "déconnecté, plus de mémoire"
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


def _timed_out(error: BaseException) -> bool:
    return isinstance(error, BlockingIOError | TimeoutError)  # the first is what SO_RCVTIMEO says


class ClientConnection:
    """A client's connection, kept for its session. A context manager.

    options: host (of a name with several addresses, the first that answers), port, timeout (seconds, for connecting and
    for each exchange), tls, ca, cert, key. Raises NoServerError, also for an unknown host; UsageError for a bad
    certificate.
    """

    def __init__(self, options: Namespace) -> None:
        self._options = options
        self._tls = tls.client_context(options)
        self._socket: socket.socket | None = None
        self._peer: tuple[object, ...] = ("", 0)
        self._unasked = select.poll()
        self._connected_at = 0.0
        self._answered = False  # if not even the first answer comes, what may be wrong is a fair guess
        self.connect()

    def __enter__(self) -> ClientConnection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def peer(self) -> str:
        """The address of the server, as "127.0.0.1:5000"."""
        return address_text(self._peer)

    def connect(self) -> None:
        """Connect, again if need be. Blocks, `timeout` at most, the look-up of the name apart. Raises NoServerError."""
        self.close()
        deadline = time.monotonic() + self._options.timeout
        found = _resolve(self._options.host, self._options.port, 0, NoServerError)
        failures: dict[str, str] = {}
        refused = False
        for number, (family, address) in enumerate(found):
            share = (deadline - time.monotonic()) / (len(found) - number)
            try:
                candidate = socket.socket(family, socket.SOCK_STREAM)
            except OSError as error:  # no IPv6 here
                failures[address_text(address)] = reason(error)
                continue
            try:
                candidate.settimeout(max(share, 0.001))
                candidate.connect(address)
                refused = True
                candidate.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if self._tls is not None:
                    candidate = self._tls.wrap_socket(candidate, server_hostname=self._options.host)
            except OSError as error:
                failures[address_text(address)] = self._failure_to_connect(error, share)
            else:
                self._socket, self._peer = candidate, address
                self._unasked = select.poll()
                self._unasked.register(candidate, select.POLLIN)
                self._connected_at = time.monotonic()
                self._answered = False
                return
            candidate.close()
        why = " ; ".join(dict.fromkeys(failures.values()))
        if len(set(failures.values())) > 1:
            why = " ; ".join(f"{where} : {text}" for where, text in failures.items())
        where = f"{self._options.host} port {self._options.port}"
        raise NoServerError(f"{'serveur refusé' if refused else 'aucun serveur'} : {where} : {why}")

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def exchange(self, request: bytes, reply_size: int) -> bytes:
        """Send `request` and return the reply of `reply_size` bytes. Blocks, `timeout` at most.

        Raises NoServerError: the server had gone before anything was sent. NoAnswerError: no answer in time, or the
        server has gone, and the request may have been served. In either case the connection is closed, since a late
        answer could be taken for the next one.
        """
        if self._socket is None:
            raise NoServerError("pas de connexion au serveur")
        if self._unasked.poll(0) or (self._tls is not None and self._socket.pending()):  # type: ignore[attr-defined]
            self._check_silent(self._socket)  # its end, or bytes that nobody asked for
        deadline = time.monotonic() + self._options.timeout
        sent, reply = 0, b""
        try:
            self._socket.settimeout(self._options.timeout)
            while sent < len(request):
                sent += self._socket.send(request[sent:])
            while len(reply) < reply_size:
                self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
                # More than that, to see if there is more: an int for a bool, a long mtype in front.
                part = self._socket.recv(reply_size - len(reply) + BANNER)
                if not part:
                    break
                reply += part
        except OSError as error:
            if not sent:
                self._give_up(error)
            self._give_up(error, reply, reply_size)
        if len(reply) < reply_size:
            self._give_up(None, reply, reply_size)
        if len(reply) > reply_size:
            raise self.strange(reply, reply_size)
        self._answered = True
        return reply

    def strange(self, reply: bytes, size: int | None = None) -> NoAnswerError:
        """Return the error for `reply`, which is none, or longer than `size` bytes. The connection is closed."""
        if self._socket is not None:
            with contextlib.suppress(OSError):  # a banner, say: the rest of the line is there already
                self._socket.settimeout(0.0)
                reply += self._socket.recv(BANNER)
        self.close()
        if size is not None and not _is_of_another_protocol(reply):
            what = "la table" if size > TCP_RESERV_REPLY.size else "un bool du C"
            return NoAnswerError(f"réponse d'au moins {len(reply)} octets au lieu de {size} ({what})")
        return NoAnswerError(f"réponse incompréhensible : {_stranger(reply)}")

    def _check_silent(self, connection: socket.socket) -> None:
        """Raise NoServerError if the server has closed the connection, or sent what nobody asked for."""
        try:
            connection.settimeout(0.0)
            found = connection.recv(BANNER)
        except OSError as error:
            if isinstance(error, BlockingIOError) or type(error).__name__ == "SSLWantReadError":
                return  # TLS's own business, session tickets for example
            self._give_up(error)
        if not found:
            self._give_up(None)
        self.close()
        raise NoServerError(
            f"pas de réponse à attendre, le serveur envoie ce qu'on ne lui demande pas : {_stranger(found)}"
        )

    def _give_up(self, error: OSError | None, reply: bytes | None = None, size: int = 0) -> NoReturn:
        """Close the connection and raise what can be said of its end.

        error: None at the end of the stream. reply: what came of an answer of `size` bytes; None: nothing was sent.
        """
        dead = _has_stopped(self._peer)
        guess = "" if dead or self._answered else self._guess(asked=reply is not None)
        self.close()
        if reply and _is_of_another_protocol(reply):
            raise NoAnswerError(f"réponse incompréhensible : {_stranger(reply)}")
        so_far = f" ({len(reply)} octet(s) d'une réponse de {size})" if reply else ""
        if isinstance(error, TimeoutError):
            text = f"pas de réponse du serveur en {self._options.timeout:g} s{so_far}"
        elif error is not None and not self._is_end(error):
            text = tls.explain(error, tls.SERVER) if self._tls is not None else reason(error)
            text = f"connexion coupée par le serveur : {text}{so_far}"
        else:
            text = f"le serveur a {'fermé' if error is None else 'coupé'} la connexion"
            if reply is not None:
                text += so_far or (" en traitant la demande" if dead else " sans répondre")
            if dead:
                text += " : il s'est arrêté"
            elif not reply:
                text += guess
        unread = reply is None or (error is not None and self._tls is not None and tls.was_refused(error))
        raise (NoServerError if unread else NoAnswerError)(text)

    def _guess(self, *, asked: bool) -> str:
        """Return what may have made the server end a connection without an answer, "" if nothing points to anything."""
        age = time.monotonic() - self._connected_at
        if asked:
            tls_too = "" if self._tls is not None else ", ou TLS (--tls)"
            return f" : trop de clients{tls_too} ?" if age < FRESH else ""
        try:
            # The end may have come long before this look: who says nothing for too long gets it too.
            info = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256) if self._socket else b""
            (since,) = LAST_ACK_RECV.unpack_from(info)
        except (OSError, struct.error):
            return ""
        return " : trop de clients ?" if age - since / 1000 < AT_ONCE else ""

    def _is_end(self, error: OSError) -> bool:
        return isinstance(error, ConnectionError) if self._tls is None else tls.is_end(error)

    def _failure_to_connect(self, error: OSError, waited: float) -> str:
        if isinstance(error, TimeoutError):
            return f"pas de réponse en {waited:.2g} s"
        if self._tls is None or isinstance(error, ConnectionRefusedError):
            return reason(error)
        if tls.is_end(error):
            return "il a fermé la connexion pendant la négociation : il ne parle pas TLS, ou a trop de clients ?"
        word = tls.word(error)
        return tls.explain(error, tls.SERVER) + (f" ({word})" if word else "")


def _has_stopped(address: tuple[object, ...]) -> bool:
    """Say whether nobody listens at `address` any more. Blocks, DYING at most: a process closes one thing at a time."""
    deadline = time.monotonic() + DYING
    while served := _is_served(address):
        if time.monotonic() > deadline:
            break
        time.sleep(DYING / 10)
    return not served


def _is_served(address: tuple[object, ...]) -> bool:
    """Say whether somebody listens at `address`, as far as one can tell without connecting: on this machine."""
    host, port = str(address[0]), address[1]
    if not host.startswith("127.") and host != "::1":
        return True
    rows: list[list[str]] = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError), open(table) as file:
            rows += [line.split() for line in file]
    return not rows or any(row[1].endswith(f":{port:04X}") and row[3] == "0A" for row in rows)


def is_text(data: bytes) -> bool:
    """Say whether `data` begins with letters: HTTP, SSH... A table begins with a number below 2**24, or nearly."""
    return len(data) >= 4 and all(0x20 <= byte < 0x7F for byte in data[:4])


def _is_of_another_protocol(data: bytes) -> bool:
    return data[:2] == TLS_ALERT or is_text(data)


def _stranger(data: bytes) -> str:
    """Return who has sent `data`, which is no answer, as far as it shows."""
    if data[:2] == TLS_ALERT:
        return "ce port attend TLS (--tls)"
    if is_text(data):
        line = data.split(b"\r")[0].split(b"\n")[0][:QUOTED].decode("ascii", "replace")
        return f"ce n'est pas un serveur de la question 5, il dit « {line} »"
    what = f"octet {data[0]}" if len(data) == 1 else f"{len(data)} octets"
    return f"{what}, ce n'est pas un serveur de la question 5"
