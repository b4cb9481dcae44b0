"""The gate: what it sees of unmodified programs, what it decides, and that rest is known and not guessed."""

from __future__ import annotations

import collections
import contextlib
import errno
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from spectacles.common.errors import UsageError
from spectacles.lab.gate import calls, marks
from spectacles.lab.gate.events import Event, Kind
from spectacles.lab.gate.policy import OneAtATime
from spectacles.lab.gate.script import Script
from spectacles.lab.gate.supervisor import Gate, GateError
from spectacles.lab.programs.world import World
from tests import helpers

SOURCE = Path(__file__).with_name("c") / "gated.c"
X86 = os.uname().machine == "x86_64"
AGAIN = 10  # of what must come out the same every time


@pytest.fixture(scope="session")
def gated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the program of gated.c."""
    cc = shutil.which("cc")
    if cc is None:
        pytest.skip("no C compiler (cc)")
    folder = tmp_path_factory.mktemp("gated")
    subprocess.run([cc, "-g", "-O0", "-w", "-o", folder / "gated", SOURCE, "-pthread"], check=True)
    return folder


@pytest.fixture(params=[None, False], ids=["private", "plain"])
def world(request: pytest.FixtureRequest, gated: Path) -> Iterator[World]:
    """A world with gated.c, private where that can be had; and one that is not."""
    with World(gated, private=request.param) as made:
        if request.param is None and made.refused:
            pytest.skip(f"no private worlds here: {made.refused}")
        yield made


@pytest.fixture
def inside(gated: Path) -> Iterator[World]:
    """A world with gated.c, private or not."""
    with World(gated) as made:
        yield made


def hog() -> contextlib.AbstractContextManager[object]:
    """A process beside the test that takes all the processor time it can get."""
    return helpers.background(["sh", "-c", "while :; do :; done"])


def calls_of(events: list[Event], task: str) -> list[str]:
    """Return the calls that a task made after it was loaded, with their objects."""
    found = [
        f"{event.call} {event.object}".strip() for event in events if event.task == task and event.kind == Kind.CALL
    ]
    return found[1:] if found and found[0].startswith("exec") else found


def results(events: list[Event], call: str) -> list[Event]:
    """Return the results of a call, in order."""
    return [event for event in events if event.kind == Kind.RESULT and event.call == call]


# What is seen


def test_calls_objects_and_results(world: World) -> None:
    """A file saved as the original does it. (Fails with `result` marks not matched to their call.)"""
    poured: list[Event] = []
    with Gate(world, sink=poured.append) as gate:
        assert gate.start("A", ["./gated", "save"]).wait(helpers.DEADLINE) == 0
        helpers.eventually(lambda: gate.tasks["A"].dead, "its death is seen")
        events = gate.events()
    assert poured == events
    saved = ["open spectacles.dat", "write spectacles.dat"]
    assert calls_of(events, "A") == [*saved, *saved, "write terminal", "exit"]
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    opened = next(event for event in events if event.call == "open" and event.kind == Kind.CALL)
    assert opened.arguments["flags"] == "O_WRONLY O_CREAT O_TRUNC"
    written = [event for event in results(events, "write") if event.object == "spectacles.dat"]
    if not gate.notes:
        assert [(event.result, event.exact) for event in written] == [(720, True), (720, True)]
    assert events[-1].kind == Kind.DEATH
    assert events[-1].result == 0


def test_messages(inside: World) -> None:
    """What was sent, and what a receive took. (Fails without calls.received().)"""
    with Gate(inside) as gate:
        assert gate.start("A", ["./gated", "order"]).wait(helpers.DEADLINE) == 0
        events = gate.events()
    sent = [event.arguments["data"][:1] for event in events if event.call == "msgsnd" and event.kind == Kind.CALL]
    took = results(events, "msgrcv")
    assert sorted(sent) == [b"A", b"B"]
    assert [event.arguments["type"] for event in took] == [1, 1]
    if not gate.notes:
        assert sorted(event.arguments["data"][:1] for event in took) == sorted(sent)
        assert [event.result for event in took] == [8, 8]
    births = {event.task: event.arguments for event in events if event.kind == Kind.BIRTH}
    assert births["A.1"]["parent"] == "A"
    assert births["A.1"]["thread"] is True
    assert births["A.1"]["inside"] == births["A"]["inside"] + 1 or not inside.private
    assert {event.object for event in events if event.call == "msgsnd"} == {"private queue #1"}


def test_a_thread_is_named_by_who_made_it(inside: World) -> None:
    """Whichever thread of its process is looked at first. (Fails with whoever is looked at taken for the maker.)"""
    with Gate(inside) as gate:
        assert gate.start("A", ["./gated", "brood"]).wait(helpers.DEADLINE) == 0
        events = gate.events()
    births = {event.task: event.arguments["parent"] for event in events if event.kind == Kind.BIRTH}
    assert births == {"A": "", "A.1": "A", **{f"A.1.{number}": "A.1" for number in range(1, 41)}}


def test_locks_that_nobody_contends(inside: World) -> None:
    """A semaphore, a mutex, a condition: none of it is a system call. (Fails without the preload library.)"""
    with Gate(inside, accesses=X86) as gate:
        assert gate.start("A", ["./gated", "locked"]).wait(helpers.DEADLINE) == 0
        gate.start("B", ["./gated", "conditions"]).wait(helpers.DEADLINE)
        events = gate.events()
        if gate.notes:
            pytest.skip(f"no marks here: {gate.notes}")
    for child in ("A.1", "A.2"):
        seen = [event.call for event in events if event.task == child and event.object == "semaphore /guichet"]
        assert [call for call in seen if call != "busy"] == ["wants", "has", "releases"]
        if X86:
            own = [event.call for event in events if event.task == child and event.kind in (Kind.MARK, Kind.ACCESS)]
            inside_lock = own[own.index("has") + 1 : own.index("releases")]
            assert inside_lock[:3] in (["reads", "reads", "writes"], ["reads"])
    waited = [event.call for event in events if event.task == "B.1" and event.kind == Kind.MARK]
    assert waited in (
        ["wants", "has", "waits", "has", "releases"],
        ["wants", "busy", "has", "waits", "has", "releases"],
    )
    assert any(event.call == "wakes" and event.object.startswith("condition gated+") for event in events)


@pytest.mark.skipif(not X86, reason="accesses to shared memory are seen on x86-64 only")
def test_accesses(inside: World) -> None:
    """Every access of the program is seen, by place; those of the kernel go on working.

    (Fails with open_pages() left out: EFAULT.)
    """
    with Gate(inside, accesses=True) as gate:
        assert gate.start("A", ["./gated", "file"]).wait(helpers.DEADLINE) == 0
        gate.start("B", ["./gated", "booth"]).wait(helpers.DEADLINE)
        events = gate.events()
        if gate.notes:
            pytest.skip(f"no marks here: {gate.notes}")
    seen = [event for event in events if event.kind == Kind.ACCESS and event.task == "B"]
    assert [(event.call, event.arguments["offset"]) for event in seen[:2]] == [("writes", 0), ("writes", 4)]
    assert all(event.arguments["at"].startswith("gated+0x") for event in seen)
    if shutil.which("addr2line"):
        at = seen[0].arguments["at"].partition("+")[2]
        done = helpers.run(["addr2line", "-e", inside.folder / "gated", at])
        line = int(done.stdout.rpartition(":")[2].split()[0])
        assert "table->places = 1" in SOURCE.read_text().splitlines()[line - 1]


def test_families(world: World) -> None:
    """Children, grandchildren, an orphan, an exec, a setuid: named in order of birth, whoever is seen first.

    (Fails without _name_children(): the orphan is then taken for a child of the program.)
    """
    for _ in range(3):
        with Gate(world) as gate:
            assert gate.start("A", ["./gated", "family"]).wait(helpers.DEADLINE) == 0
            helpers.eventually(lambda gate=gate: all(task.dead for task in gate.tasks.values()), "all are dead")  # type: ignore[misc]
            events = gate.events()
        assert list(gate.tasks) == ["A", "A.1", "A.1.1"]
        assert [event.result for event in events if event.kind == Kind.DEATH and event.task == "A.1"] == [0]
        assert "exec gated" in calls_of(events, "A.1.1")


def test_a_shell(world: World) -> None:
    """Children made by vfork, pipes, a command found on PATH; one task at a time, beside a hog.

    (Fails without the state D; now and then without the pause after a death, in Gate._died().)
    """
    code = "import subprocess; subprocess.run(['sh', '-c', 'echo one | cat; sleep 5; (echo two; exit 3)'])"
    command = [sys.executable, "-S", "-c", code] if world.private else ["sh", "-c", "echo one; sleep 5; echo two"]
    with hog():
        for _ in range(5):
            with Gate(world, OneAtATime()) as gate:
                program = gate.start("A", command)
                while gate.settle() and (held := gate.held()):
                    gate.let(held[0].name)
                assert program.wait(helpers.DEADLINE) == 0, program.output()
                assert program.output() == "one\ntwo\n"
                made = [event for event in gate.events() if event.kind == Kind.CALL and event.task == "A"]
                assert [event.call for event in made].count("exec") == 1


def test_the_same_choices_give_the_same_run(inside: World) -> None:
    """Event for event, in one order, names of objects included.

    (Seen to fail: with held() in the order of arrival; with what is held taken in as it comes, not in turns, parent and
    child come now in one order, now in the other.)
    """
    runs = set()
    for _ in range(5):
        with Gate(inside, OneAtATime(), accesses=X86) as gate:
            gate.start("A", ["./gated", "locked"])
            while gate.settle() and (held := gate.held()):
                gate.let(held[-1].name)
            stops = (Kind.CALL, Kind.MARK, Kind.ACCESS, Kind.BIRTH, Kind.DEATH)
            seen = [event for event in gate.events() if event.kind in stops]
            runs.add("\n".join(f"{event.task} {event.kind} {event.call} {event.object}" for event in seen))
    assert len(runs) == 1, "\n\n".join(runs)


def test_a_program_that_cannot_be_supervised(inside: World) -> None:
    """32 bits: refused before it starts, or at its first such call. (Fails without the test of arch in build().)"""
    elf = bytearray(52)
    elf[:5] = b"\x7fELF\x01"
    with Gate(inside) as gate:
        source = Path(__file__).parent / "c"
        assert marks.word_size(source / "gated.c") is None
        old = Path(os.path.realpath(inside.folder), "old") if not inside.private else None
        if old is not None:
            old.write_bytes(elf)
            with pytest.raises(GateError, match="32 bits"):
                gate.start("old", ["./old"])
        absent = gate.start("absent", ["./absent"])
        assert absent.wait(helpers.DEADLINE) == 127
        assert "./absent : aucun fichier" in absent.failed
        if X86:
            program = gate.start("A", ["./gated", "old"])
            if program.wait(helpers.DEADLINE) == -signal.SIGSEGV:
                pytest.skip("this kernel has no 32-bit calls")
            assert program.code == -signal.SIGKILL
            assert "32 bits" in gate.notes[-1]


def test_static_programs(gated: Path, tmp_path: Path) -> None:
    """Calls are seen, marks are not, and it is said. (Fails without linked_statically().)"""
    built = subprocess.run(["cc", "-static", "-w", "-o", tmp_path / "static", SOURCE, "-pthread"], capture_output=True)
    if built.returncode:
        pytest.skip("no static C library")
    assert marks.linked_statically(tmp_path / "static") is True
    assert marks.linked_statically(gated / "gated") is False
    with World(tmp_path) as inside, Gate(inside) as gate:
        assert gate.start("A", ["./static", "order"]).wait(helpers.DEADLINE) == 0
        assert "statiquement" in gate.notes[-1]
        assert [event.exact for event in results(gate.events(), "msgrcv")] == [False, False]


def test_sanitized_programs(tmp_path: Path) -> None:
    """A program with AddressSanitizer runs under the gate, marks included. (Fails without ASAN_OPTIONS.)"""
    built = subprocess.run(
        ["cc", "-fsanitize=address", "-w", "-o", tmp_path / "gated", SOURCE, "-pthread"], capture_output=True
    )
    if built.returncode:
        pytest.skip("no AddressSanitizer")
    with World(tmp_path) as inside, Gate(inside) as gate:
        program = gate.start("A", ["./gated", "save"])
        assert program.wait(helpers.DEADLINE) == 0, program.output()
        assert "done" in program.output()


def test_without_a_compiler(inside: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gate works without marks, and says what is then not seen. (Fails with library() raising.)"""
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with Gate(inside) as gate:
        monkeypatch.undo()
        assert "pas de compilateur C" in gate.notes[0]
        assert gate.start("A", ["./gated", "locked"]).wait(helpers.DEADLINE) == 0
        assert not [event for event in gate.events() if event.kind == Kind.MARK]
        assert calls_of(gate.events(), "A.1") == ["exit"]


