"""Layer A: what shows with the start commands alone."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time
from typing import TYPE_CHECKING

from spectacles.lab.check.model import NotApplicable, NotReached, Outcome, defect, ok
from spectacles.lab.check.registry import check
from spectacles.lab.dossier import profile as words
from spectacles.lab.dossier import tasks
from spectacles.lab.dossier.driving import NotReadyError, alive, describe, ending, last_line
from spectacles.lab.dossier.sites import At, Site, plain
from spectacles.lab.gate.events import Kind
from spectacles.lab.gate.policy import Fail
from spectacles.lab.programs.world import WorldError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from spectacles.lab.check.case import Case
    from spectacles.lab.dossier.driving import Bench, Client
    from spectacles.lab.programs.world import Program, Thing

CRASHES = (-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS, -signal.SIGFPE, -signal.SIGILL)
KERNEL = ("queue", "shared memory", "semaphores", "POSIX queue", "POSIX shared memory", "POSIX semaphore")
BENIGN = (signal.SIGCHLD, signal.SIGWINCH, signal.SIGURG, signal.SIGCONT)  # what one without a handler never notices
INTERRUPTIBLE = ("msgrcv", "mq_receive", "accept", "read", "recv", "semop", "open", "poll")
IDLE = 1.0  # seconds for which a server that nobody asks is looked at
LOOKS = 50  # in this time
RUNNING = 0.5  # of these looks find an idle server running: it polls without a pause
NAPS = 2  # times that a task which computes without end may sleep meanwhile
BUSY = 0.3  # seconds of processor time a second, of an idle server
CLIENTS = 50  # whose traces are counted
ENOUGH = 15  # of them, where clients are slow
LONG = 10.0  # seconds for all of them
LINES = 4  # lines typed at most to a client that nobody knows how to speak to
PIPED = (-signal.SIGPIPE, 128 + signal.SIGPIPE)  # how one ends that has written to somebody who is gone
DEADLINE = 12.0  # seconds: a sound client's own deadline is over by then


@check(
    "ctrl-c",
    finds=(34, 8),
    layer="A",
    does="tape Ctrl-C au terminal du serveur : il finit, et retire ses objets du noyau",
    rank=10,
)
def ctrl_c(case: Case) -> Iterator[Outcome]:
    """Ctrl-C reaches the whole group of the terminal; the server ends, not by a crash, and clears up."""
    with case.bench() as bench:
        server = bench.serve()
        done = "démarrer le serveur, puis taper Ctrl-C dans son terminal"
        if case.profile.stop != "ctrl-c":
            raise NotApplicable(f"le profil dit qu'il s'arrête autrement ({case.profile.stop})")
        pids = set(server.tree()) | set(bench.world.tree() if bench.world.private else ())
        server.send(b"\x03")
        if case.profile.stop_lines:
            bench.stop()
        ended = bench.until(lambda: server.code is not None, 3 * case.patience)
        if not ended:
            yield defect(
                34,
                "Le serveur ne s'arrête pas quand on tape Ctrl-C.",
                done=done,
                expected="il finit",
                seen=f"il est encore là : {describe(bench.server_tasks())}",
                source=case.source(r"SIGINT|getchar\s*\(|input\s*\("),
            )
            return
        if server.code in CRASHES:
            yield defect(
                34,
                "Le serveur plante quand on tape Ctrl-C.",
                done=done,
                expected="il finit, de lui-même ou par SIGINT",
                seen=ending(server),
            )
        elif not bench.until(lambda: not alive(pids), 3 * case.patience):
            yield defect(
                34,
                "Après Ctrl-C, des processus du serveur tournent encore.",
                done=done,
                expected="tous finissent",
                seen=f"{len(alive(pids))} restent : {describe(tasks.look(alive(pids)))}",
                source=case.source(r"SIGINT|fork\s*\("),
            )
        left = _kernel(bench)
        if left and case.profile.expects("clean_stop"):
            yield defect(
                8,
                "Arrêté par Ctrl-C, le serveur laisse ses objets dans le noyau.",
                done=done,
                expected="il retire ce qu'il a créé",
                seen=f"{ending(server)} ; il reste {_named(left)}",
                source=case.source(r"IPC_RMID|sem_unlink|msgget|shmget|sem_open|semget"),
            )
        else:
            yield ok(f"il finit : {ending(server)}", done=done)


@check(
    "restart",
    finds=(33,),
    layer="A",
    does="tue le serveur par kill -9, puis le relance dans le même dossier",
    rank=20,
)
def restart(case: Case) -> Outcome:
    """After kill -9 the next server starts, and serves."""
    if not case.profile.expects("restart"):
        raise NotApplicable("le profil ne demande pas qu'il reparte")
    with case.bench() as bench:
        bench.serve()
        done = "démarrer le serveur, le tuer par kill -9, le relancer"
        if case.profile.talks:
            client = bench.client("A")
            case.seats(bench, client, case.item().typed)
            done = "démarrer le serveur, faire consulter un client, tuer le serveur par kill -9, le relancer"
        elif case.profile.client:  # nobody knows what it says, but it connects, and what is typed may bring an answer
            visit(bench, bench.client("A"), 4)
            done = "démarrer le serveur et un client, tuer le serveur par kill -9, le relancer"
        bench.kill_server()
        what = defect_restart(case, bench, done)
        return what or ok("il repart", done=done)


def visit(bench: Bench, client: Client, lines: int) -> None:
    """Start a client that nobody knows how to speak to, and type that many times "1", whenever it waits for a line."""
    with contextlib.suppress(WorldError):
        program = client.start()
        client.pending = []
        for _ in range(lines):
            if not bench.until(client.rests, bench.patience) or program.code is not None:
                return
            client.type("1", client.waits_to_read())
        bench.until(client.rests, bench.patience / 2)


def defect_restart(case: Case, bench: Bench, done: str) -> Outcome | None:
    """Start a server anew; return defect 33 if it does not start, or does not serve."""
    try:
        bench.serve(gated=False)
    except NotReadyError as error:
        assert bench.server is not None
        source = case.source(r"IPC_EXCL|O_EXCL|\bbind\s*\(|mkfifo\s*\(|EEXIST")
        return defect(
            33,
            "Tué par kill -9, le serveur ne peut plus être relancé.",
            done=done,
            expected="il repart",
            seen=str(error),
            source=source,
        )
    if case.profile.talks:
        answers = [bench.ask(bench.client(name).consult(case.item().typed)) for name in ("Y", "Z")]
        answer = answers[-1]
        if not any(one.known or one.state == "other" for one in answers):
            return defect(
                33,
                "Tué par kill -9 puis relancé, le serveur ne sert plus personne.",
                done=done + ", puis faire consulter un autre client",
                expected="une réponse",
                seen=f"{answer} ; serveur : {describe(bench.server_tasks())}",
            )
    elif processor_use(bench) > RUNNING and 35 not in case.found and not _computes(case):
        return defect(
            33,
            "Tué par kill -9 puis relancé, le serveur calcule sans fin au lieu d'attendre des requêtes.",
            done=done,
            expected="il attend des requêtes, comme la première fois",
            seen=describe(bench.server_tasks()),
            source=case.source(r"IPC_EXCL|O_EXCL|\bbind\s*\(|mkfifo\s*\(|EEXIST"),
        )
    return None


def _computes(case: Case) -> bool:
    """Say whether the server computes without end when it is started for the first time."""
    with case.bench() as bench:
        bench.serve()
        return processor_use(bench) > RUNNING


@check(
    "piped-output",
    finds=(22,),
    layer="A",
    does="lance le serveur avec sa sortie dans un tube, et regarde si elle paraît",
    rank=30,
)
def piped_output(case: Case) -> Outcome:
    """What the server says when it is ready on a terminal, it says into a pipe, too, at that time."""
    if not case.profile.expects("piped_output"):
        raise NotApplicable("le profil ne le demande pas")
    with case.bench() as bench:
        server = bench.serve()
        bench.settle(0.5)
        wanted = server.output().strip()
        took = bench.started
    if not wanted:
        raise NotApplicable("le serveur n'affiche rien")
    with case.bench() as bench:
        command = words.fill(case.profile.server, dir=bench.world.inside)
        program = bench.world.start(
            ["sh", "-c", '"$@" 2>&1 | cat', "sh", *command],
            env=case.profile.server_env,
            cwd=case.profile.server_folder,
        )
        bench.server = program
        bench.wait_ready(program)
        bench.settle(0.5)
        # The `cat` of the pipeline waits for input as a server does, so that it may be ready later than it seems.
        bench.until(lambda: bool(program.output().strip()), max(case.patience / 2, 3 * took))
        if program.output().strip():
            return ok("elle paraît", done="lancer le serveur, sortie dans un tube")
        return defect(
            22,
            "La sortie du serveur ne paraît pas quand elle va dans un tube ou un fichier.",
            done="lancer le serveur avec sa sortie dans un tube (./serveur | cat), et attendre qu'il soit prêt",
            expected=f"ce qu'il dit sur un terminal : « {last_line(wanted)} »",
            seen="rien",
            source=case.source(r"\bf?printf\s*\(|\bputs\s*\(|\bcout\b|\bprint\("),
        )


@check(
    "idle",
    finds=(35,),
    layer="A",
    does="mesure le temps de processeur du serveur quand personne ne demande rien",
    rank=40,
)
def idle(case: Case) -> Outcome:
    """An idle server sleeps. A spinning one is always running or ready to, however busy the machine is."""
    with case.bench() as bench:
        bench.serve()
        bench.settle(case.patience / 2)
        pids = {one.pid for one in bench.server_tasks()}
        share, spent, passed = busy(pids, IDLE, LOOKS)
        said = (
            f"{spent:.2f} s de processeur en {passed:.1f} s ; il calculait à {round(share * LOOKS)} regards sur {LOOKS}"
        )
        if share > RUNNING or spent > BUSY * passed:
            return defect(
                35,
                "Le serveur occupe le processeur alors que personne ne lui demande rien.",
                done="démarrer le serveur, et ne rien lui demander pendant une seconde",
                expected="il dort dans un appel bloquant",
                seen=said.replace(".", ","),
                source=case.source(r"IPC_NOWAIT|O_NONBLOCK|MSG_DONTWAIT|while\s*\(\s*(1|true|True)\s*\)"),
            )
        return ok(said.replace(".", ","))


@check("eintr", finds=(31,), layer="A", does="suspend et reprend le serveur, lui envoie des signaux anodins", rank=45)
def interrupted(case: Case) -> Outcome:
    """Ctrl-Z and fg interrupt msgrcv, semop, epoll_wait with EINTR, with no handler at all; so do signals caught."""
    if 35 in case.found:
        raise NotReached("il n'attend jamais (défaut 35) : on ne voit pas s'il attend de nouveau")
    with case.bench() as bench:
        server = bench.serve()
        done = "démarrer le serveur, le suspendre (SIGSTOP), le reprendre (SIGCONT)"
        for number in (signal.SIGSTOP, signal.SIGCONT):
            server.signal(number)
            time.sleep(0.02)
        bench.settle(0.3)
        caught = [number for number in BENIGN if _catches(server.pid, number)]
        for number in caught:
            os.kill(server.pid, number)
            done += f", lui envoyer {number.name}"
            bench.settle(0.3)
        what = _serves_still(case, bench, server)
        if not what:
            return _interrupt_each(case)
        if bench.ended(server) and server.code == 0:
            raise NotReached("il finit de lui-même, avec le code 0, une fois qu'il a servi")
        if what:
            return defect(
                31,
                "Un appel interrompu par un signal (EINTR) met fin au serveur.",
                done=done,
                expected="il attend de nouveau",
                seen=what,
                source=case.source(r"msgrcv\s*\(|semop\s*\(|accept\s*\(|sem_wait\s*\("),
            )
        return ok("il sert toujours", done=done)


def _interrupt_each(case: Case) -> Outcome:
    """Let each call that the server waits in fail with EINTR once: that is what a caught signal does to it.

    Only where it catches signals: otherwise these calls are never interrupted. One that then ends as if it had been
    asked to may mean it so.
    """
    with case.bench(gated=True) as bench:
        server = bench.serve()
        assert bench.gate is not None
        if not any(_catches(pid, number) for pid in server.tree() for number in range(1, 32)):
            return ok("il n'intercepte aucun signal", done="suspendre le serveur, le reprendre")
        found = []
        bench.settle()
        for name in list(bench.gate.tasks):
            rest = bench.gate.asleep(name)
            if rest is not None and rest.state == "asleep" and rest.object and rest.call in INTERRUPTIBLE:
                times = sum(
                    event.kind is Kind.CALL and (event.task, event.call) == (rest.task, rest.call)
                    and plain(event.object) == plain(rest.object)
                    for event in bench.gate.events()
                )  # fmt: skip
                found.append(Site(rest.task, rest.call, plain(rest.object), times, rest.object))
    for site in found[:6]:
        policy = At(site, Fail(errno.EINTR))
        policy.arm()
        with case.bench(policy) as bench:
            done = f"démarrer le serveur ; {site.call}({site.shown}), où {site.task} attend, est interrompu (EINTR)"
            try:
                server = bench.serve()
                what = _serves_still(case, bench, server) if policy.reached.is_set() else ""
            except NotReadyError as error:
                assert bench.server is not None
                server, what = bench.server, str(error)
            if what and policy.reached.is_set() and not (bench.ended(server) and server.code == 0):
                return defect(
                    31,
                    "Un appel interrompu par un signal (EINTR) met fin au serveur.",
                    done=done,
                    expected="il attend de nouveau",
                    seen=what,
                    source=case.source(rf"\b{site.call}\s*\("),
                )
    return ok(f"{len(found)} appels interrompus, il attend de nouveau")


def _catches(pid: int, number: int) -> bool:
    try:
        with open(f"/proc/{pid}/status") as file:
            mask = next(line for line in file if line.startswith("SigCgt:"))
    except (OSError, StopIteration):
        return False
    return bool(int(mask.split()[1], 16) >> (number - 1) & 1)


def _serves_still(case: Case, bench: Bench, server: Program) -> str:
    """Return "" if a server that has served still does, else what is wrong."""
    asked = ""
    if server.code is None and case.profile.talks:
        answer = bench.ask(bench.client("Z").consult(case.item().typed))
        served = answer.known or answer.state == "other"  # what cannot be read is an answer all the same
        asked = "" if served else f"{answer} ; serveur : {describe(bench.server_tasks())}"
    if bench.ended(server):
        return f"le serveur a fini ({ending(server)}) : {last_line(server.output())}"
    if case.profile.talks:
        return asked
    if not bench.until(lambda: any(one.serves for one in bench.server_tasks()), case.patience):
        return f"il n'attend plus de requête : {describe(bench.server_tasks())}"
    return ""


@check(
    "second-server",
    finds=(9, 38),
    layer="A",
    does="lance un second serveur à côté du premier : il est refusé, et ne touche à rien",
    rank=50,
)
def second_server(case: Case) -> Outcome:
    """There is only ever one server; a second one is refused, and leaves the first one alone."""
    if not case.profile.expects("second_server"):
        raise NotApplicable("le profil ne demande pas qu'un second serveur soit refusé")
    with case.bench() as bench:
        first = bench.serve()
        client = bench.client("A") if case.profile.talks else None
        item = case.item().typed if client else ""
        seats = 0
        if client is not None:
            seats = case.seats(bench, client, item)
            case.granted(bench.ask(client.reserve(item, 1)))
        before = _kernel(bench)
        fifos = _fifos(bench)
        done = "démarrer le serveur, puis un second dans le même dossier"
        try:
            second = bench.serve()
            refused = False
        except NotReadyError:
            assert bench.server is not None
            second = bench.server
            refused = second.code is not None
        bench.server = first
        if not refused and second.code is None:
            bench.settle(0.3)
            gone = _gone(before, _kernel(bench))
            more = f" ; il a retiré {_named(gone)}" if gone else ""
            if any(one.serves or one.state == "R" for one in tasks.look(second.tree())):  # or never waits at all
                return defect(
                    9,
                    "Un second serveur n'est pas refusé : les deux servent à la fois.",
                    done=done,
                    expected="il est refusé par un message clair, et finit",
                    seen=f"il tourne : {describe(tasks.look(second.tree()))}{more}",
                    source=case.source(r"IPC_CREAT|sem_unlink|O_CREAT|SO_REUSEPORT|mkfifo\s*\("),
                )
            second.signal(signal.SIGKILL)
        seen = ""
        gone = _gone(before, _kernel(bench))
        if gone:
            seen = f"le second a retiré {_named(gone)}"
        elif fifos - _fifos(bench):
            seen = f"le second a retiré {', '.join(sorted(fifos - _fifos(bench)))}"
        elif first.code is not None:
            seen = f"le premier a fini ({ending(first)})"
        elif client is not None:
            answer = bench.ask(bench.client("B").consult(item))
            if not answer.known:
                seen = f"{answer} ; serveur : {describe(bench.server_tasks())}"
            elif answer.left != seats - 1:
                seen = f"il restait {seats - 1} place(s), il en reste {answer.left}"
        if seen:
            return defect(
                38,
                "Un second serveur, bien que refusé, dérange le premier.",
                done=done,
                expected="il ne touche à rien de ce qu'a le premier",
                seen=seen,
                source=case.source(r"unlink\s*\(|IPC_RMID|SETVAL|O_TRUNC|sem_unlink"),
            )
        return ok(f"il est refusé ({ending(second)}) : {last_line(second.output())}", done=done)


@check("ftok", finds=(36,), layer="A", does="regarde les clefs que le serveur demande au noyau", rank=60)
def ftok(case: Case) -> Outcome:
    """A key of -1 is what ftok returns when its file is not there: everybody's who makes that mistake."""
    with case.bench(gated=True, gate_options={"calls_held": ("msgget", "semget", "shmget")}) as bench:
        bench.serve()
        assert bench.gate is not None
        asked = [
            event
            for event in bench.gate.events()
            if event.kind is Kind.CALL and event.call in ("msgget", "semget", "shmget")
        ]
        if not asked:
            raise NotApplicable("il ne demande aucun objet System V")
        wrong = [event for event in asked if event.object.endswith("0xffffffff")]
        if wrong:
            return defect(
                36,
                "La clef vaut -1 : ftok a échoué, et son résultat n'est pas regardé.",
                done="démarrer le serveur, en regardant ses appels",
                expected="une clef qui soit la sienne, ou un refus clair",
                seen=f"{wrong[0].call} avec la clef 0xffffffff, celle de tous les programmes où ftok échoue",
                timeline=[str(event) for event in asked],
                source=case.source(r"\bftok\s*\("),
            )
        return ok(", ".join(sorted({event.object for event in asked})))


