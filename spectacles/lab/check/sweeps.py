"""Layer B: every call between a request and its answer, one at a time: delayed, killed there, failed.

No knowledge of the program is needed. One request is watched; each call that the server makes for it is a place where
a second client may come in between, where a kill -9 may fall, where the disk may be full.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import signal
import stat
from dataclasses import replace
from typing import TYPE_CHECKING

from spectacles.lab.check.dialogue import all_wait, judge, resume, suspend
from spectacles.lab.check.model import NotApplicable, NotReached, Outcome, defect, ok
from spectacles.lab.check.registry import check
from spectacles.lab.check.starts import PIPED, RUNNING, processor_use
from spectacles.lab.dossier.driving import NotReadyError, describe, ending
from spectacles.lab.dossier.sites import ANY, BORN, RECEIVING, SENDING, At, BeforeAnswer, Site, sites
from spectacles.lab.gate import calls
from spectacles.lab.gate.events import Kind
from spectacles.lab.gate.policy import Fail, Hold, Kill
from spectacles.lab.gate.supervisor import GateError
from spectacles.lab.programs.world import WorldError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spectacles.lab.check.case import Case
    from spectacles.lab.dossier.driving import Answer, Bench, Client, Request
    from spectacles.lab.dossier.tasks import Doing
    from spectacles.lab.gate.events import Event

HELD = (*calls.NAMES, "begins")
MOST = 24  # places of one sweep
IPC_NOWAIT = 0o4000
INTERRUPTED = 6  # calls that are interrupted, at most
QUICK = 8  # with --quick
SECONDS = 12.0  # of one sweep: then the places that are left are not tried
FEW = 24  # of them, at least: the answers to these fill the queue of a usual machine, 16384 bytes
CROWD = 40  # clients that vanish, one after the other: more than any queue has room for
WATCHES = 3  # worlds in which one reservation is watched, if it is not answered at once
LOCKS = r"sem_open|semget|SEM_UNDO|pthread_mutexattr|flock|fcntl"  # where a lock is made
SUSPENDED = "suspendu"  # the script of clients that are killed while the server is suspended
GONE = 3  # of them, one after the other
QUIET = 0.03  # seconds for which nobody has run: all that could be said has been
COMES = "vient!"  # before the script of a place where the server begins to serve a client that has come
ON_FILES = ("write", "fsync", "open", "rename", "ftruncate")
_ELSEWHERE = (
    "queue",
    "private queue",
    "connection",
    "socket",
    "pipe",
    "terminal",
    "port",
    "semaphore",
    "memory",
    "POSIX",
)


def _watch(case: Case) -> tuple[list[Site], list[Event]]:
    """Return the calls that the server makes for one reservation, and all events of it. Raises NotReached."""
    for _ in range(WATCHES - 1):  # some do not always answer, with nothing done to them
        with contextlib.suppress(NotReached):
            return _watch_once(case)
    return _watch_once(case)


def _watch_once(case: Case) -> tuple[list[Site], list[Event]]:
    item = case.item().typed
    with case.bench(gated=True, gate_options={"calls_held": HELD}) as bench:
        bench.serve()
        gate = bench.gate
        assert gate is not None
        a = bench.client("A")
        case.seats(bench, a, item)
        case.granted(bench.ask(a.reserve(item, 1)))  # whatever is done once only is done
        bench.settle(case.patience / 4)
        since = len(gate.events())
        case.granted(bench.ask(a.reserve(item, 1)))
        bench.settle(case.patience / 4)
        events = gate.events(since)
        return sites(events, bench.lasting, ("server",)), events


def _chosen(case: Case, found: list[Site]) -> list[Site]:
    """Return the places to be tried: the one of the script, else as many as there is time for, those that say most."""
    if case.script:
        return [Site.of_script(case.script)]
    most = QUICK if case.quick else MOST
    order = sorted(range(len(found)), key=lambda at: (_dull(found[at]), _ahead(found, at), at))[:most]
    return [found[at] for at in order]


def _ahead(found: list[Site], at: int) -> int:
    """Return how many calls there are from a place to where something is written down: what is wrong is wrong there."""
    return next((ahead for ahead, site in enumerate(found[at:]) if _writes_down(site)), len(found))


def _writes_down(site: Site) -> bool:
    return site.call == "write" and not site.shown.startswith(_ELSEWHERE)


def _dull(site: Site) -> int:
    """Return how little is to be expected of a place: most just before something is written down."""
    if _writes_down(site):
        return -1
    if (
        site.call in ("begins", *SENDING, *ON_FILES, "wants", "releases", "semop", "flock", "fcntl")
        and site.shown != "terminal"
    ):
        return 0
    return 2 if site.shown == "terminal" or site.call in ("birth", "thread") else 1


@check(
    "delay",
    finds=(28, 29),
    layer="B",
    does="retarde le serveur à chacun de ses appels pendant qu'un second client demande",
    needs=("two clients", "gate"),
    rank=100,
)
def delay(case: Case) -> Iterator[Outcome]:
    """Whatever comes in between, the answers are those of some order, and each goes to whoever asked."""
    if case.script.startswith(COMES):
        outcome = _arrive(case, Site.of_script(case.script.removeprefix(COMES)))
        if outcome is not None:
            yield outcome
        return
    if not case.script and (known := case.found & {28, 29}):  # by the explorer, with less to be read
        raise NotReached(f"deux clients à la fois, déjà : défaut {min(known)}")
    found, _ = _watch(case) if not case.script else ([], [])
    todo = _chosen(case, found)
    bad = tried = 0
    failures = _Failures()
    arrivals: list[Site] = []
    with _Failures():
        arrivals = _watch_arrival(case) if not case.script else []
    for site in arrivals:
        outcome = _arrive(case, site)
        if outcome is not None:
            yield outcome
            bad += 1
    budget = case.within(SECONDS / 3 if case.quick else SECONDS)
    while todo and budget:
        policy = At(None, Hold())
        with failures, case.bench(policy, gate_options={"calls_held": HELD}) as bench:  # until its seats are sold
            bench.serve()
            clients = [bench.client(name) for name in ("A", "B", "C")]
            seats = {item.typed: case.seats(bench, clients[0], item.typed) for item in case.profile.items[:6]}
            case.granted(bench.ask(clients[0].reserve(case.item().typed, 1)))
            seats[case.item().typed] -= 1
            case.seats(bench, clients[1], case.item().typed)
            while todo and budget and (item := _enough(seats)):
                site = todo.pop(0)
                outcome, reached, left = _delay(case, bench, policy, site, clients, item, seats[item])
                tried += reached
                if outcome is not None:
                    yield outcome
                    bad += 1
                if outcome is not None or left is None:
                    break
                seats[item] = left
        if not case.script and bad >= 2:
            return
    if not bad:
        yield ok(f"{tried} appels retardés sur {len(found)}")


class _Failures:
    """Worlds in which a program did not answer although nothing was done to it: a few are passed over."""

    def __init__(self, most: int = 3) -> None:
        self._most = most

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        """Pass over NotReached, a few times."""
        if kind is None or not issubclass(kind, NotReached) or not self._most:
            return False
        self._most -= 1
        return True


def _watch_arrival(case: Case) -> list[Site]:
    """Return what the server does for a client that comes, where it comes once and stays: a thread of its own begins.

    [] where a client comes for every request: then that is among the calls of one request.
    """
    if case.profile.style != "menu" or case.profile.channel.kind != "tcp":
        return []
    item = case.item().typed
    with case.bench(gated=True, gate_options={"calls_held": HELD}) as bench:
        bench.serve()
        assert bench.gate is not None
        case.seats(bench, bench.client("A"), item)
        bench.settle(case.patience / 4)
        since = len(bench.gate.events())
        case.seats(bench, bench.client("B"), item)
        found = sites(bench.gate.events(since), bench.lasting, ("server",))
    return [one for one in found if one.call == "begins"][:1]


def _arrive(case: Case, site: Site) -> Outcome | None:
    """Hold the server where it begins to serve a client that has come, while another comes; both must be answered."""
    item = case.item().typed
    policy = At(site, Hold())
    with case.bench(policy, gate_options={"calls_held": HELD}) as bench:
        gate = bench.gate
        assert gate is not None
        bench.serve()
        a, b = bench.client("A"), bench.client("B")
        first, second = a.consult(item), b.consult(item)
        policy.arm(site, bench.lasting)
        bench.drive(first, until=policy.reached.is_set)
        if not policy.reached.is_set():
            return None
        bench.log.append(f"A vient ; le serveur est retenu {site}")
        bench.drive(second, timeout=bench.patience / 2, until=lambda: bench.quiet_for > 0.03)
        assert policy.event is not None
        with contextlib.suppress(GateError):  # its task may have died meanwhile
            gate.let(policy.event.task)
        bench.log.append("B vient pendant ce temps ; le serveur est relâché")
        answers = bench.ask_all(first, second)
        lost = [answer for answer in answers if not answer.known]
        if len(lost) != 1 or lost[0].state != "stuck" or bench.ended(bench.serving):
            return None
        return defect(
            28,
            "Deux clients qui arrivent ensemble sont mélangés : l'un prend la place de l'autre, sans réponse.",
            done=f"{_doing(site)} ; un second client arrive, et tous deux consultent",
            expected="chacun a sa réponse",
            seen=" ; ".join(map(str, answers)),
            timeline=[*bench.log, *_told(bench)],
            source=case.place(policy.event) or case.source(r"pthread_create\s*\(|thrd_create\s*\(|accept\s*\("),
            script=COMES + site.script,
        )


def _enough(seats: dict[str, int]) -> str:
    """Return the show with the fewest seats that are enough for one trial, "" when there is none."""
    some = [item for item, left in seats.items() if left >= 4]
    return min(some, key=lambda item: seats[item]) if some else ""


def _delay(
    case: Case, bench: Bench, policy: At, site: Site, clients: list[Client], item: str, left: int
) -> tuple[Outcome | None, bool, int | None]:
    """Hold the server at one place while a second client asks.

    Return what is wrong, whether it came there, and the seats that are left, None when that is not known any more.
    """
    a, b, c = clients
    bench.log.clear()
    answers: list[Answer] = []
    reached = False
    # First one that must be granted against one that must not, then two of which only one can be.
    half = (left - 1) // 2 + 1
    limit = case.profile.most_seats
    named = case.profile.named
    for mine, other in ((1, left + 100), (half, half)):
        same = bench.seat() if named and mine != 1 else ""
        first = a.reserve(item, min(mine, limit or mine), same)
        second = b.reserve(item, min(other, limit or other), same)
        both, there = _held(bench, policy, site, first, second)
        reached = reached or there
        # of one place for two, the refusal is about the place, not about how many are left
        answers += [answer for answer in both if not (same and answer.state == "no")]
        if same and [answer.state for answer in both] == ["yes", "yes"]:
            return _twice(case, bench, policy, site, same, both), True, None
        swapped = mine == 1 and not limit and both[1].state == "yes"
        if 7 in case.found and (swapped or not all(answer.known for answer in both)):
            return None, reached, None  # a request that is read in the wrong pieces may say anything
        if swapped and not _mixed_up(case, bench, c, both, item, left):
            return None, reached, None
        # Late is not lost: on a busy machine all that can be told is that everybody sleeps.
        lost = there and sorted(answer.state == "stuck" for answer in both if not answer.known) == [True]
        if swapped or (lost and bench.ask(c.consult(item)).known):
            return (
                defect(
                    28,
                    "Deux requêtes sont mélangées : la réponse de l'une va à l'autre."
                    if swapped
                    else "Deux requêtes sont mélangées : l'une prend la place de l'autre, qui n'a pas de réponse.",
                    done=f"{_doing(site)} ; A réserve {mine} place(s), B {other} alors qu'il en reste {left}",
                    expected="A accepté, B refusé" if swapped else "chacun a sa réponse",
                    seen=" ; ".join(map(str, both)),
                    timeline=[*bench.log, *_told(bench)],
                    source=case.place(policy.event) or case.source(r"pthread_create\s*\(|static .*[Rr]equ|malloc\s*\("),
                    script=site.script,
                ),
                True,
                None,
            )
    final = bench.ask(c.consult(item))
    sure = all(answer.known for answer in answers) and final.left is not None
    if not case.profile.counts:
        return None, reached, final.left if sure else None
    what = judge(
        [*answers, final] if sure else answers,
        left,
        bench,
        case,
        f"{_doing(site)} ; A et B réservent",
        script=site.script,
        source=case.place(policy.event),
    )
    return what, reached, final.left if sure else None


def _mixed_up(case: Case, bench: Bench, client: Client, both: list[Answer], item: str, left: int) -> bool:
    """Say whether it is A's request that B was granted: B has A's answer, or A's seat was sold twice.

    A server that grants whatever is asked mixes up nothing, nor does one that has read something else than was asked.
    """
    if both[0].state == "yes":
        after = bench.ask(client.consult(item)).left
        if after is not None and after != left - 2 * both[0].seats:
            return False
    return _refused_alone(case, item)


def _refused_alone(case: Case, item: str) -> bool:
    """Say whether a client that is alone is refused more than there is."""
    with case.bench() as bench:
        bench.serve()
        client = bench.client("A")
        left = case.seats(bench, client, item)
        return bench.ask(client.reserve(item, left + 100)).state == "no"


def _twice(case: Case, bench: Bench, policy: At, site: Site, seat: str, both: list[Answer]) -> Outcome:
    """Return that one place was sold to two clients."""
    return defect(
        29,
        f"Une place est vendue deux fois : la {seat}, à A et à B.",
        done=f"{_doing(site)} ; A et B réservent la place {seat}",
        expected="l'un l'obtient, l'autre est refusé",
        seen=" ; ".join(map(str, both)),
        timeline=[*bench.log, *_told(bench)],
        source=case.place(policy.event) or case.source(r"lock|sem_wait|semop"),
        script=site.script,
    )


def _held(bench: Bench, policy: At, site: Site, first: Request, second: Request) -> tuple[list[Answer], bool]:
    """Let A ask until the server is at the place, then B until nothing moves; let go; return both answers."""
    gate = bench.gate
    assert gate is not None
    policy.arm(site, bench.lasting)
    bench.drive(first, until=policy.reached.is_set)
    there = policy.reached.is_set()
    if there:
        bench.log.append(f"A réserve {first.seat or first.seats} ; le serveur est retenu {site}")
        bench.drive(second, timeout=bench.patience / 2, until=lambda: second.sent and bench.quiet_for > 0.03)
        assert policy.event is not None
        with contextlib.suppress(GateError):  # its task may have died meanwhile
            gate.let(policy.event.task)
        bench.log.append(f"B réserve {second.seat or second.seats} pendant ce temps ; le serveur est relâché")
    return bench.ask_all(first, second), there


def _doing(site: Site) -> str:
    return f"retenir le serveur {site}"


def _told(bench: Bench) -> list[str]:
    """Return the last calls that the gate saw, as lines."""
    gate = bench.gate
    if gate is None:
        return []
    seen = [event for event in gate.events() if event.kind in (Kind.CALL, Kind.MARK)]
    return [f"{event.task}: {event.call}({event.object})" for event in seen[-6:]]


@check(
    "kill",
    finds=(6, 30, 32, 33, 7),
    layer="B",
    does="tue le serveur à chacun de ses appels, le relance, et compte ce qui avait été acquitté",
    needs=("client", "gate"),
    rank=110,
)
def kill(case: Case) -> Iterator[Outcome]:
    """Wherever kill -9 falls, the next server starts and serves; what it stores, it stores whole."""
    stores, changed = _stores(case) if not case.script else (True, not case.script.startswith("|"))
    found, _ = _watch(case) if not case.script else ([], [])
    bad: set[int] = set()
    if stores and not changed and (not case.script or case.script == "|idle"):
        outcome = _kill_idle(case)
        if outcome is not None:
            bad.add(outcome.defect)
            yield outcome
    tried = 0
    todo = _chosen(case, found) if case.script != "|idle" else []
    budget = case.within(SECONDS / 3 if case.quick else SECONDS)
    failures = _Failures()
    while todo and budget and len(bad) < 3:
        policy = At(None, Hold())
        with failures, case.bench(policy, gate_options={"calls_held": HELD}) as bench:
            bench.serve()
            left = case.seats(bench, bench.client("A"), case.item().typed)
            while todo and budget and left >= 4:
                outcome, reached, left = _kill(case, bench, policy, todo.pop(0), left, stores and 32 not in bad)
                tried += reached
                if outcome is not None and outcome.defect not in bad:
                    bad.add(outcome.defect)
                    yield outcome
    if not bad:
        what = "" if stores else " ; il ne garde rien sur disque, ce qui est permis"
        yield ok(f"tué à {tried} appels sur {len(found)}{what}")


def _stores(case: Case) -> tuple[bool, bool]:
    """Say whether the program keeps reservations on disk, and whether it writes while it answers.

    It does if they are there after a clean stop and a new start, or if the assignment says so.
    """
    if not case.profile.expects("durable") or not case.profile.counts:
        return False, False
    item = case.item().typed
    with case.bench() as bench:
        server = bench.serve()
        a = bench.client("A")
        before = case.seats(bench, a, item)
        files = _files(bench)
        case.granted(bench.ask(a.reserve(item, 1)))
        changed = _files(bench) != files
        if case.item().seats not in (None, before):
            return False, changed  # random at each start: nothing can be said of the next
        a.quit()
        bench.settle(0.2)
        a.kill()
        bench.stop(server)
        if not bench.until(lambda: server.code is not None):
            bench.kill_server()
        try:
            bench.serve()
        except NotReadyError:
            return case.question > 0, changed
        kept = bench.ask(bench.client("B").consult(item)).left == before - 1
        return kept or case.question > 0, changed


def _files(bench: Bench) -> dict[str, tuple[int, bytes]]:
    """Return the data files in the program's folder: size and contents."""
    found = {}
    for top, _, names in os.walk(bench.world.folder):
        for name in names:
            path = os.path.join(top, name)
            with contextlib.suppress(OSError):
                status = os.lstat(path)
                if stat.S_ISREG(status.st_mode) and status.st_size < 1 << 20 and not status.st_mode & 0o111:
                    if name.endswith((".log", ".c", ".h", ".o", ".txt~")):
                        continue
                    with open(path, "rb") as file:
                        found[os.path.relpath(path, bench.world.folder)] = (status.st_size, file.read())
    return found


