"""server.lock: who works in a run directory, and what servers of it have made in the kernel.

One file for both: its flock(2), which children inherit, is freed by the kernel when the last process of a server has
died, however it died; its text then still says what `spectacles clean` has to look for.

Servers that share a directory (x1_sessions) share the lock too, which keeps all others out, and tells the first and the
last of them from the rest: it alone can have the lock for itself.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time

from spectacles.common import log
from spectacles.common.errors import HeldError, reason
from spectacles.common.processes import process_runs

LOCK_NAME = "server.lock"
OBJECTS = ("key", "shm-key", "sem-key", "sem-name")  # kinds of kernel objects, called as on the command line
LOCK_TIMEOUT = 3.0  # seconds that the children of a server just killed get to die
RETRY = 0.02  # seconds between two tries
SURE = 4  # tries after which who has the lock, and is not known, is one who shares it
FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def server_of(path: str) -> dict[str, str]:
    """Return what a live server of ours has written about itself in the directory `path`: pid, question, key...

    {} if none holds its lock. Raises OSError: no such file, or no right to read it.
    """
    fd = os.open(os.path.join(path, LOCK_NAME), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        record = _read(fd)
        if process_runs(_pid_in(record)):  # a server's that shares it, perhaps
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return {}  # nobody's: a dead server's
    except BlockingIOError:
        return _read(fd)
    finally:
        os.close(fd)


def _read(fd: int) -> dict[str, str]:
    text = os.pread(fd, 65536, 0).decode("utf-8", "replace")
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def _pid_in(record: dict[str, str]) -> int:
    return int(number) if (number := record.get("pid", "")).isdecimal() else 0


def cannot_be_shared(error: OSError) -> OSError:
    """Return the error that says that here nothing tells the first and the last of several servers from the rest."""
    why = f"pas de verrou sur ce système de fichiers ({reason(error)}), et plusieurs serveurs en ont besoin"
    return OSError(errno.ENOLCK, f"{why} ; choisissez un --dir sur un disque local", LOCK_NAME)


class LockFile:
    """The lock file of the directory that is open as `directory_fd`. path: what messages call the directory.

    objects: the kernel objects that servers of this directory have made, by kind, OBJECTS. They are noted before they
    are made, and the file stays as long as there are any.
    shared: with others that share it; then `alone` says whether there was none when it was acquired. Who shares it
    sees to it that only one at a time acquires it, or asks is_last().
    """

    def __init__(self, directory_fd: int, path: str, *, shared: bool = False) -> None:
        self.alone = True
        self._shared = shared
        self._last: bool | None = None
        self._tries = 0
        self.objects: dict[str, set[str]] = {}
        self.said: list[str] = []  # what should be logged: a promise that this file system does not keep
        self._directory = directory_fd
        self._path = path
        self._holder = ""
        self._fd = -1

    def acquire(self) -> None:
        """Create the file if need be, lock it and read what it says. Blocks, LOCK_TIMEOUT at most.

        Raises HeldError when a live server has it, OSError when it cannot be had.
        """
        deadline = time.monotonic() + LOCK_TIMEOUT
        while True:
            self._fd = os.open(LOCK_NAME, FLAGS, 0o600, dir_fd=self._directory)
            status = os.fstat(self._fd)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, "ce n'est pas un fichier ordinaire", os.path.join(self._path, LOCK_NAME))
            if status.st_uid != os.geteuid():
                raise OSError(errno.EPERM, "à un autre utilisateur", os.path.join(self._path, LOCK_NAME))
            try:
                self._hold()
                # The last holder may have removed the file between our open and our lock.
                if os.path.samestat(os.fstat(self._fd), os.stat(LOCK_NAME, dir_fd=self._directory)):
                    # At spaces only: a no-break space may be part of a name.
                    self.objects = {
                        what: set(names.split(" ")) - {""} for what, names in _read(self._fd).items() if what in OBJECTS
                    }
                    return
            except BlockingIOError:
                record = _read(self._fd)
                pid = _pid_in(record)
                # The children of a server killed a moment ago are dying too: wait for them.
                if time.monotonic() > deadline or (pid and process_runs(pid)):
                    raise HeldError(f"{self._path} : {self._who_holds(record, pid)}") from None
            except FileNotFoundError:
                pass
            os.close(self._fd)
            self._fd = -1
            time.sleep(RETRY)

    def share(self) -> None:
        """Let others share the lock, that one who was alone has had for himself until now."""
        fcntl.flock(self._fd, fcntl.LOCK_SH)  # waits for who slipped in between, and is being refused by our claims

    def is_last(self) -> bool:
        """Say whether nobody else shares the lock, at the end: if somebody does, it is given up by this."""
        if self._last is None:
            self._last = False
            for _ in range(SURE):  # who only looks (server_of) has it for an instant
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    self._last = True
                    break
                time.sleep(RETRY / SURE)
        return self._last

    def release(self) -> None:
        """Remove the file, or leave it, no longer held, to say what is still in the kernel; and let go of it."""
        with contextlib.suppress(OSError):  # of a directory that can be read or written no more: no reason to fail now
            if self._shared and not self.is_last():
                pass  # it is the others' now
            elif any(self.objects.values()):
                self.write_holder("")
            elif self.is_in_place():
                os.unlink(LOCK_NAME, dir_fd=self._directory)  # while locked: nobody else can hold this very file
        self.close()

    def close(self) -> None:
        """Let go of the file as it is."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def is_in_place(self) -> bool:
        """Say whether the name of the file still leads to it."""
        try:
            status = os.stat(LOCK_NAME, dir_fd=self._directory, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return os.path.samestat(status, os.fstat(self._fd))

    def write_anew(self) -> None:
        """Make the file again that somebody has removed or replaced. Raises OSError."""
        if self._shared and self._adopt():
            return
        with contextlib.suppress(FileNotFoundError):
            status = os.stat(LOCK_NAME, dir_fd=self._directory, follow_symlinks=False)
            if not stat.S_ISREG(status.st_mode) or status.st_size:
                aside = f"{LOCK_NAME}.{time.time_ns()}"
                os.rename(LOCK_NAME, aside, src_dir_fd=self._directory, dst_dir_fd=self._directory)
                log.warning("[INFO] ce qui était à la place de %s s'appelle maintenant %s", LOCK_NAME, aside)
        fd = os.open(LOCK_NAME, FLAGS, 0o600, dir_fd=self._directory)
        try:
            # Only the claim kept others out meanwhile, and somebody may just be finding that out.
            self._flock(fd, fcntl.LOCK_SH if self._shared else fcntl.LOCK_EX)
            os.dup2(fd, self._fd, inheritable=False)
        finally:
            os.close(fd)
        self._write()
        log.error("[INFO] %s supprimé ou remplacé par un autre : remis en place", LOCK_NAME)

    def _adopt(self) -> bool:
        """Go on with the file that another of those who share the lock has put back. Return whether there is one."""
        try:
            fd = os.open(LOCK_NAME, FLAGS & ~os.O_CREAT, dir_fd=self._directory)
        except OSError:
            return False
        try:
            with contextlib.suppress(OSError):
                fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
                record = _read(fd)
                if os.fstat(fd).st_uid == os.geteuid() and f"question={record.get('question')}\n" in self._holder:
                    os.dup2(fd, self._fd, inheritable=False)
                    return True
            return False
        finally:
            os.close(fd)

    def tend(self) -> None:
        """Name one that lives, if the file names a server that has died while others share the lock. Housekeeping."""
        if not process_runs(_pid_in(_read(self._fd))):
            self._write()

    def write_holder(self, question: str) -> None:
        """Say in the lock file that this process, a server of `question`, holds it; "" if it no longer does."""
        self._holder = f"pid={os.getpid()}\nquestion={question}\n" if question else ""
        self._write()

    def add(self, what: str, name: str) -> None:
        """Note a kernel object before it is made. what: "key", "shm-key" or "sem-name"; name: without spaces."""
        self.objects.setdefault(what, set()).add(name)
        self._write()

    def remove(self, what: str, name: str) -> None:
        """Forget a kernel object that exists no more."""
        self.objects.get(what, set()).discard(name)
        self._write()

    def _write(self) -> None:
        lines = [f"{what}={' '.join(sorted(names))}\n" for what, names in self.objects.items() if names]
        text = (self._holder + "".join(lines)).encode()
        os.pwrite(self._fd, text, 0)  # first: killed in between, what matters is still there
        os.ftruncate(self._fd, len(text))

    def _who_holds(self, record: dict[str, str], pid: int) -> str:
        who = f"{record.get('question', '?')}, PID {pid}" if pid else "inconnu"
        if pid and not process_runs(pid):  # in another PID namespace; or dead, and its children stand still
            name = os.path.join(self._path, LOCK_NAME)
            return (
                f"un serveur d'un autre conteneur ({who}), ou des fils suspendus d'un serveur tué, y travaillent"
                f" encore ; « fuser -k {name} » arrête ceux d'ici"
            )
        return f"un serveur y travaille déjà ({who}) ; arrêtez-le, ou choisissez un autre --dir"

    def _hold(self) -> None:
        """Take the lock: for oneself, or with others, if they are there to stay. Raises BlockingIOError."""
        try:
            self._flock(self._fd, fcntl.LOCK_EX)
            self.alone = True
        except BlockingIOError:
            if not self._shared:
                raise
            self._flock(self._fd, fcntl.LOCK_SH)
            # Who only looks (server_of) has the lock for an instant, too; nobody does so at every try of ours.
            self._tries += 1
            if self._tries < SURE and not process_runs(_pid_in(_read(self._fd))):
                raise
            self.alone = False

    def _flock(self, fd: int, kind: int = fcntl.LOCK_EX) -> None:
        try:
            fcntl.flock(fd, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError as error:  # 9p, some cifs and FUSE: ENOSYS, ENOLCK, EOPNOTSUPP, EINVAL...
            if self._shared:
                raise cannot_be_shared(error) from error
            said = f"{LOCK_NAME} : pas de verrou sur ce système de fichiers ({reason(error)})"
            said += " : un serveur sur une autre machine, ou dans un autre conteneur, ne serait pas refusé"
            self.said = [said]
