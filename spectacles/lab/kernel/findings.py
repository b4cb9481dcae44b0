"""Who waits for whom, and what is wrong: cycles of waiting, locks whose holder is dead, messages to the dead.

A task that waits can be helped by some others: the holder of the lock, those who have the other end of the pipe, its
children. It can go on if one of them can. Taken together: mark every task that can go on by itself; mark whoever can be
helped by a marked one; repeat. Tasks that stay unmarked wait for each other for ever. Only waits count of which it is
known that nobody else can help (`closed`): anybody may still send to a queue or open a FIFO, so that an idle server,
which waits for clients to come, is never found to be stuck.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from spectacles.lab.kernel import words
from spectacles.lab.kernel.model import (
    Edge,
    File,
    Finding,
    Lock,
    Memory,
    Pipe,
    Queue,
    Semaphore,
    SemaphoreSet,
    Socket,
)
from spectacles.lab.kernel.proc import alive

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spectacles.lab.kernel.model import FileLock, Object, Process, Task, Wait

AT_REST = {"receive", "accept", "event", "child", "signal", "sleep", "join", "read"}  # where nobody should hold a lock
SETTLED = 0.2  # seconds that a wait lasts before it counts: a lock may change hands while it is looked at


class Graph:
    """The edges of a look. tasks: all of it by TID. locks: of files, by id."""

    def __init__(
        self, processes: Iterable[Process], objects: dict[str, Object], locks: dict[str, list[FileLock]]
    ) -> None:
        self.processes = {process.pid: process for process in processes}
        self.tasks = {task.tid: task for process in self.processes.values() for task in process.tasks}
        self.objects = objects
        self._locks = locks
        self.edges: list[Edge] = []
        for task in self.tasks.values():
            if not task.ended:
                self.edges += (edge for wait in task.waits if (edge := self._edge(task, wait)) is not None)

    def of(self, pids: Iterable[int], but: int = 0) -> tuple[int, ...]:
        """Return the TIDs of all threads of `pids` that have not ended, without `but`."""
        return tuple(
            task.tid
            for pid in pids
            if pid in self.processes
            for task in self.processes[pid].tasks
            if task.tid != but and not task.ended
        )

    def _edge(self, task: Task, wait: Wait) -> Edge | None:
        thing = self.objects.get(wait.target or "")
        final = wait.timeout is None and task.waits[0].kind != "event"
        if isinstance(thing, Lock) and thing.holder:
            if not thing.holder_alive:
                return Edge(task.tid, thing.id, (), final, thing.holder)
            known = thing.holder in self.tasks
            return Edge(task.tid, thing.id, (thing.holder,) if known else (), final and known)
        if isinstance(thing, SemaphoreSet) and wait.number is not None and wait.number < len(thing.members):
            return self._set_edge(task, wait, thing, final)
        if wait.kind == "join" and wait.number in self.tasks:
            return Edge(task.tid, None, (wait.number,), final)
        if wait.kind == "child":
            children = [p.pid for p in self.processes.values() if p.parent == task.pid and wait.number in (-1, p.pid)]
            return Edge(task.tid, None, self.of(children), final and bool(children))
        if wait.kind == "lock" and wait.target and wait.target.startswith(("file:", "fifo:")):
            holders = [lock.pid for lock in self._locks.get(wait.target, ()) if not lock.waiting]
            by = self.of(holders, task.tid)
            return Edge(task.tid, wait.target, by, final and bool(by) and all(pid in self.processes for pid in holders))
        if isinstance(thing, Pipe):
            others = thing.writers if wait.kind == "read" else thing.readers
            return Edge(task.tid, thing.id, self.of(others, task.tid), False)
        if isinstance(thing, Socket) and wait.kind in ("read", "write"):
            other = self.objects.get(thing.peer or "")
            return Edge(task.tid, thing.id, self.of(other.users) if isinstance(other, Socket) else (), False)
        if isinstance(thing, Semaphore) and thing.users:
            return Edge(task.tid, thing.id, self.of(thing.users, task.tid), False)
        if isinstance(thing, Queue) and wait.kind in ("receive", "send"):
            last = {thing.last_sender, thing.last_receiver} - {task.pid}
            return Edge(task.tid, thing.id, self.of(pid for pid in last if pid in self.processes), False)
        return Edge(task.tid, wait.target, (), False) if wait.target else None

    def _set_edge(self, task: Task, wait: Wait, thing: SemaphoreSet, final: bool) -> Edge:
        member = thing.members[wait.number or 0]
        operation = wait.size or 0
        # At zero, the last who changed it has taken it. Where that is the waiter itself, it may as well be
        # a signal that it consumed before and now waits for again.
        if operation >= 0 or member.value > 0 or member.last in (0, task.pid):
            return Edge(task.tid, thing.id, (), False)
        if member.last not in self.processes and not alive(member.last):
            return Edge(task.tid, thing.id, (), final, member.last)
        by = self.of([member.last], task.tid)
        return Edge(task.tid, thing.id, by, final and bool(by))

    def stuck(self) -> set[int]:
        """Return the tasks that can never go on: those in a circle, and those that wait for them or for the dead."""
        closed: dict[int, list[Edge]] = {}
        for edge in self.edges:
            task = self.tasks[edge.waiter]
            if edge.closed and len(task.waits) == 1 and not task.stopped and (task.since or 0.0) >= SETTLED:
                closed.setdefault(edge.waiter, []).append(edge)
        stuck = set(closed)
        while True:
            free = {
                tid
                for tid in stuck
                if any(helper not in stuck for edge in closed[tid] for helper in edge.by)
                or not any(edge.by or edge.dead for edge in closed[tid])
            }
            if not free:
                return stuck
            stuck -= free

    def circles(self, stuck: set[int]) -> list[tuple[int, ...]]:
        """Return the circles among `stuck`, each once, as TIDs in the order of waiting."""
        # Whoever could help one that is stuck is stuck too; any of them will do.
        after: dict[int, int] = {}
        for edge in self.edges:
            if edge.waiter in stuck and edge.closed and edge.by:
                after.setdefault(edge.waiter, edge.by[0])
        found: list[tuple[int, ...]] = []
        seen: set[int] = set()
        for start in after:
            path: list[int] = []
            tid = start
            while tid in after and tid not in seen and tid not in path:
                path.append(tid)
                tid = after[tid]
            if tid in path:
                found.append(tuple(path[path.index(tid) :]))
            seen.update(path)
        return found


def findings(graph: Graph) -> list[Finding]:
    """Return what is wrong, alarms first."""
    stuck = graph.stuck()
    found = [
        *_circles(graph, stuck),
        *_dead_holders(graph),
        *_lost_locks(graph),
        *_dead_addressees(graph),
        *_crossed(graph),
        *_stopped(graph),
        *_differs(graph),
    ]
    return sorted(found, key=lambda finding: finding.level != "alarm")


def _circles(graph: Graph, stuck: set[int]) -> Iterable[Finding]:
    for circle in graph.circles(stuck):
        edges = [next(e for e in graph.edges if e.waiter == tid and e.closed) for tid in circle]
        objects = tuple(edge.target for edge in edges if edge.target)
        if len(circle) == 1:
            text = f"interblocage : {_who(graph, graph.tasks[circle[0]])} attend {_held(graph, edges[0])}, " + (
                "qu'il tient déjà"
            )
        else:
            text = "interblocage : " + ", ".join(
                f"{_who(graph, graph.tasks[edge.waiter])} attend {_held(graph, edge)}, "
                f"tenu par {_who(graph, graph.tasks[circle[(place + 1) % len(circle)]])}"
                for place, edge in enumerate(edges)
            )
        yield Finding("cycle", "alarm", text, circle, objects)


def _dead_holders(graph: Graph) -> Iterable[Finding]:
    told: dict[tuple[str | None, int], list[int]] = {}
    for edge in graph.edges:
        task = graph.tasks[edge.waiter]
        if edge.dead and (task.since or 0.0) >= SETTLED:
            told.setdefault((edge.target, edge.dead), []).append(edge.waiter)
    for (target, dead), waiters in told.items():
        edge = next(e for e in graph.edges if e.waiter == waiters[0] and e.target == target)
        text = (
            f"{_held(graph, edge)} : son dernier détenteur, {dead}, est mort sans le rendre ; "
            f"{_several(graph, waiters)} l'{'attend' if len(waiters) == 1 else 'attendent'} pour toujours"
        )
        yield Finding("dead-holder", "alarm", text, tuple(waiters), (target,) if target else ())


def _lost_locks(graph: Graph) -> Iterable[Finding]:
    """A semaphore at zero that somebody waits for, while nobody who has it seems to be using it.

    A semaphore does not say who took it, and may be a signal rather than a lock. It is an alarm only where its name is
    that of the table's lock; else a warning, and none at all where only those who wait for it have it.
    """
    for thing in graph.objects.values():
        if not isinstance(thing, Semaphore) or thing.value != 0:
            continue
        waiting = [edge.waiter for edge in graph.edges if edge.target == thing.id]
        if not waiting or any((graph.tasks[tid].since or 0.0) < SETTLED * 5 for tid in waiting):
            continue
        others = [graph.tasks[tid] for tid in graph.of(thing.users) if tid not in waiting]
        busy = [task for task in others if not task.waits or task.waits[0].kind not in AT_REST]
        if busy or any(task.stopped for task in others):
            continue
        verb = "attend" if len(waiting) == 1 else "attendent"
        text = f"sémaphore {thing.name} : vaut 0, {_several(graph, waiting)} {verb}, et "
        if others:
            text += "aucun des autres qui l'ont n'est à l'œuvre : "
        else:
            text += "personne d'autre ne l'a : "
        text += "pris par un mort, ou jamais rendu" if thing.service else "si c'est un verrou, personne ne le rendra"
        yield Finding("lost-lock", "alarm" if thing.service else "warning", text, tuple(waiting), (thing.id,))


def _dead_addressees(graph: Graph) -> Iterable[Finding]:
    for thing in graph.objects.values():
        if not isinstance(thing, Queue):
            continue
        dead = [m for m in thing.messages if m.addressee and m.alive is False and m.sure]
        for pid, reply in sorted({(m.addressee or 0, m.type == m.addressee) for m in dead}):
            number = sum((m.addressee, m.type == m.addressee) == (pid, reply) for m in dead)
            what = f"{number} {'réponse' if reply else 'demande'}{'s' if number > 1 else ''}"
            whom = f"au client {pid}, qui est mort" if reply else f"d'un client mort ({pid})"
            text = f"file {words.key(thing.key, thing.msqid)} : {what} {whom}"
            yield Finding("dead-addressee", "alarm" if reply else "warning", text, objects=(thing.id,))


def _crossed(graph: Graph) -> Iterable[Finding]:
    """Both ends of a connection wait for the other to speak, and nothing is on its way."""
    readers: dict[str, Task] = {}
    for task in graph.tasks.values():
        if len(task.waits) == 1 and task.waits[0].kind == "read" and (task.since or 0.0) >= SETTLED:
            readers[task.waits[0].target or ""] = task
    for id_, task in readers.items():
        thing = graph.objects.get(id_)
        if not isinstance(thing, Socket) or thing.family == "unix" or not thing.peer or thing.peer < id_:
            continue
        other, peer = readers.get(thing.peer), graph.objects.get(thing.peer)
        if other is None or not isinstance(peer, Socket):
            continue
        if not (thing.unread or thing.unacknowledged or peer.unread or peer.unacknowledged):
            text = (
                f"connexion {thing.local} – {thing.remote} : {_who(graph, task)} et {_who(graph, other)} "
                "attendent chacun que l'autre parle"
            )
            yield Finding("crossed", "warning", text, (task.tid, other.tid), (id_, thing.peer))


def _stopped(graph: Graph) -> Iterable[Finding]:
    by_command: dict[tuple[str, ...], list[Process]] = {}
    for process in graph.processes.values():
        if process.tasks and all(task.stopped for task in process.tasks):
            by_command.setdefault(process.command or (process.title,), []).append(process)
    for group in by_command.values():
        first = min(group, key=lambda process: process.pid)
        more = f" et {len(group) - 1} processus de plus" if len(group) > 1 else ""
        many = "s" if more else ""
        text = f"{first.title} ({first.pid}){more} : suspendu{many} (Ctrl-Z, SIGSTOP) ; « fg » le{many} relance"
        yield Finding("stopped", "warning", text, tuple(task.tid for process in group for task in process.tasks))


def _differs(graph: Graph) -> Iterable[Finding]:
    """The table in memory and the table in the file say different things."""
    files = [t for t in graph.objects.values() if isinstance(t, File) and t.table]
    for memory in graph.objects.values():
        if not isinstance(memory, Memory) or not memory.table:
            continue
        names = {(show.slot, show.id, show.name) for show in memory.table}
        for file in files:
            assert file.table is not None
            if {(show.slot, show.id, show.name) for show in file.table} != names or memory.table == file.table:
                continue
            seats = {show.slot: show.seats for show in file.table}
            where = ", ".join(
                f"[{show.slot}] {show.seats} / {seats[show.slot]}"
                for show in memory.table
                if show.seats != seats[show.slot]
            )
            text = f"places en mémoire / dans {re.sub('.*/', '', file.path)} : {where}"
            yield Finding("differs", "warning", text, objects=(memory.id, file.id))


def _who(graph: Graph, task: Task) -> str:
    """Return what to call a task: program and PID, and the thread's own name where it has one."""
    process = graph.processes[task.pid]
    if len(process.tasks) > 1:
        own = words.own_name(process, task)
        return f"{process.title} (thread {task.tid}{f', {own}' if own else ''})"
    return f"{words.process(process)} ({task.pid})"


def _several(graph: Graph, tids: Iterable[int]) -> str:
    """Return names of tasks, the first three of many."""
    names = [_who(graph, graph.tasks[tid]) for tid in tids]
    return ", ".join(names[:3]) + (f" et {len(names) - 3} autres" if len(names) > 3 else "")


def _held(graph: Graph, edge: Edge) -> str:
    """Return what to call what the waiter of an edge waits for."""
    task = graph.tasks[edge.waiter]
    wait = next((wait for wait in task.waits if wait.target == edge.target), task.waits[0])
    if wait.kind == "join":
        return f"la fin du thread {wait.number}"
    if wait.kind == "child":
        return "la fin d'un fils"
    return words.member(words.target(wait, graph.objects), wait)
