"""What a judgement is, as data: findings, each in one of five states, and the report that they make up.

    Outcome    what a check function says: a state, and for a defect its number and the evidence
    Finding    the same once it has been confirmed, with the name of its check and how to play it again
    Report     all findings on one program, what it is, and the control run; its JSON is the truth that all else is
               made from: "spectacles/check", version 1

A check function builds outcomes with ok(), defect(), and raises NotReached, NotApplicable or Inconclusive otherwise.
Anything else that it raises is the tool's own fault, and counts as inconclusive.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

FORMAT = "spectacles/check"
VERSION = 1
TIMELINE = 15  # lines of a timeline, at most


class State(StrEnum):
    """How a check came out. Only DEFECT ever costs a point."""

    OK = "ok"
    DEFECT = "defect"
    NOT_REACHED = "not reached"  # something before it went wrong; `because` says what
    NOT_APPLICABLE = "not applicable"  # there is no such thing in this program, or the assignment does not ask for it
    INCONCLUSIVE = "inconclusive"  # the tool's fault, or the machine's


class Unfinished(Exception):
    """A check that came to no verdict; the text says why, one line in French."""

    state = State.INCONCLUSIVE


class NotReached(Unfinished):
    """What was to be looked at could not be reached, because of something else that is wrong."""

    state = State.NOT_REACHED


class NotApplicable(Unfinished):
    """There is nothing to look at: the program has no such thing, or is not asked to have it."""

    state = State.NOT_APPLICABLE


class Inconclusive(Unfinished):
    """The tool or the machine could not say."""


@dataclass(frozen=True)
class Outcome:
    """What one check function says of one thing. For people, in French; lines without a final newline.

    script: what makes it happen again: a check that is called with it in case.script does this alone, and so confirms
    the finding in a second world, or plays it again. "" for a check that does one thing only.
    """

    state: State
    defect: int = 0  # 1..40, of State.DEFECT
    sentence: str = ""  # what is wrong, one sentence in the words of the assignment
    done: str = ""  # what was done
    expected: str = ""
    seen: str = ""
    because: str = ""  # of the states between ok and defect
    timeline: tuple[str, ...] = ()  # at most TIMELINE lines
    source: str = ""  # the program's own line, "serveur.c:42", where it has debug information
    script: str = ""


def ok(seen: str = "", *, done: str = "") -> Outcome:
    """Return that nothing is wrong; `done` and `seen` say what was tried, for whoever wants to know."""
    return Outcome(State.OK, done=done, seen=seen)


def defect(
    number: int,
    sentence: str,
    *,
    done: str,
    expected: str,
    seen: str,
    timeline: tuple[str, ...] | list[str] = (),
    source: str = "",
    script: str = "",
) -> Outcome:
    """Return that the program has defect `number` (1..40)."""
    lines = tuple(timeline)
    if len(lines) > TIMELINE:  # the beginning, which says what was asked, and the end, where it went wrong
        lines = (*lines[:4], f"… {len(lines) - TIMELINE + 1} événements …", *lines[-(TIMELINE - 5) :])
    return Outcome(State.DEFECT, number, sentence, done, expected, seen, "", lines, source, script)


@dataclass(frozen=True)
class Finding(Outcome):
    """An outcome, confirmed."""

    check: str = ""  # the name of the check, as --only takes it
    layer: str = ""  # "A", "B", "C"
    id: str = ""  # "B-last-seat-1": what --replay takes; unique in its report
    shown: tuple[int, int] = (0, 0)  # of a defect: in how many of how many worlds it showed
    seconds: float = 0.0  # that it took to find
    others: tuple[str, ...] = ()  # checks that found the same defect, and are told with it
    replay: str = ""  # the command line that plays it again
    trace: str = ""  # file of the run folder with what the tool said when it broke


@dataclass(frozen=True)
class Report:
    """Everything about one program. `findings` in the order of the checks."""

    name: str  # of the folder that was given
    folder: str
    findings: tuple[Finding, ...] = ()
    profile: Mapping[str, Any] = field(default_factory=dict)  # as Profile.plain() has it
    control: Mapping[str, float] = field(default_factory=dict)  # seconds: "start", "answer" of the sound reference
    failed: str = ""  # could not be built or started: why; then there are no findings
    notes: tuple[str, ...] = ()  # other layout, other texts...: each difference named once
    question: int = 0  # 1..5, 0: none claimed
    seconds: float = 0.0
    quick: bool = False
    when: str = ""  # ISO 8601
    version: str = ""  # of this tool

    @property
    def defects(self) -> tuple[Finding, ...]:
        """Those that cost points."""
        return tuple(finding for finding in self.findings if finding.state is State.DEFECT)

    @property
    def judged(self) -> bool:
        """Whether anything could be said at all: that it does not build, that something is right, or wrong."""
        return bool(self.failed) or any(one.state in (State.OK, State.DEFECT) for one in self.findings)

    @property
    def code(self) -> int:
        """The exit code: 0 no defect, 1 defects, 3 could not be built or started, 4 inconclusive."""
        if self.failed:
            return 3
        if self.defects:
            return 1
        return 4 if any(finding.state is State.INCONCLUSIVE for finding in self.findings) else 0

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON types: the fields of these classes, by their names."""
        head = {"format": FORMAT, "version": VERSION, "code": self.code, "tool": self.version}
        rest = {name: value for name, value in dataclasses.asdict(self).items() if name != "version"}
        plain: dict[str, Any] = json.loads(json.dumps(head | rest))
        return plain

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Report:
        """Return the report that to_json() made `data` of. Raises ValueError."""
        if data.get("format") != FORMAT or data.get("version") != VERSION:
            raise ValueError(f"ce n'est pas un rapport {FORMAT}, version {VERSION}")
        known = {one.name for one in dataclasses.fields(cls)}
        values = {name: value for name, value in data.items() if name in known and name != "version"}
        names = {one.name for one in dataclasses.fields(Finding)}
        values["findings"] = tuple(
            Finding(
                **{name: _tuples(value) for name, value in one.items() if name in names}
                | {"state": State(one["state"])}
            )
            for one in data["findings"]
        )
        return cls(**values | {"notes": tuple(data["notes"]), "version": data.get("tool", "")})


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
