"""`make bench`: how far the servers are from the metal, as ratios within one run (see docs/performance.md).

Every figure is a ratio of two servers measured in turns, A B A B, by the same load generator, the closed loop of the C
client: our server against the C reference, which saves as the original does (truncate, rewrite, no sync), and against
the least that Python can do on the same channel. It is no test: noise cannot make it fail.

From outside: main(). Leans on programs, display, kernel.
"""

from __future__ import annotations

from spectacles.common.lifecycle import program

__all__ = ["main"]


@program
def main(argv: list[str] | None = None) -> int:
    """Run the bench and print the ratios: 0 unless something broke."""
    from spectacles.lab.bench.command import bench  # here: the other programs of this wing start without it

    return bench(argv)
