"""A real client in a process of its own that asks, again and again, and writes down what it asked and what it was told.

    python -m tests.fault.client_loop '{"question": ..., "log": ..., ...}'        (see Order)

The log survives kill -9: one write(2) to an O_APPEND file before each request, one after each answer. A request without
an answer is one whose outcome nobody knows. It ends after its number of requests, or on SIGTERM.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from spectacles.common.errors import NoServerError
from spectacles.lab.judge.linearizability import Operation, split_list
from spectacles.lab.programs.process import TCP


class NotAskedError(NoServerError):
    """There was no server to ask: nothing is in doubt."""


Answer = int | bool | dict[int, int] | None


@dataclass
class Order:
    """What a client is to do.

    question, options: of the server, as its clients take them. log: path. seed: of the choices. count: requests, 0
    without end. c: directory of the C programs, or None; programs: "python", "c" or "both". timeout: seconds for one
    answer. shows, seats: to choose from, for reservations. consults, lists: shares of the requests.
    """

    question: str
    options: list[str]
    log: str
    seed: int
    name: str = "client"
    count: int = 0
    c: str | None = None
    programs: str = "python"
    timeout: float = 1.0
    shows: list[int] = field(default_factory=lambda: list(range(6)))
    seats: list[int] = field(default_factory=lambda: [1, 2, 3])
    consults: float = 0.2
    lists: float = 0.05

    def command(self) -> list[str]:
        """Return the command that obeys this order."""
        return [sys.executable, "-m", "tests.fault.client_loop", json.dumps(asdict(self))]


class Python:
    """The Python client of a question: its session, opened anew whenever it broke."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._channel: Any = None
        self._session: Any = None

    def ask(self, kind: str, show: int, seats: int) -> Answer:
        """Return the answer. Raises NoServerError."""
        try:
            if self._session is None:
                self._open()
        except NoServerError as error:
            raise NotAskedError(str(error)) from None
        try:
            if kind == "list":
                return {slot: known.places for slot, known in self._session.list()}
            answer: Answer = self._session.consult(show) if kind == "consult" else self._session.reserve(show, seats)
            return answer
        except NoServerError:
            self.close()
            raise

    def close(self) -> None:
        """Leave the server."""
        if self._channel is not None:
            self._channel.__exit__(None, None, None)
        self._channel = self._session = None

    def _open(self) -> None:
        from spectacles.common import cli

        question = self._order.question
        arguments = [*self._order.options, "--timeout", str(self._order.timeout), "list"]
        parser = cli.client_parser(question, "", queue=question not in TCP)
        if question == "x3_cluster":
            from spectacles.x3_cluster.client import Session as OfSeveral

            cli.add_connection(parser, several=True)
            self._channel = self._session = OfSeveral(cli.parse_client(parser, arguments))
            return
        if question == "q5_sockets":
            from spectacles.q5_sockets.channel import ClientConnection
            from spectacles.q5_sockets.client import Session as Connected

            cli.add_connection(parser)
            self._channel = ClientConnection(cli.parse_client(parser, arguments))
            self._session = Connected(self._channel)
            return
        options = cli.parse_client(parser, arguments)
        if question == "q1_pipes":
            from spectacles.q1_pipes.channel import ClientPipes
            from spectacles.q1_pipes.client import Session as Piped

            self._channel = ClientPipes(options.dir, options.timeout)
            self._session = Piped(self._channel, options.dir)
        elif question == "x1_sessions":
            from spectacles.x1_sessions.channel import SessionQueue
            from spectacles.x1_sessions.client import Session as Stayed

            self._channel = SessionQueue(options.key, options.timeout)
            self._session = Stayed(self._channel)
        else:
            from spectacles.q2_msq.channel import ClientQueue
            from spectacles.q2_msq.client import Session as Queued

            self._channel = ClientQueue(options.key, options.timeout)
            self._session = Queued(self._channel)


class C:
    """The C client of a question, one process for each request."""

    def __init__(self, order: Order) -> None:
        number = {"q1_pipes": 1, "q5_sockets": 5}.get(order.question, 2)
        self._command = [f"{order.c}/q{number}_client", *order.options, "--timeout", str(order.timeout)]

    def ask(self, kind: str, show: int, seats: int) -> Answer:
        """Return the answer. Raises NoServerError."""
        words = {"list": ["list"], "consult": ["consult", str(show)], "reserve": ["reserve", str(show), str(seats)]}
        done = subprocess.run(
            [*self._command, *words[kind]], capture_output=True, text=True, encoding="utf-8", check=False
        )
        if done.returncode not in (0, 1):
            raise (NotAskedError if "pas de serveur" in done.stderr else NoServerError)(done.stderr)
        said = json.loads(done.stdout)
        if kind == "list":
            return {show["index"]: show["places"] for show in said["shows"]}
        answer: Answer = said["places"] if kind == "consult" else said["ack"]
        return answer

    def close(self) -> None:
        """Nothing is kept open."""


