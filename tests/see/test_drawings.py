"""Drawings of runs: what one must see in each, and what a program that means harm must not achieve."""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from spectacles.common.errors import UsageError
from spectacles.lab.record.drawings import mermaid, page, perfetto, terminal
from spectacles.lab.record.drawings.page import Side
from spectacles.lab.record.drawings.terminal import Medium
from spectacles.lab.record.model import Action, Lane, LaneKind, Run
from tests.see import runs
from tests.see.browser import Browser, browser, needs_chromium

SAMPLES: dict[str, Callable[[], Run]] = {
    "pipes": runs.pipes,
    "queue": runs.queue,
    "sockets": runs.sockets,
    "deadlock": runs.deadlock,
    "race": lambda: runs.race(locked=False),
    "locked": lambda: runs.race(locked=True),
    "hostile": runs.hostile,
    "long": lambda: runs.long(40),
}
# A control character, or one that turns the writing round, which no drawing may hold.
DRIVES = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def flat(drawn: str) -> str:
    """Return what is said in a drawing, without lanes and folds."""
    return " ".join(re.sub(r"[│┊┃┇·]", " ", drawn).split())


# In characters


def test_the_message_is_seen_lying_in_the_queue() -> None:
    """From the send to the receive its lane is thick, with the number from two on; then dots again.

    (Seen to fail: with _lay() doing nothing.)
    """
    record = runs.Recorder(
        "",
        Lane("A", LaneKind.PROCESS, "A", pid=7),
        Lane("q", LaneKind.QUEUE, "file"),
        Lane("server", LaneKind.PROCESS, "serveur", pid=2),
    )
    first = record.do("A", Action.SEND, "q", "msgsnd", words="une")
    second = record.do("A", Action.SEND, "q", "msgsnd", words="deux")
    record.do("server", Action.RECEIVE, "q", "msgrcv", sent=first, words="prend une")
    waits = record.begin("A", Action.RECEIVE, "q", "msgrcv", words="reçoit")
    record.do("server", Action.RECEIVE, "q", "msgrcv", sent=second, words="prend deux")
    reply = record.do("server", Action.SEND, "q", "msgsnd", words="répond")
    record.end(waits, sent=reply)
    assert terminal.draw(record.run()).splitlines() == [
        "            A                        serveur",
        "          PID 7         file          PID 2",
        "   1        ├─msgsnd─────▶┃             │       une",
        "   3        ├─msgsnd─────▶┃2            │       deux",
        "   5        │             ┠─────msgrcv─▶│       prend une",
        "   7        ○┄msgrcv┄┄┄┄┄┄┃             │       attend : msgrcv",
        "   8        ┊             ┠─────msgrcv─▶│       prend deux",
        "  10        ┊             ┃◀─────msgsnd─┤       répond",
        "  12        │◀─msgrcv─────┨             │       reçoit",
    ]


def test_a_send_comes_before_its_receive() -> None:
    """A receive that began first and is only known to be over, a send that returned late: the arrow never goes back.

    (Seen to fail: with the transfers left out of _places().)
    """
    record = runs.Recorder(
        "", Lane("A", LaneKind.PROCESS, "A"), Lane("q", LaneKind.QUEUE, "q"), Lane("B", LaneKind.PROCESS, "B")
    )
    early = record.begin("B", Action.RECEIVE, "q", words="reçoit")
    full = record.begin("A", Action.SEND, "q", words="envoie")
    record.end(early, sent=full, blocked=False)
    record.end(full)
    drawn = terminal.draw(record.run())
    assert drawn.index("envoie") < drawn.index("reçoit"), drawn


