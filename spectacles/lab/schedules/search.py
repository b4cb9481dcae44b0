"""Which schedules are worth playing: all that differ in more than the order of independent steps.

Fewest preemptions first. A preemption takes the processor from a task that could go on. From each run come its
branches: at each choice, another task instead. Two things are left out, and counted:

- a preemption before a step that nobody else depends on. The same run without it: the step made first, the preemption
  after it. What is depended on is learnt from the runs; a branch that waits for it is taken up as soon as it is known.
- a branch that leads to where another has led, for no more preemptions: the same steps, in an order that differs only
  between independent ones (order.py).

So each run with at most k preemptions has an equal among those played, and the first one found to be wrong has the
fewest preemptions, and among these departs the least from what would happen by itself.
"""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from spectacles.lab.schedules.order import Order

if TYPE_CHECKING:
    from spectacles.lab.schedules.points import Keys
    from spectacles.lab.schedules.stage import Ready, Step


@dataclass(frozen=True, order=True)
class Branch:
    """A schedule to be played: its beginning is given, the rest goes on by itself."""

    preemptions: int
    departures: int  # choices that are not what would happen by itself
    number: int
    choices: tuple[str, ...] = field(compare=False)
    labels: tuple[str, ...] = field(compare=False)  # what each was let go for
    kills: int = field(default=0, compare=False)
    state: tuple[int, str] | None = field(default=None, compare=False)  # where it leads


class Search:
    """What is to be played next. take() a branch, play it, and give() its steps, until there is none.

    bound: preemptions at most. reduce: False plays every order. kills: deaths at most; who: which programs may be
    killed, all if empty. soonest: fewest departures first, however many preemptions: finds most races sooner, but the
    first one found may not have the fewest preemptions.
    """

    def __init__(
        self,
        bound: int,
        *,
        reduce: bool = True,
        kills: int = 0,
        who: frozenset[str] = frozenset(),
        soonest: bool = False,
    ) -> None:
        self.bound = bound
        self.played = 0
        self.same = 0  # branches left out: they lead where another has led
        self.beyond = 0  # branches that would have needed one preemption more
        self._reduce = reduce
        self.kills = kills
        self._who = who
        self.soonest = soonest
        self._queue: list[tuple[tuple[int, int], Branch]] = [
            ((0, 0), Branch(0, 0, 0, (), ()))
        ]  # in the order of being played
        self._numbers = itertools.count(1)
        self._known: dict[
            tuple[int, str], tuple[int, int]
        ] = {}  # where, who moved last -> preemptions, kills to get there
        self._touched: dict[str, dict[str, bool]] = {}  # key -> task -> whether it changes it
        self._shared: set[str] = set()
        self._waiting: dict[str, list[Branch]] = {}  # by each key whose being shared would make them worth it
        self._alone: set[int] = set()  # numbers of branches that wait, or did

    @property
    def independent(self) -> int:
        """Branches left out until now: a preemption before a step that nobody depends on."""
        return len(self._alone)

    def take(self) -> Branch | None:
        """Return what is to be played next, None if there is nothing now."""
        while self._queue:
            branch = heapq.heappop(self._queue)[1]
            if branch.state is not None and self._is_known(branch.state, branch.preemptions, branch.kills):
                self.same += 1
                continue
            return branch
        return None

    def next_preemptions(self) -> int | None:
        """Return the fewest preemptions of any branch that is left, None if there is none."""
        return min((branch.preemptions for _, branch in self._queue), default=None)

    def give(self, branch: Branch, steps: tuple[Step, ...]) -> None:
        """Take in what a branch came to."""
        self.played += 1
        order = Order()
        choices: tuple[str, ...] = tuple(step.choice for step in steps)
        labels = tuple(_chosen(step).label for step in steps)
        fresh = True
        for index, step in enumerate(steps):
            chosen = _chosen(step)
            for ready in step.ready:
                self._touch(ready.task, ready.keys)
            if fresh and index >= len(branch.choices):
                where = (order.state, step.last)
                if self._is_known(where, branch.preemptions, branch.kills):
                    fresh = False  # from here on all was branched from before
                else:
                    self._know(where, branch.preemptions, branch.kills)
                    self._branch(branch, step, choices[:index], labels[:index], order)
            if step.choice == chosen.task:
                order.step(chosen.task, chosen.label, chosen.keys, step.woken, step.born)
            else:
                order.kill(step.choice)

    def _branch(
        self, branch: Branch, step: Step, choices: tuple[str, ...], labels: tuple[str, ...], order: Order
    ) -> None:
        last = next((one for one in step.ready if one.task == step.last and not one.yields), None)
        for ready in step.ready:
            if ready.task != step.choice:
                preempts = last is not None and ready is not last
                # A time limit that is met while somebody could move: he was slow, as if he had been preempted.
                preempts = preempts or (ready.in_vain and any(not one.yields for one in step.ready))
                made = Branch(
                    branch.preemptions + preempts,
                    branch.departures + 1,
                    next(self._numbers),
                    (*choices, ready.task),
                    (*labels, ready.label),
                    branch.kills,
                    (order.after(ready.task, ready.label, ready.keys), ready.task) if self._reduce else None,
                )
                self._put(made, last.keys if preempts and last is not None else None)
            elif branch.kills < self.kills and (not self._who or ready.task.partition(".")[0] in self._who):
                made = Branch(
                    branch.preemptions,
                    branch.departures + 1,
                    next(self._numbers),
                    (*choices, f"kill {ready.task}"),
                    (*labels, ready.label),
                    branch.kills + 1,
                )
                self._put(made, None)

    def _put(self, branch: Branch, before: Keys | None) -> None:
        """Queue a branch. before: it preempts a task that was about to touch these."""
        if branch.preemptions > self.bound:
            self.beyond += 1
        elif branch.state is not None and self._is_known(branch.state, branch.preemptions, branch.kills):
            self.same += 1
        elif self._reduce and before is not None and not any(key in self._shared for key, _ in before):
            self._alone.add(branch.number)
            for key, _ in before:
                self._waiting.setdefault(key, []).append(branch)
        else:
            self._push(branch)

    def _push(self, branch: Branch) -> None:
        heapq.heappush(self._queue, ((branch.departures, -branch.preemptions) if self.soonest else (0, 0), branch))

    def _touch(self, task: str, keys: Keys) -> None:
        for key, changes in keys:
            if key in self._shared:
                continue
            touched = self._touched.setdefault(key, {})
            touched[task] = touched.get(task, False) or changes
            if len(touched) > 1 and any(touched.values()):
                self._shared.add(key)
                for branch in self._waiting.pop(key, ()):
                    if branch.number in self._alone:
                        self._alone.discard(branch.number)
                        self._push(branch)

    def _is_known(self, where: tuple[int, str], preemptions: int, kills: int) -> bool:
        known = self._known.get(where) if self._reduce else None
        return known is not None and known[0] <= preemptions and known[1] <= kills

    def _know(self, where: tuple[int, str], preemptions: int, kills: int) -> None:
        known = self._known.get(where)
        if known is None or (preemptions, kills) < known:
            self._known[where] = (preemptions, kills)


def _chosen(step: Step) -> Ready:
    task = step.choice.rpartition(" ")[2]
    return next(ready for ready in step.ready if ready.task == task)