def _kill_idle(case: Case) -> Outcome | None:
    """Kill the server when nobody asks; what was acknowledged must be there."""
    item = case.item().typed
    with case.bench() as bench:
        bench.serve()
        a = bench.client("A")
        before = case.seats(bench, a, item)
        case.granted(bench.ask(a.reserve(item, 2 if case.most(2) == 2 else 1)))
        bench.settle(0.2)
        _kill_server(case, bench)
        bench.log.append("le serveur est tué (kill -9), puis relancé")
        try:
            _serve_again(case, bench)
        except NotReadyError:
            return None
        answer = bench.ask(bench.client("B").consult(item))
        if answer.left == before:
            return defect(
                32,
                "Une réservation acquittée est perdue si le serveur est tué : il ne sauve qu'en finissant.",
                done="réserver, tuer le serveur par kill -9 une fois la réponse lue, le relancer, consulter",
                expected="la réservation est faite",
                seen=f"il reste {before} place(s), comme avant",
                timeline=bench.log,
                source=case.source(r"fwrite|write\s*\(|save|sauv"),
                script="|idle",
            )
    return None


def _kill(
    case: Case, bench: Bench, policy: At, site: Site, before: int, stores: bool
) -> tuple[Outcome | None, bool, int]:
    """Kill the server at one place, start it anew, and compare.

    Return what is wrong, whether it came there, and the seats that are left; 0: this world is of no more use.
    """
    item = case.item().typed
    a, b = bench.client("A"), bench.client("B")
    bench.log.clear()
    case.granted(bench.ask(a.reserve(item, 1)))
    bench.settle(case.patience / 8)
    files = _files(bench)
    request = a.reserve(item, 1)
    policy.arm(site, bench.lasting)
    bench.drive(request, until=policy.reached.is_set)
    if not policy.reached.is_set():
        return None, False, 0
    # What the server has sent, the client has then said; what it says later, it says of itself.
    bench.drive(request, timeout=case.patience / 2, until=lambda: bench.quiet_for > QUIET)
    rest = bench.quiet_for > QUIET
    acknowledged = request.answer is not None and request.answer.state == "yes"
    _kill_server(case, bench)
    torn = [name for name, (size, _) in _files(bench).items() if name in files and size < files[name][0]]
    bench.drive(request, timeout=case.patience / 4)
    invented = rest and not acknowledged and request.answer is not None and request.answer.state == "yes"
    bench.log.append(f"le serveur est tué (kill -9) {site}, puis relancé")
    a.kill()
    done = f"réserver 1 place, puis une autre ; tuer le serveur (kill -9) {site} ; le relancer, consulter"
    wanted = {before - 2} if acknowledged else {before - 1, before - 2}

    def wrong(number: int, sentence: str, expected: str, seen: str, source: str) -> tuple[Outcome, bool, int]:
        return (
            defect(
                number,
                sentence,
                done=done,
                expected=expected,
                seen=seen,
                timeline=bench.log,
                source=case.place(policy.event) or case.source(source),
                script=site.script,
            ),
            True,
            0,
        )

    named = ", ".join(torn)
    saving = r"O_TRUNC|fopen\s*\(.*w|write\s*\("
    try:
        _serve_again(case, bench)
    except NotReadyError as error:
        if bench.serving.code is None and any(_waits_for_lock(one) for one in bench.server_tasks()):
            sentence = "Tué pendant qu'il tient le verrou, le serveur, relancé, attend un verrou perdu."
            return wrong(30, sentence, "il repart, et sert", str(error), LOCKS)
        if 33 in case.found and not torn:
            return None, True, 0  # known, and what stands in its way is not what is written down
        sentence = "Tué pendant qu'il sert, le serveur ne peut plus être relancé."
        if torn:
            sentence = f"Tué pendant qu'il sauve, il laisse {named} incomplet, et ne repart plus."
        return wrong(6 if torn else 33, sentence, "il repart, avec ce qu'il avait acquitté", str(error), saving)
    answer = bench.ask(b.consult(item))
    b.kill()  # where clients take turns, or only one may be there, the next comes when the last has gone
    c = bench.client("C")
    second = bench.ask(c.reserve(item, 1)) if answer.known else answer
    if not second.known and not bench.ended(bench.serving):
        if second.state not in ("stuck", "late"):
            return None, True, 0  # what a client makes of an answer is another matter
        seen = f"{second} ; serveur : {describe(bench.server_tasks())}"
        if any(_waits_for_lock(one) for one in bench.server_tasks()):
            sentence = "Tué pendant qu'il tient le verrou, puis relancé, le serveur attend un verrou perdu."
            return wrong(30, sentence, "il sert", seen, LOCKS)
        return wrong(33, "Tué pendant qu'il sert, puis relancé, le serveur ne sert plus.", "il sert", seen, LOCKS)
    c.kill()
    if invented and stores and answer.left == before - 1:
        sentence = "Le serveur est tué sans avoir répondu, et le client dit la réservation acceptée."
        outcome, reached, _ = wrong(7, sentence, "le client dit que le serveur n'est plus là", f"{request.answer}", "")
        return replace(outcome, source=case.source(r"\b(read|recv|msgrcv)\s*\(", client=True)), reached, 0
    if stores and answer.left is not None and answer.left not in wanted:
        sentence = "Une réservation acquittée est perdue si le serveur est tué."
        seen = f"{answer.left} place(s)"
        if torn:
            sentence = "Tué pendant qu'il sauve, il perd ce qu'il avait acquitté : le fichier est vidé, puis récrit."
            seen += f" ; {named} était plus court qu'avant"
        expected = f"{' ou '.join(str(number) for number in sorted(wanted))} place(s)"
        return wrong(6 if torn else 32, sentence, expected, seen, saving)
    left = (answer.left or 0) - 1 if second.state == "yes" else 0
    return None, True, left


