"""Layer B: races by their schedule: two clients at once, in every order that matters, until one goes wrong.

    one client after the other    must go well here, or nothing is said: then this tool understands the program
    both at once                  the explorer: fewest preemptions first, in a budget of seconds
    what was found                played again by its script in fresh worlds, and only then told

What no order of the requests explains is a seat sold twice. Who waits for ever is told only where it is seen why: its
answer went elsewhere, or nobody gives a lock back. Anything else is let pass: it may be the lab's doing.
"""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING

from spectacles.common.errors import SpectaclesError
from spectacles.lab.check.model import TIMELINE, NotApplicable, Outcome, defect, ok
from spectacles.lab.check.registry import check
from spectacles.lab.dossier.sites import RECEIVING, SENDING
from spectacles.lab.gate.events import Kind
from spectacles.lab.kernel.machine import load
from spectacles.lab.schedules import verdict, words
from spectacles.lab.schedules.explorer import Verdict, explore
from spectacles.lab.schedules.profiles import CLIENTS, LOOKER, of_profile
from spectacles.lab.schedules.replay import replay
from spectacles.lab.schedules.stage import Stage
from spectacles.lab.schedules.verdict import Why

if TYPE_CHECKING:
    from collections.abc import Callable

    from spectacles.lab.check.case import Case
    from spectacles.lab.gate.events import Event
    from spectacles.lab.schedules.explorer import Found, Report
    from spectacles.lab.schedules.scenario import Scenario, Service
    from spectacles.lab.schedules.stage import Run
    from spectacles.lab.schedules.verdict import Failure

PREEMPTIONS = 2
SECONDS = 5.0  # of exploring, on a machine that has nothing else to do
QUICK = 1.5  # with --quick
SLOWEST = 4.0  # times as long, at most, on one that has
LEAST = 40  # schedules, on a machine that is busier still
AGAIN = 3  # worlds in which a script may show what was found
LINGER = 1.5  # seconds for which who waits for a lock must go on waiting, by the real clock
_CHANNELS = ("queue", "private queue", "POSIX queue", "connection", "socket", "pipe")
_WAITING = ("semop", "flock", "fcntl")
_TELLING = ("lit ", "change ", "écrit ", "envoie dans", "envoie sur", "demande ", "rend ", "verrouille ", "finit")
_SOURCES = {  # what to look for where no place is known
    15: r"msgrcv\s*\(",
    28: r"pthread_create\s*\(|static .*[Rr]equ|malloc\s*\(",
    29: r"places\s*-=|-=|places\s*=|sem_wait|mutex_lock|fcntl|flock",
    30: r"sem_wait|mutex_lock|semop|flock|fcntl",
}


@check(
    "schedules",
    finds=(15, 28, 29, 30),
    layer="B",
    does="joue deux clients à la fois, dans tous les ordres qui comptent, jusqu'entre deux instructions",
    needs=("two clients", "gate"),
    rank=95,
)
def schedules(case: Case) -> Outcome:
    """However two clients and the server are scheduled, they are answered as if one had come after the other."""
    if case.profile.free or case.profile.sold or case.profile.named:
        raise NotApplicable("les places y ont des noms, ce que l'on n'explore pas")
    try:
        scenario = of_profile(case.profile, str(case.folder), refusals=False)
    except ValueError as error:
        raise NotApplicable(str(error)) from None
    try:
        calm = _one_after_the_other(scenario)
        return _again(case, scenario, calm) if case.script else _search(case, scenario, calm)
    except (SpectaclesError, OSError) as error:
        raise NotApplicable(f"ne peut pas être exploré ici : {str(error).splitlines()[0]}") from None


def _one_after_the_other(scenario: Scenario) -> Run:
    """Return a run in which each client comes when the one before has left. Raises NotApplicable where even that does
    not go as it should: then either something else is wrong, or it is not understood here."""
    calm = dataclasses.replace(
        scenario,
        actors=tuple(dataclasses.replace(one, last=one.last or one.name == CLIENTS[1]) for one in scenario.actors),
    )
    with Stage(calm) as stage:
        if stage.alone:
            raise NotApplicable(f"il faut un monde à part : {stage.notes[0]}")
        run = stage.play()
    failure = verdict.judge(calm, run)
    if failure is not None:
        said = " ".join(failure.text.split())
        raise NotApplicable(f"un client après l'autre, déjà, cela ne se passe pas comme prévu ici : {said[:200]}")
    assert scenario.service is not None
    told = {one.client: one.result for one in verdict.operations(scenario.service, run)}
    if told.get(CLIENTS[0]) is not True or told.get(LOOKER) is None:
        raise NotApplicable("un client seul, ici, n'a pas de réponse que l'on sache lire")
    return run


