"""The control run: the sound reference, on this machine, just before. Deadlines are multiples of what it took."""

from __future__ import annotations

import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from spectacles.common.errors import SpectaclesError
from spectacles.lab.dossier.driving import Bench
from spectacles.lab.dossier.profile import Item, Profile
from spectacles.lab.programs import reference

TIMES = 40  # an answer is late after so many times what the reference took for one
OWN = 10  # or after so many times what the program itself took, when nothing was done to it
LONGEST = 20.0  # seconds at most for that: one line in the learning may have met a busy moment
LEAST = 1.0  # seconds: below that the clock of the machine's scheduler is what is measured
MOST = 2.0  # seconds for one answer of the reference: then the machine is too busy to judge anybody
QUESTIONS = {"fifo": 1, "queue": 3, "tcp": 5}
_NAMES = ("q1_pipes", "q2_msq", "q3_threads", "q4_thread_per_request", "q5_sockets")

_lock = threading.Lock()
_built: dict[int, Path] = {}
_folders: list[tempfile.TemporaryDirectory[str]] = []


@dataclass(frozen=True)
class Control:
    """What the reference took, in seconds: to be ready, and for one request with its client's start and end."""

    start: float
    answer: float
    pace: float = 0.0  # what the program itself took for one line when it was learnt
    times: float = 1.0  # how much more than usual is allowed

    @property
    def patience(self) -> float:
        """Seconds after which an answer is late."""
        return self.times * max(LEAST, TIMES * self.answer, min(OWN * self.pace, LONGEST))

    @property
    def busy(self) -> bool:
        """Whether this machine is too busy to judge anybody."""
        return self.answer > MOST


def measure(kind: str = "") -> Control:
    """Run the reference whose channel is of that kind, and return what it took. Blocks for a second or less.

    Raises SpectaclesError when it cannot be run: then nobody can be judged here.
    """
    question = QUESTIONS.get(kind, 3)
    client = "q2_client" if question == 3 else f"q{question}_client"
    profile = Profile(
        name="référence",
        server=(f"./q{question}_server", "--quiet"),
        client=(f"./{client}",),
        style="arguments",
        consult=("consult", "{item}"),
        reserve=("reserve", "{item}", "{seats}"),
        left=r'"places":(-?\d+)',
        yes='"ack":true',
        no='"ack":false',
        items=(Item("1", 300),),
    )
    longest = 0.0
    with Bench(_reference(question), profile, patience=20.0) as bench:
        bench.serve()
        for number in range(3):
            begun = time.monotonic()
            asker = bench.client(f"C{number}")
            answer = bench.ask(asker.reserve("1", 1) if number else asker.consult("1"))
            longest = max(longest, time.monotonic() - begun)
            if not answer.known:
                raise SpectaclesError(f"la référence elle-même ne répond pas sur cette machine : {answer}")
        return Control(bench.started, longest)


def _reference(question: int) -> Path:
    """Return a folder with the C reference of a question, compiled once in the life of this process."""
    with _lock:
        if question not in _built:
            folder = tempfile.TemporaryDirectory(prefix="spectacles-reference-")
            _folders.append(folder)
            Path(folder.name).chmod(0o755)
            _built[question] = reference.build(folder.name, [_NAMES[question - 1]])
        return _built[question]
