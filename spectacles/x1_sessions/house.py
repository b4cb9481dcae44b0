"""What the servers of one house share: the table, the guard before it, and a desk for each of them.

    System V shared memory, 2420 bytes                            System V semaphore
    ┌───────┬────────────────────────────┬────────────────────┐   ┌───────────────┐
    │ table │ file, holder, claim, ...   │ desk desk desk ... │   │ 1 free, 0 had │ SEM_UNDO
    └───────┴────────────────────────────┴────────────────────┘   └───────────────┘

The first server makes both, the last removes them; who is first and who is last the lock of the directory says. A
server is killed with the guard in its hands: the kernel gives it back, semop(2), and `holder` still names the dead one,
so that the next holder knows that the table has to be put right before anything else.

A desk says whose it is, and what its server has in hand: the request that it has taken out of the queue and not yet
answered. A server that dies leaves its desk as it is, and another takes over what lies there. The desk stays to say
that this PID was a server's, for requests sent to it too late, until a process has the PID or a server needs the desk.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from _thread import get_ident

import sysv_ipc

from spectacles.common import log
from spectacles.common.addresses import c_key
from spectacles.common.errors import HeldError, SpectaclesError, reason
from spectacles.common.protocol import LIST, RESERV
from spectacles.common.segment import create_segment, foreign, remove_segment
from spectacles.common.spectacle import MAX_SPECTACLE, TABLE_SIZE
from spectacles.q2_msq.watch import NO_PROCESS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from spectacles.common.lifecycle import Server
    from spectacles.common.protocol import Request

# Offsets in bytes. All numbers are aligned ints of this machine, so that a kill leaves the old one or the new one.
FILE, HOLDER, CLAIM, DOUBTFUL, MARK, NAMESPACE, DESKS = TABLE_SIZE, 728, 732, 736, 748, 752, 756
MOST = 32  # servers at a time, and dead ones that are remembered
DESK_INTS = 13  # PID, STARTED, CLEARED and two hands
SIZE = DESKS + MOST * DESK_INTS * 4
OURS = 0x31585350  # in MARK
STARTED, CLEARED, FIRST_HAND, HAND_INTS = 1, 2, 3, 5
CLIENT, KIND, SHOW, SEATS, LEFT = range(HAND_INTS)  # of a hand; CLIENT 0: it is empty
UNDECIDED = -1  # in place of the seats left: nothing of this reservation is in the file
NO_HAND = -1  # in place of the holder's hand: housekeeping
PAUSE = 0.001  # seconds between two tries to get the guard without waiting for it
START_TIME = 19  # field of proc_pid_stat(5) after the name and its bracket: clock ticks since the machine started


class Hand:
    """What one worker of a server has in hand. number: 1 and above, one for each hand of the house."""

    def __init__(self, cells: memoryview, number: int) -> None:
        self.cells = cells
        self.number = number

    def take(self, request: Request) -> None:
        """Note a request that has just been taken out of the queue."""
        kind, client, show, seats = request
        cells = self.cells
        cells[KIND], cells[SHOW], cells[SEATS], cells[LEFT] = kind, show, seats, UNDECIDED
        cells[CLIENT] = client  # last: only now does the rest count

    def empty(self) -> None:
        """Note that it is about to be answered. Before the answer: to answer twice would be worse than never."""
        self.cells[CLIENT] = 0

    def request(self) -> Request | None:
        """Return what is in it, None for nothing."""
        client, kind, show, seats, _ = self.cells
        return (kind, client, show, seats) if client and kind in (LIST, RESERV) else None

    @property
    def left(self) -> int:
        """The seats left by the reservation in it, once that is in the file; UNDECIDED until then."""
        left: int = self.cells[LEFT]
        return left

    @left.setter
    def left(self, left: int) -> None:
        self.cells[LEFT] = left


class Desk:
    """The place of one server."""

    def __init__(self, cells: memoryview, number: int) -> None:
        self._cells = cells
        places = (FIRST_HAND, FIRST_HAND + HAND_INTS)
        self.hands = [Hand(cells[at : at + HAND_INTS], 2 * number + i + 1) for i, at in enumerate(places)]
        self._died = (0, 0)  # PID and start of the server that is known to have ended

    @property
    def pid(self) -> int:
        """Of its server, dead or alive; 0 if it has none."""
        pid: int = self._cells[0]
        return pid

    @property
    def started(self) -> int:
        """When its server started, which no other process of that PID did."""
        started: int = self._cells[STARTED]
        return started

    @property
    def cleared(self) -> int:
        """When others, its server being dead, had last done what it left, time.monotonic(); 0 if they have not yet."""
        cleared: int = self._cells[CLEARED]
        return cleared

    def is_dead(self) -> bool:
        """Say whether it is known that its server has ended."""
        return self.pid != 0 and self._died == (self.pid, self.started)

    def died(self) -> None:
        """Note here, for this process, that its server has ended."""
        self._died = (self.pid, self.started)

    def is_anothers_number(self) -> bool:
        """Say whether there is a process of that PID, and it is another than its server."""
        return _started(self.pid) not in (0, self.started)

    def clear(self) -> None:
        """Note that nothing is left to be done here."""
        self._cells[CLEARED] = int(time.monotonic()) + 1

    def sit_down(self) -> None:
        """Make it this process's. The caller sees to it that nobody else does so at the same time."""
        for hand in self.hands:
            hand.empty()
        self._cells[STARTED], self._cells[CLEARED] = _started(os.getpid()), 0
        self._cells[0] = os.getpid()

    def views(self) -> list[memoryview]:
        """Return all that leads to the memory, to be released."""
        return [*(hand.cells for hand in self.hands), self._cells]

    def leave(self) -> None:
        """Forget whose it was."""
        self._cells[0] = 0


