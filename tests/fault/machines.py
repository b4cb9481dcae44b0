"""Three machines in network namespaces of the tests' own: on each a node of etcd and a server of x3.

    hub, with a bridge ─── cable ─── machine 1: etcd, server
      clients          ─── cable ─── machine 2: etcd, server
                       ─── cable ─── machine 3: etcd, server

The data of etcd are on a small disk of its own (tmpfs), that can be filled.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import secrets
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from spectacles.common.spectacle import Spectacle, pack_table, unpack_table
from spectacles.lab.programs.process import ServerProcess
from spectacles.x3_cluster.etcd import DEFAULT_PREFIX, Cluster, _Local
from spectacles.x3_cluster.table import ClusterTable
from tests import helpers
from tests.test_netns import ip, on

X3 = "x3_cluster"
PORT = 5000
COUNT = 3
DISK = "192m"  # two files of 64 MB are etcd's from the start
HEARTBEAT, ELECTION = "50", "500"  # ms
HUB = "10.204.0.254"


class Machine:
    """One of them. number: from 1."""

    def __init__(self, machines: Machines, number: int) -> None:
        self.name = f"{machines.hub}-{number}"
        self.cable = f"{machines.tag}{number}h", f"{machines.tag}{number}m"  # the hub's end, the machine's
        self.address = f"10.204.0.{number}"
        self.folder = machines.folder / str(number)
        self.etcd: subprocess.Popen[bytes] | None = None
        self.server: ServerProcess | None = None
        self._number = number
        self._machines = machines

    @property
    def socket(self) -> str:
        """Where its etcd listens for the test, which is on none of these machines."""
        return str(self.folder / "localhost:1")

    def start_etcd(self) -> None:
        """Start its node, or start it again on what is on its disk."""
        peers = [f"m{number}=http://10.204.0.{number}:2380" for number in range(1, COUNT + 1)]
        clients, peer = f"http://{self.address}:2379", f"http://{self.address}:2380"
        Path(self.socket).unlink(missing_ok=True)
        command = [
            *("etcd", "--name", f"m{self._number}", "--data-dir", "disk/data"),
            *("--listen-client-urls", f"{clients},unix://localhost:1", "--advertise-client-urls", clients),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
            *("--initial-cluster", ",".join(peers), "--initial-cluster-token", self._machines.tag),
            *("--heartbeat-interval", HEARTBEAT, "--election-timeout", ELECTION),
        ]
        with open(self.folder / "etcd.log", "ab") as log:
            self.etcd = subprocess.Popen(on(self.name, *command), cwd=self.folder, stdout=log, stderr=log)

    def start_server(self, *options: str, directory: Path | None = None) -> ServerProcess:
        """Start a server that asks this machine's etcd first, and return it when it serves."""
        order = [self, *(other for other in self._machines if other is not self)]
        where = ",".join(f"{machine.address}:2379" for machine in order)
        server = ServerProcess(
            X3,
            directory or self.folder / "guichet",
            *("--host", self.address, "--port", "0" if options else str(PORT), "--etcd", where, *options),
            command=on(self.name, *helpers.server_command(X3)),
        )
        server.wait_ready()
        return server

    def status(self) -> dict[str, Any]:
        """Return what its etcd says of itself; {} if it says nothing."""
        connection = _Local(self.socket)
        try:
            connection.request("POST", "/v3/maintenance/status", b"{}")
            reply = json.loads(connection.getresponse().read())
            return reply if "header" in reply else {}
        except (OSError, http.client.HTTPException, ValueError):
            return {}
        finally:
            connection.close()

    def is_leader(self) -> bool:
        """Say whether its etcd takes itself for the leader."""
        known = self.status()
        return bool(known) and known.get("leader") == known["header"]["member_id"]

    # What can happen to it, and how it ends

    def kill(self) -> None:
        """kill -9 its etcd."""
        assert self.etcd is not None
        self.etcd.kill()
        self.etcd.wait()

    def pause(self) -> None:
        """Stop its etcd where it stands."""
        assert self.etcd is not None
        helpers.freeze([self.etcd.pid])

    def go_on(self) -> None:
        """Let its etcd go on."""
        assert self.etcd is not None
        os.kill(self.etcd.pid, signal.SIGCONT)

    def cut(self) -> None:
        """Cut its cable: server and etcd go on, and see nobody."""
        ip("-n", self._machines.hub, "link", "set", self.cable[0], "down")

    def mend(self) -> None:
        """Mend its cable."""
        ip("-n", self._machines.hub, "link", "set", self.cable[0], "up")

    def fill(self) -> None:
        """Fill its disk to the last byte."""
        with contextlib.suppress(OSError), open(self.folder / "disk" / "ballast", "wb", buffering=0) as ballast:
            while True:
                ballast.write(bytes(65536))

    def make_room(self) -> None:
        """Empty what fill() has filled, and start the node that has died of it."""
        (self.folder / "disk" / "ballast").unlink()
        assert self.etcd is not None
        self.kill()
        self.start_etcd()


