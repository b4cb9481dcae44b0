"""System calls: their numbers by machine, and what the six words of one that blocks say it waits for.

What an argument points to is read in the memory of the caller, where that is allowed; what cannot be read is left out.
"""

from __future__ import annotations

import os
import platform
import struct
from typing import TYPE_CHECKING

from spectacles.lab.kernel.model import Wait

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spectacles.lab.kernel.proc import Peephole

# name -> number on x86-64, on aarch64 (None: does not exist there); the calls that can block, and those often met
_NUMBERS: dict[str, tuple[int | None, int | None]] = {
    "read": (0, 63),
    "write": (1, 64),
    "open": (2, None),
    "close": (3, 57),
    "poll": (7, None),
    "mmap": (9, 222),
    "munmap": (11, 215),
    "brk": (12, 214),
    "pread64": (17, 67),
    "pwrite64": (18, 68),
    "readv": (19, 65),
    "writev": (20, 66),
    "select": (23, None),
    "sched_yield": (24, 124),
    "msync": (26, 227),
    "madvise": (28, 233),
    "pause": (34, None),
    "nanosleep": (35, 101),
    "sendfile": (40, 71),
    "connect": (42, 203),
    "accept": (43, 202),
    "sendto": (44, 206),
    "recvfrom": (45, 207),
    "sendmsg": (46, 211),
    "recvmsg": (47, 212),
    "shutdown": (48, 210),
    "clone": (56, 220),
    "fork": (57, None),
    "vfork": (58, None),
    "execve": (59, 221),
    "exit": (60, 93),
    "wait4": (61, 260),
    "kill": (62, 129),
    "semop": (65, 193),
    "msgsnd": (69, 189),
    "msgrcv": (70, 188),
    "fcntl": (72, 25),
    "flock": (73, 32),
    "fsync": (74, 82),
    "fdatasync": (75, 83),
    "ftruncate": (77, 46),
    "rename": (82, None),
    "creat": (85, None),
    "unlink": (87, None),
    "rt_sigtimedwait": (128, 137),
    "rt_sigsuspend": (130, 133),
    "sync": (162, 81),
    "futex": (202, 98),
    "io_getevents": (208, 4),
    "restart_syscall": (219, 128),
    "semtimedop": (220, 192),
    "clock_nanosleep": (230, 115),
    "exit_group": (231, 94),
    "epoll_wait": (232, None),
    "tgkill": (234, 131),
    "mq_timedsend": (242, 182),
    "mq_timedreceive": (243, 183),
    "waitid": (247, 95),
    "openat": (257, 56),
    "unlinkat": (263, 35),
    "pselect6": (270, 72),
    "ppoll": (271, 73),
    "splice": (275, 76),
    "tee": (276, 77),
    "sync_file_range": (277, 84),
    "vmsplice": (278, 75),
    "epoll_pwait": (281, 22),
    "accept4": (288, 242),
    "preadv": (295, 69),
    "pwritev": (296, 70),
    "recvmmsg": (299, 243),
    "sendmmsg": (307, 269),
    "renameat2": (316, 276),
    "getrandom": (318, 278),
    "io_uring_enter": (426, 426),
    "clone3": (435, 435),
    "openat2": (437, 437),
    "epoll_pwait2": (441, 441),
    "futex_waitv": (449, 449),
}
_COLUMN = {"x86_64": 0, "aarch64": 1}


def numbers(machine: str) -> dict[int, str]:
    """Return number -> name for a machine of os.uname(); {} for one whose numbers are not known here."""
    column = _COLUMN.get(machine)
    if column is None:
        return {}
    return {number: name for name, both in _NUMBERS.items() if (number := both[column]) is not None}


NAMES = numbers(platform.machine())

READS = {"read", "readv", "pread64", "preadv", "recvfrom", "recvmsg", "recvmmsg"}
WRITES = {"write", "writev", "pwrite64", "pwritev", "sendto", "sendmsg", "sendmmsg", "sendfile"}
DISK = {
    "fsync",
    "fdatasync",
    "sync",
    "sync_file_range",
    "msync",
    "ftruncate",
    "rename",
    "renameat2",
    "unlink",
    "unlinkat",
}

