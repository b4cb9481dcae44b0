"""What keeps two servers apart: the lock of a run directory, and claims on names that are not in it.

Both are locks that the kernel frees when the last process that holds them has died, however it died (defect 9).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
import struct
import time

from spectacles.common import log
from spectacles.common.errors import HeldError, SpectaclesError, reason

LOCK_NAME = "server.lock"
LOGS_NAME = "logs"
OBJECTS = ("key", "shm-key", "sem-name")  # kinds of kernel objects, called as on the command line
LOCK_TIMEOUT = 3.0  # seconds that the children of a server just killed get to die
CLAIM_PATIENCE = 0.3  # ...and a server that is just ending: its descriptors close one after the other
RETRY = 0.02  # seconds between two tries
ADDRESS_MAX = 108  # bytes, unix(7); a semaphore may have a longer name


def process_exists(pid: int) -> bool:
    """Say whether `pid` (above 0) is a process, of whatever user, kill(2) with signal 0."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True


def process_runs(pid: int) -> bool:
    """Say whether `pid` is a process that has not ended: a zombie only waits for its parent, proc(5)."""
    return process_state(pid) not in ("", "Z", "X")


def process_state(pid: int) -> str:
    """Return the letter for what the process does, "T" for standing still, "" if there is no such process, proc(5)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0].decode()
    except OSError:
        return ""


def claim(name: str) -> socket.socket:
    """Make `name` (a key, a port...) this server's own until it and its children have died, and return what holds it.

    An abstract UNIX socket, unix(7): the kernel frees the address with its last holder, children included, and knows
    who bound it. Names are per IPC namespace, as the objects they stand for. Raises HeldError, with the holder's PID.
    """
    holder = _bind(name)
    if holder is None:
        pid, user = _holder_of(name)
        who = f"le serveur de PID {pid}" if pid else "un autre serveur"
        who += f", d'un autre utilisateur ({user})" if pid and user != os.geteuid() else ""
        raise HeldError(f"{name} : déjà utilisé par {who} ; arrêtez-le, ou choisissez une autre valeur")
    return holder


def _address(name: str) -> bytes:
    namespace = os.readlink("/proc/self/ns/ipc")
    address = os.fsencode(f"\0spectacles/{namespace}/{name}")
    if len(address) > ADDRESS_MAX:
        import hashlib  # here: hardly any name is so long

        address = os.fsencode(f"\0spectacles/{namespace}/{hashlib.sha256(name.encode()).hexdigest()}")
    return address


def _bind(name: str) -> socket.socket | None:
    """Return a socket that holds `name`, None if another does."""
    holder = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        holder.bind(_address(name))
        holder.listen(128)
    except OSError as error:
        holder.close()
        if error.errno != errno.EADDRINUSE:
            raise
        return None
    return holder


def _holder_of(name: str) -> tuple[int, int]:
    """Return the PID and the user of the process that made the socket which holds `name`; (0, -1) if unknown."""
    asking = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    with asking, contextlib.suppress(OSError):
        asking.connect(_address(name))
        credentials = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        pid, user, _ = struct.unpack("3i", credentials)
        return pid, user
    return 0, -1


def server_of(path: str) -> dict[str, str]:
    """Return what a live server of ours has written about itself in the directory `path`: pid, question, key...

    {} if none holds its lock. Raises OSError: no such file, or no right to read it.
    """
    fd = os.open(os.path.join(path, LOCK_NAME), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return {}  # nobody's: a dead server's
    except BlockingIOError:
        return _record(fd)
    finally:
        os.close(fd)


def _record(fd: int) -> dict[str, str]:
    text = os.pread(fd, 65536, 0).decode("utf-8", "replace")
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


class RunDirectory:
    """The directory of one server: spectacles.dat, FIFOs, lock, logs. Every file in it is reached through `fd`.

    A context manager that holds server.lock, flock(2): children inherit it, so that the kernel frees it when the last
    process of the server has died, however it died. The file says who holds it, and which kernel objects servers of
    this directory have made; it goes when they have gone, so that `clean` finds them after any kill -9.

    A lock file can be removed, and some file systems know no flock: so the directory itself, by its inode, is claimed
    as well, in a place where nobody can remove anything.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.objects: dict[str, set[str]] = {}  # key, shm-key, sem-name -> names
        self.said: list[str] = []  # what should be logged: promises that this file system does not keep
        self._holder = ""
        self.fd = -1
        self._lock_fd = -1
        self._claim: socket.socket | None = None

    def __enter__(self) -> RunDirectory:
        """Create the directory (0700) if need be and lock it. Blocks, LOCK_TIMEOUT at most.

        Raises HeldError when a live server has it, SpectaclesError when it cannot be written to.
        """
        try:
            os.makedirs(self.path, 0o700, exist_ok=True)
            self.fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            self._lock()
            self._claim_inode()
        except OSError as error:
            self.close()
            error.filename = os.path.join(self.path, error.filename or "")
            raise SpectaclesError(reason(error)) from error
        except SpectaclesError:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._release_claim()  # first: who finds no lock file finds no claim either
        with contextlib.suppress(OSError):  # of a directory that can be read or written no more: no reason to fail now
            if any(self.objects.values()):
                self.write_holder("")
            elif self._is_in_place():
                os.unlink(LOCK_NAME, dir_fd=self.fd)  # while locked: nobody else can hold this very file
        self.close()

    def close(self) -> None:
        """Let go of the directory without removing the lock file."""
        self._release_claim()
        for fd in (self._lock_fd, self.fd):
            if fd >= 0:
                os.close(fd)
        self._lock_fd = self.fd = -1

    def _release_claim(self) -> None:
        if self._claim is not None:
            self._claim.close()
        self._claim = None

    def tend(self) -> None:
        """Put the lock file back if somebody has removed or replaced it. Housekeeping, main thread only.

        Raises SpectaclesError when the path no longer leads to this directory, and its clients find it no more.
        """
        with contextlib.suppress(OSError):
            if not self._is_in_place():
                self._write_anew()
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

    def _is_in_place(self) -> bool:
        try:
            status = os.stat(LOCK_NAME, dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return os.path.samestat(status, os.fstat(self._lock_fd))

    def _write_anew(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with contextlib.suppress(FileNotFoundError):
            status = os.stat(LOCK_NAME, dir_fd=self.fd, follow_symlinks=False)
            if not stat.S_ISREG(status.st_mode) or status.st_size:
                aside = f"{LOCK_NAME}.{time.time_ns()}"
                os.rename(LOCK_NAME, aside, src_dir_fd=self.fd, dst_dir_fd=self.fd)
                log.warning("[INFO] ce qui était à la place de %s s'appelle maintenant %s", LOCK_NAME, aside)
        fd = os.open(LOCK_NAME, flags, 0o600, dir_fd=self.fd)
        try:
            self._flock(fd)  # only the claim kept others out meanwhile, and somebody may just be finding that out
            os.dup2(fd, self._lock_fd, inheritable=False)
        finally:
            os.close(fd)
        self._write()
        log.error("[INFO] %s supprimé ou remplacé par un autre : remis en place", LOCK_NAME)

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
        os.pwrite(self._lock_fd, text, 0)  # first: killed in between, what matters is still there
        os.ftruncate(self._lock_fd, len(text))

    def open_logs(self) -> int:
        """Create DIR/logs (0700) if need be and return a descriptor of it. Raises OSError, also on a symbolic link."""
        with contextlib.suppress(FileExistsError):
            os.mkdir(LOGS_NAME, 0o700, dir_fd=self.fd)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(LOGS_NAME, flags, dir_fd=self.fd)

    def _lock(self) -> None:
        deadline = time.monotonic() + LOCK_TIMEOUT
        while True:
            self._lock_fd = os.open(
                LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600, dir_fd=self.fd
            )
            status = os.fstat(self._lock_fd)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, "ce n'est pas un fichier ordinaire", os.path.join(self.path, LOCK_NAME))
            if status.st_uid != os.geteuid():
                raise OSError(errno.EPERM, "à un autre utilisateur", os.path.join(self.path, LOCK_NAME))
            try:
                self._flock(self._lock_fd)
                # The last holder may have removed the file between our open and our lock.
                if os.path.samestat(os.fstat(self._lock_fd), os.stat(LOCK_NAME, dir_fd=self.fd)):
                    # At spaces only: a no-break space may be part of a name.
                    self.objects = {
                        what: set(names.split(" ")) - {""}
                        for what, names in _record(self._lock_fd).items()
                        if what in OBJECTS
                    }
                    return
            except BlockingIOError:
                record = _record(self._lock_fd)
                pid = int(number) if (number := record.get("pid", "")).isdecimal() else 0
                # The children of a server killed a moment ago are dying too: wait for them.
                if time.monotonic() > deadline or (pid and process_runs(pid)):
                    raise HeldError(f"{self.path} : {self._who_holds(record, pid)}") from None
            except FileNotFoundError:
                pass
            os.close(self._lock_fd)
            self._lock_fd = -1
            time.sleep(RETRY)

    def _who_holds(self, record: dict[str, str], pid: int) -> str:
        who = f"{record.get('question', '?')}, PID {pid}" if pid else "inconnu"
        if pid and not process_runs(pid):  # in another PID namespace; or dead, and its children stand still
            name = os.path.join(self.path, LOCK_NAME)
            return (
                f"un serveur d'un autre conteneur ({who}), ou des fils suspendus d'un serveur tué, y travaillent"
                f" encore ; « fuser -k {name} » arrête ceux d'ici"
            )
        return f"un serveur y travaille déjà ({who}) ; arrêtez-le, ou choisissez un autre --dir"

    def _flock(self, fd: int) -> None:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError as error:  # 9p, some cifs and FUSE: ENOSYS, ENOLCK, EOPNOTSUPP, EINVAL...
            said = f"{LOCK_NAME} : pas de verrou sur ce système de fichiers ({reason(error)})"
            said += " : un serveur sur une autre machine, ou dans un autre conteneur, ne serait pas refusé"
            self.said = [said]

    def _claim_inode(self) -> None:
        status = os.fstat(self.fd)
        name = f"répertoire {status.st_dev:x}:{status.st_ino:x}"
        deadline = time.monotonic() + LOCK_TIMEOUT
        patience = time.monotonic() + CLAIM_PATIENCE
        while (holder := _bind(name)) is None:
            pid, user = _holder_of(name)
            if pid and user not in (0, os.geteuid()):
                self.said.append(f"{name} : retenu par le processus {pid} d'un autre utilisateur, sans droit")
                return
            if time.monotonic() > (patience if pid and process_runs(pid) else deadline):
                raise HeldError(
                    f"{self.path} : un serveur y travaille déjà (PID {pid or 'inconnu'}, sans son {LOCK_NAME}) ;"
                    " arrêtez-le, ou choisissez un autre --dir"
                )
            time.sleep(RETRY)
        self._claim = holder
