"""The life of a server: run directory, locks, signals, workers, clean-up, in this order and back.

A server is one `with Server(...)`: what it enters it leaves in reverse order, whatever happens. A signal only asks: its
handler sets a flag and a byte in a pipe wakes the main loop, which lets the workers finish the request in hand and then
leaves the `with` (defect 8). The main thread of every server does nothing but this; the work is in its workers.
"""

from __future__ import annotations

import _thread
import contextlib
import errno
import fcntl
import mmap
import os
import resource
import select
import signal
import socket
import struct
import sys
import threading
import time

from spectacles.common import addresses, log, storage
from spectacles.common.errors import EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED, HeldError, SpectaclesError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from types import FrameType
    from typing import Protocol, TypeVar

    T = TypeVar("T")

    class Channel(Protocol):
        """How requests reach the workers; a server hands one to Server.run()."""

        def fileno(self) -> int:
            """A descriptor that is readable when tend() has something to do at once."""

        def tend(self) -> str | None:
            """Housekeeping, in the main thread, at least every TICK seconds. Return why workers must start afresh."""

        def stop(self) -> None:
            """Ask the loops over requests to end after the request in hand. Called from signal handlers too."""

    class Program(Protocol):
        """The main() of a program: argv in (None: sys.argv), exit code out."""

        def __call__(self, argv: list[str] | None = None) -> int: ...

    class Workers(Protocol):
        """Who does the work: Children or Threads."""

        def check(self, damage: str | None) -> None:
            """Replace or report the dead; start all afresh if there is `damage` to the channel.

            Raises SpectaclesError when the service cannot go on.
            """

        def stop(self) -> None:
            """Wait until all have ended, at most GRACE seconds."""


TICK = 0.25  # seconds between two rounds of housekeeping
GRACE = 0.7  # seconds that workers get to finish the request in hand
RECOVERY_GRACE = 0.3  # ...when one of them has died, perhaps with the lock that the others wait for
NUDGE = 0.02  # seconds between two signals to a worker that may have missed the first
MAX_DEATHS = 5  # in a row, with no request answered in between...
DEATHS_WINDOW = 10.0  # ...within this many seconds: give up
LOCK_NAME = "server.lock"
LOGS_NAME = "logs"
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def process_exists(pid: int) -> bool:
    """Say whether `pid` (above 0) is a process, of whatever user, kill(2) with signal 0."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True


def claim(name: str) -> socket.socket:
    """Make `name` (a key, a port...) this server's own until it and its children have died, and return what holds it.

    An abstract UNIX socket, unix(7): the kernel frees the address with its last holder, children included, and knows
    who bound it. Names are per IPC namespace, as the objects they stand for. Raises HeldError, with the holder's PID.
    """
    namespace = os.readlink("/proc/self/ns/ipc")
    address = f"\0spectacles/{namespace}/{name}"
    holder = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        holder.bind(address)
        holder.listen(128)
    except OSError as error:
        holder.close()
        if error.errno != errno.EADDRINUSE:
            raise
        who = "un autre serveur"
        asking = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        with asking, contextlib.suppress(OSError):
            asking.connect(address)
            credentials = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            who = f"le serveur de PID {struct.unpack('3i', credentials)[0]}"
        raise HeldError(f"{name} : déjà utilisé par {who} ; arrêtez-le, ou choisissez une autre valeur") from None
    return holder


class RunDirectory:
    """The directory of one server: spectacles.dat, FIFOs, lock, logs. Every file in it is reached through `fd`.

    A context manager that holds server.lock, flock(2): children inherit it, so that the kernel frees it when the last
    process of the server has died, however it died. The file says who holds it and with which keys.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.fd = -1
        self._lock_fd = -1

    def __enter__(self) -> RunDirectory:
        """Create the directory (0700) if need be and lock it. Raises HeldError, SpectaclesError. Blocks 1 s at most."""
        try:
            os.makedirs(self.path, 0o700, exist_ok=True)
            self.fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            self._lock()
        except OSError as error:
            self.close()
            raise SpectaclesError(f"{self.path} : {error.strerror}") from error
        except SpectaclesError:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        os.unlink(LOCK_NAME, dir_fd=self.fd)  # while locked: nobody else can hold this very file
        self.close()

    def close(self) -> None:
        """Let go of the directory without removing the lock file."""
        for fd in (self._lock_fd, self.fd):
            if fd >= 0:
                os.close(fd)
        self._lock_fd = self.fd = -1

    def write_record(self, record: dict[str, object]) -> None:
        """Say in the lock file who holds it: what `clean` reads after a kill -9."""
        os.ftruncate(self._lock_fd, 0)
        os.pwrite(self._lock_fd, "".join(f"{name}={value}\n" for name, value in record.items()).encode(), 0)

    def read_record(self) -> dict[str, str]:
        """Return what the present or last holder wrote, {} if nothing."""
        text = os.pread(self._lock_fd, 4096, 0).decode("utf-8", "replace")
        return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)

    def open_logs(self) -> int:
        """Create DIR/logs (0700) if need be and return a descriptor of it. Raises OSError, also on a symbolic link."""
        with contextlib.suppress(FileExistsError):
            os.mkdir(LOGS_NAME, 0o700, dir_fd=self.fd)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(LOGS_NAME, flags, dir_fd=self.fd)

    def _lock(self) -> None:
        deadline = time.monotonic() + 1.0
        while True:
            self._lock_fd = os.open(
                LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600, dir_fd=self.fd
            )
            try:
                fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # The last holder may have removed the file between our open and our lock.
                if os.path.samestat(os.fstat(self._lock_fd), os.stat(LOCK_NAME, dir_fd=self.fd)):
                    return
            except BlockingIOError:
                record = self.read_record()
                pid = int(record.get("pid", "0"))
                # The children of a server killed a moment ago are dying too: wait for them.
                if time.monotonic() > deadline or (pid and process_exists(pid)):
                    who = f"{record.get('question', '?')}, PID {pid}" if pid else "inconnu"
                    raise HeldError(
                        f"{self.path} : un serveur y travaille déjà ({who}) ; arrêtez-le, ou choisissez un autre --dir"
                    ) from None
            except FileNotFoundError:
                pass
            os.close(self._lock_fd)
            self._lock_fd = -1
            time.sleep(NUDGE)


