"""A class of submissions, hostile ones among them: archives, pages, marks, and going on where it stopped."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import signal
import stat
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from spectacles.common.errors import UsageError
from spectacles.lab.check import classes, exports, pages, submissions
from spectacles.lab.check.model import Finding, Report, State, defect, ok
from spectacles.lab.check.submissions import ArchiveError, Submission
from tests import helpers

FOUND = Finding(
    **vars(defect(39, "Trop <long>.", done="a", expected="b", seen="c")), check="sizes", id="C-sizes", shown=(2, 2)
)
FINE = Finding(**vars(ok("bien")), check="idle", id="A-idle")
UNSURE = Finding(State.INCONCLUSIVE, because="la machine", check="crowd", id="C-crowd")
REPORT = Report("x", "/x", (FOUND, FINE, UNSURE), seconds=3.5)
FINDERS = {"sizes": (39,), "idle": (35,), "crowd": (16, 11)}


def zipped(path: Path, *names: str, content: bytes = b"int main(void) { return 0; }\n") -> Path:
    """Make a zip of files of these names."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, content)
    return path


# Archives


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "a/../../evil", "..\\evil", "C:\\evil"])
def test_nothing_is_written_outside(tmp_path: Path, name: str) -> None:
    """Seen to fail: with `_target` joining whatever it is given."""
    archive = zipped(tmp_path / "a.zip", name)
    into = tmp_path / "into"
    into.mkdir()
    with pytest.raises(ArchiveError, match="hors de son dossier"):
        submissions.unpack(archive, into)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip", "into"]


def test_a_bomb_is_defused(tmp_path: Path) -> None:
    """Whatever its head says of its size. (Seen to fail: without the budget of bytes.)"""
    archive = zipped(tmp_path / "a.zip", "big", content=bytes(submissions.MOST_BYTES + 1))
    assert archive.stat().st_size < 1 << 20
    (tmp_path / "into").mkdir()
    with pytest.raises(ArchiveError, match="bombe"):
        submissions.unpack(archive, tmp_path / "into")
    many = zipped(tmp_path / "b.zip", *(f"f{number}" for number in range(submissions.MOST_FILES + 1)), content=b"")
    (tmp_path / "many").mkdir()
    with pytest.raises(ArchiveError, match="fichiers"):
        submissions.unpack(many, tmp_path / "many")


