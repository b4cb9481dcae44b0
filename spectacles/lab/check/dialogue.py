"""Layer B: what shows in the client's dialogue, one client or several, with nothing stopped on the way."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from typing import TYPE_CHECKING

from spectacles.lab.check.model import Inconclusive, NotApplicable, NotReached, Outcome, defect, ok
from spectacles.lab.check.registry import check
from spectacles.lab.check.starts import CRASHES, RUNNING
from spectacles.lab.dossier import profile as words
from spectacles.lab.dossier import tasks
from spectacles.lab.dossier.driving import describe, ending, last_line
from spectacles.lab.dossier.sites import RECEIVING, SENDING, BeforeAnswer
from spectacles.lab.gate.events import Kind
from spectacles.lab.judge.linearizability import Verdict
from spectacles.lab.judge.linearizability import check as linearizable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from spectacles.lab.check.case import Case
    from spectacles.lab.dossier.driving import Answer, Bench, Client, Request
    from spectacles.lab.programs.world import Program

LONG = "a" * 200  # letters typed where a number or a name is wanted
HUGE = 1 << 28  # seats: a size that no buffer has
OUT_OF_RANGE = ("99999999", "-1", "1000000")  # in the place of a show
NOBODY = ("9", "8", "7", "12")  # shows that a small catalogue has not
TOGETHER = 3  # times that a client sends while the server is suspended
STILL = 0.03  # seconds for which nothing has run: all that was to be sent is
DELAYED = 0.3  # the same on a connection: acknowledgements wait for 0.2 s at most (TCP_DELACK_MAX)
FLOOD = 1 << 16  # bytes printed by a client at the end of its input: it goes round and round
LONG_PID = 1_234_567  # what 64-bit machines give, and a buffer of five digits does not hold


@check(
    "shared-seats",
    finds=(29,),
    layer="B",
    does="réserve une place, puis fait consulter un autre client : il en voit une de moins",
    needs=("client",),
    rank=5,
)
def shared_seats(case: Case) -> Outcome:
    """What one client has reserved, the next one sees; seats that each has for himself are sold again and again."""
    seen, own = shares(case)
    if not seen:
        return ok("une place de moins")
    if not own:
        raise NotApplicable(seen)
    return defect(
        29,
        "Chaque client a ses propres places : ce que l'un réserve, l'autre peut le réserver encore.",
        done="un client consulte et réserve 1 place ; un autre consulte",
        expected="une place de moins",
        seen=seen,
        source=case.source(r"fork\s*\(|places"),
    )


def shares(case: Case) -> tuple[str, bool]:
    """Say how it is not true that a second client sees what the first has reserved, "" if it is, or cannot be seen.

    And whether the first one does see it still: then each has seats of his own.
    """
    with case.bench() as bench:
        bench.serve()
        item = case.item().typed
        a, b = bench.client("A"), bench.client("B")
        before, taken = bench.ask(a.consult(item)), bench.ask(a.reserve(item, 1))
        told = bench.ask(b.consult(item))
        if before.left is None or taken.state != "yes" or told.left != before.left:
            return "", False
        again = bench.ask(a.consult(item)).left
        seen = f"il en restait {before.left}, A en a réservé une, B en voit encore {told.left}, et A {again}"
        return seen, again == before.left - 1


@check(
    "serves",
    finds=(25,),
    layer="B",
    does="consulte et réserve, comme tout le monde : le serveur n'en meurt pas",
    needs=("client",),
    rank=5,
)
def serves(case: Case) -> Outcome:
    """What is asked every day breaks no memory: elsewhere nothing could be reached, and nobody would be told why."""
    item = case.item().typed
    with case.bench() as bench:
        server = bench.serve()
        a = bench.client("A")
        done = "consulter, puis réserver 1 place"
        for request in (a.consult(item), a.reserve(item, 1)):
            answer = bench.ask(request)
            bench.settle(case.patience / 4)
            if bench.ended(server) and server.code in CRASHES:
                return defect(
                    25,
                    "Une demande ordinaire fait planter le serveur : il écrit hors d'une mémoire.",
                    done=done,
                    expected="une réponse",
                    seen=f"{answer} ; {ending(server)} : {last_line(server.output())}",
                    timeline=bench.log,
                    source=case.source(r"sprintf|strcpy|strcat|gets\s*\(|malloc\s*\("),
                )
        return ok(str(answer), done=done)


@check(
    "refusal",
    finds=(18,),
    layer="B",
    does="demande trop de places, puis sert un autre client",
    needs=("client",),
    rank=10,
)
def refusal(case: Case) -> Outcome:
    """A reservation of more than is left is refused, and everybody is served after it."""
    item = case.item().typed
    with case.bench() as bench:
        server = bench.serve()
        a = bench.client("A")
        left = case.seats(bench, a, item)
        if case.profile.named:
            taken = bench.seat()
            case.granted(bench.ask(a.reserve(item, 1, taken)))
            too_much, done = a.reserve(item, 1, taken), f"réserver la place {taken}, puis encore celle-là"
        elif case.profile.most_seats:
            raise NotApplicable("le nombre de places par requête est limité")
        else:
            case.granted(bench.ask(a.reserve(item, 1)))
            too_much = a.reserve(item, left + 100)
            done = f"réserver 1 place, puis {left + 100} alors qu'il en reste {left - 1}"
        answer = bench.ask(too_much)
        if answer.state == "unsent":
            raise NotApplicable("le client ne laisse pas demander tant")
        after = bench.ask(bench.client("B").consult(item))
        done += ", puis faire consulter un autre client"
        if after.known and answer.state not in ("stuck", "late"):
            return ok(f"{answer} ; {after}", done=done)
        if bench.ended(server):
            raise NotReached(f"le serveur a fini ({ending(server)})")
        # what a client makes of an answer is another matter
        if not after.known and after.state not in ("stuck", "late"):
            raise NotReached(str(after))
        return defect(
            18,
            "Après un refus, le serveur ne répond plus.",
            done=done,
            expected="un refus, puis le service continue",
            seen=f"{answer} ; {after} ; serveur : {describe(bench.server_tasks())}",
            timeline=bench.log,
            source=case.source(r"sem_wait|mutex_lock|semop|lock\s*\("),
        )


@check(
    "no-such-show",
    finds=(3, 5),
    layer="B",
    does="consulte et réserve un spectacle qui n'existe pas",
    needs=("client",),
    rank=20,
)
def no_such_show(case: Case) -> Outcome:
    """A show that does not exist has no seats, and above all not those of the last question."""
    if "{item}" not in " ".join(case.profile.consult):
        raise NotApplicable("une consultation ne nomme pas de spectacle")
    known = {item.typed for item in case.profile.items}
    if len(known) < 2 or not all(name.isdigit() for name in known):
        raise NotApplicable("les spectacles ne sont pas des numéros")
    absent = next((name for name in NOBODY if name not in known and int(name) > max(map(int, known))), "")
    if not absent:
        raise NotApplicable("aucun numéro n'est libre")
    with case.bench() as bench:
        bench.serve()
        a = bench.client("A")
        seen: list[tuple[int, Answer]] = []
        for item in sorted(known)[-2:]:
            left = case.seats(bench, a, item)
            answer = bench.ask(a.consult(absent))
            if not answer.known and a.program is not None and a.program.code is not None:
                a = bench.client("B")  # one that ends on an error is asked no more
            seen.append((left, answer))
        done = f"consulter le spectacle {absent}, qui n'existe pas, après d'autres"
        told = [answer.left for _, answer in seen]
        repeated = all(answer.left == left for left, answer in seen) and told[0] != told[1]
        if repeated and not re.search(rf"^\W*{absent}\b.*\w", a.text(), re.MULTILINE):
            return defect(
                3,
                "Pour un spectacle qui n'existe pas, le serveur renvoie la réponse d'avant.",
                done=done,
                expected="une erreur : spectacle inexistant",
                seen=f"{told[0]} place(s), puis {told[1]} : celles du spectacle consulté juste avant",
                timeline=bench.log,
                source=case.source(r"places"),
            )
        if re.search(rf"^\W*{absent}\b.*\w", a.text(), re.MULTILINE):
            raise NotApplicable(f"le spectacle {absent} est dans la liste")
        # Elsewhere "0 seats" may be what a program says of a show that it does not have.
        subject = case.question > 0 or "tub1_view" in case.profile.channel.names
        if subject and all(number is not None and number >= 0 for number in told):
            return defect(
                5,
                "Un emplacement vide passe pour un spectacle.",
                done=done,
                expected="une erreur : spectacle inexistant",
                seen=f"« il reste {told[0]} place(s) »",
                timeline=bench.log,
                source=case.source(r"places"),
            )
        return ok(last_line(seen[0][1].text), done=done)


@check(
    "hostile-numbers",
    finds=(23, 25),
    layer="B",
    does="réserve des nombres négatifs, énormes, et des spectacles hors du tableau",
    needs=("client",),
    rank=30,
)
def hostile_numbers(case: Case) -> Iterator[Outcome]:
    """Numbers that make no sense are refused: they add no seats, and crash nobody."""
    if not case.profile.expects("hostile_numbers"):
        raise NotApplicable("le profil ne le demande pas")
    item = case.item().typed
    typed = " ".join((*case.profile.reserve, *case.profile.reserve_words))
    tries: list[tuple[str, int, str]] = []  # show, seats, name of the place
    if "{seats}" in typed:
        tries += [(item, -5, ""), (item, HUGE, "")]
    if case.profile.named:
        tries += [(item, 1, " ".join(number for _ in case.profile.places[0].split())) for number in OUT_OF_RANGE]
    if "{item}" in typed:
        tries += [(number, 1, "") for number in OUT_OF_RANGE]
    if not tries:
        raise NotApplicable("une réservation ne demande aucun nombre")
    bad = False
    for number, (show, seats, seat) in enumerate(tries):
        if case.script and case.script != str(number):
            continue
        with case.bench() as bench:
            server = bench.serve()
            a = bench.client("A")
            before = case.seats(bench, a, item)
            answer = bench.ask(a.reserve(show, seats, seat))
            program = a.program
            assert program is not None
            which = f"la place {seat}" if seat else f"{seats} place(s)"
            done = f"réserver {which} du spectacle {show}, puis faire consulter un autre client"
            after = bench.ask(bench.client("B").consult(item))
            what = ""
            if bench.ended(server):
                what = f"le serveur finit ({ending(server)})"
            elif program.code in CRASHES:
                what = f"le client plante ({ending(program)})"
            elif answer.state == "yes":
                what = f"la réservation est acceptée ; il restait {before} place(s), il en reste {after.left}"
            elif after.known and after.left != before:
                what = f"il restait {before} place(s), il en reste {after.left}"
            elif not after.known:
                what = f"{after} ; serveur : {describe(bench.server_tasks())}"
            if what:
                bad = True
                size = show == item and seats == HUGE and answer.state != "yes"
                yield defect(
                    25 if size else 23,
                    "Un nombre énorme dépasse une mémoire." if size else "Un nombre reçu n'est pas vérifié.",
                    done=done,
                    expected="un refus, et rien d'autre",
                    seen=what,
                    timeline=bench.log,
                    source=case.source(r"places|scanf|atoi"),
                    script=str(number),
                )
    if not bad:
        yield ok(f"{len(tries)} nombres refusés")


@check(
    "long-input",
    finds=(25, 23),
    layer="B",
    does=f"tape {len(LONG)} lettres à chaque question du client",
    needs=("prompt",),
    rank=40,
)
def long_input(case: Case) -> Iterator[Outcome]:
    """A line longer than any buffer is refused or cut; it does not crash client or server."""
    profile = case.profile
    if profile.style == "arguments":
        raise NotApplicable("le client ne demande rien au clavier")
    item = case.item().typed if profile.talks else ""
    # the first question is all that is known of a client that nobody can drive
    questions = len(profile.login) + len(profile.reserve) if profile.talks else 1
    bad = False
    for number in range(questions):
        if case.script and case.script != str(number):
            continue
        with case.bench() as bench:
            server = bench.serve()
            a = bench.client("A")
            lines, arguments = _typed(a, item)
            program = a.start(arguments)
            a.pending = []
            if not _type_all(bench, a, lines[:number]):
                raise NotReached("le client n'attend pas toutes ses lignes")
            prompt = last_line(program.output())
            _finish(bench, a, [LONG, *lines[number + 1 :]])
            done = f"taper {len(LONG)} lettres à « {prompt} »"
            crashed = program.code in CRASHES
            # One that ends with status 0 was told to, by whatever the letters came to mean in the client.
            if crashed or (bench.settle(0.2) and bench.ended(server) and server.code != 0):
                bad = True
                letter = crashed and _crashes_of_a_letter(case, number)
                sentence = "Une ligne trop longue dépasse une mémoire."
                yield defect(
                    23 if letter else 25,
                    "Une lettre où un nombre est attendu fait tomber le client." if letter else sentence,
                    done=f"taper « a » à « {prompt} »" if letter else done,
                    expected="elle est refusée" if letter else "elle est coupée ou refusée",
                    seen=f"le client plante ({ending(program)})" if crashed else f"le serveur finit ({ending(server)})",
                    source=case.source(r'scanf\s*\(\s*"%s|gets\s*\(|strcpy|sprintf', client=crashed),
                    script=str(number),
                )
    if not bad:
        yield ok(f"{questions} questions")


def _finish(bench: Bench, client: Client, lines: Sequence[str]) -> None:
    """Type lines, each when the client waits for one, and then have it leave: an array that was written past its end
    often shows when the function returns only.
    """
    program = client.program
    assert program is not None
    for line in (*lines, *bench.profile.quit):
        if not bench.until(client.rests, bench.patience) or program.code is not None:
            break
        client.type(line, client.waits_to_read())
    bench.until(client.rests, bench.patience)
    bench.ended(program)


def _crashes_of_a_letter(case: Case, number: int) -> bool:
    """Say whether one letter does what two hundred do, typed at the same question: then it is not the length."""
    with case.bench() as bench:
        bench.serve()
        a = bench.client("A")
        lines, arguments = _typed(a, case.item().typed if case.profile.talks else "")
        program = a.start(arguments)
        a.pending = []
        if _type_all(bench, a, lines[:number]):
            _finish(bench, a, ["a", *lines[number + 1 :]])
        # One that goes round and round comes to the end of its stack at last.
        bench.until(a.rests, 4 * bench.patience)
        return program.code in CRASHES or (program.code is None and a.waits_to_read() is None)


def _typed(client: Client, item: str) -> tuple[list[str], list[str]]:
    """Return all that is typed for a reservation, login included, and the words added to the command."""
    profile = client.bench.profile
    if not profile.talks:
        return [], []
    request = client.reserve(item, 1)
    return [*words.fill(profile.login, **client.values()), *request.lines], list(request.arguments)


def _type_all(bench: Bench, client: Client, lines: Sequence[str]) -> bool:
    """Type lines, each when the client waits for it, and wait until it waits for the next. Say whether it did."""
    for line in lines:
        if not bench.until(lambda: client.waits_to_read() is not None):
            return False
        client.type(line, client.waits_to_read())
    return bench.until(lambda: client.waits_to_read() is not None)


@check(
    "end-of-input",
    finds=(26,),
    layer="B",
    does="finit l'entrée du client à chaque question (Ctrl-D)",
    needs=("prompt",),
    rank=50,
)
def end_of_input(case: Case) -> Iterator[Outcome]:
    """At the end of its input a client ends: it neither goes round nor floods the terminal."""
    profile = case.profile
    if profile.style == "arguments":
        raise NotApplicable("le client ne demande rien au clavier")
    questions = len(profile.login) + len(profile.reserve) if profile.talks else 1
    item = case.item().typed if profile.talks else ""
    bad = False
    for count in range(questions):
        if case.script and case.script != str(count):
            continue
        with case.bench() as bench:
            bench.serve()
            a = bench.client("A")
            lines, arguments = _typed(a, item)
            lines = lines[:count]
            text = "".join(f"{line}\n" for line in lines)
            typed = 'printf %s "$1" >.entree; shift; exec "$@" <.entree'
            program = bench.world.start(
                ["sh", "-c", typed, "sh", text, *words.fill(profile.client, **a.values()), *arguments],
                env=profile.client_env,
                cwd=profile.client_folder,
            )
            at = "à sa première question" if not count else f"après avoir tapé {', '.join(lines)}"
            what = _spins(bench, program, case.patience)
            if what:
                bad = True
                yield defect(
                    26,
                    "À la fin de son entrée, le client tourne sans fin.",
                    done=f"lancer le client et finir son entrée (Ctrl-D) {at}",
                    expected="il finit",
                    seen=what,
                    source=case.source(r"scanf|fgets|input\(", client=True),
                    script=str(count),
                )
                return
    if not bad:
        yield ok(f"il finit, {questions} fois")


def _spins(bench: Bench, program: Program, patience: float) -> str:
    """Return "" once a program has ended, or sleeps; else what it does without end."""
    deadline = time.monotonic() + patience
    running = looks = 0
    while program.code is None and time.monotonic() < deadline:
        if program.printed > FLOOD:
            return f"il a affiché {program.printed} octets : « {last_line(program.output())} »…"
        time.sleep(0.02)
        looks += 1
        running += any(one.state == "R" for one in tasks.look(program.tree()))
    if program.code is None and looks and running > RUNNING * looks:
        return "il calcule sans fin"
    return ""


@check(
    "recycled-pid",
    finds=(12,),
    layer="B",
    does="donne à un nouveau client le PID d'un client tué avant d'avoir lu sa réponse",
    needs=("client", "private", "gate"),
    rank=60,
)
def recycled_pid(case: Case) -> Outcome:
    """What a dead client never read is not taken for the answer to a later one with the same PID."""
    if 1 in case.found:
        raise NotReached("les clients partagent leurs réponses, quel que soit leur PID (défaut 1)")
    item = case.item().typed
    policy = BeforeAnswer()
    with case.bench(policy) as bench:
        bench.serve(gated=False)
        other = bench.client("B")
        before = case.seats(bench, other, item)
        victim = bench.client("V", gated=True)
        request = victim.consult(item)
        bench.drive(request, until=policy.reached.is_set)
        assert victim.program is not None
        if not policy.reached.is_set():
            raise NotApplicable("le client ne va pas lire sa réponse par un appel que l'on puisse arrêter")
        pid = victim.program.inside
        bench.settle(case.patience / 4)
        victim.kill()
        if not bench.until(lambda: victim.program is not None and victim.program.code is not None):
            raise Inconclusive("le client tué ne finit pas")
        taken = bench.ask(other.reserve(item, 1))
        stale = words.pattern(case.profile.left, item).search(taken.text) if taken.state == "other" else None
        if stale and case.profile.channel.kind == "queue":
            return defect(
                12,
                "Un client reçoit la réponse destinée à un client mort.",
                done="tuer un client qui attend la réponse à sa consultation ; un autre réserve 1 place",
                expected="la réponse à sa réservation",
                seen=f"celle de la consultation : « {stale[0].strip()[:80]} »",
                timeline=bench.log,
                source=case.source(r"msgrcv\s*\(|getpid"),
            )
        case.granted(taken)
        again = bench.client("N", pid=pid)
        answer = bench.ask(again.consult(item))
        done = f"tuer un client qui attend sa réponse, réserver 1 place, puis consulter sous le même PID ({pid})"
        if answer.left == before:
            return defect(
                12,
                "Un client reçoit la réponse destinée à un client mort qui avait le même PID.",
                done=done,
                expected=f"{before - 1} place(s)",
                seen=f"{answer.left}, comme avant la réservation",
                timeline=bench.log,
                source=case.source(r"msgrcv\s*\(|getpid"),
            )
        if not answer.known:
            raise NotReached(str(answer))
        return ok(str(answer), done=done)


@check(
    "together",
    finds=(7,),
    layer="B",
    does="suspend le serveur pendant qu'un client, puis deux, envoient : il lit alors tout d'un coup (tubes, TCP)",
    needs=("client", "gate"),
    rank=65,
)
def together(case: Case) -> Outcome:
    """A FIFO and a connection keep no boundaries: what was written twice may be read at once."""
    kind = case.profile.channel.kind
    if kind not in ("fifo", "tcp", "unix"):
        raise NotApplicable("le canal sépare lui-même les messages")
    if 31 in case.found:
        raise NotReached("suspendu puis repris, le serveur finit (défaut 31)")
    several = kind != "fifo" and _writes_several(case)
    crowd = kind == "fifo" and case.profile.clients != 1 and case.question != 1
    if not several and not crowd:
        raise NotApplicable("une demande est une seule écriture, sur une connexion à elle")
    item = max(case.profile.items, key=lambda one: one.seats or 0).typed  # so that all who ask can be granted
    with case.bench() as bench:
        server = bench.serve()
        clients = [bench.client(name) for name in ("A", "B")]
        case.seats(bench, clients[1], item)
        before = case.seats(bench, clients[0], item) - 1
        case.granted(bench.ask(clients[0].reserve(item, 1)))
        pids = set(server.tree())
        suspend(bench, pids)
        resume(pids)
        before -= 1  # the same, with nothing sent meanwhile: some calls fail of that alone
        case.granted(bench.ask(clients[0].reserve(item, 1)))
        bench.log.clear()
        for asking in (clients[:1], clients) if crowd else TOGETHER * (clients[:1],):
            pids = set(server.tree())
            seats = case.most(2)  # not what was asked for before, which may still lie in memory
            if before < seats * len(asking):
                break  # it would be right to refuse
            requests = [client.reserve(item, seats) for client in asking]
            suspend(bench, pids)
            bench.drive(*requests, timeout=bench.patience, until=lambda: all_wait(bench, requests))  # noqa: B023
            resume(pids)
            answers = bench.ask_all(*requests, timeout=2 * case.patience)
            lost = [answer for answer in answers if answer.state != "yes"]
            left = bench.ask(clients[1].consult(item)).left if not lost else None
            before -= seats * len(asking)
            wrong = "" if left in (None, before) else f" ; il reste {left} place(s) au lieu de {before}"
            if lost and crowd and len(asking) == 1:
                raise NotReached(f"une demande faite pendant qu'il est suspendu n'a pas de réponse ({lost[0]})")
            if lost or wrong or bench.ended(server):
                what = "deux clients envoient chacun une demande" if crowd else "un client envoie sa demande"
                return defect(
                    7,
                    "Deux écritures qui arrivent ensemble sont lues comme une seule.",
                    done=f"suspendre le serveur (SIGSTOP) ; {what} ; le reprendre",
                    expected="chaque demande est acceptée, comme quand il n'est pas suspendu",
                    seen=" ; ".join(map(str, answers)) + (wrong or f" ; serveur : {describe(bench.server_tasks())}"),
                    timeline=bench.log,
                    source=case.source(r"\b(read|recv)\s*\("),
                )
        return ok("chaque demande a sa réponse", done="suspendre le serveur pendant que l'on demande")


def _writes_several(case: Case) -> bool:
    """Say whether a client makes one request of several writes in a row, with no answer between them."""
    item = case.item().typed
    with case.bench(gated=True) as bench:
        bench.serve(gated=False)
        assert bench.gate is not None
        a = bench.client("A", gated=True)
        case.seats(bench, a, item)
        since = len(bench.gate.events())
        case.granted(bench.ask(a.reserve(item, 1)))
        row = most = 0
        for event in bench.gate.events(since):
            if event.kind is not Kind.CALL or not event.object.startswith("connection"):
                continue
            row = row + 1 if event.call in SENDING else 0 if event.call in RECEIVING else row
            most = max(most, row)
        return most > 1


def all_wait(bench: Bench, requests: Sequence[Request]) -> bool:
    """Say whether the clients of requests have sent all, and wait for something else than the keyboard.

    What is written second on a connection has left only when what was first is acknowledged, which a server that reads
    nothing lets wait (Nagle's algorithm, tcp(7)).
    """
    sent = all(request.sent for request in requests)
    doing = [one for request in requests for one in request.client.doing()]
    return (
        sent
        and bool(doing)
        and not any(one.reads_terminal for one in doing)
        and bench.quiet_for > (DELAYED if bench.profile.channel.kind == "tcp" else STILL)
    )


def suspend(bench: Bench, pids: set[int]) -> None:
    """Stop processes, and wait until all their threads have stopped: on a busy machine that takes a while."""
    _signal(pids, signal.SIGSTOP)
    bench.until(lambda: all(one.state in "TtZX" for one in tasks.look(pids)))


def resume(pids: Iterable[int]) -> None:
    """Let processes that were stopped go on."""
    _signal(pids, signal.SIGCONT)


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(OSError):
            os.kill(pid, number)


@check(
    "long-pid",
    finds=(25,),
    layer="B",
    does=f"donne à un client le PID {LONG_PID}",
    needs=("client", "private"),
    quick=False,
    rank=70,
)
def long_pid(case: Case) -> Outcome:
    """PIDs have up to seven digits on a 64-bit machine."""
    with open("/proc/sys/kernel/pid_max") as file:
        if int(file.read()) <= LONG_PID:
            raise NotApplicable("cette machine n'a pas de PID si longs")
    item = case.item().typed
    with case.bench() as bench:
        server = bench.serve()
        case.seats(bench, bench.client("A"), item)
        client = bench.client("B", pid=LONG_PID)
        answer = bench.ask(client.reserve(item, 1))
        done = f"réserver 1 place depuis un client dont le PID est {LONG_PID}"
        if answer.known:
            return ok(str(answer), done=done)
        assert client.program is not None
        how = ending(server) if bench.ended(server) else describe(bench.server_tasks())
        return defect(
            25,
            "Un PID de sept chiffres ne tient pas dans ce qui est prévu pour lui.",
            done=done,
            expected="la réservation est servie comme une autre",
            seen=f"{answer} ; serveur : {how}",
            timeline=bench.log,
            source=case.source(r"sprintf|%\d+d|char \w+\["),
        )


@check(
    "histories",
    finds=(29,),
    layer="B",
    does="plusieurs clients à la fois, sans rien arrêter ; leurs réponses ont-elles un ordre ?",
    needs=("two clients",),
    quick=False,
    rank=80,
)
def histories(case: Case) -> Outcome:
    """Answers of clients that ask at the same time are those of some order, one request after the other."""
    if not case.profile.counts:
        raise NotApplicable("personne ne peut demander ce qui reste")
    item = case.item().typed
    with case.bench() as bench:
        bench.serve()
        clients = [bench.client(name) for name in ("A", "B", "C")]
        before = case.seats(bench, clients[0], item)
        answers: list[Answer] = []
        answers += [bench.ask(each.consult(item)) for each in clients[1:]]
        for turn in range(4):
            seats = case.most(max(before // 5, 1) + turn)
            answers += bench.ask_all(*(each.reserve(item, seats) for each in clients))
            answers += bench.ask_all(*(each.consult(item) for each in clients))
        return judge(answers, before, bench, case, f"{len(clients)} clients réservent et consultent à la fois") or ok(
            f"{len(answers)} réponses, qui ont un ordre"
        )


def judge(
    answers: Sequence[Answer], before: int, bench: Bench, case: Case, done: str, *, script: str = "", source: str = ""
) -> Outcome | None:
    """Return defect 28 or 29 if no order explains the answers about one show that had `before` seats, else None."""
    verdict = linearizable([answer.operation() for answer in answers], {0: before}, time_limit=2.0)
    if verdict.verdict is not Verdict.INVALID:
        return None
    if not _orderly(answers, case):
        raise NotApplicable("même une par une, ces demandes n'ont pas les réponses attendues : il a d'autres règles")
    told = " ".join(verdict.explain().split("\n\n")[0].split())
    accused = told[told.find("Aucun ordre") :] if "Aucun ordre" in told else ""
    granted = sum(answer.seats for answer in answers if answer.state == "yes")
    sentence = "Deux requêtes faites en même temps ne s'ajoutent pas : le verrou ne protège pas."
    if granted > before:
        sentence = f"Des places sont vendues deux fois : {granted} acquittées, il n'y en avait que {before}."
    return defect(
        29,
        sentence,
        done=done,
        expected="les réponses d'un ordre où les requêtes passent l'une après l'autre",
        seen=" ; ".join(map(str, answers[-4:])) + (f". {accused[:400]}" if accused else ""),
        timeline=bench.log,
        source=source or case.source(r"places\s*-=|places\s*=|sem_wait|mutex_lock|fcntl|flock"),
        script=script,
    )


def _orderly(answers: Sequence[Answer], case: Case) -> bool:
    """Say whether the same requests, made one after the other in a fresh world, have the answers of that order.

    Where they have not, the program has rules that this judge does not know: so many seats a request, or a client.
    """
    (item, *_) = {answer.item for answer in answers}
    with case.bench() as bench:
        bench.serve()
        clients = {name: bench.client(name) for name in sorted({answer.client for answer in answers})}
        first = bench.ask(next(iter(clients.values())).consult(item))
        if first.left is None:
            return True
        again = []
        for answer in sorted(answers, key=lambda one: one.call):
            client = clients[answer.client]
            again.append(bench.ask(client.reserve(item, answer.seats) if answer.seats else client.consult(item)))
        history = [answer.operation() for answer in again]
        return linearizable(history, {0: first.left}, time_limit=2.0).verdict is not Verdict.INVALID
