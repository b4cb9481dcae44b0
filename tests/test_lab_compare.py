"""`spectacles compare` and the bench: what is measured is real, and what is wrong is found out."""

from __future__ import annotations

import contextlib
import errno
import html.parser
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spectacles.common.errors import NoServerError, SpectaclesError, UsageError
from spectacles.lab.compare import charts, checking, client, command, measuring, page, runs, sheets, workload
from spectacles.lab.compare.rows import POINTS, Row, median
from spectacles.lab.compare.runs import Run
from spectacles.lab.compare.workload import CONSULT, RESERVE, SMALL, Notes, Request, Workload
from spectacles.lab.display import french
from spectacles.lab.display.files import write_whole
from spectacles.lab.kernel import processes
from spectacles.lab.programs import reference
from tests import helpers

COMPARE = [sys.executable, "-m", "spectacles", "compare"]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), "")
needs_cc = pytest.mark.skipif(reference.compiler() is None, reason="no C compiler")


def run_compare(tmp_path: Path, *arguments: str, code: int = 0, columns: int = 120) -> tuple[str, dict[str, Any]]:
    """Run a comparison in tmp_path; return what it printed and what it saved. Fails on another exit code."""
    (tmp_path / "tmp").mkdir(exist_ok=True)
    environ = os.environ | {"TMPDIR": str(tmp_path / "tmp"), "COLUMNS": str(columns)}
    command = [*COMPARE, *arguments, "--json", "run.json"]
    done = helpers.run(command, cwd=tmp_path, env=environ, timeout=110)
    assert done.returncode == code, done
    assert "Traceback" not in done.stdout + done.stderr
    assert list((tmp_path / "tmp").iterdir()) == [], "left behind"
    return done.stdout, json.loads((tmp_path / "run.json").read_text())


def test_a_narrow_terminal(tmp_path: Path) -> None:
    """What does not fit goes on in the next line. (With no_wrap=True for overflow="fold", figures are cut.)"""
    output, _ = run_compare(tmp_path, "4", "--clients", "1", "--duration", "0.2", columns=72)
    assert "VmRSS" in output
    assert "…" not in output


def test_a_short_run(tmp_path: Path) -> None:
    """One row for each question and number of clients, its sum right, its history checked, its figures possible.

    (With _look_at_rest() after _stop(), there are no figures.)
    """
    output, document = run_compare(tmp_path, "1", "2", "3", "4", "5", "--clients", "1,3", "--duration", "0.3")
    rows = document["rows"]
    assert [(row["question"], row["clients"]) for row in rows] == [
        ("q1_pipes", 1),
        *((question, clients) for question in helpers.MANY for clients in (1, 3)),
    ]
    for row in rows:
        assert row["requests"] > 0
        assert row["sold"] > 0
        assert row["left"] == row["left_in_file"] == row["initial"] - row["sold"]
        assert row["linearizable"] == "oui"
        assert 0 < row["checked"] <= row["requests"] + row["clients"]
        assert row["problems"] == []
        assert row["processes"] == len(row["memory"]) == (3 if row["question"] in helpers.FORKING else 1)
        assert row["threads"] >= row["threads_at_rest"] >= 2
        assert all(0 < memory["private"] <= memory["pss"] <= memory["rss"] for memory in row["memory"])
        points = list(row["latency"][""].values())
        assert points[0] > 0
        assert points == sorted(points)
        assert row["curve"] == sorted(row["curve"])
        assert row["cpu"] > 0
        assert row["switches"] > 0.1, "a server that waits for requests gives the processor away"
        assert 0 < row["start_up"] < 10
    assert document["command"].startswith("spectacles compare 1 2 3 4 5 --clients 1,3")
    # Text that a reader needs: the load, the sentence about VmRSS, where the run was kept.
    for said in ("boucle fermée", "plusieurs fois les pages", "3,2 fois", "Le résultat est-il juste ?", "runs/"):
        assert said in output
    assert len(list((tmp_path / "runs").iterdir())) == 1
    # Q5's threads live as long as their clients, who are still there when they are counted.
    assert next(r for r in rows if (r["question"], r["clients"]) == ("q5_sockets", 3))["threads"] >= 5


def test_a_lockless_table_is_found_out(tmp_path: Path) -> None:
    """The row is wrong in the table, red in the page, and makes the exit code 1.

    (With a real Lock in lockless.py the run is right, exits with 0, and this fails.)
    """
    arguments = ("3", "--clients", "4", "--duration", "0.5", "--broken", "--no-fsync", "--html", "page.html")
    output, document = run_compare(tmp_path, *arguments, code=1)
    right, wrong = document["rows"]
    assert right["linearizable"] == "oui"
    assert right["problems"] == []
    assert wrong["variant"] == "sans verrou"
    assert wrong["linearizable"] == "NON"
    assert wrong["left_in_file"] != wrong["initial"] - wrong["sold"]
    assert "FAUX" in output
    assert "Contre-exemple" in output
    text = (tmp_path / "page.html").read_text()
    assert "<tr class=bad>" in text
    assert "FAUX" in text
    assert "une demi-milliseconde" in text
    assert "Contre-exemple" in text