def _kill_server(case: Case, bench: Bench) -> None:
    """Kill the server; one that does not start again after that by itself, once its clients have closed first."""
    if 33 in case.found:
        for client in bench.clients:
            client.kill()
        bench.until(lambda: all(one.program is None or one.program.code is not None for one in bench.clients))
    bench.kill_server()


def _serve_again(case: Case, bench: Bench, **options: bool) -> None:
    """Start the server anew; one that is known not to start by itself, after what stands in its way is removed.

    That is told as defect 33; what it has kept is another matter. Raises NotReadyError.
    """
    if 33 in case.found and bench.world.private:
        with contextlib.suppress(WorldError):
            bench.world.start(["sh", "-c", "ipcrm -a; rm -f /dev/shm/* /dev/mqueue/*"]).wait(bench.patience)
        for path in bench.world.folder.rglob("*"):
            with contextlib.suppress(OSError):
                if path.is_fifo() or path.is_socket():
                    path.unlink()
    bench.serve(**options)


def _waits_for_lock(doing: Doing) -> bool:
    return any(wait.kind in ("lock", "memory", "semaphore", "condition") for wait in doing.waits)


@check(
    "kill-child",
    finds=(10,),
    layer="B",
    does="tue le processus du serveur qui traite une requête, à chacun de ses appels",
    needs=("client", "gate"),
    rank=120,
)
def kill_child(case: Case) -> Iterator[Outcome]:
    """One process of several may die at any time: the others go on, or all end; nobody waits for ever."""
    found, events = _watch(case) if not case.script else ([], [])
    pids = {event.pid for event in events if event.task.startswith("server")}
    if not case.script:
        with case.bench() as bench:
            server = bench.serve()
            if len(server.tree()) < 2 or not pids:
                raise NotApplicable("le serveur n'a qu'un processus")
    bad = tried = 0
    budget = case.within(SECONDS / 3 if case.quick else SECONDS)
    workers = [dataclasses.replace(one, task=ANY) for one in found if one.task not in ("server", BORN)]
    for site in _chosen(case, list(dict.fromkeys(workers))):
        if not budget:
            break
        item = case.item().typed
        policy = At(site, Kill())
        with case.bench(policy, gate_options={"calls_held": HELD}) as bench:
            server = bench.serve()
            a = bench.client("A")
            case.seats(bench, a, item)
            case.granted(bench.ask(a.reserve(item, 1)))
            request = a.reserve(item, 1)
            policy.arm(site, bench.lasting)
            bench.drive(request, until=policy.reached.is_set)
            if not policy.reached.is_set():
                continue
            tried += 1
            bench.log.append(f"le processus est tué {site}")
            bench.settle(case.patience / 2)
            a.kill()
            answer = bench.ask(bench.client("B").reserve(item, 1), timeout=3 * case.patience)
            if not answer.known:  # it may have come while the others were being replaced
                answer = bench.ask(bench.client("C").reserve(item, 1), timeout=3 * case.patience)
            if not answer.known and not bench.ended(server):
                bad += 1
                yield defect(
                    10,
                    "Un processus du serveur, tué pendant qu'il tient le sémaphore, arrête le service pour toujours.",
                    done=f"réserver ; tuer le processus qui s'en occupe {site} ; faire réserver un autre client",
                    expected="le service continue, ou le serveur finit et peut être relancé",
                    seen=f"{answer} ; serveur : {describe(bench.server_tasks())}",
                    timeline=bench.log,
                    source=case.place(policy.event) or case.source(r"sem_wait|semop|waitpid|wait\s*\("),
                    script=site.script,
                )
                return
    if not bad:
        yield ok(f"tué à {tried} appels")


