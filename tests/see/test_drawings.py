"""Drawings of runs: what one must see in each, and what a program that means harm must not achieve."""

from __future__ import annotations

import io
import re
from collections.abc import Callable

import pytest
from rich.cells import cell_len

from spectacles.common.errors import UsageError
from spectacles.lab.record.drawings import terminal
from spectacles.lab.record.drawings.terminal import Medium
from spectacles.lab.record.model import Action, Lane, LaneKind, Run
from tests.see import runs

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
        "   7        ○┄msgrcv┄┄┄┄┄┄┃             │       attend : msgrcv file",
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


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "iso-8859-1"])
@pytest.mark.parametrize("width", [20, 40, 64, 79, 100, 300])
@pytest.mark.parametrize("name", SAMPLES)
def test_it_fits(name: str, width: int, encoding: str) -> None:
    """No line is wider than the terminal, and than 100 columns; no character is there that it could not show.

    (Seen to fail: with words of one piece not cut in _pieces(), with _writable() returning what it is given.)
    """
    drawn = terminal.draw(SAMPLES[name](), Medium(width, encoding=encoding))
    most = min(max(width, terminal.NARROWEST), terminal.WIDEST)
    assert [line for line in drawn.splitlines() if cell_len(line) > most] == []
    assert drawn.encode(encoding)
    assert not DRIVES.search(drawn), DRIVES.findall(drawn)
    assert terminal.draw(SAMPLES[name](), Medium(width, colours=True, encoding=encoding)).count("\x1b[") > 5


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

    (Seen to fail: with TIMES too high, with _cut() returning what it is given.)
    """
    drawn = terminal.draw(runs.long(100))
    assert "… 495 étapes : les 5 précédentes, 99 fois de plus" in flat(drawn)
    assert len(drawn.splitlines()) < 15
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
