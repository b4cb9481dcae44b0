"""Whether a queue that exists already still has a server: only a dead one's may be taken over (defect 9).

claims.claim() keeps apart the servers of one network namespace. Containers can share the IPC namespace alone, and a
server in C claims nothing. So, before a queue is taken over, and without changing anything that is in it:

    1. does a server of ours hold it, in whatever container, busy or stopped?    claim_queue()
    2. does a process that can be seen from here wait for requests in it?        who_reads()
    3. was it one that stands still that used it last?                           _last_users()
    4. does anybody answer, or take requests out?                                _Question.ask()
"""

from __future__ import annotations

import contextlib
import os
import time

import sysv_ipc

from spectacles.common import log
from spectacles.common.errors import HeldError, reason
from spectacles.common.processes import process_exists, process_state
from spectacles.common.protocol import FIRST_PID, LIST, LIST_REQUEST

ANSWER_TIMEOUT = 0.1  # seconds in which a live server would have answered, or taken something out...
UNSEEN_TIMEOUT = 1.0  # ...where nothing else can be known of it
BUSY_TIMEOUT = 2.0  # seconds that one gets that goes on taking things out
NEGATIVE = 2**63  # and above: a number below 0, as the kernel shows it
PAUSE = 0.001  # seconds between two looks

CLAIM_SIZE = 71  # bytes; a size that few other segments have
MSGRCV = {"x86_64": "70", "aarch64": "188"}  # machine -> number of the system call


def claim_queue(key: int) -> sysv_ipc.SharedMemory | None:
    """Make the queue `key` this server's own in its IPC namespace, and return what says so, to be detached at the end.

    A shared memory segment, marked for removal while we are attached to it: the kernel removes it with the last process
    that is, forked children included, however it dies, shmctl(2). Raises HeldError if another server has one.
    """
    text = f"spectacles {key:#x}".encode().ljust(CLAIM_SIZE, b"\0")
    try:
        own = sysv_ipc.SharedMemory(sysv_ipc.IPC_PRIVATE, sysv_ipc.IPC_CREX, mode=0o600, size=CLAIM_SIZE)
    except (sysv_ipc.Error, OSError) as error:
        log.warning("[INFO] file %#x : un serveur d'un autre conteneur ne verra pas celui-ci : %s", key, reason(error))
        own = None
    else:
        own.write(text)
        own.remove()
    # Only now: of two that start at once, one sees the other at least.
    with open("/proc/sysvipc/shm", "rb") as table:
        segments = [[int(word) for word in line.split()] for line in table.readlines()[1:]]
    for _, segment_id, _, size, *_ in segments:
        if size == CLAIM_SIZE and (own is None or segment_id != own.id) and (holder := _holder(segment_id, text)):
            if own:
                own.detach()
            raise HeldError(f"file {key:#x} : déjà utilisée par {holder} ; arrêtez-le, ou choisissez une autre --key")
    return own


def _holder(segment_id: int, text: bytes) -> str | None:
    """Say who holds the claim in the segment, None if it is about something else, or the kernel has just removed it."""
    with contextlib.suppress(sysv_ipc.Error, OSError, ValueError):
        segment = sysv_ipc.attach(segment_id, None, sysv_ipc.SHM_RDONLY)
        try:
            if segment.read(CLAIM_SIZE) == text and segment.number_attached > 1:  # one is this process
                pid = segment.creator_pid
                return f"le serveur de PID {pid}" if pid else "un serveur d'un autre espace de PID (conteneur)"
        finally:
            segment.detach()
    return None


def make_sure_of_death(queue: sysv_ipc.MessageQueue, key: int, *, ours: bool) -> bytes:
    """Return if nobody serves `queue` any more, with what was asked, which lies in it. Blocks, BUSY_TIMEOUT at most.

    ours: whether only a server that claims its queues can have made it. Raises HeldError.
    """
    if reader := who_reads(queue.id):
        raise HeldError(f"file {key:#x} : le processus {reader} y attend des requêtes ; choisissez une autre --key")
    last_users = [] if ours else _last_users(queue)
    if stopped := next((pid for pid in last_users if process_state(pid) in ("T", "t")), 0):
        raise HeldError(
            f"file {key:#x} : le processus {stopped}, un des derniers à s'en servir, est suspendu ; choisissez une "
            f"autre --key, ou supprimez la file si ce n'est pas son serveur : ipcrm -Q {key:#x}"
        )
    question = _Question(queue)
    if server := question.ask(UNSEEN_TIMEOUT if 0 in last_users else ANSWER_TIMEOUT):
        raise HeldError(f"file {key:#x} : {server} y répond déjà ; choisissez une autre --key")
    return question.body


def who_reads(queue_id: int) -> int | None:
    """Return the PID of a process seen to wait for requests in the queue, stopped or not; None if there is none.

    proc_pid_syscall(5): what a process waits for, with the arguments. Not everybody may look at everybody.
    """
    number = MSGRCV.get(os.uname().machine)
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):  # it has just ended, or is not ours to look at
            for thread in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{thread}/syscall", encoding="ascii") as file:
                    call, *arguments = file.read().split()
                if call != number or int(arguments[0], 16) != queue_id:
                    continue
                # A client waits for its own PID; a server for 1, 2, or a negative number, the lowest type up to that.
                if not FIRST_PID <= int(arguments[3], 16) < NEGATIVE:
                    return int(pid)
    return None


def live_user(queue: sysv_ipc.MessageQueue) -> int | None:
    """Return the PID of a process that waits for requests in `queue`, else of one of the last to use it, if it lives.

    Nothing is sent: for who only wants to know. None where nobody is seen from here.
    """
    return who_reads(queue.id) or next((pid for pid in _last_users(queue) if pid and process_exists(pid)), None)


def _last_users(queue: sysv_ipc.MessageQueue) -> list[int]:
    """Return the PIDs of the last to send to `queue` and to receive from it, 0 for one in another PID namespace."""
    sent, received = queue.last_send_time, queue.last_receive_time  # 0: nobody ever has
    return [queue.last_send_pid] * (sent > 0) + [queue.last_receive_pid] * (received > 0)


class _Question:
    """A request for the table in the name of nobody: no process has such a PID, so that no reply but ours is read."""

    def __init__(self, queue: sysv_ipc.MessageQueue) -> None:
        self._queue = queue
        self._name = 2**30 + int.from_bytes(os.urandom(3))  # another each time: no late answer is taken for ours
        self.body = LIST_REQUEST.pack(self._name)

    def ask(self, patience: float) -> str | None:
        """Name the server that answers, or goes on taking things out; None after `patience` seconds without one."""
        with contextlib.suppress(sysv_ipc.BusyError):  # full of what nobody answers, or of nobody's replies
            self._queue.send(self.body, False, LIST)
        seen = self._look()
        start = late = time.monotonic()
        while (now := time.monotonic()) < late + patience:
            with contextlib.suppress(sysv_ipc.BusyError):
                body, _ = self._queue.receive(False, self._name)
                return f"le processus {int.from_bytes(body[:4], 'little')}"
            if now - start > BUSY_TIMEOUT:
                return f"un processus ({self._queue.last_receive_pid or 'dans un autre conteneur'})"
            time.sleep(PAUSE)
            before, seen = seen, self._look()
            if seen[0] < before[0] or seen[1:] != before[1:]:
                late = now
        return None

    def _look(self) -> tuple[int, int, int]:
        # Fewer messages, or another last to take one: not every taking can be seen, but one of many is.
        queue = self._queue
        return queue.current_messages, queue.last_receive_pid, queue.last_receive_time
