"""Judges one program: builds it, learns how to speak to it, runs the checks, has each defect found again."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from spectacles import __version__
from spectacles.common.errors import SpectaclesError
from spectacles.lab.check import control as controls
from spectacles.lab.check.case import Case
from spectacles.lab.check.dialogue import shares
from spectacles.lab.check.model import Finding, Outcome, Report, State, Unfinished
from spectacles.lab.check.registry import Check, checks
from spectacles.lab.dossier import building, learning
from spectacles.lab.dossier.driving import NotReadyError
from spectacles.lab.dossier.profile import Profile
from spectacles.lab.kernel.machine import load

if TYPE_CHECKING:
    from spectacles.lab.check.control import Control
    from spectacles.lab.dossier.building import Built
    from spectacles.lab.gate.events import Event

AGAIN = 4  # further worlds for a defect that a second one did not show
# Seconds for one program on two idle processors. Sweeps share them out, and shrink where a program is slow.
BUDGET, QUICKLY = 50.0, 12.0
UNEQUAL = 4  # times the even share that one check may take: most take none of it
OVER = 1.0  # times the budget by which it may be exceeded; then the checks that are left are not begun
SHORTEST = 3.0  # seconds for one sweep, at least
QUIET = 0.03  # seconds that one answer of the reference takes at most where nothing else runs
SLOWEST = 4.0  # times the budget, at most, on a machine that is slower than that, or that others keep busy
CROWDED = 3.0  # processes for each processor: then who computes may be somebody who waits for one
# Defects that every later check of the dialogue would run into: told once, at their cause.
HIDING = {18: "après un refus, le serveur ne répond plus"}
Progress = Callable[[str, int, int], None]


@dataclass
class Judge:
    """One program to be judged. folder: as handed in. only: names of checks; () for all.

    known: a profile written by hand. progress: called with the name of each check, its number and how many there are.
    """

    folder: Path
    known: Profile | None = None
    question: int = 0
    quick: bool = False
    only: tuple[str, ...] = ()
    progress: Progress | None = None
    traces: dict[str, str] = field(default_factory=dict)  # check -> what the tool said when it broke
    log: str = ""  # of the build
    notes: tuple[str, ...] = ()
    profile: Profile = field(default_factory=Profile)

    def run(self) -> Report:
        """Return the report. Blocks for up to a minute or two. Never raises because of what it judges."""
        begun = self._begun = time.monotonic()
        self._load = load()
        report = Report(
            name=self.folder.resolve().name,
            folder=str(self.folder),
            question=self.question,
            quick=self.quick,
            when=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            version=__version__,
        )
        with contextlib.ExitStack() as undo:
            try:
                built = undo.enter_context(self.prepared())
            except SpectaclesError as error:
                report = dataclasses.replace(report, failed=str(error))
            else:
                report = self._judge(built, report)
        return dataclasses.replace(report, seconds=time.monotonic() - begun)

    @contextlib.contextmanager
    def prepared(self) -> Iterator[Built]:
        """Build the folder and learn the profile, for as long as this is open. Raises SpectaclesError."""
        with tempfile.TemporaryDirectory(prefix="spectacles-check-") as into:
            Path(into).chmod(0o755)
            known = self.known or Profile()
            built = building.build(self.folder, into, known.build, known.files)
            self.log = built.log
            if not built.programs and not known.server:
                raise SpectaclesError("aucun programme : ni Makefile, ni fichier C avec main, ni binaire, ni script")
            try:
                self.control = controls.measure(known.channel.kind)
            except SpectaclesError as error:  # then nobody is judged, which is not this program's fault
                self.control = controls.Control(0.0, controls.MOST + 1.0)
                self.notes = (str(error),)
            self.profile = learning.learn(
                built, question=self.question, known=self.known, patience=max(3.0, self.control.patience)
            )
            self.control = dataclasses.replace(self.control, pace=self.profile.pace)
            self._alien = self._strange(built)
            yield built

    def _judge(self, built: Built, report: Report) -> Report:
        profile = self.profile
        report = dataclasses.replace(
            report,
            profile=profile.plain(),
            question=profile.question,
            notes=(*profile.notes, *self.notes),
            control={"start": self.control.start, "answer": self.control.answer},
        )
        chosen = self.chosen()
        findings: list[Finding] = []
        for number, one in enumerate(chosen):
            if self.progress is not None:
                self.progress(one.name, number, len(chosen))
            if number > 1 and self._left() < -OVER * self._budget():
                why = "le temps d'un programme est écoulé ; --only prend celui qu'il faut"
                findings.append(Finding(State.NOT_REACHED, because=why, check=one.name, layer=one.layer))
                continue
            self._allowed = self._share(len(chosen) - number)
            findings += self.examine(one, built, frozenset(finding.defect for finding in findings))
            if number == 1 and self.nobody_serves(findings):
                break  # every other check would wait as long for it, or fork as much
        why = self.nobody_serves(findings)
        if why and self._load > CROWDED and self._polled:
            said = f"la machine était trop occupée pour dire si quelqu'un sert : {why}"
            only = Finding(State.INCONCLUSIVE, because=said, check="jugement", id="jugement")
            return dataclasses.replace(report, findings=(only,))
        if why:
            return dataclasses.replace(report, failed=f"aucun programme ne sert : {why}")
        if self.short:
            names = ",".join(self.short)
            said = f"le temps n'a pas suffi pour tout essayer ; --only {names} essaie davantage"
            report = dataclasses.replace(report, notes=(*report.notes, said))
        return dataclasses.replace(report, findings=tuple(_merge(findings)))

    def nobody_serves(self, findings: Sequence[Finding]) -> str:
        """Return why what was judged is no server at all, "" if it is one.

        It computes for ever and has made no channel; or there was not one check that it let come to anything.
        """
        if self.only:
            return ""
        if self._polled and not self.profile.channel.kind and not self.profile.talks:
            return "il calcule ou affiche sans fin, et ne crée ni file, ni tube, ni connexion"
        if any(one.state in (State.OK, State.DEFECT, State.INCONCLUSIVE) for one in findings):
            return ""
        return next((one.because for one in findings if one.state is State.NOT_REACHED), "")

    def _share(self, left: int) -> float:
        """Return the seconds that the next sweep may take, with so many checks to go; no limit with `only`."""
        return max(UNEQUAL * self._left() / left, SHORTEST)

    def _budget(self) -> float:
        """Return the seconds that this program should take, on this machine now."""
        return (QUICKLY if self.quick else BUDGET) * min(max(self.control.answer / QUIET, load(), 1.0), SLOWEST)

    def _left(self) -> float:
        """Return how many of them are left; below zero: over."""
        return math.inf if self.only else self._begun + self._budget() - time.monotonic()

    def chosen(self) -> list[Check]:
        """Return the checks to be run."""
        return [
            one
            for one in checks()
            if (one.name in self.only or str(one.layer) in self.only if self.only else one.quick or not self.quick)
        ]

    def examine(self, one: Check, built: Built, found: frozenset[int] = frozenset()) -> list[Finding]:
        """Run one check, and have what it finds confirmed."""
        begun = time.monotonic()

        def finding(outcome: Outcome, shown: tuple[int, int] = (0, 0), trace: str = "") -> Finding:
            values = {each.name: getattr(outcome, each.name) for each in dataclasses.fields(Outcome)}
            return Finding(
                **values, check=one.name, layer=one.layer, shown=shown, seconds=time.monotonic() - begun, trace=trace
            )

        for number, because in HIDING.items():
            if number in found and one.layer in ("B", "C"):
                return [finding(Outcome(State.NOT_REACHED, because=f"{because} (défaut {number})"))]
        why = self._missing(one)
        if why:
            return [finding(Outcome(State.NOT_APPLICABLE, because=why))]
        if self.control.busy:
            return [finding(Outcome(State.INCONCLUSIVE, because="la machine est trop occupée pour juger"))]
        if self._alien and {"client", "two clients"} & set(one.needs) and one.name != "shared-seats":
            because = f"les clients ne voient pas les mêmes places ({self._alien})"
            return [finding(Outcome(State.NOT_REACHED, because=because))]
        outcomes, trace = self._once(one, built, "", found)
        if any(outcome.state is State.NOT_REACHED for outcome in outcomes):  # a busy moment? then once more
            outcomes, trace = self._once(one, built, "", found, 3.0)
        findings = []
        seen: set[int] = set()
        for outcome in outcomes:
            if outcome.state is not State.DEFECT:
                findings.append(finding(outcome, trace=trace))
            elif outcome.defect not in seen:
                seen.add(outcome.defect)
                shown = self._confirm(one, built, outcome, found)
                if shown[0] > 1:
                    findings.append(finding(outcome, shown))
                else:
                    because = f"vu une fois, pas revu en {shown[1] - 1} autres essais : {outcome.sentence}"
                    findings.append(
                        finding(dataclasses.replace(outcome, state=State.INCONCLUSIVE, defect=0, because=because))
                    )
        return findings

    def _confirm(self, one: Check, built: Built, outcome: Outcome, found: frozenset[int]) -> tuple[int, int]:
        """Return in how many of how many worlds a defect has shown, the first one included."""
        shows = total = 1
        for again in range(1 + AGAIN):
            outcomes, _ = self._once(one, built, outcome.script, found, 2.0)
            total += 1
            shows += any(other.state is State.DEFECT and other.defect == outcome.defect for other in outcomes)
            if again == 0 and shows == 2:
                break
        return shows, total

    def _once(
        self, one: Check, built: Built, script: str, found: frozenset[int], times: float = 1.0
    ) -> tuple[list[Outcome], str]:
        """Run a check once. Return what it says, and the name of a trace if it broke. times: how much more patience."""
        case = self.case(built, script, found)
        case.control = dataclasses.replace(case.control, times=times)
        case.allowed = self._allowed
        if self._alien and one.name != "shared-seats":  # layer A, without a dialogue that says nothing
            case.profile = dataclasses.replace(case.profile, left="")
        try:
            return self._run(one, case)
        finally:
            self._polled = self._polled or any(bench.polled for bench in case.made)

    def _run(self, one: Check, case: Case) -> tuple[list[Outcome], str]:
        try:
            said = one.run(case)
            outcomes = [said] if isinstance(said, Outcome) else list(said)
        except Unfinished as error:
            return [Outcome(error.state, because=str(error))], ""
        except NotReadyError as error:
            return [Outcome(State.NOT_REACHED, because=str(error).partition("\n")[0])], ""
        except Exception as error:  # ours to mend, never their loss
            self.traces[one.name] = traceback.format_exc()
            return [Outcome(State.INCONCLUSIVE, because=f"l'outil a failli : {type(error).__name__} {error}")], one.name
        if case.short and one.name not in self.short:
            self.short.append(one.name)
        return outcomes, ""

    def case(
        self,
        built: Built,
        script: str = "",
        found: frozenset[int] = frozenset(),
        sink: Callable[[Event], None] | None = None,
        gated: bool = False,
    ) -> Case:
        """Return what a check is called with."""
        every = building.sources(built.folder)
        clients = [path for path in every if "client" in str(path.relative_to(built.folder)).lower()]
        theirs = _sources(built, self.profile.server) or [path for path in every if path not in clients]
        asking = _sources(built, self.profile.client) or clients
        return Case(
            built.folder,
            self.profile,
            self.control,
            self.quick,
            script,
            found,
            tuple(theirs),
            tuple(asking),
            sink,
            gated,
        )

    def _missing(self, one: Check) -> str:
        """Return why a check cannot be run on this program, "" if it can."""
        profile = self.profile
        if {"client", "two clients"} & set(one.needs) and not profile.talks:
            why = " ; ".join(profile.notes) or "aucun client"
            return f"on ne sait pas faire parler le client ({why}) : --learn F.toml, à corriger"
        if "prompt" in one.needs and not profile.client:
            return "aucun client qui attende une ligne n'a été trouvé"
        if "two clients" in one.needs and (profile.clients == 1 or profile.question == 1):
            return "un seul client à la fois est demandé"
        return ""

    def _strange(self, built: Built) -> str:
        """Return how one client does not see what another has reserved, "" if he does, or if that cannot be seen."""
        if self.profile.talks and not self.control.busy:
            with contextlib.suppress(SpectaclesError, Unfinished):
                return shares(self.case(built))[0]
        return ""

    _begun: float = field(init=False, default=0.0)
    _load: float = field(init=False, default=0.0)  # of the machine, before this program added to it
    _polled: bool = field(init=False, default=False)  # whether a server was taken for ready that never slept
    _allowed: float = field(init=False, default=math.inf)  # seconds for the next sweep
    short: list[str] = field(init=False, default_factory=list)  # checks that had no time for all there is
    _alien: str = field(init=False, default="")
    control: Control = field(init=False, default_factory=lambda: controls.Control(0.0, 0.0))


def _sources(built: Built, command: Sequence[str]) -> list[Path]:
    """Return what a program that is started by this command was made of, as far as its build tells."""
    return [
        built.folder / name
        for program in built.programs
        if program.words == tuple(command[: len(program.words)])
        for name in program.sources
    ]


def _merge(findings: Sequence[Finding]) -> Iterable[Finding]:
    """Tell each defect once, where it was found first; number what there is."""
    first: dict[int, int] = {}
    merged: list[Finding] = []
    for finding in findings:
        if finding.state is State.DEFECT and finding.defect in first:
            at = first[finding.defect]
            if finding.check != merged[at].check:
                merged[at] = dataclasses.replace(merged[at], others=(*merged[at].others, finding.check))
            continue
        if finding.state is State.DEFECT:
            first[finding.defect] = len(merged)
        count = sum(other.check == finding.check for other in merged)
        name = f"{finding.layer}-{finding.check}" + (f"-{count + 1}" if count else "")
        merged.append(dataclasses.replace(finding, id=name))
    return merged