class Server:
    """What every server does around its work. A context manager: enter it first, leave it last.

    name: of the question, for the log and the lock. options: what cli.server_options() returned.
    Entering creates and locks the run directory, starts the log, opens (or creates) spectacles.dat as `store` and
    catches the signals. Raises SpectaclesError.
    """

    def __init__(self, name: str, options: Namespace) -> None:
        self.name = name
        self.options = options
        self.directory = RunDirectory(options.dir)
        self.stopping = False
        self._record: dict[str, object] = {"pid": os.getpid(), "question": name}
        self._undo = contextlib.ExitStack()

    def __enter__(self) -> Server:
        with self._undo:
            self.enter(self.directory)
            if "shm_key" in self.options:
                addresses.resolve(self.options)
            self.directory.write_record(self._record)
            self._catch_signals()
            try:
                logs_fd = self.directory.open_logs()
                self._undo.callback(os.close, logs_fd)
                log.start(logs_fd, self.name, self.options.log_level)
                self._undo.callback(log.stop)
                if storage.is_missing(self.directory.fd):
                    _create_from_catalogue(self.directory.fd, self.directory.path, self.options.mode)
            except OSError as error:
                raise SpectaclesError(f"{self.directory.path} : {error.filename or ''} {error.strerror}") from error
            path = os.path.join(self.directory.path, storage.FILE_NAME)
            self.store = storage.Store(self.directory.fd, path, fsync=self.options.fsync)
            self._undo.callback(self.store.close)
            self._undo = self._undo.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._undo.__exit__(*error)  # type: ignore[arg-type]

    def enter(self, part: AbstractContextManager[T]) -> T:
        """Enter `part`, to be left when the server ends, after all that was entered later."""
        return self._undo.enter_context(part)

    def claim(self, what: str, value: object) -> None:
        """Make a key, a name or a port this server's own, and say so at start. Raises HeldError."""
        self._undo.callback(claim(f"{what} {value}").close)
        self._record[what] = value
        self.directory.write_record(self._record)

    def run(self, channel: Channel, workers: Workers) -> None:
        """Say `Serveur UP`, then serve until a signal asks to stop. Blocks.

        Raises SpectaclesError when the service cannot go on.
        """
        names = "".join(f", {what} {value}" for what, value in list(self._record.items())[2:])
        log.announce(f"[INFO] répertoire {self.directory.path}{names}")
        log.announce(f"[INFO] Serveur UP ({self.name}, PID {os.getpid()})")
        poll = select.poll()
        poll.register(self._wakeup_fd, select.POLLIN)
        poll.register(channel.fileno(), select.POLLIN)
        try:
            while not self.stopping:
                poll.poll(TICK * 1000)  # blocks; signals wake it by the pipe
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wakeup_fd, 512)
                workers.check(channel.tend())
        finally:
            log.announce("[INFO] Arrêt, fin des requêtes en cours")
            channel.stop()
            workers.stop()

    def _catch_signals(self) -> None:
        self._wakeup_fd, wakeup_write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wakeup_write_fd, warn_on_full_buffer=False)
        for number in STOP_SIGNALS:
            signal.signal(number, self._ask_to_stop)
        for number in (signal.SIGCHLD, signal.SIGUSR1):
            signal.signal(number, _wake)
        self._undo.callback(os.close, self._wakeup_fd)
        self._undo.callback(os.close, wakeup_write_fd)
        self._undo.callback(signal.set_wakeup_fd, -1)

    def _ask_to_stop(self, number: int, frame: FrameType | None) -> None:
        self.stopping = True


