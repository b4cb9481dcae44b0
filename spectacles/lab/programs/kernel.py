"""The system calls that Python's standard library lacks, for the first process of a world, through ctypes.

Numbers are those of x86-64 and aarch64. Each raises OSError with the step's name as its file name, so that a refusal
can say at which step it happened.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import os
import socket
import struct

CLONE_NEWNS = 0x0002_0000
CLONE_NEWIPC = 0x0800_0000
CLONE_NEWUSER = 0x1000_0000
CLONE_NEWPID = 0x2000_0000
CLONE_NEWNET = 0x4000_0000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 0x1, 0x2, 0x4, 0x8
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x4_0000

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4

SYS_MOUNT_SETATTR = 442  # the same number everywhere, as for all calls since 2019
SYS_PIDFD_GETFD = 438
AT_FDCWD, AT_RECURSIVE = -100, 0x8000
MOUNT_ATTR_RDONLY = 0x1

_MACHINE = os.uname().machine
_NUMBERS = {  # seccomp, capset, sendmmsg, kill
    "x86_64": (317, 126, 307, 62),
    "aarch64": (277, 91, 269, 129),
}
KNOWN = _MACHINE in _NUMBERS
SYS_SECCOMP, SYS_CAPSET, SYS_SENDMMSG, SYS_KILL = _NUMBERS.get(_MACHINE, (0, 0, 0, 0))

SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 0x1

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def _check(result: int, step: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), step)
    return result


def unshare(flags: int) -> None:
    """Leave namespaces for new ones, unshare(2). Raises OSError."""
    _check(_libc.unshare(ctypes.c_int(flags)), "unshare")


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    """Mount a file system, mount(2). Raises OSError that names the target."""
    words = [os.fsencode(word) if word else None for word in (source, target, kind, options)]
    done = _libc.mount(words[0], words[1], words[2], ctypes.c_ulong(flags), words[3])
    _check(done, f"mount {target}")


def read_only(path: str) -> None:
    """Make the mount at `path` and all below it read-only, mount_setattr(2), Linux 5.12. Raises OSError."""
    what = struct.pack("QQQQ", MOUNT_ATTR_RDONLY, 0, 0, 0)
    _check(
        _libc.syscall(
            ctypes.c_long(SYS_MOUNT_SETATTR),
            ctypes.c_long(AT_FDCWD),
            os.fsencode(path),
            ctypes.c_long(AT_RECURSIVE),
            what,
            ctypes.c_long(len(what)),
        ),
        "mount_setattr",
    )


def prctl(option: int, value: int = 0) -> None:
    """Set one attribute of the calling task, prctl(2). Raises OSError."""
    zero = ctypes.c_ulong(0)
    _check(_libc.prctl(ctypes.c_int(option), ctypes.c_ulong(value), zero, zero, zero), f"prctl {option}")


def drop_powers() -> None:
    """Give up every capability, and for good: the bounding set too, where the caller may. Raises OSError."""
    for capability in range(64):
        try:
            prctl(PR_CAPBSET_DROP, capability)
        except OSError:
            break  # the first that this kernel does not know, or no right to drop any
    with contextlib.suppress(OSError):  # before Linux 4.3 there were none
        prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    header = struct.pack("Ii", 0x20080522, 0)  # version 3, the calling thread
    _check(_libc.syscall(ctypes.c_long(SYS_CAPSET), header, bytes(24)), "capset")
    prctl(PR_SET_NO_NEW_PRIVS, 1)


CONNECTIONS = 512  # entries of the table of connections of a world


def few_connections() -> None:
    """Go from a network namespace of one's own to one with a small table of connections of its own, Linux 6.1.

    /proc/net/tcp goes through the whole table, which else is the machine's: a quarter of a million entries, 5 ms each
    time. Where that cannot be had, nothing changes.
    """
    with contextlib.suppress(OSError):
        with open("/proc/sys/net/ipv4/tcp_child_ehash_entries", "w") as entries:
            entries.write(str(CONNECTIONS))
        unshare(CLONE_NEWNET)


def loopback_up() -> None:
    """Bring up `lo` in a network namespace of one's own, netdevice(7). Raises OSError."""
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sH14x", b"lo", 0)
        flags = struct.unpack_from("16xH", fcntl.ioctl(any_socket, SIOCGIFFLAGS, request))[0]
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | IFF_UP))