@check("no-server", finds=(40,), layer="A", does="lance le client sans serveur", rank=70)
def no_server(case: Case) -> Outcome:
    """A client without a server says so and ends, or goes back to its menu: it does not hang, crash, make the queue."""
    if not case.profile.client:
        raise NotApplicable("aucun client")
    if case.profile.client_first:
        raise NotApplicable("le profil dit que le client se lance d'abord")
    with case.bench() as bench:
        done = "lancer le client seul, sans serveur"
        client = bench.client("A")
        client.start(words.fill(case.profile.consult, item="1", seats=1) if case.profile.style == "arguments" else ())
        program = client.program
        assert program is not None
        come = bench.until(client.rests, case.patience)
        if come and program.code is None and case.profile.talks and case.profile.style != "arguments":
            done += ", et consulter"
            request = client.consult(case.item().typed)
            bench.drive(request)
            come = request.done
            if request.answer is not None and request.answer.state == "left":
                raise NotApplicable("le client répond de lui-même")
        own = {str(program.inside), "0" * 8}  # a queue of its own for its answers: named by its PID, or private
        made = [
            thing
            for thing in _kernel(bench)
            if thing.kind in ("queue", "POSIX queue") and "".join(filter(str.isdigit, thing.name))[-8:] not in own
        ]
        if made:
            return defect(
                40,
                "Sans serveur, le client crée lui-même la file, et y attend une réponse que personne n'enverra.",
                done=done,
                expected="il dit qu'il n'y a pas de serveur",
                seen=f"il a créé {_named(made)}",
                source=case.source(r"IPC_CREAT|O_CREAT", client=True),
            )
        if program.code in CRASHES:
            return defect(
                40,
                "Sans serveur, le client plante.",
                done=done,
                expected="il dit qu'il n'y a pas de serveur",
                seen=ending(program),
            )
        if not come and not bench.until(client.rests, DEADLINE):  # a deadline of its own is no defect
            if any(one.timed for one in client.doing()):
                raise NotApplicable("le client attend ou réessaie encore, mais avec un délai")
            return defect(
                40,
                "Sans serveur, le client attend sans fin.",
                done=done,
                expected="il dit qu'il n'y a pas de serveur",
                seen=describe(client.doing()),
            )
        return ok(f"{last_line(program.output())} ({ending(program)})", done=done)