class Machines:
    """All of them, made in `folder`; iterating yields the machines. A context manager. Skips where it cannot be had."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tag = f"sx{secrets.token_hex(4)}"
        self.hub = f"spectacles-{self.tag}"
        self._machines = [Machine(self, number) for number in range(1, COUNT + 1)]
        self._undo = contextlib.ExitStack()

    def __iter__(self) -> Iterator[Machine]:
        return iter(self._machines)

    def __enter__(self) -> Machines:
        with self._undo:
            try:
                self._make()
            except (subprocess.CalledProcessError, OSError) as error:
                said = getattr(error, "stderr", b"") or str(error).encode()
                pytest.skip(f"no machines in namespaces here: {said.decode(errors='replace').strip()}")
            for machine in self:
                machine.start_etcd()
                self._undo.callback(_end, machine)
            self.wait_until_whole()
            for machine in self:
                machine.server = machine.start_server()
                self._undo.callback(machine.server.__exit__)
            self._undo = self._undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def _make(self) -> None:
        self._namespace(self.hub)
        ip("-n", self.hub, "link", "add", "bridge", "type", "bridge")
        ip("-n", self.hub, "addr", "add", f"{HUB}/24", "dev", "bridge")
        ip("-n", self.hub, "link", "set", "bridge", "up")
        for machine in self:
            self._namespace(machine.name)
            here, there = machine.cable
            ip("-n", self.hub, "link", "add", here, "type", "veth", "peer", "name", there)
            ip("-n", self.hub, "link", "set", there, "netns", machine.name)
            ip("-n", self.hub, "link", "set", here, "master", "bridge", "up")
            ip("-n", machine.name, "addr", "add", f"{machine.address}/24", "dev", there)
            ip("-n", machine.name, "link", "set", there, "up")
            disk = machine.folder / "disk"
            disk.mkdir(parents=True)
            mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK},mode=0700", "spectacles", str(disk)]
            subprocess.run(mount, check=True, capture_output=True, timeout=30)
            self._undo.callback(subprocess.run, ["umount", str(disk)], check=True, timeout=30)

    def _namespace(self, name: str) -> None:
        ip("netns", "add", name)
        self._undo.callback(ip, "netns", "del", name)
        ip("-n", name, "link", "set", "lo", "up")

    def leader(self, among: Sequence[Machine] = ()) -> Machine | None:
        """Return which of them leads, as it and another one see it; None if none does."""
        known = [(machine, machine.status()) for machine in among or self._machines]
        for machine, status in known:
            own = status.get("header", {}).get("member_id")
            if own and sum(other.get("leader") == own for _, other in known) > 1:
                return machine
        return None

    def others(self, machine: Machine) -> list[Machine]:
        """Return all but one."""
        return [other for other in self._machines if other is not machine]

    def wait_until_whole(self) -> None:
        """Return when all follow one leader. Fails after a while."""

        def whole() -> bool:
            leaders = [machine.status().get("leader", "0") for machine in self]
            return leaders[0] != "0" and len(set(leaders)) == 1

        helpers.eventually(whole, "all follow one leader", 30)

    def cluster(self, *machines: Machine) -> Cluster:
        """Return how the test asks etcd."""
        return Cluster([machine.socket for machine in machines or self._machines], DEFAULT_PREFIX, None)

    def write(self, places: Sequence[int]) -> None:
        """Put a table of so many seats there."""
        shows = {
            slot: Spectacle(slot + 1, f"Spectacle {slot}", "2027-03-20", seats) for slot, seats in enumerate(places)
        }
        with ClusterTable(self.cluster()) as table:
            table.rewrite(lambda _: pack_table(shows))

    def read(self) -> dict[int, int]:
        """Return the seats left by slot."""
        with ClusterTable(self.cluster()) as table:
            return {slot: show.places for slot, show in unpack_table(table.snapshot())}

    def hosts(self, first: int) -> list[str]:
        """Return the --host options of a client that tries machine `first` (from 0) first."""
        order = [self._machines[(first + number) % COUNT] for number in range(COUNT)]
        return [word for machine in order for word in ("--host", machine.address)]


def _end(machine: Machine) -> None:
    if machine.etcd is not None and machine.etcd.poll() is None:
        machine.etcd.kill()
        machine.etcd.wait()
