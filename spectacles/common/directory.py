"""The run directory of a server: what keeps a second one out, and whether its path still leads there."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import time

from spectacles.common.claims import bind, holder_of
from spectacles.common.errors import HeldError, SpectaclesError, reason
from spectacles.common.lockfile import LOCK_NAME, LOCK_TIMEOUT, RETRY, LockFile
from spectacles.common.processes import process_runs

LOGS_NAME = "logs"
CLAIM_PATIENCE = 0.3  # seconds that a server gets which is just ending: its descriptors close one after the other


class RunDirectory:
    """The directory of one server: spectacles.dat, FIFOs, lock, logs. Every file in it is reached through `fd`.

    A context manager that holds `lock`. A lock file can be removed, and some file systems know no flock: so the
    directory itself, by its inode, is claimed as well, in a place where nobody can remove anything.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.fd = -1
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
                self.lock = LockFile(self.fd, self.path)
                undo.callback(self.lock.close)
                self.lock.acquire()
                undo.callback(self.lock.release)
                self.said += self.lock.said
                if claim := self._claim_inode():
                    undo.enter_context(claim)
            except OSError as error:
                error.filename = os.path.join(self.path, error.filename or "")
                raise SpectaclesError(reason(error)) from error
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()  # the claim first: who finds no lock file finds no claim either
        self.fd = -1

    def tend(self) -> None:
        """Put the lock file back if somebody has removed or replaced it. Housekeeping, main thread only.

        Raises SpectaclesError when the path no longer leads to this directory, and its clients find it no more.
        """
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

    def _claim_inode(self) -> socket.socket | None:
        status = os.fstat(self.fd)
        name = f"répertoire {status.st_dev:x}:{status.st_ino:x}"
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
