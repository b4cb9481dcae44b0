"""A full screen of lines and a keyboard: what `watch` needs of a terminal, and no more.

A line is a list of (text, style); a frame is a list of lines. Only lines that have changed are written. The terminal is
given back as it was found however the program ends, and while it is stopped (Ctrl-Z).
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import sys
import termios
import time
import tty
from typing import TYPE_CHECKING

from rich.cells import cell_len, set_cell_size

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import FrameType

Span = tuple[str, str]  # text, style: a key of STYLES
Line = list[Span]

# style -> SGR parameters with colours, and without (NO_COLOR, or a terminal that has none)
STYLES = {
    "": ("", ""),
    "title": ("1", "1"),
    "alarm": ("1;97;41", "1;7"),
    "warning": ("33", "1"),
    "new": ("1;36", "1;4"),
    "faint": ("2", ""),
    "chosen": ("7", "7"),
    "heading": ("1;34", "1;4"),
    "calm": ("32", ""),
}
KEYS = {
    b"\x1b[A": "up",
    b"\x1b[B": "down",
    b"\x1bOA": "up",
    b"\x1bOB": "down",
    b"\x1b[5~": "page up",
    b"\x1b[6~": "page down",
    b"\x1b[H": "home",
    b"\x1b[F": "end",
    b"\x1b[1~": "home",
    b"\x1b[4~": "end",
    b"\r": "enter",
    b"\n": "enter",
    b"\x1b": "escape",
    b"\x7f": "backspace",
    b"\x08": "backspace",
}
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_BY_LENGTH = sorted(KEYS, key=len, reverse=True)
_ENTER = "\x1b[?1049h\x1b[?25l\x1b[2J"  # the alternate screen, no cursor
_LEAVE = "\x1b[0m\x1b[?25h\x1b[?1049l"


def colours() -> bool:
    """Say whether the terminal is to have colours: https://no-color.org."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") not in ("dumb", "vt100", "vt220")


def clean(text: str) -> str:
    """Return text without what could move the cursor or turn the writing round: names are a stranger's."""
    return _CONTROLS.sub("·", text)


def cut(line: Line, width: int) -> Line:
    """Return the line cut to `width` columns, with … where something was cut off."""
    found: Line = []
    left = width
    for raw, style in line:
        text = clean(raw)
        size = cell_len(text)
        if size > left:
            found.append((set_cell_size(text, max(left - 1, 0)) + "…" * (left > 0), style))
            return found
        found.append((text, style))
        left -= size
    return found


def keys(data: bytes) -> list[str]:
    """Return what was typed as names of keys and characters; keys that mean nothing here are left out."""
    found = []
    while data:
        known = next((sequence for sequence in _BY_LENGTH if data.startswith(sequence)), None)
        if known == b"\x1b" and data[1:2] in (b"[", b"O"):
            size = next((i for i in range(2, len(data)) if 64 <= data[i] < 127), len(data)) + 1
        elif known is not None:
            found.append(KEYS[known])
            size = len(known)
        else:
            # A character of UTF-8 is as long as the number of ones that its first byte begins with.
            size = next(
                (n for n, first in ((2, 0xC0), (3, 0xE0), (4, 0xF0)) if data[0] >> (7 - n) == first >> (7 - n)), 1
            )
            character = data[:size].decode("utf-8", "ignore")
            found += [character] if character.isprintable() and character else []
        data = data[size:]
    return found


class Screen:
    """The terminal, taken over. A context manager, main thread only; needs terminals as standard input and output.

    width, height: columns and lines, which change with the window. Ctrl-C stays what it is: KeyboardInterrupt, which
    SIGTERM and SIGHUP raise too. Raises OSError or termios.error where there is no terminal.
    """

    def __init__(self) -> None:
        self.width, self.height = 80, 24
        self._in, self._out = sys.stdin.fileno(), sys.stdout.fileno()
        self._column = 0 if colours() else 1
        self._shown: list[Line] = []
        self._keys: list[str] = []
        self._wake_r, self._wake_w = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._previous: dict[int, object] = {}

    def __enter__(self) -> Screen:
        self._saved = termios.tcgetattr(self._in)
        for number, handler in (
            (signal.SIGWINCH, self._resized),
            (signal.SIGTSTP, self._stop),
            (signal.SIGTERM, _interrupt),
            (signal.SIGHUP, _interrupt),
        ):
            self._previous[number] = signal.signal(number, handler)
        self._take()
        return self

    def __exit__(self, *_: object) -> None:
        self._give_back()
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        os.close(self._wake_r)
        os.close(self._wake_w)

    def _take(self) -> None:
        tty.setcbreak(self._in, termios.TCSADRAIN)  # signals stay
        self._write(_ENTER)
        self._shown = []
        self._measure()

    def _give_back(self) -> None:
        with contextlib.suppress(OSError):
            self._write(_LEAVE)
        with contextlib.suppress(termios.error):
            termios.tcsetattr(self._in, termios.TCSADRAIN, self._saved)

    def _measure(self) -> None:
        with contextlib.suppress(OSError):
            self.width, self.height = os.get_terminal_size(self._out)
        self.width, self.height = max(self.width, 20), max(self.height, 5)

    def _resized(self, number: int, frame: FrameType | None) -> None:
        self._shown = []
        self._wake()

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._give_back()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)  # here the program stands still until `fg`
        signal.signal(signal.SIGTSTP, self._stop)
        self._take()
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_w, b"\0")

    def wait(self, until: float, others: Iterable[int] = ()) -> tuple[str | None, list[int], bool]:
        """Wait for a key until `until` (time.monotonic()), or until one of the descriptors `others` is readable.

        Return the key ("q", "up", "enter", ...) or None, the descriptors that are readable, and whether the window has
        changed or come back. Blocks. Raises EOFError when the terminal has gone.
        """
        if self._keys:
            return self._keys.pop(0), [], False
        timeout = max(until - time.monotonic(), 0.0)
        ready, _, _ = select.select([self._in, self._wake_r, *others], [], [], timeout)
        changed = self._wake_r in ready
        if changed:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake_r, 512)
            self._measure()
            self._shown = []
        if self._in in ready:
            self._read()
        key = self._keys.pop(0) if self._keys else None
        return key, [fd for fd in ready if fd not in (self._in, self._wake_r)], changed

    def _read(self) -> None:
        try:
            data = os.read(self._in, 1024)
        except OSError:
            data = b""
        if not data:
            raise EOFError
        self._keys += keys(data)

    def show(self, lines: list[Line]) -> None:
        """Show a frame from the top of the screen, cut to its size."""
        frame = [cut(line, self.width) for line in lines[: self.height]]
        frame += [[] for _ in range(self.height - len(frame))]
        out = []
        for number, line in enumerate(frame):
            if number >= len(self._shown) or self._shown[number] != line:
                out.append(f"\x1b[{number + 1};1H\x1b[0m{self._sgr(line)}\x1b[0m\x1b[K")
        self._shown = frame
        if out:
            self._write("".join(out))

    def _sgr(self, line: Line) -> str:
        parts = []
        for text, style in line:
            parameters = STYLES[style][self._column]
            parts.append(f"\x1b[{parameters}m{text}\x1b[0m" if parameters else text)
        return "".join(parts)

    def _write(self, text: str) -> None:
        data = text.encode(sys.stdout.encoding or "utf-8", "replace")
        while data:
            data = data[os.write(self._out, data) :]


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
