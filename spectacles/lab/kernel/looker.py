"""One look, or one after another: who is there, what they use, who waits for whom."""

from __future__ import annotations

import contextlib
import os
import platform
import time
from typing import TYPE_CHECKING

from spectacles.lab.kernel import calls, findings, sockets, sysv
from spectacles.lab.kernel.model import Look, Process, Queue, Socket
from spectacles.lab.kernel.objects import Collector, Directory, Used, lock_users
from spectacles.lab.kernel.proc import device_and_inode, read
from spectacles.lab.kernel.roll import Roll, title

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spectacles.lab.kernel.model import Object

ROTATION = 10  # other processes whose descriptors are looked through in one look, besides the young ones
CALLS = 400  # other processes whose present call is looked at in one look
MOST_SOCKETS = 20_000  # of other processes that are remembered
MOST_THREADS = 16  # of another process that are looked at in search of users


def look(
    pids: Iterable[int] = (), directory: str | None = None, keys: Iterable[int | str] = (), *, users: bool = True
) -> Look:
    """Take one look. See Looker. Blocks for some milliseconds."""
    with contextlib.closing(Looker(pids, directory, keys, users=users)) as looker:
        return looker.look()


class Looker:
    """Takes looks at the same things, one after another. close() it.

    pids: processes, each with its descendants, also those that outlive their parent while looks are taken.
    directory: a run directory: its server, FIFOs and files, the objects named in its lock or derived from it.
    keys: System V keys (int) and names of POSIX semaphores ("/name").
    users: whether to find other processes that use the same objects: that wait on the same queue or semaphores, have
    the same FIFO open or are about to, are connected to the same port, sent or received last, or are named in a
    message.
    Never raises because of what it looks at. Not for several threads at once.
    """

    def __init__(
        self,
        pids: Iterable[int] = (),
        directory: str | None = None,
        keys: Iterable[int | str] = (),
        *,
        users: bool = True,
    ) -> None:
        self.roots = set(pids)
        self.directory = Directory(directory) if directory is not None else None
        self._keys = {key & 0xFFFFFFFF for key in keys if isinstance(key, int)}
        self._names = {key for key in keys if isinstance(key, str)}
        self._find_users = users
        self._roll = Roll()
        self._collector = Collector(self._roll)
        self._members: set[int] = set()
        self._users: set[int] = set()
        self._started: dict[int, int] = {}  # PID -> when it started, for those followed: a PID may be used again
        self._used = Used()
        self._rotation: list[int] = []
        self._sockets: dict[str, int] = {}  # id -> PID of a process outside that has it
        self._not_found: set[str] = set()  # ends of connections that nobody seen has
        self._first = True

    def close(self) -> None:
        """Close what is open."""
        self._roll.close()
        self._collector.close()

    def look(self) -> Look:
        """Take a look. Blocks for some milliseconds."""
        started, taken = time.process_time(), time.time()
        self._roll.update()
        if self.directory is not None:
            self.directory.update()
        self._collector.queue_lines = sysv.queues()
        self._update_members()
        processes = self._processes()
        for process in processes:
            self._note_use(process)
        if self._find_users and self._find(processes):
            processes = self._processes()
            for process in processes:
                self._note_use(process)
        things = self._objects(processes)
        if self._find_users and self._find_ends(things):
            processes = self._processes()
            things = self._objects(processes)
        graph = findings.Graph(processes, things, self._collector.locks)
        self._roll.prune()
        self._collector.pids.update(process.pid for process in processes)
        self._first = False
        return Look(
            taken,
            time.process_time() - started,
            platform.machine(),
            tuple(processes),
            things,
            tuple(graph.edges),
            tuple(findings.findings(graph)),
            tuple(self._refusals(processes, things)),
        )

    # Who

    def _update_members(self) -> None:
        roots = set(self.roots)
        if self.directory is not None and self.directory.holder in self._roll.table:
            roots.add(self.directory.holder)
        table = self._roll.table
        others = {pid for pid, started in self._started.items() if pid in table and table[pid].started != started}
        # Those that a parent's death has set free stay.
        self._members = self._roll.tree((roots | self._members) - others)
        self._users = {pid for pid in self._users - others if pid in table} - self._members
        self._started = {pid: self._started.get(pid, table[pid].started) for pid in (*self._members, *self._users)} | {
            pid: self._started[pid] for pid in self.roots & others
        }

    def _processes(self) -> list[Process]:
        found = []
        for pid in [*sorted(self._members), *sorted(self._users)]:
            tasks = self._roll.tasks(pid)
            stat = self._roll.table.get(pid)
            if not tasks or stat is None:
                continue
            hole = self._roll.hole(pid)
            hole.descriptors()  # notes what is refused
            command = self._roll.command(pid)
            role = "tree" if pid in self._members else "user"
            refused = next((task.refused for task in tasks if task.refused), None) or hole.refused
            user = _user(pid)
            name = next((task.name for task in tasks if task.tid == pid), stat.name)
            found.append(
                Process(pid, stat.parent, role, command, title(command, name), user, tasks, hole.bits(), refused)
            )
        return found

    def _note_use(self, process: Process) -> None:
        for task in process.tasks:
            for wait in task.waits:
                self._used.add_wait(wait.target)

    def _find(self, processes: list[Process]) -> bool:
        """Look for other processes that use the same queues, semaphores and FIFOs; say whether any was found."""
        queues, sets = self._queues(), self._sets()
        targets = {f"queue:{msqid}" for msqid in queues} | {f"semset:{semid}" for semid in sets}
        fifos = set(self.directory.fifos.values()) if self.directory else set()
        for process in processes:
            for descriptor in self._roll.hole(process.pid).descriptors().values():
                if descriptor.kind == "fifo" and descriptor.path:
                    fifos.add(descriptor.path)
        seen = self._members | self._users
        candidates = [pid for pid in self._roll.strangers() if pid not in seen]
        found = {pid for pid in self._named(queues) if pid in self._roll.table and pid not in seen}
        homeless = self.directory is not None and not self._members  # a server in C locks no directory
        turn = set(self._turn(candidates))
        for pid in candidates[:CALLS]:
            thorough = pid in turn
            if (
                self._calls_on(pid, targets, fifos, thorough)
                or (thorough and (fifos or homeless) and self._has_open(pid, fifos))
                or (thorough and homeless and self._works_in(pid))
            ):
                found.add(pid)
        found = {self._roll.family(pid) for pid in found}
        found = {pid for pid in self._roll.tree(found) if self._roll.command(pid)} & set(self._roll.strangers())
        found -= seen
        self._users |= found
        return bool(found)

    def _turn(self, candidates: list[int]) -> list[int]:
        """Return the processes that are looked through now: first all, later the young and a few more."""
        if self._first:
            return candidates
        young = [pid for pid in candidates if self._roll.young(pid)]
        if not self._rotation:
            self._rotation = list(candidates)
        turn, self._rotation = self._rotation[:ROTATION], self._rotation[ROTATION:]
        return young[:ROTATION] + turn

    def _calls_on(self, pid: int, targets: set[str], fifos: set[str], thorough: bool) -> bool:
        """Say whether a thread of a process, the first or any, is in a call on one of these."""
        tids = [pid]
        if thorough:
            with contextlib.suppress(OSError):
                tids = [int(name) for name in os.listdir(f"/proc/{pid}/task")][:MOST_THREADS]
        for tid in tids:
            try:
                parsed = calls.parse(read(f"/proc/{pid}/task/{tid}/syscall", 300))
            except OSError:
                break
            if parsed is None:
                continue
            call = calls.NAMES.get(parsed[0], "")
            if call in ("msgrcv", "msgsnd", "semop", "semtimedop"):
                kind = "queue" if call.startswith("msg") else "semset"
                if f"{kind}:{calls.signed(parsed[1][0])}" in targets:
                    return True
            elif call in ("open", "openat") and fifos:
                waits = calls.waits_of(call, parsed[1], self._roll.hole(pid))
                if waits and waits[0].path in fifos:
                    return True
        return False

    def _has_open(self, pid: int, fifos: set[str]) -> bool:
        """Say whether a process has one of the FIFOs open; note its sockets."""
        links = self._roll.hole(pid).links()
        for link in links:
            if link.startswith("socket:["):
                self._sockets[f"socket:{link[8:-1]}"] = pid
        return not fifos.isdisjoint(links)

    def _works_in(self, pid: int) -> bool:
        """Say whether a process works in the directory and serves there: it has a port, the file, or the semaphore."""
        assert self.directory is not None
        try:
            if device_and_inode(os.stat(f"/proc/{pid}/cwd")) != self.directory.id:
                return False
        except OSError:
            return False
        hole = self._roll.hole(pid)
        hole.forget()
        if any(descriptor.id in self.directory.files for descriptor in hole.descriptors().values()):
            return True
        inodes = {int(d.id[7:]) for d in hole.descriptors().values() if d.kind == "socket"}
        if not inodes:
            return False
        lines = sockets.tcp(pid) + sockets.tcp(pid, "tcp6")
        return any(line.state == "LISTEN" and line.inode in inodes for line in lines)

    def _find_ends(self, things: dict[str, Object]) -> bool:
        """Look for the processes at the other end of connections; say whether any was found."""
        wanted = {
            thing.peer
            for thing in things.values()
            if isinstance(thing, Socket)
            and thing.peer
            and thing.peer.startswith("socket:")
            and thing.peer not in things
        }
        found = {self._sockets[id_] for id_ in wanted & self._sockets.keys() if self._sockets[id_] in self._roll.table}
        missing = wanted - self._sockets.keys() - self._not_found
        if missing:
            seen = self._members | self._users
            for pid in self._roll.strangers():
                if pid not in seen:
                    self._has_open(pid, set())
            found |= {self._sockets[id_] for id_ in missing & self._sockets.keys()}
            self._not_found = wanted - self._sockets.keys()
            if len(self._sockets) > MOST_SOCKETS:
                self._sockets = {id_: pid for id_, pid in self._sockets.items() if id_ in wanted}
        found -= self._members | self._users
        self._users |= found
        return bool(found)

    def _named(self, queues: set[int]) -> set[int]:
        """Return the PIDs that the queues name: last sender and receiver, clients in messages."""
        found = set()
        for msqid in queues:
            line = self._collector.queue_lines.get(msqid)
            if line is not None:
                found |= {line.last_sender, line.last_receiver}
        for thing in self._collector.queues(queues).values():
            assert isinstance(thing, Queue)
            found |= {m.addressee for m in thing.messages if m.addressee and m.alive}
        return (found - {0, os.getpid()}) & set(self._roll.strangers())

    # What

    def _queues(self) -> set[int]:
        keys = self._keys | (self.directory.keys if self.directory else set())
        found = {line.id for line in self._collector.queue_lines.values() if line.key and line.key in keys}
        for line in self._collector.queue_lines.values():
            if line.last_sender in self._members or line.last_receiver in self._members:
                self._used.queues.add(line.id)
        self._used.queues &= self._collector.queue_lines.keys()
        return found | self._used.queues

    def _sets(self) -> set[int]:
        keys = self._keys | (self.directory.keys if self.directory else set())
        if not keys and not self._used.sets:
            return set()
        return {line.id for line in sysv.sets().values() if line.key and line.key in keys} | self._used.sets

    def _objects(self, processes: list[Process]) -> dict[str, Object]:
        collector = self._collector
        keys = self._keys | (self.directory.keys if self.directory else set())
        names = self._names | (self.directory.names if self.directory else set())
        waited = {wait.target for process in processes for task in process.tasks for wait in task.waits if wait.target}
        alone = {
            task.waits[0].target
            for process in processes
            for task in process.tasks
            if len(task.waits) == 1 and task.waits[0].target
        }
        by_key = {line.id for line in sysv.memories().values() if line.key and line.key in keys}
        things: dict[str, Object] = {}
        collector.queue_lines = sysv.queues()  # anew: what a task waits for is looked at before what lies there
        things |= collector.queues(self._queues())
        things |= collector.message_queues(processes)
        things |= collector.pipes(processes, self.directory, alone)
        things |= collector.sockets(processes)
        things |= collector.memories(by_key, processes)
        things |= collector.semaphores(names)
        things |= collector.sets(self._sets())
        things |= collector.files(processes, self.directory, waited)
        pids_by_task = {task.tid: process.pid for process in processes for task in process.tasks}
        things |= lock_users(self._roll.words, pids_by_task)
        return things

    def _refusals(self, processes: list[Process], things: dict[str, Object]) -> list[str]:
        found: dict[str, list[str]] = {}
        for process in processes:
            if process.refused:
                found.setdefault(process.refused, []).append(f"{process.title} ({process.pid})")
        lines = [f"{', '.join(who[:4])}{' …' if len(who) > 4 else ''} : {reason}" for reason, who in found.items()]
        if processes and not calls.NAMES:
            lines.append(f"appels système : numéros inconnus sur {platform.machine()}")
        own = _namespace(os.getpid())
        for process in processes:
            other = _namespace(process.pid)
            if own and other and other != own:
                lines.append(
                    f"{process.title} ({process.pid}) : dans un autre espace IPC ; ses files, mémoires et sémaphores "
                    "System V ne sont pas ceux d'ici"
                )
                break
        return lines


def _user(pid: int) -> int:
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return -1


def _namespace(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/ipc")
    except OSError:
        return ""
