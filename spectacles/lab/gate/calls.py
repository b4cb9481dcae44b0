"""System calls by number and by name, on x86-64 and aarch64, and what each acts on.

Several numbers share a name where a person makes no difference ("openat" and "open" are "open", "clone" is "fork" or
"thread"). An object's name is the same in every run, wherever that can be had:

    queue 0x0000002a          a System V queue, by key; likewise semaphores, memory; "private queue #1" without a key
    semaphore /guichet        a POSIX semaphore; memory /guichet, POSIX queue /guichet
    tub1_view                 a file or a FIFO, relative to the program's folder; an absolute path elsewhere
    pipe #1, socket #1        numbered in the order in which the gate meets them
    port 8080                 a listening socket
    connection 8080 #1        a TCP connection to that port, the same name at both ends
    terminal
    lock serveur+0x4060       a lock in a program's own memory: file and offset; heap+0x2a0, memory 0x0000002b+0x10
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import socket
import stat
import struct
from typing import TYPE_CHECKING, Any

from spectacles.lab.gate import events
from spectacles.lab.programs import kernel

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SHOWN = 1024  # bytes of a message or of a write that an event carries

# fmt: off
_NUMBERS = {  # number on x86-64, on aarch64 (-1: it has none), name
    "read": (0, 63, "read"), "write": (1, 64, "write"), "pread64": (17, 67, "read"), "pwrite64": (18, 68, "write"),
    "readv": (19, 65, "read"), "writev": (20, 66, "write"),
    "open": (2, -1, "open"), "openat": (257, 56, "open"), "creat": (85, -1, "open"),
    "mknod": (133, -1, "mkfifo"), "mknodat": (259, 33, "mkfifo"),
    "unlink": (87, -1, "unlink"), "unlinkat": (263, 35, "unlink"),
    "rename": (82, -1, "rename"), "renameat": (264, 38, "rename"), "renameat2": (316, 276, "rename"),
    "ftruncate": (77, 46, "ftruncate"), "fsync": (74, 82, "fsync"), "fdatasync": (75, 83, "fsync"),
    "flock": (73, 32, "flock"), "fcntl": (72, 25, "fcntl"),
    "pipe": (22, -1, "pipe"), "pipe2": (293, 59, "pipe"),
    "poll": (7, -1, "poll"), "ppoll": (271, 73, "poll"), "select": (23, -1, "poll"), "pselect6": (270, 72, "poll"),
    "epoll_wait": (232, -1, "poll"), "epoll_pwait": (281, 22, "poll"),
    "msgget": (68, 186, "msgget"), "msgsnd": (69, 189, "msgsnd"), "msgrcv": (70, 188, "msgrcv"),
    "msgctl": (71, 187, "msgctl"),
    "semget": (64, 190, "semget"), "semop": (65, 193, "semop"), "semtimedop": (220, 192, "semop"),
    "semctl": (66, 191, "semctl"),
    "shmget": (29, 194, "shmget"), "shmat": (30, 196, "shmat"), "shmdt": (67, 197, "shmdt"),
    "shmctl": (31, 195, "shmctl"),
    "mq_open": (240, 180, "mq_open"), "mq_timedsend": (242, 182, "mq_send"),
    "mq_timedreceive": (243, 183, "mq_receive"),
    "mq_unlink": (241, 181, "mq_unlink"),
    "socket": (41, 198, "socket"), "bind": (49, 200, "bind"), "listen": (50, 201, "listen"),
    "connect": (42, 203, "connect"), "accept": (43, 202, "accept"), "accept4": (288, 242, "accept"),
    "shutdown": (48, 210, "shutdown"),
    "sendto": (44, 206, "send"), "sendmsg": (46, 211, "send"),
    "recvfrom": (45, 207, "recv"), "recvmsg": (47, 212, "recv"),
    "kill": (62, 129, "kill"), "tkill": (200, 130, "kill"), "tgkill": (234, 131, "kill"),
    "clone": (56, 220, "fork"), "clone3": (435, 435, "fork"), "fork": (57, -1, "fork"), "vfork": (58, -1, "fork"),
    "execve": (59, 221, "exec"), "execveat": (322, 281, "exec"),
    "wait4": (61, 260, "wait"), "waitid": (247, 95, "wait"),
    "exit": (60, 93, "exit"), "exit_group": (231, 94, "exit"),
    "nanosleep": (35, 101, "sleep"), "clock_nanosleep": (230, 115, "sleep"), "pause": (34, -1, "pause"),
    "rt_sigsuspend": (130, 133, "pause"),
}
_ON_REQUEST = {  # held only where they are asked for by name
    "close": (3, 57, "close"),  # frequent, and of interest only where nothing else tells of an end
    # The first call of a thread of glibc, before its function. The mark of that name says which function, but takes a
    # compiler; this one comes of a child of fork(2), too, and not with musl: neither does for the other.
    "set_robust_list": (273, 99, "begins"),
}
_ONLY_KNOWN = {  # never held, but a task may be asleep in them
    "futex": (202, 98, "futex"), "restart_syscall": (219, 128, "restart"), "rt_sigtimedwait": (128, 137, "sigwait"),
    "futex_waitv": (449, 449, "futex"), "epoll_pwait2": (441, 441, "poll"),
}
# fmt: on
_COLUMN = 1 if os.uname().machine == "aarch64" else 0
MARK_NUMBER = (110, 173)[_COLUMN]  # getppid

REAL = {(numbers[0], numbers[1])[_COLUMN]: real for real, numbers in (_NUMBERS | _ON_REQUEST).items()}  # by number
REAL.pop(-1, None)
_BY_NUMBER = {
    (row[0], row[1])[_COLUMN]: row[2] for row in (*_NUMBERS.values(), *_ON_REQUEST.values(), *_ONLY_KNOWN.values())
}
NAMES = tuple(dict.fromkeys(numbers[2] for numbers in _NUMBERS.values()))  # of all calls that are held by default
MORE = tuple(numbers[2] for numbers in _ON_REQUEST.values())  # and of those that can be

# In which a task may sleep until somebody else does something.
# fmt: off
BLOCKING = frozenset((
    "read", "write", "open", "flock", "fcntl", "poll", "msgsnd", "msgrcv", "semop", "mq_send", "mq_receive", "connect",
    "accept", "send", "recv", "wait", "sleep", "pause", "futex", "restart", "sigwait",
))
# fmt: on

_MARKS = {
    1: "reads",
    2: "writes",
    3: events.WANTS,
    4: events.BUSY,
    5: events.HAS,
    6: events.LACKS,
    7: events.RELEASES,
    8: events.WAITS,
    9: events.WAKES,
    10: "result",
    11: "names",
    12: events.BEGINS,
}


def name(number: int) -> str:
    """Return the name of a call, "" for one that is not known here."""
    return _BY_NUMBER.get(number, "")


def mark_name(number: int) -> str:
    """Return what a mark of marks.c says."""
    return _MARKS.get(number, "")


def numbers_of(names: Sequence[str]) -> set[int]:
    """Return all numbers of the calls called so. Raises ValueError, which names one that is not known."""
    for wanted in names:
        if wanted not in (*NAMES, *MORE):
            raise ValueError(f"appel inconnu : {wanted} (connus : {' '.join(NAMES)})")
    return {number for number in REAL if _BY_NUMBER[number] in names}


# What a held task has in its memory and its descriptors


class Caller:
    """A task that is held, or asleep: what it can be asked without disturbing it."""

    def __init__(self, tid: int) -> None:
        self.tid = tid

    def memory(self, address: int, size: int) -> bytes:
        """Return bytes of its memory, fewer than asked for where it has no more, b"" where it has none."""
        if not address or size <= 0:
            return b""
        try:
            file = os.open(f"/proc/{self.tid}/mem", os.O_RDONLY)
        except OSError:
            return b""
        try:
            return os.pread(file, size, address)
        except (OSError, OverflowError):
            return b""
        finally:
            os.close(file)

    def string(self, address: int) -> str:
        """Return a C string of at most a page."""
        data = self.memory(address, 4096 - address % 4096)
        if b"\0" not in data:
            data += self.memory(address + len(data), 4096)
        return data.partition(b"\0")[0].decode("utf-8", "surrogateescape")

    def link(self, what: str) -> str:
        """Return what a link in its /proc directory says, "" without one."""
        try:
            return os.readlink(f"/proc/{self.tid}/{what}")
        except OSError:
            return ""

    def is_fifo(self, number: int) -> bool:
        """Say whether a descriptor stands for a pipe or a FIFO."""
        try:
            return stat.S_ISFIFO(os.stat(f"/proc/{self.tid}/fd/{number & 0xFFFF_FFFF}").st_mode)
        except OSError:
            return False

    def maps(self) -> list[tuple[int, int, int, int, str]]:
        """Return its mappings: start, end, offset in the file, inode, name."""
        found = []
        with contextlib.suppress(OSError), open(f"/proc/{self.tid}/maps") as file:
            for line in file:
                fields = line.split(None, 5)
                start, _, end = fields[0].partition("-")
                path = fields[5].rstrip("\n") if len(fields) > 5 else ""
                found.append((int(start, 16), int(end, 16), int(fields[2], 16), int(fields[4]), path))
        return found


class Names:
    """Names of objects that are the same in every run: one for each gate."""

    def __init__(self, folder: str, keys: Callable[[], dict[tuple[str, int], int]]) -> None:
        """Folder: as the programs see it. keys: returns (kind, id) -> key of the System V objects there are."""
        self.unseen: list[str] = []  # beginnings of paths that nobody cares about: our own, those of an interpreter
        self._folder = folder.rstrip("/") + "/"
        self._ask_keys = keys
        self._keys: dict[tuple[str, int], int] = {}
        self._met: dict[str, dict[Any, int]] = {}
        self._ports: dict[int, tuple[str, str]] = {}  # inode of a socket -> its name, once it has one that stays; end
        self._by_inode: dict[int, str] = {}
        self._temporary: set[str] = set()
        self._places: dict[tuple[int, int], str] = {}
        self._maps: dict[int, list[tuple[int, int, int, int, str]]] = {}

    def _number(self, kind: str, what: Any) -> int:
        met = self._met.setdefault(kind, {})
        return met.setdefault(what, len(met) + 1)

    def system_v(self, kind: str, number: int) -> str:
        """Return the name of a queue, of memory, of semaphores by its id."""
        if (kind, number) not in self._keys:
            self._keys.update(
                {(said.removeprefix("shared "), found): key for (said, found), key in self._ask_keys().items()}
            )
        key = self._keys.setdefault((kind, number), 0)
        if key:
            return f"{kind} {key:#010x}"
        return f"private {kind} #{self._number(kind, number)}"

    def forget(self, kind: str, number: int) -> None:
        """The object was removed, or is about to be made."""
        self._keys.pop((kind, number), None)

    def path(self, path: str) -> str:
        """Return the name of a file."""
        if path in self._temporary:
            return "new semaphore"
        if path.startswith("/dev/shm/sem."):
            return f"semaphore /{path[13:]}"
        if path.startswith("/dev/shm/"):
            return f"memory {path[8:]}"
        if path.startswith(("/dev/pts/", "/dev/tty")):
            return "terminal"
        return os.path.normpath(path).removeprefix(self._folder)

    def at(self, caller: Caller, directory: int, address: int, flags: int = 0) -> str:
        """Return the name of the file that a path in memory means, relative to a directory's descriptor or AT_FDCWD."""
        path = caller.string(address)
        if path.startswith("/dev/shm/sem.") and flags & os.O_EXCL:
            self._temporary.add(path)  # the C library makes a semaphore under a name of chance, then links it
        if not path.startswith("/"):
            directory &= 0xFFFF_FFFF
            start = caller.link("cwd" if directory == 0xFFFF_FF9C else f"fd/{directory}")
            path = f"{start}/{path}"
        return self.path(path)

    def descriptor(self, caller: Caller, number: int) -> str:
        """Return the name of what a descriptor stands for."""
        number &= 0xFFFF_FFFF
        link = caller.link(f"fd/{number}")
        found = _NUMBERED.fullmatch(link)
        if found and found[1] == "pipe":
            return f"pipe #{self._number('pipe', found[2])}"
        if found:
            return self._socket(caller, int(found[2]))
        if link.startswith("anon_inode:"):
            return link[11:].strip("[]")
        if link.startswith("/memfd:"):
            return f"memfd {link[7:].removesuffix(' (deleted)')}"
        return self.path(link) if link else f"descriptor {number}"

    def end(self, caller: Caller, number: int) -> str:
        """Return which end of a TCP connection a descriptor is: "server", "client"; "" of anything else.

        Ask after its name.
        """
        found = _NUMBERED.fullmatch(caller.link(f"fd/{number & 0xFFFF_FFFF}"))
        return self._ports.get(int(found[2]), ("", ""))[1] if found and found[1] == "socket" else ""

    def _socket(self, caller: Caller, inode: int) -> str:
        known = self._ports.get(inode)
        if known:
            return known[0]
        for family in ("tcp", "tcp6"):
            with contextlib.suppress(OSError), open(f"/proc/{caller.tid}/net/{family}") as table:
                next(table, "")
                rows = [line.split() for line in table]
                listening = {_port(row[1]) for row in rows if row[3] == "0A"}
                for row in rows:
                    if int(row[9]) != inode:
                        continue
                    local, remote = _port(row[1]), _port(row[2])
                    end = ""
                    if row[3] == "0A":
                        said = f"port {local}"
                    else:
                        end = "server" if local in listening else "client"
                        port = local if local in listening else remote
                        pair = frozenset(((row[1][-4:]), row[2][-4:]))
                        said = f"connection {port} #{self._number(f'connection {port}', pair)}"
                    self._ports[inode] = (said, end)
                    return said
        return f"socket #{self._number('socket', inode)}"

    def name_memory(self, caller: Caller, address: int, said: str) -> None:
        """What lies at `address` is called so, in every process that has it in its memory."""
        for start, end, _, inode, _ in caller.maps():
            if start <= address < end and inode:
                self._by_inode[inode] = said

    def place(self, caller: Caller, address: int) -> str:
        """Return the name of an address: what is mapped there, and how far into it."""
        if (caller.tid, address) not in self._places:
            if len(self._places) > 100_000:
                self._places.clear()
            self._places[caller.tid, address] = self._find(caller, address)
        return self._places[caller.tid, address]

    @property
    def has_connections(self) -> bool:
        """Whether a TCP connection was ever met."""
        return bool(self._ports)

    def forget_places(self, tid: int) -> None:
        """What a task has in its memory changes, or has another name."""
        self._maps.pop(tid, None)
        for known in [known for known in self._places if known[0] == tid]:
            del self._places[known]

    def _mapped(self, caller: Caller, address: int) -> list[tuple[int, int, int, int, str]]:
        """Return the mappings of a task: as they were, if `address` was mapped then."""
        maps = self._maps.get(caller.tid)
        if maps is None or not any(row[0] <= address < row[1] for row in maps):
            maps = self._maps[caller.tid] = caller.maps()
        return maps

    def _find(self, caller: Caller, address: int) -> str:
        base = 0
        module = ""
        last_end = 0
        anonymous = 0
        for start, end, offset, inode, path in self._mapped(caller, address):
            if path.startswith("/") and inode and path != module:
                module, base = path, start - offset
            elif not path and start != last_end:
                anonymous += 1
                module = ""
            if not start <= address < end:
                last_end = end
                continue
            inside = address - start + offset
            if inode in self._by_inode:
                return self._by_inode[inode]
            if path.startswith("/SYSV"):
                return f"{self.system_v('memory', inode)}+{inside:#x}"
            if path.startswith("/dev/zero"):
                return f"shared memory #{self._number('zero', inode)}+{inside:#x}"
            if path.startswith("/dev/shm/sem."):
                return self.path(path)
            if path.startswith("/dev/shm/"):
                return f"{self.path(path)}+{inside:#x}"
            if path in ("[heap]", "[stack]"):
                return f"{path[1:-1]}+{address - start:#x}"
            if module:  # the file, or the zeros that follow it
                return f"{os.path.basename(module)}+{address - base:#x}"
            return f"anonymous #{anonymous}+{address - start:#x}"
        return f"{address:#x}"