# The library's cache


def test_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled once; what somebody planted under its name, or a folder that others may write to, is not used.

    (Fails without _ours(), and without the look at the folder's owner and mode.)
    """
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made, why = marks.library()
    if made is None:
        pytest.skip(why)
    assert made.parent == tmp_path / "spectacles"
    assert (made.stat().st_mode & 0o777, made.parent.stat().st_mode & 0o777) == (0o755, 0o700)
    before = made.stat().st_ino
    assert marks.library()[0] == made
    assert made.stat().st_ino == before
    made.chmod(0o777)  # anybody could have written to it
    marks.library()
    assert made.stat().st_ino != before
    made.unlink()
    made.symlink_to("/bin/true")
    marks.library()
    assert not made.is_symlink()
    made.parent.chmod(0o777)
    other, _ = marks.library()
    assert other is not None
    assert other.parent != made.parent


@pytest.mark.soak
def test_many_compile_at_once(tmp_path: Path) -> None:
    """Each gets a whole library. (Fails with the compiler writing to the name itself, now and then.)"""
    code = "from spectacles.lab.gate import marks; import ctypes; ctypes.CDLL(str(marks.library()[0]))"
    env = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    running = [subprocess.Popen([sys.executable, "-c", code], env=env) for _ in range(3)]
    assert [process.wait(60) for process in running] == [0] * 3
    assert len(list((tmp_path / "spectacles").iterdir())) == 1


# Rest


def test_rest_is_known(world: World) -> None:
    """One at a time, by hand: who is held, who sleeps in what; a deadlock is a state like another.

    (Fails with a task that is about to be held taken for one asleep: _poll_pending() left out.)
    """
    for _ in range(5):
        with Gate(world, OneAtATime()) as gate:
            if gate.notes:
                pytest.skip(f"no marks here: {gate.notes}")
            gate.start("A", ["./gated", "deadlock"])

            def move(name: str, call: str, object_: str, gate: Gate = gate) -> None:
                """Let a task go on, alone, until it is held at that call."""
                while gate.settle()[name].state == "held":
                    held = gate.tasks[name].held
                    assert held is not None
                    if (held.call, held.object) == (call, object_):
                        return
                    gate.let(name)
                assert call == "", gate.settle()

            move("A", "", "")
            move("A.1", "wants", "semaphore /b")
            move("A.2", "wants", "semaphore /a")
            move("A.1", "", "")
            move("A.2", "", "")
            rest = {name: (found.state, found.call, found.object) for name, found in gate.settle().items()}
        assert rest == {
            "A": ("asleep", "wait", ""),
            "A.1": ("asleep", "futex", "semaphore /b"),
            "A.2": ("asleep", "futex", "semaphore /a"),
        }


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "beside a hog"])
def test_a_child_that_has_made_no_call(busy: bool, inside: World) -> None:
    """Its parent sleeps already, in vfork or in a join that is no call of the gate's: that is no rest.

    (Fails, beside a hog, without the look at the children of who sleeps.)
    """
    with hog() if busy else contextlib.nullcontext():
        for _ in range(2 * AGAIN):
            with Gate(inside, OneAtATime()) as gate:
                program = gate.start("A", ["./gated", "order"])
                while gate.settle() and (held := gate.held()):
                    gate.let(held[0].name)
                assert program.wait(helpers.DEADLINE) == 0
                assert program.output() == "AB\n"


def test_who_never_comes_to_rest(inside: World) -> None:
    """Is named, with what it does. (Fails with silence taken for rest.)"""
    with Gate(inside) as gate:
        program = gate.start("A", ["./gated", "spins"])
        program.wait_output("spins", helpers.DEADLINE)
        with pytest.raises(GateError, match=r"pas au repos en 0.3 s : A \(état R, calcule\)"):
            gate.settle(0.3)
        assert not gate.at_rest()
        assert gate.asleep("A") is None


def test_time_does_not_pass_in_vain(inside: World) -> None:
    """A sleep of 1000 seconds is over at once when one task moves at a time. (Fails with OneAtATime holding it.)"""
    with Gate(inside, OneAtATime()) as gate:
        program = gate.start("A", ["./gated", "timed"])
        while gate.settle() and gate.held():
            gate.let("A")
        assert program.wait(helpers.DEADLINE) == 0
        assert program.output() == "slept\n"


def test_a_signal_takes_a_held_call_away(inside: World) -> None:
    """Held before msgrcv, or asleep in it: a signal's handler runs, the call fails or is made again; nothing hangs."""
    with Gate(inside, Script("hold A before msgrcv\nuntil A ends", patience=30)) as gate:
        program = gate.start("A", ["./gated", "interrupted"])
        gate.wait_for("A", "msgrcv")
        os.kill(program.pid, signal.SIGUSR1)
        gate.let("A")  # the call that was held; the handler ran before it, or breaks it
        helpers.eventually(lambda: program.code is not None or gate.asleep("A") is not None, "A is held or asleep")
        for _ in range(200):
            if program.code is None:
                with contextlib.suppress(GateError):
                    gate.let("A")
                if (rest := gate.asleep("A")) is not None and rest.state == "asleep":
                    program.signal_alone(signal.SIGUSR1)
                helpers.eventually(lambda: program.code is not None or gate.asleep("A") is not None, "A goes on")
        assert program.wait(helpers.DEADLINE) == 0
        assert "signal\n" in program.output()


@pytest.mark.parametrize("with_marks", [True, False], ids=["with marks", "without"])
def test_a_storm_of_signals(with_marks: bool, inside: World) -> None:
    """Calls that never fail with EINTR do not, however signals fall; and without the preload library nothing hangs.

    (Fails without the loop in SURE.)
    """
    with Gate(inside, with_marks=with_marks) as gate:
        code = gate.start("A", ["./gated", "storm"]).wait(60)
        if with_marks and not gate.notes:
            assert code == 0


# Scripts


def test_lines_that_are_no_step() -> None:
    """One line says which, and why. (Fails with an unknown call let through.)"""
    for text, said in (
        ("hold A before msgsnd\nwrite A", "ligne 2 : « write A » n'est pas un pas"),
        ("A: fly", "ligne 1 : « fly » n'est pas un appel connu"),
        ("kill A SIGNOTHING", "ligne 1 : « SIGNOTHING » n'est pas un signal"),
        ("A: write\nfail ENOTHING", "ligne 2 : « ENOTHING » n'est pas une erreur connue"),
        ("fail ENOSPC", "ligne 1 : qui doit échouer ?"),
    ):
        with pytest.raises(UsageError, match=re.escape(said)):
            Script(text)
    steps = Script("# both\n  server.1: open(a.dat, O_TRUNC)  # here\nkill A term\nlet all go\n").steps
    assert [(step.line, step.verb, step.task, step.words) for step in steps] == [
        (2, "step", "server.1", ("a.dat", "O_TRUNC")),
        (3, "kill", "A", ()),
        (4, "let", "all", ()),
    ]


def play(
    inside: World, script: str, *command: str, accesses: bool = False, patience: float = 10
) -> tuple[str, int, Script]:
    """Run a program under a script; return what it printed, its exit code, and the script."""
    followed = Script(script, patience=patience)
    with Gate(inside, followed, accesses=accesses) as gate:
        if accesses and gate.notes:
            pytest.skip(f"no accesses to be seen here: {gate.notes}")
        program = gate.start("A", ["./gated", *command])
        code = program.wait(30)
        return program.output(), code, followed


OVERSELL = """
A.1: reads(memory)     # both look before either sells
A.2: reads(memory)
let A.1 go
until A.1 ends
let A.2 go
"""


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "beside a hog"])
@pytest.mark.skipif(not X86, reason="accesses to shared memory are seen on x86-64 only")
def test_sold_twice(busy: bool, inside: World) -> None:
    """Two processes, shared memory, no lock: the schedule that sells the last seat twice does so every time.

    With a lock the same script finds nothing to do. (Fails with tasks of steps let run after their step.)
    """
    with hog() if busy else contextlib.nullcontext():
        for _ in range(AGAIN):
            _, code, script = play(inside, OVERSELL, "booth", accesses=True)
            assert (code, script.missed) == (1, [])
        script_text = OVERSELL.replace("A.2: reads", "A.2: wants(semaphore /guichet)\nA.2: reads")
        _, code, script = play(inside, script_text, "locked", accesses=True, patience=1)
        assert code == 0
        assert [missed.step.text for missed in script.missed] == ["A.2: reads(memory)"]