def _search(case: Case, scenario: Scenario, calm: Run) -> Outcome:
    """Explore; what is found and means nothing is let pass, and the search goes on without that kind."""
    busy = load()
    deadline = time.monotonic() + min(max(busy, 1.0), SLOWEST) * (QUICK if case.quick else SECONDS)
    least = LEAST if busy > SLOWEST else 0  # else it is the program that is slow
    aside: list[str] = []
    while True:
        left = max(deadline - time.monotonic(), 0.5)
        report = explore(scenario, preemptions=PREEMPTIONS, seconds=left, least=least, again=False, soonest=True)
        if report.found is None:
            return ok(_covered(report, aside))
        outcome = _confirmed(case, scenario, calm, report.found)
        if outcome is not None:
            return outcome
        failure = report.found.failure
        aside.append(" ".join(failure.text.split())[:120])
        scenario = dataclasses.replace(scenario, passes=scenario.passes | {failure.why})
        if time.monotonic() > deadline:
            return ok(_covered(report, aside))


def _covered(report: Report, aside: list[str]) -> str:
    """Say what was tried."""
    said = f"{report.played} entrelacements de deux clients joués"
    if report.verdict is Verdict.NONE:
        said += f" : tous ceux d'au plus {report.done} préemptions"
    else:
        done = (
            f"tous ceux d'au plus {report.done} préemption(s)" if report.done >= 0 else "pas tous, même sans préemption"
        )
        said += f" : {done}, le temps manquait pour les autres"
    if aside:
        said += f" ; vu, et mis de côté faute de preuve : {' ; '.join(aside)}"
    return said


def _confirmed(case: Case, scenario: Scenario, calm: Run, found: Found) -> Outcome | None:
    """Return the defect that a schedule shows, if its script shows it too in a fresh world; else None."""
    for _ in range(AGAIN):
        said = _played(case, scenario, calm, found.script)
        if said is not None:
            number, sentence, seen = said
            return defect(
                number,
                sentence,
                done=_done(scenario, found),
                expected=_expected(number),
                seen=seen,
                timeline=_timeline(found.segments),
                source=_source(case, number, found.segments),
                script=found.script,
            )
    return None


def _again(case: Case, scenario: Scenario, calm: Run) -> Outcome:
    """Play the script of a finding, and nothing else."""
    said = _played(case, scenario, calm, case.script, case.sink)
    if said is None:
        return ok("le script joué, rien de mal")
    number, sentence, seen = said
    done = "rejouer le script de l'entrelacement"
    return defect(number, sentence, done=done, expected=_expected(number), seen=seen, script=case.script)


def _played(
    case: Case, scenario: Scenario, calm: Run, script: str, sink: Callable[[Event], None] | None = None
) -> tuple[int, str, str] | None:
    """Play a script in a fresh world. Return the number of the defect that shows, a sentence, and what was seen.

    By the clock as it is: by one of the lab's own, a lock that is given up for its age may look older than it is.
    """
    done = replay(scenario, script, clock=False)
    if sink is not None:
        for event in done.run.events:
            sink(event)
    return None if done.failure is None else _meaning(scenario, script, calm, done.failure, done.run)


# What a failure means


def _meaning(scenario: Scenario, script: str, calm: Run, failure: Failure, run: Run) -> tuple[int, str, str] | None:
    """Return the number of the defect that a run shows beyond doubt, a sentence, what was seen; None: nobody knows."""
    if failure.why is Why.ACCOUNTS:
        return _sold_twice(scenario, run)
    if failure.why is Why.DEADLOCK:
        return _locked(scenario, script, calm, run) or _elsewhere(scenario, calm, run)
    return None