_NUMBERED = re.compile(r"(pipe|socket):\[(\d+)\]")


def _port(text: str) -> int:
    return int(text.rpartition(":")[2], 16)


_BEGINNING = ("02", "03")  # SYN_SENT, SYN_RECV: the kernel of this host answers by itself
_ENDING = ("04", "09", "0B")  # FIN_WAIT1, LAST_ACK, CLOSING: one sequence number, of the end itself, not acknowledged


def in_flight(table: str) -> bool:
    """Say whether a table of /proc/net/tcp has bytes that were sent on one end of a connection of this host and that
    have neither been taken in nor acknowledged by the other: under load the kernel may deliver them a moment later."""
    rows = [line.split() for line in table.splitlines()[1:]]
    for row in rows:  # its beginning, and its end
        if len(row) > 4 and (row[3] in _BEGINNING or (row[3] in _ENDING and int(row[4].partition(":")[0], 16) == 1)):
            return True
    established = {(row[1], row[2]): row[4].partition(":") for row in rows if len(row) > 4 and row[3] == "01"}
    for (local, remote), (sent, _, _) in established.items():
        peer = established.get((remote, local))
        if peer is not None and int(sent, 16) and not int(peer[2], 16):
            return True
    return False


# Decoding: (caller, names, arguments) -> object, arguments of the event; None: of no interest, let it happen

