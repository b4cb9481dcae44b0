"""Threads that nobody waits for one by one: one for each request or connection of questions 4 and 5."""

from __future__ import annotations

import _thread
import contextlib
import time
from queue import Empty, SimpleQueue

from spectacles.common import log
from spectacles.common.lifecycle import GRACE
from spectacles.common.naming import show_as

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

LACKING = 1.0  # seconds with threads for all after which a lack of them is worth another line in the log


class DetachedThreads:
    """One thread per task, at most `limit` at once (defect 16); nobody joins them one by one.

    no_thread: what to do when the system gives none (ulimit -u, ulimit -v, a container's limit of tasks): it returns
    whether to try again, and if not has seen to the task itself. Without it, for tasks that are soon done, the caller
    does the work.
    name: what they are shown as; "" leaves them the name of the thread that starts them, as three system calls more
    are nothing for a connection, but something for a request.
    """

    def __init__(self, limit: int, no_thread: Callable[[], bool] | None = None, name: str = "") -> None:
        self._limit = limit
        self._name = name
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
            if self._name:
                show_as(self._name)
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