@check(
    "leaves",
    finds=(24, 19),
    layer="A",
    does="tue un client dont on ne connaît pas le dialogue, à chacune de ses premières questions",
    needs=("prompt",),
    rank=75,
)
def leaves(case: Case) -> Outcome:
    """A client that is killed while it is asked for a line leaves a server that waits for others."""
    if case.profile.talks:
        raise NotApplicable("on sait faire parler le client : vanished-client le fait mieux")
    if not case.profile.expects("vanished_clients"):
        raise NotApplicable("le profil ne le demande pas")
    for lines in range(LINES):
        with case.bench() as bench:
            server = bench.serve()
            client = bench.client("A")
            visit(bench, client, lines)
            if client.program is None or client.program.code is not None or bench.ended(server):
                break
            before = processor_use(bench)
            client.kill()
            bench.settle(case.patience / 4)
            what = ""
            if bench.ended(server) and server.code != 0:
                what = f"le serveur finit ({ending(server)})"
            elif processor_use(bench) > RUNNING > before:
                what = "le serveur calcule sans fin"
            if what:
                return defect(
                    19 if server.code in PIPED else 24,
                    "Un client tué met fin au service des autres."
                    if "finit" in what
                    else "Un client tué laisse le serveur occupé sans fin.",
                    done=f"lancer un client, taper {lines} fois « 1 », le tuer (kill -9)",
                    expected="le serveur attend d'autres clients",
                    seen=what,
                    source=case.source(r"SIGPIPE|write\s*\(|read\s*\(|recv\s*\(|msgsnd\s*\("),
                )
    return ok("le serveur attend d'autres clients")


