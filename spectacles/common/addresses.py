"""Where the kernel objects of a server are found: names given, or derived from the run directory by ftok(3).

A System V key is 32 bits. Here it is a number above 0, as `ipcs` and our messages print it in hexadecimal: one key has
one name, whether somebody typed 0xfffffffb or, as C prints a key_t, -5.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace

PROJECT_MSQ, PROJECT_SHM, PROJECT_SEM = 42, 43, 44  # second arguments of ftok(3); 42 is the original's
KEY_MASK = 0xFFFFFFFF


def c_key(key: int) -> int:
    """Return `key` (1 to 2**32 - 1) as the C int that a key_t is, -2**31 to 2**31 - 1: what the bindings are given."""
    return key - 2**32 if key >= 2**31 else key


def directory_key(path: str, project: int) -> int:
    """Return ftok(path, project): a System V key from a directory, stable as long as the directory is not replaced.

    project: 1..255. As glibc computes it, ftok(3): two directories may collide, one chance in 65,536 on one disk.
    Raises OSError when there is no such directory.
    """
    status = os.stat(path)
    return (project & 0xFF) << 24 | (status.st_dev & 0xFF) << 16 | (status.st_ino & 0xFFFF)


def semaphore_name(path: str) -> str:
    """Return the default name of the semaphore of the run directory `path`."""
    return f"/spectacles-{directory_key(path, PROJECT_SEM):x}"


def semaphore_files(name: str) -> list[str]:
    """Return the files that exist where the semaphore `name` ("/name") may lie: each C library has a place of its own.

    glibc: /dev/shm/sem.NAME; musl (Alpine): /dev/shm/NAME, which elsewhere is a shared memory of shm_open(3). So a file
    that is found may be something else: look at whose it is, but leave it to sem_unlink(3) to remove what is there.
    """
    return [path for path in (f"/dev/shm/sem.{name[1:]}", f"/dev/shm/{name[1:]}") if os.path.lexists(path)]


def resolve(options: Namespace) -> None:
    """Fill in the addresses that the command line left open. Raises OSError if there is no run directory."""
    if options.key is None:
        options.key = directory_key(options.dir, PROJECT_MSQ)
    if options.shm_key is None:
        options.shm_key = directory_key(options.dir, PROJECT_SHM)
    if options.sem_name is None:
        options.sem_name = semaphore_name(options.dir)
