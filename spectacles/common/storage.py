"""spectacles.dat: create, validate, write one record, make it durable, keep it under its name.

The original truncates the file and writes it all again, without fsync and without looking at a return value (defects 6
and 7). Here the file is created whole or not at all, and from then on one record is written in place: the inode stays,
the file is 720 bytes at every moment, and a crash finds either the old record or the new one.

An open file outlives its name: whoever removes or replaces spectacles.dat under a server makes it write into a file
that nobody will read again. So housekeeping looks at the name, and puts a whole file back there (Store.restore).
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import stat
import time
from _thread import allocate_lock

from spectacles.common import invocation, log
from spectacles.common.errors import SpectaclesError, reason
from spectacles.common.spectacle import TABLE_SIZE, problem_place
from spectacles.common.spectacle import check_table as check_table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    class Table(Protocol):
        """What the file is to hold, and who sees to it: table.SpectacleTable."""

        def tend(self) -> None:
            """Make the file hold the table, whatever somebody else has done to it. Housekeeping."""

        def settle(self) -> None:
            """Put right what workers may have left. None is left."""

        def finish(self) -> str | None:
            """tend() a last time, and return why the file does not hold the table, if so."""

        def snapshot(self) -> bytes:
            """Return the 720 bytes of the table."""

        def seats_left(self) -> str:
            """Return the seats left, in words."""

        def if_at_rest(self, action: Callable[[], None]) -> None:
            """Run action() with the table's lock held, or not at all if somebody holds it."""


FILE_NAME = "spectacles.dat"
TEMPORARY_NAME = f".{FILE_NAME}.nouveau"
OUT_OF_ORDER = 0  # in place of a generation: the name has no file of ours, and none can be put there
NOT_IN_PLACE = "le fichier n'est plus à sa place"
GENERATIONS = 255  # numbers of a byte, 1 to 255, in turn
FLAGS = os.O_RDWR | os.O_CLOEXEC
# What file systems of shared folders say of what they cannot do: VirtualBox, WSL, cifs, sshfs, 9p, vfat.
UNSUPPORTED = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EPERM, errno.EACCES, errno.ENOTTY})


def create(directory_fd: int, table: bytes, mode: int = 0o600, *, replace: bool = True) -> list[str]:
    """Give the name spectacles.dat to a new file with the 720 bytes of `table`, whole or not at all.

    mode: others than the owner never get the right to write. replace: what has that name is lost, else it is given
    another one. Durable on return. Returns what should be said of it, in one sentence each: which promise the file
    system does not keep, and which name was given to what stood there. Raises OSError if there is no such file now.
    """
    said = _write_temporary(directory_fd, table, mode)
    try:
        if replace:
            _rename(directory_fd, TEMPORARY_NAME, FILE_NAME)
        elif aside := _name_temporary(directory_fd):
            said.append(f"ce qui était à la place de {FILE_NAME} s'appelle maintenant {aside}")
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(TEMPORARY_NAME, dir_fd=directory_fd)
        raise
    return said + _sync_name(directory_fd)


def _sync_name(directory_fd: int) -> list[str]:
    try:
        os.fsync(directory_fd)  # the name itself, rename(2) and fsync(2)
    except OSError as error:  # the file is there: that is not to be taken back
        return [f"{FILE_NAME} est écrit, mais une coupure de courant peut lui ôter son nom ({_cause(error)})"]
    return []


def _write_temporary(directory_fd: int, table: bytes, mode: int) -> list[str]:
    said = []
    with contextlib.suppress(FileNotFoundError):
        os.unlink(TEMPORARY_NAME, dir_fd=directory_fd)  # left by a crash before it got its name
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(TEMPORARY_NAME, flags, 0o600, dir_fd=directory_fd)
    try:
        said += set_mode(fd, mode & 0o644, FILE_NAME)
        _write_all(fd, table, 0)
        try:
            os.fsync(fd)
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
            said.append(f"{FILE_NAME} : durée non garantie par ce système de fichiers ({_cause(error)})")
    except BaseException:
        os.unlink(TEMPORARY_NAME, dir_fd=directory_fd)
        raise
    finally:
        os.close(fd)
    return said


