"""Sockets as /proc/PID/net shows them to whoever asks: state, ends, bytes not read, connections not accepted."""

from __future__ import annotations

import socket
import struct
import sys
from typing import NamedTuple

from spectacles.lab.kernel.proc import read

STATES = (
    "",
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT1",
    "FIN_WAIT2",
    "TIME_WAIT",
    "CLOSE",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "CLOSING",
    "NEW_SYN_RECV",
)
UNIX_STATES = {1: "UNCONNECTED", 2: "CONNECTING", 3: "CONNECTED", 4: "DISCONNECTING"}
LISTENING = 0x10000  # SO_ACCEPTCON in the flags of /proc/net/unix


class TcpLine(NamedTuple):
    """A line of /proc/net/tcp or tcp6. inode: 0 for a connection that nobody has accepted, or that is closed.

    unread: bytes, of a listener connections. unacknowledged: bytes.
    """

    family: str
    state: str
    local: str
    remote: str
    port: int
    unread: int
    unacknowledged: int
    inode: int


class UnixLine(NamedTuple):
    """A line of /proc/net/unix."""

    state: str
    path: str
    inode: int


def tcp(pid: int, family: str = "tcp") -> list[TcpLine]:
    """Return the TCP sockets of the network namespace of `pid`. family: "tcp" or "tcp6". [] if it cannot be seen.

    It takes the kernel some two milliseconds, however few there are: it walks through its whole table.
    """
    try:
        lines = read(f"/proc/{pid}/net/{family}", 1 << 24).splitlines()[1:]
    except OSError:
        return []
    found = []
    for line in lines:
        words = line.split()
        local, remote = (_address(word) for word in words[1:3])
        unacknowledged, _, unread = words[4].partition(b":")
        state = STATES[min(int(words[3], 16), len(STATES) - 1)]
        port = int(words[1].rpartition(b":")[2], 16)
        found.append(
            TcpLine(family, state, local, remote, port, int(unread, 16), int(unacknowledged, 16), int(words[9]))
        )
    return found


def unix(pid: int) -> dict[int, UnixLine]:
    """Return the UNIX sockets of the network namespace of `pid` by inode. {} if it cannot be seen."""
    try:
        lines = read(f"/proc/{pid}/net/unix", 1 << 24).splitlines()[1:]
    except OSError:
        return {}
    found = {}
    for line in lines:
        words = line.split(None, 7)
        state = "LISTEN" if int(words[3], 16) & LISTENING else UNIX_STATES.get(int(words[5], 16), "")
        path = words[7].decode("utf-8", "replace") if len(words) > 7 else ""
        found[int(words[6])] = UnixLine(state, path, int(words[6]))
    return found


def _address(word: bytes) -> str:
    text, _, port = word.partition(b":")
    raw = bytes.fromhex(text.decode())
    # The kernel prints words of 32 bits as its processor holds them.
    words = struct.unpack(f"<{len(raw) // 4}I" if sys.byteorder == "little" else f">{len(raw) // 4}I", raw)
    packed = struct.pack(f">{len(words)}I", *words)
    if len(packed) == 4:
        return f"{socket.inet_ntop(socket.AF_INET, packed)}:{int(port, 16)}"
    host = socket.inet_ntop(socket.AF_INET6, packed)
    if host.startswith("::ffff:") and "." in host:  # an IPv4 peer of an IPv6 socket: one name for both ends
        return f"{host[7:]}:{int(port, 16)}"
    return f"[{host}]:{int(port, 16)}"
