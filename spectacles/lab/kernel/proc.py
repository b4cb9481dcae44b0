"""/proc, read without fear: whatever is looked at may vanish at any moment, or be none of our business, proc(5)."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import struct
import time
from typing import NamedTuple

KERNEL_THREAD = 0x00200000  # PF_KTHREAD in the flags of /proc/PID/stat
DELETED = " (deleted)"
MAPS_KEPT = 1.0  # seconds
TICKS = os.sysconf("SC_CLK_TCK")


class RefusedError(Exception):
    """The kernel does not let us see; the message says what would."""


def read(path: str, size: int = 65536) -> bytes:
    """Return up to `size` bytes of a file of /proc, in as many reads as it takes. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.read(fd, size)
        if len(data) < 1024:  # files made of lines come in pages
            return data
        parts = [data]
        while data and (size := size - len(data)) > 0:
            data = os.read(fd, size)
            parts.append(data)
        return b"".join(parts)
    finally:
        os.close(fd)


def why(error: OSError) -> str:
    """Return why the kernel refused, and what would help, in one French line."""
    if error.errno in (errno.EACCES, errno.EPERM):
        scope = ""
        with contextlib.suppress(OSError):
            scope = read("/proc/sys/kernel/yama/ptrace_scope").decode().strip()
        if scope not in ("", "0"):
            return (
                f"droits de débogage refusés (Yama, ptrace_scope {scope} : lancez le programme depuis watch, ou sudo)"
            )
        return "processus d'un autre utilisateur, ou protégé"
    return os.strerror(error.errno or 0)


class Stat(NamedTuple):
    """/proc/PID/stat. processor: seconds. started: ticks since boot."""

    name: str
    state: str
    parent: int
    group: int
    session: int
    flags: int
    processor: float
    started: int


def stat_of(path: str) -> Stat:
    """Return what `path`/stat says. path: "/proc/PID" or "/proc/PID/task/TID". Raises OSError when it has gone."""
    data = read(f"{path}/stat", 4096)
    end = data.rfind(b")")
    word = data[end + 2 :].split()
    if len(word) < 20:
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
    return Stat(
        data[data.find(b"(") + 1 : end].decode("utf-8", "replace"),
        word[0].decode(),
        int(word[1]),
        int(word[2]),
        int(word[3]),
        int(word[6]),
        (int(word[11]) + int(word[12])) / TICKS,
        int(word[19]),
    )


def alive(pid: int) -> bool:
    """Say whether `pid` is a process that has not ended; a zombie has."""
    if pid <= 0:
        return False
    try:
        return stat_of(f"/proc/{pid}").state not in "ZX"
    except OSError:
        return False


def pids() -> list[int]:
    """Return the PIDs of all processes that this user may see."""
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


class Mapping(NamedTuple):
    """A line of /proc/PID/maps. device, inode: of the file, (0, 0) for none. shared: MAP_SHARED."""

    start: int
    end: int
    writable: bool
    shared: bool
    offset: int
    device: int
    inode: int
    path: str


class Descriptor(NamedTuple):
    """An open descriptor of a process. id: of what it leads to, as in the model. path: of a file, None without one.

    kind: "fifo", "pipe", "socket", "file", "terminal", "device", "mq", "eventfd", "epoll", "other".
    """

    fd: int
    id: str
    kind: str
    path: str | None
    readable: bool
    writable: bool


def device_and_inode(status: os.stat_result) -> str:
    """Return what identifies a file, as part of an id."""
    return f"{status.st_dev:x}:{status.st_ino}"


