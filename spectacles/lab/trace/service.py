"""One of our servers, or the C one, with scripted clients: the menu of our own client, typed line by line."""

from __future__ import annotations

import contextlib
import re
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from spectacles.common import catalogue
from spectacles.common.errors import SpectaclesError
from spectacles.lab.gate.script import Script
from spectacles.lab.gate.supervisor import Gate
from spectacles.lab.kernel.machine import machine
from spectacles.lab.programs.questions import Question
from spectacles.lab.programs.world import Program, World
from spectacles.lab.record import sources, store
from spectacles.lab.trace import readiness

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spectacles.lab.gate.policy import Policy
    from spectacles.lab.trace.scenario import Request

SERVER = "serveur"
INTERRUPTED = "interrompu"  # by Ctrl-C: why a record is not the whole of it
STARTING = 20.0  # seconds until the server waits for requests
ANSWERING = 20.0  # seconds for an answer
LOCKLESS = "spectacles.lab.programs.lockless"
CHOICE = "Votre choix : "
LOST = "Se reconnecter"
# Both threads look at the seats before either takes any: what chance does once in a while.
RACE = f"hold {SERVER}.1.1 before sleep\nhold {SERVER}.1.2 before sleep\nlet all go"  # threads of the receiver


def record(
    question: str,
    groups: Sequence[Sequence[Request]],
    *,
    in_c: bool = False,
    broken: bool = False,
    accesses: bool = False,
    private: bool | None = None,
    path: str | None = None,
) -> tuple[store.Record, str]:
    """Run the scenario and return what was recorded, and why it is not the whole of it, "" if it is.

    Blocks, some seconds. Raises SpectaclesError when there is nothing to show. A KeyboardInterrupt once the server is
    ready ends the scenario and not the recording: the reason is INTERRUPTED. path: of the record's file or None.
    in_c: the server of the C reference. broken: question 4 without its lock, and its two first requests made to meet.
    """
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="spectacles-trace-"))
        Path(folder).chmod(0o755)
        served = Question(question, in_c)
        served.prepare(folder, catalogue.load(catalogue.default_path(folder)))
        asked = Question(question)  # the clients are ours in any case
        world = stack.enter_context(World(folder, env=asked.env, private=private))
        own_port = question == "q5_sockets" and not world.private and not in_c
        command = [*served.server(LOCKLESS if broken else ""), *(["--port", "0"] if own_port else [])]
        title = f"question {question[1]} : {question}" + (", référence en C" if in_c else "")
        title += ", sans son verrou" if broken else ""
        about = store.head({SERVER: command}, machine(folder), title=title, service=[SERVER])
        recorder = stack.enter_context(store.Recorder(about, path))
        policy: Policy | None = Script(RACE, patience=STARTING + ANSWERING) if broken else None
        gate = stack.enter_context(Gate(world, policy, accesses=accesses, sink=recorder.sink))
        server = gate.start(SERVER, command)
        readiness.await_server(world, server, STARTING)
        recorder.ready()
        clients = _Clients(gate, [*asked.client(), *_port(question, server, world.private)])
        remark = ""
        try:
            for group in groups:
                clients.ask(group)
        except SpectaclesError as error:
            remark = str(error)
        except KeyboardInterrupt:
            remark = INTERRUPTED
        recorder.over()
        recorder.places(sources.places(recorder.record.events, [folder]))
        return recorder.record, remark


def _port(question: str, server: Program, private: bool) -> list[str]:
    if question != "q5_sockets" or private:
        return []
    found = re.search(r"port (?:\S*:)?(\d+)\b", server.output())
    return ["--port", found[1]] if found else []


class _Clients:
    """Each is one process, which asks by its menu what it is told to, as a person would."""

    def __init__(self, gate: Gate, command: Sequence[str]) -> None:
        self._gate = gate
        self._command = command
        self._programs: dict[str, Program] = {}
        self._seen: dict[tuple[str, str], int] = {}  # how often a client has already asked that

    def ask(self, group: Sequence[Request]) -> None:
        """Have requests made at the same time; return once all are answered, or never will be."""
        for request in group:
            if request.client not in self._programs:
                self._programs[request.client] = self._gate.start(request.client, self._command)
        lasts = []
        for request in group:
            *first, last = _typed(request)
            for prompt, text in first:
                self._answer(request, prompt, text)
            self._await(request, last[0])
            lasts.append((request, last[1]))
        for request, text in lasts:  # only now is anything sent
            self._programs[request.client].type(text)
        for request in group:
            self._await(request, CHOICE, keep=True)

    def _answer(self, request: Request, prompt: str, text: str) -> None:
        self._await(request, prompt)
        self._programs[request.client].type(text)

    def _await(self, request: Request, prompt: str, *, keep: bool = False) -> None:
        """Wait until the client asks `prompt` once more. keep: it will be waited for again."""
        program = self._programs[request.client]
        known = self._seen.get((request.client, prompt), 0)
        deadline = time.monotonic() + ANSWERING
        while program.output().count(prompt) <= known:
            if program.code is not None or LOST in program.output() or time.monotonic() > deadline:
                said = [line for line in program.output().splitlines() if line.strip() and LOST not in line]
                raise SpectaclesError(f"« {request.text} » : {said[-1].strip() if said else 'pas de réponse'}")
            time.sleep(0.005)
        if not keep:
            self._seen[request.client, prompt] = known + 1


def _typed(request: Request) -> list[tuple[str, str]]:
    """Return what the menu asks, and what to type."""
    if request.verb == "reserve":
        show, seats = request.numbers
        asked = (("Numéro du spectacle à réserver : ", str(show)), ("Nombre de places à réserver : ", str(seats)))
        return [(CHOICE, "2"), *asked]
    if request.question == "q1_pipes":
        return [(CHOICE, "1"), ("Numéro du spectacle à consulter : ", str(request.numbers[0]))]
    return [(CHOICE, "1")]
