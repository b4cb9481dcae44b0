"""Layer C, the wire: messages written by ourselves into the program's own queue, FIFO or connection, in its world.

What they look like is learnt (layout.py); they are written by a script of ours that runs beside the program (raw.py),
under any PID we like. What is judged is how the program stands it, and what an ordinary client is told afterwards.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectacles.common.protocol import LIST_REPLY, LIST_REQUEST, RESERV_REPLY, RESERV_REQUEST, TCP_REQUEST
from spectacles.lab.check import layout as layouts
from spectacles.lab.check.model import Inconclusive, NotApplicable, NotReached, Outcome, defect, ok
from spectacles.lab.check.registry import check
from spectacles.lab.check.starts import visit
from spectacles.lab.dossier import tasks
from spectacles.lab.dossier.driving import alive, describe, ending
from spectacles.lab.gate.events import Kind
from spectacles.lab.gate.policy import Free, Go, Hold
from spectacles.lab.programs.world import Limits

if TYPE_CHECKING:
    from spectacles.lab.check.case import Case
    from spectacles.lab.check.layout import Layout, Request
    from spectacles.lab.dossier.driving import Bench
    from spectacles.lab.gate.events import Event
    from spectacles.lab.gate.policy import Decision, Gate

RAW = Path(__file__).with_name("raw.py")
CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)
FLOOD = 4000  # messages: more than a queue of 16 KiB holds
CROWD = 1500  # connections at a time: a server with a bound may well have one of a thousand
HELD = 150  # requests at a time whose answers are held back
MANY_SEATS = 1_000_000  # that no show has
HUGE = 2**28
FOR_EVER = 12.0  # seconds that a client may take to see that nobody will answer: some have a time limit of their own
NUMBERS = (
    ("seats", -5),
    ("item", 99_999_999),
    ("item", -1),
    ("seats", 0),
    ("seats", -(2**31)),
    ("seats", 2**31 - 1),
    ("item", -(2**31)),
    ("item", HUGE),
    ("seats", HUGE),
)
SAID = {"seats": "places", "item": "numéro"}
_learnt: dict[tuple[object, ...], Layout] = {}


# What all of them need


def layout_of(case: Case) -> Layout:
    """Return the layout of the program's messages, learnt once for all checks of one program."""
    key = (str(case.folder), case.profile.server, case.profile.client)
    if key not in _learnt:
        while len(_learnt) > 8:
            _learnt.pop(next(iter(_learnt)))
        _learnt[key] = layouts.learn(case)
    return _learnt[key]


def of_kind(case: Case, *kinds: str) -> Layout:
    """Return the layout if the channel is of one of these kinds. Raises NotApplicable."""
    if case.profile.channel.kind and case.profile.channel.kind not in kinds:
        said = {"queue": "file de messages", "fifo": "tube nommé", "tcp": "connexion TCP"}
        raise NotApplicable(f"pas de {' ni de '.join(said[kind] for kind in kinds)} ici")
    found = layout_of(case)
    if found.kind not in kinds:
        raise NotApplicable("le canal n'a pas été reconnu")
    return found


def alone(case: Case) -> None:
    """Raise NotApplicable where only one client may be there at a time."""
    if case.profile.clients == 1:
        raise NotApplicable("un seul client à la fois est servi")


def raw(bench: Bench, *steps: dict[str, Any], pid: int | None = None, stay: bool = False) -> list[Any]:
    """Run steps of raw.py in the program's world, and return what each said. stay: does not wait for its end."""
    options: dict[str, Any] = {} if pid is None else {"pid": pid}
    command = [sys.executable, "-I", "-S", str(RAW), json.dumps(steps)]
    program = bench.world.start(command, **options)
    patience = 10.0 + sum(float(step.get("seconds", 0.0)) for step in steps)
    if stay:
        bench.until(lambda: program.output().count("\n") >= len(steps) - 1 or program.code is not None, patience)
    else:
        program.wait(patience)
    said = []
    for line in program.output().splitlines():
        with contextlib.suppress(ValueError, KeyError, TypeError):
            said.append(json.loads(line)["is"])
    if len(said) < len(steps) - (1 if stay else 0):
        raise Inconclusive(f"l'écriture directe sur le canal a échoué : {program.output().strip()[-200:]}")
    return said


def own(request: Request, message: int = 0) -> list[int]:
    """Return where a raw message has to carry the PID of whoever sends it."""
    place = request.fields.get("pid")
    return [place.offset] if place is not None and place.message == message else []


def steps_of(found: Layout, request: Request, **values: int) -> list[dict[str, Any]]:
    """Return the steps of raw.py that make a request, with other numbers in it."""
    parts = request.filled(**values)
    if found.kind == "tcp":
        whole = [*found.prologue, b"".join(parts)]
        return [
            {"do": "tcp", "port": found.port, "parts": [part.hex() for part in whole], "listen": True, "seconds": 0.5}
        ]
    steps = []
    for number, (message, part) in enumerate(zip(request.messages, parts, strict=True)):
        if found.kind == "queue":
            steps.append(
                {
                    "do": "send",
                    "queue": found.number_of(message.what),
                    "type": message.type,
                    "body": part.hex(),
                    "own": own(request, number) if "pid" not in values else [],
                }
            )
        elif found.kind == "fifo":
            steps.append({"do": "fifo", "path": message.what, "body": part.hex()})
    if not steps:
        raise NotApplicable("le canal n'a pas été reconnu")
    return steps


