"""Runs written by hand: what the drawings are tried on."""

from __future__ import annotations

from typing import Any

from spectacles.lab.record.model import Action, Hold, Lane, LaneKind, Run, Step, Transfer


class Recorder:
    """Writes a run down step by step; every call of it is one event or two, in the order in which they happen."""

    def __init__(self, title: str, *lanes: Lane) -> None:
        self.title = title
        self.lanes = {lane.id: lane for lane in lanes}
        self.seq = 0
        self.steps: list[Step] = []
        self.places: dict[int, int] = {}  # of steps, by seq
        self.transfers: list[Transfer] = []
        self.holds: list[Hold] = []
        self.about: dict[str, Any] = {"date": "2026-11-25", "commande": "essai"}

    def event(self) -> int:
        """Return the number of the next event."""
        self.seq += 1
        return self.seq

    def begin(self, task: str, action: Action, object: str = "", call: str = "", **more: Any) -> Step:
        """Add a step that waits, and return it; end() says when it is over."""
        seq = self.event()
        step = Step(seq, 0, seq / 1000, seq / 1000, task, action, object, call or action.value, blocked=True, **more)
        self.places[seq] = len(self.steps)
        self.steps.append(step)
        return step

    def end(self, step: Step, *, sent: Step | None = None, **more: Any) -> Step:
        """Say that a step is over. sent: the one that it took from."""
        seq = self.event()
        done = Step(**{**step.__dict__, "until": seq, "ended": seq / 1000, **more})
        self.steps[self.places[step.seq]] = done
        if sent is not None:
            self.transfers.append(Transfer(sent.seq, done.seq, done.object, done.size))
        return done

    def do(
        self, task: str, action: Action, object: str = "", call: str = "", *, sent: Step | None = None, **more: Any
    ) -> Step:
        """Add a step that does not wait. sent: the one that it took from."""
        return self.end(self.begin(task, action, object, call), sent=sent, blocked=False, **more)

    def hold(self, task: str, lock: str, took: Step, released: Step | None = None, *, lost: bool = False) -> None:
        """Say that a task had a lock from one step to another."""
        self.holds.append(Hold(lock, task, took.seq, released.seq if released else 0, lost))

    def lane(self, id: str, **changes: Any) -> None:
        """Change what is known of a lane."""
        self.lanes[id] = Lane(**{**self.lanes[id].__dict__, **changes})

    def run(self) -> Run:
        """Return what was written down."""
        taken = {transfer.send for transfer in self.transfers}
        unsent = tuple(
            step.seq for step in self.steps if step.action is Action.SEND and step.seq not in taken and not step.errno
        )
        return Run(
            self.title,
            tuple(self.lanes.values()),
            tuple(sorted(self.steps, key=lambda step: step.seq)),
            tuple(self.transfers),
            tuple(self.holds),
            self.about,
            unsent,
        )