def _wake(number: int, frame: FrameType | None) -> None:
    """Do nothing: the signal has interrupted a blocked call, which is all it is for."""


def _create_from_catalogue(directory_fd: int, path: str, mode: int) -> None:
    # In a child: what reading TOML imports (2.5 MB) goes with it, and the server stays light.
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            from spectacles.common import catalogue

            storage.create(directory_fd, catalogue.load(catalogue.default_path(path)), mode)
            code = 0
        except (SpectaclesError, OSError) as error:
            print(f"{path} : {error}", file=sys.stderr, flush=True)
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    if status != 0:
        raise SpectaclesError(f"{path} : {storage.FILE_NAME} n'a pas pu être créé depuis le catalogue")


class Children:
    """Forked workers, replaced when they die (defect 10). A context manager that leaves no child behind.

    channel: its stop() is what SIGTERM calls in a child; its `served` (shared, 1 byte) is set by every reply.
    recover: put the shared state right; called, in order, when no child is alive.
    """

    def __init__(self, server: Server, channel: ServingChannel, *recover: Callable[[], None]) -> None:
        self._server = server
        self._channel = channel
        self._recover = recover
        self._jobs: list[tuple[Callable[..., None], tuple[object, ...]]] = []
        self._pids: dict[int, str] = {}
        self._deaths: list[float] = []
        self._lifeline = os.pipe2(os.O_CLOEXEC)  # nothing is ever written: only the parent's death closes it

    def __enter__(self) -> Children:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        for fd in self._lifeline:
            os.close(fd)

    def start(self, work: Callable[..., None], *args: object) -> None:
        """Fork a child that runs work(*args) and exits; it gets SIGTERM to stop, and dies with its parent."""
        self._jobs.append((work, args))
        self._fork(work, args)

    def check(self, damage: str | None) -> None:
        """Reap the dead; if one died unasked, or there is `damage`, put everything right and start all again.

        No half measures: nobody can tell for sure who held the semaphore, so the others are asked to finish their
        request and leave, and once nobody is left the state is rebuilt from the file. Blocks, RECOVERY_GRACE at most.
        Raises SpectaclesError after MAX_DEATHS within DEATHS_WINDOW without one request answered.
        """
        dead = self._reap()
        if not dead and not damage:
            return
        time.sleep(NUDGE)  # a signal to the whole group may have reached the children first
        if self._server.stopping:
            return
        log.error("[INFO] %s : je relance tous les fils", " ; ".join([*dead, *([damage] if damage else [])]))
        now = time.monotonic()
        if self._channel.served[0]:
            self._deaths.clear()
        self._channel.served[0] = 0
        self._deaths = [moment for moment in self._deaths if now - moment < DEATHS_WINDOW] + [now]
        if len(self._deaths) >= MAX_DEATHS:
            raise SpectaclesError(
                f"{MAX_DEATHS} morts de fils en {DEATHS_WINDOW:.0f} s sans une réponse entre elles : j'abandonne"
            )
        self.stop(RECOVERY_GRACE)
        for recover in self._recover:
            recover()
        for work, args in self._jobs:
            self._fork(work, args)
        log.info("[INFO] service rétabli")

    def stop(self, grace: float = GRACE) -> None:
        """Ask every child to finish its request and leave; kill those that have not after `grace` seconds. Blocks."""
        deadline = time.monotonic() + grace
        while self._pids:
            # Again and again: the first may come just before the child blocks, and would then be lost on it.
            number = signal.SIGTERM if time.monotonic() < deadline else signal.SIGKILL
            for pid in self._pids:
                os.kill(pid, number)
            time.sleep(NUDGE / 4)
            self._reap()

    def _reap(self) -> list[str]:
        dead = []
        for pid in list(self._pids):
            reaped, status = os.waitpid(pid, os.WNOHANG)
            if reaped:
                code = os.waitstatus_to_exitcode(status)
                cause = f"tué par le signal {-code}" if code < 0 else f"sorti avec le code {code}"
                dead.append(f"fils {self._pids.pop(pid)} (PID {pid}) {cause}")
        return dead

    def _fork(self, work: Callable[..., None], args: tuple[object, ...]) -> None:
        parent = os.getpid()
        pid = os.fork()
        if pid:
            self._pids[pid] = " ".join([work.__name__, *(str(arg) for arg in args if isinstance(arg, int))])
            return
        code = 1
        try:
            os.close(self._lifeline[1])
            self._die_with(parent)
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
            signal.signal(signal.SIGTERM, lambda *_: self._channel.stop())
            # A child that waits for the semaphore goes on waiting (sem_wait(3) is restarted, signal(7)), so that it
            # finishes its request; one that waits for a request does not (msgrcv(2) never is).
            signal.siginterrupt(signal.SIGTERM, False)
            work(*args)
            code = 0
        except SpectaclesError as error:
            log.error("[INFO] %s", error)
        except Exception:
            log.exception("[INFO] fils %s", work.__name__)
        finally:
            os._exit(code)

    def _die_with(self, parent: int) -> None:
        # The only writer of this pipe is the parent: when it dies, however it dies, the kernel sends SIGIO to the
        # owner of every open reading end, fcntl(2), and the default action of SIGIO is to terminate. The end is
        # opened again because an owner belongs to the open file, which forked children share.
        fd = os.open(f"/proc/self/fd/{self._lifeline[0]}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.fcntl(fd, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(fd, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
        if os.getppid() != parent:
            os._exit(1)


if TYPE_CHECKING:

    class ServingChannel(Channel, Protocol):
        """A channel used by children."""

        served: mmap.mmap


class Threads:
    """Worker threads of one process. A context manager that waits for them.

    A thread that ends by an exception makes check() raise: a service is never left half alive.
    """

    def __init__(self) -> None:
        self._threads: list[threading.Thread] = []
        self._failure: str | None = None

    def __enter__(self) -> Threads:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, work: Callable[..., None], *args: object) -> None:
        """Run work(*args) in a thread."""
        thread = threading.Thread(target=self._guard, args=(work, args), daemon=True)
        self._threads.append(thread)
        thread.start()

    def check(self, damage: str | None) -> None:
        """Raise SpectaclesError if a thread has ended by an exception, or there is `damage` to the channel."""
        self._failure = self._failure or damage
        if self._failure:
            raise SpectaclesError(self._failure)

    def stop(self) -> None:
        """Interrupt what the threads are blocked in until all have ended, at most GRACE seconds. Blocks."""
        deadline = time.monotonic() + GRACE
        for thread in self._threads:
            while thread.is_alive() and time.monotonic() < deadline:
                with contextlib.suppress(ProcessLookupError):
                    signal.pthread_kill(thread.ident or 0, signal.SIGUSR1)
                thread.join(NUDGE)

    def _guard(self, work: Callable[..., None], args: tuple[object, ...]) -> None:
        try:
            work(*args)
        except SpectaclesError as error:
            self._failure = str(error)
        except Exception as error:
            log.exception("[INFO] thread %s", work.__name__)
            self._failure = f"thread {work.__name__} arrêté par une erreur : {error}"
        else:
            return
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)


