"""What looks cost those who are looked at.

`make soak SOAK="-s tests/see/test_cost.py"` prints the figures of docs/see.md.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from spectacles.lab.compare.crowd import Crowd
from spectacles.lab.compare.workload import SHOWS, Workload
from spectacles.lab.kernel import proc
from spectacles.lab.programs.process import ServerProcess
from tests import helpers

LOOKS = 10_000
CLIENTS = 4
ROUNDS = 15
LOOK = """if True:
    import contextlib, sys, time
    from spectacles.lab.kernel.looker import Looker
    directory, number, pause = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    with contextlib.closing(Looker(directory=directory)) as looker:
        cost, most, sleep = 0.0, 0, time.sleep
        for _ in range(number):
            picture = looker.look()
            cost += picture.cost
            most = max(most, len(picture.tasks))
            sleep(pause)
    print(cost / number * 1000, most)
"""


def _looker(directory: Path, number: int, pause: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", LOOK, str(directory), str(number), str(pause)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _processor(guichet: ServerProcess) -> float:
    """Return the processor time of the server and of the clients that have ended, in seconds."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.ru_utime + ended.ru_stime + sum(proc.stat_of(f"/proc/{pid}").processor for pid in guichet.tree())


def _round(guichet: ServerProcess, work: Workload, clients: int) -> tuple[float, int, dict[int, int]]:
    """Let clients ask for a while; return microseconds of processor time per request, answers, seats sold by show."""
    before = _processor(guichet)
    with Crowd(guichet, work, clients, 0) as crowd:
        crowd.start()
        crowd.wait()
        notes = crowd.notes()
    assert [note.problem for note in notes if note.problem] == []
    sold: dict[int, int] = {}
    for note in notes:
        for show, seats in note.sold.items():
            sold[show] = sold.get(show, 0) + seats
    number = sum(len(latencies) for note in notes for latencies in note.latencies.values())
    return (_processor(guichet) - before) / number * 1e6, number, sold


@pytest.mark.soak
def test_ten_thousand_looks(server: helpers.Servers, directory: Path, question: str) -> None:
    """As fast as they come, beside clients that ask without a pause: every answer comes, every seat is accounted for.

    And what a request costs server and client together, without looks and with four a second, as `watch` takes them:
    in processor time, round by round, which other programs on the machine change less than the number of answers.
    Printed are the median and the quartiles of the rounds.
    """
    work = Workload(duration=1.0, fsync=False)
    work.fill(directory)
    clients = 1 if question == "q1_pipes" else CLIENTS
    guichet = server(question, "--no-fsync", "--log-level", "warning", directory=directory, names=())
    requests, sold = 0, dict.fromkeys(range(len(SHOWS)), 0)

    def add(result: tuple[float, int, dict[int, int]]) -> float:
        nonlocal requests
        requests += result[1]
        for show, seats in result[2].items():
            sold[show] += seats
        return result[0]

    with _looker(directory, LOOKS, 0.0) as looker:
        while looker.poll() is None:
            add(_round(guichet, work, clients))
        cost, most = looker.communicate()[0].split()
    costs, ratios = [], []
    for _ in range(ROUNDS):
        costs.append(add(_round(guichet, work, clients)))
        with _looker(directory, 1000, 0.25) as looker:
            ratios.append(add(_round(guichet, work, clients)) / costs[-1])
            looker.kill()
    left = {show: helpers.places_in_file(directory, show) for show in sold}
    assert left == {show: SHOWS[show] - seats for show, seats in sold.items()}
    low, middle, high = (f"{(ratio - 1) * 100:+.1f}" for ratio in statistics.quantiles(ratios, n=4))
    print(f"\n{question:<22} {LOOKS} looks of {float(cost):.1f} ms at {most} tasks, {requests} requests, none lost")
    print(f"{'':<22} a request: {statistics.median(costs):.1f} us; beside looks {middle} % ({low} to {high})")
