"""Judges a class: every submission in a process of its own, several at a time, what was judged already left out.

    OUT/index.html          students and defects, those who fail alike
    OUT/notes.csv           the same for a French spreadsheet
    OUT/moodle.csv, moodle-en.csv, junit.xml
    OUT/KEY/                of each submission: report.json, rapport.txt, index.html, results.json, result.json
    OUT/KEY/sources/        what was unpacked, where it was an archive

One bad submission never stops the rest: whatever becomes of its process, the others go on, and it has a report that
says so. A class that was interrupted goes on where it stopped: what has not changed is not judged again.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from spectacles import __version__
from spectacles.common.errors import SpectaclesError
from spectacles.common.text import printable
from spectacles.lab.check import exports, pages, replay, report, submissions
from spectacles.lab.check.model import Finding, Report, State
from spectacles.lab.display import files

if TYPE_CHECKING:
    from spectacles.lab.check.submissions import Submission

LONGEST = 900.0  # seconds for one submission, then its process is ended
TICK = 0.5  # seconds between two looks at what is being judged
STAMP = "jugement.json"  # beside each report: what was judged, and how


@dataclass
class Class:
    """A class to be judged. place: the folder of submissions. out: where everything goes.

    options: of the command line, for each submission. finders: name of a check -> defects that it can find. say:
    called with a line for each submission that is done. live: called all the time with one line on what is being
    judged, None: there is nobody to look. name: the command that judges one program, as people type it.
    """

    place: Path
    out: Path
    options: Sequence[str] = ()
    jobs: int = 1
    finders: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    say: Callable[[str], None] = print
    live: Callable[[str], None] | None = None
    name: str = "spectacles check"
    longest: float = LONGEST

    def __post_init__(self) -> None:
        self.reports: dict[str, Report] = {}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._since: dict[str, tuple[str, float]] = {}  # who is being judged, and since when
        self._lock = threading.Lock()
        self._stopping = False

    def run(self) -> int:
        """Judge all, and return the exit code: 1 with any defect, 3 with any that does not build, 4, 0.

        Raises UsageError when there is nothing to judge, OSError when the results cannot be written.
        """
        found = submissions.discover(self.place)
        self.out.mkdir(parents=True, exist_ok=True)
        begun, done, judged = time.monotonic(), 0, 0
        try:
            with ThreadPoolExecutor(self.jobs) as pool:
                waiting = {pool.submit(self._judge, one): one for one in found}
                left = set(waiting)
                try:
                    while left:
                        finished, left = wait(left, TICK, FIRST_COMPLETED)
                        for future in finished:
                            one, fresh = waiting[future], future.result()
                            done, judged = done + 1, judged + fresh
                            who = one.person + ("" if fresh else " (déjà jugé)")
                            self.say(f"[{done}/{len(found)}] {who} : {exports.summary(self.reports[one.key])}")
                        if finished:
                            self._write(found)
                        if self.live is not None and left:
                            self.live(self._doing(done, len(found), judged, time.monotonic() - begun))
                except BaseException:
                    self._stop()
                    pool.shutdown(cancel_futures=True)
                    raise
        finally:
            self._write(found)
        codes = {one.code for one in self.reports.values()}
        return next((code for code in (1, 3, 4) if code in codes), 0)

    def _doing(self, done: int, total: int, judged: int, seconds: float) -> str:
        """Return one line on what is being judged, and how long the rest will take: at the pace of those until now."""
        now = time.monotonic()
        with self._lock:
            busy = [f"{person} {now - since:.0f} s" for person, since in self._since.values()]
        rest = seconds / judged * (total - done) if judged else 0.0
        said = f"{rest / 60:.0f} min" if rest > 90 else f"{rest:.0f} s"
        return f"{done} sur {total}{f' · reste environ {said}' if rest else ''} · en cours : {', '.join(busy)}"

    def _stop(self) -> None:
        with self._lock:
            self._stopping = True
            running = list(self._running.values())
        for process in running:
            process.send_signal(signal.SIGTERM)  # it ends its world and cleans up; SIGINT may be ignored here

    def _go_on(self) -> None:
        with self._lock:
            if self._stopping:
                raise SpectaclesError("interrompu")

    # One submission

    def _judge(self, one: Submission) -> bool:
        """Judge one submission, unless that was done before. Say whether it was judged. Never raises what it judges."""
        folder = self.out / one.key
        stamp = submissions.fingerprint(one.path, __version__, *self._told())
        old = _read(folder, stamp)
        if old is not None:
            self.reports[one.key] = old
            return False
        self._go_on()
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        begun = time.monotonic()
        with self._lock:
            self._since[one.key] = (one.person, begun)
        try:
            with submissions.opened(one, folder / "sources") as source:
                made = self._run(one, source, folder)
        except submissions.ArchiveError as error:
            made = _failed(one, str(error))
        finally:
            with self._lock:
                del self._since[one.key]
        self._go_on()  # what was interrupted is not judged
        made = dataclasses.replace(made, name=one.key, seconds=made.seconds or time.monotonic() - begun)
        try:
            self._save(one, made, folder)
        except (ValueError, KeyError, TypeError, AttributeError) as error:  # a report that nobody can write down
            made = _inconclusive(one, f"le rapport ne s'écrit pas : {error}")
            self._save(one, made, folder)
        self.reports[one.key] = made
        if made.code != 4:  # what was inconclusive is tried again
            files.write_whole(str(folder / STAMP), json.dumps({"stamp": stamp}) + "\n")
        return True

    def _save(self, one: Submission, made: Report, folder: Path) -> None:
        files.write_whole(str(folder / "report.json"), json.dumps(made.to_json(), ensure_ascii=False, indent=1) + "\n")
        files.write_whole(str(folder / "rapport.txt"), report.text(made) + "\n")
        page = pages.program(made, person=one.person, back="../index.html")
        files.write_whole(str(folder / "index.html"), page)
        exports.write(folder, made)

    def _told(self) -> list[str]:
        """Return the options, and what is in the files that they name."""
        told = list(self.options)
        for word in self.options:
            try:
                told.append(Path(word).read_text(encoding="utf-8", errors="replace"))
            except (OSError, ValueError):
                continue
        return told

    def _run(self, one: Submission, source: Path, folder: Path) -> Report:
        """Run the judge of one submission as a process of its own, and return its report."""
        words = [
            sys.executable,
            "-m",
            "spectacles.lab.check",
            str(source),
            "--out",
            str(folder / "essais"),
            *self.options,
        ]
        again = [*self.name.split(), *words[3:]]
        with open(folder / "sortie.txt", "wb") as output:
            process = subprocess.Popen(
                [*words, "--parent", str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        with self._lock:
            self._running[one.key] = process
        try:
            process.wait(self.longest)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            return _inconclusive(one, f"pas fini en {self.longest:.0f} s")
        finally:
            with self._lock:
                self._running.pop(one.key, None)
        try:
            text = (folder / "essais" / "latest" / "report.json").read_text(encoding="utf-8")
            return replay.with_commands(Report.from_json(json.loads(text)), again)
        except (OSError, ValueError, KeyError, TypeError):
            said = (folder / "sortie.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
            last = printable(said[-1]) if said else "sans un mot"
            return _inconclusive(one, f"le juge a fini sans rapport (code {process.returncode}) : {last}")

    # All of them

    def _write(self, found: Sequence[Submission]) -> None:
        rows = [(one, self.reports[one.key]) for one in found if one.key in self.reports]
        title = f"{printable(self.place.resolve().name)} : {len(found)} remises"
        page = pages.classroom(rows, self.finders, title, len(found) - len(rows))
        files.write_whole(str(self.out / "index.html"), page)
        files.write_whole(str(self.out / "notes.csv"), exports.table(rows))
        files.write_whole(str(self.out / "moodle.csv"), exports.moodle(rows))
        files.write_whole(str(self.out / "moodle-en.csv"), exports.moodle(rows, "en"))
        files.write_whole(str(self.out / "junit.xml"), exports.junit([(one.key, made) for one, made in rows]))


def _read(folder: Path, stamp: str) -> Report | None:
    """Return the report of a submission that was judged before, just so; None if it was not."""
    try:
        if json.loads((folder / STAMP).read_text(encoding="utf-8"))["stamp"] != stamp:
            return None
        return Report.from_json(json.loads((folder / "report.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _failed(one: Submission, why: str) -> Report:
    return Report(one.key, str(one.path), failed=why, when=time.strftime("%Y-%m-%dT%H:%M:%S%z"), version=__version__)


def _inconclusive(one: Submission, why: str) -> Report:
    finding = Finding(State.INCONCLUSIVE, because=why, check="jugement", id="jugement")
    return Report(one.key, str(one.path), (finding,), when=time.strftime("%Y-%m-%dT%H:%M:%S%z"), version=__version__)


def processors() -> int:
    """Return how many submissions to judge at a time, if nobody says: as many as there are processors."""
    return max(len(os.sched_getaffinity(0)), 1)