def _name_temporary(directory_fd: int) -> str | None:
    """Give the temporary file its name; return the name given to what stood there, None if nothing did."""
    try:
        # Unlike rename(2), replaces nothing.
        os.link(TEMPORARY_NAME, FILE_NAME, src_dir_fd=directory_fd, dst_dir_fd=directory_fd)
    except FileExistsError:
        return _name_instead(directory_fd)
    except OSError as error:
        if error.errno not in UNSUPPORTED | {errno.EMLINK}:
            raise
        try:  # no hard links here
            os.stat(FILE_NAME, dir_fd=directory_fd, follow_symlinks=False)
        except FileNotFoundError:
            _rename(directory_fd, TEMPORARY_NAME, FILE_NAME)
            return None
        return _name_instead(directory_fd)
    os.unlink(TEMPORARY_NAME, dir_fd=directory_fd)
    return None


def _name_instead(directory_fd: int) -> str | None:
    status = os.stat(FILE_NAME, dir_fd=directory_fd, follow_symlinks=False)
    aside = None
    if not stat.S_ISREG(status.st_mode) or status.st_size:
        aside = f"{FILE_NAME}.{time.time_ns()}"
        try:
            # A second name first: the name is never without a file, so that no crash makes a new catalogue of it.
            os.link(FILE_NAME, aside, src_dir_fd=directory_fd, dst_dir_fd=directory_fd, follow_symlinks=False)
        except OSError:  # a directory; no hard links
            _rename(directory_fd, FILE_NAME, aside)
    _rename(directory_fd, TEMPORARY_NAME, FILE_NAME)
    return aside


def _rename(directory_fd: int, old: str, new: str) -> None:
    os.rename(old, new, src_dir_fd=directory_fd, dst_dir_fd=directory_fd)


def set_mode(fd: int, mode: int, name: str) -> list[str]:
    """Give an open file its rights; return what should be said of it where the file system has rights of its own.

    vfat, WSL without metadata, cifs: fchmod(2) fails, or does nothing.
    """
    try:
        os.fchmod(fd, mode)
        why = ""
    except OSError as error:
        why = f" ({_cause(error)})"
    actual = stat.S_IMODE(os.fstat(fd).st_mode)
    if actual == mode:
        return []
    wider = " : d'autres peuvent y accéder" if actual & ~mode else ""
    return [f"{name} : droits {actual:04o} au lieu de {mode:04o}{why}{wider}"]


def _cause(error: OSError) -> str:
    return "impossible ici" if error.errno in (errno.EINVAL, errno.ENOSYS, errno.ENOTTY) else reason(error)


def rescue(path: str, table: bytes) -> str:
    """Write `table` to spectacles.dat in the directory `path`, made anew if need be, and return where it is.

    For a server whose directory was removed. Nothing that stands there is touched: the file then gets a name of its
    own beside it. Raises OSError.
    """
    try:
        os.makedirs(path, 0o700, exist_ok=True)
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileExistsError, NotADirectoryError):  # no directory: beside it
        place = f"{path}.{FILE_NAME}.{time.time_ns()}"
        _write_new(place, table)
        return place
    try:
        place = os.path.join(path, FILE_NAME)
        if is_missing(fd):
            create(fd, table, replace=False)
        else:
            place = f"{place}.{time.time_ns()}"
            _write_new(place, table)
    finally:
        os.close(fd)
    return place