def queue(title: str = "Question 2, deux clients") -> Run:
    """Q2: the child that reserves waits on the queue; two clients ask, the second while the first is being served."""
    record = Recorder(
        title,
        Lane("A", LaneKind.PROCESS, "A", pid=7),
        Lane("B", LaneKind.PROCESS, "B", pid=8),
        Lane("queue 0x2a", LaneKind.QUEUE, "file 0x2a"),
        Lane("server.2", LaneKind.PROCESS, "réservations", pid=4),
        Lane("semaphore /table", LaneKind.SEMAPHORE, "sémaphore /table"),
        Lane("memory", LaneKind.MEMORY, "mémoire 0x2b"),
        Lane("spectacles.dat", LaneKind.FILE, "spectacles.dat"),
    )
    q = "queue 0x2a"
    listens = record.begin("server.2", Action.RECEIVE, q, "msgrcv", words="attend une demande")
    ask = record.do(
        "A",
        Action.SEND,
        q,
        "msgsnd",
        words="demande 3 places du spectacle 5",
        size=12,
        data=b"\x07\0\0\0\x05\0\0\0\x03\0\0\0",
        detail={"type": 2, "pid": 7, "spectacle": 5, "nb_places": 3},
        place="client.c:42",
    )
    waits = record.begin("A", Action.RECEIVE, q, "msgrcv", words="reçoit la réponse : acceptée")
    other = record.do("B", Action.SEND, q, "msgsnd", words="demande 99 places du spectacle 5", size=12)
    waits_b = record.begin("B", Action.RECEIVE, q, "msgrcv", words="reçoit la réponse : refusée")
    record.end(listens, sent=ask, words="prend la demande de A", size=12)
    for asked, seats, waiting, ok in ((ask, 3, waits, True), (other, 99, waits_b, False)):
        if asked is other:
            record.do("server.2", Action.RECEIVE, q, "msgrcv", sent=other, words="prend la demande de B", size=12)
        took = record.do("server.2", Action.TAKE, "semaphore /table", "sem_wait", words="prend le sémaphore")
        record.do("server.2", Action.LOOK, "memory", "reads", words="regarde les places du spectacle 5", count=4)
        if ok:
            record.do(
                "server.2", Action.CHANGE, "memory", "writes", words=f"retire {seats} places", place="table.py:88"
            )
            record.do("server.2", Action.WRITE, "spectacles.dat", "write", words="écrit la table", size=7200)
            record.do("server.2", Action.SYNC, "spectacles.dat", "fsync", words="attend le disque")
        gave = record.do("server.2", Action.RELEASE, "semaphore /table", "sem_post", words="rend le sémaphore")
        record.hold("server.2", "semaphore /table", took, gave)
        reply = record.do(
            "server.2", Action.SEND, q, "msgsnd", words="répond : " + ("acceptée" if ok else "refusée"), size=4
        )
        record.end(waiting, sent=reply, size=4)
    record.begin("server.2", Action.RECEIVE, q, "msgrcv", words="attend une demande")
    return record.run()


def pipes() -> Run:
    """Q1: a client, two children, FIFOs; more lanes than fit."""
    fifos = [
        Lane(f"tub{n}_{what}", LaneKind.FIFO, f"FIFO tub{n}_{what}")
        for n, what in ((1, "view"), (2, "view"), (3, "reserv"), (4, "reserv"), (5, "close"))
    ]
    record = Recorder(
        "Question 1, un client",
        Lane("A", LaneKind.PROCESS, "client A", pid=9),
        *fifos,
        Lane("server", LaneKind.PROCESS, "serveur", pid=2),
        Lane("server.1", LaneKind.PROCESS, "consultations", parent="server", born=1, pid=3),
        Lane("server.2", LaneKind.PROCESS, "réservations", parent="server", born=2, pid=4),
        Lane("memory", LaneKind.MEMORY, "mémoire 0x2b"),
        Lane("semaphore /s", LaneKind.SEMAPHORE, "sémaphore /s"),
        Lane("spectacles.dat", LaneKind.FILE, "spectacles.dat"),
        Lane("log", LaneKind.FILE, "logs/q1.log"),
    )
    for number in (1, 2):
        record.do("server", Action.BIRTH, f"server.{number}", "fork")
    for fifo in fifos:
        record.do("A", Action.OPEN, fifo.id, "open")
    reads = record.begin("server.1", Action.RECEIVE, "tub1_view", "read")
    reads2 = record.begin("server.2", Action.RECEIVE, "tub3_reserv", "read")
    record.begin("server", Action.WAIT, "", "wait", words="attend la fin d'un fils")
    for asks, answers, task, waiting in (
        ("tub1_view", "tub2_view", "server.1", reads),
        ("tub3_reserv", "tub4_reserv", "server.2", reads2),
    ):
        sent = record.do("A", Action.SEND, asks, "write", size=4, data=b"\0\0\0\0")
        back = record.begin("A", Action.RECEIVE, answers, "read")
        record.end(waiting, sent=sent, size=4)
        took = record.do(task, Action.TAKE, "semaphore /s", "sem_wait")
        record.do(task, Action.LOOK, "memory", "reads", count=12, place="table.py:60")
        gave = record.do(task, Action.RELEASE, "semaphore /s", "sem_post")
        record.hold(task, "semaphore /s", took, gave)
        reply = record.do(task, Action.SEND, answers, "write", size=72)
        record.end(back, sent=reply, size=72)
    record.do("server", Action.DECISION, "", "kill", words="le calendrier tue réservations")
    dead = record.do("server.2", Action.DEATH, "", "killed", words="tué par le signal 9")
    record.lane("server.2", died=dead.seq)
    record.do("A", Action.SEND, "tub3_reserv", "write", size=8)
    record.do("A", Action.SEND, "tub3_reserv", "write", size=8)
    return record.run()


