"""The table of ten shows where it lives in etcd: looked at, and changed, with the methods of common.table."""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import time
from typing import NamedTuple

from spectacles.common import log
from spectacles.common.directory import RunDirectory
from spectacles.common.lockfile import server_of
from spectacles.common.spectacle import MAX_SPECTACLE, RECORD, REFUSED, check_table
from spectacles.common.table import refusal
from spectacles.x3_cluster.etcd import DEFAULT_PREFIX, Change, Cluster, Etcd, Kept, UnavailableError
from spectacles.x3_cluster.node import CLIENTS, FOLDER, Node
from spectacles.x3_cluster.together import Together

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import TypeVar

    Result = TypeVar("Result")

PATIENCE = 4.0  # seconds for a majority to be found, an election or two; clients wait for five
PAUSE = 0.05  # seconds before a member is asked again, when one did not answer
ENDING = 0.2  # seconds that a change under way gets at the end


class Asked(NamedTuple):
    """A reservation that waits. since: time.monotonic()."""

    show: int
    seats: int
    since: float


class ClusterTable:
    """The table, for the threads of one server; it holds nothing that is not in etcd. A context manager.

    cluster: where etcd is. stale: whether a look may be at what one member knows, behind the others perhaps. together:
    how those that wait at a time are made one.
    """

    def __init__(
        self,
        cluster: Cluster,
        *,
        stale: bool = False,
        together: type[Together] = Together,  # type: ignore[type-arg]
    ) -> None:
        self._stale = stale
        self.where = ", ".join(cluster.places)
        identity = secrets.token_hex(8)
        self._reader = Etcd(cluster, identity)
        self._writer = Etcd(cluster, identity)
        self._marks = map(str, itertools.count(1))
        self._known: list[Kept] | None = None  # as last heard of; a transaction says whether it is still so
        self._looks: Together[float, bytes] = together(self._look)
        self._sales: Together[Asked, int] = together(self._sell)

    def __enter__(self) -> ClusterTable:
        return self

    def __exit__(self, *_: object) -> None:
        if self._sales.end(ENDING) and self._known is not None:  # else a mark may be needed yet
            with contextlib.suppress(UnavailableError):
                self._writer.forget()
        self._writer.close()
        self._reader.close()

    def snapshot(self) -> bytes:
        """Return the 720 bytes of the table as they were at one instant of this call, or, `stale`, some time ago.

        Those who ask at a time share one look. Blocks, PATIENCE and a look. Raises UnavailableError.
        """
        return self._looks(time.monotonic())

    def reserve(self, show: int, seats: int) -> int:
        """Take `seats` seats of slot `show` and return what is left, or return a Refusal (-1) and change nothing.

        When it returns 0 or more, the majority of etcd has the reservation on its disks. Those who ask at a time share
        one transaction. Blocks, PATIENCE and a transaction. Raises UnavailableError when nobody can tell what becomes
        of it.
        """
        return self._sales(Asked(show, seats, time.monotonic()))

    def rewrite(self, change: Callable[[bytes], bytes]) -> bytes:
        """Replace the table by what `change` makes of it, in one transaction, whatever servers do; return it. Blocks.

        If an answer gets lost, it is made again of the table there is then. Raises UnavailableError.
        """
        return self._replace(lambda known: change(_table(known)))[0]

    def create(self, make: Callable[[], bytes]) -> bool:
        """Put the table that make() returns there, if there is none; return whether it was put. Blocks.

        Of several servers that start at a time, one does. Raises UnavailableError, and SpectaclesError for make().
        """
        table, made = self._replace(lambda known: None if any(kept.revision for kept in known) else make())
        log.announce(f"[INFO] table {'mise' if made else 'trouvée'} dans etcd ({self.where})")
        if problem := check_table(table):
            log.error("[INFO] etcd, %s : table impossible : %s", self.where, problem)
        return made

    def _replace(self, decide: Callable[[list[Kept]], bytes | None]) -> tuple[bytes, bool]:
        """Return the table, and whether it is what decide() has made of it; None leaves it."""

        def attempt() -> tuple[bytes, bool] | None:
            known = self._writer.look()
            table = decide(known)
            if table is None:
                return _table(known), False
            return (table, True) if self._writer.replace(known, table) else None

        return _patiently(attempt, time.monotonic())

    def _look(self, asked: list[float]) -> list[bytes]:
        return [_patiently(lambda: self._reader.table(stale=self._stale), min(asked))] * len(asked)

    def _sell(self, asked: list[Asked]) -> list[int]:
        """Return the answer to each that is asked. Blocks, PATIENCE and an attempt. Raises UnavailableError.

        An attempt without an answer may have been made, or may be yet. The mark of its show says so: if it is the last
        there, it was made. If it is not, it never will be once the show has changed, and the next attempt changes it,
        or finds it changed, and looks again. So one attempt at most is made, and it is known which.
        """
        sales = [_Sale(slot, asked) for slot in sorted({one.show for one in asked if 0 <= one.show < MAX_SPECTACLE})]
        heard = False  # of the table, since these were asked

        def attempt() -> list[int] | None:
            nonlocal heard
            if self._known is None:
                self._known, heard = self._writer.look(), True
            known = self._known
            for sale in sales:
                if sale.is_found(known[sale.slot]):
                    log.warning("[INFO] réservation restée sans réponse, retrouvée dans etcd : elle est faite")
            waiting = [sale for sale in sales if not sale.over]
            changes = {sale.slot: sale.decide(known[sale.slot], self._marks) for sale in waiting}
            if any(change.record for change in changes.values()):
                self._known = None  # until there is an answer
                after = self._writer.change(changes)
                for sale in waiting:
                    known[sale.slot], sale.over = after[sale.slot]
                self._known, heard = known, True
                return _answers(asked, sales) if all(sale.over for sale in sales) else None
            if changes and not heard:  # what is refused is refused by the table of now
                self._known = None
                return None
            return _answers(asked, sales)

        return _patiently(attempt, min(one.since for one in asked))


