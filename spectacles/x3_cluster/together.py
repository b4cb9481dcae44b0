"""Whoever waits for the same thing waits together: one of them does it for all. What replaces the shared fdatasync."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

Item = TypeVar("Item")
Result = TypeVar("Result")


class _Batch(Generic[Item, Result]):
    def __init__(self) -> None:
        self.items: list[Item] = []
        self.results: list[Result] = []
        self.error: Exception | None = None
        self.over = threading.Event()


class Together(Generic[Item, Result]):
    """A function of many items, called by threads that have one each.

    work: gets the items of all who came while the call before was under way, and returns a result for each; it is not
    called twice at a time. most: items of one call.
    """

    def __init__(self, work: Callable[[list[Item]], list[Result]], most: int = 1_000_000) -> None:
        self._work = work
        self._most = most
        self._lock = threading.Lock()  # of the batch that gathers
        self._turn = threading.Lock()  # of the call
        self._gathering: _Batch[Item, Result] = _Batch()

    def __call__(self, item: Item) -> Result:
        """Return what becomes of `item`, in a call that begins after this one. Blocks. Raises what `work` raises."""
        with self._lock:
            batch, place = self._gathering, len(self._gathering.items)
            batch.items.append(item)
            if len(batch.items) == self._most:
                self._gathering = _Batch()
        if place:
            batch.over.wait()
        else:  # the first of a batch does the work for all of it
            with self._turn:
                with self._lock:
                    if self._gathering is batch:
                        self._gathering = _Batch()
                try:
                    batch.results = self._work(batch.items)
                except Exception as error:
                    batch.error = error
                finally:
                    batch.over.set()
        if batch.error is not None:
            raise batch.error.with_traceback(None)
        return batch.results[place]

    def end(self, timeout: float) -> bool:
        """Let nobody work any more; return whether nobody does. Blocks, `timeout` seconds at most."""
        return self._turn.acquire(timeout=timeout)