@check(
    "fail",
    finds=(6,),
    layer="B",
    does="fait échouer chaque appel sur un fichier : disque plein, panne",
    needs=("client", "gate"),
    rank=130,
)
def fail(case: Case) -> Iterator[Outcome]:
    """What could not be saved is not acknowledged, and what was acknowledged is there after a kill -9."""
    if not case.profile.counts:
        raise NotApplicable("personne ne peut demander ce qui reste")
    found, _ = _watch(case) if not case.script else ([], [])
    places = [one for one in found if one.call in ON_FILES and not one.shown.startswith(_ELSEWHERE) and not _log(one)]
    fifos = set(case.profile.channel.names)
    places = [one for one in places if one.shown not in fifos]
    if not places and not case.script:
        raise NotApplicable("le serveur n'écrit aucun fichier pour une réservation")
    if not case.script and not _stores(case)[0]:  # what it writes is something else: a journal, somebody's FIFO
        raise NotApplicable("il ne garde rien sur disque, ce qui est permis")
    bad = tried = 0
    budget = case.within(SECONDS / 3 if case.quick else SECONDS)
    for site in _chosen(case, places):
        if not budget:
            break
        outcome, reached = _fail(case, site)
        tried += reached
        if outcome is not None:
            bad += 1
            yield outcome
            return
    if not bad:
        yield ok(f"{tried} appels échoués sur {len(places)}")


