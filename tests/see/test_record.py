"""Records: which receive took which send, proven on messages of which no two are alike; the file; what is derived."""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from spectacles.common.errors import UsageError
from spectacles.lab.gate.events import Event, Kind
from spectacles.lab.gate.supervisor import Gate
from spectacles.lab.programs.world import World
from spectacles.lab.record import derive, store
from spectacles.lab.record.matching import Side, messages, stream, tokens
from spectacles.lab.record.model import Action, Run, Step
from tests import helpers

C = Path(__file__).with_name("c")
X86 = os.uname().machine == "x86_64"
MANY = 10_000


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with channels.c and holders.c, compiled."""
    cc = shutil.which("cc")
    if cc is None:
        pytest.skip("no C compiler (cc)")
    folder = tmp_path_factory.mktemp("recorded")
    for name in ("channels", "holders"):
        subprocess.run([cc, "-g", "-O0", "-w", "-o", folder / name, C / f"{name}.c", "-pthread"], check=True)
    return folder


def recorded(folder: Path, *command: str, accesses: bool = False, seconds: float = 60) -> Run:
    """Run a command in a world, under the gate, and return what is derived from its record."""
    with (
        store.Recorder(store.head({"A": command}, {})) as recorder,
        World(folder) as world,
        Gate(world, sink=recorder.sink, accesses=accesses) as gate,
    ):
        program = gate.start("A", command)
        program.wait(seconds)
        helpers.eventually(lambda: all(task.dead for task in gate.tasks.values()), "all are dead")
        if gate.notes:
            pytest.skip(f"no marks here: {gate.notes}")
    return derive.run(recorder.record)


def by_seq(run: Run) -> dict[int, Step]:
    return {step.seq: step for step in run.steps}


def in_pieces(run: Run) -> dict[int, list[tuple[int, int]]]:
    """Return send -> its pieces in the order in which they were read, as (receive, bytes)."""
    pieces: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for transfer in run.transfers:
        if transfer.size is not None:
            pieces[transfer.send].append((transfer.receive, transfer.size))
    return pieces


# Proof


@pytest.mark.parametrize("count", [1000, pytest.param(MANY, marks=pytest.mark.soak)])
@pytest.mark.parametrize("channel", ["queue", "posix"])
def test_every_message_went_where_it_went(built: Path, channel: str, count: int) -> None:
    """Three senders, or two; two receivers that take whatever comes, or the lowest type: all at once.

    (Seen to fail: with what was sent first given to what was received first, whatever it says.)
    """
    run = recorded(built, "./channels", channel, str(count))
    steps = by_seq(run)
    sends = [step for step in run.steps if step.action is Action.SEND]
    assert len(sends) >= count - 2
    assert {transfer.send for transfer in run.transfers} == {step.seq for step in sends}
    assert len({transfer.receive for transfer in run.transfers}) == len(sends)
    for transfer in run.transfers:
        sent, taken = steps[transfer.send], steps[transfer.receive]
        assert (sent.data, sent.size) == (taken.data, taken.size)
        assert sent.task != taken.task
        assert transfer.sure or sent.data[:4] == b"end\0"  # two that are alike
    assert {step.task for step in run.steps if step.action is Action.RECEIVE} == {"A.1", "A.2"}
    assert run.unsent == ()


@pytest.mark.parametrize("count", [1000, pytest.param(MANY, marks=pytest.mark.soak)])
@pytest.mark.parametrize("channel", ["fifo", "pipe", "connection"])
def test_every_byte_went_where_it_went(built: Path, channel: str, count: int) -> None:
    """Reads that join and split what was written; no two records are alike: each read can be put together again.

    (Seen to fail: with reads taken in the order in which they ended, writes in the order in which they began.)
    """
    run = recorded(built, "./channels", channel, str(count))
    steps = by_seq(run)
    pieces = in_pieces(run)
    sends = [step for step in run.steps if step.action is Action.SEND]
    assert len(sends) == count // 2 * 2
    assert set(pieces) == {step.seq for step in sends}
    brought: dict[int, list[bytes]] = defaultdict(list)
    for seq, parts in pieces.items():  # of a write, the pieces in the order in which they were read
        assert sum(size for _, size in parts) == steps[seq].size
        at = 0
        for receive, size in parts:
            brought[receive].append(steps[seq].data[at : at + size])
            at += size
    reads = [step for step in run.steps if step.action is Action.RECEIVE and step.data]
    for read in reads:
        assert any(b"".join(order) == read.data for order in itertools.permutations(brought[read.seq])), read
    sure = sum(transfer.sure for transfer in run.transfers)
    assert sure >= len(run.transfers) * 0.99
    assert run.unsent == ()


@pytest.mark.parametrize("count", [1000, pytest.param(MANY, marks=pytest.mark.soak)])
@pytest.mark.parametrize("channel", ["semaphore", "set"])
def test_every_post_let_somebody_go(built: Path, channel: str, count: int) -> None:
    """POSIX and System V: each wait has one post, before its end. (Seen to fail: with signals taken for locks.)"""
    run = recorded(built, "./channels", channel, str(count))
    steps = by_seq(run)
    posts = [step for step in run.steps if step.action is Action.RELEASE]
    assert len(posts) == count
    assert sorted(transfer.send for transfer in run.transfers) == [step.seq for step in posts]
    assert len({transfer.receive for transfer in run.transfers}) == count
    for transfer in run.transfers:
        assert steps[transfer.send].seq < steps[transfer.receive].until
        assert steps[transfer.receive].action is Action.TAKE
    assert run.holds == ()  # a signal, that nobody holds


# Locks


def holders(run: Run) -> list[tuple[str, bool, bool]]:
    """Return who held what in turn: task, whether it was given back, whether it was lost."""
    return [(hold.task, hold.until > 0, hold.lost) for hold in run.holds]


def test_a_lock_dies_with_its_holder(built: Path) -> None:
    """A POSIX semaphore, and a robust mutex, which the next one gets all the same.

    (Seen to fail: with HAS and an errno taken for a failure; with holds of the dead closed by their death.)
    """
    run = recorded(built, "./holders", "lost")
    assert holders(run) == [("A.1", False, True)]
    waited = next(step for step in run.steps if step.task == "A" and step.action is Action.TAKE)
    assert (waited.errno, waited.blocked, waited.until > 0) == ("ETIMEDOUT", True, True)
    run = recorded(built, "./holders", "robust")
    assert holders(run) == [("A.1", False, True), ("A", True, False)]
    taken = next(step for step in run.steps if step.task == "A" and step.action is Action.TAKE)
    assert (taken.detail["owner"], taken.errno, taken.result) == ("EOWNERDEAD", "", 0)
    assert "mort" in taken.words


def test_a_lock_that_the_kernel_gives_back(built: Path) -> None:
    """SEM_UNDO: held until its holder's death, and not lost. (Seen to fail: without the flag looked at.)"""
    run = recorded(built, "./holders", "undone")
    death = next(step for step in run.steps if step.action is Action.DEATH and step.task == "A.1")
    first, second = run.holds
    assert (first.task, first.until, first.lost) == ("A.1", death.seq, False)
    assert (second.task, second.lost) == ("A", False)


