"""Runs a program by its profile: one Bench is one world, its server, its clients, and what they answer.

    with Bench(folder, profile, patience=2.0) as bench:
        bench.serve()                                  # started, and ready: seen, never slept for
        a, b = bench.client("A"), bench.client("B")
        answer = bench.ask(a.reserve("3", 2))          # typed when it waits for it; the text between two waits
        first, second = bench.ask_all(a.reserve("3", 1), b.consult("3"))

Nothing here judges. A request without an answer has a reason: it is stuck (everybody sleeps), its client has ended, or
it is late. One thread drives everything, so that a check reads from top to bottom.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectacles.common.errors import SpectaclesError
from spectacles.lab.dossier import profile as words
from spectacles.lab.dossier import tasks
from spectacles.lab.gate.supervisor import Gate
from spectacles.lab.judge.linearizability import Operation
from spectacles.lab.programs.world import Limits, World, WorldError

if TYPE_CHECKING:
    from spectacles.lab.dossier.profile import Profile
    from spectacles.lab.gate.policy import Policy
    from spectacles.lab.programs.world import Program

STEP = 0.001  # seconds between two looks
SETTLED = 0.03  # seconds for which a task that waits for the keyboard has printed nothing: then it has said all
UNCOUNTED = 1000  # seats of what nobody can ask for
MANY = 150  # tasks of a server that nobody has asked anything yet: it forks without end
COMPUTED = 0.7  # seconds of processor time that hardly any start takes
STARTING = 10.0  # seconds that a server may compute before it waits for its first request


class NotReadyError(SpectaclesError):
    """The server did not become ready; the message says what it does instead."""


@dataclass(frozen=True)
class Answer:
    """What became of a request. state: "yes", "no", "left", or why there is no answer that can be read:

    "other" (an answer that no pattern knows), "ended" (its client ended without one), "stuck" (everybody sleeps),
    "late" (none in time), "unsent" (its client never came to ask). call, ret: nanoseconds of time.monotonic_ns();
    what the client did, it did between them.
    """

    state: str
    what: str
    item: str
    seats: int
    left: int | None = None
    text: str = ""  # all that the client printed meanwhile
    call: int = 0
    ret: int = 0
    client: str = ""
    seat: str = ""  # the name of the place that was asked for, where they have names

    @property
    def known(self) -> bool:
        """Whether the server's answer is known."""
        return self.state in ("yes", "no", "left")

    def operation(self, show: int = 0) -> Operation:
        """Return it for a history; without an answer it may or may not have happened."""
        result: int | bool | None = {"yes": True, "no": False, "left": self.left}.get(self.state)
        known = result is not None
        kind: Any = self.what
        name = self.client if known else f"{self.client} {self.call}"
        return Operation(
            name,
            kind,
            show,
            self.seats if self.what == "reserve" else 0,
            result,
            self.call,
            self.ret if known else None,
        )

    def __str__(self) -> str:
        """Say it in French: « A réserve 2 de 3 : accepté »."""
        asked = f"consulte « {self.item} »"
        if self.what == "reserve":
            which = f"la place {self.seat}" if self.seat else f"{self.seats} place(s)"
            asked = f"réserve {which} de « {self.item} »"
        said = {
            "yes": "acceptée",
            "no": "refusée",
            "left": f"{self.left} place(s)",
            "other": f"réponse incomprise (« {last_line(self.text)[:80]} »)",
            "ended": f"le client finit sans réponse (« {last_line(self.text)[:80]} »)",
            "stuck": "aucune réponse, tout dort",
            "late": "aucune réponse à temps",
            "unsent": "le client n'en vient pas à demander",
        }[self.state]
        return f"{self.client} {asked} : {said}"