Decoded = tuple[str, dict[str, Any]]
_IPC_NOWAIT, _IPC_CREAT, _IPC_EXCL = 0o4000, 0o1000, 0o2000
_HOW_TO_TAKE = {_IPC_NOWAIT: "IPC_NOWAIT", 0o10000: "MSG_NOERROR", 0o20000: "MSG_EXCEPT", 0o40000: "MSG_COPY"}
_MSG_PEEK = 2
_PARENT_SETTID = 0x10_0000
_KIND = {"msg": "queue", "sem": "semaphores", "shm": "memory"}
_OUTSIDE = (
    "/usr/",
    "/lib",
    "/etc/",
    "/proc",
    "/sys/",
    "/opt/",
    "/bin/",
    "/sbin/",
    "/dev/",
    "/var/",
    "/root/",
    "/home/",
)
_OPEN_FLAGS = {
    os.O_CREAT: "O_CREAT",
    os.O_EXCL: "O_EXCL",
    os.O_TRUNC: "O_TRUNC",
    os.O_APPEND: "O_APPEND",
    os.O_NONBLOCK: "O_NONBLOCK",
}


def _flags(value: int, known: dict[int, str]) -> str:
    return " ".join(text for bit, text in known.items() if value & bit)


def _signed(value: int, bits: int = 32) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def decode(real: str, caller: Caller, names: Names, args: Sequence[int]) -> tuple[str, Decoded | None]:
    """Return the name of a held call, and its object and arguments; None for one that nobody cares about."""
    said = (_NUMBERS | _ON_REQUEST)[real][2]
    if real in ("clone", "clone3", "fork", "vfork"):
        return _decode_fork(real, caller, args)
    decoder = _DECODERS.get(said)
    if decoder is None:
        return said, ("", {})
    decoded = decoder(real, caller, names, args)
    if decoded is not None and said != "exec" and decoded[0].startswith((*_OUTSIDE, *names.unseen)):
        return said, None
    return said, decoded