def _sold_twice(scenario: Scenario, run: Run) -> tuple[int, str, str] | None:
    assert scenario.service is not None
    there = sum(scenario.service.initial.values())
    history = verdict.operations(scenario.service, run)
    granted = sum(one.seats for one in history if one.kind == "reserve" and one.result is True)
    left = next((one.result for one in history if one.kind == "consult" and one.result is not None), None)
    if granted > there:
        sentence = f"Des places sont vendues deux fois : {granted} acquittées, il n'y en avait que {there}."
    elif left is not None and left > there - granted:
        sentence = f"Une vente est perdue : {granted} places acquittées sur {there}, et il en reste {left}."
    else:
        return None
    return 29, sentence, _told(scenario, run)


def _told_all(service: Service) -> Service:
    return dataclasses.replace(service, refusals=True)


def _told(scenario: Scenario, run: Run) -> str:
    """Return what everybody was told."""
    assert scenario.service is not None
    parts = []
    for one in verdict.operations(_told_all(scenario.service), run):
        if one.kind == "consult":
            parts.append("ensuite, " + ("sans réponse" if one.result is None else f"il reste {one.result} place(s)"))
        else:
            said = "sans réponse" if one.result is None else "acceptée" if one.result else "refusée"
            parts.append(f"{one.client} réserve {one.seats} place(s) : {said}")
    return " ; ".join(parts)


def _locked(scenario: Scenario, script: str, calm: Run, run: Run) -> tuple[int, str, str] | None:
    """Somebody of the server waits for a lock that nobody gives back, and goes on waiting by the real clock."""
    stuck = _waiting_for_locks(run) - _waiting_for_locks(calm)
    if not stuck:
        return None
    real = replay(scenario, script, clock=False, linger=LINGER).run
    stuck &= _waiting_for_locks(real)
    if not stuck:
        return None
    holders = verdict.holders(run)
    parts, circle = [], True
    for task, thing in sorted(stuck):
        owner = holders.get(thing, "")
        circle = circle and owner != task and any(owner == other for other, _ in stuck)
        had = f", que tient {owner}" if owner and owner != task else ", que tient déjà la même" if owner else ""
        parts.append(f"{task} attend {words.object_words(thing)}{had}")
    sentence = "Un verrou n'est jamais rendu : le service s'arrête."
    if circle:
        sentence = "Deux verrous sont pris dans deux ordres : chacun attend celui que l'autre tient."
    return 30, sentence, " ; ".join(parts)


def _waiting_for_locks(run: Run) -> set[tuple[str, str]]:
    """Return who of the server sleeps at the end of a run for which lock."""
    return {
        (name, rest.object)
        for name, rest in run.rest.items()
        if name.partition(".")[0] == "server"
        and rest.state == "asleep"
        and (rest.call in _WAITING or rest.object.startswith(("lock ", "semaphore ")))
    }


def _elsewhere(scenario: Scenario, calm: Run, run: Run) -> tuple[int, str, str] | None:
    """One of two waits for an answer in vain: the server took it itself, or answered another in its place."""
    assert scenario.service is not None
    told = {one.client: one.result for one in verdict.operations(_told_all(scenario.service), run)}
    stuck = [rest for rest in verdict.waiting(scenario, run) if rest.task in CLIENTS]
    if [rest.call in RECEIVING or rest.call == "poll" for rest in stuck] != [True]:
        return None
    if any(told.get(name) is None for name in CLIENTS if name != stuck[0].task):
        return None
    seen = f"{_told(scenario, run)} ; {stuck[0].task} attend encore dans {stuck[0].call}"
    of_run, of_calm = _Traffic(run), _Traffic(calm)
    if of_run.own and not of_calm.own:
        return (
            15,
            "Le serveur reprend lui-même une réponse qu'il venait d'envoyer : son client l'attend toujours.",
            seen,
        )
    if of_run.received >= of_calm.received and len(of_run.answered) < len(of_calm.answered):
        return 28, "Deux requêtes sont mélangées : l'une prend la place de l'autre, qui n'a pas de réponse.", seen
    if of_run.shared and not of_calm.shared:
        return 28, "Deux requêtes sont mélangées : deux servent la même connexion, et personne l'autre.", seen
    return None