def _log(site: Site) -> bool:
    """Say whether a file is a journal, by its name: what cannot be logged is served all the same."""
    return ".log" in site.shown or "journal" in site.shown or site.shown.endswith((".txt", ".jsonl"))


def _fail(case: Case, site: Site) -> tuple[Outcome | None, bool]:
    item = case.item().typed
    number = errno.EIO if site.call == "fsync" else errno.ENOSPC
    policy = At(site, Fail(number))
    with case.bench(policy, gate_options={"calls_held": HELD}) as bench:
        server = bench.serve()
        a = bench.client("A")
        before = case.seats(bench, a, item)
        case.granted(bench.ask(a.reserve(item, 1)))
        request = a.reserve(item, 1)
        policy.arm(site, bench.lasting)
        answer = bench.ask(request)
        if not policy.reached.is_set():
            return None, False
        name = errno.errorcode[number]
        done = f"réserver 1 place, puis une autre ; {site.call}({site.shown}) échoue ({name}) ; kill -9, relancer"
        bench.log.append(f"{site.call}({site.shown}) du serveur a échoué : {name}")
        if not bench.ended(server):
            _kill_server(case, bench)
        a.kill()
        try:
            _serve_again(case, bench, gated=False)
            left = bench.ask(bench.client("B").consult(item)).left
        except NotReadyError as error:
            left, why = None, str(error)
        else:
            why = f"il reste {left} place(s)"
        wanted = {"yes": {before - 2}, "no": {before - 1}}.get(answer.state, {before - 1, before - 2})
        if left in wanted or (left is None and answer.state != "yes" and "finit" not in why):
            return None, True
        return (
            defect(
                6,
                "Une erreur d'écriture est ignorée : la réservation est acquittée, et n'est pas sur le disque."
                if answer.state == "yes"
                else "Une erreur d'écriture abîme ce qui était sauvé.",
                done=done,
                expected=f"{' ou '.join(map(str, sorted(wanted)))} place(s)",
                seen=f"{answer} ; ensuite, {why}",
                timeline=bench.log,
                source=case.place(policy.event) or case.source(rf"\b{site.call}\s*\(|fwrite|fopen"),
                script=site.script,
            ),
            True,
        )


