"""From the events of a record to a Run: lanes, steps, what went from whom to whom, who held which lock.

In four passes: steps, each from the event it began with to the event that ended it; transfers, by kind of object
(matching.py); holds (locks.py); lanes and words (words.py). What is not in the events is not made up; what is only
likely says so.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from spectacles.common.spectacle import TABLE_SIZE
from spectacles.lab.gate import events as gate_events
from spectacles.lab.gate.events import Event, Kind
from spectacles.lab.record import locks, matching, words
from spectacles.lab.record.draft import Draft
from spectacles.lab.record.matching import Side
from spectacles.lab.record.model import Action, Lane, LaneKind, Run, Step, Transfer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spectacles.lab.record.store import Record

QUEUE_BYTES = 16384  # what a System V queue takes before its senders wait, unless somebody has changed that
PIPE_BYTES = 65536
NOTICED = 0.001  # seconds of a sleep that count as waiting, where nothing else says so
SHOWS = 3  # of the table, looked at in a row: then it is all of it that is looked at
COPY = 8  # places of any other memory

_CHANNELS = (LaneKind.QUEUE, LaneKind.FIFO, LaneKind.PIPE, LaneKind.SOCKET)
_ACTIONS = {
    "read": Action.READ, "write": Action.WRITE, "open": Action.OPEN, "mkfifo": Action.MAKE, "unlink": Action.REMOVE,
    "rename": Action.WRITE, "ftruncate": Action.WRITE, "fsync": Action.SYNC, "pipe": Action.MAKE, "poll": Action.WAIT,
    "msgget": Action.MAKE, "msgsnd": Action.SEND, "msgrcv": Action.RECEIVE, "semget": Action.MAKE,
    "shmget": Action.MAKE, "shmat": Action.OPEN, "shmdt": Action.CLOSE, "mq_open": Action.OPEN, "mq_send": Action.SEND,
    "mq_receive": Action.RECEIVE, "mq_unlink": Action.REMOVE, "socket": Action.MAKE, "bind": Action.MAKE,
    "listen": Action.OPEN, "connect": Action.OPEN, "accept": Action.OPEN, "shutdown": Action.CLOSE, "send": Action.SEND,
    "recv": Action.RECEIVE, "kill": Action.SIGNAL, "wait": Action.WAIT, "sleep": Action.WAIT, "pause": Action.WAIT,
}  # fmt: skip


def run(record: Record, title: str = "") -> Run:
    """Return the run of a record."""
    return _Derivation(record).run(title)


class _Derivation:
    def __init__(self, record: Record) -> None:
        self.record = record
        self.events = record.events
        self.drafts: dict[int, Draft] = {}  # by seq
        self.notes: list[tuple[Event, str]] = []
        self.births: dict[str, Event] = {}
        self.deaths: dict[str, Event] = {}
        self.fifos = {event.object for event in self.events if event.call == "mkfifo" or event.arguments.get("fifo")}
        self.memory: dict[str, int] = {}  # object -> size
        self.removed: dict[str, list[int]] = {}  # object -> when
        self.sources: dict[int, list[int]] = {}  # receive -> the sends that it took
        self.transfers: list[Transfer] = []
        self.waiting: dict[str, Draft] = {}  # task -> the lock it wants
        self.last = self.events[-1] if self.events else None

    def run(self, title: str) -> Run:
        for event in self.events:
            self._take(event)
        self._match()
        holds = locks.holds(self.drafts.values(), self.deaths, self.removed)
        locks.hand_over(self.drafts, self.transfers)
        self._blocked()
        self._fold()
        for transfer in self.transfers:
            self.sources.setdefault(transfer.receive, []).append(transfer.send)
        for draft in self.drafts.values():
            draft.words = draft.words or self._words(draft)
        steps = tuple(self._step(draft) for _, draft in sorted(self.drafts.items()))
        received = {transfer.send for transfer in self.transfers}
        # Receives that are over, and of which nobody knows what they took: what is left there, if anything, neither.
        unknown = {
            draft.object
            for draft in self.drafts.values()
            if draft.action is Action.RECEIVE and draft.succeeded and draft.end < math.inf and draft.result is None
            and draft.event.seq not in self.sources
        }  # fmt: skip
        unsent = tuple(
            draft.event.seq
            for draft in self.drafts.values()
            if draft.action is Action.SEND and draft.kind in _CHANNELS and draft.succeeded and draft.end < math.inf
            and draft.event.seq not in received and draft.object not in unknown and not self._unmatchable(draft)
        )  # fmt: skip
        about = {**self.record.head, "torn": self.record.torn, "ready": self.record.ready}
        return Run(
            title=title or str(self.record.head.get("title", "")),
            lanes=tuple(self._lanes(steps)),
            steps=steps,
            transfers=tuple(self.transfers),
            holds=tuple(holds),
            about=about,
            unsent=unsent,
        )

    # Steps

    def _take(self, event: Event) -> None:
        if event.kind in (Kind.CALL, Kind.MARK, Kind.ACCESS):
            self._begin(event)
        elif event.kind in (Kind.RESULT, Kind.INTERRUPTED):
            self._end(event)
        elif event.kind == Kind.BIRTH:
            self.births[event.task] = event
            parent = str(event.arguments.get("parent", ""))
            what = "le thread" if event.arguments.get("thread") is True else "le processus"
            said = f"crée {what} {event.task}" if parent else "démarre"
            self._add(event, Action.BIRTH, event.task, words_=said, task=parent or event.task)
        elif event.kind == Kind.DEATH:
            self.deaths[event.task] = event
            said = "tué" if event.call == "killed" else f"fin, code {event.result}" if event.result else "fin"
            self._add(event, Action.DEATH, "", words_=said)
        elif event.kind == Kind.DECISION:
            self._decision(event)
        elif event.kind == Kind.NOTE:
            self._add(event, Action.NOTE, "", words_=str(event.arguments.get("text", "")))

    def _add(self, event: Event, action: Action, object_: str, *, words_: str = "", task: str | None = None) -> Draft:
        kind = words.lane(object_, self.fifos)[0]
        made = Draft(event, action, object_, kind, event.seq, words=words_)
        if words_:
            made.end, made.ended = event.seq, event.time
        if task is not None and task != event.task:
            made.fields["of"] = task
        self.drafts[event.seq] = made
        return made

    def _begin(self, event: Event) -> None:
        if event.kind == Kind.MARK:
            self._mark(event)
            return
        if event.call in ("fork", "thread", "exit") or event.object == "new semaphore":
            return  # births, deaths say it; how a semaphore comes to its name says nothing
        object_ = event.object
        if event.call == "connect":
            port = str(event.arguments.get("address", "")).rpartition(":")[2]
            object_ = f"port {port}" if port.isdigit() else object_
        if object_ in words.NO_LANE or event.call == "exec":
            object_ = ""
        action = _ACTIONS.get(event.call, Action.OTHER)
        kind = words.lane(object_, self.fifos)[0] if object_ else LaneKind.OTHER
        if event.kind == Kind.ACCESS:
            action = Action.CHANGE if event.call == "writes" else Action.LOOK
        elif event.call in ("read", "write") and kind in _CHANNELS:
            action = Action.RECEIVE if event.call == "read" else Action.SEND
        elif event.call in ("msgctl", "semctl", "shmctl"):
            action = Action.REMOVE if event.arguments.get("command") == "IPC_RMID" else Action.OTHER
        elif event.call == "semop":
            action = _semop(event)
        elif event.call in ("flock", "fcntl"):
            action = Action.RELEASE if "UN" in str(event.arguments.get("how", "")).split("_")[-1] else Action.TAKE
        elif event.call == "kill":
            object_ = self._target(event)
        if event.call == "shmget" and isinstance(event.arguments.get("size"), int) and event.arguments["size"]:
            self.memory[object_] = event.arguments["size"]
        if event.call == "ftruncate" and object_.startswith("memory "):
            self.memory[object_] = event.arguments.get("size") or 0
        made = Draft(event, action, object_, kind, event.seq)
        if event.kind == Kind.ACCESS:
            made.end, made.ended, made.place = event.seq, event.time, self._place(event.arguments.get("at"))
        self.drafts[event.seq] = made

    def _mark(self, event: Event) -> None:
        """Locks: what is wanted, then got, is one step."""
        kind = words.lane(event.object, self.fifos)[0]
        call = event.call
        if call in (gate_events.WANTS, gate_events.WAITS):
            action = Action.TAKE if call == gate_events.WANTS else Action.WAIT
            made = Draft(event, action, event.object, kind, event.seq, place=self._place(event.arguments.get("at")))
            self.drafts[event.seq] = made
            self.waiting[event.task] = made
        elif call in (gate_events.RELEASES, gate_events.WAKES):
            action = Action.RELEASE if call == gate_events.RELEASES else Action.WAKE
            made = Draft(event, action, event.object, kind, event.seq, place=self._place(event.arguments.get("at")))
            made.end, made.ended, made.result = event.seq, event.time, 0
            self.drafts[event.seq] = made
        elif event.task in self.waiting:
            made = self.waiting[event.task]
            if call == gate_events.BUSY:
                made.blocked = True
                return
            del self.waiting[event.task]
            made.end, made.ended = event.seq, event.time
            made.errno = event.errno
            if call == gate_events.HAS and event.errno:  # got all the same: its owner was dead
                made.fields["owner"] = event.errno
                made.errno = ""
            made.result = -1 if made.errno else 0

    def _end(self, event: Event) -> None:
        made = self.drafts.get(event.of)
        if made is None or made.ended is not None:
            return
        made.end, made.ended = event.seq, event.time
        made.result, made.errno, made.exact = event.result, event.errno, event.exact
        made.brought = dict(event.arguments)
        if made.result is None and event.call == "msgrcv" and not _may_be(made.event, made.brought.get("type")):
            made.brought = {}  # the program has given that memory back, and it holds something else by now
        made.interrupted = event.kind == Kind.INTERRUPTED or event.errno == "EINTR"
        made.place = self._place(event.arguments.get("at"))
        if made.action is Action.REMOVE and made.succeeded:
            self.removed.setdefault(made.object, []).append(event.seq)

    def _decision(self, event: Event) -> None:
        made = self.drafts.get(event.of)
        if event.call in ("let", "fail", "answer") and made is not None:
            made.begin = event.seq
            if event.call == "let" and event.seq > event.of + 1:
                self._add(event, Action.DECISION, "", words_="retenu jusqu'ici par l'ordonnancement")
        if event.call == "fail":
            self._add(event, Action.DECISION, "", words_=f"échec imposé : {event.arguments.get('errno', '')}")
        elif event.call == "kill":
            self._add(event, Action.DECISION, "", words_=f"reçoit {words.signal_name(event.arguments.get('signal'))}")

    def _place(self, at: object) -> str:
        return self.record.places.get(at, "") if isinstance(at, str) else ""

    def _target(self, event: Event) -> str:
        """Return whom a signal is for: who had that PID, in its world, last."""
        pid = event.arguments.get("pid")
        for task, birth in reversed(self.births.items()):
            if birth.arguments.get("inside") == pid and task not in self.deaths:
                return task
        return ""

    # Transfers

    def _match(self) -> None:
        sends: dict[tuple[str, str], list[Draft]] = {}
        receives: dict[tuple[str, str], list[Draft]] = {}
        for draft in self.drafts.values():
            if draft.action not in (Action.SEND, Action.RECEIVE) or not draft.succeeded or self._unmatchable(draft):
                continue
            end = str(draft.event.arguments.get("end", ""))
            if draft.action is Action.SEND:
                sends.setdefault((draft.object, end), []).append(draft)
            elif draft.end < math.inf:
                other = {"server": "client", "client": "server"}.get(end, "")
                receives.setdefault((draft.object, other), []).append(draft)
        for (object_, end), those in receives.items():
            ours = sends.get((object_, end), [])
            kind = those[0].kind
            if kind is LaneKind.QUEUE:
                pairs = matching.messages([self._side(one) for one in ours], [self._side(one) for one in those])
            else:
                pairs = matching.stream([self._side(one) for one in ours], [self._side(one) for one in those])
            self.transfers += [Transfer(pair.send, pair.receive, object_, pair.size, pair.sure) for pair in pairs]
        self._match_connections()
        self._match_conditions()

    def _unmatchable(self, draft: Draft) -> bool:
        """Say whether nothing can be known of where its bytes went: names that differ at the two ends."""
        flags = str(draft.event.arguments.get("flags", ""))
        return draft.object.startswith("socket ") or "MSG_PEEK" in flags or "MSG_COPY" in flags

    def _side(self, draft: Draft) -> Side:
        arguments = draft.event.arguments
        side = Side(draft.event.seq, draft.begin, draft.end, draft.data, draft.size)
        if draft.kind is LaneKind.QUEUE:
            generation = sum(removed < draft.begin for removed in self.removed.get(draft.object, ()))
            if draft.action is Action.SEND:
                kind = arguments.get("type", arguments.get("priority"))
            else:
                flags = str(arguments.get("flags", ""))
                kind = draft.brought.get("type", draft.brought.get("priority"))
                asked = arguments.get("type")
                if kind is None and isinstance(asked, int) and "IPC_NOWAIT" not in flags and "MSG_EXCEPT" not in flags:
                    # It is over, and nobody saw with what: with the first that it may take, most likely.
                    kind, side.most = (asked, None) if asked > 0 else (None, -asked)
                side.cut = "MSG_NOERROR" in flags
            side.key = (generation, kind)
        side.room = int(arguments.get("size") or 0)
        if side.size is None and draft.action is Action.RECEIVE:
            side.data = draft.brought.get("buffer", b"")
        return side

    def _match_connections(self) -> None:
        """A connection is accepted by who asks for it first."""
        ports: dict[str, tuple[list[Side], list[Side]]] = {}
        for draft in self.drafts.values():
            if draft.event.call in ("connect", "accept") and draft.succeeded and draft.object.startswith("port "):
                side = Side(draft.event.seq, draft.begin, draft.end, size=None if draft.end == math.inf else 0)
                ports.setdefault(draft.object, ([], []))[draft.event.call == "accept"].append(side)
        for port, (asks, accepts) in ports.items():
            done = [side for side in accepts if side.end < math.inf]
            for side in asks:
                side.size = 0
            pairs = matching.messages(asks, done)
            self.transfers += [Transfer(pair.send, pair.receive, port, None, pair.sure) for pair in pairs]

    def _match_conditions(self) -> None:
        """A condition that is signalled lets go one of those who wait for it, or all."""
        waits = [draft for draft in self.drafts.values() if draft.event.call == gate_events.WAITS]
        used: set[int] = set()
        for wake in [draft for draft in self.drafts.values() if draft.action is Action.WAKE]:
            there = [
                wait for wait in waits
                if wait.object == wake.object and wait.begin < wake.begin < wait.end and wait.event.seq not in used
                and wait.end < math.inf
            ]  # fmt: skip
            for wait in there:
                used.add(wait.event.seq)
                self.transfers.append(Transfer(wake.event.seq, wait.event.seq, wake.object, None, len(there) == 1))

    # Waiting

    def _blocked(self) -> None:
        """Say which steps waited for somebody else."""
        first: dict[int, int] = {}  # receive -> when the first of what it took was sent
        for transfer in self.transfers:
            begin = self.drafts[transfer.send].begin
            first[transfer.receive] = min(first.get(transfer.receive, begin), begin)
        for seq, draft in self.drafts.items():
            if draft.interrupted and draft.event.kind == Kind.CALL and draft.errno != "EINTR":
                continue
            at_keyboard = draft.event.call == "read" and draft.event.object == "terminal"
            slept = (draft.ended or 0) - draft.event.time > NOTICED
            if draft.end == math.inf:
                died = self.deaths.get(draft.event.task)
                waits = draft.action in (Action.RECEIVE, Action.SEND, Action.TAKE, Action.WAIT, Action.OPEN)
                draft.blocked = draft.blocked or (
                    (waits or at_keyboard)
                    and (died is None or died.time - draft.event.time > NOTICED)
                    and draft.event.kind in (Kind.CALL, Kind.MARK)
                )
            elif seq in first:
                draft.blocked = draft.blocked or (first[seq] > draft.begin and draft.action is not Action.RELEASE)
            elif draft.action is Action.WAIT or draft.event.call == gate_events.WAITS:
                draft.blocked = slept
            elif draft.action is Action.RECEIVE or at_keyboard:
                draft.blocked = slept and "IPC_NOWAIT" not in str(draft.event.arguments.get("flags", ""))
            elif draft.event.call == "open" and draft.object in self.fifos:
                draft.blocked = slept
        self._full()

    def _full(self) -> None:
        """A send waits where its object is full."""
        inside: dict[str, int] = {}
        moves: list[tuple[float, int, Draft | None, str, int]] = []
        for draft in self.drafts.values():
            limited = draft.kind in (LaneKind.QUEUE, LaneKind.FIFO, LaneKind.PIPE)
            if draft.action is Action.SEND and limited and draft.succeeded:
                moves.append((draft.begin, 1, draft, draft.object, draft.size or 0))
        sizes = {seq: draft.end for seq, draft in self.drafts.items()}
        moves += [(sizes[one.receive], 0, None, one.object, -one.size) for one in self.transfers if one.size]
        for _, _, sent, object_, size in sorted(moves, key=lambda move: move[:2]):
            limit = QUEUE_BYTES if object_.startswith(("queue", "private queue")) else PIPE_BYTES
            if sent is not None and inside.get(object_, 0) + size > limit and sent.end > sent.begin + 1:
                sent.blocked = True
            inside[object_] = inside.get(object_, 0) + size

    # Shared memory

    def _fold(self) -> None:
        """Make one step of accesses in a row to the same part of a memory, and of those of one copying loop."""
        groups: list[list[Draft]] = []
        latest: dict[str, Draft] = {}  # memory -> its last access, whoever's
        last_of: dict[str, int] = {}  # task -> seq of its last event
        for event in self.events:
            draft = self.drafts.get(event.seq)
            if draft is not None and event.kind == Kind.ACCESS:
                before = latest.get(draft.object)
                if (
                    before is not None and groups and before.event.task == event.task and before.action is draft.action
                    and last_of.get(event.task) == before.event.seq
                ):  # fmt: skip
                    next(group for group in reversed(groups) if group[-1] is before).append(draft)
                else:
                    groups.append([draft])
                latest[draft.object] = draft
            last_of[event.task] = event.seq
        for group in groups:
            for part in _parts(group, self._is_table(group[0].object)):
                self._fold_one(part)

    def _fold_one(self, part: list[Draft]) -> None:
        first = part[0]
        changes = first.action is Action.CHANGE
        table = self._is_table(first.object)
        said = {
            words.access(changes, one.event.arguments.get("offset", 0), one.event.arguments.get("data", b""), table)[0]
            for one in part
        }
        if len(said) > 1:
            first.words = words.whole(changes, table, len(part))
        else:
            last = part[-1].event.arguments
            first.words = words.access(changes, last.get("offset", 0), last.get("data", b""), table)[1]
        first.count = len(part)
        first.end, first.ended = part[-1].event.seq, part[-1].event.time
        if len(part) > 1:
            first.seqs = tuple(one.event.seq for one in part)
            for one in part[1:]:
                del self.drafts[one.event.seq]

    def _is_table(self, object_: str) -> bool:
        return self.memory.get(object_) == TABLE_SIZE

    # Words

    def _words(self, draft: Draft) -> str:
        arguments = draft.event.arguments
        if draft.action in (Action.SEND, Action.RECEIVE) and draft.kind in _CHANNELS:
            return self._message(draft)
        if draft.event.object == "terminal" and draft.event.call in ("read", "write"):
            typed = draft.brought.get("buffer", b"").partition(b"\n")  # by scanf: a line, whatever was there before
            said = words.some_bytes(typed[0] if typed[1] and draft.size is None else draft.data, draft.size)
            if draft.event.call == "write":
                return f"affiche {said}"
            return f"lit au clavier {said}" if draft.end < math.inf else "attend le clavier"
        if draft.event.call in ("read", "write") and draft.kind is LaneKind.FILE:
            at = arguments.get("at")
            at = at if isinstance(at, int) else None
            return words.stored(draft.data, draft.size, at, draft.event.call == "write", draft.object)
        return _plain(draft)

    def _message(self, draft: Draft) -> str:
        arguments = draft.event.arguments
        sent = draft.action is Action.SEND
        type_ = arguments.get("type") if sent else draft.brought.get("type")
        if not sent and (draft.end == math.inf or not draft.succeeded):
            if draft.event.call == "msgrcv":
                return words.asked(arguments.get("type"))
            return "attend des octets"
        if not sent and draft.result == 0 and draft.event.call in ("read", "recv"):
            return "fin de fichier : plus personne n'écrit"
        end = str(arguments.get("end", ""))
        whose = end if sent else {"server": "client", "client": "server"}.get(end, "")
        data, size = draft.data, draft.size
        sources = self.sources.get(draft.event.seq, [])
        if size is None and len(sources) == 1:  # what was sent says what was received
            source = self.drafts[sources[0]]
            type_, data, size = source.event.arguments.get("type"), source.data, source.size
        draft.fields |= words.fields_of(draft.kind, draft.object, type_, data, size, whose)
        said = words.message(draft.fields, sent)
        if said:
            return said
        return f"{'envoie' if sent else 'reçoit'} {words.some_bytes(data, size, type_)}"

    def _step(self, draft: Draft) -> Step:
        event = draft.event
        hidden = ("data", "buffer", "size", "at")
        detail = {name: value for name, value in event.arguments.items() if name not in hidden}
        detail |= {name: value for name, value in draft.brought.items() if name not in hidden}
        if draft.event.call == "msgrcv" and "type" in draft.brought and event.arguments.get("type") != detail["type"]:
            detail["asked"] = event.arguments.get("type")
        task = draft.fields.pop("of", event.task)
        detail |= draft.fields
        died = self.deaths.get(event.task)
        ended = draft.ended
        if ended is None:
            ended = died.time if died is not None else self.last.time if self.last is not None else event.time
        return Step(
            seq=event.seq,
            until=0 if draft.end == math.inf else int(draft.end),
            time=event.time,
            ended=max(ended, event.time),
            task=task,
            action=draft.action,
            object=draft.object,
            call=_CALLS.get(event.call, event.call),
            words=draft.words,
            detail=detail,
            data=draft.data,
            size=draft.size if draft.action in _MOVING else None,
            result=draft.result,
            errno="" if draft.succeeded else draft.errno,
            blocked=draft.blocked,
            interrupted=draft.interrupted,
            place=draft.place,
            count=draft.count,
            seqs=draft.seqs,
            began=draft.begin if draft.begin > event.seq + 1 else 0,
            exact=draft.exact,
        )

    # Lanes

    def _lanes(self, steps: Iterable[Step]) -> list[Lane]:
        """Return senders, then objects, then receivers; each with its children."""
        steps = list(steps)
        used: dict[str, int] = {}
        roles: dict[str, set[str]] = {}
        first_move: dict[str, Action] = {}
        for step in steps:
            if step.object and step.action not in (Action.BIRTH, Action.SIGNAL):
                used.setdefault(step.object, step.seq)
            if step.action is Action.RECEIVE and (said := words.role(step.detail, step.object)):
                roles.setdefault(step.task, set()).add(said)
            channel = words.lane(step.object, self.fifos)[0] in _CHANNELS
            if channel and step.action in (Action.SEND, Action.RECEIVE) and not step.errno and step.until:
                first_move.setdefault(step.task.partition(".")[0], step.action)
            elif step.call in ("connect", "accept"):
                move = Action.SEND if step.call == "connect" else Action.RECEIVE
                first_move.setdefault(step.task.partition(".")[0], move)
        left: list[Lane] = []
        right: list[Lane] = []
        tasks = dict.fromkeys((*self.births, *(step.task for step in steps if step.task)))
        for name in sorted(tasks, key=lambda one: list(tasks).index(one.partition(".")[0])):
            side = left if first_move.get(name.partition(".")[0]) is Action.SEND else right
            side.append(self._task_lane(name, roles))
        channels: list[Lane] = []
        state: list[Lane] = []
        for object_, seq in used.items():
            kind, label = words.lane(object_, self.fifos)
            gone = self.removed.get(object_, [0])[-1]
            made = Lane(
                object_, kind, label, born=seq, died=gone if gone and not self._used_after(object_, gone) else 0
            )
            (channels if kind in _CHANNELS else state).append(made)
        return [*left, *channels, *right, *state]

    def _used_after(self, object_: str, seq: int) -> bool:
        return any(draft.object == object_ and draft.event.seq > seq for draft in self.drafts.values())

    def _task_lane(self, name: str, roles: dict[str, set[str]]) -> Lane:
        birth, death = self.births.get(name), self.deaths.get(name)
        arguments = birth.arguments if birth is not None else {}
        parent = str(arguments.get("parent", ""))
        comm = self.record.names.get(name, "")
        label = name
        if parent:
            label = words.task(name, comm, self._inherited(name, parent), roles.get(name, set()))
        inside = arguments.get("inside")
        return Lane(
            name,
            LaneKind.THREAD if arguments.get("thread") is True else LaneKind.PROCESS,
            label,
            parent=parent,
            born=birth.seq if birth is not None else 1,
            died=death.seq if death is not None else 0,
            pid=inside if isinstance(inside, int) else 0,
        )

    def _inherited(self, name: str, parent: str) -> str:
        """Return the name that a task was born with: that of a living sibling that has it too, or its parent's."""
        comm = self.record.names.get(name, "")
        birth = self.births.get(name)
        if birth is None or birth.arguments.get("thread") is not True:
            return self.record.names.get(parent, "")
        for other, known in self.record.names.items():
            born, dead = self.births.get(other), self.deaths.get(other)
            earlier = other != name and born is not None and born.seq < birth.seq
            if known == comm and earlier and (dead is None or dead.seq > birth.seq):
                return comm
        return self.record.names.get(parent, "")


