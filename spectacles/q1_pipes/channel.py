"""The five named FIFOs of question 1: two to consult, three to reserve. One client at a time.

A FIFO carries bytes and nothing about who wrote them (defects 1 and 2). What gives back what is missing:

* the session: a client holds a flock(2) on tub2_view for as long as it lives; a second one is told so and leaves;
* the probe: a consultation of a show far below zero is answered by that same number. A new client sends one that nobody
  can guess and reads until it comes back: every answer that a dead predecessor did not fetch lies before it. Only our
  server gets one: another, in C, may use any number as an index without a look. It is believed to have answered all
  once it is silent;
* the turn: a reservation's answer is one byte, too short for that. The server takes a reservation, answers it and only
  then lets go of a flock on tub1_reservation. A new client takes the same lock once and empties the three FIFOs;
* a reservation is taken only when both of its halves are there, so a client killed between its two writes leaves
  nothing in the server's hands.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import select
import signal
import stat
import struct
import termios
import time

from spectacles.common import log
from spectacles.common.errors import HeldError, NoAnswerError, NoServerError, SpectaclesError, reason
from spectacles.common.lockfile import server_of
from spectacles.common.protocol import LIST, PIPE_BOOL, PIPE_INT, RESERV
from spectacles.common.storage import set_mode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from spectacles.common.lifecycle import Server
    from spectacles.common.protocol import Request

# kind -> (FIFOs of the request, FIFO of the reply)
PIPES = {
    LIST: (("tub1_view",), "tub2_view"),
    RESERV: (("tub1_reservation", "tub2_reservation"), "tub3_reservation"),
}
NAMES = tuple(name for inputs, output in PIPES.values() for name in (*inputs, output))
FIRST = "tub1_view"
SESSION = "tub2_view"
SILENCE = 0.05  # seconds after which a server has answered all it was asked
LAST_PROBE = -(2**30) - 1  # a consultation of -2**31 up to this is a probe
HALF_TIMEOUT = 0.5  # seconds that the second half of a reservation may take
RETRY = 0.01  # seconds between two tries of a lock that has no deadline of its own


class StoppedError(Exception):
    """Carries a child out of a blocked read when it is asked to stop."""


def has_server(directory_fd: int) -> bool:
    """Say whether a process reads what clients ask in the FIFOs of this directory, whoever it is."""
    try:
        fd = os.open(FIRST, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory_fd)
    except OSError:  # ENXIO without a reader, fifo(7)
        return False
    try:
        return stat.S_ISFIFO(os.fstat(fd).st_mode)
    finally:
        os.close(fd)


class ServerPipes:
    """The server's ends. A context manager that creates the five FIFOs and removes them.

    They live in the server's run directory. mode: rights. All ends are opened read-write, as in the original, so that
    they never reach EOF while clients come and go; it is the client that must notice a dead server (defect 4).
    Raises SpectaclesError.
    """

    def __init__(self, server: Server, mode: int) -> None:
        self._directory = server.directory
        self._mode = mode
        self._fds: dict[str, int] = {}
        self._never_fd = os.eventfd(0, os.EFD_CLOEXEC)
        self.closing = False
        self._blocked = False  # in a child: in the call that waits for a request
        self.served = mmap.mmap(-1, 1)  # set by every reply; shared with forked children
        try:
            self.open()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> ServerPipes:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> None:
        """Create what is missing and open all five, afresh: locks that dead children held are forgotten."""
        for name in NAMES:
            try:
                fd = self._open(name)
            except OSError as error:
                raise SpectaclesError(f"{self._directory.path}/{reason(error)}") from error
            if name in self._fds:
                os.close(self._fds[name])
            self._fds[name] = fd  # at once: close() removes what is noted here

    def close(self) -> None:
        """Close and remove the FIFOs; what has been put in their place stays."""
        for name, fd in self._fds.items():
            with contextlib.suppress(OSError):
                if self._is_in_place(name):
                    os.unlink(name, dir_fd=self._directory.fd)
            os.close(fd)
        self._fds = {}
        os.close(self._never_fd)

    def requests(self, kind: int) -> Iterator[Request]:
        """Yield the requests of `kind` (LIST or RESERV) as (kind, "tube", show, seats) until stop(). Blocks.

        Garbage and halves are logged and dropped.
        """
        return self._consultations() if kind == LIST else self._reservations()

    def _consultations(self) -> Iterator[Request]:
        (name,) = PIPES[LIST][0]
        # Opened again to block: the other processes, and the sweeping of garbage, need it not to.
        fd = os.open(f"/proc/self/fd/{self._fds[name]}", os.O_RDWR | os.O_CLOEXEC)
        signal.siginterrupt(signal.SIGTERM, True)  # else the kernel goes on with the read, and no handler runs
        while not self.closing:
            try:
                self._blocked = True
                word = os.read(fd, PIPE_INT.size)  # blocks
                self._blocked = False
            except StoppedError:
                return
            if len(word) < PIPE_INT.size:
                self._drop(LIST)
                continue
            (show,) = PIPE_INT.unpack(word)
            if show <= LAST_PROBE:
                self.reply((LIST, "tube", show, 0), word)
            else:
                yield (LIST, "tube", show, 0)

    def _reservations(self) -> Iterator[Request]:
        fds = [self._fds[name] for name in PIPES[RESERV][0]]
        halves = [select.poll() for _ in fds]
        either = select.poll()
        for half, fd in zip(halves, fds, strict=True):
            half.register(fd, select.POLLIN)
            either.register(fd, select.POLLIN)
        while not self.closing:
            try:
                self._blocked = True
                either.poll()  # blocks
                self._blocked = False
            except StoppedError:
                return
            with self._turn():  # what counts is what is there now: a new client may just have swept
                whole = all(half.poll(0) for half in halves)
                words = [_read(fd) for fd in fds] if whole else []
                if whole and all(len(word) == PIPE_INT.size for word in words):
                    yield (RESERV, "tube", *(PIPE_INT.unpack(word)[0] for word in words))
                elif whole:
                    self._drop(RESERV)
            if not whole and not all(half.poll(HALF_TIMEOUT * 1000) for half in halves):
                with self._turn():
                    if not all(half.poll(0) for half in halves):  # else the other half came at the last moment
                        self._drop(RESERV)

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """Keep new clients from sweeping, also while the caller works on the request. Blocks while one sweeps."""
        fd = self._fds[PIPES[RESERV][0][0]]
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
        except OSError:
            # No locks on FIFOs here: a new client may sweep away an answer of the one that came before it.
            yield
            return
        try:
            yield
        finally:
            fcntl.flock(fd, fcntl.LOCK_UN)

    def _drop(self, kind: int) -> None:
        for name in PIPES[kind][0]:
            _empty(self._fds[name])
        log.warning("[INFO] %s : demande incomplète ignorée", " + ".join(PIPES[kind][0]))

    def reply(self, request: Request, body: bytes) -> None:
        """Write `body` to the FIFO of replies. Never blocks: if nobody has read 64 KB of replies, nobody will."""
        fd = self._fds[PIPES[request[0]][1]]
        try:
            os.write(fd, body)
        except BlockingIOError:
            _empty(fd)
            os.write(fd, body)
        self.served[0] = 1

    def fileno(self) -> int:
        """Return a descriptor for Server.run() to wait on: this channel has nothing urgent, so it is never readable."""
        return self._never_fd

    def tend(self) -> str | None:
        """Return why the workers must start afresh: a FIFO has been removed or replaced. Main thread only."""
        damaged = [name for name in NAMES if not self._is_in_place(name)]
        return f"{', '.join(damaged)} : tube supprimé ou remplacé" if damaged else None

    def stop(self) -> None:
        """End requests() of this process after the request in hand. For signal handlers too.

        Raises StoppedError, in the handler, through the call that a child is blocked in, which would be tried again.
        """
        self.closing = True
        blocked, self._blocked = self._blocked, False
        if blocked:
            raise StoppedError

    def _open(self, name: str) -> int:
        directory = self._directory.fd
        with contextlib.suppress(FileNotFoundError):
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
            if not stat.S_ISFIFO(status.st_mode):
                aside = f"{name}.{time.time_ns()}"
                log.warning("[INFO] %s n'est pas un tube, renommé en %s", name, aside)
                os.rename(name, aside, src_dir_fd=directory, dst_dir_fd=directory)
            elif status.st_uid != os.geteuid():
                raise PermissionError(errno.EPERM, "ce tube est à un autre utilisateur", name)
            elif not self._fds and name == FIRST and has_server(directory):  # in C, say: it locks no directory
                raise HeldError(f"{self._directory.path}/{name} : un autre serveur le lit ; choisissez un autre --dir")
        with contextlib.ExitStack() as undo:
            try:
                os.mkfifo(name, self._mode, dir_fd=directory)
                undo.callback(os.unlink, name, dir_fd=directory)
            except FileExistsError:
                pass
            except OSError as error:  # shared folders: VirtualBox, WSL, cifs, sshfs, 9p
                raise SpectaclesError(
                    f"{self._directory.path}/{name} : pas de tube nommé possible ici ({reason(error)}) ;"
                    " choisissez un --dir sur un disque local"
                ) from error
            fd = os.open(name, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
            undo.callback(os.close, fd)
            for sentence in set_mode(fd, self._mode, name):  # mkfifo(2) applies the umask
                log.warning("[INFO] %s", sentence)
            undo.pop_all()
        return fd

    def _is_in_place(self, name: str) -> bool:
        try:
            status = os.stat(name, dir_fd=self._directory.fd, follow_symlinks=False)
        except OSError as error:
            return (
                error.errno != errno.ENOENT
            )  # no right to look any more: nobody has touched it, as far as one can tell
        return os.path.samestat(status, os.fstat(self._fds[name]))


class ClientPipes:
    """The client's ends: one request, one reply, within a deadline. A context manager.

    directory: path of the run directory. timeout: seconds for one exchange. Raises NoServerError: no server, or it has
    a client already.
    """

    def __init__(self, directory: str, timeout: float) -> None:
        self._directory = directory
        self._timeout = timeout
        self._fds: dict[str, int] = {}
        self.connect()

    def __enter__(self) -> ClientPipes:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def connect(self) -> None:
        """Open the FIFOs, again if need be, and sweep them. Blocks, `timeout` at most. Raises NoServerError."""
        self.close()
        try:
            for inputs, output in PIPES.values():
                for name in inputs:
                    # Without a reader, a server, this fails at once instead of blocking: fifo(7).
                    self._fds[name] = self._open(name, os.O_WRONLY)
                self._fds[output] = self._open(output, os.O_RDONLY)
            self._lock(self._fds[SESSION], 0.0, "le serveur a déjà un client, et la question 1 n'en sert qu'un")
            self._sweep()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the FIFOs, and so let another client come."""
        for fd in self._fds.values():
            os.close(fd)
        self._fds = {}

    def exchange(self, kind: int, *words: int) -> int:
        """Send `words` (a show; or a show and seats) and return the reply as a number. Blocks, `timeout` at most.

        Raises NoServerError: nobody could be asked. NoAnswerError: no answer in time, or none that is one, or the
        server has gone; the request may have been served.
        """
        inputs, output = PIPES[kind]
        if not self._fds:
            raise NoServerError("pas de connexion au serveur")
        fd = self._fds[output]
        _empty(fd)  # an answer that came after its deadline
        deadline = time.monotonic() + self._timeout
        sent = False
        try:
            for name, word in zip(inputs, words, strict=True):
                os.write(self._fds[name], PIPE_INT.pack(word))
                sent = True
        except (BrokenPipeError, BlockingIOError) as error:
            gone = isinstance(error, BrokenPipeError)
            why = "le serveur s'est arrêté" if gone else "le serveur ne lit plus ses tubes"
            raise (NoAnswerError if sent else NoServerError)(why) from None
        size = PIPE_INT.size if kind == LIST else PIPE_BOOL.size
        reply = self._receive(fd, size, deadline, inputs)
        # What our server says to a probe that was given up waiting for.
        while kind == LIST and len(reply) > size and PIPE_INT.unpack_from(reply)[0] <= LAST_PROBE:
            reply = reply[size:]
        if len(reply) != size:
            what = "int" if kind == LIST else "bool"
            raise NoAnswerError(f"{output} : réponse de {len(reply)} octet(s) au lieu de {size} (un {what} du C)")
        if kind == LIST:
            answer = int(PIPE_INT.unpack(reply)[0])
            late_probe = answer <= LAST_PROBE and answer != words[0]
            return self.exchange(kind, *words) if late_probe else answer
        if reply[0] > 1:
            raise NoAnswerError(f"{output} : réponse incompréhensible, {reply[0]} au lieu de 0 ou 1 (un bool du C)")
        return reply[0]

    def _receive(self, fd: int, size: int, deadline: float, inputs: tuple[str, ...]) -> bytes:
        """Return what the server answers: `size` bytes; fewer only if no more came in time, or more if it sent more."""
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        reply = b""
        while len(reply) < size and poll.poll(max(deadline - time.monotonic(), 0.0) * 1000):
            part = os.read(fd, 4096)
            if not part:  # POLLHUP: a server that dies closes the other end
                unread = any(_unread(self._fds[name]) for name in inputs)
                when = "sans avoir lu la demande" if unread else "en traitant la demande"
                raise (NoServerError if unread else NoAnswerError)(f"le serveur s'est arrêté {when}")
            reply += part
        if not reply:
            if all(_unread(self._fds[name]) for name in inputs):
                raise NoAnswerError(f"{self._late()} : il ne lit pas, la demande est restée dans le tube", waits=True)
            raise NoAnswerError(f"{self._late()} : il a pris la demande, et se tait")
        return reply

    def _open(self, name: str, flags: int) -> int:
        path = os.path.join(self._directory, name)
        try:
            fd = os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            if error.errno == errno.ENXIO:
                raise NoServerError(f"aucun serveur : personne ne lit {path}") from None
            # Who may not look, or has no descriptor left, does not know whether there is one.
            known = error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
            raise NoServerError(f"aucun serveur : {reason(error)}" if known else reason(error)) from None
        if not stat.S_ISFIFO(os.fstat(fd).st_mode):
            os.close(fd)
            raise NoServerError(f"{path} : ce n'est pas un tube")
        return fd

    def _lock(self, fd: int, timeout: float, otherwise: str) -> None:
        deadline = time.monotonic() + timeout
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise NoServerError(otherwise) from None
                time.sleep(RETRY)

    def _sweep(self) -> None:
        """Make sure that nothing a dead client has left, in the FIFOs or in the server's hands, is taken for ours."""
        (request,), reply = PIPES[LIST]
        self._discard(request)
        if self._is_ours():
            self._probe(self._fds[request], self._fds[reply])
        else:
            self._wait_for_silence(self._fds[reply])
        inputs, reply = PIPES[RESERV]
        turn = self._fds[inputs[0]]
        self._lock(turn, self._timeout, self._late())
        for name in inputs:
            self._discard(name)
        _empty(self._fds[reply])
        fcntl.flock(turn, fcntl.LOCK_UN)

    def _is_ours(self) -> bool:
        """Say whether the server is one of ours, which hold a lock in their directory as long as they live."""
        try:
            return server_of(self._directory).get("question") == "q1_pipes"
        except PermissionError:  # another user's: the file is there, and goes when its server goes
            return True
        except OSError:
            return False

    def _probe(self, request_fd: int, reply_fd: int) -> None:
        probe = PIPE_INT.pack(int.from_bytes(os.urandom(4), "little") % 2**30 - 2**31)
        try:
            os.write(request_fd, probe)
        except BrokenPipeError:
            raise NoServerError("le serveur s'est arrêté") from None
        except BlockingIOError:
            raise NoServerError("le serveur ne lit plus ses tubes") from None
        poll = select.poll()
        poll.register(reply_fd, select.POLLIN)
        answer, patience = b"", self._timeout
        while answer != probe and poll.poll(patience * 1000):
            try:
                answer = os.read(reply_fd, PIPE_INT.size)
            except BlockingIOError:  # 64 KB of unread answers: the server has just thrown them away
                continue
            if not answer:
                raise NoServerError("le serveur s'est arrêté")
            patience = SILENCE
        if not answer:
            raise NoServerError(self._late())

    def _wait_for_silence(self, fd: int) -> None:
        deadline = time.monotonic() + self._timeout
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        while poll.poll(SILENCE * 1000):
            with contextlib.suppress(BlockingIOError):
                if not os.read(fd, 65536):
                    raise NoServerError("le serveur s'est arrêté")
            if time.monotonic() > deadline:
                raise NoServerError(f"{SESSION} : des réponses sans fin, que personne n'a demandées")

    def _late(self) -> str:
        return f"pas de réponse du serveur en {self._timeout:g} s"

    def _discard(self, name: str) -> None:
        fd = self._open(name, os.O_RDWR)
        _empty(fd)
        os.close(fd)


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, PIPE_INT.size)
    except BlockingIOError:
        return b""


def _unread(fd: int) -> int:
    """Return how many bytes lie unread in a FIFO, whichever end `fd` is, pipe(7)."""
    count: int = struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, bytes(4)))[0]
    return count


def _empty(fd: int) -> None:
    with contextlib.suppress(BlockingIOError):
        while os.read(fd, 65536):
            pass