def fetch(case: Case, bench: Bench) -> None:
    """Take the answers to raw requests out of a queue where they bear no PID: the next client would think them his."""
    if case.profile.channel.kind != "queue" or layout_of(case).reply_pid:
        return
    found = layout_of(case)
    bench.settle(min(case.patience, 0.5))
    sent = {
        (found.number_of(event.object), int(event.arguments.get("type") or 0))
        for event in found.events
        if event.task.startswith("server") and event.call == "msgsnd" and event.kind is Kind.CALL
    }
    for number, kind in sorted(sent):
        lying = raw(bench, {"do": "left", "queue": number})[0]
        count = sum(one[0] == kind for one in lying) if isinstance(lying, list) else 0
        if count:
            raw(bench, *[{"do": "take", "queue": number, "type": kind, "seconds": 0.05}] * count)


def crashed(bench: Bench) -> str:
    """Say how the server has crashed, "" if it has not."""
    code = bench.server.code if bench.server is not None else None
    return ending(bench.server) if bench.server is not None and code is not None and -code in CRASHES else ""


def served(case: Case, bench: Bench, item: str, name: str = "B", *, both: bool = False) -> tuple[str, int | None]:
    """Have an ordinary client ask. Return what is wrong with that, "" if nothing is, and the seats left."""
    if bench.server is not None and bench.server.code is not None:
        return f"le serveur a fini : {ending(bench.server)}", None
    client = bench.client(name)
    answer = bench.ask(client.consult(item), timeout=2 * case.patience)
    if answer.known and both:
        second = bench.ask(client.reserve(item, 1), timeout=2 * case.patience)
        if not second.known:
            answer = second
    client.quit()
    if not answer.known:
        return f"{answer} ; serveur : {describe(bench.server_tasks())}", None
    return "", answer.left


def sure(case: Case, *steps: dict[str, Any]) -> None:
    """Make sure that it is the hostile part of a message that matters. steps: the same without it.

    Raises NotReached when an ordinary client is not always served after these either.
    """
    if 15 in case.found:
        raise NotReached("un client n'est pas toujours servi : le serveur prend ses propres réponses (défaut 15)")
    item = case.item().typed
    with case.bench() as bench:
        bench.serve()
        raw(bench, *steps)
        fetch(case, bench)
        bench.settle(min(case.patience, 0.5))
        for name in ("B", "C", "D"):
            wrong, _ = served(case, bench, item, name)
            if wrong:
                raise NotReached(f"un client n'est pas toujours servi, même sans cela ({wrong})")


class HoldFirst(Free):
    """Lets everything happen, but holds the first call of one program that fits, until it is let go.

    after: looks only once this has fitted. every: holds all that fit, for good.
    """

    def __init__(
        self,
        program: str,
        fits: Callable[[Event], bool],
        *,
        after: Callable[[Event], bool] | None = None,
        every: bool = False,
    ) -> None:
        self._program = program
        self._fits = fits
        self._after = after
        self._every = every
        self.held = ""
        self.count = 0

    def decide(self, gate: Gate, event: Event) -> Decision:
        """Hold it, or let it happen."""
        ours = event.task == self._program or event.task.startswith(f"{self._program}.")
        if not ours or event.kind is not Kind.CALL:
            return Go()
        if self._after is not None:
            if self._after(event):
                self._after = None
            return Go()
        if (self._every or not self.held) and self._fits(event):
            self.held = self.held or event.task
            self.count += 1
            return Hold()
        return Go()


def events_told(bench: Bench, *words: str) -> list[str]:
    """Return the last calls of a watched run that name one of these words, as lines of a timeline."""
    assert bench.gate is not None
    found = []
    for event in bench.gate.events():
        if event.kind in (Kind.CALL, Kind.RESULT) and any(word in event.call for word in words):
            if event.kind is Kind.RESULT and not event.errno and "type" not in event.arguments:
                continue
            shown = {name: value for name, value in event.arguments.items() if name in ("type", "size")}
            more = " ".join(f"{name}={value}" for name, value in shown.items())
            arrow = f" → {event.errno or event.result}" if event.kind is Kind.RESULT else ""
            found.append(f"{event.task} : {event.call}({event.object}) {more}{arrow}".rstrip())
    return found[-12:]


# Two clients and one set of FIFOs


