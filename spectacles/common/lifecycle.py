"""The life of a server: run directory, locks, signals, workers, clean-up, in this order and back.

A server is one `with Server(...)`: what it enters it leaves in reverse order, whatever happens. A signal only asks: its
handler sets a flag and a byte in a pipe wakes the main loop, which lets the workers finish the request in hand and then
leaves the `with` (defect 8). The main thread of every server does nothing but this; the work is in its workers.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
import traceback

from spectacles.common import addresses, host, invocation, log, storage
from spectacles.common.claims import bind, claim
from spectacles.common.directory import RunDirectory
from spectacles.common.errors import (
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    HeldError,
    SpectaclesError,
    UsageError,
    reason,
)
from spectacles.common.host import interrupt as interrupt
from spectacles.common.limits import need_descriptors
from spectacles.common.lockfile import OBJECTS
from spectacles.common.naming import show_as, shown_as
from spectacles.common.text import printable

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
        """The main() of a program: argv in (None: sys.argv), exit code out. For the main thread; see program()."""

        def __call__(self, argv: list[str] | None = None) -> int: ...

    class Workers(Protocol):
        """Who does the work: children.Children or threads.Threads."""

        def keep_going(self, damage: str | None) -> None:
            """Replace or report the dead; start all afresh if there is `damage` to the channel.

            Raises SpectaclesError when the service cannot go on.
            """

        def join(self) -> None:
            """Return once all have ended, whom the channel's stop() asks to, after a short while at most."""


TICK = 0.25  # seconds between two rounds of housekeeping
GRACE = 0.7  # seconds that workers get to finish the request in hand
NUDGE = 0.02  # seconds between two signals to a worker that may have missed the first
DESCRIPTORS = 24  # that a server opens at most before it has clients, and a few


