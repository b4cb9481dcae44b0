"""The crash map: a server killed at each call of one reservation, and what a power cut could leave at each of them.

One run is watched to learn the calls of whoever saves and answers, and which files the next start reads; then, in a
fresh world for each of the calls, the server is killed there, all its processes at once, and started again. What the
client was told is what it had been told when everybody was at rest, just before the kill.

Ours or anybody's: what is known of the program is its profile.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from spectacles.common.errors import NoServerError, SpectaclesError, UsageError
from spectacles.common.spectacle import Spectacle, pack_table
from spectacles.lab.dossier import building, ours, profile
from spectacles.lab.dossier.driving import Bench, Client, NotReadyError, Request, describe
from spectacles.lab.dossier.profile import Profile
from spectacles.lab.dossier.sites import RECEIVING, SENDING, At, Site, placed
from spectacles.lab.gate.events import RELEASES, WANTS, Event, Kind
from spectacles.lab.gate.policy import Decision, Go, Hold
from spectacles.lab.gate.policy import Gate as PolicyGate
from spectacles.lab.hazards.disk import AFTER, BAD, BEFORE, EMPTY, GONE, TORN, UNKNOWN, Disk
from spectacles.lab.programs.questions import Question

OTHER, DAMAGED = "autre", "abîmé"  # other bytes than before and after, of which the next start makes something, or not
TOLD, REFUSED, SILENT = "réservé", "refusé", "sans réponse"
SHOW, SEATS, ASKED = 5, 100, 3
MOST = 40  # calls that are tried
PATIENCE = 5.0  # seconds for an answer, where nobody is held
START = 30.0  # seconds for one with everybody under the gate, on a busy machine
REST = 3.0  # seconds in which those come to rest who ever will
LARGEST = 1 << 20  # bytes of a data file
PORT = ("--port", "7501")  # of question 5, in a world of its own
LOCKS = (WANTS, RELEASES, "semop", "fcntl", "flock")
_CALLS = (*SENDING, *RECEIVING, "open", "rename", "unlink", "ftruncate", "fsync", *LOCKS)
_ON_FILES = ("write", "ftruncate", "fsync", "rename", "unlink", "open")
_KINDS = {  # singular and plural
    "queue": ("file", "files"),
    "shared memory": ("mémoire", "mémoires"),
    "semaphores": ("jeu de sémaphores", "jeux de sémaphores"),
    "POSIX semaphore": ("sémaphore", "sémaphores"),
    "POSIX shared memory": ("mémoire POSIX", "mémoires POSIX"),
    "POSIX queue": ("file POSIX", "files POSIX"),
    "FIFO": ("FIFO", "FIFO"),
}
_ASIDE = ("terminal", "memfd")  # what has no part in the reservation
_OURS_ASIDE = (*_ASIDE, "logs", "pipe")  # and in our servers: how they keep themselves alive


@dataclass(frozen=True)
class Subject:
    """A program that is mapped. folder: as built. item, seats: what is reserved. aside: objects that do not matter."""

    folder: Path
    profile: Profile
    item: str
    seats: int
    aside: tuple[str, ...] = _ASIDE

    def bench(self, policy: At | None = None) -> Bench:
        """Return a fresh world of it, with a gate."""
        return Bench(self.folder, self.profile, PATIENCE, policy, gated=True, private=True)


@contextlib.contextmanager
def of_question(question: Question) -> Iterator[Subject]:
    """Yield one of the ten servers in a folder of its own. Raises SpectaclesError without what it takes to build it."""
    with tempfile.TemporaryDirectory(prefix="spectacles-") as name:
        shows = {show: Spectacle(show + 1, f"Spectacle {show}", "2027-01-01", SEATS) for show in range(SHOW + 1)}
        question.prepare(name, pack_table(shows))
        known = ours.profile(question, {SHOW: SEATS}, timeout=START)
        yield Subject(Path(name), known, str(SHOW), ASKED, _OURS_ASIDE)


@contextlib.contextmanager
def of_dossier(source: str, path: str) -> Iterator[Subject]:
    """Build the program in the folder `source`, whose profile lies at `path`, and yield it.

    Raises UsageError where the profile says too little, NoServerError where the folder does not build.
    """
    known = profile.load(path)
    if not Path(source).is_dir():
        raise UsageError(f"{source} : ce n'est pas un dossier")
    if not known.talks:
        raise UsageError(f"{path} : il manque comment son client consulte et réserve, ou ce qu'on lui répond")
    seats = min(ASKED, known.most_seats or ASKED)
    item = next((one for one in known.items if one.seats is None or one.seats > seats), None)
    if item is None:
        raise UsageError(f"{path} : rien n'a plus de {seats} place(s), [items]")
    with tempfile.TemporaryDirectory(prefix="spectacles-") as into:
        Path(into).chmod(0o755)
        try:
            built = building.build(source, into, known.build, known.files)
        except building.BuildError as error:
            raise NoServerError(str(error)) from None
        yield Subject(built.folder, known, item.typed, seats)


@dataclass(frozen=True)
class Row:
    """What came of a kill just before a call."""

    point: str  # the call, for people
    told: str  # TOLD, REFUSED, SILENT
    file: str  # BEFORE, AFTER, EMPTY, TORN, GONE, OTHER, DAMAGED; of several files each by its name
    left: str  # in the kernel, in words; "" for nothing
    again: str  # why the next start does not serve, "" when it does
    starts: bool  # whether it starts at all
    seats: int | None  # that it then has
    disk: tuple[str, ...]  # what a power cut here could leave
    broken: bool  # whether a promise is not kept: told yes and gone, or a table lost, or no service
    broken_by_power_cut: bool  # whether a power cut here could break one


@dataclass(frozen=True)
class Map:
    """All rows, in the order of the calls; the last is of a server at rest after its answer."""

    rows: Sequence[Row]
    files: tuple[str, ...]  # where reservations are kept
    seats: int  # at the start
    asked: int
    durable: bool  # whether what is acknowledged must outlive the server
    missing: int = 0  # calls that were not tried, or did not come again


@dataclass(frozen=True)
class _Watched:
    """What one reservation is made of. before, after: seats. old, new: the data files. sites[-1]: None, at rest."""

    before: int
    after: int
    files: tuple[str, ...]
    old: Mapping[str, bytes]
    new: Mapping[str, bytes]
    durable: bool
    sites: Sequence[Site | None]
    disks: Sequence[tuple[str, ...]]
    skipped: int
    ready: float  # seconds after which a server that never sleeps is taken for ready


def crash_map(subject: Subject) -> Map:
    """Return the map. Blocks for some ten seconds. Raises SpectaclesError."""
    seen = _watch(subject)
    with ThreadPoolExecutor(2) as pool:
        rows = list(pool.map(lambda pair: _kill_at(subject, seen, *pair), zip(seen.sites, seen.disks, strict=True)))
    found = [row for row in rows if row is not None]
    missing = seen.skipped + len(rows) - len(found)
    return Map(found, seen.files, seen.before, subject.seats, seen.durable, missing)


# Watching


def _watch(subject: Subject) -> _Watched:
    """Let one reservation be made, stop the server and start it again."""
    with subject.bench() as bench:
        begun = time.monotonic()
        client, _ = _ready(bench, subject)
        ready = START if time.monotonic() - begun < START else PATIENCE
        gate = bench.gate
        assert gate is not None
        old = _contents(bench)
        since = len(gate.events())
        answer = bench.ask(client.reserve(subject.item, subject.seats), timeout=START)
        if answer.state != "yes":
            raise SpectaclesError(f"la réservation n'est pas acceptée : {answer}")
        gate.until_quiet(REST)
        events = gate.events(since)
        new = _contents(bench)
        left = bench.ask(client.consult(subject.item), timeout=START).left
        if left is None:
            raise SpectaclesError("une consultation n'a pas de réponse")
        lasting = set(bench.lasting)
        client.quit()
        gate.until_quiet(REST)
        client.kill()
        bench.stop()
        server = bench.serving
        if not bench.until(lambda: server.code is not None):
            bench.kill_server()
        since = len(gate.events())
        kept = False
        with contextlib.suppress(NotReadyError):
            _serve(bench, ready)
            kept = bench.ask(bench.client("B").consult(subject.item), timeout=START).left == left
        files = _data(old, new, gate.events(since))
        folder = bench.world.inside
    known = subject.profile
    fixed = all(one.seats is not None for one in known.items if one.typed == subject.item)
    durable = fixed and known.expects("durable") and (kept or known.question > 0)
    sites, disks, skipped = points(events, lasting, files, new, folder, subject.aside)
    return _Watched(left + subject.seats, left, files, old, new, durable, sites, disks, skipped, ready)


def _serve(bench: Bench, ready: float, *, gated: bool = True) -> None:
    """Start the server, and wait until it is ready; one that never sleeps is taken for it after `ready` seconds.

    Raises NotReadyError.
    """
    program = bench.serve(gated=gated, wait=False)
    bench.wait_ready(program, until=ready)
    if bench.gate is not None:
        bench.lasting = set(bench.gate.tasks)


def _ready(bench: Bench, subject: Subject, ready: float = START) -> tuple[Client, set[tuple[str, str]]]:
    """Start the server and its client; one that has a menu is brought there by a question.

    Return the client, and the kernel objects that the server has made by then. Raises NoServerError.
    """
    try:
        _serve(bench, ready)
    except NotReadyError as error:
        raise NoServerError(str(error)) from None
    made = _objects(bench)
    client = bench.client("A", gated=True)
    if subject.profile.style == "menu" and not (answer := bench.ask(client.consult(subject.item), timeout=START)).known:
        raise SpectaclesError(f"une consultation n'a pas de réponse : {answer}")
    return client, made


def _objects(bench: Bench) -> set[tuple[str, str]]:
    """Return what lies in the kernel, and files: kind and name."""
    return {(thing.kind, thing.name) for thing in bench.world.objects().objects}


def _contents(bench: Bench, names: Sequence[str] | None = None) -> dict[str, bytes]:
    """Return the regular files in the program's folder, or of those names, with their bytes."""
    top = bench.world.folder
    if names is None:
        names = [os.path.relpath(os.path.join(place, name), top) for place, _, found in os.walk(top) for name in found]
    found = {}
    for name in names:
        with contextlib.suppress(OSError):
            status = os.lstat(top / name)
            if stat.S_ISREG(status.st_mode) and status.st_size <= LARGEST:
                found[name] = (top / name).read_bytes()
    return found


