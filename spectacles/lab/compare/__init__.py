"""`spectacles compare [Q...]`: what each architecture costs, measured on real processes doing the same work.

For every question and number of clients: a fresh server in a directory of its own, that many client processes (see
workload.py), then the questions in the order in which they matter. Is the result right? What does it take up? What does
it cost? A row whose result is wrong is red and makes the exit code non-zero, however fast it was.

From outside: main(). Leans on programs, display, kernel, judge.
"""

from __future__ import annotations

from spectacles.common.lifecycle import program

__all__ = ["main"]


@program
def main(argv: list[str] | None = None) -> int:
    """Run the comparison: 0 when every result is right, 1 otherwise."""
    from spectacles.lab.compare.command import compare  # here: the other programs of this wing start without it

    return compare(argv)
