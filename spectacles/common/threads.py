"""Worker threads of one process: questions 3 to 5."""

from __future__ import annotations

import contextlib
import signal
import threading
import time

from spectacles.common import log
from spectacles.common.errors import SpectaclesError, reason
from spectacles.common.lifecycle import GRACE, NUDGE
from spectacles.common.naming import show_as

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Threads:
    """Worker threads of one process. A context manager that waits for them.

    A thread that ends by an exception makes keep_going() raise: a service is never left half alive.
    """

    def __init__(self) -> None:
        self._threads: list[threading.Thread] = []
        self._failure: str | None = None

    def __enter__(self) -> Threads:
        return self

    def __exit__(self, *_: object) -> None:
        self.join()

    def start(self, name: str, work: Callable[..., None], *args: object) -> None:
        """Run work(*args) in a thread called `name`. Raises SpectaclesError when the system has none to give."""
        thread = threading.Thread(target=self._guard, args=(name, work, args), name=name, daemon=True)
        try:
            thread.start()
        except (RuntimeError, MemoryError):
            raise SpectaclesError(f"thread {name} : pas de thread à avoir (ulimit -u, ulimit -v, conteneur)") from None
        self._threads.append(thread)

    def keep_going(self, damage: str | None) -> None:
        """Raise SpectaclesError if a thread has ended by an exception, or there is `damage` to the channel."""
        self._failure = self._failure or damage
        if self._failure:
            raise SpectaclesError(self._failure)

    def join(self) -> None:
        """Interrupt what the threads are blocked in until all have ended, at most GRACE seconds. Blocks."""
        deadline = time.monotonic() + GRACE
        for thread in self._threads:
            while thread.is_alive() and time.monotonic() < deadline:
                with contextlib.suppress(ProcessLookupError):
                    signal.pthread_kill(thread.ident or 0, signal.SIGUSR1)
                thread.join(NUDGE)

    def _guard(self, name: str, work: Callable[..., None], args: tuple[object, ...]) -> None:
        try:
            show_as(name)
            work(*args)
        except SpectaclesError as error:
            self._failure = str(error)
        except Exception as error:
            log.exception("[INFO] thread %s", name)
            self._failure = f"thread {name} arrêté par une erreur : {reason(error)}"
        else:
            return
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
