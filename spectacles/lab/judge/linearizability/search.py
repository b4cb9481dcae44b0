"""Whether the operations on one show can have happened one after the other: the search for an order that explains them.

Such an order places every operation at one instant between its call and its return so that, in the order of these
instants, a box office with one clerk would have answered the same. This is the search of Wing and Gong (1993) as Lowe
improved it ("Testing for linearizability", 2017): it remembers what it has refuted. Sequential model of a show that has
`seats` seats left:

* a consult returns `seats`;
* a reserve of n is acknowledged when ``0 < n <= seats``, and then `seats` becomes ``seats - n``;
* any other reserve is refused and changes nothing.

An operation without an answer is pending for ever: a pending reserve may have taken effect at any time after its call,
or never; a pending consult says nothing and is left out.

The order is built from left to right. An operation not yet placed is *enabled* when no other unplaced operation
returned before its call; only an enabled operation may come next. The seats only ever go down, and by an amount that
does not depend on the order: reads (consults and refused reserves) do not change them, acknowledged and pending
reserves take their own number. From this follow five rules. Each says that an order that breaks it can be rearranged
into another good order that does not, so that nothing is lost by following them all; each stands, with its reason,
where it is applied:

    R    `Search._place_reads`           a read that holds now is placed now
    E    `Search._place_reads`           of equal reserves, the one that returns first goes first
    W    `Search._choices`               pending reserves are tried only while a read waits for the seats to go down
    B    `Search._choices`               after a pending reserve, somebody must see that it happened
    F    `Search._choices`               when no read waits, whoever returns first goes first

Each rearrangement improves, in lexicographic order, (number of pending reserves used, fewer; sum of the ranks of the
pending reserves, higher; sum of the ranks of the reads, lower; inversions of the acknowledged reserves with respect to
their returns, fewer; call ranks of the pending reserves used and inversions among them, fewer): rearranging ends, and
at its end all rules hold together.

Two means that only save time: `out_of_bounds` refutes most faults in one pass, before any search; `Search._is_new`
goes into no configuration twice.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Iterable, Sequence

from spectacles.lab.judge.linearizability.history import ACKNOWLEDGED, CONSULT, PENDING, REFUSED, Operation, role

# A search that refuted so many configurations keeps going without recording more: the verdict stays right, and the
# memory bounded (about 200 bytes a configuration).
MEMO_LIMIT = 2_000_000
STEPS_BETWEEN_LOOKS = 32  # at the clock


class Verdict(enum.Enum):
    """Outcome of a check: linearizable, not linearizable, or out of time before knowing."""

    VALID = "valid"
    INVALID = "invalid"
    UNKNOWN = "unknown"


def search(operations: Iterable[Operation], initial: int, deadline: float) -> Verdict:
    """Decide whether the operations, all on one show, are linearizable from `initial` seats. Blocks until `deadline`
    (time.monotonic()) at most, and is then UNKNOWN."""
    return Search(operations, initial).run(deadline)


def out_of_bounds(
    events: Sequence[tuple[int, int, int]], roles: Sequence[int], amount: Sequence[int], initial: int
) -> bool:
    """Whether some operation alone, or with one earlier read, is out of what the seats can have been.

    Most faults show here in one pass over the (sorted) events, where the search would have to exhaust every order
    first. False proves nothing.

    Let `called` and `returned` be the seats of the acknowledged reserves called, or returned, so far, and r a read that
    returned before operation x was called. What r left unspent can only shrink: the reserves that returned before the
    call of x and were called after the return of r are spent between them, those called before the return of x are all
    that can be.
    """
    called = returned = doubtful = 0
    # Bounds on (seats seen + seats of the reserves that may, or must, have been counted by then).
    most = least = initial
    at_call: dict[int, tuple[int, int]] = {}
    for _, is_return, k in events:
        part, n = roles[k], amount[k]
        if not is_return:
            if part == PENDING:
                doubtful += n
                continue
            if part != REFUSED and n > most - returned:
                return True
            if part == ACKNOWLEDGED:
                called += n
            else:
                at_call[k] = (least, returned)
        elif part == ACKNOWLEDGED:
            returned += n
        elif part == CONSULT or n > 0:
            lower, spent = at_call[k]
            left = lower - called - doubtful  # at least so many are left
            if (n < left) if part == CONSULT else (n <= left):
                return True
            if part == CONSULT:
                most = min(most, n + called)
                least = max(least, n + spent)
            else:
                most = min(most, n - 1 + called)
    return False


class Search:
    """One search, over the operations on one show that starts with `initial` seats. Used once.

    Operations are numbered by their calls and called k, their seats n (of a consult: those seen). The calls and returns
    of those not placed yet form one doubly linked list of events, sorted by instant: the timeline. Placing an operation
    unlinks its two events, going back links them again, so that the enabled operations are those whose call comes
    before the first return of the list.
    """

    __slots__ = (
        "_amount",
        "_call_at",
        "_end",
        "_events",
        "_following",
        "_initial",
        "_is_return",
        "_least_acknowledged",
        "_must_be_seen",
        "_number",
        "_owner",
        "_preceding",
        "_refuted",
        "_return_at",
        "_roles",
        "_seats",
        "_slack",
        "_stack",
        "_trail",
    )

    def __init__(self, operations: Iterable[Operation], initial: int) -> None:
        ops = []
        for op in operations:
            part = role(op)
            if part is not None:
                ops.append((op, part))
        ops.sort(key=lambda item: item[0].call)
        self._roles = [part for _, part in ops]
        self._amount = [int(op.result or 0) if part == CONSULT else op.seats for op, part in ops]
        # Calls come before the returns of the same instant (0 before 1), so that equality is concurrency.
        events = [(op.call, 0, k) for k, (op, _) in enumerate(ops)]
        events += [(op.ret, 1, k) for k, (op, _) in enumerate(ops) if op.ret is not None]
        events.sort()
        self._events = events
        self._initial = self._seats = initial
        acknowledged = [op.seats for op, part in ops if part == ACKNOWLEDGED]
        self._least_acknowledged = min(acknowledged, default=1)
        # What remains for pending reserves once all acknowledged ones are served. While it is not negative, no
        # acknowledged reserve can lack seats, whatever the order.
        self._slack = initial - sum(acknowledged)
        self._trail: list[int] = []  # the operations placed, in order
        self._stack: list[tuple[int, list[int]]] = []  # (length of the trail before the choice, choices left)
        self._refuted: set[tuple[int, int, int, bool]] = set()
        self._must_be_seen = False  # the last choice was a pending reserve that no read has used yet (rule B)

    def run(self, deadline: float) -> Verdict:
        """Search, depth first. Blocks until `deadline` (time.monotonic()) at most, and is then UNKNOWN."""
        if self._refuted_at_once():
            return Verdict.INVALID
        self._lay_out_timeline()
        self._number_for_the_memo()
        steps = 0
        while True:
            steps += 1
            if steps % STEPS_BETWEEN_LOOKS == 0 and time.monotonic() > deadline:
                return Verdict.UNKNOWN
            choices = self._place_reads()
            if choices is None:
                return Verdict.VALID
            self._stack.append((len(self._trail), choices))
            if not choices and not self._go_back():
                return Verdict.INVALID
            self._place(self._stack[-1][1].pop())

    def _refuted_at_once(self) -> bool:
        """Whether what was acknowledged is too little or too much in any order, or an operation out of bounds."""
        return (
            self._least_acknowledged <= 0
            or self._slack < 0
            or out_of_bounds(self._events, self._roles, self._amount, self._initial)
        )

    def _lay_out_timeline(self) -> None:
        """Link the events, at positions 1 to end - 1. Position 0 is before all, `end` after all: a return of nobody."""
        count, end = len(self._roles), len(self._events) + 1
        owner, is_return = [-1] * (end + 1), [False] * end + [True]
        call_at, return_at = [0] * count, [end] * count
        for position, (_, phase, k) in enumerate(self._events, 1):
            owner[position] = k
            if phase:
                is_return[position] = True
                return_at[k] = position
            else:
                call_at[k] = position
        self._end, self._owner, self._is_return = end, owner, is_return
        self._call_at, self._return_at = call_at, return_at
        self._following = list(range(1, end + 2))
        self._preceding = list(range(-1, end + 1))

    def _number_for_the_memo(self) -> None:
        """Number pending reserves apart from the others, for the keys of what is refuted.

        They can stay unplaced to the end: so they do not hold back the window of the others, and keys stay as short as
        the overlap of the clients.
        """
        number, tally = [], [0, 0]
        for part in self._roles:
            which = part == PENDING
            number.append(tally[which])
            tally[which] += 1
        self._number = number

    def _place_reads(self) -> list[int] | None:
        """Look at the enabled operations once: place the reads that hold, and return what may come next, the best last.

        None: everything that must be placed is. An empty list: nothing may come next, one has to go back.

        Rule R. An enabled read that holds in the present state is placed at once. Whatever order puts it later, move it
        here: nothing unplaced has to precede it (it is enabled), it holds here, and the operations it jumps over see
        the states they saw. One pass is enough: placing a read does not change the state, so the reads passed before
        still do not hold, and the operations it enables are further down the list.

        Rule E. Among enabled acknowledged reserves of the same n, only the one that returns first is tried. If another
        comes first, exchange the two: the states are the same, both are enabled here, and whatever had to follow the
        later-returning one was already behind the place it moves to. Pending reserves count as returning last (never),
        and among themselves by call.
        """
        roles, amount, number, owner = self._roles, self._amount, self._number, self._owner
        is_return, return_at, following = self._is_return, self._return_at, self._following
        seats, end = self._seats, self._end
        waiting = False  # an enabled read does not hold yet
        floor = 0  # the highest count that an enabled consult still waits to see
        acknowledged: dict[int, int] = {}  # the enabled reserve to be tried, by n
        pending: dict[int, int] = {}
        base, window, pending_left = -1, 0, 0  # see _is_new
        e = following[0]
        while not is_return[e]:
            k = owner[e]
            e = following[e]
            part, n = roles[k], amount[k]
            if part == PENDING:
                pending_left |= 1 << number[k]
                pending.setdefault(n, k)  # rule E: the first called
                continue
            if part == ACKNOWLEDGED:
                best = acknowledged.get(n)
                if best is None or return_at[k] < return_at[best]:  # rule E
                    acknowledged[n] = k
            elif (n == seats) if part == CONSULT else (n <= 0 or seats < n):  # rule R
                if e == return_at[k]:
                    e = following[e]
                self._unlink(k)
                self._trail.append(k)
                self._must_be_seen = False
                continue
            else:
                waiting = True
                if part == CONSULT:
                    if n > seats:
                        return []  # seats never come back: this read cannot hold any more
                    if n > floor:
                        floor = n
            if base < 0:  # calls are met in order: the first one met has the lowest number
                base = number[k]
            window |= 1 << (number[k] - base)
        if e == end:
            return None  # no return left: only pending reserves are unplaced
        if not self._is_new(base, window, pending_left):
            return []
        return self._choices(waiting, floor, acknowledged, pending, owner[e])

    def _is_new(self, base: int, window: int, pending_left: int) -> bool:
        """Note this configuration. False when it was gone into before, and so is refuted.

        base, window: the lowest number, and from it on a bit for each, of the enabled operations; pending_left: the
        same of the pending ones. The operations left are those and all that were called later; the set placed is thus
        known from the key, the seats from the set, and from both all that may come next.
        """
        key = (base, window, pending_left, self._must_be_seen)
        if key in self._refuted:
            return False
        if len(self._refuted) < MEMO_LIMIT:
            self._refuted.add(key)
        return True

    def _choices(
        self, waiting: bool, floor: int, acknowledged: dict[int, int], pending: dict[int, int], first_to_return: int
    ) -> list[int]:
        """Return the reserves that may come next, the best one last. No reserve may leave fewer seats than `floor`,
        which a consult still has to see.

        Rule B. A pending reserve is placed only if a read, or another pending reserve in the same case, comes next. If
        an acknowledged reserve comes next, exchange the two: the acknowledged one has more seats, the other finds the
        same sum spent, and never returned, so that nothing had to follow it. If nothing comes next, leave it out.

        Rule W. So pending reserves are tried only while an enabled read waits for the seats to go down. The read of
        rule B is enabled already, since what has no return holds nothing back; and did it hold, it would be placed.

        Rule F. When no enabled read waits, every read left was called after the first return of the list, and so comes
        after the operation that returns there, which is then an acknowledged reserve. Only reserves can precede it, and
        they commute: it goes first, without any choice.
        """
        if not waiting:
            return [] if self._must_be_seen else [first_to_return]  # rules B, F
        seats, slack = self._seats, self._slack
        choices = [
            k  # rule W
            for n, k in pending.items()
            if n <= slack and seats - n >= floor and n not in acknowledged  # rule E: one that returns goes before
        ]
        if not self._must_be_seen:  # rule B
            enough = [k for n, k in acknowledged.items() if seats - n >= floor]
            choices += sorted(enough, key=self._return_at.__getitem__, reverse=True)
        return choices

    def _place(self, k: int) -> None:
        """Let the reserve k come next."""
        self._unlink(k)
        self._trail.append(k)
        self._seats -= self._amount[k]
        self._must_be_seen = self._roles[k] == PENDING
        if self._must_be_seen:
            self._slack -= self._amount[k]

    def _go_back(self) -> bool:
        """Go back to the last choice that has something left to try. False when there is none: all is refuted."""
        while self._stack and not self._stack[-1][1]:
            self._stack.pop()
            # To just after the choice below: undo the reads placed since, and that choice.
            mark = self._stack[-1][0] if self._stack else 0
            while len(self._trail) > mark:
                self._take_back(self._trail.pop())
        return bool(self._stack)

    def _take_back(self, k: int) -> None:
        self._link(k)
        if self._roles[k] in (ACKNOWLEDGED, PENDING):
            self._seats += self._amount[k]
            if self._roles[k] == PENDING:
                self._slack += self._amount[k]

    def _unlink(self, k: int) -> None:
        """Take the events of k off the timeline. A pending one has only its call."""
        following, preceding = self._following, self._preceding
        e = self._call_at[k]
        before, after = preceding[e], following[e]
        following[before] = after
        preceding[after] = before
        e = self._return_at[k]
        if e != self._end:
            before, after = preceding[e], following[e]
            following[before] = after
            preceding[after] = before

    def _link(self, k: int) -> None:
        """Put the events of k back where they were. Only in the reverse order of _unlink: each knows its neighbours."""
        following, preceding = self._following, self._preceding
        e = self._return_at[k]
        if e != self._end:
            following[preceding[e]] = e
            preceding[following[e]] = e
        e = self._call_at[k]
        following[preceding[e]] = e
        preceding[following[e]] = e