def test_a_lock_is_handed_over(built: Path) -> None:
    """Who waits gets it from who gives it back: flock. (Seen to fail: with every release matched, awaited or not.)"""
    run = recorded(built, "./holders", "handed")
    steps = by_seq(run)
    (handed,) = [one for one in run.transfers if one.object == "fichier"]
    assert (steps[handed.send].task, steps[handed.receive].task) == ("A", "A.1")
    assert steps[handed.receive].blocked
    assert holders(run) == [("A", True, False), ("A.1", True, False)]


def test_what_cannot_be_known_is_not_claimed() -> None:
    """Two sends that are alike and overlap: likely, not sure; one after the other: sure."""
    taken = [Side(5, 5, 6, b"x", 1), Side(7, 7, 8, b"x", 1)]
    at_once = [Side(1, 1, 4, b"x", 1), Side(2, 2, 3, b"x", 1)]
    in_turn = [Side(1, 1, 2, b"x", 1), Side(3, 3, 4, b"x", 1)]
    for match in (messages, stream):
        assert [pair.sure for pair in match(at_once, taken)] == [False, False]
        assert [(pair.send, pair.receive, pair.sure) for pair in match(in_turn, taken)] == [(1, 5, True), (3, 7, True)]


def test_receivers_that_waited_before_anything_came() -> None:
    """They overlap, but not from when what they took was sent. (Seen to fail: without that.)"""
    waiting = [Side(1, 1, 5, b"x", 1, key=1), Side(2, 2, 9, b"x", 1, key=1)]
    sent = [Side(3, 3, 4, b"x", 1, key=1), Side(7, 7, 8, b"x", 1, key=1)]
    assert messages(sent, waiting) == [(3, 1, 1, True), (7, 2, 1, True)]


