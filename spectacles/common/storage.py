"""spectacles.dat: create, validate, write one record, make it durable.

The original truncates the file and writes it all again, without fsync and without looking at a return value (defects 6
and 7). Here the file is created whole or not at all, and from then on one record is written in place: the inode stays,
the file is 720 bytes at every moment, and a crash finds either the old record or the new one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from _thread import allocate_lock

from spectacles.common.errors import SpectaclesError, reason
from spectacles.common.spectacle import DATE_SIZE, MAX_SPECTACLE, NOM_SIZE, RECORD, RECORD_SIZE, TABLE_SIZE

FILE_NAME = "spectacles.dat"
TEMPORARY_NAME = f".{FILE_NAME}.nouveau"


def check_table(table: bytes) -> str | None:
    """Say in one sentence what is impossible in the bytes of a table, None if nothing is.

    An empty slot (id 0) may hold anything, padding too: the original leaves stack bytes there.
    """
    if len(table) != TABLE_SIZE:
        return f"{len(table)} octets au lieu de {TABLE_SIZE}"
    for slot in range(MAX_SPECTACLE):
        id_, nom, date, places = RECORD.unpack_from(table, slot * RECORD_SIZE)
        if id_ == 0:
            continue
        if id_ < 0:
            return f"case {slot} : id négatif ({id_})"
        if places < 0:
            return f"case {slot} : nombre de places négatif ({places})"
        for name, text, size in (("nom", nom, NOM_SIZE), ("date", date, DATE_SIZE)):
            if b"\0" not in text:
                return f"case {slot} : {name} sans fin (aucun NUL dans {size} octets)"
            try:
                text.split(b"\0", 1)[0].decode()
            except UnicodeDecodeError:
                return f"case {slot} : {name} illisible (pas de l'UTF-8)"
    return None


def create(directory_fd: int, table: bytes, mode: int = 0o600) -> None:
    """Create spectacles.dat with the 720 bytes of `table`, whole or not at all, replacing an empty one.

    mode: others than the owner never get the right to write. Durable on return. Raises OSError.
    """
    with contextlib.suppress(FileNotFoundError):
        os.unlink(TEMPORARY_NAME, dir_fd=directory_fd)  # left by a crash between the two steps below
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(TEMPORARY_NAME, flags, 0o600, dir_fd=directory_fd)
    try:
        os.fchmod(fd, mode & 0o644)
        _write_all(fd, table, 0)
        os.fsync(fd)
        os.rename(TEMPORARY_NAME, FILE_NAME, src_dir_fd=directory_fd, dst_dir_fd=directory_fd)
    except BaseException:
        os.unlink(TEMPORARY_NAME, dir_fd=directory_fd)
        raise
    finally:
        os.close(fd)
    os.fsync(directory_fd)  # the name itself, rename(2) and fsync(2)


def is_missing(directory_fd: int) -> bool:
    """Say whether spectacles.dat is absent or empty, and may therefore be created without losing anything."""
    try:
        status = os.stat(FILE_NAME, dir_fd=directory_fd, follow_symlinks=False)
    except FileNotFoundError:
        return True
    return stat.S_ISREG(status.st_mode) and status.st_size == 0


def _write_all(fd: int, data: bytes, offset: int) -> None:
    # At a file size limit pwrite(2) writes what still fits and says so, without an error.
    if os.pwrite(fd, data, offset) != len(data):
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))


class Store:
    """The open spectacles.dat of a server: read whole, written one record at a time. Threads may share it.

    directory_fd: the run directory. path: what messages call the file. fsync: False leaves durability to the kernel
    (--no-fsync): nothing is lost by kill -9, the last seconds may be lost by a power cut.
    Raises SpectaclesError when the file is absent, a link, not a regular file, not readable and writable, or invalid.
    """

    def __init__(self, directory_fd: int, path: str, *, fsync: bool = True) -> None:
        self.path = path
        self._fsync = fsync
        self._lock = allocate_lock()
        self._written = 0  # tickets handed out
        self._synced = 0  # up to which ticket everything is on the disk
        self._failed = 0  # up to which ticket a failed fdatasync makes it uncertain
        try:
            # O_NONBLOCK: a FIFO planted in place of the file must not stop the server.
            self._fd = os.open(FILE_NAME, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory_fd)
        except OSError as error:
            error.filename = path
            raise SpectaclesError(reason(error)) from error
        try:
            if not stat.S_ISREG(os.fstat(self._fd).st_mode):
                raise SpectaclesError(f"{path} : ce n'est pas un fichier ordinaire")
            self.load()
        except BaseException:
            os.close(self._fd)
            raise

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def load(self) -> bytes:
        """Return the 720 bytes of the file. Raises SpectaclesError when they are not a possible table."""
        try:
            table = os.pread(self._fd, TABLE_SIZE + 1, 0)
            if len(table) > TABLE_SIZE:
                problem: str | None = f"{os.fstat(self._fd).st_size} octets au lieu de {TABLE_SIZE}"
            else:
                problem = check_table(table)
        except OSError as error:
            problem = reason(error)
        if problem:
            raise SpectaclesError(
                f"{self.path} : {problem} ; rien n'a été modifié"
                " (« spectacles table reset » recrée le fichier depuis le catalogue)"
            )
        return table

    def write(self, offset: int, record: bytes) -> int:
        """Write `record` at `offset` bytes, and return the ticket to hand to sync(). The caller holds the table's lock.

        Raises OSError; the file may then hold a part of the record, and the caller writes the old one back.
        """
        _write_all(self._fd, record, offset)
        self._written += 1
        return self._written

    def sync(self, ticket: int) -> None:
        """Return once the write that gave `ticket` is on the disk. Blocks. Raises OSError if that is not certain.

        Group commit: whoever holds the lock calls fdatasync(2) for all writes made so far; those who waited for the
        lock meanwhile find that theirs was among them.
        """
        if not self._fsync:
            return
        with self._lock:
            if ticket <= self._synced:
                return
            if ticket <= self._failed:
                # The kernel reports a failed write-back once, to one caller; the others must not take silence for yes.
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            covered = self._written
            try:
                os.fdatasync(self._fd)
            except OSError:
                self._failed = self._written
                raise
            self._synced = covered
