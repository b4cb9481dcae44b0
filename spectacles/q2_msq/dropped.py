"""Saying in the log that messages were dropped, a few times a second: a flood must not become a flood of lines."""

from __future__ import annotations

import time

from spectacles.common import log

SECOND = 1.0
LINES = 5  # in a second


class Dropped:
    """The messages dropped by one process, and how often the log has spoken of them."""

    def __init__(self) -> None:
        self._count = 0  # not yet spoken of
        self._second = float("-inf")  # when the present second began
        self._lines = 0  # in it

    def add(self, count: int = 1) -> None:
        """Count messages for which the next line will do."""
        self._count += count

    def tell(self, why: str) -> None:
        """Log how many were dropped since the last line, and why the last of them was. Nothing if none was."""
        now = time.monotonic()
        if now - self._second > SECOND:
            self._second, self._lines = now, 0
        if self._count and self._lines < LINES:
            log.warning("[INFO] %s (%d message(s) écarté(s))", why, self._count)
            self._lines += 1
            self._count = 0