def test_two_runs_side_by_side(tmp_path: Path) -> None:
    """A saved run is shown next to a new one with the same load; an unequal load is refused, and so is no run.

    (Without refuse_unequal() the second comparison goes through.)
    """
    run_compare(tmp_path, "3", "--clients", "1", "--duration", "0.2")
    (saved,) = (tmp_path / "runs").iterdir()
    output, _ = run_compare(tmp_path, "3", "--clients", "1", "--duration", "0.2", "--against", str(saved))
    assert "Avant, et ici" in output
    assert "sur cette machine" in " ".join(output.split())
    assert "× " in output
    assert len(list((tmp_path / "runs").iterdir())) == 2
    for arguments in (
        ["--duration", "0.3"],
        ["--duration", "0.2", "--mix", "1:1"],
        ["--duration", "0.2", "--no-fsync"],
    ):
        done = helpers.run([*COMPARE, "3", *arguments, "--against", str(saved)], cwd=tmp_path)
        assert done.returncode == 2
        assert "autre charge" in helpers.one_line(done)
    done = helpers.run([*COMPARE, "2", "--clients", "1", "--duration", "0.2", "--against", str(saved)], cwd=tmp_path)
    assert done.returncode == 2
    assert "rien à mettre côte à côte" in helpers.one_line(done).replace("\n", " ")
    (tmp_path / "none.json").write_text('{"rows": []}')
    for path in ("none.json", "absent.json"):
        done = helpers.run([*COMPARE, "3", "--against", path], cwd=tmp_path)
        assert done.returncode == 2
        assert path in helpers.one_line(done)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--clients", "0"),
        ("--clients", "1,x"),
        ("--mix", "0:0"),
        ("--mix", "4"),
        ("--rate", "0"),
        ("--duration", "-1"),
        ("--duration", "0.01"),
        ("--rounds", "0"),
        ("--json", "same", "--html", "./same"),
        ("--html", "absent/page.html"),
    ],
)
def test_wrong_usage(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """Refused in one line, before anything is measured. (Without the checks: a traceback, or a minute of work lost.)"""
    done = helpers.run([*COMPARE, "3", *arguments], cwd=tmp_path)
    assert done.returncode == 2, done
    helpers.one_line(done)
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_is_killed(tmp_path: Path, forking_question: str) -> None:
    """kill -9 of the server in the middle: a wrong row that still says what the clients saw, and nothing left behind.

    (Without ServerProcess.clean() its semaphore and shared memory stay, and their directory, which names them, goes.)
    """
    (tmp_path / "tmp").mkdir()
    command = [*COMPARE, forking_question[1], "--clients", "1", "--duration", "5", "--json", "run.json"]
    environ = os.environ | {"TMPDIR": str(tmp_path / "tmp")}
    with helpers.background(["env", "-C", str(tmp_path), f"TMPDIR={environ['TMPDIR']}", *command]) as process:

        def places() -> list[Path]:
            return [
                path.parent
                for path in (tmp_path / "tmp").glob("*/*/spectacles.dat")
                if path.stat().st_size  # else it is being written
                and len({helpers.places_in_file(path.parent, show) for show in range(3)}) > 1  # something was sold
            ]

        helpers.eventually(places, "a server that has sold seats")
        (directory,) = places()
        helpers.register_directory(directory)
        record = dict(line.split("=", 1) for line in (directory / "server.lock").read_text().splitlines())
        os.kill(int(record["pid"]), signal.SIGKILL)
        output = process.communicate(timeout=60)[0].decode()
    assert process.returncode == 1, output
    assert "Traceback" not in output
    (row,) = json.loads((tmp_path / "run.json").read_text())["rows"]
    assert row["sold"] > 0
    assert row["throughput"] > 0
    assert any("disparu" in problem for problem in row["problems"]), row["problems"]
    assert list((tmp_path / "tmp").iterdir()) == []


def test_the_run_is_kept_before_it_is_shown(tmp_path: Path) -> None:
    """A reader of standard output that leaves takes nothing from the files. (Shown first, the run was lost.)"""
    command = [*COMPARE, "3", "--clients", "1", "--duration", "0.1", "--json", "run.json", "--html", "page.html"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        helpers.read_until(process.stdout.fileno(), "machine")
        process.stdout.close()
        _, errors = process.communicate(timeout=60)
    assert b"Traceback" not in errors
    assert json.loads((tmp_path / "run.json").read_text())["rows"]
    assert (tmp_path / "page.html").exists()
    assert len(list((tmp_path / "runs").iterdir())) == 1


def test_a_full_disk_takes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be written leaves the old file as it was, and the other files get theirs.

    (Written in place, the old file was half a new one; and after the first failure nothing else was tried.)
    """
    written = Path.write_text
    monkeypatch.chdir(tmp_path)
    Path("run.json").write_text("old")

    def write(path: Path, text: str, **options: Any) -> int:
        if "run.json" in path.name:
            written(path, text[:10], **options)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return written(path, text, **options)

    monkeypatch.setattr(Path, "write_text", write)
    measured = [a_row("q3_threads", 1)]
    with pytest.raises(SpectaclesError, match=r"run\.json : plus de place sur le disque"):
        command.keep(a_run(measured), [], "run.json", "page.html")
    assert Path("run.json").read_text() == "old"
    assert "</html>" in Path("page.html").read_text()
    assert sorted(os.listdir()) == ["page.html", "run.json", "runs"]


def test_several_rounds(tmp_path: Path) -> None:
    """Every cell is measured in turns, and its row is the median one. (With the last one for it: 20 is not found.)"""
    output, document = run_compare(tmp_path, "3", "--clients", "1", "--duration", "0.1", "--rounds", "3")
    (row,) = document["rows"]
    least, most = row["spread"]
    assert 0 < least <= row["throughput"] <= most
    assert "écart" in output
    rounds = [a_row("q3_threads", 1, throughput=figure) for figure in (30.0, 10.0, 20.0)]
    assert (median(rounds).throughput, median(rounds).spread) == (20.0, (10.0, 30.0))
    rounds[0].problems.append("faux")
    assert median(rounds) is rounds[0], "what went wrong in any round is said"
    assert median([a_row("q3_threads", 1)]).spread == (0.0, 0.0)


def test_interrupted(tmp_path: Path) -> None:
    """Ctrl-C leaves no process, no directory and no page half written.

    (Without the server on the stack of Measurement.run() it stays.)
    """
    (tmp_path / "tmp").mkdir()
    environ = os.environ | {"TMPDIR": str(tmp_path / "tmp")}
    command = [*COMPARE, "2", "--clients", "2", "--duration", "30", "--html", "page.html"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        # A server, its two children, two clients.
        helpers.eventually(lambda: len(helpers.own_processes()) >= 6, "client processes")
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=helpers.DEADLINE)
    assert process.returncode == 130
    assert b"Traceback" not in errors
    assert list((tmp_path / "tmp").iterdir()) == []
    assert not (tmp_path / "page.html").exists()


# A fixed rate


def work_with(work: Workload, consult: Any, clients: int = 1) -> Notes:
    """Run the loop of one client against functions in place of a server."""
    start = time.monotonic_ns()
    return client.work_through(work, 0, clients, 1000, start, consult, lambda show, seats: True)


def test_a_stall_is_not_hidden() -> None:
    """At a fixed rate, one request that takes 0.2 s makes those late that should have started meanwhile.

    (Counted from the call instead of the intended start, one latency in forty is long.)
    """
    stalls = iter([0.2])

    def consult(show: int) -> tuple[int, ...]:
        time.sleep(next(stalls, 0.0))
        return (0,) * len(workload.SHOWS)

    notes = work_with(Workload(duration=0.4, consults=1, reserves=0, rate=100.0), consult)
    late = sum(latency > 20_000_000 for latency in notes.latencies[CONSULT])
    assert late >= 15, sorted(notes.latencies[CONSULT])


def test_the_rate_is_kept_and_what_did_not_leave_is_counted() -> None:
    """As many requests leave as were planned; with a server too slow for the rate, the others are counted as late.

    (With `late` left at 0 the second half fails.)
    """
    quick = work_with(Workload(duration=0.3, consults=1, reserves=0, rate=100.0), lambda show: (0,) * 4)
    assert len(quick.latencies[CONSULT]) + quick.late == 30

    def slowly(show: int) -> tuple[int, ...]:
        time.sleep(0.01)
        return (0,) * 4

    slow = work_with(Workload(duration=0.3, consults=1, reserves=0, rate=1000.0), slowly)
    assert slow.late > 200
    assert len(slow.latencies[CONSULT]) + slow.late == 300


def test_a_stall_at_the_end_is_not_hidden_either() -> None:
    """What a stall kept from leaving in time leaves afterwards, and its latency counts from when it should have left.

    (With the loop ending at the planned end, one long latency is all there is.)
    """
    answers = iter([0.0] * 25 + [0.3])

    def consult(show: int) -> tuple[int, ...]:
        time.sleep(next(answers, 0.0))
        return (0,) * len(workload.SHOWS)

    notes = work_with(Workload(duration=0.4, consults=1, reserves=0, rate=100.0), consult)
    assert len(notes.latencies[CONSULT]) == 40
    assert notes.late == 0
    assert sum(latency > 50_000_000 for latency in notes.latencies[CONSULT]) >= 10


def test_a_slow_rate_is_no_throughput() -> None:
    """One request in a whole second is one a second. (Over the time until its answer: a thousand.)"""
    answer = note((CONSULT, 0, 0, [8, 10, 10, 10], 0, 1000))
    assert judge(Workload(duration=1.0, rate=1.0, shows=(8, 10, 10, 10)), answer).throughput == 1.0


def test_a_rate_end_to_end(tmp_path: Path) -> None:
    """With --rate, all clients together make as many requests as planned. (With the rate per client: twice as many.)"""
    _, document = run_compare(tmp_path, "5", "--clients", "2", "--duration", "0.5", "--rate", "100")
    (row,) = document["rows"]
    assert row["requests"] + row["late"] == 50


def test_no_answer_ends_a_client() -> None:
    """A request without an answer is noted as such and is the last. (Without it the history would be a lie.)"""

    def consult(show: int) -> tuple[int, ...]:
        raise NoServerError("parti")

    notes = work_with(Workload(duration=0.2, consults=1, reserves=0), consult)
    assert notes.problem == "parti"
    ((kind, _, _, result, _, ret),) = notes.history
    assert (kind, result, ret) == ("consult", None, None)


# What is judged


def note(*history: tuple[str, int, int, Any, int, int | None], until: int | None = None) -> Notes:
    """Return what a client with this history would have noted."""
    notes = Notes(history=[Request(*request) for request in history], until=until, first=0, last=1000)
    for kind, show, seats, result, call, ret in history:
        if ret is not None:
            notes.latencies[kind].append(ret - call)
            if kind == RESERVE:
                account = notes.sold if result else notes.refused
                account[show] = account.get(show, 0) + (seats if result else 1)
    return notes


def judge(work: Workload, *notes: Notes, final: dict[int, int] | None = None) -> Row:
    """Return the row that these notes come to."""
    row = Row("q2_msq", "Python", len(notes), initial=sum(work.shows))
    measuring.summarize(row, list(notes), work, None)
    checking.judge(row, list(notes), work, final or {})
    return row


def test_a_history_is_cut_for_all_clients_at_once() -> None:
    """What was answered after the cut counts as unanswered: its answer may rest on what is beyond.

    (With its answer kept, client 0's consultation sees a reservation that is not in the history: a false alarm.)
    """
    work = Workload(shows=(10, 10, 10, 10))
    first = note((CONSULT, 0, 0, [8, 10, 10, 10], 0, 500))
    second = note((RESERVE, 0, 1, True, 10, 100), until=110)  # and a second seat sold from 110 to 120, not noted
    history, whole = checking.recorded([first, second])
    assert not whole
    assert [(entry[0], entry[4], entry[6]) for entry in history] == [(0, None, None), (1, True, 100)]
    assert judge(work, first, second).linearizable == "oui"


def test_the_end_is_part_of_a_whole_history() -> None:
    """A whole history is checked with the file as its end. (Without `final`, the lost seat goes unseen here.)"""
    work = Workload(shows=(10, 10, 10, 10))
    sold = note((RESERVE, 0, 1, True, 10, 100))
    assert judge(work, sold, final={0: 9, 1: 10, 2: 10, 3: 10}).correct is False, "no state after the run: unknown"
    assert judge(work, sold, final={0: 9, 1: 10, 2: 10, 3: 10}).linearizable == "oui"
    assert judge(work, sold, final={0: 10, 1: 10, 2: 10, 3: 10}).linearizable == "NON"


def test_a_senseless_refusal_is_wrong() -> None:
    """A refusal for a show that cannot be sold out is a fault, even beyond what the checker looks at.

    (Without this, a server that refuses everything after the first 20,000 requests is right, and fast.)
    """
    work = Workload()
    refused = note((RESERVE, SMALL, 3, True, 0, 1))
    refused.refused = {0: 1, SMALL: 7}
    row = judge(work, refused, final=dict(enumerate(work.shows[:SMALL])) | {SMALL: work.shows[SMALL] - 3})
    assert any("1 refus" in problem for problem in row.problems)


def test_nearest_rank() -> None:
    """The percentile is one of the values measured. (With interpolation, p99.9 of ten values is none of them.)"""
    values = list(range(10, 110, 10))
    assert [measuring.rank(values, share) for share in (0.5, 0.9, 0.99, 0.999, 1.0)] == [50, 90, 100, 100, 100]
    assert measuring.rank([7], 0.5) == 7


def test_memory_is_what_the_kernel_says() -> None:
    """PSS and private memory of this very process, against a sum over its mappings. (kB, not pages or bytes.)"""
    found = processes.memory(os.getpid())
    mappings = Path("/proc/self/smaps").read_text()
    pss = sum(int(value) for value in re.findall(r"^Pss:\s+(\d+)", mappings, re.MULTILINE))
    assert abs(found.pss - pss) < 0.1 * pss
    assert found.private <= found.pss <= found.rss


# The page


class Page(html.parser.HTMLParser):
    """Reads a page strictly: every element is closed in its turn."""

    VOID = ("meta", "link", "circle", "rect", "line", "polyline", "polygon")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        """Return the attributes of all elements of this name."""
        return [attributes for name, attributes in self.elements if name == tag]


def a_row(question: str, clients: int, **values: Any) -> Row:
    """Return a row with plausible figures."""
    memory = [processes.Memory(13_000, 5_000, 2_000)] * (3 if question in helpers.FORKING else 1)
    points = {name: 10_000 * (place + 1) ** 3 for place, (name, _) in enumerate(POINTS)}
    plain: dict[str, Any] = {
        "requests": 5000,
        "throughput": 10_000.0 * clients,
        "latency": {"": points, CONSULT: points, RESERVE: points},
        "curve": [10_000 + 1000 * place * place for place in range(37)],
        "cpu": 12.0,
        "switches": 1.5,
        "start_up": 0.05,
        "processes": len(memory),
        "threads_at_rest": 3,
        "threads": 3,
        "memory": memory,
        "initial": 100,
        "sold": 10,
        "left": 90,
        "left_in_file": 90,
        "linearizable": "oui",
        "checked": 5000,
    }
    return Row(question, values.pop("variant", "Python"), clients, **plain | values)


def a_run(measured: list[Row]) -> Run:
    """Return a run of these rows."""
    return Run(
        description="une charge <i>",
        machine={"processeur": "x & y", "cœurs": 2},
        date="2027-01-01T00:00:00+01:00",
        command="spectacles compare --json 'a b'",
        workload=Workload(),
        remarks=sheets.remarks(measured, Workload()),
        rows=measured,
    )


def test_the_page(tmp_path: Path) -> None:
    """Well formed, in one file, without a script or a request; every chart says in words what it shows.

    (With autoescape=False the parser finds an element that is never closed.)
    """
    rows = [
        a_row("q1_pipes", 1),
        *(a_row(question, clients) for question in helpers.MANY for clients in (1, 2, 4)),
        a_row("q3_threads", 4, variant="C"),
        a_row("q4_thread_per_request", 4, variant="sans verrou", linearizable="NON", problems=["<b>perdu</b>"]),
    ]
    text = page.render(a_run(rows), rows)
    found = Page(text)
    charts = [svg for svg in found.named("svg") if svg.get("role") == "img"]
    assert len(charts) == 3
    identifiers = {attributes["id"] for _, attributes in found.elements if "id" in attributes}
    for svg in charts:
        assert set(str(svg["aria-labelledby"]).split()) <= identifiers
    assert len(found.named("table")) == 7
    assert found.named("html") == [{"lang": "fr"}]
    assert found.named("script") == []
    assert not re.search(r"https?:|@import|url\(", text)
    assert text.count("<tr class=bad>") == 5  # in each table but for the steps and C, which leave it out
    assert "<b>perdu</b>" in "".join(found.texts)
    # The bars of Q2 and Q3 tell the estimate from the truth: three processes times 13,000 kB, and 3 x 5,000 of PSS.
    assert "14,6 / 38,1 Mo" in text


@pytest.mark.parametrize("throughput", [0.0, 3.0, 47.0, 999.0, 123_456.0, 10_000_000.0])
def test_the_axis_fits(throughput: float) -> None:
    """At most six lines, and at least three, whatever the figures. (With a fixed step: none, or thousands.)"""
    step = charts.nice_step(throughput)
    assert throughput / step <= 6
    assert throughput == 0 or throughput / step >= 2


def test_what_each_step_changed() -> None:
    """The later question over the earlier one, under the most clients that both had; C and the lockless one left out.

    (With the first common number of clients for the last, the line of Q2 and Q3 is another.)
    """
    rows = [
        a_row("q1_pipes", 1, throughput=20_000.0),
        *(a_row("q2_msq", clients, throughput=10_000.0 * clients, cpu=10.0) for clients in (1, 2, 4)),
        *(a_row("q3_threads", clients, throughput=15_000.0 * clients, cpu=5.0) for clients in (1, 2)),
        a_row("q3_threads", 2, variant="C"),
        a_row("q4_thread_per_request", 8),
        a_row("q4_thread_per_request", 2, variant="sans verrou"),
        a_row("q5_sockets", 8, left=0),
    ]
    sheet = sheets.gains(rows)
    assert [line[:3] for line in sheet.lines] == [
        ["q1 → q2", "1", "× 0,50"],
        ["q2 → q3", "2", "× 1,50"],
        ["q4 → q5", "8", "× 1,00"],
    ]
    cpu, pss, processes = (sheet.headings.index(heading) for heading in ("CPU", "PSS", "proc."))
    assert [sheet.lines[1][column] for column in (cpu, pss, processes)] == ["× 0,50", "× 0,33", "3 → 1"]
    assert sheet.bad == [False, False, True]


def test_where_french_lines_may_end() -> None:
    """Not before a colon, within a number, or between it and its unit; and nothing but spaces is changed."""
    text = "estimée : 12 345,6 Mo, « PSS » × 3 ; en 1,5 s par tour"
    said = french.unbroken(text)
    assert said.split(" ") == [
        "estimée\xa0:",
        "12\u202f345,6\xa0Mo,",
        "«\xa0PSS\xa0»",
        "×\xa03\xa0;",
        "en",
        "1,5\xa0s",
        "par",
        "tour",
    ]
    assert " ".join(said.split()) == text


def test_whatever_is_said_is_only_said(tmp_path: Path) -> None:
    """No text of a run, wherever it comes from, makes an element or an attribute of the page.

    (With `| safe` on any of them in a template, or autoescape=False: there are more elements.)
    """
    hostile = """</title></pre></style><script>alert(1)</script><b a='"'>&amp;{{ 7 * 7 }}{% block x %}"""
    calm, wild = (
        Run(
            date=text,
            command=text,
            machine={text: text},
            workload=Workload(),
            description=text,
            remarks=[text],
            rows=[
                a_row("q3_threads", 1, problems=[text], linearizable=text, variant=text),
                a_row("q4_thread_per_request", 1),
            ],
        )
        for text in ("calme", hostile)
    )
    before, after = (Page(page.render(run, run.rows)) for run in (calm, wild))
    assert [tag for tag, _ in after.elements] == [tag for tag, _ in before.elements]
    assert [list(attributes) for _, attributes in after.elements] == [list(found) for _, found in before.elements]
    assert "{{ 7 * 7 }}" in "".join(after.texts)


def test_a_page_of_nothing() -> None:
    """A run in which no server started still makes a page that says so. (Without guards: ZeroDivisionError.)"""
    rows = [Row("q2_msq", "Python", 1, problems=["pas de serveur"])]
    text = page.render(a_run(rows), [])
    Page(text)
    assert "pas de serveur" in text


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium: the page is not drawn")
@pytest.mark.parametrize("size", ["1280,720", "390,844"])
def test_in_a_browser(tmp_path: Path, size: str) -> None:
    """A real browser draws the page, charts included, and has nothing to say about it in its console.

    (With a script in the page, the console reports the content policy.)
    """
    # A short name: the browser binds sockets in there.
    with tempfile.TemporaryDirectory(prefix="page", dir="/tmp", ignore_cleanup_errors=True) as place:
        draw_in_a_browser(Path(place), size)


def draw_in_a_browser(tmp_path: Path, size: str) -> None:
    rows = [a_row("q1_pipes", 1), *(a_row(question, clients) for question in helpers.MANY for clients in (1, 4))]
    (tmp_path / "page.html").write_text(page.render(a_run(rows), []), encoding="utf-8")
    flags = "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking "
    flags += "disable-component-update disable-sync enable-logging=stderr hide-scrollbars dump-dom"
    command = [CHROMIUM, *(f"--{flag}" for flag in flags.split()), f"--user-data-dir={tmp_path / 'profile'}"]
    environ = os.environ | {"HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    common = [f"--window-size={size}", f"file://{tmp_path}/page.html"]
    done = helpers.run([*command, *common], env=environ, timeout=60)
    assert done.returncode == 0, done
    assert "CONSOLE" not in done.stderr, done.stderr
    assert done.stdout.count('role="img"') == 3
    command.remove("--dump-dom")
    done = helpers.run([*command, f"--screenshot={tmp_path / 'page.png'}", *common], env=environ, timeout=60)
    assert "CONSOLE" not in done.stderr, done.stderr
    image = (tmp_path / "page.png").read_bytes()
    assert image.startswith(b"\x89PNG")
    assert len(image) > 10_000, "nothing but paper"


# With a C compiler


@needs_cc
def test_with_the_c_reference(tmp_path: Path) -> None:
    """--c adds a row for each question, measured by the same clients. (With the Python server, memory is the same.)"""
    arguments = ("--c", "--clients", "2", "--duration", "0.2", "--no-fsync")
    output, document = run_compare(tmp_path, *arguments)
    rows = document["rows"]
    assert [row["variant"] for row in rows] == ["Python", "C"] * 5
    for python, c in zip(rows[::2], rows[1::2], strict=True):
        assert python["question"] == c["question"]
        assert c["problems"] == []
        assert c["linearizable"] == "oui"
        assert c["sold"] > 0
        assert c["memory"][0]["private"] < python["memory"][0]["private"] / 2
    assert "Que coûte Python ?" in output
    assert "sans jamais attendre le disque" in " ".join(output.split())


@needs_cc
@pytest.mark.parametrize("kind", ["list", "reserve-no-fsync", "bare", "manager", "start"])
def test_the_bench_runs(tmp_path: Path, kind: str) -> None:
    """Each measure of the bench gives a ratio for each question; how much is no matter for a test.

    (With a yardstick that does not answer, the C client gives up after 5 s and the bench fails.)
    """
    (tmp_path / "tmp").mkdir()
    questions = ["1", "3", "4", "5"] if kind == "bare" else ["3", "5"]
    options = ["--only", kind, "--clients", "1,2", "--seconds", "0.05", "--rounds", "1", "--json", "bench.json"]
    done = helpers.run(
        [sys.executable, "-m", "spectacles.lab.bench", *questions, *options],
        cwd=tmp_path,
        env=os.environ | {"TMPDIR": str(tmp_path / "tmp")},
        timeout=100,
    )
    assert done.returncode == 0, done
    document = json.loads((tmp_path / "bench.json").read_text())
    if kind == "start":
        assert [start["question"] for start in document["start"]] == ["q3_threads", "q5_sockets"]
        assert all(start["seconds"] > 0 for start in document["start"])
    else:
        assert {row["question"][1] for row in document["rows"]} == set(questions)
        assert all(row["ratio"] > 0 for row in document["rows"])
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize("path", ["absent/bench.json", ".", ""])
def test_the_bench_looks_at_its_file_first(tmp_path: Path, path: str) -> None:
    """Refused in one line before anything is measured. (Without refuse_unwritable(): after minutes of it.)"""
    done = helpers.run([sys.executable, "-m", "spectacles.lab.bench", "3", "--json", path], cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "impossible d'écrire" in helpers.one_line(done)


def test_load_refuses_nonsense(tmp_path: Path) -> None:
    """A file that is no run is refused with a sentence. (Without load()'s checks: KeyError.)"""
    path = tmp_path / "run.json"
    for text in ("", "[]", "{}", '{"rows": [{"x": 1}], "workload": {"shows": []}}', '{"rows": [], "workload": {}}'):
        path.write_text(text)
        with pytest.raises(UsageError, match="ce n'est pas une comparaison"):
            runs.load(str(path))


# What `spectacles compare 3 --clients 1 --duration 0.2` of version 0.1.0 has saved.
EARLIER = Path(__file__).with_name("earlier_run.json")
HOSTILE: tuple[Any, ...] = (None, True, -1, 0, 1.5, 10**400, float("nan"), float("inf"), 2**63 + 1)
HOSTILE += ("", "\x1b[31m\n\ud800", [], [[]], {}, {"x": {}})


def places_of(value: Any, where: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the keys that lead to every value within `value`."""
    yield where
    if isinstance(value, dict | list):
        for key, found in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places_of(found, (*where, key))


def changed(document: Any, where: tuple[Any, ...], value: Any) -> str:
    """Return the JSON of `document` with another value at one place."""
    if not where:
        return json.dumps(value)
    copy = json.loads(json.dumps(document))
    at = copy
    for key in where[:-1]:
        at = at[key]
    at[where[-1]] = value
    return json.dumps(copy)


def test_a_run_of_the_version_before() -> None:
    """What an earlier version saved is read, and saved again as it was. (With a field of Run renamed: refused.)"""
    run = runs.load(str(EARLIER))
    assert json.loads(run.text()) == json.loads(EARLIER.read_text())
    (row,) = run.rows
    assert (row.question, row.clients, row.correct) == ("q3_threads", 1, True)
    assert len(sheets.side_by_side(run.rows, run.rows).lines) == 1


def test_a_run_edited_by_hand(tmp_path: Path) -> None:
    """Any value at any place of a saved run: refused, and the place named, or shown without a fault.

    (Without _refuse_rows_without_latency(): KeyError, in a table. Without LARGEST: OverflowError, in a ratio. Without
    printable() in about(): the text drives the terminal.)
    """
    document = json.loads(EARLIER.read_text())
    path = tmp_path / "run.json"
    refused = 0
    for where in places_of(document):
        if len(where) > 3 and where[2] == "curve":
            continue  # one of 48 like the others
        for value in HOSTILE:
            path.write_text(changed(document, where, value))
            try:
                run = runs.load(str(path))
            except UsageError as error:
                told = str(error)
                refused += 1
            else:
                told = ""
            if told:
                assert "ce n'est pas une comparaison" in told
                assert not where or str(where[0]) in told
                continue
            said = runs.about(run, {})
            assert said.isprintable()
            said.encode()
            a_row_beside = a_row("q3_threads", 1)
            sheets.side_by_side([a_row_beside], run.rows)
            with contextlib.suppress(UsageError):
                runs.refuse_unequal(Workload(), run.workload, "x")
    assert refused > 500


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"date": "\xff"}', "UTF-8"),
        (b"[" * 100_000, "imbriqué"),
        (b'{"date": ' + b"9" * 5000 + b"}", "nombre trop long"),
        (b"{\n]", "ligne 2, colonne 1"),
        (b'{"new": 1}', "new : inconnu de cette version"),
    ],
)
def test_a_file_that_is_no_run(tmp_path: Path, content: bytes, said: str) -> None:
    """One line, exit code 2, and what is wrong with it. (With RecursionError not caught: "erreur interne".)"""
    path = tmp_path / "strange\n\x1b[2J\udcff.json"
    path.write_bytes(content)
    done = helpers.run([*COMPARE, "3", "--against", path.name], cwd=tmp_path)
    assert done.returncode == 2, done
    line = helpers.one_line(done)
    assert said in line
    assert "\x1b" not in line


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--against", "."], "python -m spectacles compare : . : c'est un répertoire"),
        (["--against", "absent"], "python -m spectacles compare : absent : aucun fichier ou répertoire de ce nom"),
        (["--against", ""], "python -m spectacles compare : aucun fichier"),
        (["--html", ""], "python -m spectacles compare :  : impossible d'écrire là"),
    ],
)
def test_a_file_is_named_once(tmp_path: Path, options: list[str], said: str) -> None:
    """(With the name put before what reason() says, it is there twice; an empty one was taken for none.)"""
    done = helpers.run([*COMPARE, "3", *options], cwd=tmp_path)
    assert done.returncode == 2
    assert helpers.one_line(done).startswith(said)


def test_strange_names(tmp_path: Path) -> None:
    """Outputs may be called anything that the system takes: kept, and the run with them.

    (Without errors="backslashreplace" in write_whole(): UnicodeEncodeError after the work.)
    """
    (tmp_path / "tmp").mkdir()
    names = ("ch\udcff\n.json", "p\udcff\x1b[2J.html")
    options = ["--clients", "1", "--duration", "0.1", "--json", names[0], "--html", names[1]]
    environ = os.environ | {"TMPDIR": str(tmp_path / "tmp")}
    done = helpers.run([*COMPARE, "3", *options], cwd=tmp_path, env=environ)
    assert done.returncode == 0, done
    assert "\x1b" not in done.stdout
    assert all((tmp_path / name).exists() for name in names)
    run = runs.load(str(tmp_path / names[0]))
    assert "--html" in run.command


def test_what_is_no_file_is_written_to(tmp_path: Path) -> None:
    """A link stays one, /dev/stdout is written to; a FIFO, as any device is. (Before: a file in its place, as root.)"""
    (tmp_path / "page").write_text("before")
    (tmp_path / "link").symlink_to("page")
    write_whole(str(tmp_path / "link"), "after")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "page").read_text() == "after"
    os.mkfifo(tmp_path / "fifo")
    reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    write_whole(str(tmp_path / "fifo"), "through")
    assert os.read(reader, 100) == b"through"
    os.close(reader)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fifo", "link", "page"]
    code = (
        "from spectacles.lab.display.files import *; refuse_unwritable('/dev/stdout'); write_whole('/dev/stdout', 'é')"
    )
    assert helpers.run([sys.executable, "-c", code], cwd=helpers.ROOT).stdout == "é"


def test_how_to_measure_the_same_again(tmp_path: Path) -> None:
    """The hint can be copied: it has the options of the run, not its files. (With --against alone: "autre charge".)"""
    output, _ = run_compare(tmp_path, "3", "--clients", "1", "--duration=0.1", "--html=page.html", "--no-fsync")
    (hint,) = re.findall(r"à comparer : spectacles compare (.*)$", output, re.MULTILINE)
    assert hint.split()[:-1] == ["3", "--clients", "1", "--duration=0.1", "--no-fsync", "--against"]
    done = helpers.run([*COMPARE, *hint.split()], cwd=tmp_path)
    assert done.returncode == 0, done
    assert "Avant, et ici" in done.stdout
