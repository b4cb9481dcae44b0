"""Writes raw messages into what a program is spoken to by, from inside its world: run there as a script of its own.

    python -I -S raw.py '[{"do": "send", "queue": 0, "type": 1, "body": "0a000000"}, ...]'

One JSON object a line for each step, in order, the result under "is". Bytes are hexadecimal. `own`: offsets at which
the script's own PID is put into a body, an int of four bytes in this machine's order. `repeat`: how many times over.
Leans on nothing but Python itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from typing import Any

Step = dict[str, Any]
IPC_NOWAIT, MSG_NOERROR, MSG_COPY = 0o4000, 0o10000, 0o40000
LONGEST = 8192  # bytes of a message that any queue takes, unless the machine says less
SILENCE = 0.15  # seconds after which an answer over TCP has ended
libc = ctypes.CDLL(None, use_errno=True)
libc.msgsnd.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int]
libc.msgrcv.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_long, ctypes.c_int]
held: list[socket.socket] = []


def queues(step: Step) -> list[dict[str, int]]:
    """Return all queues in the order in which they were made: number, messages in it."""
    with open("/proc/sysvipc/msg") as file:
        rows = [line.split() for line in file.readlines()[1:]]
    return [{"id": int(row[1]), "count": int(row[4])} for row in rows]


def queue(step: Step) -> int:
    known = [row["id"] for row in queues(step)]
    return known[min(int(step.get("queue", 0)), len(known) - 1)]


def body(step: Step) -> bytes:
    data = bytearray.fromhex(step["body"]) * step.get("repeat", 1)
    for offset in step.get("own", ()):
        data[offset : offset + 4] = struct.pack("=i", os.getpid())
    return bytes(data)


def put(number: int, kind: int, data: bytes) -> int:
    """Send one message without waiting. Return 0 or an errno."""
    packed = struct.pack("=q", kind) + data
    return 0 if libc.msgsnd(number, packed, len(data), IPC_NOWAIT) == 0 else ctypes.get_errno()


def send(step: Step) -> str:
    """Send a message; `longest`: padded to the longest that there can be. Return 0 or the errno's name."""
    data = body(step)
    if step.get("longest"):
        with open("/proc/sys/kernel/msgmax") as file:
            data += bytes(max(min(int(file.read()), LONGEST) - len(data), 0))
    failed = put(queue(step), step["type"], data)
    return errno.errorcode[failed] if failed else ""


def flood(step: Step) -> int:
    """Send the same message `count` times, as fast as there is room, for `seconds`. Return how many were sent."""
    number, data, sent = queue(step), body(step), 0
    deadline = time.monotonic() + step["seconds"]
    while sent < step["count"] and time.monotonic() < deadline:
        failed = put(number, step["type"], data)
        if failed == 0:
            sent += 1
        elif failed == errno.EAGAIN:
            time.sleep(0.001)
        else:
            break
    return sent


def take(step: Step) -> str | None:
    """Receive a message of a type (0: one's own PID), within `seconds`. Return its bytes, None if none came."""
    number, room = queue(step), ctypes.create_string_buffer(8 + LONGEST)
    deadline = time.monotonic() + step["seconds"]
    while time.monotonic() < deadline:
        size = libc.msgrcv(number, room, LONGEST, step["type"] or os.getpid(), IPC_NOWAIT | MSG_NOERROR)
        if size >= 0:
            return room.raw[8 : 8 + size].hex()
        time.sleep(0.002)
    return None


def lies(step: Step) -> bool:
    """Wait until a message of a type (0: one's own PID) lies in a queue, for `seconds`. Say whether one does."""
    wanted = step["type"] or os.getpid()
    deadline = time.monotonic() + step["seconds"]
    while time.monotonic() < deadline:
        if any(kind == wanted for kind, _ in left(step)):
            return True
        time.sleep(0.002)
    return False