class Server:
    """What every server does around its work. A context manager: enter it first, leave it last.

    name: of the question, for the log and the lock. options: what cli.parse_server() returned. shared: with other
    servers of that name in the same directory, each of which calls joined() when it has what they share. file: whether
    the table is kept in spectacles.dat; without it there is no `store`, and nothing of that name is looked at.
    Entering creates and locks the run directory, starts the log, opens (or creates) spectacles.dat as `store` and
    catches the signals. Raises SpectaclesError.

    housekeeping: what else to call in every round; it may raise SpectaclesError, when the service cannot go on.
    """

    store: storage.Store

    def __init__(self, name: str, options: Namespace, *, shared: bool = False, file: bool = True) -> None:
        self.name = name
        self.options = options
        self.directory = RunDirectory(options.dir, shared=shared)
        self._shared = shared
        self._unclaimed: list[str] = []  # names that another of those who share them has claimed
        self.stopping = False
        self.housekeeping: list[Callable[[], None]] = []
        self._keeps_file = file
        self._claimed: list[tuple[str, str]] = []  # what, value
        self._served = False
        self._undo = contextlib.ExitStack()

    def __enter__(self) -> Server:
        need_descriptors(DESCRIPTORS)
        with self._undo:
            self.enter(self.directory)
            if "shm_key" in self.options:
                addresses.resolve(self.options)
            self._before = {what: set(names) for what, names in self.directory.lock.objects.items()}
            self.directory.lock.write_holder(self.name)
            self._undo.callback(show_as, shown_as())
            show_as(self.name)
            self._catch_signals()
            try:
                logs_fd = self.directory.open_logs()
                self._undo.callback(os.close, logs_fd)
                log.start(logs_fd, self.name, self.options.log_level, self.directory.open_logs, several=self._shared)
                self._undo.callback(log.stop)
                for sentence in self.directory.said:
                    log.warning("[INFO] %s", sentence)
                if not self.directory.lock.alone:
                    self._wait_for_file()
                elif self._keeps_file and storage.is_missing(self.directory.fd):
                    _create_from_catalogue(self.directory.fd, self.directory.path, self.options.mode)
                    log.info("[INFO] %s créé depuis le catalogue", storage.FILE_NAME)
            except OSError as error:
                raise SpectaclesError(f"{self.directory.path} : {reason(error)}") from error
            if self._keeps_file:
                path = os.path.join(self.directory.path, storage.FILE_NAME)
                self.store = storage.Store(self.directory.fd, path, fsync=self.options.fsync)
                self._undo.callback(self.store.close)
            self._undo = self._undo.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self._undo.__exit__(*error)  # type: ignore[arg-type]
        finally:
            # The interpreter, as it ends, gives handled signals their default action back: an impatient Ctrl-C would
            # then kill a server that has done everything right. (A program that goes on gets its own back: program().)
            for number in (*host.STOP_SIGNALS, signal.SIGUSR1):
                signal.signal(number, signal.SIG_IGN)

    def enter(self, part: AbstractContextManager[T]) -> T:
        """Enter `part`, to be left when the server ends, after all that was entered later."""
        return self._undo.enter_context(part)

    def claim(self, what: str, value: object) -> None:
        """Make a key, a name or a port this server's own, and say so at start. Raises HeldError.

        Where the directory is shared, it is theirs who share it: they must all give the same.
        """
        if self.directory.lock.alone:
            self._undo.callback(claim(f"{what} {value}").close)
        else:
            theirs = self.directory.lock.objects.get(what, set())
            if str(value) not in theirs:
                raise HeldError(
                    f"{self.directory.path} : les serveurs qui y travaillent ont --{what} {' '.join(sorted(theirs))} ;"
                    " donnez la même valeur, ou un autre --dir"
                )
            self._unclaimed.append(f"{what} {value}")
        self._claimed.append((what, str(value)))
        if what in OBJECTS:
            self.directory.lock.add(what, str(value))
            self._undo.callback(self._removed, what, str(value))

    def joined(self) -> None:
        """Let others in that share the directory: what this server shares with them is there."""
        self.directory.open_door()

    def run(self, channel: Channel, workers: Workers) -> None:
        """Say `Serveur UP`, then serve until a signal asks to stop. Blocks.

        Raises SpectaclesError when the service cannot go on.
        """
        self._served = True
        claimed = "".join(f", {what} {value}" for what, value in self._claimed)
        others = [
            f"{what} {name}" for what, old in self._before.items() for name in old if (what, name) not in self._claimed
        ]
        if others:
            clean = invocation.hint("clean", self.directory.path)
            log.warning("[INFO] laissé par un serveur tué : %s (%s après l'arrêt)", ", ".join(others), clean)
        log.announce(f"[INFO] répertoire {self.directory.path}{claimed}")
        log.announce(f"[INFO] Serveur UP ({self.name}, PID {os.getpid()})")
        poll = select.poll()
        poll.register(self._wakeup_fd, select.POLLIN)
        poll.register(channel.fileno(), select.POLLIN)
        try:
            while not self.stopping:
                poll.poll(TICK * 1000)  # blocks; signals wake it by the pipe
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wakeup_fd, 512)
                self._tend()
                workers.keep_going(channel.tend())
        finally:
            log.announce("[INFO] Arrêt, fin des requêtes en cours")
            channel.stop()
            workers.join()
            self._finish()

    def _tend(self) -> None:
        log.tend()
        self.directory.tend()
        for name in self._unclaimed[:]:
            if holder := bind(name):  # who had claimed it has ended
                self._undo.callback(holder.close)
                self._unclaimed.remove(name)
        if (table := self._table()) is not None:
            table.tend()
        for look in self.housekeeping:
            look()

    def _table(self) -> storage.Table | None:
        return self.store.table if self._keeps_file else None

    def _finish(self) -> None:
        """Make sure, nobody being left to change it, that what was acknowledged is in a file that will be found."""
        table = self._table()
        if table is None:
            return
        table.settle()
        if self.directory.where() is None:
            try:
                place = storage.rescue(self.directory.path, table.snapshot())
            except OSError as error:
                raise SpectaclesError(
                    f"{self.directory.path} : répertoire supprimé sous le serveur, et la table ne peut pas y être"
                    f" remise ({reason(error)}) ; {table.seats_left()}"
                ) from error
            raise SpectaclesError(
                f"{self.directory.path} : répertoire supprimé sous le serveur ; la table, à jour, est dans {place} ;"
                " relancez le serveur"
            )
        if problem := table.finish():
            raise SpectaclesError(problem)

    def _removed(self, what: str, name: str) -> None:
        if self._shared and not self.directory.is_last():
            return
        # What a dead server left was only replaced, and then removed, if this one came to serve.
        if self._served or name not in self._before.get(what, ()):
            self.directory.lock.remove(what, name)

    def _catch_signals(self) -> None:
        self._wakeup_fd, wakeup_write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._undo.callback(os.close, self._wakeup_fd)
        self._undo.callback(os.close, wakeup_write_fd)
        before = signal.set_wakeup_fd(wakeup_write_fd, warn_on_full_buffer=False)
        self._undo.callback(signal.set_wakeup_fd, before)
        host.catch_stop_signals(self._ask_to_stop)
        for number in (signal.SIGCHLD, signal.SIGUSR1):
            signal.signal(number, interrupt)

    def _ask_to_stop(self, number: int, frame: FrameType | None) -> None:
        self.stopping = True

    def _wait_for_file(self) -> None:
        # Somebody has taken it away: those who serve already put it back, with what they have sold.
        deadline = time.monotonic() + 4 * TICK
        while storage.is_missing(self.directory.fd) and time.monotonic() < deadline:
            time.sleep(NUDGE)