@check(
    "leaks",
    finds=(37,),
    layer="A",
    does=f"compte threads, descripteurs et zombies du serveur avant et après {CLIENTS} clients",
    needs=("client",),
    quick=False,
    rank=80,
)
def leaks(case: Case) -> Outcome:
    """What each client leaves behind adds up: after fifty of them it shows."""
    item = case.item().typed
    with case.bench() as bench:
        bench.serve()

        def visit(number: int) -> None:
            client = bench.client(f"C{number}")
            answer = bench.ask(client.consult(item))
            if not answer.known:
                raise NotReached(f"le client {number} n'a pas de réponse ({answer})")
            client.quit()
            assert client.program is not None
            program = client.program
            if not case.profile.quit or not bench.until(lambda: program.code is not None, case.patience / 2):
                client.kill()
                bench.until(lambda: program.code is not None)

        for number in range(3):
            visit(number)
        bench.settle()
        before = _counts(bench)
        budget, count = case.within(LONG), 0
        while count < CLIENTS and (count < ENOUGH or budget):
            visit(3 + count)
            count += 1
        bench.settle()
        grown: dict[str, int] = {}

        def calm() -> bool:  # what the last ones leave may take a moment to go
            grown.clear()
            now = _counts(bench)
            grown.update({name: now[name] - before[name] for name in now if now[name] - before[name] >= count * 0.8})
            return not grown

        bench.until(calm)
        done = f"faire consulter {count} clients, l'un après l'autre, qui partent"
        if grown and processor_use(bench) > RUNNING:
            raise NotReached("le serveur calcule sans fin une fois les clients partis")
        if grown:
            said = ", ".join(f"{count} {name} de plus" for name, count in grown.items())
            return defect(
                37,
                f"Le serveur garde pour chaque client de quoi épuiser la machine : {said}.",
                done=done,
                expected="autant qu'avant, une fois les clients partis",
                seen=said,
                source=case.source(r"pthread_create\s*\(|accept\s*\(|fork\s*\("),
            )
        return ok("autant qu'avant", done=done)