class Request:
    """One request on its way. Made by Client; driven by Bench."""

    def __init__(
        self,
        client: Client,
        what: str,
        item: str,
        seats: int,
        lines: list[str],
        arguments: Sequence[str] = (),
        seat: str = "",
    ) -> None:
        self.client = client
        self.what = what
        self.item = item
        self.seats = seats
        self.seat = seat
        self.arguments = arguments
        self.answer: Answer | None = None
        self.call = 0
        self.lines = lines
        self._typed = False
        self._from = 0
        self._waiting_since = 0.0
        self._size = -1

    @property
    def done(self) -> bool:
        """Whether it has an answer, or never will have one."""
        return self.answer is not None

    @property
    def sent(self) -> bool:
        """Whether all has been typed that makes the client ask."""
        return self._typed and not self.lines

    def step(self) -> None:
        """Look at the client, and type the next line if it waits for it."""
        if self.answer is not None:
            return
        client = self.client
        if not self.call:
            self._begin()
        if self.done:
            return
        if client.program is None:
            return
        if client.program.code is not None:
            with contextlib.suppress(WorldError):
                client.program.wait(0.5)
            self._finish("ended")
            return
        waiting = client.waits_to_read()
        if waiting is None:
            self._waiting_since = 0.0
            return
        if self.lines or client.pending:
            if client.pending:
                client.type(client.pending.pop(0), waiting)
                if not client.pending:
                    self._from = client.printed()
                return
            if not self._typed:
                self._from = client.printed()
                self.call = time.monotonic_ns()
                self._typed = True
            client.type(self.lines.pop(0), waiting)
            return
        now = time.monotonic()
        size = client.printed()
        if not self._waiting_since or size != self._size:
            self._waiting_since, self._size = now, size
        if self._read("") is not None or now - self._waiting_since > client.bench.grace:
            self._finish("other")

    def _begin(self) -> None:
        client = self.client
        self.call = time.monotonic_ns()
        self._size = -1
        style = client.bench.profile.style
        self._from = client.printed() if client.bench.profile.answers_file or style == "menu" else 0
        if style == "arguments":
            client.start(self.lines)
            self.lines, self._typed = [], True
        elif style == "once" or client.program is None:
            if client.program is not None and client.program.code is None:
                client.kill()  # it came to no end: the next request is another run
                client.bench.until(lambda: client.program is None or client.program.code is not None)
            client.start(self.arguments)
            self._typed = bool(self.arguments) and not self.lines
        elif client.program.code is not None:
            self._finish("unsent")

    def text(self) -> str:
        """Return what the client has printed since the request began."""
        return self.client.text(self._from)

    def _read(self, otherwise: str) -> Answer | None:
        """Return what the text says, by the patterns."""
        text = self.text()
        profile = self.client.bench.profile
        left: int | None = None
        state = otherwise
        if self.what == "consult" and profile.counts:
            found = words.pattern(profile.left, self.item).search(text)
            if found:
                left = self._left(found[1])
                state = "left" if left is not None else state
        elif profile.no and words.pattern(profile.no).search(text):
            state = "no"
        elif profile.yes and words.pattern(profile.yes).search(text):
            state = "yes"
        if not state:
            return None
        if self.what == "consult" and state in ("yes", "no"):  # nobody can ask: it is served, that is all one knows
            state, left = "left", self.client.bench.unsold(self.item)
        return Answer(
            state,
            self.what,
            self.item,
            self.seats,
            left,
            text,
            self.call,
            time.monotonic_ns(),
            self.client.name,
            self.seat,
        )

    def _left(self, said: str) -> int | None:
        """Return the places that are left: a number, or what is counted in a map."""
        profile = self.client.bench.profile
        if profile.free:
            return len(words.pattern(profile.free, self.item).findall(said))
        if profile.sold:
            all_of_it = next((item.seats for item in profile.items if item.typed == self.item), None)
            return None if all_of_it is None else all_of_it - len(words.pattern(profile.sold, self.item).findall(said))
        return int(said) if re.fullmatch(r"\s*[-+]?\d+\s*", said) else None

    def _finish(self, otherwise: str) -> None:
        self.answer = self._read(otherwise)
        if self.answer is not None and (self.what, self.answer.state) == ("reserve", "yes"):
            self.client.bench.granted[self.item] = self.client.bench.granted.get(self.item, 0) + self.seats

    def give_up(self, why: str) -> Answer:
        """End it without an answer, unless one has come."""
        if self.answer is None:
            self._finish(why)
        assert self.answer is not None
        return self.answer