@check(
    "shared-answers",
    finds=(1,),
    layer="B",
    does="retient un client avant qu'il lise sa réponse, pendant qu'un autre consulte (tubes)",
    needs=("client", "gate"),
    rank=20,
)
def shared_answers(case: Case) -> Outcome:
    """A's answer lies in the FIFO; B asks for another show, and reads."""
    alone(case)
    found = of_kind(case, "fifo")
    first_item = case.item()
    items = [first_item, *(one for one in case.profile.items if one.seats not in (None, first_item.seats))][:2]
    if len(items) < 2 or first_item.seats is None:
        raise NotApplicable("il faut deux spectacles dont on connaît les places")
    shared, asked = set(found.answers), [message.data for message in found.consult.messages]
    policy = HoldFirst(
        "A",
        lambda event: event.call == "read" and event.object in shared,
        after=lambda event: event.call == "write" and event.arguments.get("data") in asked,
    )
    with case.bench(policy) as bench:
        assert bench.gate is not None
        bench.serve()
        a, b = bench.client("A", gated=True), bench.client("B", gated=True)
        first, second = a.consult(items[0].typed), b.consult(items[1].typed)
        bench.drive(first, until=lambda: bool(policy.held), timeout=4 * case.patience)
        if not policy.held:
            raise NotReached("le premier client n'en vient pas à lire sa réponse")
        bench.drive(second, timeout=min(case.patience, 1.5), until=lambda: second.done)
        bench.gate.let(policy.held)
        told = bench.ask_all(first, second)
        done = f"A consulte « {items[0].typed} » ; avant qu'il lise sa réponse, B consulte « {items[1].typed} »"
        wrong = [
            (answer, item.seats)
            for answer, item in zip(told, items, strict=True)
            if answer.known and answer.left != item.seats
        ]
        if wrong:
            return defect(
                1,
                "Deux clients lisent leurs réponses dans le même tube : l'un reçoit celle de l'autre.",
                done=done,
                expected=f"A : {items[0].seats} places, B : {items[1].seats}",
                seen=" ; ".join(str(answer) for answer in told),
                timeline=events_told(bench, "read", "write"),
            )
        lost = [answer for answer in told if not answer.known]
        if lost and not lost[0].client.startswith("B"):
            return defect(
                1,
                "Deux clients lisent leurs réponses dans le même tube : l'un prend celle de l'autre.",
                done=done,
                expected="chacun a sa réponse",
                seen=" ; ".join(str(answer) for answer in told),
                timeline=events_told(bench, "read", "write"),
            )
        if lost:
            raise NotApplicable("un second client n'est pas servi pendant que le premier l'est")
        return ok(" ; ".join(str(answer) for answer in told), done=done)


@check(
    "two-halves",
    finds=(2,),
    layer="B",
    does="retient un client entre les deux moitiés de sa réservation, pendant qu'un autre réserve (tubes)",
    needs=("client", "gate"),
    rank=21,
)
def two_halves(case: Case) -> Outcome:
    """A has written its show and not yet its seats; B writes both."""
    alone(case)
    found = of_kind(case, "fifo")
    messages = found.reserve.messages
    if len(messages) < 2:
        raise NotApplicable("une réservation est un seul message")
    items = [one for one in case.profile.items if one.seats is not None and one.seats > 4][:2]
    if len(items) < 2:
        raise NotApplicable("il faut deux spectacles dont on connaît les places")
    last = messages[-1].what
    policy = HoldFirst("A", lambda event: event.call == "write" and event.object == last)
    with case.bench(policy) as bench:
        assert bench.gate is not None
        bench.serve()
        a, b = bench.client("A", gated=True), bench.client("B", gated=True)
        first, second = a.reserve(items[0].typed, 1), b.reserve(items[1].typed, case.most(3))
        bench.drive(first, until=lambda: bool(policy.held), timeout=4 * case.patience)
        if not policy.held:
            raise NotReached("le client n'en vient pas à écrire la seconde moitié")
        bench.drive(second, timeout=min(case.patience, 1.0), until=lambda: second.done)
        bench.gate.let(policy.held)
        told = bench.ask_all(first, second)
        seats = [case.seats(bench, bench.client(f"C{number}"), item.typed) for number, item in enumerate(items)]
        taken = [(item.seats or 0) - left for item, left in zip(items, seats, strict=True)]
        asked = [1, case.most(3)]
        done = f"A réserve {asked[0]} de « {items[0].typed} » et s'arrête au milieu ; "
        done += f"B réserve {asked[1]} de « {items[1].typed} »"
        # a request without an answer may have been served, or not
        fine = all(
            took == (want if answer.state == "yes" else 0) or (not answer.known and took in (0, want))
            for took, want, answer in zip(taken, asked, told, strict=True)
        )
        if fine:
            return ok(" ; ".join(str(answer) for answer in told), done=done)
        return defect(
            2,
            "Les deux moitiés d'une réservation se séparent : le spectacle de l'un est joint aux places de l'autre.",
            done=done,
            expected=f"pris : {asked[0]} et {asked[1]}, ou rien pour qui est refusé",
            seen=f"pris : {taken[0]} et {taken[1]} ; " + " ; ".join(str(answer) for answer in told),
            timeline=events_told(bench, "write", "read"),
        )