def processor_use(bench: Bench, seconds: float = 0.3) -> float:
    """Return the share of looks that find the server running, while nobody asks."""
    return busy({one.pid for one in bench.server_tasks()}, seconds, 30)[0]


def busy(pids: Collection[int], seconds: float, looks: int) -> tuple[float, float, float]:
    """Return the share of looks that find a task running or ready to, the processor time used, the seconds it took.

    Beside a busy processor whoever wakes by the clock waits long for his turn, and looks as if he computed: a task that
    goes to sleep now and then counts only where all of them together use the processor a good deal.
    """
    before, begun = tasks.processor(pids), time.monotonic()
    runs: dict[tuple[int, int], int] = {}
    slept: dict[tuple[int, int], int] = {}
    running = 0
    for _ in range(looks):
        time.sleep(seconds / looks)
        found = [(one.pid, one.tid) for one in tasks.look(pids) if one.state == "R"]
        running += bool(found)
        for one in found:
            runs[one] = runs.get(one, 0) + 1
            slept.setdefault(one, tasks.naps(*one))
    spent, passed = tasks.processor(pids) - before, time.monotonic() - begun
    if spent <= BUSY * passed:
        running = max((count for one, count in runs.items() if tasks.naps(*one) - slept[one] <= NAPS), default=0)
    return running / looks, spent, passed


