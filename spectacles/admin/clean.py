"""`spectacles clean`: remove what dead servers left in the kernel and in a run directory.

Removed is what the lock file of the directory notes (its servers write down what they make, and after a kill -9 it is
still there) and what the command line names, if no live server has claimed it, nobody uses it, and it belongs to this
user. What else has the keys of this directory, which a program in C may have made, is only named, with the command that
removes it: whoever made it knows whether it is still wanted.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import stat
from functools import partial
from pathlib import Path

import sysv_ipc

from spectacles.common import addresses, cli, invocation, storage
from spectacles.common.addresses import c_key
from spectacles.common.claims import claim
from spectacles.common.directory import RunDirectory
from spectacles.common.errors import EXIT_DONE, EXIT_FAILED, HeldError, SpectaclesError, reason
from spectacles.common.lifecycle import program
from spectacles.common.lockfile import OBJECTS
from spectacles.common.processes import process_exists
from spectacles.q1_pipes.channel import NAMES as FIFO_NAMES
from spectacles.q1_pipes.channel import has_server
from spectacles.q2_msq.takeover import claim_queue, live_user

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REMOVED = "supprimé"
FOREIGN = "à un autre utilisateur, laissé"
_COMMAND = {"key": "ipcrm -Q", "shm-key": "ipcrm -M", "sem-key": "ipcrm -S", "sem-name": "rm"}
SEMAPHORE_SIZES = (0, 16, 32)  # bytes of a sem_t, of 32 and 64 bits; 0: made, not yet written


@program
def main(argv: list[str] | None = None) -> int:
    """Remove and name each thing. Exit code 0; 1 if something had to be left; 3 while a server runs there."""
    command = invocation.name("spectacles clean")
    parser = cli.Parser(
        prog=command,
        description="Retire ce que des serveurs morts ont laissé dans le noyau et dans un répertoire de travail,\n"
        "et nomme ce qui a les clefs de ce répertoire sans être à eux. Ce que --key, --shm-key et --sem-name nomment\n"
        "est retiré aussi.",
        epilog=f"exemple : {command} --dir /tmp/guichet\n"
        "code de sortie : 0 tout est propre, 1 quelque chose a dû rester, 2 usage, 3 un serveur y travaille.",
    )
    cli.add_directory(parser)
    cli.add_addresses(parser)
    options = parser.parse_args(argv)
    if not os.path.isdir(options.dir):
        raise SpectaclesError(f"{options.dir} : aucun répertoire de ce nom")
    outcomes: list[str | None] = []
    with RunDirectory(options.dir) as directory:
        ours = set()
        given = {"key": options.key, "shm-key": options.shm_key, "sem-name": options.sem_name}
        for what in OBJECTS:
            value = given.get(what)  # no "sem-key": x1_sessions gives it the value of its shm-key
            wanted: set[str] = set() if value is None else {hex(value) if isinstance(value, int) else value}
            noted = directory.lock.objects.get(what, set())
            for name in sorted(noted | wanted):
                ours.add((what, name))
                outcome = _deal_with(what, name, noted=name in noted, named=name not in noted)
                if outcome in (None, REMOVED):
                    directory.lock.remove(what, name)
                outcomes.append(outcome)
        outcomes += [_deal_with(what, name) for what, name in _derived(options.dir) if (what, name) not in ours]
        served = has_server(directory.fd)  # one in C locks no directory
        if served:
            print(f"{options.dir} : un processus y lit les tubes, laissés")
            outcomes.append("laissés")
        for name in (*(() if served else FIFO_NAMES), storage.TEMPORARY_NAME):
            if _remove_file(directory.fd, name):
                print(f"{os.path.join(options.dir, name)} : {REMOVED}")
                outcomes.append(REMOVED)
    found = set(outcomes) - {None}
    if not found:
        print("Rien à nettoyer")
    return EXIT_FAILED if found - {REMOVED} else EXIT_DONE


def _derived(directory: str) -> Iterator[tuple[str, str]]:
    """Yield what has a key of `directory`: of each kind, as a program of one's own may use any for any."""
    projects = range(addresses.PROJECT_MSQ, addresses.PROJECT_SEM + 1)
    keys = [addresses.directory_key(directory, project) for project in projects]
    for what in ("key", "shm-key", "sem-key"):
        yield from ((what, hex(key)) for key in keys)
    yield "sem-name", addresses.semaphore_name(directory)
    yield "sem-name", f"/spectacles-c-{keys[0]:08x}"  # of the C reference


