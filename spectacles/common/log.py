"""Log lines: date, time, level, the original's tag, then client, request and outcome; on standard output and in a file.

The standard logging module does the work, with two additions: one handler formats a line once for both places, and the
file can be shared: several processes append to it, one write per line, and rotate it under a lock. Each of them notices
within CHECK seconds that somebody else (logrotate, rm) has taken the file away, and makes another.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import stat
import sys
import threading
import time
import traceback

from spectacles.common.text import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

CHECK = 1.0  # seconds between two looks at the name of the file
MAX_BYTES = 1_000_000  # size at which a log file is rotated
KEPT_FILES = 5  # NAME.log, NAME.log.1, ... NAME.log.5

# On a terminal
LEVELS = {"WARNING": "ATTENTION", "ERROR": "ERREUR"}
# Colours, console_codes(4); a refusal is yellow, an error red.
TAGS = {"[CONSULTATION]": 36, "[RESERVATION]": 32, "[PANIER]": 35}
UNNAMED = ("MainThread", "Thread-", "Dummy-")  # what threading calls threads that nobody has named

logger = logging.getLogger("spectacles")
logger.propagate = False
logger.addHandler(logging.NullHandler())
logger.setLevel(logging.INFO)

# Every request passes here: start() replaces what --log-level hides by a function that does nothing.
debug: Callable[..., None] = logger.debug
info: Callable[..., None] = logger.info
warning = logger.warning
error = logger.error


def reservation(client: object, show: int, seats: int, left: int) -> None:
    """Log the outcome of a reservation; `left` is what SpectacleTable.reserve() returned."""
    if left >= 0:
        info("[RESERVATION] client %s : %d place(s) du spectacle %d, reste %d", client, seats, show, left)
    else:
        why = getattr(left, "why", "sans raison connue")
        info("[RESERVATION] client %s : %d place(s) du spectacle %d, refusé : %s", client, seats, show, why)


def consultation(client: object, show: int, places: int) -> None:
    """Log a consultation of one show; `places` is what SpectacleTable.consult() returned."""
    if places >= 0:
        info("[CONSULTATION] client %s : spectacle %d, %d places", client, show, places)
    else:
        info("[CONSULTATION] client %s : spectacle %d inexistant", client, show)


def announce(message: str) -> None:
    """Log `message` as information whatever --log-level says: the lines that scripts wait for."""
    logger.handle(logger.makeRecord(logger.name, logging.INFO, __file__, 0, message, (), None))


def exception(message: str, *args: object) -> None:
    """Log an error with the exception being handled: its type, text and where it was raised, on one line."""
    kind, value, trace = sys.exc_info()
    frames = traceback.extract_tb(trace, limit=-1)
    where = "".join(f" ({os.path.basename(frame.filename)}:{frame.lineno})" for frame in frames)
    logger.error(message + " : %s: %s%s", *args, kind.__name__ if kind else "?", value, where)


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        # What a client sends cannot drive a terminal or fake a line.
        return printable(super().format(record))


class _Short(logging.Formatter):
    """For people who look on: time, who answers (its name, PID or thread number), tag, sentence; colours if it may."""

    def __init__(self, colours: bool) -> None:
        super().__init__()
        self._colours = colours

    def format(self, record: logging.LogRecord) -> str:
        tag, _, sentence = printable(record.getMessage()).partition(" ")
        if record.levelno != logging.INFO and tag == "[INFO]":
            tag = f"[{LEVELS.get(record.levelname, record.levelname)}]"
        name = record.threadName or ""
        number = threading.get_native_id()  # of a process with one thread, its PID
        who = str(number) if name.startswith(UNNAMED) else name
        now = time.strftime("%H:%M:%S", time.localtime(record.created))
        if not self._colours:
            return f"{now} {who} {tag} {sentence}"
        colour = TAGS.get(tag, 0)
        if record.levelno >= logging.ERROR:
            colour = 31
        elif record.levelno == logging.WARNING or ", refusé" in sentence:
            colour = 33
        return f"\x1b[2m{now} {who}\x1b[0m \x1b[{colour}m{tag}\x1b[0m {sentence}"


def _for_people(fd: int) -> logging.Formatter | None:
    """Return how to write to a terminal, None for a file or a pipe: a script reads those, in full."""
    if not os.isatty(fd):
        return None
    return _Short(colours=not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb")


class _Handler(logging.Handler):
    """Write each line to standard output and append it to `name`.log in the directory `directory_fd`."""

    def __init__(
        self, directory_fd: int, name: str, open_directory: Callable[[], int] | None, *, several: bool = False
    ) -> None:
        super().__init__()
        self._directory = directory_fd
        self._open_directory = open_directory
        self.checked = 0.0  # when
        self._name = f"{name}.log"
        self._file = self._open()
        self._terminal: int | None = 1
        self._short = _for_people(1)
        who = "%(process)d " if several else ""
        self.setFormatter(_Formatter(f"%(asctime)s %(levelname)-7s {who}%(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        if record.created - self.checked >= CHECK or record.created < self.checked:  # the clock may be set back
            self.check(record.created)
        line = self.format(record).encode("utf-8", "backslashreplace") + b"\n"
        if self._terminal is not None:
            shown = line
            if self._short is not None:
                shown = self._short.format(record).encode("utf-8", "backslashreplace") + b"\n"
            try:
                os.write(self._terminal, shown)
            except BlockingIOError:
                pass
            except OSError:
                self._terminal = None  # closed, and will stay so
        # A full disk must not stop the service, and there is nowhere left to say so.
        with contextlib.suppress(OSError):
            os.write(self._file, line)  # O_APPEND: one write is one whole line, whoever else writes
            if os.fstat(self._file).st_size >= MAX_BYTES:
                self._rotate()

    def check(self, now: float) -> None:
        """Log to the file of that name, made anew if need be, in the directory of that name. now: seconds, time(2)."""
        self.checked = now
        with contextlib.suppress(OSError):  # then as before: there is nowhere to say so
            if self._open_directory is not None:
                directory = self._open_directory()
                try:
                    if not os.path.samestat(os.fstat(directory), os.fstat(self._directory)):
                        os.dup2(directory, self._directory, inheritable=False)
                finally:
                    os.close(directory)
            with contextlib.suppress(FileNotFoundError):
                current = os.stat(self._name, dir_fd=self._directory, follow_symlinks=False)
                if os.path.samestat(current, os.fstat(self._file)):
                    return
            old, self._file = self._file, self._open()
            os.close(old)

    def close(self) -> None:
        super().close()
        with contextlib.suppress(OSError):
            os.close(self._file)

    def _open(self) -> int:
        # O_NONBLOCK: a FIFO planted in its place must not stop the server, and is then refused.
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        fd = os.open(self._name, flags, 0o600, dir_fd=self._directory)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise OSError(errno.EINVAL, "ce n'est pas un fichier ordinaire", self._name)
        return fd

    def _rotate(self) -> None:
        fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._directory)
        try:
            with contextlib.suppress(OSError):  # where there are no locks two may rotate at once: a file is lost early
                fcntl.flock(fd, fcntl.LOCK_EX)
            with contextlib.suppress(FileNotFoundError):
                current = os.stat(self._name, dir_fd=self._directory, follow_symlinks=False)
                if os.path.samestat(current, os.fstat(self._file)):  # else another process has just done it
                    self._shift()
            old, self._file = self._file, self._open()
            os.close(old)
        finally:
            os.close(fd)

    def _shift(self) -> None:
        names = [self._name, *(f"{self._name}.{n}" for n in range(1, KEPT_FILES + 1))]
        for older, newer in reversed(list(zip(names[1:], names, strict=False))):
            with contextlib.suppress(FileNotFoundError):
                os.rename(newer, older, src_dir_fd=self._directory, dst_dir_fd=self._directory)


def start(
    directory_fd: int,
    name: str,
    level: str,
    open_directory: Callable[[], int] | None = None,
    *,
    several: bool = False,
) -> None:
    """Log from now on to the terminal and to `name`.log (created 0600) in the directory open as `directory_fd`.

    level: "debug", "info", "warning" or "error". open_directory: makes and opens that directory again if need be.
    several: servers log to it at a time, so that each line says whose it is, by PID.
    Raises OSError when the file cannot be opened or is a symbolic link.
    """
    global debug, info
    stop()
    logger.addHandler(_Handler(directory_fd, name, open_directory, several=several))
    logger.setLevel(level.upper())
    debug = logger.debug if logger.isEnabledFor(logging.DEBUG) else _ignore
    info = logger.info if logger.isEnabledFor(logging.INFO) else _ignore


def tend() -> None:
    """Make the log file anew if somebody has taken it away, though nothing is logged. Housekeeping."""
    now = time.time()
    for handler in logger.handlers:
        if isinstance(handler, _Handler) and abs(now - handler.checked) >= CHECK:
            with handler.lock or contextlib.nullcontext():
                handler.check(now)


def _ignore(message: object, *args: object) -> None:
    """Log nothing."""


def stop() -> None:
    """Close the handlers; later lines go nowhere, and levels are again as they were before start()."""
    global debug, info
    for handler in logger.handlers[:]:
        logger.removeHandler(handler)
        handler.close()
    logger.addHandler(logging.NullHandler())
    logger.setLevel(logging.INFO)
    debug, info = logger.debug, logger.info