class Client:
    """A client of the program, in a terminal of its own. Made by Bench.client()."""

    def __init__(self, bench: Bench, name: str, gated: bool = False, pid: int | None = None) -> None:
        self.bench = bench
        self.name = name
        self.pid = pid  # the one that it shall have in its world
        self.program: Program | None = None
        self.pending: list[str] = []  # lines still to be typed before it is at its menu
        self._gated = gated
        self._typed: dict[int, int] = {}  # TID that was last seen waiting -> how often it had run
        self._runs = 0
        self._answers_at = 0

    def consult(self, item: str) -> Request:
        """Return the request: how many seats are left?"""
        return self._request("consult", item, 0)

    def reserve(self, item: str, seats: int | str, seat: str = "") -> Request:
        """Return the request for seats. seat: the name of the place, where they have names; else one that is free."""
        return self._request("reserve", item, seats, seat)

    def _request(self, what: str, item: str, seats: int | str, seat: str = "") -> Request:
        profile = self.bench.profile
        asks = what == "consult" and profile.counts
        template, more = (profile.consult, profile.consult_words) if asks else (profile.reserve, profile.reserve_words)
        if profile.named and not asks:
            seat = seat or self.bench.seat()
        values = {
            "item": item,
            "seats": seats if asks or seats != 0 or what == "reserve" else 1,
            "seat": seat,
            **self.values(),
        }
        values |= {f"seat{number}": word for number, word in enumerate(seat.split(), 1)}
        lines, arguments = words.fill(template, **values), words.fill(more, **values)
        return Request(self, what, item, seats if isinstance(seats, int) else 0, lines, arguments, seat)

    def values(self) -> dict[str, object]:
        """Return what stands for {client}, {run}, {pid} and {dir}."""
        server = self.bench.server
        return {
            "client": self.name,
            "run": self.bench.runs,
            "pid": server.inside if server else 0,
            "dir": self.bench.world.inside,
        }

    def start(self, arguments: Sequence[str] = ()) -> Program:
        """Start it. arguments: added to its command. Raises WorldError, GateError.

        Where only so many clients may be there at a time, those that have been there longest leave first.
        """
        profile = self.bench.profile
        self.bench.make_place()
        self.bench.runs += 1
        command = [*words.fill(profile.client, **self.values()), *arguments]
        self._runs += 1
        name = self.name if self._runs == 1 else f"{self.name}{self._runs}"
        options: dict[str, Any] = {"env": profile.client_env, "cwd": profile.client_folder}
        if self.pid is not None:
            options["pid"] = self.pid
        gate = self.bench.gate
        if gate is not None and (self._gated or self.bench.everyone):
            while name in gate.tasks:
                self._runs += 1
                name = f"{self.name}{self._runs}"
            self.program = gate.start(name, command, **options)
        else:
            self.program = self.bench.world.start(command, **options)
        self.pending = words.fill(profile.login, **self.values())
        self._typed = {}
        return self.program

    def printed(self) -> int:
        """Return how much there is of its answers, to be given to text()."""
        if self.bench.profile.answers_file:
            return len(self._file())
        return len(self.program.output()) if self.program is not None else 0

    def text(self, start: int = 0) -> str:
        """Return its answers from there on."""
        if self.bench.profile.answers_file:
            return self._file()[start:]
        return self.program.output()[start:].replace("\r", "") if self.program is not None else ""

    def _file(self) -> str:
        try:
            path = self.bench.world.folder / self.bench.profile.answers_file
            return path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def doing(self) -> list[tasks.Doing]:
        """Return what its tasks do."""
        return tasks.look(self.program.tree()) if self.program is not None else []

    def waits_to_read(self) -> tasks.Doing | None:
        """Return the task that waits for a line that was not typed yet, None if none does."""
        if self.program is None or self.program.code is not None:
            return None
        for doing in self.doing():
            if doing.reads_terminal and self._typed.get(doing.tid) != doing.switches:
                return doing
        return None

    def rests(self) -> bool:
        """Whether it waits for a line that was not typed yet, or has ended: nothing more is to be expected of it."""
        ended = self.program is not None and self.program.code is not None
        return ended or self.waits_to_read() is not None

    def type(self, line: str, waiting: tasks.Doing | None = None) -> None:
        """Type a line. waiting: the task that has been seen to wait for it."""
        assert self.program is not None
        if waiting is not None:
            self._typed[waiting.tid] = waiting.switches
        reads = self.bench.profile.reads
        if reads and "{read}" in line and self.program is not None:
            told = words.pattern(reads).findall(self.program.output())
            line = line.replace("{read}", told[-1] if told else "")
        with contextlib.suppress(WorldError):  # it has just ended: seen at the next look
            self.program.type(line)

    def quit(self) -> None:
        """Ask it to leave, as a person does; it is not waited for."""
        if self.program is not None and self.program.code is None:
            for line in self.bench.profile.quit:
                self.type(line)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to it and its children."""
        if self.program is not None:
            self.program.signal(number)


@dataclass
class Bench:
    """One world with one program in it. A context manager.

    folder: as built; copied afresh. patience: seconds after which an answer is late: a multiple of what a sound program
    took on this machine. policy: puts a gate in the world that obeys it; those started with gated=True are under it.
    """

    folder: Path
    profile: Profile
    patience: float = 5.0
    policy: Policy | None = None
    gated: bool = False
    limits: Limits | None = None
    gate_options: dict[str, Any] = field(default_factory=dict)
    private: bool | None = None
    everyone: bool = False  # whether all that is started goes under the gate, to be recorded

    def __post_init__(self) -> None:
        self.server: Program | None = None
        self.clients: list[Client] = []
        self.gate: Gate | None = None
        self.log: list[str] = []  # what was done and answered, in French: the beginning of a timeline
        self.lasting: set[str] = set()  # tasks under the gate that there were when the server became ready
        self.started = 0.0  # seconds that the server took to be ready
        self.polled = False  # whether one was taken for ready though it never slept
        self._undo = contextlib.ExitStack()
        self._quiet: dict[int, int] = {}
        self._quiet_since = 0.0
        self._servers = 0
        self._seats = 0  # that have been named
        self.runs = 0  # of clients
        self.granted: dict[str, int] = {}  # item -> seats that were acknowledged in this world

    def __enter__(self) -> Bench:
        """Make the world. Raises WorldError, GateError."""
        with contextlib.ExitStack() as undo:
            limits = self.limits or Limits(seconds=120.0, processes=512)
            self.world = undo.enter_context(World(self.folder, limits=limits, private=self.private))
            if self.gated or self.policy is not None:
                self.gate = undo.enter_context(Gate(self.world, self.policy, **self.gate_options))
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """End everything in the world."""
        self._undo.close()

    @property
    def grace(self) -> float:
        """Seconds that an answer gets to appear once its client waits for the next line."""
        return min(max(self.patience / 4, self.profile.slow), 3.0) if not self.profile.slow else self.patience

    # The server

    def serve(self, *, gated: bool | None = None, wait: bool = True, **options: Any) -> Program:
        """Start the server and return it once it is ready. Raises NotReadyError, WorldError.

        gated: under the gate (where there is one). options: of World.start().
        """
        profile = self.profile
        command = words.fill(profile.server, dir=self.world.inside)
        begun = time.monotonic()
        self._servers += 1
        name = "server" if self._servers == 1 else f"server-{self._servers}"
        options = {"env": profile.server_env, "cwd": profile.server_folder, **options}
        if self.gate is not None and (gated is not False or self.everyone):
            program = self.gate.start(name, command, **options)
        else:
            program = self.world.start(command, **options)
        self.server = program
        if wait:
            self.wait_ready(program)
            self.started = time.monotonic() - begun
        if self.gate is not None:
            self.lasting = set(self.gate.tasks)
        return program

    def wait_ready(self, program: Program, *, lines: Sequence[str] | None = None, until: float | None = None) -> None:
        """Block until a server waits for requests, typing its first lines when it asks. Raises NotReadyError.

        Ready: all its tasks are asleep, and one of them in a call that brings requests. One that never sleeps is
        taken for ready once it has computed for longer than any start takes, or wakes by the clock only: there is
        nothing better to be seen. How long it has been there says nothing where it has to share a processor.
        """
        todo = list(self.profile.server_lines if lines is None else lines)
        begun = time.monotonic()
        soon, late = (until, until) if until else (max(self.patience, 2.0), max(4 * self.patience, STARTING))
        typed: dict[int, int] = {}
        seen: dict[int, int] = {}
        now: dict[int, int] = {}
        unasked = (
            0.0  # since when it has waited for requests, and not for the lines that it asked for at its first start
        )
        while True:
            if program.code is not None or program.failed:
                with contextlib.suppress(WorldError):
                    program.wait(0.5)
                raise NotReadyError(f"le serveur finit aussitôt ({ending(program)}) : {last_line(program.output())}")
            doing = tasks.look(program.tree())
            if len(doing) > MANY:
                raise NotReadyError(f"le serveur crée des processus ou des threads sans fin : déjà {len(doing)}")
            reader = next((one for one in doing if one.reads_terminal and typed.get(one.tid) != one.switches), None)
            if reader is not None and todo:
                typed[reader.tid] = reader.switches
                program.type(todo.pop(0))
            last, now = now, {one.tid: one.switches for one in doing}
            if todo and reader is None and any(one.serves for one in doing) and now == last:
                unasked = unasked or time.monotonic()
                if time.monotonic() - unasked > self.patience / 4:
                    todo.clear()
            else:
                unasked = 0.0
            if (
                doing
                and not todo
                and all(one.asleep for one in doing)
                and any(one.serves for one in doing)
                and self._free()
            ):
                if now == seen:
                    return
                seen = now
            else:
                seen = {}
            passed = time.monotonic() - begun
            asks = passed > soon and bool(doing) and not todo and self._busy(doing, last)
            if asks and self._channel_there(program) and (passed > late or self.polls(doing)):
                self.polled = True
                return
            if passed > late or (passed > soon and self._free() and not self._busy(doing, last)):
                raise NotReadyError(f"le serveur n'attend aucune requête : {describe(doing)}")
            time.sleep(STEP if now != seen else 2 * STEP)

    def _channel_there(self, program: Program) -> bool:
        """Say whether a server has made what the profile says that it is spoken to by; True where it does not say."""
        channel = self.profile.channel
        if channel.kind == "queue":
            return any(kind == "queue" for kind, _ in iter(self.world.keys()))
        if channel.kind == "fifo":
            return any(os.path.lexists(self.world.folder / name) for name in channel.names)
        if channel.kind in ("tcp", "unix"):
            names = {"tcp": ("tcp", "tcp6"), "unix": ("unix",)}[channel.kind]
            lines = [line for name in names for line in _table(program.pid, name)]
            if channel.kind == "tcp":
                return any(line.split()[3] == "0A" for line in lines)
            return any(line.endswith(tuple(channel.names)) for line in lines)
        return True

    def _free(self) -> bool:
        """Say whether the gate holds nobody: who is held looks asleep."""
        return self.gate is None or (self.gate.at_rest() and not self.gate.held())

    def polls(self, doing: Sequence[tasks.Doing]) -> bool:
        """Say whether tasks that do not sleep for good ask again and again, and are not just starting."""
        if tasks.processor({one.pid for one in doing}) > COMPUTED:
            return True
        return self._free() and all(one.asleep for one in doing) and any(one.timed for one in doing)

    @staticmethod
    def _busy(doing: Sequence[tasks.Doing], last: dict[int, int]) -> bool:
        """Say whether a task computes, wakes by the clock, or has run since the last look."""
        return any(one.state == "R" or one.timed or last.get(one.tid, one.switches) != one.switches for one in doing)

    def stop(self, program: Program | None = None) -> None:
        """Ask a server to stop in the way of the profile; it is not waited for, but its lines are typed."""
        program = program or self.server
        assert program is not None
        if self.profile.stop == "ctrl-c":
            program.send(b"\x03")
        elif self.profile.stop == "term":
            program.signal(signal.SIGTERM)
        deadline = time.monotonic() + self.patience
        for line in self.profile.stop_lines:
            while program.code is None and time.monotonic() < deadline:
                if any(one.reads_terminal for one in tasks.look(program.tree())):
                    program.type(line)
                    break
                time.sleep(STEP)

    def kill_server(self) -> None:
        """Kill the server, children included, as kill -9 of all its processes does, and wait until it is gone."""
        program = self.server
        assert program is not None
        pids = {program.pid, *program.tree(), *self._strays()}
        for pid in pids:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        self.until(lambda: program.code is not None and not alive(pids), self.patience)

    def _strays(self) -> set[int]:
        """Return processes of the world that belong to no client: what a server has left behind a dead parent."""
        own = {pid for client in self.clients if client.program is not None for pid in client.program.tree()}
        return set(self.world.tree()) - own if self.world.private else set()

    @property
    def serving(self) -> Program:
        """The server that was started last. Raises NotReadyError before there is one."""
        if self.server is None:
            raise NotReadyError("aucun serveur n'est lancé")
        return self.server

    def ended(self, program: Program) -> bool:
        """Say whether a program has ended; then all that it has printed has been read."""
        with contextlib.suppress(WorldError):
            program.wait(0.0 if program.code is None else 0.5)
        return program.code is not None

    def server_tasks(self) -> list[tasks.Doing]:
        """Return what the tasks of the server do, also of children that have outlived it."""
        assert self.server is not None
        return tasks.look({*self.server.tree(), *self._strays()})

    # Clients

    def client(self, name: str, *, gated: bool = False, pid: int | None = None) -> Client:
        """Return a new client; it is started by its first request, or by Client.start().

        gated: under the gate. pid: the one that it shall have in its world (private worlds only).
        """
        made = Client(self, name, gated, pid)
        self.clients.append(made)
        return made

    def seat(self) -> str:
        """Return the name of a place that nobody here was given to ask for; after the last one, the first again."""
        places = self.profile.places
        self._seats += 1
        return places[(self._seats - 1) % len(places)] if places else ""

    def unsold(self, item: str) -> int:
        """Return how many seats are left by what was acknowledged, where nobody can ask."""
        all_of_it = next((one.seats for one in self.profile.items if one.typed == item), None)
        return (UNCOUNTED if all_of_it is None else all_of_it) - self.granted.get(item, 0)

    def make_place(self) -> None:
        """Have the oldest clients leave, where the profile limits how many there may be, until there is place."""
        if not self.profile.clients:
            return
        here = [one for one in self.clients if one.program is not None and one.program.code is None]
        for one in here[: max(len(here) - self.profile.clients + 1, 0)]:
            one.quit()
            gone = bool(self.profile.quit) and self.until(lambda: one.program is None or one.program.code is not None)  # noqa: B023
            if not gone:
                one.kill()
                self.until(lambda: one.program is None or one.program.code is not None)  # noqa: B023
            one.program = None  # it is started again when it is to ask again

    def ask(self, request: Request, timeout: float | None = None) -> Answer:
        """Drive one request to its end and return the answer. Blocks, for the patience at most."""
        return self.ask_all(request, timeout=timeout)[0]

    def ask_all(self, *requests: Request, timeout: float | None = None) -> list[Answer]:
        """Drive several requests at the same time to their ends."""
        self.drive(*requests, timeout=timeout)
        return [self.note(request.give_up(self._why(request))) for request in requests]

    def drive(
        self,
        *requests: Request,
        timeout: float | None = None,
        until: Callable[[], bool] | None = None,
    ) -> bool:
        """Drive requests until all are done, `until` is true, everybody is stuck, or time is up. Say whether done.

        Time is what an answer may take; a client that is still starting, on a busy machine, has three times as much.
        """
        limit = self.patience + self.profile.slow if timeout is None else timeout
        deadline = time.monotonic() + limit
        self._quiet_since = 0.0
        while True:
            for request in requests:
                request.step()
            if all(request.done for request in requests):
                return True
            if until is not None and until():
                return False
            slow = until is None and any(not (request.done or request.sent) for request in requests)
            if time.monotonic() > deadline + (2 * limit if slow else 0.0) or (until is None and self.stuck(requests)):
                return False
            time.sleep(STEP)

    def note(self, answer: Answer) -> Answer:
        """Keep an answer for the timeline."""
        self.log.append(str(answer))
        return answer

    def _why(self, request: Request) -> str:
        if request.client.program is None or not request.sent:
            return "unsent"
        return "stuck" if self.stuck() else "late"  # a moment's sleep at the end of a long wait is not that

    # Rest

    def stuck(self, requests: Sequence[Request] = ()) -> bool:
        """Say whether all tasks of the world sleep, none of them by the clock, and have not run for a while.

        Whoever waits for the keyboard waits for us: then nothing is stuck while there is something to type. Whoever
        waits for the gate's decision looks asleep, and on a busy machine may wait long.
        """
        del requests
        return self.quiet_for > max(self.patience / 2, 0.5) and (self.gate is None or self.gate.at_rest())

    @property
    def quiet_for(self) -> float:
        """Seconds for which no task of the world has run; 0 while one runs, or will wake by itself."""
        if not self.world.private:
            return 0.0
        doing = tasks.look(self.world.tree())
        now = {one.tid: one.switches for one in doing}
        if any(not one.asleep or one.timed for one in doing) or now != self._quiet:
            self._quiet, self._quiet_since = now, 0.0
            if any(not one.asleep or one.timed for one in doing):
                return 0.0
        if not self._quiet_since:
            self._quiet_since = time.monotonic()
        return max(time.monotonic() - self._quiet_since, 1e-9)

    def until(self, true: Callable[[], bool], timeout: float | None = None) -> bool:
        """Block until a condition holds, and return it. timeout: the patience if None."""
        deadline = time.monotonic() + (self.patience if timeout is None else timeout)
        while not true():
            if time.monotonic() > deadline:
                return true()
            time.sleep(STEP)
        return True

    def settle(self, timeout: float | None = None) -> bool:
        """Block until no task has run for a few looks, or time is up; say whether it came to that."""
        self._quiet_since = 0.0
        return self.until(lambda: self.quiet_for > 0.01, timeout)


# What people read


def _table(pid: int, name: str) -> list[str]:
    """Return the lines of a table of sockets, as a process sees it."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]
    return []