def _decode_fork(real: str, caller: Caller, args: Sequence[int]) -> tuple[str, Decoded]:
    flags = 0
    if real == "clone":
        flags = args[0]
    elif real == "clone3":
        data = caller.memory(args[0], 8)
        flags = struct.unpack("Q", data)[0] if len(data) == 8 else 0
    waits = {"waits": True} if real == "vfork" or flags & 0x4000 else {}  # until the child has become something else
    return ("thread" if flags & 0x1_0000 else "fork"), ("", waits)


def told_of_thread(real: str, caller: Caller, args: Sequence[int]) -> int:
    """Return where the kernel will write the ID of the thread that a held call makes, as its world calls it.

    An address in the memory of the caller, 0 for nowhere. It is there before the thread runs.
    """
    if real == "clone":
        flags, told = args[0], args[2]
    else:
        data = caller.memory(args[0], 32) if real == "clone3" else b""
        flags, _, _, told = struct.unpack("4Q", data) if len(data) == 32 else (0, 0, 0, 0)
    return told if flags & _PARENT_SETTID else 0


def _transfer(real: str, caller: Caller, names: Names, args: Sequence[int]) -> Decoded | None:
    found: dict[str, Any] = {"size": args[2]}
    if real.startswith(("w", "pw")):
        if real == "writev":
            found["data"], found["size"] = _gather(caller, args[1], args[2])
        else:
            found["data"] = caller.memory(args[1], min(args[2], SHOWN))
    if real in ("pread64", "pwrite64"):
        found["at"] = args[3]
    return _channel(caller, names, args[0], found), found