@pytest.mark.parametrize("first", ["A", "B"])
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "beside a hog"])
def test_the_order_of_two_threads(first: str, busy: bool, inside: World) -> None:
    """Two threads at msgsnd, released one way or the other: the queue has them so. (Fails without `hold`.)"""
    one, other = ("A.1", "A.2") if first == "A" else ("A.2", "A.1")
    text = f"hold A.1 before msgsnd\nhold A.2 before msgsnd\nlet {one} go\nuntil {one} ends\nlet {other} go"
    with hog() if busy else contextlib.nullcontext():
        for _ in range(AGAIN):
            output, code, script = play(inside, text, "order")
            assert (output, code, script.missed) == ("AB\n" if first == "A" else "BA\n", 0, [])


def test_killed_between_truncating_and_writing(gated: Path) -> None:
    """The second time: what was saved is gone.

    (Fails with a step taken for done at whatever call A is held.)
    """
    text = """
        A: write(spectacles.dat)
        A: open(spectacles.dat, O_TRUNC)
        hold A before write(spectacles.dat)
        kill A
    """
    for _ in range(AGAIN):
        script = Script(text)
        with World(gated) as inside, Gate(inside, script) as gate:
            assert gate.start("A", ["./gated", "save"]).wait(30) == -signal.SIGKILL
            assert script.missed == []
            assert (inside.folder / "spectacles.dat").read_bytes() == b""
            assert calls_of(gate.events(), "A") == ["open spectacles.dat", "write spectacles.dat"] * 2