def sockets() -> Run:
    """Q5: one connection, a stream that cuts and joins."""
    record = Recorder(
        "Question 5, un client",
        Lane("A", LaneKind.PROCESS, "A", pid=9),
        Lane("connection 8080 #1", LaneKind.SOCKET, "connexion 8080 n° 1"),
        Lane("server", LaneKind.PROCESS, "serveur", pid=2),
        Lane("server.1", LaneKind.THREAD, "thread 1", parent="server", born=4),
        Lane("port 8080", LaneKind.SOCKET, "port 8080"),
    )
    c = "connection 8080 #1"
    accepts = record.begin("server", Action.WAIT, "port 8080", "accept", words="attend un client")
    record.do("A", Action.OPEN, "port 8080", "connect")
    record.end(accepts, words="accepte A")
    record.do("server", Action.BIRTH, "server.1", "thread")
    reads = record.begin("server.1", Action.RECEIVE, c, "recv")
    half = record.do("A", Action.SEND, c, "send", size=6, words="la moitié d'une demande")
    record.end(reads, sent=half, size=6)
    rest = record.do("A", Action.SEND, c, "send", size=6, words="l'autre moitié")
    record.do("server.1", Action.RECEIVE, c, "recv", sent=rest, size=6)
    record.do("server.1", Action.SEND, c, "send", size=4, errno="EPIPE", words="répond : acceptée")
    return record.run()


def deadlock() -> Run:
    """Two threads, two locks, opposite orders."""
    record = Recorder(
        "Deux verrous, deux ordres",
        Lane("p.1", LaneKind.THREAD, "thread 1"),
        Lane("lock a", LaneKind.LOCK, "verrou a"),
        Lane("lock b", LaneKind.LOCK, "verrou b"),
        Lane("p.2", LaneKind.THREAD, "thread 2"),
    )
    a = record.do("p.1", Action.TAKE, "lock a", "pthread_mutex_lock", place="dead.c:12")
    record.do("", Action.DECISION, "", "hold", words="le calendrier retient thread 1")
    b = record.do("p.2", Action.TAKE, "lock b", "pthread_mutex_lock", place="dead.c:22")
    record.begin("p.1", Action.TAKE, "lock b", "pthread_mutex_lock", place="dead.c:13")
    record.begin("p.2", Action.TAKE, "lock a", "pthread_mutex_lock", place="dead.c:23")
    record.hold("p.1", "lock a", a)
    record.hold("p.2", "lock b", b)
    return record.run()