class DetachedThreads:
    """One thread per task, at most `limit` at once (defect 16); nobody joins them one by one."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._slots = threading.Semaphore(limit)

    def start(self, work: Callable[..., None], *args: object) -> None:
        """Run work(*args) in a thread of its own. Blocks while `limit` run, or while the system gives no thread."""
        self._slots.acquire()
        late = False
        while True:
            try:
                _thread.start_new_thread(self._run, (work, args))
                return
            except RuntimeError as error:
                if not late:
                    log.error("[INFO] pas de thread pour cette requête, j'attends : %s", error)
                late = True
                time.sleep(NUDGE)

    def join(self) -> None:
        """Return once none is running, after GRACE seconds at most. Blocks. Nothing can be started after this."""
        deadline = time.monotonic() + GRACE
        for _ in range(self._limit):
            self._slots.acquire(timeout=max(deadline - time.monotonic(), 0))

    def _run(self, work: Callable[..., None], args: tuple[object, ...]) -> None:
        try:
            work(*args)
        except Exception:
            log.exception("[INFO] thread %s", work.__name__)
        finally:
            self._slots.release()


def raise_descriptor_limit() -> int:
    """Raise the soft limit of open descriptors to the hard one, and return it, getrlimit(2)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else soft


def program(main: Callable[[list[str] | None], int | None]) -> Program:
    """Decorate the main() of a program: failures become one line on standard error and an exit code, never a trace."""

    def run(argv: list[str] | None = None) -> int:
        try:
            return main(argv) or EXIT_DONE
        except KeyboardInterrupt:
            return EXIT_INTERRUPTED
        except SpectaclesError as error:
            message, code = str(error), error.exit_code
        except OSError as error:
            message = f"{error.filename} : {error.strerror}" if error.filename else str(error.strerror or error)
            code = EXIT_FAILED
        with contextlib.suppress(OSError):
            print(f"{_name_of(main)} : {log.printable(message)}", file=sys.stderr, flush=True)
        return code

    run.__doc__ = main.__doc__
    return run


def _name_of(main: Callable[..., object]) -> str:
    module = sys.modules[main.__module__]
    return (module.__spec__.name if module.__spec__ else module.__name__).removeprefix("spectacles.")