def test_what_comes_later_decides() -> None:
    """Two records that begin alike, read byte by byte. (Seen to fail: with AHEAD at 0.)"""
    writes = [Side(1, 1, 10, b"<1>", 3), Side(2, 2, 9, b"<2>", 3)]
    reads = [Side(20 + place, 20 + place, 20.5 + place, bytes([byte]), 1) for place, byte in enumerate(b"<2><1>")]
    assert [pair.send for pair in stream(writes, reads)] == [2, 2, 2, 1, 1, 1]
    assert all(pair.sure for pair in stream(writes, reads))


def test_bytes_that_nobody_saw() -> None:
    """Some were lost: what comes after is still matched, and said to be likely only."""
    writes = [Side(place, place, place + 0.5, f"record {place}".encode(), 8) for place in range(1, 6)]
    reads = [Side(10 + place, 10 + place, 10.5 + place, writes[place].data, 8) for place in (0, 3, 4)]
    pairs = stream(writes, reads)
    assert [(pair.send, pair.receive) for pair in pairs] == [(1, 10), (4, 13), (5, 14)]
    assert [pair.sure for pair in pairs] == [True, False, True]


def test_a_read_of_nobody_knows_how_much() -> None:
    """Of fgets, in a program without the preload library: as much as agrees with what lies in its buffer."""
    writes = [Side(1, 1, 2, b"one\n", 4), Side(3, 3, 4, b"two\n", 4), Side(5, 5, 6, b"three\n", 6)]
    read = Side(7, 7, 8, b"one\ntwo\n\0\0\0\0\0\0\0\0", None, room=4096)
    assert [(pair.send, pair.sure) for pair in stream(writes, [read])] == [(1, False), (3, False)]


def test_tokens_of_a_lock() -> None:
    """The first take needs no post: there was one before. (Seen to fail: with start 0 where it is not known.)"""
    posts = [(Side(3, 3, 4), 1), (Side(7, 7, 8), 1)]
    takes = [(Side(1, 1, 2), 1), (Side(5, 5, 6), 1), (Side(9, 9, 10), 1)]
    assert [(pair.send, pair.receive) for pair in tokens(posts, takes, None)] == [(3, 5), (7, 9)]


def test_any_order_that_the_kernel_can_have_chosen() -> None:
    """Random streams: written and read in one true order, of which the intervals tell only so much.

    Some five at a time. Each sure pair is checked against the true order. (Seen to fail: with writes taken in the order
    of their beginning.)
    """
    for seed in range(100):
        chance = random.Random(seed)
        clock = 0.0
        data = b""
        owner: list[int] = []
        writes, reads = [], []
        for seq in range(1, 30):
            clock += chance.choice((0.1, 1.0))
            record = b"<%d:%d>" % (seq % 3, seq)
            writes.append(Side(seq, int(clock - chance.random()), clock + chance.random(), record, len(record)))
            data += record
            owner += [seq] * len(record)
        at, seq = 0, 1000
        truth = set()
        while at < len(data):
            clock += chance.choice((0.1, 1.0))
            size = min(chance.randint(1, 12), len(data) - at)
            reads.append(Side(seq, int(clock - chance.random()), clock + chance.random(), data[at : at + size], size))
            truth |= {(owner[place], seq) for place in range(at, at + size)}
            at, seq = at + size, seq + 1
        pairs = stream(writes, reads)
        assert {(pair.send, pair.receive) for pair in pairs if pair.sure} <= truth, seed
        assert sum(pair.size or 0 for pair in pairs) == len(data), seed


# The file