def race(*, locked: bool) -> Run:
    """Two processes sell the last seat; with a lock, or without."""
    record = Recorder(
        "La dernière place" + (", avec un sémaphore" if locked else ", sans verrou"),
        Lane("A", LaneKind.PROCESS, "guichet A", pid=3),
        Lane("memory", LaneKind.MEMORY, "mémoire"),
        Lane("B", LaneKind.PROCESS, "guichet B", pid=4),
        *([Lane("semaphore /s", LaneKind.SEMAPHORE, "sémaphore /s")] if locked else []),
    )
    record.do("A", Action.OPEN, "memory", "shmat")
    record.do("B", Action.OPEN, "memory", "shmat")
    if locked:
        took = record.do("A", Action.TAKE, "semaphore /s", "sem_wait")
    record.do("A", Action.LOOK, "memory", "reads", words="voit 1 place", place="booth.c:31")
    waits = record.begin("B", Action.TAKE, "semaphore /s", "sem_wait") if locked else None
    if not locked:
        record.do("B", Action.LOOK, "memory", "reads", words="voit 1 place", place="booth.c:31")
    record.do("A", Action.CHANGE, "memory", "writes", words="écrit 0", place="booth.c:33")
    if waits is not None:
        gave = record.do("A", Action.RELEASE, "semaphore /s", "sem_post")
        record.hold("A", "semaphore /s", took, gave)
        got = record.end(waits)
        record.do("B", Action.LOOK, "memory", "reads", words="voit 0 place", place="booth.c:31")
        gave = record.do("B", Action.RELEASE, "semaphore /s", "sem_post")
        record.hold("B", "semaphore /s", got, gave)
    else:
        record.do("B", Action.CHANGE, "memory", "writes", words="écrit -1", place="booth.c:33")
    for task in ("A", "B"):
        dead = record.do(task, Action.DEATH, "", "exit", words="finit, code 0")
        record.lane(task, died=dead.seq)
    return record.run()


HOSTILE = (
    "</script><script>document.title='volé'</script>",
    "<img src=x onerror=document.title='volé'>",
    "\x1b[2J\x1b]0;volé\x07\r\n\x9b31m",
    "\u202egnp.exe\u2066\u200f\u061c",
    "é" * 10_240,
    "a\u0300" * 400 + "\u0301" * 400,
    "\"'`}{%}{{ 7 * 7 }}{% raw %}<!--",
    "\ud800\udcff\x00",
    "; Note over A: volé\nA->>B: volé %% #quot; end",
    "\u4e2d\u6587" * 40,
)


def hostile() -> Run:
    """Every name, word, byte and place that a program chooses, as a program would that wants to do harm."""
    tasks = [Lane(f"t{n}{text}", LaneKind.PROCESS, text, pid=n + 1) for n, text in enumerate(HOSTILE[:4])]
    things = [Lane(f"o{n}{text}", LaneKind.QUEUE, text) for n, text in enumerate(HOSTILE[4:8])]
    record = Recorder(HOSTILE[0] + HOSTILE[2] + HOSTILE[3], *tasks, *things)
    record.about = {HOSTILE[1]: HOSTILE[0]}
    for number, text in enumerate(HOSTILE):
        task, thing, other = tasks[number % 4].id, things[number % 4].id, tasks[(number + 1) % 4].id
        sent = record.do(
            task,
            Action.SEND,
            thing,
            text,
            words=text,
            size=len(text),
            data=text.encode("utf-8", "surrogateescape" if "\ud800" not in text else "replace")[:256],
            detail={text[:50]: text, "n": number},
            place=text,
            errno=text[:80] if number == 1 else "",
        )
        if number != 1:
            record.do(
                other, Action.RECEIVE, thing, text, sent=sent, words=text, size=len(text), interrupted=number == 2
            )
    record.begin(tasks[0].id, Action.TAKE, things[0].id, HOSTILE[1], words=HOSTILE[1])
    record.do("", Action.NOTE, words=HOSTILE[0] + HOSTILE[2])
    return record.run()


def long(times: int = 1250) -> Run:
    """A client that asks many times: `times` × 4 steps."""
    record = Recorder(
        "Beaucoup de demandes",
        Lane("A", LaneKind.PROCESS, "A", pid=7),
        Lane("q", LaneKind.QUEUE, "file 0x2a"),
        Lane("server", LaneKind.PROCESS, "serveur", pid=4),
    )
    for number in range(times):
        sent = record.do(
            "A", Action.SEND, "q", "msgsnd", words=f"demande {number}", size=8, data=number.to_bytes(8, "little")
        )
        waits = record.begin("A", Action.RECEIVE, "q", "msgrcv", words=f"reçoit la réponse {number}")
        record.do("server", Action.RECEIVE, "q", "msgrcv", sent=sent, words=f"prend la demande {number}", size=8)
        reply = record.do("server", Action.SEND, "q", "msgsnd", words=f"répond {number}", size=8)
        record.end(waits, sent=reply, size=8)
    return record.run()