def _waiting_semops(found: list[Site], events: list[Event]) -> list[Site]:
    """Return the calls of semop that may wait: those that take, and do not say IPC_NOWAIT."""
    made = [event for event in events if event.kind is Kind.CALL and event.call == "semop"]
    places = [site for site in found if site.call == "semop"]
    return [
        site
        for site, event in zip(places, (one for one in made if one.task.startswith("server")), strict=False)
        if any(op <= 0 and not flags & IPC_NOWAIT for _, op, flags in event.arguments.get("ops", ()))
    ]


@check(
    "interrupted-lock",
    finds=(31,),
    layer="B",
    does="interrompt (EINTR) chaque semop que le serveur fait pour une requête",
    needs=("client", "gate"),
    quick=False,
    rank=135,
)
def interrupted_lock(case: Case) -> Outcome:
    """Ctrl-Z and fg end a semop that waits with EINTR, without any handler: it is to be taken again."""
    places = [Site.of_script(case.script)] if case.script else _waiting_semops(*_watch(case))
    if not places:
        raise NotApplicable("le serveur ne prend pas de sémaphore System V pour une réservation")
    item = case.item().typed
    tried = 0
    for site in places[:INTERRUPTED]:
        policy = At(site, Fail(errno.EINTR))
        with case.bench(policy, gate_options={"calls_held": HELD}) as bench:
            server = bench.serve()
            a = bench.client("A")
            case.seats(bench, a, item)
            case.granted(bench.ask(a.reserve(item, 1)))
            policy.arm(site, bench.lasting)
            answer = bench.ask(a.reserve(item, 1))
            if not policy.reached.is_set():
                continue
            tried += 1
            a.kill()
            after = bench.ask(bench.client("B").consult(item))
            if bench.ended(server) or (not after.known and after.state in ("stuck", "late")):
                how = f"le serveur finit ({ending(server)})" if server.code is not None else str(after)
                return defect(
                    31,
                    "Un semop interrompu (Ctrl-Z, puis fg) met fin au service.",
                    done=f"réserver ; semop est interrompu (EINTR) {site} ; faire consulter un autre client",
                    expected="il est repris, et le service continue",
                    seen=f"{answer} ; {how}",
                    timeline=bench.log,
                    source=case.place(policy.event) or case.source(r"\bsemop\s*\("),
                    script=site.script,
                )
    return ok(f"{tried} semop interrompus, le service continue")