def _deal_with(what: str, name: str, *, noted: bool = False, named: bool = False) -> str | None:
    """Remove what was noted or named, only look at anything else, and print what came of it.

    Return that, None if there is no such thing.
    """
    try:
        with claim(f"{what} {name}"):
            thing = _LOOK[what](name)
            # A server in C claims nothing: what none of ours has noted may be one's.
            in_use = thing.attached or ("" if noted else thing.last_user)
            if in_use:
                outcome = in_use
            elif thing.uid != os.geteuid():
                outcome = f"{FOREIGN} ; pour lui ou root : {thing.command}"
            elif noted or named:
                thing.remove()
                outcome = REMOVED
            else:
                outcome = f"non noté par un serveur de ce répertoire, laissé ; à retirer par : {thing.command}"
    except HeldError:
        if not (noted or named):
            return None  # of a live server in another directory, whose key is the same by chance
        outcome = "utilisé par un serveur vivant, laissé"
    except (sysv_ipc.ExistentialError, FileNotFoundError):
        return None
    except (sysv_ipc.PermissionsError, PermissionError):
        outcome = f"{FOREIGN} ; pour lui ou root : {_COMMAND[what]} {name}"
    except (ValueError, TypeError, OverflowError):
        outcome = "nom illisible, laissé"
    except OSError as error:
        outcome = f"{reason(error)}, laissé"
    print(f"{what} {name} : {outcome}")
    return outcome


class _Thing:
    """A kernel object: whose it is, what says that somebody uses it ("" if nothing), and how to remove it."""

    def __init__(
        self, uid: int, remove: Callable[[], object], command: str, *, attached: str = "", last_user: str = ""
    ) -> None:
        self.uid = uid
        self.remove = remove
        self.command = command
        self.attached = attached
        self.last_user = last_user


def _queue(name: str) -> _Thing:
    queue = sysv_ipc.MessageQueue(c_key(int(name, 0)))
    if held := claim_queue(int(name, 0)):  # by one in another container, too, whose claim is not seen from here
        held.detach()
    last_user = _alive(live_user(queue) or 0)
    return _Thing(queue.uid, queue.remove, f"{_COMMAND['key']} {name}", last_user=last_user)


def _memory(name: str) -> _Thing:
    memory = sysv_ipc.SharedMemory(c_key(int(name, 0)), size=0)
    others = memory.number_attached - 1  # one is this process
    uid = memory.uid
    memory.detach()
    attached = f"attachée par {others} processus, laissée" if others else ""
    return _Thing(uid, memory.remove, f"{_COMMAND['shm-key']} {name}", attached=attached)


def _semaphores(name: str) -> _Thing:
    semaphores = sysv_ipc.Semaphore(c_key(int(name, 0)))
    last_user = _alive(semaphores.last_pid)
    return _Thing(semaphores.uid, semaphores.remove, f"{_COMMAND['sem-key']} {name}", last_user=last_user)


def _semaphore(name: str) -> _Thing:
    # As a file: sem_open(3) dies with SIGBUS on an empty one.
    for path in addresses.semaphore_files(name):
        with contextlib.suppress(FileNotFoundError):
            status = os.lstat(path)
            if stat.S_ISREG(status.st_mode) and status.st_size in SEMAPHORE_SIZES:
                user = _mapped_by(status)
                attached = f"ouvert par le processus {user}, laissé" if user else ""
                return _Thing(
                    status.st_uid,
                    partial(os.unlink, path),
                    f"{_COMMAND['sem-name']} {shlex.quote(path)}",
                    attached=attached,
                )
    raise FileNotFoundError


_LOOK: dict[str, Callable[[str], _Thing]] = {
    "key": _queue,
    "shm-key": _memory,
    "sem-key": _semaphores,
    "sem-name": _semaphore,
}


def _alive(*pids: int) -> str:
    user = next((pid for pid in pids if pid > 0 and process_exists(pid)), None)
    return f"le processus {user}, un des derniers à s'en servir, vit encore ; laissée" if user else ""


def _mapped_by(status: os.stat_result) -> int | None:
    """Return a process that has the file in its memory, as far as this user may see, proc(5)."""
    # Not by its path: glibc makes a semaphore under another name first, and links it.
    file = f" {os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x} {status.st_ino} ".encode()
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with contextlib.suppress(OSError):
            if file in maps.read_bytes():
                return int(maps.parent.name)
    return None


def _remove_file(directory_fd: int, name: str) -> bool:
    with contextlib.suppress(FileNotFoundError):
        status = os.stat(name, dir_fd=directory_fd, follow_symlinks=False)
        expected = stat.S_ISREG if name == storage.TEMPORARY_NAME else stat.S_ISFIFO
        if expected(status.st_mode) and status.st_uid == os.geteuid():
            os.unlink(name, dir_fd=directory_fd)
            return True
    return False
