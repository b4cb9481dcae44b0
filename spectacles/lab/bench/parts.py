"""What the parts of one request cost, each by itself in one process: what a profile of a server cannot tell apart."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import tempfile
import timeit
from _thread import allocate_lock, start_new_thread
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import posix_ipc
import sysv_ipc

from spectacles.common import log, storage
from spectacles.common.protocol import LIST, LIST_REPLY, LIST_REQUEST
from spectacles.common.spectacle import INT_MAX, TABLE_SIZE, Spectacle, pack_table
from spectacles.common.table import SpectacleTable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REPEATS = 5  # the best of so many counts: the others were disturbed


def full_table() -> bytes:
    """Return a table of ten shows that no load can sell out."""
    return pack_table({slot: Spectacle(slot + 1, f"Spectacle {slot}", "2027-01-01", INT_MAX) for slot in range(10)})


def nanoseconds(call: Callable[[], object]) -> float:
    """Return what call() takes. Blocks, half a second or so."""
    timer = timeit.Timer(call)
    number = max(timer.autorange()[0] // 2, 1)
    return min(timer.repeat(REPEATS, number)) / number * 1e9


@contextlib.contextmanager
def _store(base: str | None, *, fsync: bool) -> Iterator[storage.Store]:
    with tempfile.TemporaryDirectory(prefix="spectacles-bench-", dir=base) as directory:
        (Path(directory) / storage.FILE_NAME).write_bytes(full_table())
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        store = storage.Store(fd, directory, fsync=fsync)
        try:
            yield store
        finally:
            store.close()
            os.close(fd)


@contextlib.contextmanager
def _semaphore() -> Iterator[posix_ipc.Semaphore]:
    semaphore = posix_ipc.Semaphore(None, posix_ipc.O_CREX, initial_value=1)
    semaphore.unlink()
    try:
        yield semaphore
    finally:
        semaphore.close()


@contextlib.contextmanager
def _queue() -> Iterator[sysv_ipc.MessageQueue]:
    queue = sysv_ipc.MessageQueue(None, sysv_ipc.IPC_CREX, max_message_size=8192)
    try:
        yield queue
    finally:
        queue.remove()


def measure_parts(base: str | None) -> Iterator[tuple[str, float]]:
    """Yield (what, ns) for every part. base: where the table's file is, None for the temporary directory. Blocks."""
    level = log.logger.level
    log.logger.setLevel("WARNING")
    with contextlib.ExitStack() as stack:
        stack.callback(log.logger.setLevel, level)
        lazy, durable = (stack.enter_context(_store(base, fsync=fsync)) for fsync in (False, True))
        queue, semaphore = stack.enter_context(_queue()), stack.enter_context(_semaphore())
        left, right = socket.socketpair()
        stack.enter_context(left)
        stack.enter_context(right)
        lock = Lock()
        table = SpectacleTable(bytearray(TABLE_SIZE), lock, lazy)
        durable_table = SpectacleTable(bytearray(TABLE_SIZE), lock, durable)
        pid = os.getpid()
        request, copy = LIST_REQUEST.pack(pid), table.snapshot()
        reply = LIST_REPLY.pack(pid, copy)
        view = memoryview(bytearray(TABLE_SIZE))
        done = allocate_lock()

        def locked() -> None:
            with lock:
                pass

        def locked_between_processes() -> None:
            with semaphore:
                pass

        def by_queue() -> None:
            queue.send(reply, False, LIST)
            queue.receive(True, LIST)

        def by_socket() -> None:
            left.sendall(copy)
            right.recv(TABLE_SIZE)

        def by_thread() -> None:
            done.acquire()
            start_new_thread(done.release, ())
            with done:
                pass

        parts: list[tuple[str, Callable[[], object]]] = [
            ("verrou : Lock, pris et rendu", locked),
            ("verrou : sémaphore nommé, pris et rendu", locked_between_processes),
            ("table entière (snapshot), un seul processus, rien n'a changé", table.snapshot),
            ("table entière, copiée (720 octets), sans verrou", view.tobytes),
            ("lecture d'une demande (unpack)", lambda: LIST_REQUEST.unpack(request)),
            ("écriture d'une réponse de 728 octets (pack)", lambda: LIST_REPLY.pack(pid, copy)),
            ("os.getpid()", os.getpid),
            ("ligne de journal qui n'est pas montrée", lambda: log.info("[CONSULTATION] client %d : table", pid)),
            ("msgsnd + msgrcv de 728 octets", by_queue),
            ("send + recv de 720 octets (socketpair)", by_socket),
            ("thread : départ et fin", by_thread),
            ("réservation, --no-fsync (pwrite de 72 octets)", lambda: table.reserve(0, 1)),
            ("réservation durable (et fdatasync)", lambda: durable_table.reserve(0, 1)),
        ]
        for what, call in parts:
            yield what, nanoseconds(call)


if __name__ == "__main__":
    for what, cost in measure_parts(sys.argv[1] if len(sys.argv) > 1 else None):
        print(f"{cost:12,.0f} ns  {what}".replace(",", " "))