def test_one_write_fails(gated: Path) -> None:
    """ENOSPC for one write; the program says so, and the next is good. (Fails with seccomp.answer() without -.)"""
    for _ in range(AGAIN):
        with World(gated) as inside:
            output, code, script = play(inside, "hold A before write(spectacles.dat)\nfail ENOSPC", "save")
            assert (output, code, script.missed) == (f"0: {os.strerror(errno.ENOSPC)}\ndone\n", 0, [])
            assert (inside.folder / "spectacles.dat").stat().st_size == 720


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "beside a hog"])
def test_until_it_waits(busy: bool, inside: World) -> None:
    """It waits in the call that it blocks in, not at one of the many that the gate holds for a moment.

    (Fails with _poll_pending() asked before the look.)
    """
    with hog() if busy else contextlib.nullcontext():
        for _ in range(2 * AGAIN):
            script = Script("until A waits\nkill A")
            with Gate(inside, script) as gate:
                assert gate.start("A", ["./gated", "interrupted"]).wait(30) == -signal.SIGKILL
                assert script.missed == []
                assert [event.call for event in gate.events() if event.kind == Kind.CALL][-1] == "msgrcv"


def test_a_script_that_no_longer_fits(inside: World) -> None:
    """As much as fits is done, the rest is named; everybody goes free at its end.

    (Fails with `missed` not filled, and with the words in brackets not looked at.)
    """
    text = "hold A before write(absent.dat)\nkill B\nhold A.7 before write"
    followed = Script(text, patience=0.5)
    with Gate(inside, followed) as gate:
        program = gate.start("A", ["./gated", "save"])
        assert program.wait(helpers.DEADLINE) == 0
        assert followed.done.wait(helpers.DEADLINE)
    assert [str(missed) for missed in followed.missed] == [
        "ligne 1 « hold A before write(absent.dat) » : la tâche a fini sans y arriver",
        "ligne 2 « kill B » : pas de tâche de ce nom",
        "ligne 3 « hold A.7 before write » : rien de tel en 0.5 s",
    ]