@check(
    "dead-server",
    finds=(4,),
    layer="B",
    does="tue le serveur pendant qu'un client attend sa réponse (tubes) : le client doit s'en apercevoir",
    needs=("client", "gate"),
    quick=False,
    rank=22,
)
def dead_server(case: Case) -> Outcome:
    """Whoever reads a FIFO that he holds open for writing himself waits for ever."""
    if case.profile.channel.kind != "fifo":
        raise NotApplicable("pas de tube nommé ici")
    found = layout_of(case)
    policy = HoldFirst("server", lambda event: event.call == "write" and event.object in found.answers)
    with case.bench(policy) as bench:
        bench.serve()
        client = bench.client("A")
        request = client.consult(case.item().typed)
        bench.drive(request, until=lambda: bool(policy.held), timeout=4 * case.patience)
        if not policy.held:
            raise NotReached("le serveur n'en vient pas à répondre")
        bench.kill_server()
        bench.drive(request, timeout=max(case.patience, FOR_EVER), until=lambda: request.done)
        done = "tuer le serveur (kill -9) juste avant qu'il réponde, pendant que le client attend"
        if request.done or client.program is None or client.program.code is not None:
            return ok("le client s'en aperçoit", done=done)
        if any(one.timed for one in client.doing()):
            return ok("le client attend encore, mais avec un délai", done=done)
        both = any(_opened_both_ways(pid) for pid in client.program.tree())
        return defect(
            4,
            "Le serveur est mort, et le client attend toujours : il ne voit jamais la fin du tube.",
            done=done,
            expected="il le dit, ou finit",
            seen=f"{FOR_EVER:g} s plus tard : {describe(client.doing())}"
            + (" ; il a lui-même un tube ouvert en lecture et en écriture" if both else ""),
        )


def _opened_both_ways(pid: int) -> bool:
    """Say whether a process has a FIFO open for reading and writing."""
    for number in Path(f"/proc/{pid}/fd").glob("*"):
        with contextlib.suppress(OSError, ValueError, StopIteration):
            lines = Path(f"/proc/{pid}/fdinfo/{number.name}").read_text().splitlines()
            flags = int(next(line for line in lines if line.startswith("flags:")).split()[1], 8)
            if flags & 3 == 2 and number.is_fifo():
                return True
    return False


# The queue


@check(
    "oversized",
    finds=(14,),
    layer="C",
    does="met dans la file un message plus long que le tampon du serveur",
    needs=("client",),
    rank=30,
)
def oversized(case: Case) -> Outcome:
    """A message of 8 KiB of each type of request; then an ordinary client."""
    found = of_kind(case, "queue")
    item = case.item().typed
    with case.bench() as bench:
        bench.serve()
        steps = [
            {**step, "longest": True}
            for request in (found.consult, found.reserve)
            for step in steps_of(found, request, seats=MANY_SEATS)
        ]
        raw(bench, *steps)
        fetch(case, bench)
        bench.settle(min(case.patience, 1.0))
        wrong, _ = served(case, bench, item, both=True)
        done = "déposer dans la file, pour chaque type de requête, un message de 8 Kio, puis demander normalement"
        if not wrong:
            return ok("le client est servi", done=done)
    sure(case, *({**step, "longest": False} for step in steps))
    return defect(
        14,
        "Un message plus long que le tampon arrête le service.",
        done=done,
        expected="le client est servi",
        seen=wrong,
    )


@check(
    "full-queue",
    finds=(11,),
    layer="C",
    does="remplit la file de requêtes dont personne ne lit les réponses, puis demande",
    needs=("client",),
    rank=32,
)
def full_queue(case: Case) -> Outcome:
    """One client asks as fast as it can and reads nothing; once it is gone, another asks."""
    found = of_kind(case, "queue")
    item = case.item().typed
    step = steps_of(found, found.consult)[0]
    with case.bench() as bench:
        bench.serve()
        flood = {**step, "do": "flood", "count": FLOOD, "seconds": max(1.0, case.patience)}
        (sent,) = raw(bench, flood)
        bench.settle(case.patience)
        wrong, _ = served(case, bench, item, both=True)
        done = f"un client dépose {sent} requêtes, sans lire une réponse, et s'en va ; un autre demande"
        if not wrong:
            return ok("l'autre est servi", done=done)
        lying = raw(bench, {"do": "left", "queue": step["queue"]})[0]
    sure(case, step)
    return defect(
        11,
        "Une file pleine de réponses que personne ne lit arrête le serveur, qui attend lui-même d'y écrire.",
        done=done,
        expected="l'autre est servi",
        seen=f"{wrong} ; dans la file : {len(lying)} message(s)" + (" au moins" if len(lying) >= 100 else ""),
    )