def _channel(caller: Caller, names: Names, number: int, found: dict[str, Any]) -> str:
    """Return the name of what bytes go through, and note what it does not say: a FIFO, an end of a connection."""
    said = names.descriptor(caller, number)
    if said.startswith("connection "):
        found["end"] = names.end(caller, number)
    elif not said.startswith(("pipe ", "socket ", "terminal")) and caller.is_fifo(number):
        found["fifo"] = True
    return said


def _gather(caller: Caller, address: int, count: int) -> tuple[bytes, int]:
    """Return the first bytes and the size of all that an array of struct iovec points to."""
    data = b""
    size = 0
    raw = caller.memory(address, 16 * min(count, 64))
    for start, length in struct.iter_unpack("QQ", raw[: len(raw) - len(raw) % 16]):
        size += length
        if len(data) < SHOWN:
            data += caller.memory(start, min(length, SHOWN - len(data)))
    return data, size


def _open(real: str, caller: Caller, names: Names, args: Sequence[int]) -> Decoded | None:
    if real == "openat":
        flags = args[2]
        path = names.at(caller, args[0], args[1], flags)
    else:
        flags = args[1] if real == "open" else os.O_CREAT | os.O_TRUNC | os.O_WRONLY
        path = names.at(caller, 0xFFFF_FF9C, args[0], flags)
    how = ("O_RDONLY", "O_WRONLY", "O_RDWR", "")[flags & 3]
    return path, {"flags": f"{how} {_flags(flags, _OPEN_FLAGS)}".strip()}