def install_filter(program: bytes, *, listener: bool) -> int:
    """Put a seccomp filter (an array of struct sock_filter, 8 bytes each) on the calling thread, seccomp(2).

    no_new_privs must be set. Return the descriptor of its listener, or 0 if none is asked for. The listener lets a
    signal that is not deadly wait while a call is held, where the kernel can (Linux 5.19). Raises OSError.
    """
    buffer = ctypes.create_string_buffer(program, len(program))
    fprog = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(buffer))
    set_mode_filter, new_listener, wait_killable = 1, 8, 32
    for flags in (new_listener | wait_killable, new_listener) if listener else (0,):
        done = _libc.syscall(ctypes.c_long(SYS_SECCOMP), ctypes.c_long(set_mode_filter), ctypes.c_long(flags), fprog)
        if done >= 0:
            break
    return _check(done, "seccomp")


def descriptor_of(pidfd: int, number: int) -> int:
    """Return a descriptor of ours for what one of another process stands for, pidfd_getfd(2). Raises OSError."""
    none = ctypes.c_ulong(0)
    done = _libc.syscall(ctypes.c_long(SYS_PIDFD_GETFD), ctypes.c_long(pidfd), ctypes.c_long(number), none)
    return _check(done, "pidfd_getfd")


def refuse_kill_all() -> None:
    """Make kill(-1, ...) fail with EPERM for the calling process and all that comes of it. Raises OSError."""
    op = struct.Struct("=HBBI").pack
    program = b"".join((
        op(0x20, 0, 0, 0),  # the number of the call
        op(0x15, 0, 3, SYS_KILL),
        op(0x20, 0, 0, 16),  # the low half of its first argument
        op(0x15, 0, 1, 0xFFFF_FFFF),
        op(0x06, 0, 0, 0x0005_0000 | 1),  # SECCOMP_RET_ERRNO, EPERM
        op(0x06, 0, 0, 0x7FFF_0000),  # SECCOMP_RET_ALLOW
    ))  # fmt: skip
    install_filter(program, listener=False)


def receive(connection: socket.socket, size: int, *, wait: bool = True) -> tuple[bytes, list[int]]:
    """Return a message of at most `size` bytes and its descriptors, which no exec passes on; b"" at the end.

    socket.recv_fds() would do, but forgets its flags (CPython 3.11). Raises OSError, BlockingIOError without `wait`.
    """
    flags = socket.MSG_CMSG_CLOEXEC | (0 if wait else socket.MSG_DONTWAIT)
    numbers = array.array("i")
    data, control, _, _ = connection.recvmsg(size, socket.CMSG_SPACE(4 * numbers.itemsize), flags)
    for level, kind, carried in control:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            numbers.frombytes(carried[: len(carried) - len(carried) % numbers.itemsize])
    return data, list(numbers)


class _Span(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Message(ctypes.Structure):  # struct mmsghdr: a struct msghdr and one number
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("spans", ctypes.POINTER(_Span)),
        ("span_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
        ("sent", ctypes.c_uint32),
    )


def send_past_a_filter(socket_fd: int, data: bytes, descriptors: tuple[int, ...] = ()) -> None:
    """Send a message with descriptors by sendmmsg(2), the one call that a filter with a listener never holds.

    Whoever installs such a filter must still hand the listener's descriptor to the one who will answer for it.
    Raises OSError.
    """
    body = ctypes.create_string_buffer(data, len(data))
    span = _Span(ctypes.addressof(body), len(data))
    message = _Message(spans=ctypes.pointer(span), span_count=1)
    if descriptors:
        numbers = array.array("i", descriptors).tobytes()
        control = struct.pack("Qii", 16 + len(numbers), socket.SOL_SOCKET, socket.SCM_RIGHTS) + numbers
        control += bytes(-len(control) % 8)
        held = ctypes.create_string_buffer(control, len(control))
        message.control, message.control_length = ctypes.addressof(held), len(control)
    _check(
        _libc.syscall(
            ctypes.c_long(SYS_SENDMMSG),
            ctypes.c_long(socket_fd),
            ctypes.byref(message),
            ctypes.c_long(1),
            ctypes.c_long(socket.MSG_NOSIGNAL),
        ),
        "sendmmsg",
    )
