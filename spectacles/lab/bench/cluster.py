"""`make bench ARGS=x3`: what a table in etcd costs, and what sharing a transaction gives back.

Three nodes of etcd on this machine, on its disk, and 1 to 4 servers in front of them, loaded by the closed loop of the
C client, which notes every latency. Beside them question 5, on its file, and x3 with a transaction for each
reservation. Every measurement is counted: seats gone from the table are seats acknowledged, or the bench ends.
"""

from __future__ import annotations

import contextlib
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from spectacles.common.errors import SpectaclesError
from spectacles.common.spectacle import unpack_table
from spectacles.lab.bench import parts
from spectacles.lab.display.french import duration, in_words, number
from spectacles.lab.kernel import processes
from spectacles.lab.programs.process import ServerError, ServerProcess
from spectacles.x3_cluster.etcd import DEFAULT_PREFIX, Cluster
from spectacles.x3_cluster.node import etcd_program
from spectacles.x3_cluster.table import open_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from spectacles.lab.display import terminal

NODES = 3
SERVERS = (1, 2, 4)
CLIENTS = (1, 4, 16, 64)
PLACES = 10  # shows; clients are spread over them, unless all want the same
LOAD_TIMEOUT = 30.0  # seconds for a client process beyond its work
START = 20.0  # seconds for three nodes to agree on a leader
SPREAD, ONE, OWN = "", "un seul spectacle", "un spectacle par serveur"  # which shows the clients want
SHARED, ALONE, STALE, FIVE = "x3", "x3, une transaction chacune", "x3 --stale", "q5"


@dataclass(frozen=True)
class Row:
    """One measurement. what: reserve or list. shows: of SPREAD, ONE, OWN. rate: per second. p50, p99: ns."""

    subject: str
    what: str
    shows: str
    servers: int
    clients: int
    rate: float
    p50: float
    p99: float


@dataclass(frozen=True)
class Found:
    """All that the bench has found. memory: kB of VmRSS, of each node and of a server, after the load."""

    rows: list[Row]
    nodes: list[int]
    server: int


@contextlib.contextmanager
def nodes(folder: Path) -> Iterator[tuple[Cluster, list[int]]]:
    """Run NODES nodes of etcd; hand out where they are, and their PIDs. Raises SpectaclesError."""
    program = etcd_program()
    if program is None:
        raise SpectaclesError("etcd n'est pas installé : apt install etcd-server (Debian, Ubuntu)")
    ports = [_free_port() for _ in range(2 * NODES)]
    clients = [f"127.0.0.1:{port}" for port in ports[:NODES]]
    peers = [f"http://127.0.0.1:{port}" for port in ports[NODES:]]
    members = ",".join(f"m{number}={peer}" for number, peer in enumerate(peers))
    with contextlib.ExitStack() as undo:
        pids = []
        for number in range(NODES):
            mine = f"http://{clients[number]}"
            command = [
                *(program, "--name", f"m{number}", "--data-dir", str(folder / f"m{number}")),
                *("--listen-client-urls", mine, "--advertise-client-urls", mine),
                *("--listen-peer-urls", peers[number], "--initial-advertise-peer-urls", peers[number]),
                *("--initial-cluster", members),
            ]
            log = undo.enter_context(open(folder / f"m{number}.log", "wb"))
            running = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
            undo.callback(running.wait)
            undo.callback(running.kill)
            pids.append(running.pid)
        cluster = Cluster(clients, DEFAULT_PREFIX, None)
        deadline = time.monotonic() + START
        while True:
            try:
                _refill(cluster)
                break
            except SpectaclesError:
                if time.monotonic() > deadline:
                    raise
        yield cluster, pids


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _refill(cluster: Cluster) -> None:
    with open_table("", cluster) as table:
        table.rewrite(lambda _: parts.full_table())


def _left(cluster: Cluster) -> int:
    with open_table("", cluster) as table:
        return sum(show.places for _, show in unpack_table(table.snapshot()))