_MOVING = (Action.SEND, Action.RECEIVE, Action.READ, Action.WRITE)
_CALLS = {
    gate_events.WANTS: "lock", gate_events.RELEASES: "unlock", gate_events.WAITS: "cond_wait",
    gate_events.WAKES: "cond_signal", "reads": "", "writes": "",
}  # fmt: skip


def _may_be(receive: Event, type_: object) -> bool:
    """Say whether a msgrcv(2) can have brought a message of this type."""
    asked, flags = receive.arguments.get("type"), str(receive.arguments.get("flags", ""))
    if not isinstance(type_, int) or not isinstance(asked, int):
        return True
    if "MSG_EXCEPT" in flags or asked == 0:
        return type_ > 0
    return type_ == asked if asked > 0 else 0 < type_ <= -asked


def _semop(event: Event) -> Action:
    ops = event.arguments.get("ops") or []
    if any(isinstance(op, list) and len(op) == 3 and op[1] < 0 for op in ops):
        return Action.TAKE
    if any(isinstance(op, list) and len(op) == 3 and op[1] > 0 for op in ops):
        return Action.RELEASE
    return Action.WAIT


def _parts(group: list[Draft], is_table: bool) -> list[list[Draft]]:
    """Cut accesses in a row into what is one thing to a reader: the same field; or much of it, as copies do."""
    part_of = {
        one.event.seq: words.access(False, one.event.arguments.get("offset", 0), b"", is_table)[0] for one in group
    }
    if len({part.partition(".")[0] for part in part_of.values()}) >= (SHOWS if is_table else COPY):
        return [group]
    parts: list[list[Draft]] = []
    for one in group:
        if parts and part_of[parts[-1][0].event.seq] == part_of[one.event.seq]:
            parts[-1].append(one)
        else:
            parts.append([one])
    return parts