def _path(real: str, caller: Caller, names: Names, args: Sequence[int]) -> Decoded | None:
    at = real in ("mknodat", "unlinkat", "renameat", "renameat2")
    found: dict[str, Any] = {}
    path = names.at(caller, args[0], args[1]) if at else names.at(caller, 0xFFFF_FF9C, args[0])
    if real.startswith("mknod") and not stat.S_ISFIFO(args[2 if at else 1]):
        return None
    if real.startswith("rename"):
        found["to"] = names.at(caller, args[2], args[3]) if at else names.at(caller, 0xFFFF_FF9C, args[1])
    return path, found


def _exec(real: str, caller: Caller, names: Names, args: Sequence[int]) -> Decoded | None:
    return names.at(caller, args[0], args[1]) if real == "execveat" else names.at(caller, 0xFFFF_FF9C, args[0]), {}


def _descriptor(real: str, caller: Caller, names: Names, args: Sequence[int]) -> Decoded | None:
    found: dict[str, Any] = {}
    if real == "ftruncate":
        found["size"] = args[1]
    if real == "flock":
        found["how"] = _flags(args[1], {1: "LOCK_SH", 2: "LOCK_EX", 8: "LOCK_UN", 4: "LOCK_NB"})
    if real == "fcntl":
        how = {6: "F_SETLK", 7: "F_SETLKW", 37: "F_OFD_SETLK", 38: "F_OFD_SETLKW"}.get(args[1])
        if how is None:
            return None
        data = caller.memory(args[2], 2)
        kind = struct.unpack("h", data)[0] if len(data) == 2 else -1
        found["how"] = f"{how} {('F_RDLCK', 'F_WRLCK', 'F_UNLCK')[kind] if 0 <= kind < 3 else ''}".strip()
    return names.descriptor(caller, args[0]), found


def _system_v(real: str, caller: Caller, names: Names, args: Sequence[int]) -> Decoded | None:
    kind = _KIND[real[:3]]
    if real.endswith("get"):
        key = args[0] & 0xFFFF_FFFF
        flags = args[1] if real == "msgget" else args[2]
        found: dict[str, Any] = {"flags": _flags(flags, {_IPC_CREAT: "IPC_CREAT", _IPC_EXCL: "IPC_EXCL"})}
        if real != "msgget":
            found["size"] = args[1]
        return f"{kind} {key:#010x}" if key else f"private {kind}", found
    if real == "shmdt":
        return kind, {}
    number = _signed(args[0])
    said = names.system_v(kind, number)
    if real == "msgsnd":
        head = caller.memory(args[1], 8 + min(args[2], SHOWN))
        found = {
            "type": struct.unpack_from("q", head)[0] if len(head) >= 8 else None,
            "size": args[2],
            "data": head[8:],
        }
        return said, found | ({"flags": "IPC_NOWAIT"} if args[3] & _IPC_NOWAIT else {})
    if real == "msgrcv":
        found = {"type": _signed(args[3], 64), "size": args[2]}
        how = _flags(args[4], _HOW_TO_TAKE)
        return said, found | ({"flags": how} if how else {})
    if real.startswith(("semop", "semtimedop")):
        raw = caller.memory(args[1], 6 * min(args[2], 32))
        ops = [list(op) for op in struct.iter_unpack("=Hhh", raw[: len(raw) - len(raw) % 6])]
        return said, {"ops": ops}
    if real.endswith("ctl"):
        command = args[2 if real == "semctl" else 1] & 0xFF
        if command == 0:
            names.forget(kind, number)
        known = {0: "IPC_RMID", 1: "IPC_SET", 16: "SETVAL", 17: "SETALL"}
        if command not in known:
            return None
        return said, {"command": known[command]} | ({"number": args[1], "value": args[3]} if command == 16 else {})
    return said, {}


