"""A program under watch, on a terminal of its own: what it prints is kept, and a line can be typed to it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import signal
import struct
import subprocess
import termios
import time
from collections import deque
from typing import TYPE_CHECKING

from spectacles.common.errors import SpectaclesError, reason
from spectacles.common.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

KEPT = 1000  # lines of output
GRACE = 0.5  # seconds to end after the terminal was taken away, and again after SIGTERM
_SEQUENCE = re.compile(rb"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[()][0-9A-Z]|[=>NOc78])")


class Command:
    """A program in a new session, on a pseudo-terminal, as in a window of its own. A context manager that ends it.

    lines: what it has printed, without control sequences; the last one may not be finished. Raises SpectaclesError when
    it cannot be started.
    """

    def __init__(self, words: Sequence[str], width: int = 80, height: int = 24) -> None:
        self.lines: deque[str] = deque([""], KEPT)
        self.name = words[0]
        self.fd, theirs = os.openpty()
        try:
            fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
            self.process = subprocess.Popen(
                list(words), stdin=theirs, stdout=theirs, stderr=theirs, preexec_fn=_own_terminal, close_fds=True
            )
        except OSError as error:
            os.close(self.fd)
            error.filename = words[0]
            raise SpectaclesError(reason(error)) from None
        finally:
            os.close(theirs)
        os.set_blocking(self.fd, False)

    def __enter__(self) -> Command:
        return self

    def __exit__(self, *_: object) -> None:
        """Take its terminal away, as closing a window does, and end whoever of its group does not leave."""
        os.close(self.fd)
        # ProcessLookupError: nobody is left. PermissionError: it has become another user, and has lost its terminal.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGKILL):
                os.killpg(self.process.pid, signal.SIGCONT)
                os.killpg(self.process.pid, number)
                deadline = time.monotonic() + GRACE
                while time.monotonic() < deadline:
                    self.process.poll()  # a zombie would still be one of the group
                    os.killpg(self.process.pid, 0)  # raises once nobody is left
                    time.sleep(0.01)
        self.process.poll()

    def read(self) -> bool:
        """Take what it has printed; return False once nobody can print any more."""
        try:
            data = os.read(self.fd, 65536)
        except BlockingIOError:
            return True
        except OSError as error:
            if error.errno == errno.EIO:  # the last one has closed the other end
                return False
            raise
        text = _SEQUENCE.sub(b"", data).decode("utf-8", "replace")
        for part in text.replace("\r\n", "\n").split("\n"):
            shown = part.rsplit("\r", 1)[-1]
            self.lines[-1] += printable(shown).replace("\\t", "    ").replace("\\x08", "")
            self.lines.append("")
        self.lines.pop()
        return True

    def type(self, line: str) -> None:
        """Type a line and Enter."""
        with contextlib.suppress(OSError):
            os.write(self.fd, line.encode() + b"\n")

    def code(self) -> int | None:
        """Return its exit code as a shell gives it, None while it runs."""
        code = self.process.poll()
        return code if code is None or code >= 0 else 128 - code

    def end(self) -> str:
        """Say how it has ended: what it says itself may not be much."""
        code = self.process.wait()
        how = f"tuée par le signal {-code}" if code < 0 else f"a fini, code de sortie {code}"
        return f"« {printable(self.name)} » {how}"


def _own_terminal() -> None:
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGTSTP, signal.SIG_DFL)
