"""What must hold of every run, and what is said when it does not."""

from __future__ import annotations

import re
import signal
import struct
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from spectacles.common.spectacle import unpack_table
from spectacles.lab.gate.events import HAS, RELEASES, WAITS, Kind
from spectacles.lab.judge import linearizability
from spectacles.lab.judge.linearizability import Operation, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from spectacles.lab.gate.supervisor import Rest
    from spectacles.lab.schedules.scenario import Actor, Content, Scenario, Service
    from spectacles.lab.schedules.stage import Run

JUDGING = 2.0  # seconds to judge one history


class Why(StrEnum):
    """What is wrong with a run."""

    DEADLOCK = "deadlock"  # everybody waits
    ENDLESS = "endless"  # everybody moves, and nothing ends
    CRASH = "crash"  # ended by a signal that nobody chose to send
    CODE = "code"
    PRINTED = "printed"
    CONTENT = "content"
    ACCOUNTS = "accounts"  # what clients were told could not have come from one clerk at one desk, file included


@dataclass(frozen=True)
class Failure:
    """What is wrong, and in one French sentence or more how it shows."""

    why: Why
    text: str


def judge(scenario: Scenario, run: Run) -> Failure | None:
    """Return the first thing that is wrong with a run, None if nothing is that the scenario does not let pass."""
    return next((failure for failure in _failures(scenario, run) if failure.why not in scenario.passes), None)


def _failures(scenario: Scenario, run: Run) -> Iterator[Failure]:
    killed = {  # by a choice or by a line of a script
        event.task.partition(".")[0] for event in run.events if event.kind == Kind.DECISION and event.call == "kill"
    }
    if run.end == "endless":
        text = f"plus de {scenario.steps} pas sans que rien ne finisse : les tâches tournent sans avancer"
        yield Failure(Why.ENDLESS, text)
        return
    yield from _deadlock(scenario, run, killed)
    for actor in scenario.actors:
        if actor.name not in killed:
            yield from _ended(actor, run, bool(killed))
    for content in scenario.contents:
        yield from _content(content, run)
    if scenario.service is not None:
        yield from _service(scenario.service, run, killed)


def waiting(scenario: Scenario, run: Run) -> list[Rest]:
    """Return who sleeps at the end of a run, of the programs that should have ended; not who waits for a person."""
    stays = {actor.name for actor in scenario.actors if actor.stays}
    return [
        rest
        for name, rest in run.rest.items()
        if rest.state == "asleep"
        and name.partition(".")[0] not in stays
        and not (rest.call in ("read", "poll") and rest.object == "terminal")
    ]


def holders(run: Run) -> dict[str, str]:
    """Return who has each lock at the end of a run: who took it and has not released it."""
    found: dict[str, str] = {}
    for event in run.events:
        if event.call == HAS and event.errno in ("", "EOWNERDEAD"):
            found[event.object] = event.task
        elif event.call == RELEASES:
            found.pop(event.object, None)
        elif event.call == WAITS:
            found.pop(str(event.arguments.get("lock")), None)
    return found


def _deadlock(scenario: Scenario, run: Run, killed: set[str]) -> Iterator[Failure]:
    stuck = waiting(scenario, run)
    locks = holders(run)
    if killed:  # who waits for an answer of the dead waits rightly; who waits for his lock does not
        stuck = [rest for rest in stuck if locks.get(rest.object, "").partition(".")[0] in killed]
    if not stuck:
        return
    words = []
    for rest in stuck:
        owner = locks.get(rest.object)
        held = "" if owner is None else ", qu'elle tient elle-même" if owner == rest.task else f", que tient {owner}"
        if owner is not None and owner.partition(".")[0] in killed:
            held += ", tuée"
        words.append(f"{rest.task} attend dans {rest.call}" + (f" ({rest.object}{held})" if rest.object else ""))
    yield Failure(Why.DEADLOCK, "plus personne n'avance : " + " ; ".join(words))