def main() -> None:
    """Obey the order in the first argument."""
    stopping = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))
    order = Order(**json.loads(sys.argv[1]))
    choice = random.Random(order.seed)
    log = os.open(order.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    clients: list[Python | C] = [Python(order)] if order.programs != "c" else []
    if order.programs != "python" and order.c is not None:
        clients.append(C(order))
    life = 0
    number = 0
    while not stopping and (not order.count or number < order.count):
        number += 1
        client = choice.choice(clients)
        draw = choice.random()
        kind = "list" if draw < order.lists else "consult" if draw < order.lists + order.consults else "reserve"
        show = choice.choice(order.shows)
        seats = choice.choice(order.seats) if kind == "reserve" else 0
        asked = {"client": f"{order.name}.{os.getpid()}.{life}", "kind": kind, "show": show, "seats": seats}
        _write(log, {"id": number, **asked, "call": time.monotonic_ns()})
        try:
            answer = client.ask(kind, show, seats)
        except NoServerError as error:
            _write(log, {"id": number, "error": str(error), "asked": not isinstance(error, NotAskedError)})
            life += 1  # what has no answer may still happen later: for the checker, this client is another one now
            time.sleep(0.01)
        else:
            _write(log, {"id": number, "result": answer, "ret": time.monotonic_ns()})
        if order.question == "q1_pipes" and len(clients) > 1:
            client.close()  # one client at a time
    for client in clients:
        client.close()


def _write(log: int, entry: dict[str, Any]) -> None:
    os.write(log, json.dumps(entry).encode() + b"\n")


@dataclass
class Told:
    """What the logs of some clients say.

    operations: all, lists taken apart. acknowledged, doubtful: seats by show, of reservations that were acknowledged,
    and of those without an answer. slowest: seconds that an answered request took. answered, unanswered: requests;
    what found no server to ask is neither. errors: what clients said of requests without an answer.
    """

    operations: list[Operation]
    acknowledged: dict[int, int]
    doubtful: dict[int, int]
    slowest: float
    answered: int
    unanswered: int
    errors: list[str]


def read_logs(paths: list[str], keep: Callable[[str], bool] = lambda kind: True) -> Told:
    """Return what the logs `paths` say; operations only of the kinds that `keep` says."""
    told = Told([], dict.fromkeys(range(10), 0), dict.fromkeys(range(10), 0), 0.0, 0, 0, [])
    for path in paths:
        waiting: dict[int, dict[str, Any]] = {}
        if not os.path.exists(path):
            continue
        with open(path, "rb") as file:
            for line in file.read().split(b"\n")[:-1]:  # without what is being written
                entry = json.loads(line)
                if "call" in entry:
                    waiting[entry["id"]] = entry
                elif "error" in entry:
                    told.errors.append(entry["error"])
                    if not entry["asked"]:
                        del waiting[entry["id"]]
                else:
                    call = waiting.pop(entry["id"])
                    told.answered += 1
                    told.slowest = max(told.slowest, (entry["ret"] - call["call"]) / 1e9)
                    if keep(call["kind"]):
                        told.operations += _operations(call, entry["result"], entry["ret"])
                    if call["kind"] == "reserve" and entry["result"]:
                        told.acknowledged[call["show"]] += call["seats"]
        for call in waiting.values():
            told.unanswered += 1
            if call["kind"] == "reserve":
                told.doubtful[call["show"]] += max(call["seats"], 0)
            if keep(call["kind"]):
                told.operations += _operations(call, None, None)
    return told


def _operations(call: dict[str, Any], result: Any, ret: int | None) -> list[Operation]:
    if call["kind"] == "list":
        if ret is None:
            return []
        return split_list(call["client"], {int(show): seats for show, seats in result.items()}, call["call"], ret)
    return [Operation(call["client"], call["kind"], call["show"], call["seats"], result, call["call"], ret)]


if __name__ == "__main__":
    main()