def _data(old: Mapping[str, bytes], new: Mapping[str, bytes], start: Sequence[Event]) -> tuple[str, ...]:
    """Return the files that the reservation has changed and the next start reads; if it reads none, all of them."""
    changed = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
    unread = {"O_WRONLY", "O_TRUNC", "O_APPEND"}  # of others, what is not read is perhaps mapped
    calls = [event for event in start if event.kind == Kind.CALL]
    read = {event.object for event in calls if event.call == "read"}
    read |= {
        event.object for event in calls if event.call == "open" and not unread & set(event.arguments["flags"].split())
    }
    return tuple(name for name in changed if name in read) or tuple(changed)


def points(
    events: Sequence[Event],
    lasting: set[str],
    files: tuple[str, ...],
    new: Mapping[str, bytes],
    folder: str,
    aside: tuple[str, ...],
) -> tuple[list[Site | None], list[tuple[str, ...]], int]:
    """Choose, of the calls of a reservation, those of whoever saves or answers, from the request to their next rest.

    Return them, None for that rest, and what the disk may hold just before each; and how many more there are than MOST.
    """
    served = [event for event in events if event.task.startswith("server")]
    kept = {*files}  # and what becomes one of these
    for event in reversed(served):
        if event.call == "rename" and event.arguments.get("to") in kept:
            kept.add(event.object)
    plain = {name for name in new if name not in kept}
    told = [event for event in served if _is_told(event, kept, plain, aside)]
    begin = {}
    for event in reversed(told):
        mine = [other for other in served if other.task == event.task and other.seq < event.seq]
        before = [other.seq for other in mine if _got(other) and other.object not in {*new, *kept}]
        begin[event.task] = before[-1] if before else 0  # of one that was born with its request
    found = [
        (event, site)
        for event, site in placed(served, lasting, ("server",))
        if event.seq > begin.get(event.task, event.seq)
        and event.call in _CALLS
        and event.object not in plain
        and not event.object.startswith(aside)
        and not (event.seq > told[-1].seq and event.call in RECEIVING)  # where it rests, or will
    ]
    chosen = found
    if len(found) > MOST:
        telling = sorted(
            found, key=lambda pair: (pair[0] not in told, pair[0].call not in (WANTS, RELEASES), pair[0].seq)
        )
        chosen = sorted(telling[:MOST], key=lambda pair: pair[0].seq)
    calls = [event for event in served if event.kind == Kind.CALL and event.call in _ON_FILES]
    disk = Disk(files, new, calls, folder)
    silent = bool(files) and not any(event.object in kept for event in calls)  # through memory
    disks = []
    for event, _ in chosen:
        while calls and calls[0].seq < event.seq:
            disk.take(calls.pop(0))
        disks.append((UNKNOWN,) if silent else disk.may_hold() or (BEFORE,))
    for event in calls:
        disk.take(event)
    disks.append((UNKNOWN,) if silent else disk.may_hold() or (BEFORE,))
    return [*(site for _, site in chosen), None], disks, len(found) - len(chosen)


