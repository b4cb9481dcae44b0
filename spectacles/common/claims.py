"""Claims: names (a key, a port, a directory) that one server makes its own, and no other gets (defect 9).

A claim is an address that the kernel frees when the last process that holds it has died, however it died. Unlike a
file it can be removed by nobody.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct

from spectacles.common.errors import HeldError

ADDRESS_MAX = 108  # bytes, unix(7); a semaphore may have a longer name


def claim(name: str) -> socket.socket:
    """Make `name` (a key, a port...) this server's own until it and its children have died, and return what holds it.

    An abstract UNIX socket, unix(7): the kernel frees the address with its last holder, children included, and knows
    who bound it. Names are per IPC namespace, as the objects they stand for, and per network namespace, as such sockets
    are. Raises HeldError, with the holder's PID.
    """
    holder = bind(name)
    if holder is None:
        pid, user = holder_of(name)
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


def bind(name: str) -> socket.socket | None:
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


def holder_of(name: str) -> tuple[int, int]:
    """Return the PID and the user of the process that made the socket which holds `name`; (0, -1) if unknown."""
    asking = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    with asking, contextlib.suppress(OSError):
        asking.connect(_address(name))
        credentials = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        pid, user, _ = struct.unpack("3i", credentials)
        return pid, user
    return 0, -1
