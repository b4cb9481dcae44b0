"""Forked children that do the work of questions 1 and 2.

A child is asked to stop, finishes the request in hand and leaves. One that dies never leaves half a service: nobody can
tell for sure who held the semaphore, so the others are asked to leave too, and once nobody is left the state is rebuilt
from the file and all start afresh.
"""

from __future__ import annotations

import fcntl
import os
import signal
import threading
import time

from spectacles.common import log
from spectacles.common.errors import SpectaclesError
from spectacles.common.host import fork
from spectacles.common.lifecycle import GRACE, NUDGE
from spectacles.common.naming import show_as

TYPE_CHECKING = False
if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable
    from typing import Protocol

    from spectacles.common.lifecycle import Channel, Server

    class ServingChannel(Channel, Protocol):
        """A channel used by children."""

        served: mmap.mmap


RECOVERY_GRACE = 0.3  # seconds, as GRACE, when a child has died, perhaps with the lock that the others wait for
MAX_DEATHS = 5  # in a row, with no request answered in between...
DEATHS_WINDOW = 10.0  # ...within this many seconds: give up


class Children:
    """Forked workers, replaced when they die (defect 10). A context manager that leaves no child behind.

    channel: its stop() is what SIGTERM calls in a child; its `served` (shared, 1 byte) is set by every reply.
    recover: put the shared state right; called, in order, when no child is alive.
    """

    def __init__(self, server: Server, channel: ServingChannel, *recover: Callable[[], None]) -> None:
        self._server = server
        self._channel = channel
        self._recover = recover
        self._jobs: list[tuple[str, Callable[..., None], tuple[object, ...]]] = []
        self._pids: dict[int, str] = {}  # of the living, with the names of their jobs
        self._deaths: list[float] = []
        self._lifeline = os.pipe2(os.O_CLOEXEC)  # nothing is ever written: only the parent's death closes it

    def __enter__(self) -> Children:
        return self

    def __exit__(self, *_: object) -> None:
        self.join()
        for fd in self._lifeline:
            os.close(fd)

    def start(self, name: str, work: Callable[..., None], *args: object) -> None:
        """Fork a child `name` that runs work(*args) and exits; it gets SIGTERM to stop, and dies with its parent.

        Raises SpectaclesError when the system has no process to give.
        """
        self._jobs.append((name, work, args))
        self._fork(name, work, args)

    def keep_going(self, damage: str | None) -> None:
        """Reap the dead; if one left unasked, or there is `damage` to the channel, restart all. Blocks while it does.

        Raises SpectaclesError after MAX_DEATHS within DEATHS_WINDOW without one request answered.
        """
        dead = self._reap()
        if not dead and not damage:
            return
        time.sleep(NUDGE)  # a signal to the whole group may have reached the children first
        if self._server.stopping:
            return
        log.error("[INFO] %s : je relance tous les fils", " ; ".join([*dead, *([damage] if damage else [])]))
        if dead:
            self._count_death()
        self.restart_all()
        log.info("[INFO] service rétabli")

    def restart_all(self) -> None:
        """End who is still alive, put the shared state right, and start all again. Blocks, RECOVERY_GRACE at most.

        No half measures: nobody can tell for sure who held the semaphore.
        """
        self.join(RECOVERY_GRACE)
        for recover in self._recover:
            recover()
        for job in self._jobs:
            self._fork(*job)

    def join(self, grace: float = GRACE) -> None:
        """Return once every child has finished its request and left; kill those that have not after `grace` seconds."""
        deadline = time.monotonic() + grace
        while self._pids:
            # Again and again: the first may come just before the child blocks, and would then be lost on it.
            number = signal.SIGTERM if time.monotonic() < deadline else signal.SIGKILL
            for pid in self._pids:
                os.kill(pid, number)
            time.sleep(NUDGE / 4)
            self._reap()

    def _count_death(self) -> None:
        now = time.monotonic()
        if self._channel.served[0]:
            self._deaths.clear()
        self._channel.served[0] = 0
        self._deaths = [moment for moment in self._deaths if now - moment < DEATHS_WINDOW] + [now]
        if len(self._deaths) >= MAX_DEATHS:
            raise SpectaclesError(
                f"{MAX_DEATHS} morts de fils en {DEATHS_WINDOW:.0f} s sans une réponse entre elles : j'abandonne"
            )

    def _reap(self) -> list[str]:
        dead = []
        for pid in list(self._pids):  # by number: as PID 1, or in another's program, we have children not of ours
            reaped, status = os.waitpid(pid, os.WNOHANG)
            if reaped:
                code = os.waitstatus_to_exitcode(status)
                cause = f"tué par le signal {-code}" if code < 0 else f"sorti avec le code {code}"
                dead.append(f"fils {self._pids.pop(pid)} (PID {pid}) {cause}")
        return dead

    def _fork(self, name: str, work: Callable[..., None], args: tuple[object, ...]) -> None:
        parent = os.getpid()
        pid = fork()
        if pid:
            self._pids[pid] = name
            return
        code = 1
        try:
            os.close(self._lifeline[1])
            self._die_with(parent)
            show_as(name)
            threading.current_thread().name = name  # in the log on a terminal, as with threads
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
            signal.signal(signal.SIGTERM, lambda *_: self._channel.stop())
            # A child that waits for the semaphore goes on waiting (sem_wait(3) is restarted, signal(7)), so that it
            # finishes its request; one that waits for a request does not (msgrcv(2) never is).
            signal.siginterrupt(signal.SIGTERM, False)
            work(*args)
            code = 0
        except SpectaclesError as error:
            log.error("[INFO] %s", error)
        except Exception:
            log.exception("[INFO] fils %s", name)
        finally:
            os._exit(code)

    def _die_with(self, parent: int) -> None:
        # The only writer of this pipe is the parent: when it dies, however it dies, the kernel sends SIGIO to the
        # owner of every open reading end, fcntl(2), and the default action of SIGIO is to terminate. The end is
        # opened again because an owner belongs to the open file, which forked children share.
        fd = os.open(f"/proc/self/fd/{self._lifeline[0]}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGIO, signal.SIG_DFL)  # whatever was inherited
        fcntl.fcntl(fd, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(fd, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
        if os.getppid() != parent:
            os._exit(1)