def _is_told(event: Event, kept: set[str], plain: set[str], aside: tuple[str, ...]) -> bool:
    """Say whether a call saves or answers."""
    if event.kind != Kind.CALL or event.object in plain or event.object.startswith(aside):
        return False
    if event.object in kept:
        return event.call in _ON_FILES and (event.call != "open" or "O_TRUNC" in str(event.arguments.get("flags", "")))
    return event.call in SENDING


def _got(event: Event) -> bool:
    """Say whether a call has brought something."""
    there = event.kind == Kind.RESULT and event.call in RECEIVING and event.object != "terminal"
    return there and event.result != 0 and not event.errno


# Killing


class _KillAt(At):
    """Holds the server at a site once it is armed; its clients go on."""

    def __init__(self) -> None:
        super().__init__(None, Hold())

    def decide(self, gate: PolicyGate, event: Event) -> Decision:
        """Hold it there."""
        return super().decide(gate, event) if event.task.startswith("server") else Go()


def _kill_at(subject: Subject, seen: _Watched, site: Site | None, disk: tuple[str, ...], again: int = 1) -> Row | None:
    """Kill the server at a site, None: at rest after its answer. Return None if the run never comes there."""
    policy = _KillAt()
    with subject.bench(policy) as bench:
        client, made = _ready(bench, subject, seen.ready)
        request = client.reserve(subject.item, subject.seats)
        if site is not None:
            policy.arm(site, bench.lasting)
        bench.drive(request, timeout=START, until=lambda: policy.reached.is_set() or _never(bench, request))
        _rest(bench, request)
        if site is not None and not policy.reached.is_set():
            return _kill_at(subject, seen, site, disk, again - 1) if again else None
        state = request.answer.state if request.answer is not None else ""
        told = {"yes": TOLD, "no": REFUSED}.get(state, SILENT)
        bench.kill_server()
        left = Counter(kind for kind, _ in made & _objects(bench))
        file = _state(seen, _contents(bench, seen.files))
        client.kill()
        bench.until(lambda: client.program is None or client.program.code is not None)
        starts, why, seats = _start_again(bench, subject, seen.ready)
    sound = not why and (not seen.durable or seats in (seen.before, seen.after))
    file = file.replace(OTHER, OTHER if sound else DAMAGED)
    lost = seen.durable and (seats not in (seen.before, seen.after) or (told == TOLD and seats != seen.after))
    cut = seen.durable and (bool(BAD & set(disk)) or (told == TOLD and disk not in ((AFTER,), (UNKNOWN,))))
    served = bool(why) and subject.profile.expects("restart")
    return Row(_shown(site), told, file, _words(left), why, starts, seats, disk, served or (lost and not why), cut)