@check(
    "forged-pid",
    finds=(13,),
    layer="C",
    does="met dans une requête un PID qui n'est celui de personne : 1, 2, 0, -1 (file)",
    needs=("client", "gate"),
    rank=34,
)
def forged_pid(case: Case) -> Outcome:
    """The PID becomes the type of the answer: 1 or 2 makes it a request, 0 or less an error."""
    found = of_kind(case, "queue")
    if not found.reply_pid or "pid" not in found.consult.fields:
        raise NotApplicable("le type des réponses n'est pas le PID du client")
    requests = {message.type for message in (*found.consult.messages, *found.reserve.messages)}
    item = case.item().typed
    with case.bench(gated=True) as bench:
        assert bench.gate is not None
        bench.serve()
        since = len(bench.gate.events())
        for pid in (*sorted(requests), 0, -1):
            raw(bench, *steps_of(found, found.consult, pid=pid))
        bench.settle(min(case.patience, 1.0))
        sent = [
            int(event.arguments.get("type") or 0)
            for event in bench.gate.events(since)
            if event.task.startswith("server") and event.call == "msgsnd" and event.kind is Kind.CALL
        ]
        bad = [kind for kind in sent if kind in requests or kind <= 0]
        wrong, _ = served(case, bench, item)
        done = f"des requêtes qui portent les PID {', '.join(map(str, (*sorted(requests), 0, -1)))}"
        if not bad and not wrong:
            return ok("elles sont refusées", done=done)
        kinds = ", ".join(str(kind) for kind in dict.fromkeys(bad))
        return defect(
            13,
            "Le PID d'une requête est cru sur parole : la réponse devient une requête, ou ne peut pas partir.",
            done=done,
            expected="aucune réponse à qui ne peut être un client",
            seen=(f"le serveur envoie des réponses de type {kinds}" if bad else wrong),
            timeline=events_told(bench, "msg"),
        )


@check(
    "forged-identity",
    finds=(27,),
    layer="C",
    does="met dans une requête le PID d'un processus qui n'a rien demandé",
    needs=("client", "private"),
    rank=36,
)
def forged_identity(case: Case) -> Outcome:
    """A process that sleeps beside the program must not die of what others ask."""
    found = of_kind(case, "queue", "fifo", "tcp")
    if "pid" not in found.reserve.fields:
        raise NotApplicable("aucun PID n'a été reconnu dans les requêtes")
    with case.bench() as bench:
        if not bench.world.private:
            raise NotApplicable("pas de monde à part : un PID forgé pourrait atteindre un processus étranger")
        bench.serve()
        bystander = bench.world.start(["sleep", "600"])
        pids = {bystander.pid}
        for request in (found.consult, found.reserve):
            if "pid" in request.fields:
                raw(bench, *steps_of(found, request, pid=bystander.inside))
                bench.settle(min(case.patience, 0.5))
        done = f"une requête au nom du processus {bystander.inside}, qui dort et n'a rien demandé"
        if alive(pids):
            return ok("il dort toujours", done=done)
        return defect(
            27,
            "Le PID écrit dans une requête suffit pour que le serveur envoie un signal à ce processus.",
            done=done,
            expected="il dort toujours",
            seen=f"il est mort ({ending(bystander)})",
        )


@check(
    "own-answers",
    finds=(15,),
    layer="C",
    does="retient un client avant qu'il lise sa réponse : le serveur ne doit pas la reprendre (file)",
    needs=("client", "gate"),
    rank=10,
)
def own_answers(case: Case) -> Outcome:
    """The answer lies in the queue, and nobody but the client may take it."""
    if case.profile.channel.kind != "queue":
        raise NotApplicable("pas de file de messages ici")
    policy = HoldFirst(
        "A", lambda event: event.call == "msgrcv" and "IPC_NOWAIT" not in str(event.arguments.get("flags"))
    )
    with case.bench(policy) as bench:
        assert bench.gate is not None
        bench.serve()
        request = bench.client("A", gated=True).consult(case.item().typed)
        bench.drive(request, until=lambda: bool(policy.held), timeout=4 * case.patience)
        if not policy.held:
            raise NotReached("le client n'en vient pas à lire sa réponse")
        bench.until(lambda: bool(_answers_sent(bench)), min(case.patience, 1.0))
        bench.until(lambda: bool(_taken(bench)), 0.2)
        bench.gate.let(policy.held)
        (answer,) = bench.ask_all(request)
        taken = _taken(bench)
        done = "le client demande, et n'est laissé lire sa réponse qu'une fois que le serveur l'a déposée"
        if taken and not answer.known:
            return defect(
                15,
                "Le serveur prend dans la file ses propres réponses : le client n'en a pas.",
                done=done,
                expected="la réponse attend son client",
                seen=f"le serveur a pris un message de type {taken[0]}, qu'il avait envoyé ; {answer}",
                timeline=events_told(bench, "msg"),
            )
        return ok(str(answer), done=done)


def _answers_sent(bench: Bench) -> dict[int, int]:
    """Return the types of the messages that the server has sent, each with the seq of the first."""
    assert bench.gate is not None
    found: dict[int, int] = {}
    for event in bench.gate.events():
        if event.task.startswith("server") and event.call == "msgsnd" and event.kind is Kind.CALL:
            found.setdefault(int(event.arguments.get("type") or 0), event.seq)
    return found