AT_FDCWD = -100
F_SETLKW, F_OFD_SETLKW = 7, 38
P_PID = 1  # of waitid(2)
FUTEX_WAIT, FUTEX_LOCK_PI, FUTEX_WAIT_BITSET, FUTEX_LOCK_PI2 = 0, 6, 9, 13
MOST_SIGNALS, SIGNAL_FRAME = 64, 8192  # the frame: bytes, with room for the largest set of registers
FUTEX_COMMAND = 0x7F  # without FUTEX_PRIVATE_FLAG and FUTEX_CLOCK_REALTIME
MOST_EVENTS = 64  # descriptors of one poll, select or epoll that are looked at

_POLLFD = struct.Struct("iHH")
_POLLIN, _POLLOUT = 0x041, 0x104  # with POLLRDNORM, POLLWRNORM


def signed(word: int, bits: int = 32) -> int:
    """Return the low `bits` of a register as a signed number."""
    word &= (1 << bits) - 1
    return word - (1 << bits) if word >> (bits - 1) else word


def parse(data: bytes) -> tuple[int, tuple[int, ...]] | None:
    """Return number and arguments in the contents of /proc/PID/syscall, None if the task is in no system call."""
    words = data.split()
    if len(words) < 7 or words[0].startswith(b"-"):
        return None
    return int(words[0]), tuple(int(word, 16) for word in words[1:7])


def enters_handler(data: bytes) -> bool:
    """Say whether a stopped task stands at the entry of a signal handler, by the contents of /proc/PID/syscall.

    The number is then still that of the call that the signal has interrupted, but the registers hold the arguments of
    the handler: a signal, and two addresses right here on the stack.
    """
    words = data.split()
    if len(words) < 8:
        return False
    number, information, context, *_, stack = (int(word, 16) for word in words[1:8])
    return 0 < number <= MOST_SIGNALS and all(0 <= word - stack < SIGNAL_FRAME for word in (information, context))


