"""Promise 4, from inside: moments of the queue's server end that a client from outside meets once in a long while."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
import sysv_ipc

from spectacles.common.errors import HeldError, NoServerError, SpectaclesError
from spectacles.common.lifecycle import interrupt
from spectacles.common.limits import kernel_limit
from spectacles.common.protocol import (
    LAST_PID,
    LIST,
    LIST_REPLY,
    LIST_REQUEST,
    NEEDED,
    RESERV,
    RESERV_REPLY,
    RESERV_REQUEST,
)
from spectacles.common.spectacle import TABLE_SIZE
from spectacles.q2_msq import channel, takeover
from spectacles.q2_msq import crowd as crowd_module
from spectacles.q2_msq import gate as gate_module
from spectacles.q2_msq import watch as watch_module
from spectacles.q2_msq.channel import ClientQueue, ServerQueue
from spectacles.q2_msq.gate import ALL, ANY, Gate
from spectacles.q2_msq.shelf import WAKE_UP
from tests import helpers

Message = tuple[bytes, int]
Attack = Callable[..., "subprocess.Popen[str]"]
UNKNOWN = 9_999_999  # a type above every PID, that nobody ever asks for
STRANGE = 2**22 - 1000  # no process has such a PID, with the usual pid_max
NO_SERVER = SimpleNamespace(claim=lambda *_: None, directory=SimpleNamespace(lock=SimpleNamespace(objects={})))


@pytest.fixture
def queue() -> Iterator[ServerQueue]:
    """A server's end without a server. What a server sets for its process is set back at the end."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    handler = signal.signal(signal.SIGUSR1, interrupt)
    with make_queue() as made:
        yield made
    signal.signal(signal.SIGUSR1, handler)
    resource.setrlimit(resource.RLIMIT_NOFILE, limit)


@pytest.fixture
def gate(queue: ServerQueue) -> Gate:
    """Its gate."""
    return queue._gate


def make_queue() -> ServerQueue:
    """Return a ServerQueue with a key of its own, that claims nothing."""
    return ServerQueue(cast(Any, NO_SERVER), helpers.fresh_key(), 0o600)


def reservation(client: int) -> bytes:
    """Return a request."""
    return RESERV_REQUEST.pack(client, 0, 1)


def fill_with_replies(queue: ServerQueue, attack: Attack) -> list[int]:
    """Fill the queue with unread replies of live processes, and return their PIDs."""
    pids = [attack("sleep", "1000").pid for _ in range(22)]
    for pid in pids:
        queue._queue.send(bytes(LIST_REPLY.size), False, pid)
    return pids