def test_links_and_devices_are_left_out(tmp_path: Path) -> None:
    """Seen to fail: with tarfile's own extractall."""
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        for name, kind in (("link", tarfile.SYMTYPE), ("hard", tarfile.LNKTYPE), ("fifo", tarfile.FIFOTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
        member = tarfile.TarInfo("serveur.c")
        member.size = 2
        archive.addfile(member, io.BytesIO(b"ok"))
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as other:
        entry = zipfile.ZipInfo("link")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        other.writestr(entry, "/etc/passwd")
    for name, expected in (("a.tar.gz", ["serveur.c"]), ("b.zip", [])):
        into = tmp_path / f"into-{name}"
        into.mkdir()
        submissions.unpack(tmp_path / name, into)
        assert [path.name for path in into.iterdir()] == expected


def test_what_is_no_archive_is_said(tmp_path: Path) -> None:
    """Seen to fail: without EOFError among what is caught."""
    whole = zipped(tmp_path / "whole.zip", "a", content=os.urandom(4000)).read_bytes()
    damaged = bytearray(whole)
    damaged[60:200] = bytes(140)
    with tarfile.open(tmp_path / "whole.tgz", "w:gz") as archive:
        archive.add(tmp_path / "whole.zip", "a")
    cut = (tmp_path / "whole.tgz").read_bytes()[:900]
    for name, content in (("a.zip", b"PK\3\4 no"), ("b.zip", bytes(damaged)), ("c.tgz", cut), ("d.tar", b"x" * 600)):
        (tmp_path / name).write_bytes(content)
        into = tmp_path / f"into-{name}"
        into.mkdir()
        with pytest.raises(ArchiveError, match="illisible"):
            submissions.unpack(tmp_path / name, into)


def test_discover_reads_the_names_of_the_platform(tmp_path: Path) -> None:
    """Name and number; a key of plain letters, unlike any other. (Seen to fail: without the numbering of keys.)"""
    for name in (
        "Zoé Martin_17_assignsubmission_file_",
        "Zoe Martin_17_assignsubmission_file_",
        "Éva Roy_2_assignsubmission_file_",
        "simple",
        ".caché",
    ):
        (tmp_path / name).mkdir()
    zipped(tmp_path / "Ada.zip", "a.c")
    (tmp_path / "notes.txt").write_text("x")
    found = submissions.discover(tmp_path)
    assert [(one.person, one.number) for one in found] == [
        ("Ada", ""),
        ("Éva Roy", "2"),
        ("simple", ""),
        ("Zoe Martin", "17"),
        ("Zoé Martin", "17"),
    ]
    assert len({one.key for one in found}) == 5
    assert all(one.key.isascii() and "/" not in one.key for one in found)
    with pytest.raises(UsageError, match="ni dossier ni archive"):
        submissions.discover(tmp_path / "simple")


def test_the_sources_are_found_at_the_bottom(tmp_path: Path) -> None:
    """A folder, with one archive, with one folder. (Seen to fail: with a depth of 0.)"""
    folder = tmp_path / "class" / "Ada_3_assignsubmission_file_"
    folder.mkdir(parents=True)
    zipped(folder / "tp.zip", "tp/serveur.c", "tp/client.c", "__MACOSX/tp/._serveur.c")
    (one,) = submissions.discover(tmp_path / "class")
    with submissions.opened(one, tmp_path / "into") as source:
        assert sorted(path.name for path in source.iterdir()) == ["client.c", "serveur.c"]


# What machines read


def test_junit_is_xml_whatever_a_program_says() -> None:
    """Seen to fail: without _xml(), which leaves out what XML cannot hold."""
    finding = Finding(**vars(defect(1, "\x00\x1b]]> & <é>\ud800", done="", expected="", seen="")), check="x", id="x")
    root = ElementTree.fromstring(exports.junit([("a\x07", Report("a", "/a", (finding, FINE, UNSURE)))]).encode())
    suite = root[0]
    assert suite.attrib | {"name": ""} == {
        "name": "",
        "time": "0.000",
        "tests": "3",
        "failures": "1",
        "errors": "1",
        "skipped": "0",
    }


def test_marks() -> None:
    """Only defects cost, what the profile says; where nothing could be judged there is no mark, and no praise.

    Seen to fail: with every finding counted; with a report of nothing but doubts taken for a sound program's.
    """
    assert exports.mark(REPORT) == 19.0
    assert exports.mark(Report("x", "/x", (FOUND,), {"points": {"39": 2.5}})) == 17.5
    assert exports.mark(Report("x", "/x", failed="non")) == 0.0
    unsure = Report("x", "/x", (UNSURE,))
    assert exports.mark(unsure) is None
    assert exports.summary(unsure) == "Sans conclusion : la machine"
    one = Submission(Path("/x"), "x", "Ada", "17")
    assert next(csv.DictReader(io.StringIO(exports.moodle([(one, unsure)]))))["Note"] == ""
    page = pages.classroom([(one, unsure)], FINDERS, "classe")
    assert "0 sans défaut, 0 avec, 1 sans conclusion" in page
    whole = json.loads(exports.gradescope(REPORT))
    assert whole["score"] == 19.0
    assert [test.get("status") for test in whole["tests"]] == ["failed", "passed", None]


def test_gradescope_has_only_its_fields() -> None:
    """Those that its specification names, with their types. (Seen to fail: with a field more in each.)"""
    whole = json.loads(exports.gradescope(REPORT))
    known = "score execution_time output output_format test_output_format test_name_format visibility stdout_visibility"
    assert set(whole) <= {*known.split(), "extra_data", "tests", "leaderboard"}
    assert isinstance(whole["execution_time"], int)
    fields = "score max_score status name name_format number output output_format tags visibility extra_data"
    for test in whole["tests"]:
        assert set(test) <= set(fields.split())
        assert test.get("status") in (None, "passed", "failed")
        assert isinstance(test["name"], str)
        assert isinstance(test["output"], str)


def test_classroom_50_has_its_fields() -> None:
    """As its own runner validates them: names, whole numbers, texts that are not empty, UTC to the second."""
    whole = json.loads(exports.classroom(REPORT, {"CLASSROOM": "c", "SUBMISSION_TAG": "submit/1"}))
    assert whole["schema"] == "classroom50/result/v1"
    texts = ("classroom", "assignment", "submission", "commit", "release", "review", "datetime")
    assert all(isinstance(whole[name], str) and whole[name] for name in texts)
    assert whole["classroom"] == "c"
    assert whole["submission"] == "submit/1"
    assert whole["score"] == sum(test["score"] for test in whole["tests"]) == 2
    assert whole["max-score"] == sum(test["max-score"] for test in whole["tests"]) == 3
    assert all(set(test) == {"test-name", "passed", "score", "max-score"} for test in whole["tests"])
    assert all(type(test["score"]) is int for test in whole["tests"])


def test_moodle_takes_the_table_back() -> None:
    """The three headings that it looks for, its numbers, and no formula. (Seen to fail: without _harmless().)"""
    one = Submission(Path("/x"), "x", "=HYPERLINK(1)", "17")
    for language, headings, number in (
        ("fr", ("Identifiant", "Note", "Dernière modification (note)"), "Participant17"),
        ("en", ("Identifier", "Grade", "Last modified (grade)"), "Participant 17"),
    ):
        (row,) = csv.DictReader(io.StringIO(exports.moodle([(one, REPORT)], language)))
        assert set(headings) <= set(row)
        assert row[headings[0]] == number
        assert row[headings[1]] == "19.00"
        assert not any(value.startswith(("=", "+", "@")) for value in row.values())
        assert "Trop &lt;long&gt;" in list(row.values())[-1]


def test_a_french_spreadsheet_opens_the_table(tmp_path: Path) -> None:
    """By a double click: a mark that says UTF-8, semicolons, decimal commas, no formula.

    Seen to fail: without the mark, with commas, and without _harmless().
    """
    rows = [
        (
            Submission(Path("/x"), "x", "=HYPERLINK(1) Éloïse", "17"),
            Report("x", "/x", (FOUND, FINE), {"points": {"39": 2.5}}),
        ),
        (Submission(Path("/y"), "y", "Zoé; Martin"), Report("y", "/y", failed="serveur.c:1: non")),
    ]
    path = tmp_path / "notes.csv"
    path.write_bytes(exports.table(rows).encode())
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")
    with open(path, encoding="utf-8-sig", newline="") as file:
        head, one, two = csv.reader(file, delimiter=";")
    assert head[:3] == ["Remise", "Participant", "Note"]
    assert head[5].startswith("39 ")
    assert one[:4] == ["'=HYPERLINK(1) Éloïse", "17", "17,50", "1"]
    assert one[5] == "1"
    assert two[:4] == ["Zoé; Martin", "", "0,00", ""]


# Pages


def test_pages_escape_hostile_names() -> None:
    """Seen to fail: with autoescape off."""
    evil = "<img src=x onerror=alert(1)>"
    report = Report(evil, "/x", (Finding(**{**vars(FOUND), "seen": evil, "timeline": (evil,)}),), notes=(evil,))
    rows = [
        (Submission(Path("/x"), "x", evil), report),
        (Submission(Path("/y"), "y", evil), Report(evil, "/", failed=evil)),
    ]
    for page in (pages.program(report, person=evil), pages.classroom(rows, FINDERS, evil)):
        assert "<img" not in page
        assert "&lt;img" in page


def test_the_matrix_tells_five_states_and_groups() -> None:
    """Seen to fail: with the first finding of a check deciding."""
    assert pages.state_of(REPORT, 39, FINDERS) is State.DEFECT
    assert pages.state_of(REPORT, 35, FINDERS) is State.OK
    assert pages.state_of(REPORT, 11, FINDERS) is State.INCONCLUSIVE
    assert pages.state_of(REPORT, 1, FINDERS) is State.NOT_APPLICABLE
    assert pages.state_of(Report("x", "/x", (UNSURE,)), 1, FINDERS) is State.INCONCLUSIVE
    rows = [(Submission(Path(f"/{n}"), n, n), REPORT) for n in ("Ada", "Bob")]
    rows.append((Submission(Path("/c"), "c", "Cid"), Report("c", "/c", (FINE,))))
    page = pages.classroom(rows, FINDERS, "classe")
    assert "2 remises</strong>" in page
    assert "aucun défaut" in page


# The whole


@pytest.fixture
def room(tmp_path: Path) -> Callable[[], tuple[int, list[str], Path]]:
    """Return what judges a class of three that do not even build, and what it said. Each is a process of its own."""
    place = tmp_path / "classe"
    for name, text in (
        ("Ada", "int main(void) { return x; }\n"),
        ("Bob", "int f(void);\nint main(void) { return f(); }\n"),
    ):
        (place / name).mkdir(parents=True)
        (place / name / "serveur.c").write_text(text)
    zipped(place / "Cid.zip", "../evil")

    def run() -> tuple[int, list[str], Path]:
        said: list[str] = []
        one = classes.Class(place, tmp_path / "out", ("--quick",), 2, FINDERS, said.append)
        return one.run(), said, tmp_path / "out"

    return run


def test_a_bad_submission_stops_nobody_and_nothing_is_judged_twice(
    room: Callable[[], tuple[int, list[str], Path]], tmp_path: Path
) -> None:
    """What has changed is judged again. (Seen to fail: with the stamp left out.)"""
    code, said, out = room()
    assert code == 3
    assert len(said) == 3
    assert {path.name for path in out.iterdir()} == {
        "Ada", "Bob", "Cid", "index.html", "notes.csv", "moodle.csv", "moodle-en.csv", "junit.xml",
    }  # fmt: skip
    assert "ne se compile pas" in (out / "index.html").read_text(encoding="utf-8")
    for name in ("report.json", "rapport.txt", "index.html", "results.json", "result.json", "junit.xml"):
        assert (out / "Ada" / name).exists()
    _, said, _ = room()
    assert sum("(déjà jugé)" in line for line in said) == 3
    (tmp_path / "classe" / "Ada" / "serveur.c").write_text("int main(void) { return y; }\n")
    _, said, _ = room()
    assert sum("(déjà jugé)" in line for line in said) == 2


def test_a_judge_that_breaks_is_the_tools_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process is killed, or says nothing: inconclusive, and tried again. (Seen to fail: with its code believed.)"""
    (tmp_path / "classe" / "Ada").mkdir(parents=True)
    (tmp_path / "classe" / "Ada" / "a.c").write_text("int main(void) { return 0; }\n")
    monkeypatch.setattr(sys, "executable", "/bin/false")
    said: list[str] = []
    one = classes.Class(tmp_path / "classe", tmp_path / "out", (), 1, {}, said.append)
    assert one.run() == 4
    assert one.reports["Ada"].findings[0].state is State.INCONCLUSIVE
    assert one.run() == 4
    assert not any("(déjà jugé)" in line for line in said)


def running(*words: str) -> bool:
    """Say whether there is a process with this command line, in whatever world."""
    wanted = "".join(f"{word}\0" for word in words).encode()
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if Path("/proc", entry, "cmdline").read_bytes() == wanted:
                return True
    return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_class_that_is_ended_in_the_middle_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    """Also by kill -9: those that judge a submission end with it, and clean up; what was judged is kept.

    Seen to fail, of SIGKILL: without PR_SET_PDEATHSIG.
    """
    place, temporary = tmp_path / "classe", tmp_path / "tmp"
    temporary.mkdir()
    seconds = f"300.{os.getpid()}{int(number)}"  # a command line of this test alone
    for name, recipe in (("Ada", "false"), ("Bob", f"exec sleep {seconds}")):
        (place / name).mkdir(parents=True)
        (place / name / "Makefile").write_text(f"all:\n\t{recipe}\n")
    words = [sys.executable, "-m", "spectacles", "check", "--class", str(place), "--jobs", "1"]
    room = subprocess.Popen(
        [*words, "--out", str(tmp_path / "out")],
        env={**os.environ, "TMPDIR": str(temporary)},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert room.stderr is not None
    try:
        assert "[1/2] Ada" in room.stderr.readline()
        helpers.eventually(lambda: running("sleep", seconds), "Bob is being built", 60)
        room.send_signal(number)
        said = room.communicate(timeout=60)[1]
    finally:
        room.kill()
        room.wait()
    if number != signal.SIGKILL:
        assert room.returncode == 130
        assert "interrompu : 1 remise(s) jugée(s) ; la même commande reprend" in said
    helpers.eventually(lambda: not any("check" in line for line in helpers.own_processes().values()), "all ended", 60)
    assert not running("sleep", seconds)
    assert list(temporary.iterdir()) == []
    assert (tmp_path / "out" / "Ada" / classes.STAMP).exists()
    assert not (tmp_path / "out" / "Bob" / classes.STAMP).exists()
