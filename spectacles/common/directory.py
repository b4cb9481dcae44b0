"""The run directory of a server: what keeps a second one out, and whether its path still leads there."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import time
from _thread import allocate_lock

from spectacles.common.claims import bind, holder_of
from spectacles.common.errors import HeldError, SpectaclesError, reason
from spectacles.common.lockfile import LOCK_NAME, LOCK_TIMEOUT, RETRY, LockFile, cannot_be_shared
from spectacles.common.processes import process_runs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

LOGS_NAME = "logs"
CLAIM_PATIENCE = 0.3  # seconds that a server gets which is just ending: its descriptors close one after the other


class RunDirectory:
    """The directory of one server: spectacles.dat, FIFOs, lock, logs. Every file in it is reached through `fd`.

    A context manager that holds `lock`. A lock file can be removed, and some file systems know no flock: so the
    directory itself, by its inode, is claimed as well, in a place where nobody can remove anything.

    shared: with other servers that share it. They come and go one at a time, by the door, a flock(2) of the directory
    itself: it is closed from the start on until open_door(), and again from is_last() on.
    """

    def __init__(self, path: str, *, shared: bool = False) -> None:
        self.path = path
        self.fd = -1
        self._shared = shared
        self._claim: socket.socket | None = None
        self._in_the_door = allocate_lock()  # a flock keeps out other processes, not our other threads
        self.said: list[str] = []  # what should be logged: promises that are not kept here

    def __enter__(self) -> RunDirectory:
        """Create the directory (0700) if need be, lock it and claim it. Blocks, LOCK_TIMEOUT at most.

        Raises HeldError when a live server has it, SpectaclesError when it cannot be written to.
        """
        with contextlib.ExitStack() as undo:
            try:
                os.makedirs(self.path, 0o700, exist_ok=True)
                self.fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                undo.callback(os.close, self.fd)
                if self._shared:
                    self._close_door()
                self.lock = LockFile(self.fd, self.path, shared=self._shared)
                undo.callback(self.lock.close)
                self.lock.acquire()
                undo.callback(self.lock.release)
                self.said += self.lock.said
                undo.callback(self._give_claim_back)
                self._claim = self._claim_inode()
            except OSError as error:
                error.filename = os.path.join(self.path, error.filename or "")
                raise SpectaclesError(reason(error)) from error
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()  # the claim first: who finds no lock file finds no claim either
        self.fd = -1

    def open_door(self) -> None:
        """Let others in that share the directory, now that what is shared is there."""
        if self.lock.alone:
            self.lock.share()
        fcntl.flock(self.fd, fcntl.LOCK_UN)

    @contextlib.contextmanager
    def door(self) -> Iterator[bool]:
        """Keep the door closed meanwhile, if it is nobody else's: yields whether it is ours."""
        if not self._in_the_door.acquire(False):
            yield False
            return
        try:
            try:
                fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            try:
                yield True
            finally:
                fcntl.flock(self.fd, fcntl.LOCK_UN)
        finally:
            self._in_the_door.release()

    def is_last(self) -> bool:
        """Say, at the end, whether nobody else shares the directory. Blocks, LOCK_TIMEOUT at most; others wait then."""
        with contextlib.suppress(SpectaclesError):
            self._close_door()
            return self.lock.is_last()
        return False  # one stands still in the door: what is left is for who comes next

    def tend(self) -> None:
        """Put the lock file back if somebody has removed or replaced it. Housekeeping, main thread only.

        Raises SpectaclesError when the path no longer leads to this directory, and its clients find it no more.
        """
        if self._shared:
            with self.door() as ours, contextlib.suppress(OSError):
                if ours:
                    self._tend_with_others()
        else:
            with contextlib.suppress(OSError):
                if not self.lock.is_in_place():
                    self.lock.write_anew()
        where = self.where()
        if where is None:
            raise SpectaclesError(f"{self.path} : répertoire supprimé sous le serveur")
        if where != self.path:
            raise SpectaclesError(
                f"{self.path} : répertoire déplacé, ou caché par un autre, sous le serveur ; la table est à jour"
                f" dans {where} : remettez-le à sa place, ou relancez avec « --dir {where} »"
            )

    def where(self) -> str | None:
        """Return a path of this directory, which is `path` unless it was moved; None when it was removed."""
        status = os.fstat(self.fd)
        now = os.readlink(f"/proc/self/fd/{self.fd}")
        for path in (self.path, now):
            try:
                if os.path.samestat(os.stat(path), status):
                    return path
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                    return self.path  # no right to look, or a file system that does not answer: it may come back
        return None if now.endswith(" (deleted)") else f"{now} (caché)"

    def open_logs(self) -> int:
        """Create DIR/logs (0700) if need be and return a descriptor of it. Raises OSError, also on a symbolic link."""
        with contextlib.suppress(FileExistsError):
            os.mkdir(LOGS_NAME, 0o700, dir_fd=self.fd)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(LOGS_NAME, flags, dir_fd=self.fd)

    def _close_door(self) -> None:
        deadline = time.monotonic() + LOCK_TIMEOUT
        while True:
            try:
                fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise HeldError(
                        f"{self.path} : un autre serveur n'en finit pas d'y démarrer ou d'y finir"
                    ) from None
                time.sleep(RETRY)
            except OSError as error:
                raise cannot_be_shared(error) from error

    def _tend_with_others(self) -> None:
        if not self.lock.is_in_place():
            self.lock.write_anew()
        self.lock.tend()
        if self._claim is None:  # another had it: it may have ended
            self._claim = bind(self._inode_name())

    def _give_claim_back(self) -> None:
        if self._claim:
            self._claim.close()
        self._claim = None

    def _inode_name(self) -> str:
        status = os.fstat(self.fd)
        return f"répertoire {status.st_dev:x}:{status.st_ino:x}"

    def _claim_inode(self) -> socket.socket | None:
        name = self._inode_name()
        if not self.lock.alone:
            return bind(name)
        deadline = time.monotonic() + LOCK_TIMEOUT
        patience = time.monotonic() + CLAIM_PATIENCE
        while (holder := bind(name)) is None:
            pid, user = holder_of(name)
            if pid and user not in (0, os.geteuid()):
                self.said.append(f"{name} : retenu par le processus {pid} d'un autre utilisateur, sans droit")
                return None
            if time.monotonic() > (patience if pid and process_runs(pid) else deadline):
                raise HeldError(
                    f"{self.path} : un serveur y travaille déjà (PID {pid or 'inconnu'}, sans son {LOCK_NAME}) ;"
                    " arrêtez-le, ou choisissez un autre --dir"
                )
            time.sleep(RETRY)
        return holder
