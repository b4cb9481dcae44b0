"""From an invalid history to its fault: the few operations that no order explains, without the thousands around."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace

from spectacles.lab.judge.linearizability.history import READS, Operation, role
from spectacles.lab.judge.linearizability.search import Verdict, search


class Reduction:
    """The reduction of an invalid history of one show. Used once.

    Only reads (consults and refused reserves) are ever removed. They do not change the state, so dropping one from an
    order that explains a history leaves an order that explains the rest: if the rest is invalid, so is the whole.
    Nothing such holds of acknowledged reserves (without one, a later consult that saw its effect looks wrong by itself)
    nor of pending ones (which may be what makes a history explicable): they are kept, except pending reserves of 0
    seats or less, which never act.

    minimal: whether there was time to remove all that can be.
    """

    def __init__(self, operations: Sequence[Operation], initial: int, deadline: float) -> None:
        self.minimal = True
        self._best = [op for op in operations if role(op) is not None]
        self._initial = initial
        self._deadline = deadline

    def run(self) -> list[Operation]:
        """Return the operations that are left, in no particular order. Blocks until the deadline at most."""
        self._shorten()
        self._reduce()
        # Without the reads removed, an earlier return may already be inexplicable. (Nothing more can be removed after
        # that: what is invalid in a prefix is invalid in the whole.)
        self._shorten()
        return self._best

    def _invalid(self, operations: list[Operation]) -> bool:
        """Whether the operations are proved invalid; remembers the smallest such history."""
        now = time.monotonic()
        if now > self._deadline:
            self.minimal = False
            return False
        # One hard question must not take all the time: without an answer, more is kept.
        verdict = search(operations, self._initial, now + (self._deadline - now) / 10)
        if verdict is Verdict.UNKNOWN:
            self.minimal = False
        if verdict is Verdict.INVALID and len(operations) <= len(self._best):
            self._best = operations
        return verdict is Verdict.INVALID

    def _shorten(self) -> None:
        """Keep the shortest invalid prefix.

        Linearizability is prefix closed, so the invalid prefixes are those from some return on: binary search.
        """
        whole = self._best
        returns = sorted((op.ret, op.call, k) for k, op in enumerate(whole) if op.ret is not None)

        def prefix(length: int) -> list[Operation]:
            last = returns[length - 1][0] if length else -math.inf
            returned = {k for _, _, k in returns[:length]}
            cut = (
                op if k in returned else replace(op, result=None, ret=None)
                for k, op in enumerate(whole)
                if op.call <= last
            )
            return [op for op in cut if role(op) is not None]

        low, high = 0, len(returns)
        while high - low > 1:
            middle = (low + high) // 2
            if self._invalid(prefix(middle)):
                high = middle
            else:
                low = middle
        self._best = prefix(high)

    def _reduce(self) -> None:
        """Remove reads until none can be, by QuickXplain (Junker 2004).

        A superset of an invalid set of reads is invalid, so this takes a number of checks in k log(n / k) for k reads
        kept out of n. The latest reads are kept by preference: they are close to the fault.
        """
        fixed = [op for op in self._best if role(op) not in READS]
        reads = [op for op in self._best if role(op) in READS]
        reads.sort(key=lambda op: (op.ret or 0, op.call), reverse=True)

        def conflict(known: list[Operation], added: bool, candidates: list[Operation]) -> list[Operation]:
            if added and self._invalid(fixed + known):
                return []
            if len(candidates) <= 1:
                return candidates
            half = len(candidates) // 2
            first, second = candidates[:half], candidates[half:]
            kept_second = conflict(known + first, bool(first), second)
            kept_first = conflict(known + kept_second, bool(kept_second), first)
            return kept_first + kept_second

        kept = [] if not reads or self._invalid(fixed) else conflict([], False, reads)
        self._invalid(fixed + kept)