def test_who_waits_who_holds_who_died() -> None:
    """A circle of waiting, a lock in a dead task's hands, a message that nobody took: seen in lanes and said below.

    (Seen to fail: with stuck() returning nothing, with `lost` not looked at.)
    """
    drawn = terminal.draw(runs.deadlock())
    assert "interblocage : thread 1 attend thread 2, qui attend thread 1" in drawn
    assert "thread 1 attend toujours : pthread_mutex_lock verrou b, tenu par thread 2" in drawn
    assert drawn.count("┇") >= 3  # waits with a lock in its hands
    record = runs.Recorder("", Lane("A", LaneKind.PROCESS, "A"), Lane("s", LaneKind.SEMAPHORE, "sémaphore"))
    took = record.do("A", Action.TAKE, "s", "sem_wait")
    record.hold("A", "s", took, lost=True)
    record.lane("A", died=record.do("A", Action.DEATH, "", "killed", words="tué par le signal 9").seq)
    drawn = terminal.draw(record.run())
    assert "✗" in drawn
    assert "sémaphore : tenu par A, qui est mort" in drawn
    drawn = terminal.draw(runs.pipes())
    assert "FIFO tub3_reserv : 2 envois que personne n'a pris" in drawn
    assert "┃2" in drawn
    assert "◆" in drawn
    assert "EPIPE" in terminal.draw(runs.sockets())
    assert "✗───" in terminal.draw(runs.sockets())


@pytest.mark.parametrize("name", SAMPLES)
def test_it_fits(name: str) -> None:
    """No line is wider than the terminal, and than 100 columns; no character is there that it could not show.

    (Seen to fail: with words of one piece not cut in _pieces(), with _writable() returning what it is given, with
    harmless() off.)
    """
    run = SAMPLES[name]()
    for width, encoding in itertools.product((20, 40, 64, 79, 100, 300), ("utf-8", "ascii", "iso-8859-1")):
        drawn = terminal.draw(run, Medium(width, encoding=encoding))
        most = min(max(width, terminal.NARROWEST), terminal.WIDEST)
        assert [line for line in drawn.splitlines() if cell_len(line) > most] == []
        assert drawn.encode(encoding)
        assert not DRIVES.search(drawn), DRIVES.findall(drawn)
        assert terminal.draw(run, Medium(width, colours=True, encoding=encoding)).count("\x1b[") > 5


def test_colours_are_only_ours() -> None:
    """What remains when our colours are taken out is what is drawn without any. (Seen to fail: harmless() off.)"""
    for name, sample in SAMPLES.items():
        plain = [line.rstrip() for line in terminal.draw(sample()).splitlines()]
        bare = re.sub(r"\x1b\[[0-9;]+m", "", terminal.draw(sample(), Medium(colours=True)))
        assert [line.rstrip() for line in bare.splitlines()] == plain, name


def test_nothing_is_cut_without_a_word() -> None:
    """A name of 10 kB, lanes that do not fit, rows left out: each is said.

    (Seen to fail: with the sizes left out of harmless(), without the line of the lanes that are not drawn.)
    """
    drawn = terminal.draw(runs.hostile())
    assert "… (10 240 caractères)" in flat(drawn)
    drawn = terminal.draw(runs.pipes())
    assert "non dessinés, sans échange ou faute de place : FIFO tub5_close, spectacles.dat, logs/q1.log" in drawn
    drawn = terminal.draw(runs.pipes(), lanes=["server.1", "FIFO tub1_view"])
    assert "◀─read─" in drawn
    assert re.search(r"… \d+ étapes de couloirs repliés", drawn)
    with pytest.raises(UsageError, match="aucun couloir « nulle part »"):
        terminal.draw(runs.pipes(), lanes=["nulle part"])


def test_a_long_run_is_folded() -> None:
    """A pattern that comes again is drawn once; of what has no pattern the middle is left out. Both are counted.

    A few that are alike are not worth what each of them says. (Seen to fail: with TIMES too high, with _cut() returning
    what it is given; with SAVES at 3.)
    """
    drawn = terminal.draw(runs.long(100))
    assert "… 495 étapes : les 5 précédentes, 99 fois de plus" in flat(drawn)
    assert len(drawn.splitlines()) < 15
    few = runs.Recorder("", Lane("A", LaneKind.PROCESS, "A"), Lane("q", LaneKind.QUEUE, "q"))
    for number in range(5):
        few.do("A", Action.SEND, "q", "msgsnd", words=f"n° {number}")
    assert all(f"n° {number}" in terminal.draw(few.run()) for number in range(5))
    record = runs.Recorder("", Lane("A", LaneKind.PROCESS, "A"), Lane("q", LaneKind.QUEUE, "q"))
    for number in range(1000):
        record.do(
            "A", Action.SEND if number * number % 7 < 3 else Action.LOOK, "q", f"call{number}", words=f"n° {number}"
        )
    drawn = terminal.draw(record.run(), most=60)
    assert "… 940 étapes, au milieu" in drawn
    assert len(drawn.splitlines()) < 70
    assert "n° 999" in drawn