@check(
    "vanished-client",
    finds=(24, 19, 11),
    layer="B",
    does="tue et suspend un client à chacun de ses appels, puis sert un autre client",
    needs=("client", "gate"),
    rank=140,
)
def vanished_client(case: Case) -> Iterator[Outcome]:
    """A client may die or stop at any moment; the next one is served, and nothing is replayed."""
    if not case.profile.expects("vanished_clients"):
        raise NotApplicable("le profil ne le demande pas")
    outcome = None
    if not case.script or case.script == SUSPENDED:
        outcome = _vanish_suspended(case)
        if outcome is not None:
            yield outcome
        if case.script or (outcome is not None and outcome.defect == 24):
            return
    found = _watch_client(case) if not case.script else []
    todo = [(site, number) for site in _chosen(case, found) for number in (signal.SIGKILL, signal.SIGSTOP)]
    if case.script:
        todo = [(Site.of_script(case.script.partition("!")[2]), signal.Signals[case.script.partition("!")[0]])]
    tried = 0
    todo = [
        (site, number)
        for site, number in todo
        if number == signal.SIGKILL or (site.call in RECEIVING and not _alone(case))
    ]
    budget = case.within(SECONDS / 3 if case.quick else SECONDS)
    failures = _Failures()
    kinds: set[int] = set() if outcome is None else {outcome.defect}
    while todo and budget:
        policy = At(None, Hold())
        with failures, case.bench(policy) as bench:
            bench.serve(gated=False)
            left = case.seats(bench, bench.client("B"), case.item().typed)
            while todo and budget and left >= 4:
                site, number = todo.pop(0)
                outcome, reached, left = _vanish(case, bench, policy, site, number, left)
                tried += reached
                if outcome is not None and outcome.defect not in kinds:
                    kinds.add(outcome.defect)
                    yield outcome
                if kinds >= {19, 24}:
                    return
    if not kinds:
        yield ok(f"{tried} fois, l'autre est servi")


def _alone(case: Case) -> bool:
    """Say whether clients take turns, or there is only one: FIFOs that all share have no other way."""
    return case.profile.clients == 1 or case.question == 1 or case.profile.channel.kind == "fifo"


def _watch_client(case: Case) -> list[Site]:
    """Return the calls that a client makes for one reservation."""
    item = case.item().typed
    with case.bench(gated=True) as bench:
        bench.serve(gated=False)
        gate = bench.gate
        assert gate is not None
        victim = bench.client("V", gated=True)
        since = 0
        if case.profile.style == "menu":
            case.seats(bench, victim, item)
            since = len(gate.events())
        case.granted(bench.ask(victim.reserve(item, 1)))
        found = sites(gate.events(since), ["V"], ("V",))
    return [
        one
        for one in found
        if one.call in (*SENDING, *RECEIVING, "open", "connect", "semop", "flock", "fcntl", "releases", "wants")
        and one.shown != "terminal"
        and not one.shown.startswith("/")
    ]


def _vanish(
    case: Case, bench: Bench, policy: At, site: Site, number: signal.Signals, before: int
) -> tuple[Outcome | None, bool, int]:
    """Let a client die or stop at one place; then another asks.

    Return what is wrong, whether it came there, and the seats that are left; 0: this world is of no more use.
    """
    item = case.item().typed
    server = bench.serving
    bench.log.clear()
    victim = bench.client(f"V{len(bench.clients)}", gated=True)
    if case.profile.style == "menu":
        case.seats(bench, victim, item)
    policy.arm(site, ["V"], ("V",))
    bench.drive(victim.reserve(item, 1), until=policy.reached.is_set)
    if not policy.reached.is_set() or victim.program is None:
        return None, False, 0
    program = victim.program
    bench.settle(case.patience / 8)
    victim.kill(number)
    how = "tué" if number == signal.SIGKILL else "suspendu"
    bench.log.append(f"V réserve 1 place ; il est {how} {site}")
    if number == signal.SIGKILL and not bench.until(lambda: program.code is not None):
        return None, False, 0
    bench.settle(case.patience / 8)
    busy = processor_use(bench) if number == signal.SIGKILL and 35 not in case.found else 0.0
    if busy > RUNNING and _spins_anyway(case):
        busy = 0.0
    c = bench.client(f"C{len(bench.clients)}")
    first = bench.ask(c.consult(item), timeout=2 * case.patience)
    second = bench.ask(c.reserve(item, 1), timeout=2 * case.patience) if first.known else first
    last = bench.ask(c.consult(item), timeout=2 * case.patience) if second.known else second
    what = ""
    kind = 24
    if bench.ended(server):
        what = f"le serveur finit ({ending(server)})"
        kind = 19 if server.code in PIPED else 24
    elif not last.known:
        d = bench.client(f"D{len(bench.clients)}")
        again = bench.ask(d.consult(item), timeout=2 * case.patience)
        if again.known or _unread(case, last) or _unread(case, again):  # slow, or in words that no pattern knows
            return None, True, 0
        what = f"{last} ; serveur : {describe(bench.server_tasks())}"
    elif first.left not in (before, before - 1):
        what = f"il restait {before} place(s), il en reste {first.left}"
    elif second.state == "yes" and last.left is not None and last.left < (first.left or 0) - 2:
        what = f"il restait {first.left} place(s), il en reste {last.left} : sa demande est servie encore et encore"
    elif second.state == "yes" and number == signal.SIGKILL and _drifts(bench, c, item, last):
        what = "le nombre de places baisse encore alors que personne ne demande rien"
    elif busy > RUNNING and 35 not in case.found:  # else it does so anyway
        what = "le serveur calcule sans fin"
    if not what:
        c.kill()
        if number != signal.SIGKILL:
            victim.kill()  # stopped, it may still get what it asked for: this world is done
            return None, True, 0
        return None, True, last.left or 0
    return (
        defect(
            kind,
            f"Un client {how} empêche le serveur de servir les autres.",
            done=f"un client réserve ; il est {how} {site} ; un autre consulte et réserve",
            expected="l'autre est servi comme si de rien n'était",
            seen=what,
            timeline=bench.log,
            source=case.source(r"SIGPIPE|write\s*\(|read\s*\(|recv\s*\(|msgsnd\s*\("),
            script=f"{number.name}!{site.script}",
        ),
        True,
        0,
    )