class Guard:
    """The lock of the table: a System V semaphore that the kernel gives back when its holder dies. A context manager.

    put_right: called by the holder that comes after one that died with it, with the number of the hand which that had.
    """

    def __init__(self, key: int, holder: memoryview, hand: Callable[[], Hand | None]) -> None:
        self._key = key
        self._holder = holder
        self._hand = hand
        self._semaphore, self._try = (sysv_ipc.Semaphore(c_key(key)) for _ in range(2))
        self._semaphore.undo = self._try.undo = True
        self._try.block = False
        self.put_right: Callable[[int], None] = lambda number: None

    def __enter__(self) -> None:
        """Wait for the guard. Raises SpectaclesError when it has been removed, or the table is spoilt for good."""
        while True:
            try:
                self._semaphore.acquire()  # blocks
                break
            except sysv_ipc.ExistentialError:
                raise self._gone() from None
            except sysv_ipc.Error:
                continue  # interrupted by a signal: this request is finished first
        self._have()

    def acquire(self, timeout: float) -> bool:
        """Return whether the guard could be had within `timeout` seconds. Blocks. As for errors, see above."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                self._try.acquire()
                break
            except sysv_ipc.BusyError:
                if time.monotonic() >= deadline:
                    return False
                time.sleep(PAUSE)
            except sysv_ipc.ExistentialError:
                raise self._gone() from None
        self._have()
        return True

    def look(self) -> None:
        """Raise SpectaclesError if it has been removed. Housekeeping."""
        try:
            self._try.value  # noqa: B018  # asks the kernel
        except sysv_ipc.ExistentialError:
            raise self._gone() from None

    def __exit__(self, *_: object) -> None:
        self.release()

    def let_go(self) -> None:
        """Let go of the memory."""
        self._holder.release()

    def remove(self) -> None:
        """Remove it from the kernel, for all."""
        with contextlib.suppress(sysv_ipc.ExistentialError):
            self._semaphore.remove()

    def release(self) -> None:
        """Give the guard back."""
        self._holder[0] = 0
        self._give_back()

    def died_with(self) -> int:
        """Return the number of the hand of a holder that has died, NO_HAND if it had none, 0 if there was no such."""
        number: int = self._holder[0]
        return number

    def _gone(self) -> SpectaclesError:
        return SpectaclesError(f"le sémaphore {self._key:#x} a été supprimé")

    def _have(self) -> None:
        if died_with := self.died_with():
            try:
                self.put_right(died_with)
            except BaseException:
                self._give_back()  # still to be put right
                raise
        hand = self._hand()
        self._holder[0] = hand.number if hand else NO_HAND

    def _give_back(self) -> None:
        with contextlib.suppress(sysv_ipc.ExistentialError):  # somebody's ipcrm was faster: the next one says so
            self._semaphore.release()


class House:
    """The shared memory and the guard of one run directory, and our desk. A context manager, before the table.

    key: of both, --shm-key. mode: rights of both. `first`: nobody was here, and what is found the dead have left.
    Raises HeldError or SpectaclesError.
    """

    def __init__(self, server: Server, key: int, mode: int) -> None:
        self.directory = server.directory
        self.first = server.directory.lock.alone
        self._in_hand: dict[int, Hand] = {}  # thread -> hand
        self._watched: dict[int, tuple[int, int]] = {}  # number of a desk -> pidfd and PID of its server
        server.claim("shm-key", hex(key))
        server.claim("sem-key", hex(key))
        with contextlib.ExitStack() as undo:
            self._memory = create_segment(key, mode, SIZE, keep=True) if self.first else _attach(key)
            self._cut_up()
            undo.callback(self._let_go_of_memory)
            self._refuse_other_namespaces()
            if self.first:
                _create_semaphore(key, mode)
            self.guard = Guard(key, self._ints[HOLDER // 4 : HOLDER // 4 + 1], self.hand)
            undo.callback(self._let_go_of_guard)
            self.desk = self._free_desk()
            self.desk.sit_down()
            self._poll = select.poll()
            self._stopped = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            self._poll.register(self._stopped, select.POLLIN)
            undo.callback(self._close_descriptors)
            self._undo = undo.pop_all()

    def __enter__(self) -> House:
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    # Hands

    def work_with(self, hand: Hand) -> None:
        """Have the calling thread work with this hand from now on."""
        self._in_hand[get_ident()] = hand

    def hand(self) -> Hand | None:
        """Return the hand of the calling thread, None for one that answers nobody."""
        return self._in_hand.get(get_ident())

    def hand_of(self, number: int) -> Hand | None:
        """Return the hand of that number, None if there is none."""
        return self._desks[(number - 1) // 2].hands[(number - 1) % 2] if 0 < number <= 2 * MOST else None

    # Servers, dead and alive

    def pids(self) -> set[int]:
        """Return the PIDs of all servers, of those too that have died and are remembered."""
        return {desk.pid for desk in self._desks} - {0}

    def dead(self, timeout: float) -> list[Desk]:
        """Wait until a server dies, `timeout` seconds at most, and return the desks of all that have. Blocks."""
        self._watch()
        for fd, _ in self._poll.poll(timeout * 1000):  # blocks
            for number, (watched, pid) in list(self._watched.items()):
                if watched == fd:
                    log.info("[INFO] serveur %d parti : ses clients passent aux autres", pid)
                    self._forget(number)
        self._watch()
        return [desk for desk in self._desks if desk.is_dead()]

    def stop_waiting(self) -> None:
        """End dead(), now and later. Safe in a signal handler."""
        os.eventfd_write(self._stopped, 1)

    def _watch(self) -> None:
        """Have the kernel say when a server ends: all threads of it, pidfd_open(2)."""
        for number, desk in enumerate(self._desks):
            pid = desk.pid
            if number in self._watched and self._watched[number][1] != pid:
                self._forget(number)  # somebody new sits there
            if not pid or number in self._watched or desk is self.desk or desk.is_dead():
                continue
            try:
                fd = os.pidfd_open(pid)
            except OSError as error:  # no descriptor, perhaps: then the next look may do
                if error.errno in NO_PROCESS:
                    desk.died()
                continue
            if desk.is_anothers_number() or _has_ended(fd):
                desk.died()
                os.close(fd)
            else:
                self._watched[number] = fd, pid
                self._poll.register(fd, select.POLLIN)

    def _forget(self, number: int) -> None:
        fd, _ = self._watched.pop(number)
        self._poll.unregister(fd)
        os.close(fd)

    def _free_desk(self) -> Desk:
        free = [desk for desk in self._desks if not desk.pid]
        cleared = [desk for desk in self._desks if desk.cleared]
        if not free and not cleared:
            raise SpectaclesError(f"{self.directory.path} : {MOST} serveurs y travaillent, il n'y a pas d'autre place")
        return free[0] if free else min(cleared, key=lambda desk: desk.cleared)

    # Memory

    def _cut_up(self) -> None:
        if memoryview(self._memory).cast("i")[MARK // 4] != OURS:
            self._memory.write(bytes(SIZE))
        self._bytes = memoryview(self._memory)
        self._ints = self._bytes.cast("i")
        self._ints[MARK // 4] = OURS
        self.table = self._bytes[:TABLE_SIZE]
        self.file = self._bytes[FILE : FILE + 8].cast("Q")
        self.doubtful = self._bytes[DOUBTFUL : DOUBTFUL + MAX_SPECTACLE]
        start = DESKS // 4
        self._desks = [
            Desk(self._ints[at : at + DESK_INTS], number)
            for number, at in enumerate(range(start, start + MOST * DESK_INTS, DESK_INTS))
        ]

    def _refuse_other_namespaces(self) -> None:
        namespace = os.stat("/proc/self/ns/pid").st_ino & 0x7FFFFFFF
        if self.first:
            self._ints[NAMESPACE // 4] = namespace
        elif self._ints[NAMESPACE // 4] != namespace:
            raise HeldError(
                f"{self.directory.path} : les serveurs qui y travaillent sont dans un autre conteneur, où les PID ne"
                " sont pas ceux d'ici ; choisissez un autre --dir"
            )

    @property
    def claim(self) -> int:
        """The number of the segment that claims the queue for the house."""
        number: int = self._ints[CLAIM // 4]
        return number

    @claim.setter
    def claim(self, number: int) -> None:
        self._ints[CLAIM // 4] = number

    def _let_go_of_memory(self) -> None:
        hands = [view for desk in self._desks for view in desk.views()]
        for view in (self.table, self.file, self.doubtful, *hands, self._ints, self._bytes):
            view.release()  # a thread that still has one gets an exception, and not a signal 11
        if self.directory.is_last():
            remove_segment(self._memory)
        else:
            self._memory.detach()

    def _let_go_of_guard(self) -> None:
        self.guard.let_go()
        if self.directory.is_last():
            self.guard.remove()

    def _close_descriptors(self) -> None:
        for number in list(self._watched):
            self._forget(number)
        os.close(self._stopped)


def _attach(key: int) -> sysv_ipc.SharedMemory:
    try:
        memory = sysv_ipc.SharedMemory(c_key(key), size=0)
    except sysv_ipc.PermissionsError as error:
        raise foreign(f"mémoire partagée {key:#x}", "--shm-key") from error
    except (sysv_ipc.Error, OSError) as error:
        raise SpectaclesError(f"mémoire partagée {key:#x} des autres serveurs : {reason(error)}") from error
    if memory.size != SIZE:
        memory.detach()
        raise SpectaclesError(f"mémoire partagée {key:#x} des autres serveurs : d'une autre version")
    return memory


def _create_semaphore(key: int, mode: int) -> None:
    """Make the semaphore, with value 1, in place of what dead servers have left. Nobody else is there to use it."""
    try:
        with contextlib.suppress(sysv_ipc.ExistentialError):
            old = sysv_ipc.Semaphore(c_key(key))
            if old.uid != os.geteuid():
                raise sysv_ipc.PermissionsError
            old.remove()
            log.warning("[INFO] sémaphore %#x laissé par un serveur mort, remplacé", key)
        sysv_ipc.Semaphore(c_key(key), sysv_ipc.IPC_CREX, mode=mode, initial_value=1)
    except sysv_ipc.PermissionsError:
        raise foreign(f"sémaphore {key:#x}", "--shm-key") from None
    except (sysv_ipc.Error, OSError, ValueError) as error:
        raise SpectaclesError(f"sémaphore {key:#x} : {reason(error)}") from error


def _has_ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def _started(pid: int) -> int:
    """Return when the process `pid` started, in a number that fits an int; 0 if there is none, proc_pid_stat(5)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[START_TIME]) & 0x7FFFFFFF
    except OSError:
        return 0