def _ended(actor: Actor, run: Run, after_a_death: bool) -> Iterator[Failure]:
    code = run.codes.get(actor.name)
    printed = run.printed.get(actor.name, "")
    if code is None:
        return  # it is there: a server, or somebody who waits for a line
    if code < 0:
        yield Failure(Why.CRASH, f"{actor.name} est tué par {_signal(-code)}")
    elif actor.stays and not after_a_death:
        yield Failure(Why.CODE, f"{actor.name} s'arrête (code de sortie {code}) sans qu'on le lui demande")
    elif actor.code is not None and code != actor.code and not after_a_death:
        yield Failure(Why.CODE, f"{actor.name} finit avec le code de sortie {code}, pas {actor.code}")
    for pattern in actor.prints:
        if not after_a_death and not re.search(pattern, printed, re.MULTILINE):
            yield Failure(Why.PRINTED, f"{actor.name} n'affiche rien qui corresponde à « {pattern} »")
    for pattern in actor.never:
        if found := re.search(pattern, printed, re.MULTILINE):
            yield Failure(Why.PRINTED, f"{actor.name} affiche « {found[0]} »")


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"le signal {number}"


def _content(content: Content, run: Run) -> Iterator[Failure]:
    data = run.files.get(content.place, b"")
    if content.size is not None and len(data) != content.size:
        yield Failure(Why.CONTENT, f"{content.place} a {len(data)} octets, pas {content.size}")
    if content.pattern and not re.search(content.pattern, data.decode("latin-1"), re.DOTALL):
        yield Failure(Why.CONTENT, f"{content.place} ne contient rien qui corresponde à « {content.pattern} »")
    if content.layout:
        try:
            value = struct.unpack_from(content.layout, data, content.offset)[0]
        except struct.error:
            yield Failure(Why.CONTENT, f"{content.place} est trop court ({len(data)} octets)")
            return
        least, most = content.least, content.most
        if (least is not None and value < least) or (most is not None and value > most):
            bounds = (
                str(least)
                if least == most
                else f"de {'…' if least is None else least} à {'…' if most is None else most}"
            )
            yield Failure(
                Why.CONTENT, f"{content.place} contient {value} à l'octet {content.offset} (attendu : {bounds})"
            )


def operations(service: Service, run: Run) -> list[Operation]:
    """Return what each client of a run asked and was told."""
    found = (_operation(service, name, words, run) for name, words in service.operations.items())
    return [operation for operation in found if operation is not None]


def _service(service: Service, run: Run, killed: set[str]) -> Iterator[Failure]:
    history = operations(service, run)
    final = None
    if service.file:
        try:
            final = {slot: show.places for slot, show in unpack_table(run.files.get(service.file, b""))}
        except ValueError as error:
            yield Failure(Why.CONTENT, f"{service.file} : {error}")
            return
        final = {show: seats for show, seats in final.items() if show in service.initial}
    report = linearizability.check(history, service.initial, final=final, time_limit=JUDGING)
    if report.verdict is Verdict.INVALID:
        told = "\n".join(f"{operation.client} : {_told(operation)}" for operation in history)
        yield Failure(
            Why.ACCOUNTS,
            f"ce qui a été dit aux clients ne peut pas venir d'un seul guichet\n{told}\n{report.explain()}",
        )


def _operation(service: Service, name: str, words: Sequence[str], run: Run) -> Operation | None:
    """Return what a client did, as far as it got; None for what nobody can say anything of."""
    events = [event for event in run.events if event.task == name]
    if not events:
        return None
    printed = run.printed.get(name, "")
    done = next((event.seq for event in events if event.kind == Kind.CALL and event.call == "exit"), None)
    kind = "reserve" if words[0] == "reserve" else "consult"
    show = int(words[1])
    seats = int(words[2]) if kind == "reserve" else 0
    result: int | bool | None = None
    if kind == "reserve":
        if re.search(service.refused, printed, re.MULTILINE):
            result = False if service.refusals else None
        elif re.search(service.accepted, printed, re.MULTILINE):
            result = True
    elif service.seats and (found := re.search(service.seats, printed, re.MULTILINE)):
        result = int(found[1])
    if result is None:
        done = None
    elif done is None:
        done = events[-1].seq
    return Operation(name, kind, show, seats, result, events[0].seq * 1000, done and done * 1000)  # type: ignore[arg-type]


def _told(operation: Operation) -> str:
    places = f"{operation.seats} place{'s' if operation.seats > 1 else ''}"
    verb = f"réserver {places} du" if operation.kind == "reserve" else "consulter le"
    what = f"{verb} spectacle {operation.show}"
    if operation.result is None:
        return f"{what} : sans réponse"
    if operation.kind == "consult":
        return f"{what} : {operation.result}"
    return f"{what} : {'acceptée' if operation.result else 'refusée'}"