def _posix_queue(real: str, caller: Caller, names: Names, args: Sequence[int]) -> Decoded | None:
    if real in ("mq_open", "mq_unlink"):
        return f"POSIX queue /{caller.string(args[0]).lstrip('/')}", {}
    link = caller.link(f"fd/{args[0] & 0xFFFFFFFF}")
    found: dict[str, Any] = {"size": args[2]}
    if real == "mq_timedsend":
        found |= {"priority": args[3], "data": caller.memory(args[1], min(args[2], SHOWN))}
    return f"POSIX queue /{os.path.basename(link)}", found


def _socket(real: str, caller: Caller, names: Names, args: Sequence[int]) -> Decoded | None:
    if real == "socket":
        return "socket", {"family": {1: "AF_UNIX", 2: "AF_INET", 10: "AF_INET6"}.get(args[0], str(args[0]))}
    found: dict[str, Any] = {}
    said = _channel(caller, names, args[0], found)
    if real in ("recvfrom", "recvmsg") and args[3 if real == "recvfrom" else 2] & _MSG_PEEK:
        found["flags"] = "MSG_PEEK"
    if real in ("bind", "connect"):
        found["address"] = _address(caller.memory(args[1], min(args[2], 128)))
    elif real == "sendto":
        found |= {"size": args[2], "data": caller.memory(args[1], min(args[2], SHOWN))}
    elif real == "recvfrom":
        found["size"] = args[2]
    elif real in ("sendmsg", "recvmsg"):
        raw = caller.memory(args[1], 56)
        if len(raw) == 56:
            start, count = struct.unpack_from("QQ", raw, 16)
            data, found["size"] = _gather(caller, start, count)
            if real == "sendmsg":
                found["data"] = data
    elif real == "shutdown":
        found["how"] = {0: "SHUT_RD", 1: "SHUT_WR", 2: "SHUT_RDWR"}.get(args[1], "")
    return said, found


def _address(raw: bytes) -> str:
    if len(raw) < 2:
        return ""
    family = struct.unpack_from("H", raw)[0]
    if family == socket.AF_INET and len(raw) >= 8:
        return f"{socket.inet_ntop(family, raw[4:8])}:{struct.unpack_from('!H', raw, 2)[0]}"
    if family == socket.AF_INET6 and len(raw) >= 24:
        return f"[{socket.inet_ntop(family, raw[8:24])}]:{struct.unpack_from('!H', raw, 2)[0]}"
    if family == socket.AF_UNIX:
        return raw[2:].partition(b"\0")[0].decode("utf-8", "replace") or "@" + raw[3:].decode("utf-8", "replace")
    return f"family {family}"