def measure(
    client: Path, seconds: float, rounds: int, interrupts: terminal.Interrupts, say: Callable[[Row], None]
) -> Found:
    """Measure everything and hand each row to `say`: medians of `rounds`. client: the C client. Blocks, minutes.

    Raises SpectaclesError when a client fails, or the seats do not add up.
    """
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="spectacles-bench-") as base, contextlib.ExitStack() as undo:
        folder = Path(base)
        cluster, pids = undo.enter_context(nodes(folder))

        def start(question: str, *options: str, command: Sequence[str] | None = None) -> ServerProcess:
            directory = Path(tempfile.mkdtemp(dir=folder))
            (directory / "spectacles.dat").write_bytes(parts.full_table())
            with interrupts.held():
                server = ServerProcess(question, directory, "--log-level", "warning", *options, command=command)
                undo.callback(_stop, server)
            server.wait_ready()
            return server

        def at(subject: str, servers: list[ServerProcess], what: str, clients: int, shows: str = SPREAD) -> None:
            measured = []
            for _ in range(rounds):
                before = _left(cluster) if subject != FIVE else 0
                measured.append(_load(client, servers, what, clients, seconds, shows))
                if subject != FIVE and what == "reserve" and before - _left(cluster) != measured[-1][3]:
                    raise SpectaclesError(
                        f"{subject} : {before - _left(cluster)} places parties, {measured[-1][3]} acquittées"
                    )
                if what == "reserve" and subject != FIVE:
                    _refill(cluster)
            medians = [statistics.median(values) for values in zip(*measured, strict=True)]
            rows.append(Row(subject, what, shows, len(servers), clients, *medians[:3]))
            say(rows[-1])

        reach = ("--etcd", ",".join(cluster.places), "--port", "0")
        alone = (sys.executable, "-m", "spectacles.lab.programs.unshared")
        five, lonely = [start("q5_sockets")], [start("x3_cluster", *reach, command=alone)]
        shared = [start("x3_cluster", *reach) for _ in range(max(SERVERS))]
        stale = [start("x3_cluster", *reach, "--stale")]
        for clients in CLIENTS:
            at(FIVE, five, "reserve", clients)
            at(ALONE, lonely, "reserve", clients)
            for servers in SERVERS:
                if servers <= clients:
                    at(SHARED, shared[:servers], "reserve", clients)
            if clients > 1:
                at(SHARED, shared[:2], "reserve", clients, ONE)
                at(SHARED, shared[:2], "reserve", clients, OWN)
            at(FIVE, five, "list", clients)
            at(SHARED, shared[:1], "list", clients)
            at(STALE, stale, "list", clients)
        return Found(rows, [processes.memory(pid).rss for pid in pids], processes.memory(shared[0].pid).rss)


def _stop(server: ServerProcess) -> None:
    with contextlib.suppress(ServerError):
        server.stop()


def _load(
    client: Path, servers: list[ServerProcess], what: str, clients: int, seconds: float, shows: str
) -> tuple[float, float, float, int]:
    """Return requests a second, p50 and p99 in ns, and how many were served, of `clients` spread over `servers`."""
    with tempfile.TemporaryDirectory(prefix="spectacles-bench-") as folder, contextlib.ExitStack() as undo:
        running = []
        for one in range(clients):
            host, port = servers[one % len(servers)].address()
            show = {SPREAD: one % PLACES, ONE: 0, OWN: one % len(servers)}[shows]
            command = [str(client), "--host", host, "--port", str(port), "bench", what, "--show", str(show)]
            command += ["--seconds", str(seconds), "--timeout", "20", "--latencies", f"{folder}/{one}"]
            running.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
            undo.callback(running[-1].wait)
            undo.callback(running[-1].kill)
        rate, served = 0.0, 0
        for process in running:
            output, errors = process.communicate(timeout=seconds + LOAD_TIMEOUT)
            if process.returncode != 0 or (done := json.loads(output))["refused"]:
                raise SpectaclesError(f"un client : {errors.strip() or output.strip()}")
            rate += done["requests"] / done["seconds"]
            served += done["requests"]
        latencies = array("Q")
        for one in range(clients):
            latencies.frombytes(Path(folder, str(one)).read_bytes())
    ordered = sorted(latencies)
    return rate, ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100], served


def line(row: Row) -> str:
    """Return a row as the bench prints it."""
    servers = f"{row.servers} serveur{'s' if row.servers > 1 else ''}"
    where = f"  {row.shows}" if row.shows else ""
    return (
        f"{row.what:<8} {row.subject:<28} {servers:<10} {in_words(row.clients):<11} {number(row.rate):>8}/s"
        f"  p50 {duration(row.p50):>8}  p99 {duration(row.p99):>8}{where}"
    )
