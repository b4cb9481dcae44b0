"""Plays the schedules of a scenario, on all processors, until one goes wrong or all are done."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from spectacles.lab.schedules import words
from spectacles.lab.schedules.pool import AT_ONCE, Outcome, Worker, play, settle_down
from spectacles.lab.schedules.replay import Replay, replay, same
from spectacles.lab.schedules.scenario import Scenario
from spectacles.lab.schedules.search import Branch, Search
from spectacles.lab.schedules.stage import Run, Stage
from spectacles.lab.schedules.verdict import Failure, judge
from spectacles.lab.schedules.witness import Testimony, helgrind

ALONE = 0.4  # seconds before a second process is worth its start
BRISK = 30  # schedules a second, from which on a worker is handed several at once
LONGER = 3.0
TROUBLES = 3  # schedules that cannot be judged before it is given up


class Verdict(StrEnum):
    """What an exploration came to."""

    FOUND = "found"  # a schedule goes wrong, and does so again in a fresh world
    NONE = "none"  # all schedules up to the bound were played, or left out for a reason
    OPEN = "open"  # not all were, for lack of time, or some could not be judged; what was played was right


@dataclass(frozen=True)
class Found:
    """A schedule that goes wrong."""

    failure: Failure
    run: Run
    branch: Branch
    segments: tuple[words.Segment, ...]
    script: str  # plays it again, matched by name
    again: Replay | None = None  # in a fresh world, by the script; None: not tried

    @property
    def sure(self) -> bool:
        """Whether it showed again, by the script."""
        return self.again is not None and same(self.failure, self.again.failure)


@dataclass
class Report:
    """What was explored."""

    scenario: Scenario
    bound: int  # preemptions at most
    verdict: Verdict = Verdict.OPEN
    found: Found | None = None
    played: int = 0  # schedules
    same: int = 0  # left out: they lead to where another has led
    independent: int = 0  # left out: a preemption before a step that nobody else depends on
    beyond: int = 0  # branches that would have needed one preemption more
    done: int = -1  # all schedules with at most so many preemptions were played or left out; -1: not even those without
    steps: int = 0  # of all runs together
    elapsed: float = 0.0  # seconds
    workers: int = 1
    troubles: list[str] = field(default_factory=list)  # why some could not be judged
    notes: list[str] = field(default_factory=list)  # what is not seen here
    threads: bool = False  # a program had some: of their memory only changes of its own variables are seen
    testimony: Testimony | None = None  # what Helgrind says of them, where it is installed

    @property
    def rate(self) -> float:
        """Schedules a second."""
        return self.played / self.elapsed if self.elapsed else 0.0


def explore(
    scenario: Scenario,
    *,
    preemptions: int = 2,
    seconds: float = 60.0,
    kills: int = 0,
    who: frozenset[str] = frozenset(),
    reduce: bool = True,
    workers: int | None = None,
    again: bool = True,
    soonest: bool = False,
    least: int = 0,
    told: Callable[[Report], None] | None = None,
) -> Report:
    """Explore a scenario. Blocks for `seconds` at most, and a few more for the run that was found.

    least: schedules that are played even if it takes longer, up to LONGER times `seconds`.

    preemptions: at most. kills: deaths at most (who: names of programs that may die; none: all). reduce: False plays
    every order, even of independent steps. workers: processes; None: one a processor, at most 4. again: whether what is
    found is played again by its script in a fresh world, and Helgrind asked about threads. soonest: fewest departures
    from what happens by itself first, not fewest preemptions. told: called now and then with what is known until then.
    Raises StageError, WorldError, GateError when the programs cannot be started.
    """
    search = Search(preemptions, reduce=reduce, kills=kills, who=who, soonest=soonest)
    report = Report(scenario, preemptions)
    processors = sorted(os.sched_getaffinity(0))
    wanted = min(4, len(processors)) if workers is None else max(1, workers)
    started = time.monotonic()
    try:
        with contextlib.ExitStack() as undo:
            undo.callback(os.sched_setaffinity, 0, set(processors))
            settle_down(processors[0] if wanted > 1 or len(processors) == 1 else None)
            stage = undo.enter_context(Stage(scenario, kills=kills > 0))
            report.notes = list(stage.notes)
            wanted = 1 if stage.alone else wanted
            wrong = _run(search, stage, report, started, seconds, least, wanted, processors, undo, told)
            report.threads = stage.threads
            if wrong is not None:
                report.found = _show(stage, wrong)
    finally:
        report.elapsed = time.monotonic() - started
    if again and report.threads:
        report.testimony = helgrind(scenario)
    if report.found is not None:
        if again:
            found = report.found
            report.found = Found(
                found.failure, found.run, found.branch, found.segments, found.script, replay(scenario, found.script)
            )
        report.verdict = Verdict.FOUND
    return report


def _run(
    search: Search,
    stage: Stage,
    report: Report,
    started: float,
    seconds: float,
    least: int,
    wanted: int,
    processors: list[int],
    undo: contextlib.ExitStack,
    told: Callable[[Report], None] | None,
) -> Outcome | None:
    """Play until something is wrong, nothing is left, or time is over; return what is wrong."""
    workers: list[Worker] = []
    wrong: list[Outcome] = []
    next_word = started + 0.5

    def give(outcome: Outcome) -> None:
        if outcome.trouble:
            report.troubles.append(outcome.trouble)
            return
        search.give(outcome.branch, outcome.steps)
        report.steps += len(outcome.steps)
        if outcome.failure is not None:
            again = play(stage, outcome.branch)  # what is seen once may be the machine's doing
            if again.failure is not None and same(outcome.failure, again.failure):
                wrong.append(again)
            else:
                report.troubles.append(f"vu une fois, pas deux : {outcome.failure.text}")

    while True:
        now = time.monotonic()
        report.played, report.same, report.independent = search.played, search.same, search.independent
        report.beyond, report.elapsed, report.workers = search.beyond, now - started, 1 + len(workers)
        if told is not None and now > next_word:
            next_word = now + 0.5
            told(report)
        for worker in workers:
            while worker.busy and worker.ready(0):
                give(worker.take())
        late = now - started > seconds * (LONGER if search.played < least else 1)
        if wrong or len(report.troubles) >= TROUBLES or late:
            break
        if now - started > ALONE and len(workers) < wanted - 1:
            processor = processors[(1 + len(workers)) % len(processors)]
            workers.append(undo.enter_context(Worker(report.scenario, kills=search.kills > 0, processor=processor)))
        handed = AT_ONCE if search.played > BRISK * (now - started) else 1
        for worker in workers:
            while worker.busy < handed and (branch := search.take()) is not None:
                worker.give(branch)
        branch = search.take()
        if branch is not None:
            give(play(stage, branch))
        elif busy := [worker for worker in workers if worker.busy]:
            busy[0].ready(0.05)
        else:
            break
    for worker in workers:
        if not wrong:
            worker.stop()
        while wrong and worker.busy:  # played already, or about to be: what is found may be simpler
            give(worker.take())
    report.played, report.same, report.independent = search.played, search.same, search.independent
    report.beyond, report.workers = search.beyond, 1 + len(workers)
    left = search.next_preemptions()
    if wrong:
        simplest = min(wrong, key=lambda outcome: outcome.branch)
        report.done = -1 if search.soonest else simplest.branch.preemptions - 1
        return simplest
    if left is None and not report.troubles:
        report.done = search.bound
        report.verdict = Verdict.NONE
    else:
        report.done = -1 if report.troubles else (left or 0) - 1
    return None


def _show(stage: Stage, wrong: Outcome) -> Found:
    """Play it once more, for its events, and put it in words."""
    run = stage.play(wrong.branch.choices, wrong.branch.labels)
    failure = judge(stage.scenario, run) or wrong.failure
    assert failure is not None
    sources = words.Sources(stage.scenario.folder)
    text = words.script(run, stage.scenario.title, failure.text, sources)
    return Found(failure, run, wrong.branch, tuple(words.segments(run, sources)), text)
