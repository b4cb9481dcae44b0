"""`spectacles clean`: remove what dead servers left in the kernel and in a run directory.

The lock file of a run directory says which keys and names its last server used; after a kill -9 it is still there. Only
those, and what the command line names, are looked at; each is removed only if no live server has claimed it, nobody is
attached to it or reads it, and it belongs to this user.
"""

from __future__ import annotations

import contextlib
import os
import stat

import posix_ipc
import sysv_ipc

from spectacles.common import cli, storage
from spectacles.common.addresses import c_key
from spectacles.common.directory import RunDirectory, claim, process_exists
from spectacles.common.errors import EXIT_DONE, EXIT_FAILED, HeldError, SpectaclesError, reason
from spectacles.common.lifecycle import program
from spectacles.q1_pipes.channel import NAMES as FIFO_NAMES
from spectacles.q1_pipes.channel import has_server

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


@program
def main(argv: list[str] | None = None) -> int:
    """Remove and name each thing. Exit code 0; 1 if something had to be left; 3 while a server runs there."""
    parser = cli.Parser(
        prog="spectacles clean",
        description="Retire ce que des serveurs morts ont laissé dans le noyau et dans un répertoire de travail.",
        epilog="exemple : spectacles clean --dir /tmp/guichet\n"
        "code de sortie : 0 tout est propre, 1 quelque chose a dû rester, 2 usage, 3 un serveur y travaille.",
    )
    cli.add_directory(parser)
    cli.add_addresses(parser)
    options = parser.parse_args(argv)
    if not os.path.isdir(options.dir):
        raise SpectaclesError(f"{options.dir} : aucun répertoire de ce nom")
    found = left = 0
    with RunDirectory(options.dir) as directory:
        for what, given, remove in (
            ("key", options.key, _remove_queue),
            ("shm-key", options.shm_key, _remove_memory),
            ("sem-name", options.sem_name, _remove_semaphore),
        ):
            recorded = directory.objects.get(what, set())
            for name in sorted(recorded | ({hex(given) if isinstance(given, int) else given} - {None})):
                outcome = _try(what, name, remove, noted=name in recorded)
                if outcome in (None, REMOVED):
                    directory.remove(what, name)
                if outcome:
                    print(f"{what} {name} : {outcome}")
                    found += 1
                    left += outcome != REMOVED
        served = has_server(directory.fd)  # one in C locks no directory
        if served:
            print(f"{options.dir} : un processus y lit les tubes, laissés")
            found += 1
            left += 1
        for name in (*(() if served else FIFO_NAMES), storage.TEMPORARY_NAME):
            if _remove_file(directory.fd, name):
                print(f"{os.path.join(options.dir, name)} : {REMOVED}")
                found += 1
    if not found:
        print("Rien à nettoyer")
    return EXIT_FAILED if left else EXIT_DONE


REMOVED = "supprimé"
FOREIGN = "à un autre utilisateur, laissé"


def _try(what: str, name: str, remove: Callable[[str], str | None], *, noted: bool) -> str | None:
    try:
        with claim(f"{what} {name}"):
            # A server in C claims nothing: what none of ours has noted may be one's.
            user = None if noted or what != "key" else _last_user(name)
            if user:
                return f"le processus {user}, un des derniers à s'en servir, vit encore ; laissée"
            return remove(name)
    except HeldError:
        return "utilisé par un serveur vivant, laissé"
    except (sysv_ipc.ExistentialError, FileNotFoundError):
        return None
    except (sysv_ipc.PermissionsError, PermissionError):
        return FOREIGN
    except (ValueError, TypeError, OverflowError):
        return "nom illisible, laissé"
    except OSError as error:
        return f"{reason(error)}, laissé"


def _last_user(name: str) -> int | None:
    queue = sysv_ipc.MessageQueue(c_key(int(name, 0)))
    last = (queue.last_send_pid, queue.last_receive_pid)
    return next((pid for pid in last if pid > 0 and process_exists(pid)), None)


def _remove_queue(name: str) -> str:
    queue = sysv_ipc.MessageQueue(c_key(int(name, 0)))
    if queue.uid != os.geteuid():
        return FOREIGN
    queue.remove()
    return REMOVED


def _remove_memory(name: str) -> str:
    memory = sysv_ipc.SharedMemory(c_key(int(name, 0)), size=0)
    try:
        if memory.uid != os.geteuid():
            return FOREIGN
        if memory.number_attached > 1:  # one is this process
            return f"attachée par {memory.number_attached - 1} processus, laissée"
        memory.remove()
    finally:
        memory.detach()
    return REMOVED


def _remove_semaphore(name: str) -> str:
    if os.lstat(f"/dev/shm/sem.{name[1:]}").st_uid != os.geteuid():
        return FOREIGN
    with contextlib.suppress(posix_ipc.ExistentialError):
        posix_ipc.unlink_semaphore(name)
    return REMOVED


def _remove_file(directory_fd: int, name: str) -> bool:
    with contextlib.suppress(FileNotFoundError):
        status = os.stat(name, dir_fd=directory_fd, follow_symlinks=False)
        expected = stat.S_ISREG if name == storage.TEMPORARY_NAME else stat.S_ISFIFO
        if expected(status.st_mode) and status.st_uid == os.geteuid():
            os.unlink(name, dir_fd=directory_fd)
            return True
    return False
