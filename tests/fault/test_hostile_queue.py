"""Promise 4: no client of questions 2 to 4 can stop the others for more than a second."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import sysv_ipc

from spectacles.common.protocol import LIST, LIST_REPLY, LIST_REQUEST, RESERV, RESERV_REQUEST
from spectacles.lab.programs.process import ServerProcess
from tests import helpers
from tests.fault.campaign import Clients
from tests.fault.ledger import Ledger

Attack = Callable[..., "subprocess.Popen[str]"]
PATIENCE = 5.0  # seconds after which a client counts as stopped: the machine may be busy with the flood itself
OWN_SHOWS = [3, 4, 5]  # the hostile ones reserve shows 0 to 2
UNKNOWN = 9_999_999  # a type above every PID, that nobody ever asks for

# What floods: (how many processes, how, type or "server", size)
FLOODS: dict[str, list[tuple[int, str, int | str, int]]] = {
    "consultations": [(4, "same", LIST, 8)],
    "reservations": [(4, "same", RESERV, 16)],
    "consultations without waiting": [(2, "spin", LIST, 8)],
    "both": [(3, "same", LIST, 8), (3, "same", RESERV, 16)],
    "large and unknown": [(8, "same", UNKNOWN, 8192)],
    "middling and unknown": [(4, "same", LIST, 8), (4, "same", UNKNOWN, 1000)],
    "a crowd of reservations": [(12, "same", RESERV, 16)],
    "too long": [(2, "same", LIST, 8192), (2, "same", RESERV, 8192)],
    "too short": [(1, "spin", LIST, 0), (1, "spin", RESERV, 3)],
    "to the server's own PID": [(2, "spin", "server", 1)],
    "everything": [(2, "same", LIST, 8), (2, "same", RESERV, 16), (2, "same", UNKNOWN, 8192)],
}


def key_of(server: ServerProcess) -> int:
    """Return the key of the queue of `server`."""
    return int(server.options[server.options.index("--key") + 1], 0)


def raw(server: ServerProcess) -> sysv_ipc.MessageQueue:
    """Return the queue of `server` as a hostile program has it."""
    return sysv_ipc.MessageQueue(key_of(server), max_message_size=8192)


def start(
    server: helpers.Servers, question: str, *options: str, directory: Path | None = None, names: list[str] | None = None
) -> ServerProcess:
    """Start a server that logs what is wrong only: a flood of requests is not to be a flood of lines."""
    return server(question, "--log-level", "warning", *options, directory=directory, names=names)


def honest(guichet: ServerProcess, clients: Clients, choice: random.Random, count: int = 3, crowd: int = 2) -> None:
    """Let `crowd` honest clients make `count` requests each; all have to be answered."""
    for _ in range(crowd):
        clients.start(guichet, choice.randrange(2**32), count=count, shows=OWN_SHOWS, seats=[1], timeout=PATIENCE)
    clients.wait()


def settle(
    guichet: ServerProcess, clients: Clients, ledger: Ledger, promise: str, before: dict[int, int], tries: int
) -> None:
    """Count what the honest clients were told against the file, and write the outcome down."""
    told = clients.told()
    after = {show: helpers.places_in_file(guichet.directory, show) for show in OWN_SHOWS}
    wrong = sum(abs(before[show] - after[show] - told.acknowledged[show]) for show in OWN_SHOWS)
    lost = wrong + told.unanswered
    ledger.add(promise, guichet.question, tries=tries, requests=told.answered, slowest=told.slowest, lost=lost)
    assert told.unanswered == 0, (told.errors, guichet.output[-2000:])
    assert wrong == 0, (before, after, told.acknowledged)


def flood(name: str, guichet: ServerProcess, hostile: Path, attack: Attack) -> list[subprocess.Popen[str]]:
    """Start the flood `name`."""
    return [
        attack(hostile, key_of(guichet), 1, 0, how, guichet.pid if type_ == "server" else type_, size)
        for count, how, type_, size in FLOODS[name]
        for _ in range(count)
    ]


def floods(
    names: list[str],
    server: helpers.Servers,
    question: str,
    hostile: Path,
    attack: Attack,
    clients: Clients,
    choice: random.Random,
    ledger: Ledger,
    count: int,
) -> None:
    """Run honest clients under each of the floods `names`."""
    guichet = start(server, question)
    before = {show: helpers.places_in_file(guichet.directory, show) for show in OWN_SHOWS}
    for name in names:
        running = flood(name, guichet, hostile, attack)
        honest(guichet, clients, choice, count)
        assert all(process.poll() is None for process in running), f"{name}: the flood has ended by itself"
        for process in running:
            process.kill()
            process.wait()
        settle(guichet, clients, ledger, "4 floods", before, 0)
        ledger.add("4 floods", question, tries=1)
    assert guichet.stop() == 0
    assert "Traceback" not in guichet.output


@pytest.mark.parametrize("pick", range(3))
def test_floods(
    server: helpers.Servers,
    queue_question: str,
    hostile: Path,
    attack: Attack,
    clients: Clients,
    rng: random.Random,
    ledger: Ledger,
    pick: int,
) -> None:
    """Programs that send as fast as they can, and never read: honest clients are answered all the same.

    Each run takes three of the floods, the soak all. (With make_room() doing nothing, with nobody
    counted as flooding, or with wake_ups() returning none, requests are lost.)
    """
    names = sorted(FLOODS)[pick::3]
    floods([rng.choice(names)], server, queue_question, hostile, attack, clients, rng, ledger, 3)


@pytest.mark.soak
@pytest.mark.parametrize("name", FLOODS)
def test_floods_soak(
    server: helpers.Servers,
    queue_question: str,
    hostile: Path,
    attack: Attack,
    clients: Clients,
    rng: random.Random,
    ledger: Ledger,
    name: str,
) -> None:
    """Every flood, under more honest requests."""
    floods([name], server, queue_question, hostile, attack, clients, rng, ledger, 15)


def wild(
    messages: int,
    server: helpers.Servers,
    question: str,
    hostile: Path,
    attack: Attack,
    clients: Clients,
    choice: random.Random,
    ledger: Ledger,
) -> None:
    """Send `messages` hostile messages while honest clients work."""
    guichet = start(server, question)
    before = {show: helpers.places_in_file(guichet.directory, show) for show in OWN_SHOWS}
    sleepers = [attack("sleep", "1000") for _ in range(3)]
    dead = attack("true")
    dead.wait()
    pids = [process.pid for process in sleepers] + [guichet.pid, os.getpid(), dead.pid, 1]
    attackers = [
        attack(hostile, key_of(guichet), choice.randrange(2**32), messages // 2, "wild", *pids) for _ in range(2)
    ]
    sent = 0
    done: set[int] = set()
    while len(done) < len(attackers):
        honest(guichet, clients, choice, 3, 2)
        for attacker in attackers:
            if attacker.pid not in done and attacker.poll() is not None:
                assert attacker.stdout is not None
                sent += int(attacker.stdout.read())
                done.add(attacker.pid)
    honest(guichet, clients, choice, 3, 2)
    assert sent == messages // 2 * 2
    settle(guichet, clients, ledger, "4 hostile messages", before, sent)
    assert guichet.stop() == 0
    assert "Traceback" not in guichet.output
    assert "abandonnée" not in guichet.output


def test_hostile_messages(
    server: helpers.Servers,
    queue_question: str,
    hostile: Path,
    attack: Attack,
    clients: Clients,
    rng: random.Random,
    ledger: Ledger,
) -> None:
    """Messages of any type and size, in the name of PIDs 1, 2, 0, negative, huge, dead, and of other processes.

    (With the buffer of a queue handle left at its 2048 bytes, the worker spins on the first longer message; with no
    check of the PID, a reply to PID 1 or 2 is taken for a request and msgsnd fails for 0 or less.)
    """
    wild(20_000, server, queue_question, hostile, attack, clients, rng, ledger)


@pytest.mark.soak
def test_hostile_messages_soak(
    server: helpers.Servers,
    queue_question: str,
    hostile: Path,
    attack: Attack,
    clients: Clients,
    rng: random.Random,
    ledger: Ledger,
) -> None:
    """The same, 400,000 times a question."""
    wild(400_000, server, queue_question, hostile, attack, clients, rng, ledger)


def test_pids_that_are_no_client(server: helpers.Servers, queue_question: str, attack: Attack) -> None:
    """A request in the name of such a PID is dropped, and the log says so; nothing of it stays in the queue.

    One that has just died looks like a client of another container: it is served, and what it does not read is gone
    within seconds. (With the check of the PID switched off, PID 1 and 2 make a reply into a request, and their seats
    are sold; with nobody noting strangers, the reply stays.)
    """
    guichet = start(server, queue_question)
    queue = raw(guichet)
    for number in (1, 2, 0, -1, -(2**31), 2**31 - 1, 2**22 + 1):
        queue.send(LIST_REQUEST.pack(number), True, LIST)
        queue.send(RESERV_REQUEST.pack(number, 0, 1), True, RESERV)
        helpers.eventually(lambda: queue.current_messages == 0, f"an empty queue after PID {number}")
    guichet.wait_for(r"WARNING.* PID 1\b")  # then once in a while, lest a flood becomes one of lines
    assert guichet.client("consult", "0").stdout == "120 places\n"
    process = attack("true")
    process.wait()
    queue.send(LIST_REQUEST.pack(process.pid), True, LIST)
    helpers.eventually(lambda: helpers.in_queue(guichet)[1] == LIST_REPLY.size, "its answer")
    helpers.eventually(lambda: queue.current_messages == 0, "an empty queue")
    queue.send(LIST_REQUEST.pack(guichet.pid), True, LIST)  # the server's own: nothing reads that, and it is alive
    helpers.eventually(lambda: helpers.in_queue(guichet)[1] == LIST_REPLY.size, "an answer")
    assert guichet.client("list").returncode == 0
    assert guichet.stop() == 0


CONTENTS = {
    "unknown types": (UNKNOWN, 8192),
    "one byte each": (UNKNOWN, 1),
    "no byte at all": (UNKNOWN, 0),
    "short requests": (LIST, 0),
    "long requests": (RESERV, 8192),
    "consultations": (LIST, 8),
}


@pytest.mark.parametrize("pick", range(2))
def test_a_full_queue_is_emptied(
    server: helpers.Servers,
    queue_question: str,
    hostile: Path,
    attack: Attack,
    clients: Clients,
    rng: random.Random,
    ledger: Ledger,
    pick: int,
) -> None:
    """Filled to the last byte while the server stood still: it clears the way, then sleeps again.

    Afterwards an idle server uses no processor time, whatever still lies in the queue. (With tend() not looking, the
    unknown types stay and every client times out.)
    """
    fill_up(rng.choice(sorted(CONTENTS)[pick::2]), server, queue_question, hostile, attack, clients, rng, ledger)


@pytest.mark.soak
@pytest.mark.parametrize("what", CONTENTS)
def test_a_full_queue_is_emptied_soak(
    server: helpers.Servers,
    queue_question: str,
    hostile: Path,
    attack: Attack,
    clients: Clients,
    rng: random.Random,
    ledger: Ledger,
    what: str,
) -> None:
    """The same with every content."""
    fill_up(what, server, queue_question, hostile, attack, clients, rng, ledger)


def fill_up(
    what: str,
    server: helpers.Servers,
    question: str,
    hostile: Path,
    attack: Attack,
    clients: Clients,
    choice: random.Random,
    ledger: Ledger,
) -> None:
    """Fill the queue of a frozen server, wake it, and let honest clients work."""
    guichet = start(server, question)
    queue = raw(guichet)
    before = {show: helpers.places_in_file(guichet.directory, show) for show in OWN_SHOWS}
    tree = guichet.tree()
    helpers.freeze(tree)
    sizes = sorted({CONTENTS[what][1], 1, 0}, reverse=True)
    fillers = [attack(hostile, key_of(guichet), 1, 0, "fill", CONTENTS[what][0], size) for size in sizes]
    for filler in fillers:
        assert filler.stdout is not None
        filler.stdout.readline()
    with pytest.raises(sysv_ipc.BusyError):
        queue.send(b"", False, UNKNOWN)
    for pid in tree:
        os.kill(pid, signal.SIGCONT)
    honest(guichet, clients, choice)
    settle(guichet, clients, ledger, "4 queues filled up", before, 1)
    helpers.eventually(lambda: idle(guichet), "a server that rests", 20)
    assert guichet.stop() == 0


def ticks(server: ServerProcess) -> int:
    """Return the processor time of a server and its children, in clock ticks."""
    total = 0
    for pid in server.tree():
        total += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
    return total


def idle(server: ServerProcess, seconds: float = 0.5) -> bool:
    """Say whether the server uses less than a twentieth of a processor for so long."""
    before = ticks(server)
    time.sleep(seconds)
    return ticks(server) - before <= seconds * os.sysconf("SC_CLK_TCK") / 20


def crowd_of_readers(guichet: ServerProcess, count: int) -> list[subprocess.Popen[str]]:
    """Start `count` real clients, let each be answered, and stop them with SIGSTOP before they have read it."""
    tree = guichet.tree()
    helpers.freeze(tree)
    queue = raw(guichet)
    waiting = [
        subprocess.Popen(guichet.client_command("--timeout", "20", "list"), stdout=subprocess.PIPE, text=True)
        for _ in range(count)
    ]
    helpers.eventually(lambda: queue.current_messages >= count, "all requests in the queue")
    helpers.freeze([process.pid for process in waiting])
    for pid in tree:
        os.kill(pid, signal.SIGCONT)
    sizes = count * LIST_REPLY.size
    helpers.eventually(lambda: helpers.in_queue(guichet)[1] >= sizes, "all replies in the queue")
    return waiting


def test_stopped_clients_get_their_answers_later(
    server: helpers.Servers,
    queue_question: str,
    hostile: Path,
    attack: Attack,
    clients: Clients,
    rng: random.Random,
    ledger: Ledger,
) -> None:
    """Ten clients are stopped with unread replies: others are served meanwhile, and theirs are still there afterwards.

    Even though somebody fills up the rest of the queue. The server, idle with them in it, uses no processor time. (With
    Crowd.sort() keeping no replies, the ten get nothing.)
    """
    guichet = start(server, queue_question)
    before = {show: helpers.places_in_file(guichet.directory, show) for show in OWN_SHOWS}
    waiting = crowd_of_readers(guichet, 10)
    filler = attack(hostile, key_of(guichet), 1, 0, "fill", UNKNOWN, 100)
    assert filler.stdout is not None
    filler.stdout.readline()
    try:
        honest(guichet, clients, rng, 5)
        settle(guichet, clients, ledger, "4 stopped clients", before, 10)
        helpers.eventually(lambda: idle(guichet), "a server that rests", 20)
    finally:
        for process in waiting:
            process.send_signal(signal.SIGCONT)
        outcomes = [(process.wait(30), process.communicate()[0]) for process in waiting]
    assert all(code == 0 and "Opéra" not in out and "places" in out for code, out in outcomes), outcomes
    assert guichet.stop() == 0


def test_dead_clients_leave_nothing(
    server: helpers.Servers, queue_question: str, ledger: Ledger, directory: Path
) -> None:
    """Clients that die with unread replies: these are gone from the queue at once, so no later process can get them.

    So are those that a server killed with -9 left, and that the next one has found and kept for their live clients.
    (With _watch() doing nothing, the replies stay as long as the queue; with nothing noted at the start, those of the
    earlier server stay.)
    """
    names = helpers.fresh_names(queue_question)
    guichet = start(server, queue_question, *names, directory=directory, names=[])
    for restarted in (False, True):
        waiting = crowd_of_readers(guichet, 5)
        if restarted:
            for pid in guichet.tree():
                os.kill(pid, signal.SIGKILL)
            guichet.process.wait()
            guichet = start(server, queue_question, *names, directory=directory, names=[])
            assert helpers.in_queue(guichet)[1] >= 5 * LIST_REPLY.size
        for process in waiting:
            process.kill()
        helpers.eventually(lambda g=guichet: helpers.in_queue(g)[1] == 0, "no reply left, their clients being zombies")  # type: ignore[misc]
        for process in waiting:
            process.communicate()
    ledger.add("4 replies to the dead", queue_question, tries=10)
    assert guichet.stop() == 0


def test_many_processes_that_never_read(
    server: helpers.Servers, queue_question: str, attack: Attack, clients: Clients, rng: random.Random, ledger: Ledger
) -> None:
    """Sixty live processes ask and never read: more replies than the queue can hold; the others are still served.

    (With Crowd.newest() dropping nothing, there is no room for anybody's reply.)
    """
    guichet = start(server, queue_question)
    before = {show: helpers.places_in_file(guichet.directory, show) for show in OWN_SHOWS}
    queue = raw(guichet)
    sleepers = [attack("sleep", "1000") for _ in range(60)]
    for sleeper in sleepers:
        until = time.monotonic() + helpers.DEADLINE
        for attempt in itertools.count():
            try:
                queue.send(LIST_REQUEST.pack(sleeper.pid), False, LIST)
                break
            except sysv_ipc.BusyError:
                assert time.monotonic() < until, f"no room for a request, try {attempt}"
                time.sleep(0.005)
    honest(guichet, clients, rng, 5)
    settle(guichet, clients, ledger, "4 processes that never read", before, len(sleepers))
    helpers.eventually(lambda: idle(guichet), "a server that rests", 20)
    for sleeper in sleepers:
        sleeper.kill()
    for sleeper in sleepers:
        sleeper.wait()
    helpers.eventually(lambda: queue.current_messages == 0, "an empty queue")
    assert guichet.stop() == 0


def test_more_clients_than_can_be_watched(
    server: helpers.Servers, queue_question: str, attack: Attack, ledger: Ledger
) -> None:
    """With few descriptors, a watched client gives way to the next one; its unread reply stays, as long as it lives.

    (With _watch() taking back the reply of the client that it stops watching, as it once did, the first one's is gone.)
    """
    command = ["prlimit", "--nofile=150:150", *helpers.server_command(queue_question)]
    guichet = server(queue_question, "--log-level", "warning", command=command)  # eleven can be watched at once
    waiting = crowd_of_readers(guichet, 1)
    queue = raw(guichet)
    others = [attack("sleep", "1000") for _ in range(15)]
    for count, other in enumerate(others, 2):
        queue.send(LIST_REQUEST.pack(other.pid), True, LIST)
        size = count * LIST_REPLY.size
        helpers.eventually(lambda size=size: helpers.in_queue(guichet)[1] >= size, "its reply, beside the others")  # type: ignore[misc]
    waiting[0].send_signal(signal.SIGCONT)
    out, _ = waiting[0].communicate(timeout=30)
    assert waiting[0].returncode == 0, out
    ledger.add("4 stopped clients", queue_question, tries=len(others) + 1, requests=1)
    assert guichet.stop() == 0


def test_reused_pid(queue_question: str, directory: Path, c_programs: Path, ledger: Ledger) -> None:
    """The PID of a client that died before it read its reply is given to another process, which finds nothing.

    In a PID namespace of its own, where the next PID can be chosen; the later process looks into the queue without
    sweeping it first, as a careless client would. (With _watch() doing nothing it finds the dead one's reply.)
    """
    command = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    if subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no right to make a PID namespace")
    names = helpers.fresh_names(queue_question)
    python = helpers.server_command(queue_question)[0]
    done = helpers.run([*command, python, "-m", "tests.fault.pid_reuse", queue_question, directory, *names], timeout=60)
    if done.returncode == 77:
        pytest.skip("the next PID cannot be chosen here")
    assert done.returncode == 0, (done.stdout, done.stderr)
    ledger.add("4 PIDs used again", queue_question, tries=5)