def alive(pids: set[int]) -> set[int]:
    """Return those that live: neither gone nor zombies."""
    found = set()
    for pid in pids:
        with contextlib.suppress(OSError, IndexError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX":
                found.add(pid)
    return found


def ending(program: Program) -> str:
    """Say how a program has ended, in French."""
    if program.code is None:
        return "il vit encore"
    if program.code < 0:
        try:
            return f"tué par {signal.Signals(-program.code).name}"
        except ValueError:
            return f"tué par le signal {-program.code}"
    return f"code de sortie {program.code}"


def last_line(text: str) -> str:
    """Return the last line that says something."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "il n'a rien dit")


_WAITING = {
    "receive": "attend un message",
    "send": "attend de la place dans la file",
    "read": "attend de quoi lire",
    "write": "attend de pouvoir écrire",
    "open": "attend l'autre bout d'un tube",
    "accept": "attend une connexion",
    "connect": "attend d'être connecté",
    "semaphore": "attend un sémaphore",
    "lock": "attend un verrou",
    "condition": "attend une condition",
    "memory": "attend un verrou",
    "join": "attend la fin d'un thread",
    "child": "attend la fin d'un fils",
    "sleep": "dort",
    "signal": "attend un signal",
    "event": "attend un événement",
    "disk": "attend le disque",
}


def describe(doing: Sequence[tasks.Doing]) -> str:
    """Say what tasks do, in French, alike ones once."""
    said: list[str] = []
    for one in doing:
        if one.reads_terminal:
            text = "attend le clavier"
        elif one.waits:
            text = f"{_WAITING.get(one.waits[0].kind, 'attend')} ({one.call})"
        elif one.state == "R":
            text = "calcule"
        elif one.state == "T":
            text = "suspendu"
        elif one.state in "ZX":
            text = "fini"
        else:
            text = f"dans {one.call}" if one.call else "calcule"
        if text not in said:
            said.append(text)
    return ", ".join(said) or "il n'y a plus personne"
