"""What a confirmation costs beside a reservation, on this machine: the figures of docs/further.md.

python -m tests.x2_cost [SECONDS of each line]
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from spectacles.lab.programs.process import ServerProcess
from tests.fault.campaign import PLENTY, write_table
from tests.x2_peer import Buyer

CLIENTS = (1, 4, 16)


def reserve(buyer: Buyer) -> None:
    """One reservation: a record in place, the disk waited for outside the lock, together with others."""
    assert buyer.reserve(0, 1)


def basket(buyer: Buyer) -> None:
    """Two holds in memory, and a confirmation: a new file, the disk waited for with the lock held."""
    assert buyer.hold(0, 1)
    assert buyer.hold(1, 1)
    assert buyer.confirm(2)


def put_back(buyer: Buyer) -> None:
    """A hold and its release: memory alone."""
    assert buyer.hold(0, 1)
    assert buyer.release(0, 1)


def measure(
    server: ServerProcess, deed: Callable[[Buyer], None], clients: int, seconds: float
) -> tuple[float, float, float]:
    """Return how often a second all clients together did it, and the median and 99th percentile in ms."""
    times: list[float] = []
    end = time.monotonic() + seconds

    def work() -> None:
        with Buyer(server) as buyer:
            while (start := time.monotonic()) < end:
                deed(buyer)
                times.append(time.monotonic() - start)

    threads = [threading.Thread(target=work) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(times) / seconds, statistics.median(times) * 1000, statistics.quantiles(times, n=100)[98] * 1000


def main() -> None:
    """Print a table."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 3.0
    print("| what | clients | a second | p50, ms | p99, ms |\n|---|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as directory:
        write_table(Path(directory), [PLENTY, PLENTY])
        with ServerProcess("x2_basket", directory, "--log-level", "warning") as server:
            for deed in (reserve, basket, put_back):
                for clients in CLIENTS:
                    rate, median, last = measure(server, deed, clients, seconds)
                    print(f"| {deed.__name__} | {clients} | {rate:,.0f} | {median:.2f} | {last:.2f} |")


if __name__ == "__main__":
    main()
