"""Who does the work of a server: forked children (questions 1 and 2) or threads (3 to 5).

Both ways a worker is asked to stop, finishes the request in hand and leaves; and a worker that dies or fails never
leaves half a service: children are replaced, a failed thread stops the server.
"""

from __future__ import annotations

import _thread
import contextlib
import fcntl
import os
import signal
import sys
import threading
import time
from queue import Empty, SimpleQueue

from spectacles.common import log
from spectacles.common.errors import SpectaclesError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable
    from typing import Protocol

    from spectacles.common.lifecycle import Channel, Server

    class ServingChannel(Channel, Protocol):
        """A channel used by children."""

        served: mmap.mmap


GRACE = 0.7  # seconds that workers get to finish the request in hand
RECOVERY_GRACE = 0.3  # ...when one of them has died, perhaps with the lock that the others wait for
NUDGE = 0.02  # seconds between two signals to a worker that may have missed the first
MAX_DEATHS = 5  # in a row, with no request answered in between...
DEATHS_WINDOW = 10.0  # ...within this many seconds: give up
LACKING = 1.0  # seconds with threads for all after which a lack of them is worth another line in the log


class Children:
    """Forked workers, replaced when they die (defect 10). A context manager that leaves no child behind.

    channel: its stop() is what SIGTERM calls in a child; its `served` (shared, 1 byte) is set by every reply.
    recover: put the shared state right; called, in order, when no child is alive.
    """

    def __init__(self, server: Server, channel: ServingChannel, *recover: Callable[[], None]) -> None:
        self._server = server
        self._channel = channel
        self._recover = recover
        self._jobs: list[tuple[Callable[..., None], tuple[object, ...]]] = []
        self._pids: dict[int, str] = {}
        self._deaths: list[float] = []
        self._lifeline = os.pipe2(os.O_CLOEXEC)  # nothing is ever written: only the parent's death closes it

    def __enter__(self) -> Children:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        for fd in self._lifeline:
            os.close(fd)

    def start(self, work: Callable[..., None], *args: object) -> None:
        """Fork a child that runs work(*args) and exits; it gets SIGTERM to stop, and dies with its parent."""
        self._jobs.append((work, args))
        self._fork(work, args)

    def check(self, damage: str | None) -> None:
        """Reap the dead; if one died unasked, or there is `damage`, put everything right and start all again.

        No half measures: nobody can tell for sure who held the semaphore, so the others are asked to finish their
        request and leave, and once nobody is left the state is rebuilt from the file. Blocks, RECOVERY_GRACE at most.
        Raises SpectaclesError after MAX_DEATHS within DEATHS_WINDOW without one request answered.
        """
        dead = self._reap()
        if not dead and not damage:
            return
        time.sleep(NUDGE)  # a signal to the whole group may have reached the children first
        if self._server.stopping:
            return
        log.error("[INFO] %s : je relance tous les fils", " ; ".join([*dead, *([damage] if damage else [])]))
        now = time.monotonic()
        if self._channel.served[0]:
            self._deaths.clear()
        self._channel.served[0] = 0
        self._deaths = [moment for moment in self._deaths if now - moment < DEATHS_WINDOW] + [now] * bool(dead)
        if len(self._deaths) >= MAX_DEATHS:
            raise SpectaclesError(
                f"{MAX_DEATHS} morts de fils en {DEATHS_WINDOW:.0f} s sans une réponse entre elles : j'abandonne"
            )
        self.stop(RECOVERY_GRACE)
        for recover in self._recover:
            recover()
        for work, args in self._jobs:
            self._fork(work, args)
        log.info("[INFO] service rétabli")

    def stop(self, grace: float = GRACE) -> None:
        """Ask every child to finish its request and leave; kill those that have not after `grace` seconds. Blocks."""
        deadline = time.monotonic() + grace
        while self._pids:
            # Again and again: the first may come just before the child blocks, and would then be lost on it.
            number = signal.SIGTERM if time.monotonic() < deadline else signal.SIGKILL
            for pid in self._pids:
                os.kill(pid, number)
            time.sleep(NUDGE / 4)
            self._reap()

    def _reap(self) -> list[str]:
        dead = []
        for pid in list(self._pids):
            reaped, status = os.waitpid(pid, os.WNOHANG)
            if reaped:
                code = os.waitstatus_to_exitcode(status)
                cause = f"tué par le signal {-code}" if code < 0 else f"sorti avec le code {code}"
                dead.append(f"fils {self._pids.pop(pid)} (PID {pid}) {cause}")
        return dead

    def _fork(self, work: Callable[..., None], args: tuple[object, ...]) -> None:
        parent = os.getpid()
        try:
            pid = os.fork()
        except BlockingIOError:  # EAGAIN, fork(2)
            raise SpectaclesError("pas de processus pour un fils : limite atteinte (ulimit -u, conteneur)") from None
        if pid:
            self._pids[pid] = " ".join([work.__name__, *(str(arg) for arg in args if isinstance(arg, int))])
            return
        code = 1
        try:
            os.close(self._lifeline[1])
            self._die_with(parent)
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
            log.exception("[INFO] fils %s", work.__name__)
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