def waits_of(call: str, arguments: tuple[int, ...], hole: Peephole) -> tuple[Wait, ...]:
    """Return what a task asleep in `call` waits for, () if it is not known. hole: of its process.

    Futexes and semaphore sets have the address, or the set, as target; it is for the caller to find what lies there.
    """
    a, b, c, d, _, _ = arguments
    descriptors = hole.descriptors()

    def through(kind: str, fd: int, size: int | None = None, timeout: float | None = None) -> Wait:
        known = descriptors.get(signed(fd))
        return Wait(kind, known.id if known else None, None if known else signed(fd), size, timeout)

    if call in READS:
        return (through("read", a, c if call in ("read", "recvfrom", "pread64") else None),)
    if call in WRITES:
        return (through("write", a, c if call in ("write", "sendto", "pwrite64") else None),)
    if call in DISK:
        return (through("disk", a),)
    match call:
        case "msgrcv":
            return (Wait("receive", f"queue:{signed(a)}", signed(d, 64), c),)
        case "msgsnd":
            type_ = hole.words(b, "q")
            return (Wait("send", f"queue:{signed(a)}", type_[0] if type_ else None, c),)
        case "mq_timedreceive" | "mq_timedsend":
            return (through("receive" if call == "mq_timedreceive" else "send", a, c),)
        case "semop" | "semtimedop":
            timeout = _seconds(hole, d) if call == "semtimedop" else None
            operations = [hole.words(b + 6 * i, "Hhh") for i in range(min(c, 8))]
            found = [Wait("semaphore", f"semset:{signed(a)}", o[0], o[1], timeout) for o in operations if o]
            return tuple(found) or (Wait("semaphore", f"semset:{signed(a)}", None, None, timeout),)
        case "futex":
            if b & FUTEX_COMMAND in (FUTEX_WAIT, FUTEX_WAIT_BITSET, FUTEX_LOCK_PI, FUTEX_LOCK_PI2):
                relative = b & FUTEX_COMMAND == FUTEX_WAIT
                timeout = (_seconds(hole, d) if relative else 0.0) if d else None
                return (Wait("memory", f"lock:{a:x}", None, c & 0xFFFFFFFF, timeout),)
            return ()
        case "accept" | "accept4" | "connect":
            return (through("connect" if call == "connect" else "accept", a),)
        case "open" | "creat":
            return (Wait("open", path=_absolute(hole, AT_FDCWD, hole.text(a)), size=b if call == "open" else 1),)
        case "openat" | "openat2":
            return (Wait("open", path=_absolute(hole, signed(a), hole.text(b)), size=c if call == "openat" else None),)
        case "flock":
            return (through("lock", a),)
        case "fcntl":
            return (through("lock", a),) if b in (F_SETLKW, F_OFD_SETLKW) else ()
        case "nanosleep":
            return (Wait("sleep", timeout=_seconds(hole, a)),)
        case "clock_nanosleep":
            return (Wait("sleep", timeout=_seconds(hole, c) if not b & 1 else None),)  # TIMER_ABSTIME: until, not for
        case "wait4":
            return (Wait("child", number=signed(a) if signed(a) > 0 else -1),)
        case "waitid":
            return (Wait("child", number=signed(b) if a == P_PID else -1),)
        case "vfork":
            return (Wait("child", number=-1),)
        case "pause" | "rt_sigsuspend":
            return (Wait("signal"),)
        case "rt_sigtimedwait":
            return (Wait("signal", timeout=_seconds(hole, c)),)
        case "poll" | "ppoll":
            timeout = _seconds(hole, c) if call == "ppoll" else signed(c) / 1000 if signed(c) >= 0 else None
            events = hole.memory(a, _POLLFD.size * min(b, MOST_EVENTS))
            return _events(
                timeout,
                (
                    through("write" if wanted & _POLLOUT and not wanted & _POLLIN else "read", fd, None, timeout)
                    for fd, wanted, _ in _POLLFD.iter_unpack(events[: len(events) // 8 * 8])
                    if fd >= 0
                ),
            )
        case "select" | "pselect6":
            timeout = _seconds(hole, arguments[4], "qq" if call == "pselect6" else "q,q")
            return _events(
                timeout,
                (
                    through(kind, fd, None, timeout)
                    for kind, address in (("read", b), ("write", c))
                    for fd in _members(hole, address, min(signed(a), 1024))
                ),
            )
        case "epoll_wait" | "epoll_pwait" | "epoll_pwait2":
            timeout = signed(d) / 1000 if signed(d) >= 0 else None
            if call == "epoll_pwait2":
                timeout = _seconds(hole, d)
            return _events(timeout, (through("read", fd, None, timeout) for fd in _watched(hole.pid, signed(a))))
    return ()


def _events(timeout: float | None, waits: Iterable[Wait]) -> tuple[Wait, ...]:
    return (Wait("event", timeout=timeout), *waits)


def _seconds(hole: Peephole, address: int, format_: str = "qq") -> float | None:
    """Return the struct timespec ("qq") or timeval ("q,q") at `address` in seconds, None without one."""
    if not address:
        return None
    words = hole.words(address, format_.replace(",", ""))
    return words[0] + words[1] / (1e6 if "," in format_ else 1e9) if words else None


def _members(hole: Peephole, address: int, count: int) -> list[int]:
    if not address or count <= 0:
        return []
    bits = int.from_bytes(hole.memory(address, (count + 63) // 64 * 8), "little")
    return [fd for fd in range(count) if bits >> fd & 1][:MOST_EVENTS]


def _watched(pid: int, fd: int) -> list[int]:
    try:
        with open(f"/proc/{pid}/fdinfo/{fd}", "rb") as file:
            return [int(line.split()[1]) for line in file if line.startswith(b"tfd:")][:MOST_EVENTS]
    except OSError:
        return []


def _absolute(hole: Peephole, directory: int, path: str) -> str | None:
    if not path:
        return None
    try:
        if not path.startswith("/"):
            base = f"/proc/{hole.pid}/cwd" if directory == AT_FDCWD else f"/proc/{hole.pid}/fd/{directory}"
            path = os.path.join(os.readlink(base), path)
    except OSError:
        return path
    return os.path.normpath(path)