def _vanish_suspended(case: Case) -> Outcome | None:
    """Kill clients that wait for their answer, without a gate: the server is suspended while they ask."""
    item = case.item().typed
    with case.bench() as bench:
        server = bench.serve()
        case.seats(bench, bench.client("B"), item)
        pids = set(server.tree())
        for number in range(1 if _alone(case) and case.profile.clients == 1 else GONE):
            victim = bench.client(f"V{number}")
            if case.profile.style == "menu" and not bench.ask(victim.consult(item)).known:
                return None
            request = victim.consult(item)
            suspend(bench, pids)
            bench.drive(request, timeout=bench.patience, until=lambda: all_wait(bench, [request]))  # noqa: B023
            victim.kill()
            program = victim.program
            bench.until(lambda: program is None or program.code is not None)  # noqa: B023
            resume(pids)
            bench.settle(case.patience / 4)
        answers = [bench.ask(bench.client(name).consult(item), timeout=2 * case.patience) for name in ("C", "D")]
        if any(answer.known or answer.state == "other" for answer in answers):
            return None
        what = f"{answers[-1]} ; serveur : {describe(bench.server_tasks())}"
        if bench.ended(server):
            what = f"le serveur finit ({ending(server)})"
        return defect(
            19 if server.code in PIPED else 24,
            "Des clients tués pendant qu'ils attendent leur réponse empêchent le serveur de servir les autres.",
            done="suspendre le serveur ; des clients demandent, et sont tués ; le reprendre ; un autre demande",
            expected="l'autre est servi comme si de rien n'était",
            seen=what,
            timeline=bench.log,
            source=case.source(r"SIGPIPE|open\s*\(|write\s*\(|send\s*\(|msgsnd\s*\("),
            script=SUSPENDED,
        )


def _unread(case: Case, answer: Answer) -> bool:
    """Say whether there may well be an answer, in words that no pattern knows; the last seat of those who reserve only
    to see what is left is refused in such words.
    """
    return answer.state == "other" or (not case.profile.counts and answer.state in ("no", "ended"))


def _spins_anyway(case: Case) -> bool:
    """Say whether the server computes without end even if no client has ever come."""
    with case.bench() as bench:
        bench.serve()
        return processor_use(bench) > RUNNING


def _drifts(bench: Bench, client: Client, item: str, last: Answer) -> bool:
    """Say whether the seats go down by themselves."""
    again = bench.ask(client.consult(item))
    return again.left is not None and last.left is not None and again.left < last.left


@check(
    "crowd",
    finds=(11, 24, 19),
    layer="B",
    does=f"{CROWD} clients meurent l'un après l'autre avant d'avoir lu leur réponse ; un autre est-il servi ?",
    needs=("client", "gate"),
    quick=False,
    rank=150,
)
def crowd(case: Case) -> Outcome:
    """What dead clients never read does not fill the channel for good."""
    item = case.item().typed
    policy = BeforeAnswer()
    with case.bench(policy) as bench:
        server = bench.serve(gated=False)
        before = case.seats(bench, bench.client("B"), item)
        budget = case.within(SECONDS)
        for number in range(CROWD):
            if number >= FEW and not budget:
                break
            victim = bench.client(f"V{number}", gated=True)
            policy.arm_for(victim.name)
            bench.drive(victim.consult(item), until=policy.reached.is_set)
            program = victim.program
            if program is None or not policy.reached.is_set():
                if number == 0:
                    raise NotApplicable("le client ne va pas lire sa réponse par un appel que l'on puisse arrêter")
                break
            victim.kill()
            bench.until(lambda: program.code is not None)  # noqa: B023
        bench.settle(case.patience / 2)
        answer = bench.ask(bench.client("C").consult(item), timeout=3 * case.patience)
        done = (
            f"faire consulter {len(bench.clients) - 2} clients, chacun tué avant d'avoir lu sa réponse, puis un autre"
        )
        if answer.left == before:
            return ok(str(answer), done=done)
        if _unread(case, answer) and not bench.ended(server):
            raise NotReached(str(answer))
        if bench.ended(server):
            kind = 19 if server.code in PIPED else 24
            what = f"le serveur finit ({ending(server)})"
        else:
            doing = bench.server_tasks()
            sends = any(wait.kind == "send" for one in doing for wait in one.waits)
            kind, what = 11 if sends else 24, f"{answer} ; serveur : {describe(doing)}"
        return defect(
            kind,
            "Les réponses que des clients morts n'ont pas lues remplissent la file, et le serveur attend de la place."
            if kind == 11
            else "Des clients disparus empêchent le serveur de servir les autres.",
            done=done,
            expected="une réponse",
            seen=what,
            timeline=bench.log[-6:],
            source=case.source(r"msgsnd\s*\(|write\s*\("),
        )
