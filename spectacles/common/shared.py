"""The table of questions 1 and 2: System V shared memory and a named POSIX semaphore, between processes.

Both names may already exist. Before it touches either, the server claims both names (claims.claim), so that what
exists is what a dead server left; it is replaced only if it belongs to this user and no process is attached to it. That
is defect 9 mended: a second server can no longer unlink the first one's semaphore.
"""

from __future__ import annotations

import contextlib
import os

import posix_ipc

from spectacles.common import addresses, log
from spectacles.common.errors import SpectaclesError, reason
from spectacles.common.segment import create_segment, foreign, remove_segment
from spectacles.common.spectacle import TABLE_SIZE
from spectacles.common.table import SpectacleTable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spectacles.common.lifecycle import Server
    from spectacles.common.storage import Store


class SharedTable(SpectacleTable):
    """A SpectacleTable in shared memory. A context manager that creates both objects and removes them.

    The lock is the semaphore itself, initial value 1. A holder that dies never releases it (defect 10: there are no
    robust semaphores): see recover().
    shm_key: System V key. sem_name: "/name". mode: rights of both. Raises HeldError or SpectaclesError.
    """

    def __init__(self, server: Server, shm_key: int, sem_name: str, mode: int, store: Store) -> None:
        server.claim("shm-key", hex(shm_key))
        server.claim("sem-name", sem_name)
        self._cleanup = contextlib.ExitStack()
        with self._cleanup:
            self._memory = create_segment(shm_key, mode, TABLE_SIZE)
            self._cleanup.callback(remove_segment, self._memory)
            self._semaphore = _create_semaphore(sem_name, mode)
            self._cleanup.callback(_remove_semaphore, self._semaphore)
            super().__init__(memoryview(self._memory), self._semaphore, store)
            self._cleanup.callback(self.release)
            self._cleanup = self._cleanup.pop_all()

    def __enter__(self) -> SharedTable:
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def snapshot(self) -> bytes:
        """Return the 720 bytes of the table as they are at one instant. Blocks while another holds the lock."""
        with self._lock:
            return self._buffer.tobytes()

    def consult(self, show: int) -> int:
        """As SpectacleTable.consult, in a child whose waits a signal interrupts: it finishes its request first."""
        while True:
            try:
                return super().consult(show)
            except posix_ipc.SignalError:
                continue  # in taking the lock: nothing was done

    def recover(self) -> None:
        """Free the semaphore and read the table from the file again. The caller makes sure that no child is alive."""
        while True:
            try:
                self._semaphore.acquire(0)
            except posix_ipc.BusyError:
                break
        self._semaphore.release()
        self.reload()

    def settle(self) -> None:
        """As recover(): a child may have left with the semaphore."""
        self.recover()

    def _acquire(self, timeout: float) -> bool:
        try:
            self._semaphore.acquire(timeout)
        except (posix_ipc.BusyError, posix_ipc.SignalError):
            return False
        return True


def _create_semaphore(name: str, mode: int) -> posix_ipc.Semaphore:
    # Never opened: sem_open(3) dies with SIGBUS on an empty file.
    if any(_owner(path) not in (os.geteuid(), None) for path in addresses.semaphore_files(name)):
        raise foreign(f"sémaphore {name}", "--sem-name")
    umask = os.umask(0)  # sem_open(3) applies it; nothing else runs yet that could make a file
    try:
        with contextlib.suppress(posix_ipc.ExistentialError):
            posix_ipc.unlink_semaphore(name)
            log.warning("[INFO] sémaphore %s laissé par un serveur mort, remplacé", name)
        return posix_ipc.Semaphore(name, posix_ipc.O_CREX, mode=mode, initial_value=1)
    except posix_ipc.PermissionsError:
        raise foreign(f"sémaphore {name}", "--sem-name") from None
    except (posix_ipc.Error, OSError, ValueError) as error:
        raise SpectaclesError(f"sémaphore {name} : {reason(error)}") from error
    finally:
        os.umask(umask)


def _owner(path: str) -> int | None:
    with contextlib.suppress(FileNotFoundError):
        return os.lstat(path).st_uid
    return None


def _remove_semaphore(semaphore: posix_ipc.Semaphore) -> None:
    with contextlib.suppress(posix_ipc.ExistentialError):
        semaphore.unlink()
    semaphore.close()