def _create_from_catalogue(directory_fd: int, path: str, mode: int) -> None:
    # In a child: what reading TOML imports (2.5 MB) goes with it, and the server stays light.
    read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
    try:
        pid = host.fork()
    except SpectaclesError:
        os.close(read_fd)
        os.close(write_fd)
        raise
    if pid == 0:
        code = 1
        try:
            from spectacles.common import catalogue

            for sentence in storage.create(directory_fd, catalogue.load(catalogue.default_path(path)), mode):
                log.warning("[INFO] %s", sentence)
            code = 0
        except (SpectaclesError, OSError) as error:
            os.write(write_fd, reason(error).encode()[:4000])
        finally:
            os._exit(code)
    os.close(write_fd)
    with open(read_fd, encoding="utf-8", errors="replace") as pipe:
        why = pipe.read()
    _, status = os.waitpid(pid, 0)
    if status != 0:
        raise SpectaclesError(f"{storage.FILE_NAME} n'a pas pu être créé depuis le catalogue : {why}")


def program(main: Callable[[list[str] | None], int | None]) -> Program:
    """Decorate the main() of a program: failures become one line on standard error and an exit code, never a trace.

    While it runs, its process is as a program needs it; then it is again as it was, for a program that has called
    main() and goes on: see host.fit_for_us(). Without effect on others, but they must not use the same signals at the
    same time. Only children that are forked while other threads of that program run may find locks taken, fork(2).
    """

    def run(argv: list[str] | None = None) -> int:
        try:
            with host.fit_for_us(give_back=not _ends_with_us):
                return _outcome(main, argv)
        except UsageError as error:
            return _fail(main, str(error), error.exit_code)

    run.__doc__ = main.__doc__
    return run


def command(main: Program) -> int:
    """Run the main() that this process is there for, and return its exit code to end with: nothing is given back."""
    global _ends_with_us
    _ends_with_us = True
    return main()


_ends_with_us = False


def _outcome(main: Callable[[list[str] | None], int | None], argv: list[str] | None) -> int:
    try:
        code = main(argv) or EXIT_DONE
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except SpectaclesError as error:
        return _fail(main, str(error), error.exit_code)
    except OSError as error:
        _silence_stdout()
        closed = isinstance(error, BrokenPipeError)  # what a peer does is dealt with where it happens
        return _fail(main, "sortie standard fermée" if closed else reason(error), EXIT_FAILED)
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        what = f"{type(error).__name__}: {error} ({os.path.basename(where.filename)}:{where.lineno})"
        return _fail(main, f"erreur interne, à signaler : {what}", EXIT_FAILED)


def _fail(main: Callable[..., object], message: str, code: int) -> int:
    with contextlib.suppress(OSError):
        print(f"{_name_of(main)} : {printable(message)}", file=sys.stderr, flush=True)
    return code


def _silence_stdout() -> None:
    # If it is standard output that failed, the interpreter must not try once more when it ends.
    with contextlib.suppress(OSError, ValueError):
        if sys.stdout is not None:
            try:
                sys.stdout.flush()
            except OSError:
                fd = os.open(os.devnull, os.O_WRONLY)
                os.dup2(fd, sys.stdout.fileno())
                os.close(fd)


def _name_of(main: Callable[..., object]) -> str:
    return invocation.name(main.__module__)