def _write_new(path: str, table: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        _write_all(fd, table, 0)
        os.fsync(fd)
    finally:
        os.close(fd)


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
    (--no-fsync): nothing is lost by kill -9, the last seconds may be lost by a power cut. lenient: open any 720 bytes.
    Raises SpectaclesError when the file is absent, a link, not a regular file, not readable and writable, or invalid.

    Forked children share it too: when restore() opens another file, they follow at their next write. So do the servers
    that share() it.
    """

    def __init__(self, directory_fd: int, path: str, *, fsync: bool = True, lenient: bool = False) -> None:
        self.path = path
        self.table: Table | None = None  # what the file is to hold
        self._directory = directory_fd
        self._fsync = fsync
        self._lock = allocate_lock()
        self._written = 0  # tickets handed out
        self._synced = 0  # up to which ticket everything is on the disk
        self._failed = 0  # up to which ticket a failed fdatasync makes it uncertain
        self._owner = os.getpid()
        self._shared = False
        self._generation = 1  # of the open file; where it is shared, its inode
        # The generation to write to, or OUT_OF_ORDER; shared with forked children.
        self._current: mmap.mmap | memoryview = mmap.mmap(-1, 1)
        self._current[0] = self._generation
        self._said = ""
        try:
            self._fd = self._open()
        except OSError as error:
            error.filename = path
            raise SpectaclesError(reason(error)) from error
        try:
            if not stat.S_ISREG(os.fstat(self._fd).st_mode):
                raise SpectaclesError(f"{path} : ce n'est pas un fichier ordinaire")
            self.load(lenient=lenient)
        except BaseException:
            os.close(self._fd)
            raise

    def share(self, current: memoryview, *, first: bool) -> None:
        """Share the file with servers that have not been forked from one another, each of which has opened it.

        current: one number of 8 bytes ("Q") in memory that they share, the inode of the file; the first writes it
        there. No inode is used again as long as one of them has the file open.
        """
        self._shared = True
        self._generation = os.fstat(self._fd).st_ino
        if first:
            current[0] = self._generation
        self._current = current

    def _open(self) -> int:
        # O_NONBLOCK: a FIFO planted in place of the file must not stop the server.
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        return os.open(FILE_NAME, flags, dir_fd=self._directory)

    def close(self) -> None:
        """Close the file, unless a thread is still in the middle of a reservation.

        Its descriptor would be taken away from under it, and it would refuse what is in the file. It keeps it until
        the process ends, which is what follows.
        """
        if self.table is None:
            self._close()
        else:
            self.table.if_at_rest(self._close)

    def _close(self) -> None:
        if not self._fsync or self._written <= max(self._synced, self._failed):  # else a thread is about to sync()
            os.close(self._fd)
            self._fd = -1  # not a number that may soon be another file's

    def load(self, *, lenient: bool = False) -> bytes:
        """Return the 720 bytes of the file. Raises SpectaclesError when they are not a possible table.

        lenient: any 720 bytes will do.
        """
        table, place = b"", None
        try:
            table = os.pread(self._fd, TABLE_SIZE + 1, 0)
            if len(table) > TABLE_SIZE:
                problem: str | None = f"{os.fstat(self._fd).st_size} octets au lieu de {TABLE_SIZE}"
            else:
                problem = check_table(table)
                place = problem_place(table)
        except OSError as error:
            problem = reason(error)
        if problem and not (lenient and len(table) == TABLE_SIZE):
            advice = _what_to_do(os.path.dirname(self.path), place)
            raise SpectaclesError(f"{self.path} : {problem} ; rien n'a été modifié ({advice})")
        return table

    def look(self) -> bytes | None:
        """Return what the file of that name holds (721 bytes at most), None if it is not the open one. Raises OSError.

        For housekeeping: no lock is held, and what others are writing may be seen.
        """
        if self._shared and self._current[0] not in (self._generation, OUT_OF_ORDER):
            self._follow()
        try:
            status = os.stat(FILE_NAME, dir_fd=self._directory, follow_symlinks=False)
        except FileNotFoundError:
            return None
        if not os.path.samestat(status, os.fstat(self._fd)):
            return None
        return os.pread(self._fd, TABLE_SIZE + 1, 0)

    def restore(self, table: bytes) -> None:
        """Give the name spectacles.dat to a new file that holds `table`, and go on with that one. Blocks on the disk.

        What stands there gets another name, an emptied file excepted. The caller holds the table's lock; main thread
        of the process that opened the store only. Raises OSError: write() then fails until this, or fine(), succeeds.
        """
        try:
            mode = stat.S_IMODE(os.fstat(self._fd).st_mode)
            said = create(self._directory, table, mode, replace=False)
            fd = self._open()
            try:
                if os.pread(fd, TABLE_SIZE + 1, 0) != table:
                    raise OSError(errno.EBUSY, "un autre programme le remplace sans cesse", FILE_NAME)
                os.dup2(fd, self._fd, inheritable=False)  # the number stays: a thread may be in fdatasync(2) on it
            finally:
                os.close(fd)
        except OSError as error:
            self._current[0] = OUT_OF_ORDER
            self._say(f"{self.path} ne peut pas être remis en place, réservations refusées d'ici là : {reason(error)}")
            raise
        self._generation = os.fstat(self._fd).st_ino if self._shared else self._generation % GENERATIONS + 1
        self._current[0] = self._generation
        self._said = ""
        log.error("[INFO] %s supprimé, remplacé ou modifié par un autre : remis en place, rien n'est perdu", self.path)
        for sentence in said:
            log.warning("[INFO] %s", sentence)

    def replace(self, table: bytes) -> None:
        """Put the 720 bytes of `table` in place of the file: all of them or, whatever breaks, none. Blocks on the disk.

        For a change of several records, which no write in place makes in one step: what is cut short, by a limit, a
        kill or the end of a sector, has changed some of them. rename(2) is one step. Durable on return, whatever
        --no-fsync says. The caller holds the table's lock, and has made sure by look() that nothing of somebody else's
        stands there; no forked child uses the store. Raises OSError: the file is then as it was.
        """
        if self.is_out_of_order():
            raise OSError(errno.ENOENT, NOT_IN_PLACE)
        said = _write_temporary(self._directory, table, stat.S_IMODE(os.fstat(self._fd).st_mode))
        try:
            fd = os.open(TEMPORARY_NAME, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._directory)
            try:
                _rename(self._directory, TEMPORARY_NAME, FILE_NAME)
                # Before the descriptor leads there: a thread that waits for the disk has written into the old file,
                # and must not be told by the new one that all is well as long as the name may still go back.
                said += _sync_name(self._directory)
                os.dup2(fd, self._fd, inheritable=False)
            finally:
                os.close(fd)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(TEMPORARY_NAME, dir_fd=self._directory)
            raise
        for sentence in said:
            self._say(sentence)

    def fine(self) -> None:
        """Take note that the file of that name is the open one and holds what it should: write() works again."""
        if self._current[0] == OUT_OF_ORDER:
            self._current[0] = self._generation
            log.info("[INFO] %s de nouveau en place", self.path)
        self._said = ""

    def unknown(self, error: OSError) -> None:
        """Log, once, that the file could not be looked at."""
        self._say(f"{self.path} : impossible d'y regarder : {reason(error)}")

    def _say(self, sentence: str) -> None:
        if sentence != self._said:
            self._said = sentence
            log.error("[INFO] %s", sentence)

    def is_out_of_order(self) -> bool:
        """Say whether restore() has failed, and not succeeded since."""
        return self._current[0] == OUT_OF_ORDER

    def write(self, offset: int, record: bytes) -> int:
        """Write `record` at `offset` bytes, and return the ticket to hand to sync(). The caller holds the table's lock.

        Raises OSError; the file may then hold a part of the record, and the caller writes the old one back.
        """
        if self._current[0] != self._generation:
            self._follow()
        _write_all(self._fd, record, offset)
        self._written += 1
        return self._written

    def _follow(self) -> None:
        generation = self._current[0]
        if generation == OUT_OF_ORDER:
            raise OSError(errno.ENOENT, NOT_IN_PLACE)
        # Not by the name, which may be somebody else's again: the very file that the parent has open.
        fd = self._open_by_inode(generation) if self._shared else os.open(f"/proc/{self._owner}/fd/{self._fd}", FLAGS)
        os.dup2(fd, self._fd, inheritable=False)
        os.close(fd)
        self._generation = generation

    def _open_by_inode(self, inode: int) -> int:
        """Open the file that another server has put back. Raises OSError if its name has been taken away once more."""
        fd = self._open()
        if os.fstat(fd).st_ino != inode:
            os.close(fd)
            raise OSError(errno.ENOENT, "le fichier n'est plus à sa place")
        return fd

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
            except OSError as error:
                if error.errno not in UNSUPPORTED:
                    self._failed = self._written
                    raise
                self._fsync = False
                log.warning("[INFO] %s : durée non garantie par ce système de fichiers (%s)", self.path, _cause(error))
            self._synced = covered


_VALUES = {"id": "N", "nom": "TITRE", "date": "DATE", "places": "N"}


def _what_to_do(directory: str, place: tuple[int, str] | None) -> str:
    if place is not None:
        slot, field = place
        mend = invocation.hint(f"table set {slot} --{field} {_VALUES[field]}", directory)
        return f"{mend} répare cette case et garde le reste"
    reset = invocation.hint("table reset", directory)
    return (
        f"remettez-en une copie de sauvegarde ; {reset} recrée le fichier depuis le catalogue,"
        " et oublie les places vendues"
    )
