"""`spectacles watch` on a terminal that the test holds the other end of, and reads as a person would."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from typing import Any

from tests import helpers

_PIECE = re.compile(r"\x1b\[(\d+);1H(.*?)\x1b\[K", re.DOTALL)
_SGR = re.compile(r"\x1b\[[\d;]*m")


class Terminal:
    """A pseudo-terminal of `width` by `height` with `spectacles watch` in it. A context manager that ends it.

    what: another command of `spectacles`. shell: what a bash does with the command, "$@". raw: all that was written to
    it. rows: the lines now on the screen, as far as `watch` writes them.
    """

    def __init__(
        self,
        *arguments: object,
        width: int = 100,
        height: int = 30,
        env: dict[str, str] | None = None,
        shell: str | None = None,
        what: str = "watch",
    ) -> None:
        self.fd, self._theirs = os.openpty()
        self.resize(width, height)
        self.before = termios.tcgetattr(self._theirs)
        self.raw = ""
        self.rows: dict[int, str] = {}
        command = [sys.executable, "-m", "spectacles", what, *(str(word) for word in arguments)]
        if shell is not None:
            command = ["bash", "-c", shell, "bash", *command]
        self.process = subprocess.Popen(
            command,
            stdin=self._theirs,
            stdout=self._theirs,
            stderr=self._theirs,
            env={**os.environ, "TERM": "xterm-256color", **(env or {})},
            preexec_fn=_own_terminal,
        )

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        with contextlib.suppress(OSError):
            os.close(self.fd)
        os.close(self._theirs)

    def resize(self, width: int, height: int) -> None:
        """Change the size of the window, which tells the program by SIGWINCH."""
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def type(self, keys: str) -> None:
        """Type."""
        os.write(self.fd, keys.encode())

    def read(self, timeout: float = 0.05) -> None:
        """Take what was written within `timeout` seconds."""
        while select.select([self.fd], [], [], timeout)[0]:
            try:
                data = os.read(self.fd, 65536)
            except OSError:
                return
            self.raw += data.decode("utf-8", "replace")
            timeout = 0.0
        self.rows = {int(row): _SGR.sub("", text) for row, text in _PIECE.findall(self.raw)}

    @property
    def screen(self) -> str:
        """What is on the screen."""
        return "\n".join(text.rstrip() for _, text in sorted(self.rows.items()))

    def until(self, condition: str | Callable[[str], Any]) -> str:
        """Return the screen once a text is on it, or condition(screen) is true."""
        deadline = time.monotonic() + helpers.DEADLINE
        while True:
            self.read()
            if condition in self.screen if isinstance(condition, str) else condition(self.screen):
                return self.screen
            assert time.monotonic() < deadline, f"{condition} never on the screen:\n{self.screen}\n{self.raw[-500:]!r}"

    def end(self) -> int:
        """Wait for the end and return the exit code."""
        deadline = time.monotonic() + helpers.DEADLINE
        while self.process.poll() is None:
            self.read()
            assert time.monotonic() < deadline, "does not end"
        self.read()
        code: int = self.process.returncode
        return code

    @property
    def given_back(self) -> bool:
        """Whether the terminal is as it was, and its own screen is shown again with a cursor."""
        left = self.raw.rfind("\x1b[?1049l") > self.raw.rfind("\x1b[?1049h") and self.raw.rfind("\x1b[?25h") > 0
        return left and termios.tcgetattr(self._theirs) == self.before


def _own_terminal() -> None:
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
