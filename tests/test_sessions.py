"""x1_sessions: several servers on one queue, one of them for each client, started and stopped in any order."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import signal
import struct
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import sysv_ipc

from spectacles.common.protocol import LIST, LIST_REPLY, NEEDED, RESERV, RESERV_REPLY
from spectacles.lab.programs.process import ServerProcess
from spectacles.q2_msq.takeover import MSGRCV
from spectacles.x1_sessions.house import DESK_INTS, DESKS, FIRST_HAND, HAND_INTS, HOLDER, LEFT, SIZE
from tests import helpers
from tests.fault.conftest import Shim, shim, shim_library  # noqa: F401
from tests.helpers import House

X1 = "x1_sessions"


@pytest.fixture
def house(server: helpers.Servers, directory: Path) -> House:
    """Several servers in one directory; none yet."""
    return House(server, directory)


class Raw:
    """A client that writes what it likes, in the name of this process."""

    def __init__(self, house: House) -> None:
        self.queue = sysv_ipc.MessageQueue(int(house.names[1], 0))
        self.pid = os.getpid()

    def send(self, type_: int, *fields: int) -> None:
        """Send a request whose body is these ints."""
        self.queue.send(struct.pack(f"<{len(fields)}i", *fields), type=type_)

    def reply(self) -> tuple[int, int]:
        """Return who answers, and the ack of a reservation, -1 for a list. Fails when nobody does."""
        found: list[bytes] = []

        def came() -> bool:
            with contextlib.suppress(sysv_ipc.BusyError):
                found.append(self.queue.receive(block=False, type=self.pid)[0])
            return bool(found)

        helpers.eventually(came, "a reply")
        (pid,) = struct.unpack_from("<i", found[0])
        assert len(found[0]) in (LIST_REPLY.size, RESERV_REPLY.size)
        return pid, found[0][4] if len(found[0]) == RESERV_REPLY.size else -1

    def nothing(self) -> bool:
        """Say whether nothing is there for us."""
        try:
            self.queue.receive(block=False, type=self.pid)
        except sysv_ipc.BusyError:
            return True
        return False


def is_ready_to_serve(house: House) -> None:
    """Return once every server waits in the queue."""
    for guichet in house.alive:
        Raw(house).send(guichet.pid, os.getpid())
        assert Raw(house).reply()[0] == guichet.pid


# Sessions


def test_a_session(house: House) -> None:
    """The reply names its server; then its PID is the type, and the size says which request it is: 4 or 12 bytes.

    What is longer (padding, or more) is understood too. (With the kind taken from the type alone, nobody answers.)
    """
    house.open(3)
    raw = Raw(house)
    raw.send(LIST, raw.pid, 0)
    server, _ = raw.reply()
    assert server in {guichet.pid for guichet in house.alive}
    for fields, ack in (((raw.pid,), -1), ((raw.pid, 0), -1), ((raw.pid, 0, 2), 1), ((raw.pid, 0, 999, 0), 0)):
        raw.send(server, *fields)
        assert raw.reply() == (server, ack)
    for guichet in house.alive:  # whichever, when asked by its PID
        raw.send(guichet.pid, raw.pid, 0, 1)
        assert raw.reply() == (guichet.pid, 1)
    assert NEEDED[LIST].size == 4
    assert NEEDED[RESERV].size == 12
    house.close()
    assert helpers.places_in_file(house.directory, 0) == 120 - 2 - 3


def test_a_client_stays_with_its_server(house: House) -> None:
    """Menu: the head says with whom; all its requests went there. (With leave() after each reply, to all three.)"""
    house.open(3)
    done = house.alive[0].client(stdin="1\n" * 6 + "2\n0\n1\n0\n")
    found = set(re.findall(r"en séance avec le PID (\d+)", done.stdout))
    assert len(found) == 1
    (mine,) = [guichet for guichet in house.alive if str(guichet.pid) in found]
    assert mine.output.count("[CONSULTATION]") == 6
    assert mine.output.count("[RESERVATION]") == 1


def test_fairness(house: House) -> None:
    """Ten clients over three servers: 4, 3, 3, as the kernel gives a request to who has waited longest, msgrcv(2)."""
    house.open(3)
    is_ready_to_serve(house)
    raw = Raw(house)
    first = []
    for _ in range(10):
        raw.send(LIST, raw.pid)
        first.append(raw.reply()[0])
        helpers.eventually(lambda: all(waiting(guichet, house) == 2 for guichet in house.alive), "all wait again")
    assert sorted(Counter(first).values()) == [3, 3, 4]


def waiting(guichet: ServerProcess, house: House) -> int:
    """Return how many threads of a server wait in the queue."""
    count = 0
    for task in Path(f"/proc/{guichet.pid}/task").iterdir():
        with contextlib.suppress(OSError):
            count += (task / "syscall").read_text().split()[0] == MSGRCV.get(os.uname().machine)
    return count


def test_ten_clients_at_once(house: House) -> None:
    """Each of ten menus is served by one server, and none of the three is left out. (With one server it is.)"""
    house.open(3)
    is_ready_to_serve(house)
    with contextlib.ExitStack() as stack:
        menus = [stack.enter_context(helpers.background(house.alive[0].client_command(), stdin=-1)) for _ in range(10)]
        for menu in menus:
            assert menu.stdin
            assert menu.stdout
            menu.stdin.write(b"1\n1\n1\n")
            menu.stdin.flush()
            helpers.read_until(menu.stdout.fileno(), "en séance")
        for menu in menus:
            assert menu.stdin
            menu.stdin.write(b"2\n0\n1\n0\n")
            menu.stdin.close()
            assert menu.wait(helpers.DEADLINE) == 0
    sold = [guichet.output.count("[RESERVATION]") for guichet in house.alive]
    assert sum(sold) == 10
    assert min(sold) >= 1, sold


def test_clients_of_question_2(house: House, c_programs: Path) -> None:
    """Python and C, unchanged: each request is for whoever is free, and all servers have one table."""
    house.open(3)
    options = house.alive[0].client_options()
    for count in range(6):
        done = helpers.run([*helpers.client_command("q2_msq", *options), "reserve", "0", "1"])
        assert done.returncode == 0, done
        done = helpers.run([c_programs / "q2_client", *options, "reserve", "0", "1"])
        assert done.returncode == 0, done
        done = helpers.run([c_programs / "q2_client", *options, "consult", "0"])
        assert f'"places":{120 - 2 * (count + 1)},' in done.stdout
    assert all("client" in guichet.output for guichet in house.alive)
    head = helpers.run(helpers.client_command("q2_msq", *options), stdin="1\n0\n").stdout
    assert "Suite x1, PID" in head


def test_no_client(house: House) -> None:
    """In the name of a server, of nobody, of a request's type, or too short: dropped, logged, and it serves on.

    (Without the look at the servers' PIDs, a reply to one is a request to it, and so on for ever.)
    """
    house.open(2)
    raw, (first, second) = Raw(house), house.alive
    for pid in (second.pid, first.pid, 0, -7, 1, 2**30):
        raw.send(first.pid, pid, 0, 1)
        raw.send(RESERV, pid, 0, 1)
    raw.queue.send(b"ab", type=first.pid)
    raw.send(first.pid, raw.pid)
    assert raw.reply() == (first.pid, -1)
    first.wait_for("au nom du PID")
    assert helpers.places_in_file(house.directory, 0) == 120
    assert raw.nothing()


# Coming and going


@pytest.mark.parametrize("order", list(itertools.permutations(range(3)))[::2])
def test_stopped_in_any_order(house: House, order: tuple[int, ...]) -> None:
    """The others go on; the last removes queue, memory and semaphore. (With is_last() true for all, the first does.)"""
    house.open(3)
    servers = list(house.alive)
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for count, number in enumerate(order):
        assert helpers.own_objects() != set()
        assert servers[number].stop(signals[number]) == 0
        house.alive.remove(servers[number])
        if count < 2:
            assert house.alive[0].client("reserve", "1", "1").returncode == 0
    assert helpers.own_objects() == set()
    assert not (house.directory / "server.lock").exists()
    assert helpers.places_in_file(house.directory, 1) == 78


@pytest.mark.parametrize("last", ["killed", "stopped"])
def test_killed_in_any_order(house: House, last: str) -> None:
    """Who is killed leaves all to the last, who removes it; the last, if killed, to the next, who takes it over."""
    house.open(3)
    house.kill(house.alive[0])
    house.kill(house.alive[1])
    survivor = house.alive[0]
    assert survivor.client("reserve", "1", "1").returncode == 0
    if last == "killed":
        house.kill(survivor)
        assert len(helpers.own_objects()) == 3
        house.open(2)
        assert house.alive[1].client("reserve", "1", "1").returncode == 0
    house.close()
    assert helpers.own_objects() == set()
    assert not (house.directory / "server.lock").exists()


def test_others_are_kept_out(house: House, server: helpers.Servers) -> None:
    """A server of question 2, `table set`, `clean`: as long as one of several lives, be it that the others died."""
    house.open(3)
    house.kill(house.alive[0])  # who has claimed all names
    house.kill(house.alive[1])  # whom the lock file names
    command = [*helpers.server_command("q2_msq"), "--dir", str(house.directory), *helpers.fresh_names("q2_msq")]
    done = helpers.run(command)
    assert done.returncode == 3
    assert f"x1_sessions, PID {house.alive[0].pid}" in helpers.one_line(done)
    spectacles = [*helpers.server_command("q2_msq")[:2], "spectacles"]
    for words in (["table", "set", "0", "--places", "3"], ["clean"]):
        done = helpers.run([*spectacles, *words, "--dir", str(house.directory)])
        assert done.returncode == 3, done
    elsewhere = house.directory.parent / "elsewhere"
    elsewhere.mkdir()
    done = helpers.run([*helpers.server_command("q2_msq"), "--dir", str(elsewhere), *house.names])
    assert done.returncode == 3, done


def test_another_key(house: House) -> None:
    """All servers of a directory have the same: else there would be two queues."""
    house.open()
    done = helpers.run([*helpers.server_command(X1), "--dir", str(house.directory), *helpers.fresh_names(X1)])
    assert done.returncode == 3
    assert f"--shm-key {int(house.names[3], 0):#x}" in helpers.one_line(done)


def test_not_beside_question_2(server: helpers.Servers, directory: Path) -> None:
    """It does not share its directory."""
    server("q2_msq", directory=directory)
    done = helpers.run([*helpers.server_command(X1), "--dir", str(directory), *helpers.fresh_names(X1)])
    assert done.returncode == 3
    assert "q2_msq" in helpers.one_line(done)


def test_clean_removes_all(house: House) -> None:
    """After a kill of all: queue, memory, semaphore. (With "sem-key" not in OBJECTS, the semaphore stays.)"""
    house.open(2)
    for guichet in list(house.alive):
        house.kill(guichet)
    done = helpers.run([*helpers.server_command(X1)[:2], "spectacles", "clean", "--dir", str(house.directory)])
    assert done.returncode == 0, done
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["key", "shm-key", "sem-key"]
    assert helpers.own_objects() == set()


def test_no_desk_is_free(house: House) -> None:
    """A server more than there are desks is refused, unless one of the dead makes way, whose legacy was seen to.

    (With the desks of the dead never taken again, none is.)
    """
    house.open()
    memory = sysv_ipc.SharedMemory(int(house.names[3], 0))
    (started,) = struct.unpack("i", memory.read(4, DESKS + 4))
    assert started

    def take_all(pid: int, started: int) -> None:
        for at in range(DESKS + DESK_INTS * 4, SIZE, DESK_INTS * 4):
            memory.write(struct.pack("3i", pid, started, 0), at)

    take_all(house.alive[0].pid, started)
    done = helpers.run([*helpers.server_command(X1), "--dir", str(house.directory), *house.names])
    assert done.returncode == 1, done
    assert "32 serveurs" in helpers.one_line(done)
    take_all(2**22 + 1, 1)
    last = SIZE - DESK_INTS * 4
    helpers.eventually(lambda: struct.unpack("3i", memory.read(12, last))[2], "seen to")
    house.open()
    memory.detach()
    assert Raw(house).nothing()
    house.close()


# Death


def test_a_request_to_a_dead_server(house: House) -> None:
    """It lies in the queue, to a PID that nobody has any more: another takes it out, and the client goes on with it.

    (Without LEGACIES nobody does.)
    """
    house.open(2)
    raw, (first, second) = Raw(house), house.alive
    is_ready_to_serve(house)
    helpers.freeze([first.pid])
    raw.send(first.pid, raw.pid, 1, 5)
    house.kill(first)
    assert raw.reply() == (second.pid, 1)
    raw.send(first.pid, raw.pid)  # and one that did not know yet
    assert raw.reply() == (second.pid, -1)
    house.close()
    assert helpers.places_in_file(house.directory, 1) == 75


def test_all_are_dead(house: House) -> None:
    """The request waits for the next server that is started. (With the memory of the dead not kept, for ever.)"""
    house.open(2)
    raw, (first, second) = Raw(house), house.alive
    is_ready_to_serve(house)
    helpers.freeze([first.pid, second.pid])
    raw.send(first.pid, raw.pid, 1, 5)
    raw.send(RESERV, raw.pid, 1, 5)
    house.kill(first)
    house.kill(second)
    house.open()
    for _ in range(2):
        assert raw.reply() == (house.alive[0].pid, 1)
    house.close()
    assert helpers.places_in_file(house.directory, 1) == 70


@pytest.mark.parametrize("heir", ["another", "the next"])
@pytest.mark.parametrize("moment", ["hold", "slow"])
def test_killed_with_a_request_in_hand(house: House, shim: Shim, moment: str, heir: str) -> None:  # noqa: F811
    """With the guard, before it writes; or without, when it has written and waits for the disk: made, once, and said.

    (With SEM_UNDO off the others wait for ever; with `left` never noted the seats are sold twice; with hands not
    looked at the client hears nothing.)
    """
    house.open(env=shim.env)
    raw, (first,) = Raw(house), house.alive
    if heir == "another":
        house.open()
    shim.ask(moment, 1 if moment == "hold" else 5_000_000)
    raw.send(first.pid, raw.pid, 1, 5)
    if moment == "hold":
        assert shim.holder() == first.pid
    else:
        helpers.eventually(lambda: helpers.places_in_file(house.directory, 1) == 75, "written")
    house.kill(first)
    if heir == "the next":
        house.open()
    assert raw.reply() == (house.alive[0].pid, 1)
    raw.send(LIST, raw.pid)
    assert raw.reply()[0] == house.alive[0].pid
    shim.stop(moment)
    house.close()
    assert helpers.places_in_file(house.directory, 1) == 75
    if moment == "hold" and heir == "another":
        assert "la table en main" in house.alive_once[1].output


@pytest.mark.parametrize("decided", [False, True])
def test_killed_between_file_and_memory(house: House, shim: Shim, decided: bool) -> None:  # noqa: F811
    """What is in the file, and not in the memory, of a show that the dead had in hand is what it has done.

    Brought about from outside: the holder stands still before its write, and the file is changed as if it had written,
    and its hand as if it had noted that. (Without the look at its hand in _put_right_after_a_death(), the seats are
    sold twice; with the mark of the dead holder overlooked in Guard._have(), they are given back.)
    """
    house.open(env=shim.env)
    raw, (first,) = Raw(house), house.alive
    house.open()
    shim.ask("hold")
    raw.send(first.pid, raw.pid, 1, 5)
    assert shim.holder() == first.pid
    with (house.directory / "spectacles.dat").open("r+b") as file:
        file.seek(72 + 68)
        file.write(struct.pack("<i", 75))
    if decided:
        memory = sysv_ipc.SharedMemory(int(house.names[3], 0))
        (hand,) = struct.unpack("i", memory.read(4, HOLDER))
        desk = DESKS + (hand - 1) // 2 * DESK_INTS * 4
        memory.write(struct.pack("i", 75), desk + (FIRST_HAND + (hand - 1) % 2 * HAND_INTS + LEFT) * 4)
        memory.detach()
    house.kill(first)
    shim.stop("hold")
    assert raw.reply() == (house.alive[0].pid, 1)
    raw.send(house.alive[0].pid, raw.pid, 1, 1)
    assert raw.reply() == (house.alive[0].pid, 1)
    house.close()
    assert helpers.places_in_file(house.directory, 1) == 74


def test_the_menu_goes_on(house: House) -> None:
    """A client in a session hears nothing of the death of its server.

    (With neither the pidfd looked at nor LEGACIES answered, it waits in vain.)
    """
    house.open(2)
    with helpers.background(house.alive[0].client_command(), stdin=-1) as menu:
        assert menu.stdin
        assert menu.stdout
        seen = set()
        helpers.read_until(menu.stdout.fileno(), "Votre choix")
        for _ in range(2):
            menu.stdin.write(b"2\n0\n1\n")
            menu.stdin.flush()
            text = helpers.read_until(menu.stdout.fileno(), "Votre choix")
            assert "Réservation OK" in text
            (pid,) = re.findall(r"en séance avec le PID (\d+)", text)
            seen.add(pid)
            for guichet in list(house.alive):
                if str(guichet.pid) == pid:
                    house.kill(guichet)
            house.open()
        assert len(seen) == 2
        menu.stdin.write(b"0\n")
        menu.stdin.close()
        assert menu.wait(helpers.DEADLINE) == 0
    house.close()
    assert helpers.places_in_file(house.directory, 0) == 118


# What they share


def test_the_file_is_taken_away(house: House) -> None:
    """One of them puts it back, the others follow: no file is put aside, and all write to the same.

    (With Store.share() left out, each puts back its own, over and over, and the others' are set aside.)
    """
    house.open(3)
    raw = Raw(house)
    path = house.directory / "spectacles.dat"
    for count in range(1, 4):
        path.unlink()
        helpers.eventually(path.exists, "put back")
        for guichet in house.alive:
            raw.send(guichet.pid, raw.pid, 0, 1)
            assert raw.reply() == (guichet.pid, 1)
            assert helpers.places_in_file(house.directory, 0) >= 120 - 3 * count
    house.close()
    assert helpers.places_in_file(house.directory, 0) == 120 - 9
    assert sorted(found.name for found in house.directory.iterdir()) == ["logs", "spectacles.dat"]


def test_the_lock_file_is_taken_away(house: House) -> None:
    """One puts it back, the others adopt it, and keep others out. (Without _adopt() they replace each other's.)"""
    house.open(3)
    path = house.directory / "server.lock"
    path.unlink()
    helpers.eventually(lambda: path.exists() and all(has_open(guichet.pid, path) for guichet in house.alive), "adopted")
    house.kill(house.alive[0])
    house.open()
    done = helpers.run(
        [*helpers.server_command("q2_msq"), "--dir", str(house.directory), *helpers.fresh_names("q2_msq")]
    )
    assert done.returncode == 3, done
    house.close()
    assert sorted(found.name for found in house.directory.iterdir()) == ["logs", "spectacles.dat"]


def has_open(pid: int, path: Path) -> bool:
    """Say whether a process has this very file open."""
    with contextlib.suppress(OSError):
        return any(fd.samefile(path) for fd in Path(f"/proc/{pid}/fd").iterdir() if fd.exists())
    return False


@pytest.mark.parametrize("what", ["sem", "msg"])
def test_what_they_share_is_removed(house: House, what: str) -> None:
    """ipcrm: all say so, in one line, and end with 1. (Without Guard.look() nobody notices the semaphore.)"""
    house.open(2)
    key = int(house.names[3 if what == "sem" else 1], 0)
    helpers.remove_objects({f"{what} {key:#x}"})
    for guichet in house.alive:
        assert guichet.process.wait(helpers.DEADLINE) == 1
        assert "supprimé" in guichet.output
    house.alive.clear()


def test_a_full_queue(house: House) -> None:
    """Full of what is for living clients that do not read: the oldest makes way, and the next is served.

    (With _make_room() only waiting, the reply is lost.)
    """
    house.open(2)
    raw = Raw(house)
    with contextlib.ExitStack() as stack:
        deaf = [stack.enter_context(helpers.background(["sleep", "60"])) for _ in range(30)]
        for sleeper in deaf:
            raw.send(LIST, sleeper.pid)
        helpers.eventually(lambda: sum(g.output.count("CONSULTATION") for g in house.alive) == 30, "all answered", 20)
        raw.send(LIST, raw.pid)
        assert raw.reply()[0]
    helpers.eventually(lambda: helpers.in_queue(house.alive[0])[0] == 0, "the replies to the dead removed")


def lines_of(path: Path) -> Iterator[str]:
    """Yield the lines of a log."""
    yield from path.read_text().splitlines()


def test_the_log_says_who(house: House) -> None:
    """One file for all, each line with the PID of its server."""
    house.open(2)
    for guichet in house.alive:
        raw = Raw(house)
        raw.send(guichet.pid, raw.pid)
        raw.reply()
    house.close()
    found = {
        re.split(r" +", line)[3] for line in lines_of(house.directory / "logs" / f"{X1}.log") if "CONSULTATION" in line
    }
    assert found == {str(guichet.pid) for guichet in house.alive_once}


# The command line


def test_by_its_short_name(house: House) -> None:
    """`spectacles server x1` and `client x1`, and in `compare` beside a question; by themselves these stay the five."""
    spectacles = [sys.executable, "-m", "spectacles"]
    with helpers.background([*spectacles, "server", "x1", "--dir", str(house.directory), *house.names]) as guichet:
        assert guichet.stdout
        helpers.read_until(guichet.stdout.fileno(), "Serveur UP (x1_sessions")
        options = ["--dir", str(house.directory), *house.names[:2]]
        assert helpers.run([*spectacles, "client", "x1", *options, "reserve", "0", "1"]).returncode == 0
        assert helpers.run([*spectacles, "client", "X1_sessions", *options, "reserve", "0", "500"]).returncode == 1
        guichet.terminate()
        assert guichet.wait(helpers.DEADLINE) == 0
    for typed in ("x", "x9", "1x", "qx1"):
        assert helpers.run([*spectacles, "server", typed, "--help"]).returncode == 2, typed
    short = ["--duration", "0.2", "--clients", "2", "--c"]
    done = helpers.run([*spectacles, "compare", "2", "x1", *short], cwd=house.directory, timeout=60)
    assert done.returncode == 0, done
    assert re.search(r"x1\w* +JUSTE +exacte", done.stdout)


def test_it_starts_light() -> None:
    """Neither posix_ipc, which has no semaphore for it, nor what takes time to import."""
    program = "import sys, spectacles.x1_sessions.server\nprint(*sys.modules)"
    loaded = set(helpers.run([sys.executable, "-c", program]).stdout.split())
    assert "sysv_ipc" in loaded
    assert loaded & {"posix_ipc", "typing", "dataclasses", "ctypes", "json", "pathlib", "subprocess"} == set()