# Servers of ours


@pytest.mark.parametrize("question", ["q2_msq", "q3_threads"])
def test_python_servers(question: str) -> None:
    """A server of ours and three clients, each under the gate: they answer as ever, and every message is seen.

    (Fails with the interpreter's own locks not left out: find_interpreter().)
    """
    options = {"env": {"PYTHONPATH": str(helpers.ROOT)}}
    with World() as inside, Gate(inside) as gate:
        server = gate.start("server", helpers.server_command(question, "--dir", "."), **options)
        server.wait_output("Serveur UP", helpers.DEADLINE)
        for name, arguments, code in (
            ("A", ("list",), 0),
            ("B", ("reserve", "5", "3"), 0),
            ("C", ("reserve", "5", "99"), 1),
        ):
            client = gate.start(name, helpers.client_command(question, "--dir", ".", *arguments), **options)
            assert client.wait(helpers.DEADLINE) == code, client.output()
        server.signal_alone(signal.SIGINT)
        assert server.wait(helpers.DEADLINE) == 0, server.output()
        events = gate.events()
    check_messages(events)
    if not gate.notes:
        own = collections.Counter(event.object for event in events if event.call == "wants")
        assert all(name.startswith("semaphore /spectacles-") for name in own), own


@pytest.mark.parametrize("question", ["q2", "q4"])
def test_c_servers(question: str, c_programs: Path) -> None:
    """The C reference likewise, in threads and in processes."""
    with World(c_programs) as inside, Gate(inside) as gate:
        assert inside.start(["./dat", "write", "spectacles.dat", "12"]).wait(helpers.DEADLINE) == 0
        server = gate.start("server", [f"./{question}_server", "--dir", "."])
        server.wait_output("Serveur UP", helpers.DEADLINE)
        for name, arguments, code in (
            ("A", ("list",), 0),
            ("B", ("reserve", "3", "2"), 0),
            ("C", ("reserve", "3", "99"), 1),
        ):
            client = gate.start(name, ["./q2_client", *arguments, "--dir", "."])
            assert client.wait(helpers.DEADLINE) == code, client.output()
        server.signal_alone(signal.SIGINT)
        assert server.wait(helpers.DEADLINE) == 0, server.output()
        check_messages(gate.events())