def _poll(real: str, caller: Caller, names: Names, args: Sequence[int]) -> Decoded | None:
    """The time limit in seconds, None without; the descriptors looked at, and for what: poll(2)'s bits."""
    watched: list[tuple[int, int]] = []
    limit: float | None = None
    if real in ("poll", "ppoll"):
        raw = caller.memory(args[0], 8 * min(args[1], 256))
        watched = [(fd, bits) for fd, bits, _ in struct.iter_unpack("=ihh", raw[: len(raw) - len(raw) % 8]) if fd >= 0]
        limit = _limit(caller, args[2]) if real == "ppoll" else _milliseconds(args[2])
    elif real in ("select", "pselect6"):
        limit = _limit(caller, args[4], 1e6 if real == "select" else 1e9)
        for address, bit in zip(args[1:4], (select.POLLIN, select.POLLOUT, select.POLLPRI), strict=True):
            for place, byte in enumerate(caller.memory(address, (min(args[0], 1024) + 7) // 8)):
                watched += [(8 * place + number, bit) for number in range(8) if byte >> number & 1]
    else:
        watched = [(_signed(args[0]), select.POLLIN)]
        limit = _milliseconds(args[3])
    return "", {"timeout": limit, "watched": tuple(watched)}


def _close(real: str, caller: Caller, names: Names, args: Sequence[int]) -> Decoded | None:
    """Of a pipe, a FIFO, a socket: somebody may learn from it that nobody is left at the other end."""
    found: dict[str, Any] = {}
    link = caller.link(f"fd/{args[0] & 0xFFFF_FFFF}")
    if not link.startswith(("pipe:", "socket:")) and not (link.startswith("/") and caller.is_fifo(args[0])):
        return None
    return _channel(caller, names, args[0], found), found


def _milliseconds(value: int) -> float | None:
    return None if _signed(value) < 0 else _signed(value) / 1000


def _limit(caller: Caller, address: int, unit: float = 1e9) -> float | None:
    raw = caller.memory(address, 16)
    if len(raw) < 16:
        return None
    seconds, part = struct.unpack("qq", raw)
    return float(seconds + part / unit)


def something(pid: int, watched: Sequence[tuple[int, int]]) -> bool:
    """Say whether one of the descriptors of a process has what is asked for; True where nobody can say."""
    there = select.poll()
    ours = []
    try:
        pidfd = os.pidfd_open(pid)
        ours.append(pidfd)
        for number, bits in watched:
            ours.append(kernel.descriptor_of(pidfd, number))
            there.register(ours[-1], bits)
        return bool(there.poll(0))
    except OSError:
        return True
    finally:
        for number in ours:
            os.close(number)


def _kill(real: str, caller: Caller, names: Names, args: Sequence[int]) -> Decoded | None:
    pid, number = (args[1], args[2]) if real == "tgkill" else (args[0], args[1])
    return "", {"pid": _signed(pid), "signal": number}


def _wait(real: str, caller: Caller, names: Names, args: Sequence[int]) -> Decoded | None:
    return "", {"pid": _signed(args[0])} if real == "wait4" else {}


def _exit(real: str, caller: Caller, names: Names, args: Sequence[int]) -> Decoded | None:
    return "", {"code": args[0] & 0xFF, "all": real == "exit_group"}


_DECODERS: dict[str, Callable[[str, Caller, Names, Sequence[int]], Decoded | None]] = {
    **dict.fromkeys(("read", "write"), _transfer),
    "open": _open,
    "exec": _exec,
    **dict.fromkeys(("mkfifo", "unlink", "rename"), _path),
    **dict.fromkeys(("ftruncate", "fsync", "flock", "fcntl"), _descriptor),
    **dict.fromkeys(
        ("msgget", "msgsnd", "msgrcv", "msgctl", "semget", "semop", "semctl", "shmget", "shmat", "shmdt", "shmctl"),
        _system_v,
    ),
    **dict.fromkeys(("mq_open", "mq_send", "mq_receive", "mq_unlink"), _posix_queue),
    **dict.fromkeys(("socket", "bind", "listen", "connect", "accept", "shutdown", "send", "recv"), _socket),
    "poll": _poll,
    "close": _close,
    "kill": _kill,
    "wait": _wait,
    "exit": _exit,
}


def received(real: str, caller: Caller, args: Sequence[int], result: int | None) -> dict[str, Any]:
    """Return what a call that brings data has brought: `data`, and the `type` of a message. Ask at once after it.

    result: what it returned; None: not known, then `buffer` is what lies where data was asked for, brought or not.
    """
    said = "buffer" if result is None else "data"
    if real == "msgrcv":
        head = caller.memory(args[1], 8 + min(args[2] if result is None else max(result, 0), SHOWN))
        return {"type": struct.unpack_from("q", head)[0], said: head[8:]} if len(head) >= 8 else {}
    if result is not None and result < (0 if real == "mq_timedreceive" else 1):
        return {}
    if real in ("read", "pread64", "recvfrom", "mq_timedreceive"):
        found: dict[str, Any] = {said: caller.memory(args[1], min(args[2] if result is None else result, SHOWN))}
        if real == "mq_timedreceive" and result is not None and len(raw := caller.memory(args[3], 4)) == 4:
            found["priority"] = struct.unpack("I", raw)[0]
        return found
    if real == "readv":
        return {said: _gather(caller, args[1], args[2])[0][:result]}
    if real == "recvmsg":
        raw = caller.memory(args[1], 56)
        if len(raw) == 56:
            start, count = struct.unpack_from("QQ", raw, 16)
            return {said: _gather(caller, start, count)[0][:result]}
    return {}