def some_events() -> list[Event]:
    return [
        Event(1, 0.0, "A", Kind.BIRTH, "birth", arguments={"parent": "", "thread": False, "inside": 7}),
        Event(2, 0.1, "A", Kind.CALL, "open", "caf\udce9 é", {"flags": "O_RDONLY"}, pid=3, tid=4),
        Event(3, 0.2, "A", Kind.CALL, "msgsnd", "queue 0x0000002a", {"type": 1, "size": 3, "data": b"\0\xff\n"}),
        Event(4, 0.3, "A", Kind.RESULT, "msgsnd", "queue 0x0000002a", result=0, of=3),
        Event(5, 0.4, "A", Kind.DEATH, "killed"),
    ]


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    """Written as it happens, saved, loaded: the same, bytes and strange names included."""
    with store.Recorder(store.head({"A": ["./a"]}, {"noyau": "x"}), str(tmp_path / "run")) as recorder:
        for event in some_events():
            recorder.sink(event)
        recorder.ready()
        recorder.places({"a+0x10": "a.c:3"})
    loaded = store.load(str(tmp_path / "run"))
    assert loaded.events == some_events()
    assert (loaded.ready, loaded.places, loaded.torn) == (5, {"a+0x10": "a.c:3"}, False)
    assert loaded.head["commands"] == {"A": ["./a"]}
    store.save(loaded, str(tmp_path / "again"))
    assert store.load(str(tmp_path / "again")) == loaded
    run = derive.run(loaded)
    assert [step.data for step in run.steps if step.action is Action.SEND] == [b"\0\xff\n"]
    assert run.unsent == (3,)


def test_a_recorder_that_is_killed_loses_a_line_at_most(tmp_path: Path) -> None:
    """SIGKILL while it writes; the file cut at every byte of its last lines. (Seen to fail: with a buffered file.)"""
    code = (
        "import os, sys, signal\n"
        "from spectacles.lab.gate.events import Event, Kind\n"
        "from spectacles.lab.record import store\n"
        "with store.Recorder(store.head({}, {}), sys.argv[1]) as recorder:\n"
        "    for seq in range(1, 101):\n"
        "        recorder.sink(Event(seq, seq / 10, 'A', Kind.NOTE, 'note', arguments={'text': 'x'}))\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = tmp_path / "run"
    assert subprocess.run([sys.executable, "-c", code, path], check=False).returncode == -signal.SIGKILL
    assert len(store.load(str(path)).events) == 100
    whole = path.read_bytes()
    for cut in range(1, 200):
        path.write_bytes(whole[:-cut])
        lines = whole[:-cut].splitlines()[1:]
        parsed = [line for line in lines if line.endswith(b"}}")]
        found = store.load(str(path))
        assert len(found.events) == len(parsed)
        assert found.torn is (len(parsed) < len(lines))


BROKEN = {
    "": "pas un enregistrement",
    "hello": "pas un enregistrement",
    "[" * 100_000: "pas un enregistrement",
    '{"format": "spectacles/look", "version": 1}': "pas un enregistrement",
    '{"format": "spectacles/run", "version": 2}': "version 2",
    '{"format": "spectacles/run"}': "version null",
    '{"format": "spectacles/run", "version": 1, "commands": []}': "ligne 1",
    'H\n{"seq": 2}\nE': "ligne 2",
    'H\n{"seq": 1, "time": -1}\nE': "ligne 2",
    'H\n{"seq": 1, "time": NaN}\nE': "ligne 2",
    'H\n{"seq": 1, "time": 0, "kind": "birt"}\nE': "ligne 2",
    'H\n{"seq": 1, "time": 0, "kind": "call", "task": 3}\nE': "ligne 2",
    'H\nE\n{"seq": 2, "time": 0, "kind": "result", "of": 7}\nE': "ligne 3",
    'H\n{"seq": 1, "time": 0, "kind": "call", "arguments": {"data": "zz"}}\nE': "ligne 2",
    'H\n{"seq": 1, "time": 0, "kind": "call", "arguments": {"size": "many"}}\nE': "ligne 2",
    'H\nE\nnonsense\nE': "ligne 3",
    'H\n{"places": {"a": 1}}\nE': "ligne 2",
    'H\n[1]\nE': "ligne 2",
}  # fmt: skip


@pytest.mark.parametrize("text", BROKEN, ids=lambda text: text[:40].replace("\n", "|"))
def test_a_file_that_is_none(tmp_path: Path, text: str) -> None:
    """One line, in French, with the file and where. (Seen to fail: without the checks of _event().)"""
    event = json.dumps({"seq": 1, "time": 0, "task": "A", "kind": "note", "call": "note"})
    path = tmp_path / "run"
    path.write_text(text.replace("H", '{"format": "spectacles/run", "version": 1}').replace("E", event) + "\n")
    with pytest.raises(UsageError) as caught:
        store.load(str(path))
    said = str(caught.value)
    assert said.startswith(str(path))
    assert BROKEN[text] in said
    assert "\n" not in said


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """None there, a folder, a device that never ends."""
    for path in (tmp_path / "absent", tmp_path, Path("/dev/zero")):
        with pytest.raises(UsageError, match=str(path)):
            store.load(str(path))