def _taken(bench: Bench) -> list[int]:
    """Return the types of messages that the server has taken after it had sent them itself."""
    assert bench.gate is not None
    sent = _answers_sent(bench)
    return [
        kind
        for event in bench.gate.events()
        if event.task.startswith("server")
        and event.call == "msgrcv"
        and event.kind is Kind.RESULT
        and event.result is not None
        and event.result >= 0
        and event.exact
        and sent.get(kind := int(event.arguments.get("type") or 0), event.seq) < event.seq
    ]


# Numbers, sizes, byte order


@check(
    "raw-numbers",
    finds=(23,),
    layer="C",
    does="écrit sur le canal des nombres qu'aucun client ne taperait : négatifs, nuls, immenses",
    needs=("client",),
    rank=50,
)
def hostile_numbers(case: Case) -> Iterable[Outcome]:
    """Each in a request that is right otherwise; then an ordinary client counts the seats."""
    found = of_kind(case, "queue", "fifo", "tcp")
    known = [(name, value) for name, value in NUMBERS if name in found.reserve.fields]
    if not known:
        raise NotApplicable("ni le numéro ni le nombre de places n'ont été reconnus dans les requêtes")
    wanted = [(name, value) for name, value in known if f"{name}={value}" == case.script] if case.script else known
    if case.quick and not case.script:
        wanted = wanted[:3]
    item = case.item().typed
    said: list[str] = []
    while wanted:
        with case.bench() as bench:
            bench.serve()
            before = case.seats(bench, bench.client("A"), item)
            while wanted:
                name, value = wanted.pop(0)
                raw(bench, *steps_of(found, found.reserve, **{name: value}))
                fetch(case, bench)
                bench.settle(min(case.patience, 0.5))
                wrong, left = served(case, bench, item, f"B{len(wanted)}")
                done = f"une réservation dont le nombre « {SAID[name]} » vaut {value}, écrite sur le canal"
                more = left is not None and left > before
                if wrong and not crashed(bench):
                    sure(case, *steps_of(found, found.reserve))
                if wrong or more or (left is not None and left < 0):
                    yield defect(
                        23,
                        "Un nombre reçu n'est pas vérifié : "
                        + (
                            "des places sont ajoutées."
                            if more
                            else "il arrête le service."
                            if wrong
                            else "il en reste moins que zéro."
                        ),
                        done=done,
                        expected=f"refusé ; il reste {before} places, et le service continue",
                        seen=wrong or f"il reste {left} places au lieu de {before}",
                        script=f"{name}={value}",
                    )
                    return
                said.append(f"{SAID[name]} {value}")
                before = left if left is not None else before
    yield ok("refusés, ou sans effet : " + ", ".join(said))


@check(
    "garbage",
    finds=(25,),
    layer="C",
    does="écrit sur le canal cent mille octets qui ne veulent rien dire",
    needs=("client",),
    rank=52,
)
def garbage(case: Case) -> Outcome:
    """A hundred thousand letters over TCP, what fits over a FIFO, the longest message over a queue."""
    found = of_kind(case, "queue", "fifo", "tcp")
    with case.bench() as bench:
        bench.serve()
        if found.kind == "tcp":
            parts = [part.hex() for part in (*found.prologue, b"A" * 1000)]
            steps = [{"do": "tcp", "port": found.port, "parts": parts[-1:], "repeat": 100, "seconds": 0.5}]
        elif found.kind == "fifo":
            steps = [
                {"do": "fifo", "path": message.what, "body": (b"A" * 1000).hex(), "repeat": 60}
                for message in (*found.consult.messages, *found.reserve.messages)
            ]
        else:
            steps = [
                {
                    "do": "send",
                    "queue": found.number_of(message.what),
                    "type": message.type,
                    "body": "41",
                    "repeat": 4000,
                }
                for message in (*found.consult.messages, *found.reserve.messages)
            ]
        raw(bench, *steps)
        bench.settle(min(case.patience, 1.0))
        wrong = crashed(bench)
        done = "écrire sur le canal une longue suite de « A »"
        if not wrong:
            return ok("le serveur y survit", done=done)
        return defect(
            25,
            "Une entrée longue fait tomber le serveur.",
            done=done,
            expected="elle est refusée, et le service continue",
            seen=f"le serveur : {wrong}",
        )


