"""Question 4 without its lock: the experiment that shows what the lock is for. `spectacles compare --broken` runs it.

The server is question 4's, with two things handed in: a lock that does not lock, and a table that hesitates between
looking at the seats and taking them, as a process does that loses the processor there. Without the second the race is
as real, but so rare that nobody sees it. Two requests then see the same seats, and both take them.
"""

from __future__ import annotations

import contextlib
import sys
import time

from spectacles.common.table import SpectacleTable
from spectacles.q4_thread_per_request import server

WINDOW = 0.0005  # seconds between looking at the seats and taking them: long enough for others to look too


class HesitantTable(SpectacleTable):
    """A table that waits after every look."""

    def _places(self, show: int) -> int:
        places = super()._places(show)
        time.sleep(WINDOW)
        return places


def main() -> int:
    """Run the server."""
    vars(server).update(Lock=contextlib.nullcontext, SpectacleTable=HesitantTable)
    return server.main()


if __name__ == "__main__":
    sys.exit(main())