class _Sale:
    """What is asked of one show by those who wait. over: whether the `answers` of the last decision count."""

    def __init__(self, slot: int, asked: Sequence[Asked]) -> None:
        self.slot = slot
        self.over = False
        self.answers: list[int] = []
        self._seats = [one.seats for one in asked if one.show == slot]
        self._tried: dict[str, list[int]] = {}  # answers by mark

    def is_found(self, kept: Kept) -> bool:
        """Say whether an attempt of this sale turns out to have been made; it is then over."""
        if self.over or kept.mark not in self._tried:
            return False
        self.answers, self.over = self._tried[kept.mark], True
        return True

    def decide(self, kept: Kept, marks: Iterator[str]) -> Change:
        """Answer everybody, one after the other, and return what is to become of the show."""
        id_, nom, date, places = RECORD.unpack(kept.record)
        left = places if id_ else REFUSED
        self.answers = []
        for seats in self._seats:
            if seats <= 0 or left < seats:
                self.answers.append(refusal(left, seats))
            else:
                left -= seats
                self.answers.append(left)
        if max(self.answers) < 0:
            return Change(kept, None, "")
        mark = next(marks)
        self._tried[mark] = self.answers
        return Change(kept, RECORD.pack(id_, nom, date, left), mark)


def _answers(asked: Sequence[Asked], sales: Sequence[_Sale]) -> list[int]:
    """Return the answers of all shows in the order in which they were asked for."""
    found = {sale.slot: iter(sale.answers) for sale in sales}
    return [next(found[one.show]) if one.show in found else refusal(REFUSED, one.seats) for one in asked]


def _table(known: Sequence[Kept]) -> bytes:
    return b"".join(kept.record for kept in known)


def _patiently(attempt: Callable[[], Result | None], since: float) -> Result:
    """Return attempt(), made again as long as it is None (others were faster) or nobody answers.

    since: when the first of those who wait asked: nothing is sold to a client that has given up long ago. Blocks,
    PATIENCE from then on, and an attempt. Raises UnavailableError.
    """
    deadline = since + PATIENCE
    while True:
        try:
            if (result := attempt()) is not None:
                return result
            problem = UnavailableError("etcd : trop de serveurs changent ces spectacles à la fois")
        except UnavailableError as error:
            problem = error
            time.sleep(PAUSE)
        if time.monotonic() > deadline:
            raise problem


@contextlib.contextmanager
def open_table(path: str, cluster: Cluster | None, prefix: str = DEFAULT_PREFIX) -> Iterator[ClusterTable]:
    """Hand out the table in `cluster`; without one, that of the run directory `path`, whether or not it is served.

    prefix: of the keys in the latter. Blocks while a node is started for it. Raises SpectaclesError.
    """
    with contextlib.ExitStack() as undo:
        if cluster is None:
            place = [os.path.join(path, FOLDER, CLIENTS)]
            if _server_of(path) != "x3_cluster":
                place = [undo.enter_context(Node(undo.enter_context(RunDirectory(path)))).place]
            cluster = Cluster(place, prefix, None)
        yield undo.enter_context(ClusterTable(cluster))


def _server_of(path: str) -> str:
    """Return the question of the server that works in the run directory `path`, "" if none does."""
    try:
        return server_of(path).get("question", "")
    except OSError:
        return ""
