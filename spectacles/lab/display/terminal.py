"""What the programs of the lab share at the terminal: rich's console, names of questions, a tidy interruption."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import textwrap
from typing import TYPE_CHECKING

from spectacles.common import cli, host
from spectacles.common.errors import SpectaclesError
from spectacles.common.text import printable
from spectacles.lab.display.french import unbroken
from spectacles.lab.programs import process

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from rich.console import Console

WIDTH = 110  # columns of a file or a pipe, which has no width of its own: those of the widest table


def console(*, stderr: bool = False) -> Console:
    """Return a console on standard output (or error). Raises SpectaclesError when rich is not installed."""
    try:
        from rich.console import Console
    except ModuleNotFoundError:
        raise SpectaclesError("rich manque : pip install rich") from None
    known = (sys.stderr if stderr else sys.stdout).isatty() or "COLUMNS" in os.environ
    return Console(stderr=stderr, highlight=False, width=None if known else WIDTH)


def say(screen: Console, text: str, style: str = "") -> None:
    """Print a paragraph of French. rich would break a line at any space, those before a colon too."""
    screen.print(textwrap.fill(unbroken(text), screen.width), style=style, markup=False, soft_wrap=True)


def harmless(text: str) -> str:
    """Return what a program printed with all control characters escaped but the ends of its lines."""
    return "\n".join(printable(line) for line in text.splitlines())


def question_or_further(text: str) -> str:
    """Return what goes further and is named so ("x1" or "x1_sessions"), else as question(). For argparse."""
    return process.question(text, further=True) or question(text)


def question(text: str) -> str:
    """Return the question that "2", "q2" or "q2_msq" names. For argparse."""
    found = process.question(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"quelle question ? 1 à 5, pas « {text} »")
    return found


def add_questions(parser: argparse.ArgumentParser, *, further: bool = False) -> None:
    """Add the questions as arguments, none meaning all. further: and what goes further than they do."""
    parser.add_argument(
        "questions",
        nargs="*",
        type=question_or_further if further else question,
        metavar="Q",
        help=f"1 à 5, ou q1_pipes...{', ou une suite : x1...' if further else ''} (sinon les cinq)",
    )


def counts(text: str) -> list[int]:
    """Return the numbers in "1,2,4", each 1 to 1000. For argparse."""
    return [cli.integer(1, 1000)(part) for part in text.split(",")]


class Interrupts:
    """Turns the first SIGINT, SIGTERM or SIGHUP into one KeyboardInterrupt. A context manager, main thread only.

    What was ignored stays so, SIGTERM apart: under nohup(1) the work goes on when the terminal has gone. The next ones
    are ignored, so that nothing interrupts the cleaning up. Within `held()` a signal waits: a process that is being
    started always gets to the `with` that will stop it.
    """

    def __init__(self) -> None:
        self._held = False
        self._asked = False
        self._raised = False

    def __enter__(self) -> Interrupts:
        self._previous = {number: signal.getsignal(number) for number in host.STOP_SIGNALS}
        host.catch_stop_signals(self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Put off the KeyboardInterrupt until release(), or until the end of this `with`."""
        self._held = True
        try:
            yield
        finally:
            self.release()

    def release(self) -> None:
        """Raise the KeyboardInterrupt that was put off, if one was, and put off no more."""
        self._held = False
        if self._asked and not self._raised:
            self._raised = True
            raise KeyboardInterrupt

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._asked = True
        if not self._held:
            self.release()