def left(step: Step) -> list[list[int]]:
    """Return type and size of the messages in a queue, which stay there."""
    number, room = queue(step), ctypes.create_string_buffer(8 + LONGEST)
    found: list[list[int]] = []
    while len(found) < 100:
        size = libc.msgrcv(number, room, LONGEST, len(found), MSG_COPY | IPC_NOWAIT | MSG_NOERROR)
        if size < 0:
            break
        found.append([struct.unpack_from("=q", room.raw)[0], size])
    return found


def fifo(step: Step) -> int | str:
    """Write a body into a FIFO, without waiting. Return how many bytes it took, or the errno's name."""
    try:
        fd = os.open(step["path"], os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, "?")
    with contextlib.suppress(BrokenPipeError, BlockingIOError):
        return os.write(fd, body(step))
    return 0


def tcp(step: Step) -> dict[str, str]:
    """Send parts over a new connection, `pause` seconds apart; return what was answered until it fell silent.

    `listen`: whether to wait for an answer after every part. `keep`: the connection stays open until the script ends.
    """
    said: list[bytes] = []
    try:
        connection = socket.create_connection(("127.0.0.1", step["port"]), timeout=step["seconds"])
        held.append(connection)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for number, part in enumerate(step["parts"]):
            if number:
                time.sleep(step.get("pause", 0.0))
            connection.sendall(bytes.fromhex(part) * step.get("repeat", 1))
            if step.get("listen") and number < len(step["parts"]) - 1:
                hear(connection, step["seconds"])
        said = hear(connection, step["seconds"]) if not step.get("deaf") else []
        if not step.get("keep"):
            connection.close()
    except OSError as error:
        return {"error": errno.errorcode.get(error.errno or 0, type(error).__name__)}
    return {"data": b"".join(said).hex()}


def hear(connection: socket.socket, seconds: float) -> list[bytes]:
    said: list[bytes] = []
    patience = seconds
    while select.select([connection], [], [], patience)[0]:
        data = connection.recv(65536)
        if not data:
            break
        said.append(data)
        patience = SILENCE
    return said


def idle(step: Step) -> int:
    """Open connections and say nothing, for 40 s at most. Return how many there are.

    No faster than they are accepted: what does not fit into the queue of the listener is tried again a second later.
    """
    count = 0
    until = time.monotonic() + 40.0
    with contextlib.suppress(OSError):
        while count < step["count"] and time.monotonic() < until:
            held.append(socket.create_connection(("127.0.0.1", step["port"]), timeout=step["seconds"]))
            count += 1
            if count % 4 == 0:
                soon = time.monotonic() + 0.5
                while unaccepted(step["port"]) and time.monotonic() < soon:
                    time.sleep(0.001)
    return count


def unaccepted(port: int) -> int:
    """Return how many connections lie in the queue of whoever listens on a port."""
    local = f":{port:04X} "
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError), open(f"/proc/net/{name}") as file:
            for row in file:  # those that listen come first
                if local in row and row.split()[3] == "0A":
                    return int(row.split()[4].partition(":")[2], 16)
    return 0


def listening(step: Step) -> list[str]:
    """Return the addresses that somebody here listens on."""
    found = []
    for name, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        with contextlib.suppress(OSError), open(f"/proc/net/{name}") as file:
            for row in file.readlines()[1:]:
                _, local, _, state = row.split()[:4]
                if state == "0A":
                    host, port = local.split(":")
                    packed = b"".join(struct.pack("=I", int(host[at : at + 8], 16)) for at in range(0, len(host), 8))
                    text = socket.inet_ntop(family, packed)
                    found.append(f"[{text}]:{int(port, 16)}" if ":" in text else f"{text}:{int(port, 16)}")
    return found


def wait(step: Step) -> None:
    """Stay, until one is ended or `seconds` are over."""
    time.sleep(step["seconds"])


STEPS: dict[str, Callable[[Step], object]] = {
    one.__name__: one for one in (queues, send, flood, take, lies, left, fifo, tcp, idle, listening, wait)
}


def main() -> None:
    for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # some servers send their clients one
    for step in json.loads(sys.argv[1]):
        try:
            said = STEPS[step["do"]](step)
        except (OSError, IndexError, ValueError) as error:
            said = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps({"is": said}), flush=True)


if __name__ == "__main__":
    main()