class Peephole:
    """One process, looked into from outside: its memory map, its memory, its descriptors. Each is read when first
    asked for and kept until forget(); a process that has not run since cannot have changed them. The map, which is
    long and seldom changes, is kept for MAPS_KEPT seconds even so, unless something is not found in it.

    refused: why something could not be seen, None if all could.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.refused: str | None = None
        self._maps: list[Mapping] | None = None
        self._maps_read = float("-inf")
        self._stale = False
        self._descriptors: dict[int, Descriptor] | None = None
        self._kinds: dict[str, tuple[str, str, str | None]] = {}  # link -> id, kind, path
        self._bits: int | None = None
        self._memory_fd = -1

    def forget(self) -> None:
        """Read everything anew when next asked."""
        self._descriptors = None
        self._stale = True
        if time.monotonic() - self._maps_read > MAPS_KEPT:
            self._maps = None
        self._kinds.clear()
        self.close()  # after execve(2) it would be the memory of the program before

    def close(self) -> None:
        """Close the descriptor of the memory."""
        if self._memory_fd >= 0:
            os.close(self._memory_fd)
            self._memory_fd = -1

    def maps(self) -> list[Mapping]:
        """Return the mappings, [] if they cannot be seen."""
        if self._maps is None:
            self._maps = []
            self._maps_read, self._stale = time.monotonic(), False
            try:
                data = read(f"/proc/{self.pid}/maps", 1 << 22)
            except OSError as error:
                self._note(error)
                return self._maps
            for line in data.splitlines():
                word = line.split(None, 5)
                start, _, end = word[0].partition(b"-")
                major, _, minor = word[3].partition(b":")
                self._maps.append(
                    Mapping(
                        int(start, 16),
                        int(end, 16),
                        word[1][1] == 119,
                        word[1][3] == 115,
                        int(word[2], 16),
                        os.makedev(int(major, 16), int(minor, 16)),
                        int(word[4]),
                        os.fsdecode(word[5]) if len(word) > 5 else "",
                    )
                )
        return self._maps

    def mapping(self, address: int) -> Mapping | None:
        """Return the mapping that `address` lies in."""
        while True:
            for mapping in self.maps():
                if mapping.start <= address < mapping.end:
                    return mapping
            if not self._stale:
                return None
            self._maps = None

    def memory(self, address: int, size: int) -> bytes:
        """Return `size` bytes at `address`, b"" if they are not there or not for us to see.

        /proc/PID/mem and not process_vm_readv(2): it also reads pages that the process has closed to itself.
        """
        try:
            if self._memory_fd < 0:
                self._memory_fd = os.open(f"/proc/{self.pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
            return os.pread(self._memory_fd, size, address)
        except OSError as error:
            if error.errno not in (errno.EIO, errno.EFAULT, errno.ESRCH):
                self._note(error)
        except (OverflowError, ValueError):
            pass
        return b""

    def text(self, address: int, size: int = 4096) -> str:
        """Return the C string at `address`, "" if it cannot be read."""
        page = 4096 - address % 4096  # the next page may not exist
        data = self.memory(address, min(size, page))
        if data and b"\0" not in data and page < size:
            data += self.memory(address + page, size - page)
        return os.fsdecode(data.split(b"\0", 1)[0])

    def words(self, address: int, format_: str) -> tuple[int, ...]:
        """Return what lies at `address` in the format of struct(3), () if it cannot be read."""
        data = self.memory(address, struct.calcsize(format_))
        try:
            return struct.unpack(format_, data)
        except struct.error:
            return ()

    def descriptors(self) -> dict[int, Descriptor]:
        """Return the open descriptors, {} if they cannot be seen."""
        if self._descriptors is None:
            self._descriptors = {}
            directory = f"/proc/{self.pid}/fd"
            try:
                names = os.listdir(directory)
            except OSError as error:
                self._note(error)
                return self._descriptors
            for name in names:
                with contextlib.suppress(OSError):
                    path = f"{directory}/{name}"
                    link = os.readlink(path)
                    mode = os.lstat(path).st_mode  # its rights say how it is open
                    known = self._kinds.get(link)
                    if known is None:
                        known = self._kinds[link] = self._kind(link, path)
                    self._descriptors[int(name)] = Descriptor(
                        int(name), *known, bool(mode & stat.S_IRUSR), bool(mode & stat.S_IWUSR)
                    )
        return self._descriptors

    def links(self) -> list[str]:
        """Return what the descriptors lead to, as readlink(2) tells it, read anew. [] if they cannot be seen."""
        found = []
        with contextlib.suppress(OSError):
            for name in os.listdir(f"/proc/{self.pid}/fd"):
                with contextlib.suppress(OSError):
                    found.append(os.readlink(f"/proc/{self.pid}/fd/{name}"))
        return found

    def _kind(self, link: str, path: str) -> tuple[str, str, str | None]:
        if link.startswith("socket:["):
            return f"socket:{link[8:-1]}", "socket", None
        if link.startswith("pipe:["):
            return f"pipe:{link[6:-1]}", "pipe", None
        if link.startswith("anon_inode:"):
            kind = {"[eventfd]": "eventfd", "[eventpoll]": "epoll"}.get(link[11:], "other")
            return f"{kind}:{self.pid}", kind, link[11:]
        status = os.stat(path)  # of what it leads to, which is not opened by this
        if stat.S_ISFIFO(status.st_mode):
            return f"fifo:{device_and_inode(status)}", "fifo", link
        if stat.S_ISCHR(status.st_mode):
            terminal = link.startswith(("/dev/pts/", "/dev/tty", "/dev/console"))
            return f"device:{link}", "terminal" if terminal else "device", link
        if link.startswith("/memfd:"):
            return f"file:{device_and_inode(status)}", "other", link
        if stat.S_ISREG(status.st_mode) and link.count("/") == 1 and not os.path.lexists(link.removesuffix(DELETED)):
            # Where mqueue is not mounted, its files have their bare name for a path.
            return f"mq:{link}", "mq", link
        if stat.S_ISREG(status.st_mode) and link.startswith("/dev/mqueue/"):
            return f"mq:{link[11:]}", "mq", link
        if stat.S_ISREG(status.st_mode):
            return f"file:{device_and_inode(status)}", "file", link
        return f"other:{link}", "other", link

    def bits(self) -> int:
        """Return 32 or 64, of the program that it runs: the numbers of system calls differ."""
        if self._bits is None:
            self._bits = 64
            with contextlib.suppress(OSError):
                self._bits = 32 if read(f"/proc/{self.pid}/exe", 5)[4:5] == b"\x01" else 64
        return self._bits

    def _note(self, error: OSError) -> None:
        if error.errno not in (errno.ENOENT, errno.ESRCH):
            self.refused = why(error)