def _counts(bench: Bench) -> dict[str, int]:
    pids = {one.pid for one in bench.server_tasks()}
    found = {"threads": 0, "descripteurs": 0, "zombies": 0}
    for pid in pids:
        try:
            found["threads"] += len(os.listdir(f"/proc/{pid}/task"))
            found["descripteurs"] += len(os.listdir(f"/proc/{pid}/fd"))
            found["zombies"] += _zombies(pid)
        except OSError:
            continue
    return found


def _zombies(pid: int) -> int:
    count = 0
    try:
        for tid in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{tid}/children") as file:
                for child in file.read().split():
                    with open(f"/proc/{child}/stat") as stat:
                        count += stat.read().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        pass
    return count


def _kernel(bench: Bench) -> list[Thing]:
    """Return the objects in the kernel of a world."""
    return [thing for thing in bench.world.objects().objects if thing.kind in KERNEL]


def _fifos(bench: Bench) -> set[str]:
    return {thing.name for thing in bench.world.objects().objects if thing.kind == "FIFO"}


def _gone(before: list[Thing], after: list[Thing]) -> list[Thing]:
    """Return objects that are no more, or are others of the same name."""
    there = {(thing.kind, thing.name, thing.detail.get("id"), thing.detail.get("inode")) for thing in after}
    return [
        thing
        for thing in before
        if (thing.kind, thing.name, thing.detail.get("id"), thing.detail.get("inode")) not in there
    ]


_FRENCH = {
    "queue": "la file",
    "shared memory": "la mémoire partagée",
    "semaphores": "les sémaphores",
    "POSIX queue": "la file POSIX",
    "POSIX shared memory": "la mémoire POSIX",
    "POSIX semaphore": "le sémaphore",
}


def _named(things: list[Thing]) -> str:
    return ", ".join(f"{_FRENCH[thing.kind]} {thing.name}" for thing in things[:4]) + ("…" if len(things) > 4 else "")
