"""A real server driven against a model: hypothesis chooses what happens, the model says what must come out."""

from __future__ import annotations

import shutil
import struct
import tempfile
from pathlib import Path
from typing import ClassVar

import hypothesis
import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from spectacles.common.errors import NoServerError
from spectacles.common.spectacle import MAX_SPECTACLE, RECORD_SIZE
from spectacles.lab.programs.process import ServerProcess
from spectacles.q1_pipes.channel import LAST_PROBE
from tests import helpers
from tests.fault import campaign
from tests.fault.client_loop import C, Order, Python
from tests.fault.ledger import Ledger

ANY_INT = st.integers(-(2**31), 2**31 - 1)
SLOT = st.one_of(st.integers(0, 9), st.integers(-2, 12), ANY_INT)
SEATS = st.one_of(st.integers(1, 12), st.integers(-2, 60), ANY_INT)
PLACES = st.lists(st.integers(0, 50) | st.just(2**31 - 1), min_size=1, max_size=10)


class BoxOffice(RuleBasedStateMachine):
    """One server, one client in each language, and what the server ought to know."""

    question: ClassVar[str]
    c_programs: ClassVar[str | None]
    ledger: ClassVar[Ledger]

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="spectacles-"))
        helpers.register_directory(self.directory)
        self.names = campaign.names_of(self.question)
        self.server: ServerProcess | None = None
        self.clients: list[Python | C] = []
        self.model: dict[int, int] = {}

    @initialize(places=PLACES)
    def open_the_box_office(self, places: list[int]) -> None:
        """Start on a table of any size, sold out shows and a huge one included."""
        campaign.write_table(self.directory, places)
        path = self.directory / "spectacles.dat"
        table = bytearray(path.read_bytes())
        for slot in range(len(places), MAX_SPECTACLE):
            struct.pack_into("<i", table, slot * RECORD_SIZE + RECORD_SIZE - 4, 7)  # an empty slot may hold anything
        path.write_bytes(table)
        self.model = dict(enumerate(places))
        self.start()

    def start(self) -> None:
        """Start the server, and its clients with new sessions."""
        server = ServerProcess(self.question, self.directory, *self.names, "--log-level", "warning")
        self.server = server
        server.wait_ready()
        order = Order(self.question, server.client_options(), "", 0, c=self.c_programs, timeout=10.0)
        self.clients = [Python(order)]
        if self.c_programs:
            self.clients.append(C(order))

    def ask(self, which: int, kind: str, show: int, seats: int) -> object:
        """Ask through one of the clients."""
        client = self.clients[which % len(self.clients)]
        try:
            answer = client.ask(kind, show, seats)
        except NoServerError as error:
            raise AssertionError(f"no answer: {error}\n{self.server.output if self.server else ''}") from error
        if self.question == "q1_pipes":
            client.close()
        self.ledger.add("2 model", self.question, requests=1)
        return answer

    @rule(which=st.integers(0, 1), show=SLOT)
    def consult(self, which: int, show: int) -> None:
        """Seats left; -1 for a show that does not exist, but question 1 gives far lower numbers back (LAST_PROBE)."""
        answer = self.ask(which, "consult", show, 0)
        if self.question == "q1_pipes" and show <= LAST_PROBE:
            assert answer in (show, -1)  # the C client says what it was told; the Python one takes it for -1
        else:
            assert answer == self.model.get(show, -1)

    @rule(which=st.integers(0, 1), show=SLOT, seats=SEATS)
    def reserve(self, which: int, show: int, seats: int) -> None:
        """Granted exactly if the show exists and 0 < seats <= left."""
        granted = 0 < seats <= self.model.get(show, -1)
        assert self.ask(which, "reserve", show, seats) is granted
        if granted:
            self.model[show] -= seats

    @rule(which=st.integers(0, 1), show=SLOT)
    def sell_out(self, which: int, show: int) -> None:
        """One seat too many is refused, exactly what is left is granted, then nothing is."""
        left = self.model.get(show, 0)
        if left < 2**31 - 1:
            assert self.ask(which, "reserve", show, left + 1) is False
        assert self.ask(which, "reserve", show, left) is (left > 0)
        assert self.ask(which, "reserve", show, 1) is False
        if show in self.model:
            self.model[show] = 0

    @rule(which=st.integers(0, 1))
    def list(self, which: int) -> None:
        """The whole table."""
        assert self.ask(which, "list", 0, 0) == self.model

    @precondition(lambda self: self.server is not None)
    @rule(how=st.sampled_from(["stop", "kill all", "kill the parent"]))
    def restart(self, how: str) -> None:
        """An orderly stop or kill -9: the next server knows the same."""
        assert self.server is not None
        for client in self.clients:
            client.close()
        if how == "stop":
            assert self.server.stop() == 0
        elif how == "kill all":
            campaign.kill_tree(self.server)
        else:
            campaign.kill_parent(self.server)
        self.ledger.add("2 model", self.question, tries=1)
        self.start()

    @invariant()
    def the_file_says_the_same(self) -> None:
        """What was acknowledged is in the file, nothing else is."""
        if self.server is not None:
            assert campaign.read_places(self.directory) == self.model

    def teardown(self) -> None:
        """Stop the server and remove the directory."""
        for client in self.clients:
            client.close()
        if self.server is not None:
            assert self.server.stop() == 0
        shutil.rmtree(self.directory, ignore_errors=True)


def drive(question: str, c_programs: Path, ledger: Ledger, seed: int, examples: int, steps: int) -> None:
    """Run the machine."""

    class Machine(BoxOffice):
        pass

    Machine.question, Machine.c_programs, Machine.ledger = question, str(c_programs), ledger
    run_state_machine_as_test(
        hypothesis.seed(seed)(Machine),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_the_server_behaves_as_the_model(question: str, c_programs: Path, ledger: Ledger, seed: int) -> None:
    """Any sequence of requests, sensible or not, in C and in Python, with stops and kills: every answer is the model's.

    A failure is shrunk and printed as the shortest sequence. (With `<=` for `<` in reserve(), or with an empty slot not
    refused in _places(), it fails within a few steps.)
    """
    drive(question, c_programs, ledger, seed, 3, 10)


@pytest.mark.soak
def test_the_server_behaves_as_the_model_soak(question: str, c_programs: Path, ledger: Ledger, seed: int) -> None:
    """The same, with forty longer sequences."""
    drive(question, c_programs, ledger, seed, 40, 40)