def test_one_request_at_a_time_is_no_flood(
    queue: ServerQueue, gate: Gate, attack: Attack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the gate waits for live clients to read, workers answer: who then asks again is heard again.

    (With the requests of each client counted from the beginning of make_room() on, one is lost.)
    """
    monkeypatch.setattr(gate_module, "PATIENCE", 60.0)
    readers = fill_with_replies(queue, attack)
    making_room = threading.Thread(target=gate.make_room)
    making_room.start()
    try:
        for _ in range(5):
            queue._queue.send(reservation(os.getpid()), True, RESERV)
            helpers.eventually(lambda: gate.shelf.take(RESERV), "the request on the shelf")
        assert not gate.crowd.floods(os.getpid())
    finally:
        for reader in readers[:2]:
            helpers.eventually(lambda reader=reader: gate.take(reader), "its reply")  # type: ignore[misc]
        making_room.join(helpers.DEADLINE)
    assert not making_room.is_alive()


@pytest.mark.parametrize("noted_first", [True, False])
def test_a_death_while_another_takes_its_place(
    queue: ServerQueue, attack: Attack, monkeypatch: pytest.MonkeyPatch, noted_first: bool
) -> None:
    """With no descriptor to spare, a client dies as another is to be watched, in either order: the right one is dead.

    (With the notes read as they come, the new one's pidfd gets the number of the dead one's, and its death.)
    """
    watch = queue._watch
    monkeypatch.setattr(watch, "_most", 1)
    old, new = attack("sleep", "1000"), attack("sleep", "1000")
    watch.note(old.pid)
    assert list(watch.dead()) == []
    if noted_first:
        watch.note(new.pid)
    old.kill()
    old.wait()
    if not noted_first:
        watch.note(new.pid)
    assert list(watch.dead()) == [old.pid]
    assert set(watch._watched.values()) == {new.pid}
    assert (watch.noted[old.pid], watch.noted[new.pid]) == (0, 1)


def test_a_process_with_a_strangers_number(queue: ServerQueue, attack: Attack, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client died before it was served, so that it was taken for a stranger; then a process gets its number.

    What it would find is gone within a round of housekeeping, not only once the time of a stranger is over; what is
    sent to itself stays. (With strangers not looked for, the dead one's reply stays.)
    """
    monkeypatch.setattr(watch_module, "STRANGER_TIME", 60.0)
    dead = attack("true")
    dead.wait()
    queue._queue.send(reservation(dead.pid), False, RESERV)
    request = next(queue.requests(RESERV))
    queue.reply(request, bytes(RESERV_REPLY.size))
    queue.tend()
    assert queue._queue.current_messages == 1
    with monkeypatch.context() as context:
        context.setattr(watch_module, "is_process", lambda _: True)
        context.setattr(queue._watch, "_looked", 0.0)
        queue.tend()
    assert queue._queue.current_messages == 0


def test_the_time_of_a_stranger(queue: ServerQueue, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has not read goes after a while from its last reply; that room is made meanwhile gives it no more time.

    (With each look at it taken for a new reply, it stays for as long as there is a flood.)
    """
    monkeypatch.setattr(watch_module, "STRANGER_TIME", 0.0)
    queue.reply((RESERV, STRANGE, 0, 1), b"")  # it exists for all that reply() knows
    assert queue.tend() is None
    assert queue._queue.current_messages == 0
    monkeypatch.setattr(watch_module, "STRANGER_TIME", 60.0)
    queue._queue.send(reservation(STRANGE), False, RESERV)
    queue.reply(next(queue.requests(RESERV)), bytes(RESERV_REPLY.size))
    queue.tend()
    until = dict(queue._watch._strangers)
    assert set(until) == {STRANGE}
    queue._make_room()
    queue.tend()
    assert queue._watch._strangers == until
    assert gate.take(STRANGE)


def test_strangers_in_a_full_queue(queue: ServerQueue, gate: Gate, attack: Attack) -> None:
    """Room is made: known clients' replies are kept, strangers' in half of the queue at most, beside those.

    Of their requests a few are shelved. Those kept are watched over. (With strangers kept like the others, more; with
    all of their requests shelved, they fill the pipe before a known client's.)
    """
    known = attack("sleep", "1000").pid
    for number in range(15):
        queue._queue.send(bytes(LIST_REPLY.size), False, STRANGE + number)
    for client in (*range(STRANGE, STRANGE + 50), known):
        queue._queue.send(LIST_REQUEST.pack(client), False, LIST)
    queue._queue.send(bytes(LIST_REPLY.size), False, known)
    queue._make_room()
    assert len(gate.take(known)) == 1
    kept = [number for number in range(15) if gate.take(STRANGE + number)]
    assert kept == list(range(5, 15)), "the newest"
    shelved = []
    while message := gate.shelf.take(LIST):
        shelved.append(NEEDED[LIST].unpack(message[0])[0])
    assert shelved == [*range(STRANGE, STRANGE + crowd_module.STRANGERS), known]
    queue.tend()
    assert set(queue._watch._strangers) >= {STRANGE + number for number in kept}


def test_strangers_in_hand(queue: ServerQueue) -> None:
    """Question 4 has many requests in hand at once: none of a stranger is taken that there would be no room to answer.

    (With those in hand not counted, all are.)
    """
    for number in range(30):
        queue._queue.send(LIST_REQUEST.pack(STRANGE + number), False, LIST)
    queue._queue.send(LIST_REQUEST.pack(os.getpid()), False, LIST)
    taken = []
    for request in queue.requests(ANY):
        taken.append(request)
        if request[1] == os.getpid():
            break
    assert len(taken) == 1 + kernel_limit("msgmnb") // 2 // LIST_REPLY.size
    for request in taken:
        queue.reply(request, b"")
    assert not queue._in_hand


def test_strangers_answered_as_they_are_counted(queue: ServerQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads reply to strangers while the receiver goes through those in hand, to forget the requests given up.

    (With the dictionary itself gone through: RuntimeError, and the server ends.)
    """

    class InHand(dict[int, float]):
        def items(self) -> Any:
            for item in super().items():
                self.pop(STRANGE + 1, None)
                yield item

    monkeypatch.setattr(queue, "_in_hand", InHand({STRANGE + number: -60.0 for number in range(20)}))
    queue._queue.send(LIST_REQUEST.pack(STRANGE), False, LIST)
    queue._queue.send(LIST_REQUEST.pack(os.getpid()), False, LIST)
    assert next(queue.requests(LIST)) == (LIST, os.getpid(), 0, 0)
    assert not queue._in_hand


@pytest.mark.parametrize("how", ["waits for requests", "stands still"])
def test_not_taken_over(attack: Attack, how: str) -> None:
    """A queue whose server in C was stopped while it waited, or in whatever else it did: it is left as it is.

    (With who_reads() or _stands_still() seeing nobody, it is taken over.)
    """
    key = helpers.fresh_key()
    left = sysv_ipc.MessageQueue(key, sysv_ipc.IPC_CREX, mode=0o600)
    program = "import sysv_ipc, os, signal; queue = sysv_ipc.MessageQueue(int(os.sys.argv[1])); "
    program += "queue.send(b'', True, 99); queue.receive(True, 99); "
    program += "os.kill(os.getpid(), signal.SIGSTOP)" if how == "stands still" else "queue.receive(True, 2)"
    server = attack(sys.executable, "-c", program, key)
    try:
        helpers.eventually(lambda: left.last_receive_pid == server.pid, "its queue used")
        if how == "stands still":
            helpers.eventually(lambda: helpers.stopped(server.pid), "the server stopped")
        else:
            helpers.eventually(lambda: takeover.who_reads(left.id) == server.pid, "the server seen to wait")
            helpers.freeze([server.pid])
            left.send(b"", True, 99)
            left.receive(True, 99)
        left.send(LIST_REQUEST.pack(os.getpid()), False, LIST)
        with pytest.raises(HeldError, match=str(server.pid)):
            ServerQueue(cast(Any, NO_SERVER), key, 0o600)
        assert left.receive(False, 0) == (LIST_REQUEST.pack(os.getpid()), LIST)
        assert left.current_messages == 0
    finally:
        left.remove()


def test_a_busy_server_is_no_dead_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that cannot be looked at takes one request after another, and comes to ours late: it is alive.

    (With the first tenth of a second without an answer taken for a death, its queue is taken over.)
    """
    monkeypatch.setattr(takeover, "MSGRCV", {})
    monkeypatch.setattr(takeover, "ANSWER_TIMEOUT", 0.5)
    key = helpers.fresh_key()
    left = sysv_ipc.MessageQueue(key, sysv_ipc.IPC_CREX, mode=0o600)
    for _ in range(3):
        left.send(LIST_REQUEST.pack(os.getpid()), False, LIST)
    answering = threading.Thread(target=slow_server, args=(left,))
    answering.start()
    try:
        with pytest.raises(HeldError, match="77"):
            ServerQueue(cast(Any, NO_SERVER), key, 0o600)
    finally:
        left.remove()
        answering.join(helpers.DEADLINE)


def slow_server(queue: sysv_ipc.MessageQueue) -> None:
    """Take one request in 0.3 s, and answer that of a server that starts."""
    client = 0
    while client <= LAST_PID:
        time.sleep(0.3)
        (client,) = NEEDED[LIST].unpack_from(queue.receive(True, LIST)[0])
    queue.send(LIST_REPLY.pack(77, bytes(TABLE_SIZE)), True, client)


@pytest.mark.parametrize("size", [*range(4, 25), 1000])
def test_shelved_by_the_bytes_that_are_needed(queue: ServerQueue, gate: Gate, attack: Attack, size: int) -> None:
    """Whatever the length of a request, what is shelved of it has one length, so that the next is not cut.

    (With the whole body shelved, or what is longer taken for no request, others are served, or none.)
    """
    clients = [attack("sleep", "1000").pid for _ in range(3)]
    kinds = (LIST, RESERV) if size >= NEEDED[RESERV].size else (LIST,)
    for client in clients:
        for kind in kinds:
            queue._queue.send(RESERV_REQUEST.pack(client, 7, 8).ljust(size, b"!")[:size], False, kind)
    gate.make_room()
    for kind in kinds:
        left = iter(clients)
        for client in left:
            expected = (RESERV, client, 7, 8) if kind == RESERV else (LIST, client, 0, 0)
            assert next(queue.requests(kind)) == expected
            gate.wake()


def let_others_be_faster(gate: Gate, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """Let the gate find no room, so many times that it tries without waiting."""
    send_what_fits = gate._send_what_fits
    left = iter(range(times))

    def send(messages: list[Message]) -> list[Message]:
        return messages if next(left, None) is not None else send_what_fits(messages)

    monkeypatch.setattr(gate, "_send_what_fits", send)


def no_thread(*_: object) -> None:
    """Fail as threading does when the system has no thread to give."""
    raise RuntimeError("can't start new thread")


def test_others_are_always_faster(
    queue: ServerQueue, gate: Gate, attack: Attack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is sent without waiting finds the queue full again: what a thread waits with gets in all the same.

    (With Line.send() sending nothing, it is given up after DELIVERY_TIMEOUT. That is what twelve processes that reserve
    and never read do to one reply in ten.)
    """
    clients = [attack("sleep", "1000").pid for _ in range(3)]
    for client in clients:
        queue._queue.send(LIST_REPLY.pack(client, bytes(TABLE_SIZE)), False, client)
    queue._queue.send(reservation(clients[0]), False, RESERV)
    monkeypatch.setattr(gate, "_send_what_fits", lambda messages: messages)
    gate.make_room((bytes(RESERV_REPLY.size), clients[0]))
    sent = gate.take(ALL)
    assert (WAKE_UP, RESERV) in sent
    kept = [(LIST_REPLY.pack(client, bytes(TABLE_SIZE)), client) for client in clients]
    assert [message for message in sent if message[0] != WAKE_UP] == [*kept, (bytes(RESERV_REPLY.size), clients[0])]


def test_no_thread_to_wait_in_line(
    queue: ServerQueue, gate: Gate, attack: Attack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others are faster, and the system has no thread to wait beside them: what was taken out comes back all the same.

    (With the RuntimeError not caught, make_room() raises it, and the queue has lost its replies.)
    """
    client = attack("sleep", "1000").pid
    queue._queue.send(bytes(LIST_REPLY.size), False, client)
    let_others_be_faster(gate, monkeypatch, 3)
    monkeypatch.setattr(threading.Thread, "start", no_thread)
    gate.make_room()
    assert gate.take(client) == [(bytes(LIST_REPLY.size), client)]
    assert queue._queue.max_size == gate._limit


def test_an_error_leaves_the_gate_open(queue: ServerQueue, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong while room is being made, the others can go on. (Without the `finally` nobody can send.)"""

    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(gate.crowd, "sort", fail)
    with pytest.raises(MemoryError):
        gate.make_room()
    queue._queue.send(bytes(LIST_REPLY.size), False, os.getpid())


@pytest.mark.parametrize("what", ["process", "thread"])
def test_housekeeping_does_not_wait_for_the_gate(queue: ServerQueue, gate: Gate, what: str) -> None:
    """A child stopped with SIGSTOP as it moves the gate does not stop its parent, which still obeys SIGTERM.

    (With _alone() waiting whoever asks, tend() does not return.)
    """
    queue._full_since = 0.0
    for size in (8192, 8191, 1):
        queue._queue.send(bytes(size), False, UNKNOWN)
    with gate_held(gate, what):
        tending = threading.Thread(target=queue.tend, daemon=True)
        tending.start()
        tending.join(helpers.DEADLINE)
        assert not tending.is_alive()
    queue.tend()
    assert queue._queue.current_messages == 0


@contextlib.contextmanager
def gate_held(gate: Gate, what: str) -> Iterator[None]:
    """Let another process, stopped, or another thread hold the gate."""
    if what == "thread":
        with gate._thread_lock:
            yield
        return
    child = os.fork()
    if child == 0:
        fcntl.lockf(gate._process_lock, fcntl.LOCK_EX)
        os.kill(os.getpid(), signal.SIGSTOP)
        os._exit(0)
    try:
        helpers.eventually(lambda: helpers.stopped(child), "the child stopped, the gate in its hands")
        yield
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_worker_that_leaves_takes_one_request_with_it(queue: ServerQueue, gate: Gate, attack: Attack) -> None:
    """Requests are on the shelf, and the child that serves them is asked to leave: those that it has not served stay.

    So the child that replaces it serves them, in order. (With all of them read at once, the others are lost.)
    """
    bodies = [reservation(attack("sleep", "1000").pid) for _ in range(3)]
    for body in bodies:
        queue._queue.send(body, False, RESERV)
    gate.make_room()
    served = []
    for request in queue.requests(RESERV):
        served.append(RESERV_REQUEST.pack(*request[1:]))
        queue.stop()
    queue.closing = gate.closing = False
    queue.recover()
    assert queue._queue.current_messages == 1, "no wake-up: nothing is on the shelf any more"
    for request in queue.requests(RESERV):
        served.append(RESERV_REQUEST.pack(*request[1:]))
        if len(served) == len(bodies):
            break
    assert served == bodies


def test_a_lost_wake_up_is_sent_again(queue: ServerQueue, gate: Gate) -> None:
    """A request is on the shelf, its wake-up taken out with a flood, or never sent: housekeeping sends it.

    (With wake() sending none, the request stays until the queue is full again.)
    """
    queue._queue.send(reservation(os.getpid()), False, RESERV)
    gate.make_room()
    assert gate.take(ALL) == [(WAKE_UP, RESERV)]
    queue.tend()
    assert queue._queue.current_messages == 1
    assert next(queue.requests(RESERV)) == (RESERV, os.getpid(), 0, 1)


def test_clients_that_die_while_their_reply_is_out(
    queue: ServerQueue, gate: Gate, attack: Attack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker has taken two replies out of the queue, both clients die, and then it puts the replies back.

    One had been watched; the other's reply has come while room was being made, from a worker that was killed before
    it could say so. (With _make_room() noting nobody, both replies stay; with only those noted that lay in the queue
    at first, the second.)
    """
    watched, other = attack("sleep", "1000"), attack("sleep", "1000")
    queue.reply((LIST, watched.pid, 0, 0), bytes(LIST_REPLY.size))
    assert queue.tend() is None
    in_line = gate._line.send

    def are_faster(messages: list[Message]) -> list[Message]:
        queue._queue.send(bytes(LIST_REPLY.size), False, other.pid)
        return messages

    def die(*arguments: Any) -> list[Message]:
        for client in (watched, other):
            client.kill()
            client.wait()
        queue.tend()
        return in_line(*arguments)

    monkeypatch.setattr(gate, "_send_what_fits", are_faster)
    monkeypatch.setattr(gate._line, "send", die)
    queue._make_room()
    assert queue._queue.current_messages == 2
    queue.tend()
    assert queue._queue.current_messages == 0


def test_a_reply_of_a_killed_child_is_watched_over(queue: ServerQueue, attack: Attack) -> None:
    """A child is killed after it has replied and before it has said so; then the client dies, and its reply goes.

    (With recover() noting nobody, it stays.)
    """
    client = attack("sleep", "1000")
    queue._queue.send(bytes(LIST_REPLY.size), False, client.pid)
    queue.recover()
    queue.tend()
    client.kill()
    client.wait()
    queue.tend()
    assert queue._queue.current_messages == 0


@pytest.mark.parametrize("part", ["Gate", "ClientWatch"])
def test_a_start_that_fails_leaves_no_queue(monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    """There are no descriptors left, say: the queue goes, as the only record of its key goes too.

    (Without `undo` it stays in the kernel.)
    """

    def fail(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    before = helpers.own_objects()
    monkeypatch.setattr(channel, part, fail)
    with pytest.raises(OSError, match="Too many"):
        make_queue()
    assert helpers.own_objects() == before


def test_who_floods_is_forgotten(queue: ServerQueue, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what can be a PID is remembered as flooding, and not for ever: a flood may name any number.

    (Without the check of the range -5 is remembered too; without the deletion all are, for ever.)
    """
    for client in (os.getpid(), -5, 2**31 - 1):
        for _ in range(crowd_module.MAX_ASKED + 1):
            queue._queue.send(reservation(client), False, RESERV)
    gate.make_room()
    assert set(gate.crowd.flooding) == {os.getpid()}
    monkeypatch.setattr(crowd_module, "CALM", 0.0)
    gate.make_room()
    assert not gate.crowd.flooding


def test_the_queue_is_removed_while_a_thread_waits_in_line(
    queue: ServerQueue, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread ends without a word: it is the main thread that says so, once. (With OSError not caught: a trace.)"""
    told: list[object] = []
    monkeypatch.setattr(threading, "excepthook", told.append)
    before = set(threading.enumerate())
    queue._queue.remove()
    with contextlib.suppress(sysv_ipc.ExistentialError):
        gate._line.send([(b"", os.getpid())], gate._take_requests_out)
    helpers.eventually(lambda: set(threading.enumerate()) <= before, "the thread has ended")
    assert not told


def test_a_thread_that_has_just_ended_is_not_interrupted(
    queue: ServerQueue, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends between the look at it and the signal. (With ProcessLookupError not caught, the reply is given up.)"""
    kill, kills = signal.pthread_kill, []

    def late(thread: int, number: int) -> None:
        kills.append(number)
        if len(kills) == 1:
            raise ProcessLookupError
        kill(thread, number)

    monkeypatch.setattr(signal, "pthread_kill", late)
    for size in (8192, 8191, 1):
        queue._queue.send(bytes(size), False, UNKNOWN)
    message = (b"no room!", os.getpid())
    assert gate._line.send([message], gate._take_requests_out) == [message]
    assert len(kills) > 1


def test_a_message_that_gets_in_at_the_last_moment_is_in(
    queue: ServerQueue, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its thread has had all its turns and is to be interrupted, when somebody reads and there is room.

    It is known to be in, and not sent again. (With got_in looked at before the thread has ended, it is sent twice.)
    """

    def read(thread: int, number: int) -> None:
        queue._queue.max_size = gate._limit
        while gate.take(UNKNOWN):
            pass

    for size in (8192, 8191, 1):
        queue._queue.send(bytes(size), False, UNKNOWN)
    monkeypatch.setattr(signal, "pthread_kill", read)
    assert gate._line.send([(b"no room!", os.getpid())], gate._take_requests_out) == []
    assert gate.take(os.getpid()) == [(b"no room!", os.getpid())]


def test_a_failure_leaves_nobody_in_line(queue: ServerQueue, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes wrong while a thread waits in line ends it too. (Without the `finally` it sends its message later.)"""
    before = set(threading.enumerate())

    def fail(*_: object) -> None:
        raise MemoryError

    for size in (8192, 8191, 1):
        queue._queue.send(bytes(size), False, UNKNOWN)
    monkeypatch.setattr(gate.crowd, "sort", fail)
    with pytest.raises(MemoryError):
        gate._line.send([(b"no room!", os.getpid())], gate._take_requests_out)
    assert set(threading.enumerate()) <= before


def test_a_closed_gate_lets_nothing_in(queue: ServerQueue, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even an empty message, while what lay in the queue is sorted. (With a limit of 1 byte one gets in.)"""
    sort, tries = gate.crowd.sort, []

    def try_to_send(messages: Iterable[Message]) -> list[Message]:
        with pytest.raises(sysv_ipc.BusyError):
            queue._queue.send(b"", False, UNKNOWN)
        tries.append(messages)
        return sort(messages)

    monkeypatch.setattr(gate.crowd, "sort", try_to_send)
    gate.make_room()
    assert tries


def test_only_a_removed_queue_is_called_removed(queue: ServerQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    """Housekeeping can fail for other reasons, and says which. (With every OSError taken for a removed queue: no.)"""

    def fail() -> list[int]:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as context:
        context.setattr(queue._watch, "dead", fail)
        with pytest.raises(OSError, match="Input/output"):
            queue.tend()
    queue._queue.remove()
    with pytest.raises(SpectaclesError, match="a été supprimée"):
        queue.tend()


def test_a_client_without_rights_says_so_at_once(queue: ServerQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its rights are taken away while it is at the menu: it does not try until its time is over.

    (With every error taken for a signal that has come, it tries without end.)
    """
    tries = []

    def refuse(*arguments: object) -> None:
        tries.append(arguments)
        assert len(tries) < 3
        raise sysv_ipc.PermissionsError

    with ClientQueue(queue._key, helpers.DEADLINE) as client:
        monkeypatch.setattr(client, "_discard_stale_replies", lambda: None)
        monkeypatch.setattr(client, "_queue", SimpleNamespace(send=refuse))
        with pytest.raises(NoServerError, match="droits insuffisants"):
            client.exchange(LIST, LIST_REQUEST.pack(os.getpid()), LIST_REPLY.size)


def test_a_full_queue_gets_time_to_be_read(queue: ServerQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rounds of housekeeping may follow each other at once, as clients die: what they find full gets its time.

    (With two full rounds enough, whenever they are, the queue is emptied by the second.)
    """
    for size in (8192, 8191, 1):
        queue._queue.send(bytes(size), False, UNKNOWN)
    monkeypatch.setattr(channel, "FULL_TOO_LONG", 60.0)
    queue.tend()
    queue.tend()
    assert queue._queue.current_messages == 3
    monkeypatch.setattr(channel, "FULL_TOO_LONG", 0.0)
    queue.tend()
    assert queue._queue.current_messages == 0


@pytest.mark.parametrize(("name", "value"), [("msgmax", LIST_REPLY.size - 1), ("msgmnb", 2 * LIST_REPLY.size - 1)])
def test_limits_too_low_for_a_reply(monkeypatch: pytest.MonkeyPatch, name: str, value: int) -> None:
    """A queue that a reply does not fit into is refused at start, in a line that names the limit.

    (With no look at it, each reply fails.)
    """
    real = kernel_limit
    monkeypatch.setattr(channel, "kernel_limit", lambda asked: value if asked == name else real(asked))
    before = helpers.own_objects()
    with pytest.raises(SpectaclesError, match=rf"kernel\.{name}.*{value}.*{value + 1}"):
        make_queue()
    assert helpers.own_objects() == before


def test_a_flood_seen_a_little_at_a_time(queue: ServerQueue, gate: Gate) -> None:
    """While the gate is moved by a few bytes, no single look finds many requests of one process.

    Its second is heard, as the first may have been answered; by its fourth it floods. (With the requests of each look
    counted alone it never does, and test_hostile_messages_soak loses requests of honest clients.)
    """
    request = (reservation(os.getpid()), RESERV)
    needed = (request[0][: NEEDED[RESERV].size], RESERV)
    for _ in range(crowd_module.MAX_ASKED):
        assert gate.crowd.sort([request]) == []
        assert gate.shelf.take(RESERV) == needed
    assert not gate.crowd.floods(os.getpid())
    assert gate.crowd.sort([request]) == []
    assert gate.shelf.take(RESERV) is None
    assert gate.crowd.floods(os.getpid())


def test_a_stale_reply_is_no_server() -> None:
    """A queue that a dead server has left, with a reply to a dead process that had this PID, is taken over.

    (With the reply not thrown away first, it is taken for an answer, and the start refused.)
    """
    key = helpers.fresh_key()
    left = sysv_ipc.MessageQueue(key, sysv_ipc.IPC_CREX, mode=0o600)
    left.send(LIST_REPLY.pack(4321, bytes(TABLE_SIZE)), False, os.getpid())
    with ServerQueue(cast(Any, NO_SERVER), key, 0o600):
        pass