def _plain(draft: Draft) -> str:
    """Return the words of a step that moves no bytes."""
    arguments = draft.event.arguments
    failed = f" : {draft.errno}" if draft.errno and not draft.succeeded else ""
    over = draft.end < math.inf
    simple = {
        Action.TAKE: "prend" if over and not failed else "attend",
        Action.RELEASE: "rend",
        Action.SYNC: "attend le disque",
        Action.REMOVE: "supprime",
        Action.WAKE: "signale",
    }
    if draft.fields.get("owner"):
        return "prend, après la mort de qui l'avait"
    if draft.action in simple:
        return simple[draft.action] + failed
    by_call = {
        "connect": "se connecte",
        "accept": "accepte une connexion" if over else "attend une connexion",
        "listen": "écoute",
        "shutdown": "ferme",
        "wait": "a attendu un fils" if over else "attend un fils",
        "sleep": "a dormi" if over else "dort",
        "poll": "attend l'un de plusieurs"
        if not over
        else "n'attend plus"
        if draft.blocked
        else "regarde qui est prêt",
        "pause": "a attendu un signal" if over else "attend un signal",
        "exec": f"devient {draft.event.object.rpartition('/')[2]}",
        "rename": f"devient {arguments.get('to', '')}",
        "open": f"ouvre ({str(arguments.get('flags', '')).replace('O_', '').lower()})",
        "kill": f"envoie {words.signal_name(arguments.get('signal'))}",
        gate_events.WAITS: "attend la condition",
        "ftruncate": f"coupe à {arguments.get('size')} octets",
    }
    if draft.event.call in by_call:
        return by_call[draft.event.call] + failed
    if draft.action is Action.MAKE:
        return ("crée" if "CREAT" in str(arguments.get("flags", "IPC_CREAT")) else "trouve") + failed
    if draft.action is Action.OPEN:
        return "ouvre" + failed
    if draft.action is Action.CLOSE:
        return "détache" + failed
    return draft.event.call + failed
