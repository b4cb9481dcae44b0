"""x3 with one transaction of etcd for each reservation: the experiment that shows what sharing one is worth.

The server is x3's, with one thing handed in: those that wait do not wait together, but one after the other.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from spectacles.x3_cluster import server
from spectacles.x3_cluster.table import ClusterTable
from spectacles.x3_cluster.together import Together

if TYPE_CHECKING:
    from collections.abc import Callable


class Alone(Together[Any, Any]):
    """Calls of one item each."""

    def __init__(self, work: Callable[[list[Any]], list[Any]]) -> None:
        super().__init__(work, most=1)


def main() -> int:
    """Run the server."""
    vars(server).update(ClusterTable=partial(ClusterTable, together=Alone))
    return server.main()


if __name__ == "__main__":
    sys.exit(main())