class _Traffic:
    """What went through the server in a run, until the last client came to look.

    received: messages. answered: to whom it sent, or tried to. own: whether it took, from a queue, what it had sent
    itself. shared: whether two of its tasks read from one connection.
    """

    def __init__(self, run: Run) -> None:
        self.received = 0
        self.answered: set[tuple[str, object]] = set()
        self.own = False
        until = next((event.seq for event in run.events if event.kind == Kind.BIRTH and event.task == LOOKER), None)
        asked: dict[int, Event] = {}
        sent: set[tuple[str, object, object]] = set()
        readers: dict[str, set[str]] = {}
        for event in run.events[: until and until - 1]:
            if event.task.partition(".")[0] != "server" or event.kind not in (Kind.CALL, Kind.RESULT):
                continue
            call = asked.setdefault(event.seq, event) if event.kind == Kind.CALL else asked.get(event.of, event)
            if not (call.object.startswith(_CHANNELS) or call.arguments.get("fifo")):
                continue
            kind, data = event.arguments.get("type"), event.arguments.get("data")
            if event.kind == Kind.RESULT:
                self.received += event.call in RECEIVING and (event.result or 0) > 0
                self.own = self.own or (event.call == "msgrcv" and (event.object, kind, data) in sent)
            elif event.call in SENDING or (
                event.call == "open" and "O_RDONLY" not in str(event.arguments.get("flags"))
            ):
                self.answered.add((event.object, kind))
                sent.add((event.object, kind, data))
            elif event.call in RECEIVING and event.object.startswith("connection"):
                readers.setdefault(event.object, set()).add(event.task)
        self.shared = any(len(tasks) > 1 for tasks in readers.values())


# In words


def _done(scenario: Scenario, found: Found) -> str:
    assert scenario.service is not None
    seats = next(words[2] for words in scenario.service.operations.values() if words[0] == "reserve")
    there = sum(scenario.service.initial.values())
    times = found.branch.preemptions
    how = (
        "sans qu'aucun soit interrompu"
        if not times
        else f"{times} interruption{'s' if times > 1 else ''} bien placée{'s' if times > 1 else ''}"
    )
    return f"A et B réservent ensemble {seats} place(s) chacun, il y en a {there} ; un seul avance à la fois, {how}"


def _expected(number: int) -> str:
    if number == 29:
        return "les réponses d'un ordre où les requêtes passent l'une après l'autre"
    return "chacun a sa réponse"


def _source(case: Case, number: int, segments: tuple[words.Segment, ...]) -> str:
    """Return the line that somebody was kept from, for another to come in between."""
    for segment in reversed(segments):
        if segment.preempted and segment.place and number == 29:
            return f"{segment.place} : {segment.source[:160]}"
    return case.source(_SOURCES[number])


def _timeline(segments: tuple[words.Segment, ...]) -> list[str]:
    """Return who did what, in TIMELINE lines at most: above all what touches that from which somebody was kept."""
    thing = next((one.before.partition(" ")[2] for one in reversed(segments) if one.before), "")
    lines: list[str] = []
    for most in (8, 6, 4, 3, 2, 1):
        lines = [line for segment in segments for line in _segment(segment, most, thing)]
        if len(lines) <= TIMELINE:
            return lines
    where = max((at for at, line in enumerate(lines) if line.startswith("──")), default=len(lines) // 2)
    start = max(0, min(where - 7, len(lines) - TIMELINE + 1))
    end = start + TIMELINE - 1 - (start > 0)
    return [*(["…"] if start else []), *lines[start:end], *(["…"] if end < len(lines) else [])]


def _segment(segment: words.Segment, most: int, thing: str) -> list[str]:
    """Return what one task did while no other moved, the `most` lines that say most."""

    def worth(at: int) -> tuple[int, int]:
        text = segment.lines[at].text
        return ((2 if thing and thing in text else 1) if text.startswith(_TELLING) else 0, at)

    kept = sorted(sorted(range(len(segment.lines)), key=worth)[-most:])
    lines = []
    for at in kept:
        line = segment.lines[at]
        lines.append(f"{segment.task} : {line.text}{f' ({line.place})' if line.place else ''}")
    if lines and len(kept) < len(segment.lines):
        others = len(segment.lines) - len(kept)
        lines[-1] += f" … et {others} autre{'s' if others > 1 else ''} pas"
    if segment.preempted:
        lines.insert(0, f"── {segment.preempted} est interrompu ici ; il allait faire : {segment.before}")
    return lines