def _never(bench: Bench, request: Request) -> bool:
    """Say whether the reservation is over, or waits for ever, with nobody held."""
    gate = bench.gate
    assert gate is not None
    return request.done or (request.sent and not gate.held() and bench.quiet_for > REST)


def _rest(bench: Bench, request: Request) -> None:
    """Wait until everybody is at rest, and what was answered has been read."""
    gate = bench.gate
    assert gate is not None
    for _ in range(2):  # the second time for what was typed at the first
        gate.until_quiet(REST)
        request.step()


def _state(seen: _Watched, now: Mapping[str, bytes]) -> str:
    """Say what the data files hold."""
    words = {}
    for name in seen.files:
        old, new, data = seen.old.get(name), seen.new.get(name), now.get(name)
        if data == new:
            words[name] = AFTER
        elif data == old:
            words[name] = BEFORE
        elif not data:
            words[name] = GONE if data is None else EMPTY
        else:
            words[name] = TORN if len(data) < min(len(old or b""), len(new or b"")) else OTHER
    if len(set(words.values())) < 2:
        return next(iter(words.values()), BEFORE)
    return ", ".join(f"{name} {word}" for name, word in words.items())


def _start_again(bench: Bench, subject: Subject, ready: float) -> tuple[bool, str, int | None]:
    """Start it once more, and ask it. Return whether it starts, why it does not serve, and the seats it has."""
    try:
        _serve(bench, ready, gated=False)
    except NotReadyError as error:
        return False, str(error), None
    looker, buyer = bench.client("B"), bench.client("C")
    seen = bench.ask(looker.consult(subject.item), timeout=START)
    answer = seen
    if seen.known:
        looker.quit()
        looker.kill()
        answer = bench.ask(buyer.reserve(subject.item, 1), timeout=START)
    if answer.known:
        return True, "", seen.left
    return True, f"{answer} ; serveur : {describe(sorted(bench.server_tasks(), key=lambda one: one.tid))}", seen.left


def _words(counts: Mapping[str, int]) -> str:
    """Say in French what lies in the kernel, and FIFOs."""
    return ", ".join(f"{counts[kind]} {words[counts[kind] > 1]}" for kind, words in _KINDS.items() if counts.get(kind))


def _shown(site: Site | None) -> str:
    """Say where, for people."""
    if site is None:
        return "au repos, ensuite"
    words = {WANTS: "prendre", RELEASES: "rendre"}
    thing = plain(site.shown)
    if site.call in words:
        thing = "sémaphore" if thing.startswith("semaphore ") else "verrou"
    return f"{words.get(site.call, site.call)}({thing})"


def plain(name: str) -> str:
    """Return an object's name without what is another in every run: a key from the directory, a number of a pipe."""
    return re.sub(r"[ -]?(?:0x)?[0-9a-f]{8}\b| #\d+$", "", name)