@check(
    "split-request",
    finds=(7,),
    layer="C",
    does="envoie une requête en deux morceaux (TCP)",
    needs=("client",),
    rank=54,
)
def split_request(case: Case) -> Outcome:
    """The same consultation whole, then cut in two with a pause between; and, where it is several writes, in one."""
    found = of_kind(case, "tcp")
    parts = found.consult.filled()
    whole = b"".join(parts)
    if len(whole) < 2:
        raise NotApplicable("une requête n'a qu'un octet")
    middle = max(len(whole) // 2 - 1, 1)
    with case.bench() as bench:
        bench.serve()

        def ask(*pieces: bytes, pause: float = 0.0) -> bytes:
            sent = [piece.hex() for piece in (*found.prologue, *pieces)]
            step = {"do": "tcp", "port": found.port, "parts": sent, "pause": pause, "seconds": max(1.0, case.patience)}
            (said,) = raw(bench, step)
            return bytes.fromhex(said.get("data", ""))

        if found.prologue:
            raise NotApplicable("la connexion commence par un dialogue, que l'on ne rejoue pas")
        expected = ask(*parts)
        if not expected:
            raise NotApplicable("une requête rejouée telle quelle n'a pas de réponse")
        halves = ask(whole[:middle], whole[middle:], pause=0.1)
        done = f"la même consultation, d'un seul tenant puis coupée après {middle} octets"
        if len(halves) != len(expected):
            return defect(
                7,
                "Une requête qui arrive en deux morceaux n'est pas comprise : le retour de read n'est pas regardé.",
                done=done,
                expected=f"deux fois la même réponse, de {len(expected)} octets",
                seen=f"coupée en deux : {len(halves)} octet(s)",
            )
        if len(parts) > 1 and len(ask(whole)) != len(expected):
            return defect(
                7,
                "Deux écritures qui arrivent ensemble sont lues comme une seule.",
                done=f"la même consultation, en {len(parts)} écritures puis en une",
                expected=f"deux fois la même réponse, de {len(expected)} octets",
                seen="d'un seul tenant : pas la même",
            )
        return ok("la réponse est la même", done=done)


@check(
    "gone",
    finds=(19,),
    layer="C",
    does="demande trois fois d'un coup et ferme la connexion sans lire (TCP)",
    needs=("client",),
    rank=55,
)
def gone(case: Case) -> Outcome:
    """The first answer brings a reset; the next write to that connection raises SIGPIPE."""
    found = of_kind(case, "tcp")
    whole = b"".join(found.consult.filled())
    with case.bench() as bench:
        server = bench.serve()
        parts = [part.hex() for part in (*found.prologue, whole * 3)]
        step = {"do": "tcp", "port": found.port, "parts": parts, "listen": True, "deaf": True, "seconds": 0.5}
        for _ in range(5):
            raw(bench, step)
        bench.settle(min(case.patience, 0.5))
        done = "se connecter, demander trois fois d'un coup, fermer sans lire ; cinq fois de suite"
        if server.code == -signal.SIGPIPE:
            return defect(
                19,
                "Écrire à un client qui est parti tue le serveur.",
                done=done,
                expected="la connexion est fermée, et le service continue",
                seen=ending(server),
                source=case.source(r"\b(write|send)\s*\("),
            )
        return ok("le serveur y survit", done=done)


@check(
    "byte-order",
    finds=(20,),
    layer="C",
    does="compare ce qui passe sur la connexion avec l'énoncé : ordre des octets, bourrage (question 5)",
    needs=("client",),
    rank=56,
)
def byte_order(case: Case) -> Outcome:
    """What the client sends, and what the server answers to a request written from the assignment."""
    if case.question != 5:
        raise NotApplicable("l'énoncé fixe l'ordre des octets pour la question 5")
    found = of_kind(case, "tcp")
    right, swapped = TCP_REQUEST.pack(1, 0, 0), TCP_REQUEST.pack(1 << 24, 0, 0)
    sent = b"".join(found.consult.filled())
    with case.bench() as bench:
        bench.serve()

        def ask(request: bytes) -> bytes:
            step = {"do": "tcp", "port": found.port, "parts": [request.hex()], "seconds": max(0.5, case.patience / 2)}
            (said,) = raw(bench, step)
            return bytes.fromhex(said.get("data", ""))

        mine, theirs = ask(right), ask(swapped)
        done = "une consultation écrite d'après l'énoncé : trois entiers, petit bout en premier"
        if not mine and (theirs or sent[:4] == swapped[:4]):
            return defect(
                20,
                "Les nombres voyagent dans un autre ordre des octets que celui de l'énoncé.",
                done=done,
                expected="une réponse",
                seen="aucune ; avec les octets dans l'autre ordre, le serveur répond",
            )
        return ok(f"réponse de {len(mine)} octets", done=done)


@check(
    "sizes",
    finds=(39,),
    layer="C",
    does="compare la taille des messages de la file avec celle du corps de leur structure",
    needs=("prompt", "gate"),
    rank=58,
)
def sizes(case: Case) -> Outcome:
    """By the assignment where a question is claimed, else by the structs in the debug information."""
    seen = _sizes_sent(case)
    source = ""
    if case.question in (2, 3, 4):
        bodies = {layout.size for layout in (LIST_REQUEST, LIST_REPLY, RESERV_REQUEST, RESERV_REPLY)}
        known = "l'énoncé"
    else:
        bodies, source = bodies_of(case)
        known = "les informations de débogage"
    if not bodies:
        raise NotApplicable("la taille des structures n'est pas connue (compiler avec -g)")
    counted = [size for size in seen if size not in bodies and size - 8 in bodies]
    done = f"regarder ce que msgsnd reçoit comme taille : {', '.join(map(str, seen))}"
    if not counted:
        return ok(f"les corps, d'après {known} : {', '.join(map(str, sorted(bodies)))}", done=done)
    return defect(
        39,
        "La taille donnée à msgsnd compte aussi le type : huit octets de trop partent, pris derrière la structure.",
        done=done,
        expected=f"la taille du corps : {', '.join(str(size - 8) for size in counted)} octets, d'après {known}",
        seen=f"{', '.join(map(str, counted))} octets, ceux de toute la structure",
        source=source,
    )


def _sizes_sent(case: Case) -> list[int]:
    """Return the sizes of all that is sent over queues, also where nobody knows how to speak to the client."""
    if case.profile.talks:
        return sorted({size for row in of_kind(case, "queue").sizes.values() for size in row})
    if case.profile.channel.kind != "queue":
        raise NotApplicable("pas de file de messages ici")
    with case.bench(gated=True) as bench:
        assert bench.gate is not None
        bench.serve()
        visit(bench, bench.client("A", gated=True), 2)
        sent = [event for event in bench.gate.events() if event.call == "msgsnd" and event.kind is Kind.CALL]
    if not sent:
        raise NotApplicable("rien n'a été vu de ce que le client envoie")
    return sorted({int(event.arguments["size"]) for event in sent})


def bodies_of(case: Case) -> tuple[set[int], str]:
    """Return the sizes, without their leading long, of all structs of the program that begin with one."""
    with contextlib.suppress(ModuleNotFoundError):
        from spectacles.lab.check import structs

        found: set[int] = set()
        for words in (case.profile.server, case.profile.client):
            for word in words[:1]:
                found |= structs.message_bodies(case.folder / word)
        return found, ""
    return set(), ""


# Crowds


@check(
    "threads",
    finds=(16,),
    layer="C",
    does=f"ouvre {CROWD} connexions muettes (TCP), ou retient {HELD} réponses (file), et compte les threads",
    needs=("client", "gate"),
    quick=False,
    rank=60,
)
def crowd(case: Case) -> Outcome:
    """A bounded server does not grow by as many threads or processes as there are clients."""
    found = of_kind(case, "queue", "tcp")
    every = found.kind == "queue"
    policy = HoldFirst("server", lambda event: event.call == "msgsnd", every=True)
    most = HELD if every else CROWD
    limits = Limits(processes=2 * CROWD, descriptors=2 * CROWD, seconds=120.0)
    with case.bench(policy if every else None, limits=limits) as bench:
        server = bench.serve()
        before = len(tasks.look(server.tree()))
        if every:
            step = steps_of(found, found.consult)[0]
            raw(
                bench,
                {**step, "do": "flood", "count": most, "seconds": case.patience},
                {"do": "wait", "seconds": 60},
                stay=True,
            )
            done = f"{most} requêtes dont le serveur n'arrive pas à envoyer les réponses"
        else:
            port = found.port
            raw(
                bench,
                {"do": "idle", "port": port, "count": most, "seconds": 2.0},
                {"do": "wait", "seconds": 60},
                stay=True,
            )
            done = f"{most} connexions qui ne disent rien"

        def count() -> int:
            return len(tasks.look(server.tree())) - before

        grown = -1
        while count() > grown and grown < most - 5:  # for as long as there are more and more
            grown = count()
            bench.until(lambda: count() >= most - 5, max(case.patience, 1.5))
        grown = count()
        if grown < most - 5:
            return ok(f"{grown} threads ou processus de plus", done=done)
        return defect(
            16,
            "Le nombre de threads n'a pas de borne : chaque client en obtient un.",
            done=done,
            expected="une borne",
            seen=f"{grown} threads ou processus de plus",
        )


@check(
    "interfaces",
    finds=(21,),
    layer="A",
    does="regarde sur quelles adresses le serveur écoute (TCP)",
    rank=45,
)
def interfaces(case: Case) -> Outcome:
    """A box office that nobody has asked to be open to the world is open to this machine only."""
    if case.profile.channel.kind not in ("", "tcp"):
        raise NotApplicable("pas de connexion TCP ici")
    with case.bench() as bench:
        bench.serve()
        heard = raw(bench, {"do": "listening"})[0]
    if not heard:
        raise NotApplicable("le serveur n'écoute sur aucun port")
    open_ones = [one for one in heard if one.rpartition(":")[0] in ("0.0.0.0", "[::]")]
    done = "démarrer le serveur, et lire dans /proc/net/tcp où il écoute"
    if not open_ones:
        return ok(", ".join(heard), done=done)
    return defect(
        21,
        "Le serveur écoute sur toutes les interfaces : toute la salle peut réserver, en clair.",
        done=done,
        expected="127.0.0.1, tant que rien d'autre n'est demandé",
        seen=", ".join(open_ones),
    )