def test_what_a_terminal_can_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """No colours for a pipe; COLUMNS counts; ASCII where the encoding has no lines.

    (Seen to fail: with COLUMNS not looked at, with colours for whatever is not forbidden.)
    """
    monkeypatch.setenv("COLUMNS", "72")
    monkeypatch.setenv("TERM", "xterm")
    stream = io.TextIOWrapper(io.BytesIO(), encoding="iso-8859-1")
    on = terminal.medium(stream)
    assert on == Medium(72, False, "iso-8859-1")
    drawn = terminal.draw(runs.queue(), on)
    assert "msgrcv" in drawn
    assert "acceptée" in drawn
    assert "|" in drawn
    assert "│" not in drawn


# As a page


class Parsed(HTMLParser):
    """What a browser makes of a page: its elements, and the texts of some."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: dict[str, list[str]] = {"script": [], "title": [], "pre": []}
        self.policy = self.open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.open = tag
        self.attributes += attrs
        if tag in self.texts:
            self.texts[tag].append("")
        if ("http-equiv", "Content-Security-Policy") in attrs:
            self.policy = dict(attrs)["content"] or ""

    def handle_data(self, data: str) -> None:
        if self.open in self.texts:
            self.texts[self.open][-1] += data

    def handle_endtag(self, tag: str) -> None:
        self.open = ""

    @property
    def data(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.texts["script"][0])
        return found


def test_the_page_has_what_the_run_has() -> None:
    """Every row with its task, object, direction, bytes and fields; what lies where; which receive took which send.

    (Seen to fail: with _mates left empty, with _reach() one row too long.)
    """
    side = Parsed(page.render(runs.queue())).data["sides"][0]
    names = [lane["label"] for lane in side["lanes"]]
    asks = next(row for row in side["rows"] if row["words"].startswith("demande 3"))
    assert (names[asks["t"]], names[asks["o"]], asks["go"], asks["call"]) == ("A", "file 0x2a", "to", "msgsnd")
    assert ["nb_places", "3"] in asks["facts"]
    assert "07 00 00 00 05 00 00 00" in asks["bytes"]
    taken = side["rows"][asks["mates"][0]]
    assert (taken["words"], taken["go"]) == ("prend la demande de A", "from")
    queue = names.index("file 0x2a")
    states = [row["lanes"][queue] for row in side["rows"]]
    assert "".join(states) == "e" + "f" * 13 + "eeee" + "f" + "ee"
    assert max(row.get("counts", {}).get(str(queue), 0) for row in side["rows"]) == 2
    lies = [span for span in side["lies"] if span[3] == side["rows"].index(asks)]
    assert lies == [[queue, side["rows"].index(asks), asks["mates"][0], side["rows"].index(asks)]]
    assert [lane["label"] for lane in side["lanes"] if lane["dull"]] == []


@pytest.mark.parametrize("name", SAMPLES)
def test_a_page_is_one_file_without_strangers(name: str) -> None:
    """Nothing is fetched; one script, whose hash the policy knows, and data; nothing of a program's is an element.

    (Seen to fail: with `| safe` behind the title, with json.dumps() for tojson, with a letter added to the script.)
    """
    text = page.render(SAMPLES[name]())
    parsed = Parsed(text)
    assert text.encode()
    assert not {"img", "iframe", "object", "form", "base"} & set(parsed.tags)
    assert parsed.tags.count("script") == 2
    digest = base64.b64encode(hashlib.sha256(parsed.texts["script"][1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in parsed.policy
    assert "default-src 'none'" in parsed.policy
    asked = [value for key, value in parsed.attributes if key in ("src", "href", "action") and value != "data:,"]
    assert asked == []
    assert not [key for key, _ in parsed.attributes if key.startswith("on")]
    assert not DRIVES.search(text.replace("\t", " "))
    assert len(parsed.data["pairs"]) == len(parsed.data["sides"][0]["rows"]) > 0


def test_two_runs_are_aligned_at_their_first_difference() -> None:
    """What is alike stands beside each other, before the difference row by row; each row of both is there once.

    (Seen to fail: with `alike` always 0, with _matched() leaving out what one side has alone.)
    """
    broken, fixed = runs.race(locked=False), runs.race(locked=True)
    note = {broken.steps[-3].seq: "places en mémoire : -1"}
    text = page.compare(
        Side(broken, "Sans verrou", "vendue deux fois", False, note),
        Side(fixed, "Avec", "vendue une fois", True),
        title="Deux",
    )
    parsed = Parsed(text)
    assert parsed.texts["title"] == ["Deux"]
    assert 'class="verdict bad">vendue deux fois' in text
    assert 'class="verdict">vendue une fois' in text
    data = parsed.data
    pairs = data["pairs"]
    assert data["differs"] == 2
    assert pairs[:4] == [[0, 0], [1, 1], [None, 2], [2, 3]]
    for number, side in enumerate(data["sides"]):
        assert [pair[number] for pair in pairs if pair[number] is not None] == list(range(len(side["rows"])))
    assert [row["note"] for row in data["sides"][0]["rows"] if "note" in row] == ["places en mémoire : -1"]
    same = Parsed(page.compare(Side(broken), Side(broken))).data
    assert same["differs"] == -1
    assert all(left == right for left, right in same["pairs"])


def test_keys_make_no_difference() -> None:
    """Two runs of the same, whose queue has another key: alike, as are a child and a thread that do the same.

    (Seen to fail, at the first row that has to do with the queue: with names of lanes compared as they are.)
    """
    one = runs.queue()
    (queue,) = (lane.id for lane in one.lanes if lane.kind is LaneKind.QUEUE)
    kinds = {LaneKind.PROCESS: LaneKind.THREAD}
    lanes = [
        replace(lane, id="queue 0x3a2f0007", label="file 0x3a2f0007")
        if lane.id == queue
        else replace(lane, kind=kinds.get(lane.kind, lane.kind))
        for lane in one.lanes
    ]
    steps = [replace(step, object=step.object.replace(queue, "queue 0x3a2f0007")) for step in one.steps]
    transfers = [replace(transfer, object="queue 0x3a2f0007") for transfer in one.transfers]
    other = replace(one, lanes=tuple(lanes), steps=tuple(steps), transfers=tuple(transfers))
    assert Parsed(page.compare(Side(one), Side(other))).data["differs"] == -1


def test_a_page_says_what_it_leaves_out() -> None:
    """5,000 rows are drawn; beyond, the middle is left out, and the page says how much.

    (Seen to fail: with MOST doubled.)
    """
    text = page.render(runs.long(1300))
    side = Parsed(text).data["sides"][0]
    assert len(side["rows"]) == page.MOST == 5000
    assert "1 500 étapes au milieu" in text.replace("\u202f", " ")
    assert (side["gap"], side["rows"][-1]["words"]) == (4000, "reçoit la réponse 1299")
    assert len(text) < 2_000_000


@pytest.fixture
def chromium() -> Iterator[Browser]:
    """A browser."""
    with browser() as found:
        yield found


@needs_chromium
def test_step_by_step_in_a_browser(chromium: Browser, tmp_path: Path) -> None:
    """Space steps, the arrow goes back, what is to come is covered, bytes and fields are shown, Escape shows all.

    (Seen to fail: with " " left out of `keys`, with the panel never shown, with the heads not told, without
    pointerover.)
    """
    (tmp_path / "run.html").write_text(page.render(runs.queue()), encoding="utf-8")
    chromium.size(1280, 720)
    chromium.open(tmp_path / "run.html")
    shown = "document.querySelector('{}')?.innerText ?? ''"
    assert chromium.ask(shown.format(".where")) == "21 étapes"
    for _ in range(4):
        chromium.key(" ")
    assert chromium.ask(shown.format(".where")).startswith("4 / ")
    assert "demande 99 places" in chromium.ask(shown.format(".row.now"))
    assert "2 envois" in chromium.ask(shown.format(".heads"))
    assert chromium.ask("getComputedStyle(document.querySelector('.row.now'), '::after').height") != "auto"
    chromium.key("ArrowLeft")
    chromium.key("ArrowLeft")
    assert chromium.ask("document.querySelector('.panel').offsetHeight") > 50
    panel = chromium.ask(shown.format(".panel"))
    for words in ("demande 3 places du spectacle 5", "client.c:42", "nb_places", "07 00 00 00", "pris à l'étape"):
        assert words in panel
    assert chromium.ask("document.querySelectorAll('.row.mate').length") == 1
    chromium.point_at(".row:nth-child(4)")
    assert "demande 99 places" in chromium.ask(shown.format(".panel"))
    chromium.point_at("h1")
    chromium.key("Escape")
    assert chromium.ask("document.querySelector('.panel').hidden")
    width = "document.querySelectorAll('.name')[2].getBoundingClientRect().width"
    before = chromium.ask(width)
    chromium.ask("document.querySelectorAll('.name')[2].click()")
    assert chromium.ask(width) < before / 3
    paper = "getComputedStyle(document.body).backgroundColor"
    light = chromium.ask(paper)
    chromium.key("t")
    assert chromium.ask(paper) != light
    tall = chromium.ask("document.querySelector('.row').offsetHeight")
    chromium.key("+")
    assert chromium.ask("document.querySelector('.row').offsetHeight") > tall
    assert chromium.said == []


@needs_chromium
def test_it_fits_a_projector_and_a_phone(chromium: Browser, tmp_path: Path) -> None:
    """Nothing sticks out sideways, nothing is fetched, no script but ours has run, the console is silent.

    (Seen to fail: with lanes of at least 1.6em, of which twelve are wider than a phone; with innerHTML for textContent
    in make().)
    """
    two = (Side(runs.race(locked=False), verdict="faux"), Side(runs.race(locked=True)))
    pages = {name: page.render(SAMPLES[name]()) for name in ("pipes", "sockets", "deadlock", "hostile")}
    for name, text in {**pages, "two": page.compare(*two)}.items():
        place = tmp_path / f"{name}.html"
        place.write_text(text, encoding="utf-8")
        title = Parsed(text).texts["title"][0]
        for width, height, dark in ((1280, 720, False), (390, 844, True)):
            chromium.size(width, height, dark=dark, phone=width < 500)
            chromium.open(place)
            chromium.key(" ")
            assert chromium.ask("document.documentElement.scrollWidth") <= width, name
            assert chromium.ask("document.querySelectorAll('img, main script:not([type])').length") == 0
            assert chromium.ask("document.title").strip() == " ".join(title.split())
            chromium.picture(tmp_path / "run.png")
            assert (tmp_path / "run.png").stat().st_size > 10_000
    assert chromium.said == []
    assert {address.rpartition("/")[0] for address in chromium.asked} == {f"file://{tmp_path}"}


@pytest.mark.soak
@needs_chromium
def test_five_thousand_rows(chromium: Browser, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """How long such a page takes; the figures of docs/drawings.md are printed by `make soak SOAK="-s tests/see"`."""
    (tmp_path / "run.html").write_text(page.render(runs.long(1300)), encoding="utf-8")
    chromium.size(1280, 720)
    begun = time.monotonic()
    chromium.open(tmp_path / "run.html")
    ready = time.monotonic() - begun
    key = chromium.ask(
        "(() => { const begun = performance.now(); for (let i = 0; i < 50; i++) document.body.dispatchEvent("
        "new KeyboardEvent('keydown', {key: 'ArrowRight', bubbles: true}));"
        "return (performance.now() - begun) / 50 })()"
    )
    with capsys.disabled():
        print(f"\n{page.MOST} rows: ready in {ready:.1f} s, a key in {key:.1f} ms of its script")
    chromium.key("End")
    assert chromium.ask("document.querySelector('.where').textContent") == "5000 / 5000"


@needs_chromium
def test_the_policy_runs_no_other_script(chromium: Browser, tmp_path: Path) -> None:
    """Should a script get into the page all the same, it is refused.

    (Seen to fail: with 'unsafe-inline' for the hash.)
    """
    text = page.render(runs.queue()).replace("<main>", "<main><script>document.title = 'volé'</script>")
    (tmp_path / "run.html").write_text(text, encoding="utf-8")
    chromium.open(tmp_path / "run.html")
    assert chromium.ask("document.title") == "Question 2, deux clients"
    assert any("Content Security Policy" in line for line in chromium.said)


# What never happened


def test_nothing_happened() -> None:
    """A run without anything, or in which a send never ended, is drawn too, with what is known of it.

    (Seen to fail: with the bytes and notes of a step left to the row of its end.)
    """
    empty = runs.Recorder("Rien").run()
    assert terminal.draw(empty) == "Rien\n\n"
    assert Parsed(page.render(empty)).data["pairs"] == []
    assert mermaid.draw(empty) == "sequenceDiagram\n"
    assert json.loads(perfetto.draw(empty))["traceEvents"]
    record = runs.Recorder("", Lane("A", LaneKind.PROCESS, "A"), Lane("q", LaneKind.QUEUE, "file"))
    full = record.begin("A", Action.SEND, "q", "msgsnd", words="demande une place", data=b"\x2a")
    run = replace(record.run(), unsent=())
    assert "attend : msgsnd (demande une place)" in terminal.draw(run)
    (row,) = Parsed(page.compare(Side(run, notes={full.seq: "file pleine"}))).data["sides"][0]["rows"]
    assert (row["note"], row["bytes"].split()[1]) == ("file pleine", "2a")


# For Mermaid

# What may stand in a text, the rest being entities; the statements that are used, with the participants in them.
TEXT = r"(?:[\w ./,()'!?«»×…°✗◆-]|:(?= )|#\d+;)*"
STATEMENT = re.compile(
    rf"    (?:participant (p\d+) as {TEXT}|(p\d+)(?:->>|-x)(p\d+): {TEXT}|Note over (p\d+)(?:,(p\d+))?: {TEXT}"
    r"|(?:de)?activate (p\d+))"
)


@pytest.mark.parametrize("name", SAMPLES)
def test_mermaid_parses(name: str) -> None:
    """Only statements of a small grammar, of participants that are declared, activations that end, 50,000 characters.

    Mermaid 11.17 drew all of these, and 150 diagrams of random pieces of its syntax, with every text as it was.
    (Seen to fail: with escaped() returning what it is given, without the last lines of text().)
    """
    text = mermaid.draw(SAMPLES[name]())
    first, *lines = text.splitlines()
    assert first == "sequenceDiagram"
    known: set[str] = set()
    active: set[str] = set()
    for line in lines:
        found = STATEMENT.fullmatch(line)
        assert found, line
        assert "--" not in line
        assert not re.search(r"\bend\b", line)
        if found[1]:
            known.add(found[1])
        assert {one for one in found.groups() if one} <= known
        if found[6]:
            assert (found[6] in active) is line.startswith("    de")
            active ^= {found[6]}
    assert not active
    assert len(text) <= mermaid.LIMIT


def test_mermaid_shows_what_lies_in_the_queue() -> None:
    """The queue is active from the send to the receive; a send that failed is crossed; texts come back as they were.

    (Seen to fail: without _activity().)
    """
    lines = [line.strip() for line in mermaid.draw(runs.queue()).splitlines()]
    assert lines[lines.index("p0->>p2: demande 3 places du spectacle 5") + 1] == "activate p2"
    assert lines[lines.index("p2->>p3: prend la demande de B") + 1] == "deactivate p2"
    assert any(re.match(r"p\d+-xp\d+: .* EPIPE", line.strip()) for line in mermaid.draw(runs.sockets()).splitlines())
    drawn = mermaid.draw(runs.hostile())
    back = re.sub(r"#(\d+);", lambda found: chr(int(found[1])), drawn)
    assert "</script><script>document.title='volé'</script>" in back
    assert "; Note over A: volé\\nA->>B: volé %% #quot; end" in back
    assert len(mermaid.draw(runs.long(100)).splitlines()) < 20


# For Perfetto


@pytest.mark.parametrize("clock", [1, 0], ids=["", "coarse clock"])
@pytest.mark.parametrize("name", SAMPLES)
def test_perfetto_is_legal(name: str, clock: int) -> None:
    """Every event has what its kind needs; slices of a track do not overlap; arrows go forward, from slice to slice.

    (Seen to fail: with the microsecond left out of _instants(), with all spans of an object on one track, with "f"
    written for "s".)
    """
    run = SAMPLES[name]()
    steps = tuple(replace(step, time=step.time * clock, ended=step.ended * clock) for step in run.steps)
    run = replace(run, steps=steps)
    trace = json.loads(perfetto.draw(run))
    assert set(trace) == {"displayTimeUnit", "traceEvents"}
    slices: dict[tuple[int, int], list[tuple[float, float]]] = {}
    arrows: dict[int, list[dict[str, Any]]] = {}
    named = set()
    for event in trace["traceEvents"]:
        assert {"ph", "pid", "tid", "name", "ts"} <= set(event)
        assert event["ts"] >= 0
        track = (event["pid"], event["tid"])
        assert not DRIVES.search(event["name"])
        match event["ph"]:
            case "X":
                assert event["dur"] > 0
                slices.setdefault(track, []).append((event["ts"], event["ts"] + event["dur"]))
            case "s" | "f":
                assert (event.get("bp") == "e") is (event["ph"] == "f")
                assert event["cat"] == "envoi"
                arrows.setdefault(event["id"], []).append(event)
            case "M":
                named.add(track)
                assert event["args"]
            case "i":
                assert event["s"] == "g"
            case other:
                pytest.fail(other)
    for track, spans in slices.items():
        assert track in named
        spans.sort()
        assert all(end <= begin + 1e-6 for (_, end), (begin, _) in itertools.pairwise(spans)), track
    assert len(arrows) == len(run.transfers)
    for ends in arrows.values():
        start, finish = ends
        assert (start["ph"], finish["ph"]) == ("s", "f")
        assert start["ts"] < finish["ts"]
        for event in ends:
            own = slices[event["pid"], event["tid"]]
            assert any(begin <= event["ts"] <= end for begin, end in own)


def test_perfetto_shows_waits_holds_and_what_lies() -> None:
    """Tracks by name; a wait as long as it was; what lay in a queue on its track.

    (Seen to fail: without _objects().)
    """
    run = runs.queue()
    events = json.loads(perfetto.draw(run))["traceEvents"]
    tracks = {event["args"]["name"]: event["tid"] for event in events if event["name"] == "thread_name"}
    assert {"A", "B", "file 0x2a", "file 0x2a (2)", "réservations", "sémaphore /table"} <= set(tracks)
    waits = [event for event in events if event.get("cat") == "attente" and event["tid"] == tracks["A"]]
    assert [event["name"] for event in waits] == ["attend : msgrcv file 0x2a"]
    step = next(step for step in run.steps if step.blocked and step.task == "A")
    assert waits[0]["dur"] == pytest.approx((step.ended - step.time) * 1e6, abs=100)
    held = [event["name"] for event in events if event.get("cat") == "verrou"]
    assert held == ["tenu par réservations"] * 2
    lay = [event for event in events if event.get("cat") == "dedans" and event["tid"] == tracks["file 0x2a"]]
    assert lay[0]["name"] == "demande 3 places du spectacle 5"