def check_messages(events: list[Event]) -> None:
    """Every request and reply of three clients was sent and taken, and what was taken is what was sent."""
    sent = collections.Counter[tuple[int, bytes]]()
    for event in events:
        if event.kind == Kind.CALL and event.call == "msgsnd":
            sent[event.arguments["type"], event.arguments["data"]] += 1
    took = collections.Counter[tuple[int, bytes]]()
    for event in results(events, "msgrcv"):
        if not event.errno and event.result is not None:
            took[event.arguments["type"], event.arguments["data"]] += 1
    assert sum(sent.values()) >= 6
    if took:  # results are seen
        assert took == sent


# Tables


def test_call_tables() -> None:
    """No two calls with one number; names that a script may use. (Fails with two numbers exchanged for equal ones.)"""
    for column in (0, 1):
        numbers = [(row[0], row[1])[column] for row in calls._NUMBERS.values()]
        numbers = [number for number in numbers if number >= 0]
        assert len(numbers) == len(set(numbers))
    headers = helpers.run(["cc", "-E", "-dM", "-include", "sys/syscall.h", "-x", "c", "/dev/null"])
    if headers.returncode:
        pytest.skip("no headers of the C library")
    known = dict(line.split()[1:3] for line in headers.stdout.splitlines() if line.startswith("#define __NR_"))
    for number, name in calls.REAL.items():
        assert int(known[f"__NR_{name}"]) == number, name
    assert int(known["__NR_getppid"]) == calls.MARK_NUMBER
    generic = Path("/usr/include/asm-generic/unistd.h")  # what aarch64 has
    if generic.exists():
        table = dict(re.findall(r"#define __NR(?:3264)?_(\w+) (\d+)$", generic.read_text(), re.MULTILINE))
        for name, (_, number, _) in calls._NUMBERS.items():
            assert str(number) == table.get(name, "-1"), name


def test_bytes_in_flight() -> None:
    """Sent, neither taken in nor acknowledged; not: delivered and unread, to another host. (Fails without the peer.)"""
    head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when\n"

    def table(*rows: tuple[str, str, str]) -> str:
        return head + "".join(f"   0: {local} {remote} 01 {queues} 00:00000000\n" for local, remote, queues in rows)

    here, there, far = "0100007F:1F90", "0100007F:C350", "08080808:0050"
    assert calls.in_flight(table((here, there, "0000000C:00000000"), (there, here, "00000000:00000000")))
    assert not calls.in_flight(table((here, there, "0000000C:00000000"), (there, here, "00000000:0000000C")))
    assert not calls.in_flight(table((here, there, "00000000:00000000"), (there, here, "00000000:00000000")))
    assert not calls.in_flight(table((here, far, "0000000C:00000000")))
    assert not calls.in_flight(head)