class Threads:
    """Worker threads of one process. A context manager that waits for them.

    A thread that ends by an exception makes check() raise: a service is never left half alive.
    """

    def __init__(self) -> None:
        self._threads: list[threading.Thread] = []
        self._failure: str | None = None

    def __enter__(self) -> Threads:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, work: Callable[..., None], *args: object) -> None:
        """Run work(*args) in a thread. Raises SpectaclesError if there is none to be had."""
        thread = threading.Thread(target=self._guard, args=(work, args), daemon=True)
        try:
            thread.start()
        except (RuntimeError, MemoryError):
            why = "le système n'en donne pas (ulimit -u, ulimit -v, limite de tâches du conteneur)"
            raise SpectaclesError(f"thread {work.__name__} : {why}") from None
        self._threads.append(thread)

    def check(self, damage: str | None) -> None:
        """Raise SpectaclesError if a thread has ended by an exception, or there is `damage` to the channel."""
        self._failure = self._failure or damage
        if self._failure:
            raise SpectaclesError(self._failure)

    def stop(self) -> None:
        """Interrupt what the threads are blocked in until all have ended, at most GRACE seconds. Blocks."""
        deadline = time.monotonic() + GRACE
        for thread in self._threads:
            while thread.is_alive() and time.monotonic() < deadline:
                with contextlib.suppress(ProcessLookupError):
                    signal.pthread_kill(thread.ident or 0, signal.SIGUSR1)
                thread.join(NUDGE)

    def _guard(self, work: Callable[..., None], args: tuple[object, ...]) -> None:
        try:
            work(*args)
        except SpectaclesError as error:
            self._failure = str(error)
        except Exception as error:
            log.exception("[INFO] thread %s", work.__name__)
            self._failure = f"thread {work.__name__} arrêté par une erreur : {error}"
        else:
            return
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)


class DetachedThreads:
    """One thread per task, at most `limit` at once (defect 16); nobody joins them one by one.

    no_thread: what to do when the system gives none (ulimit -u, ulimit -v, a container's limit of tasks): it returns
    whether to try again, and if not has seen to the task itself. Without it, for tasks that are soon done, the caller
    does the work.
    """

    def __init__(self, limit: int, no_thread: Callable[[], bool] | None = None) -> None:
        self._limit = limit
        self._no_thread = no_thread
        self._lacking_at = float("-inf")
        # A counting semaphore by its other name: threading.Semaphore is written in Python, this one in C.
        self._slots: SimpleQueue[None] = SimpleQueue()
        for _ in range(limit):
            self._slots.put(None)

    def start(self, work: Callable[..., None], *args: object) -> None:
        """Run work(*args) in a thread of its own. Blocks while `limit` run; and for the work, if there is no thread."""
        self._slots.get()
        while True:
            try:
                _thread.start_new_thread(self._run, (work, args))
                return
            except (RuntimeError, MemoryError):
                if self._no_thread is None:
                    self._say_lacking()
                    self._run(work, args)
                    return
                if not self._no_thread():
                    self._slots.put(None)
                    return

    def join(self) -> None:
        """Return once none is running, after GRACE seconds at most. Blocks. Nothing can be started after this."""
        deadline = time.monotonic() + GRACE
        with contextlib.suppress(Empty):
            for _ in range(self._limit):
                self._slots.get(timeout=max(deadline - time.monotonic(), 0))

    def _run(self, work: Callable[..., None], args: tuple[object, ...]) -> None:
        try:
            work(*args)
        except Exception:
            with contextlib.suppress(MemoryError):  # which may be what this is about
                log.exception("[INFO] thread %s", work.__name__)
        finally:
            self._slots.put(None)

    def _say_lacking(self) -> None:
        """Say once, as long as it lasts, that tasks get no thread of their own."""
        now = time.monotonic()
        if now - self._lacking_at > LACKING:
            log.error("[INFO] pas de thread (ulimit -u, ulimit -v, limite de tâches) : requêtes traitées une par une")
        self._lacking_at = now


def share_one_processor() -> None:
    """Keep the calling thread, and those that it starts from now on, on one processor, sched_setaffinity(2).

    For threads that do little but hand work to each other: the interpreter's lock lets one of them run at a time. On
    one processor it changes hands with a context switch; on two, each time another processor has to be woken up. Which
    one depends on the PID, so that several servers of a host take different ones. Does nothing without such a lock.
    """
    if getattr(sys, "_is_gil_enabled", lambda: True)():
        processors = sorted(os.sched_getaffinity(0))
        with contextlib.suppress(OSError):  # taken away meanwhile: slower, nothing else
            os.sched_setaffinity(0, {processors[os.getpid() % len(processors)]})
