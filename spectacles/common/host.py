"""The process that a program runs in: made fit for it, and given back as it was.

A program inherits more than its command line. Which signals are ignored or blocked outlives exec, signal(7), and so
does the lack of descriptors 0 to 2. To ignore SIGHUP or SIGINT is a wish (nohup(1), a script's background job), and is
respected; a blocked signal or an ignored SIGCHLD is an accident of whoever started us, and would stop what relies on
it: the end, deadlines, noticing deaths. And main() may be called by a program that goes on afterwards.
"""

from __future__ import annotations

import _thread
import contextlib
import io
import os
import resource
import signal
import sys

from spectacles.common.errors import SpectaclesError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# To stop; for deadlines; deaths of children; death of their parent; to interrupt a thread.
RELIED_ON = (*STOP_SIGNALS, signal.SIGALRM, signal.SIGCHLD, signal.SIGIO, signal.SIGUSR1)
ERRORS_INSTEAD = (signal.SIGPIPE, signal.SIGXFSZ)  # Python ignores them, so that write(2) fails; a host may not


@contextlib.contextmanager
def fit_for_us(*, give_back: bool) -> Iterator[None]:
    """Make this process fit for a program of ours; at the end, `give_back` all that was changed meanwhile.

    That is: handlers and mask of the signals that we use, the limit of descriptors, descriptors 0 to 2, what standard
    output does with a letter that it does not have. Raises UsageError in a thread that is not the main one.
    """
    if _thread.get_native_id() != os.getpid():
        raise UsageError("à lancer dans le thread principal : les autres ne reçoivent pas les signaux")
    with contextlib.ExitStack() as undo:
        undo.callback(signal.pthread_sigmask, signal.SIG_SETMASK, signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        for number in (*RELIED_ON, *ERRORS_INSTEAD):
            undo.callback(_restore, number, signal.getsignal(number))
        if signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, it leaves nothing for waitpid(2)
        for number in ERRORS_INSTEAD:
            if signal.getsignal(number) == signal.SIG_DFL:
                signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, RELIED_ON)
        undo.callback(resource.setrlimit, resource.RLIMIT_NOFILE, resource.getrlimit(resource.RLIMIT_NOFILE))
        _open_standard_descriptors(undo)
        _print_what_can_be_printed(undo)
        try:
            yield
        finally:
            if not give_back:
                undo.pop_all()


def catch_stop_signals(handler: Callable[[int, FrameType | None], object]) -> None:
    """Have SIGTERM call `handler`, and SIGINT and SIGHUP where they are not ignored. Main thread only."""
    for number in STOP_SIGNALS:
        if number == signal.SIGTERM or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)


def interrupt(number: int, frame: FrameType | None) -> None:
    """Do nothing: the signal has interrupted a blocked call, which is all it is for."""


def fork() -> int:
    """As os.fork(). Raises SpectaclesError, in one line, when there is no process to be had."""
    try:
        return os.fork()
    except BlockingIOError:  # EAGAIN, fork(2)
        raise SpectaclesError("pas de processus pour un fils : limite atteinte (ulimit -u, conteneur)") from None


def _restore(number: signal.Signals, handler: Callable[[int, FrameType | None], object] | int | None) -> None:
    # What a library in C has installed (None) cannot be put back from here; nor need it be, if nobody has touched it.
    if handler is not None and signal.getsignal(number) != handler:
        signal.signal(number, handler)


def _open_standard_descriptors(undo: contextlib.ExitStack) -> None:
    # With `>&-` the next file opened would become descriptor 1, and be written to by whatever prints.
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            undo.callback(os.close, os.open(os.devnull, os.O_RDWR))


def _print_what_can_be_printed(undo: contextlib.ExitStack) -> None:
    # Where the locale has no Œ, a question mark: the reservation is made, and must not look like a failure.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            undo.callback(stream.reconfigure, errors=stream.errors)
            stream.reconfigure(errors="replace")
