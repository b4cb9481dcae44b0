"""System V shared memory: made under a key where a dead server may have left some, and removed again.

Whoever asks has claimed the key (claims.claim), so that what exists is a dead server's, unless somebody is attached.
"""

from __future__ import annotations

import contextlib
import os

import sysv_ipc

from spectacles.common import log
from spectacles.common.addresses import c_key
from spectacles.common.errors import HeldError, SpectaclesError, reason


def create_segment(key: int, mode: int, size: int, *, keep: bool = False) -> sysv_ipc.SharedMemory:
    """Make `size` bytes of shared memory in place of what a dead server left. shmget(2), shmat(2).

    keep: go on with what was left, if it has that size. Raises HeldError while a process is attached to it,
    SpectaclesError when it is another user's, or cannot be made.
    """
    with contextlib.suppress(sysv_ipc.ExistentialError):
        try:
            old = sysv_ipc.SharedMemory(c_key(key), size=0)
        except sysv_ipc.PermissionsError as error:
            raise foreign(f"mémoire partagée {key:#x}", "--shm-key") from error
        kept = False
        try:
            if old.number_attached > 1:  # one is this process
                raise HeldError(
                    f"mémoire partagée {key:#x} : encore attachée par {old.number_attached - 1} processus"
                    f" (créateur : PID {old.creator_pid}) ; arrêtez-les, ou choisissez une autre --shm-key"
                )
            if old.uid != os.geteuid():
                raise foreign(f"mémoire partagée {key:#x}", "--shm-key")
            kept = keep and old.size == size
            what = "reprise" if kept else "remplacée"
            log.warning("[INFO] mémoire partagée %#x laissée par un serveur mort, %s", key, what)
            if kept:
                return old
            old.remove()
        finally:
            if not kept:
                old.detach()
    try:
        return sysv_ipc.SharedMemory(c_key(key), sysv_ipc.IPC_CREX, mode=mode, size=size)
    except (sysv_ipc.Error, OSError, ValueError) as error:
        _remove_unattached(key)
        raise SpectaclesError(f"mémoire partagée {key:#x} : {reason(error)}") from error


def _remove_unattached(key: int) -> None:
    # shmget(2) may have made it, and shmat(2) failed: nobody else has noted it. Its creator is this process, proc(5).
    with open("/proc/sysvipc/shm", encoding="ascii") as file:
        lines = [line.split() for line in file][1:]
    for words in lines:
        if int(words[0]) & 0xFFFFFFFF == key & 0xFFFFFFFF and int(words[4]) == os.getpid():
            sysv_ipc.remove_shared_memory(int(words[1]))


def remove_segment(memory: sysv_ipc.SharedMemory) -> None:
    """Remove and detach it."""
    with contextlib.suppress(sysv_ipc.ExistentialError):  # somebody's ipcrm was faster
        memory.remove()
    memory.detach()


def foreign(what: str, option: str) -> SpectaclesError:
    """Return the error that says that `what` is another user's."""
    return SpectaclesError(f"{what} : à un autre utilisateur ; choisissez une autre {option}")
