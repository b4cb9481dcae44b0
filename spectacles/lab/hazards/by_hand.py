"""A hazard for people to try: its programs in a directory, the server in the foreground, the rest in other terminals.

Outside the gate and outside any world, so the keys are made from the directory, as those of our servers are.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import posix_ipc
import sysv_ipc

from spectacles.common.errors import UsageError, reason
from spectacles.lab.hazards import play
from spectacles.lab.hazards.hazard import BROKEN, SOUND, Hazard

QUEUES = 2  # at most, by keys that follow each other
SEMAPHORES = ("guichet", "caisse", "salle")


def try_out(hazard: Hazard, which: str, directory: Path, slow: int) -> int:
    """Build both programs in `directory`, say what to type, run the server of one until it ends; then remove all.

    slow: seconds for which the window stays open, 0 to 3600. Blocks until the user is done. Raises UsageError,
    HazardError.
    """
    made = False
    try:
        made = not directory.exists()
        directory.mkdir(mode=0o700, exist_ok=True)
        if not made and any(directory.iterdir()):
            raise UsageError(f"{directory} n'est pas vide : un répertoire neuf, ou vide, pour y jouer")
        inode = directory.stat().st_ino & 0xFFFFFF
    except OSError as error:
        raise UsageError(f"{directory} : {reason(error)}") from None
    key, prefix = 0x51000000 | inode & ~1, f"/spectacles-{inode:x}-"
    defines = [f"-DKEY={key:#x}", f'-DPREFIX="{prefix}"', f"-DPORT={20000 + inode % 10000}"]
    defines += [f"-DSLOW={slow}"] if slow else []
    try:
        for name, variant in (("hazard", BROKEN), ("sain", SOUND)):
            with play.built(hazard, variant, defines) as folder:
                shutil.copy(folder / "hazard", directory / name)
        chosen = "./hazard" if which == BROKEN else "./sain"
        _explain(hazard, chosen, directory, slow)
        return _run(hazard, chosen, directory)
    finally:
        _remove(key, prefix)
        if made:
            shutil.rmtree(directory, ignore_errors=True)
        else:
            for path in directory.iterdir():
                path.unlink()


def _explain(hazard: Hazard, chosen: str, directory: Path, slow: int) -> None:
    print(f"{hazard.title} : {'cassé' if chosen == './hazard' else 'sain'}, à la main.\n")
    print(f"Dans d'autres terminaux, après « cd {directory} » :")
    for words in hazard.programs:
        if words[0] != "server":
            print(f"    {chosen} {' '.join(words)}")
    killed = re.findall(r"^kill (\S+)(.*)$", hazard.script, re.MULTILINE)
    if slow:
        print(
            f"Le premier venu là où cela peut mal tourner le dit, et y reste {slow} s ; c'est alors le tour du suivant."
        )
    for task, signal_ in killed:
        print(f"Il faut alors envoyer {signal_.strip() or 'SIGKILL'} à {task} : kill -{signal_.strip() or 'KILL'} PID")
    if hazard.pids:
        print("Il faudrait un PID qui revient : à la main, on n'y arrive guère ; « spectacles break » le choisit.")
    print(flush=True)


def _run(hazard: Hazard, chosen: str, directory: Path) -> int:
    """Run the server, if there is one, then wait until the user has seen enough. Ctrl-C is for the server first."""
    with _interrupts_for_others():
        if hazard.programs[0][0] == "server":
            with subprocess.Popen([chosen, "server"], cwd=directory) as process:
                try:
                    code = process.wait()
                finally:
                    process.kill()
            how = f"tué par {signal.Signals(-code).name}" if code < 0 else f"code {code}"
            print(f"\nLe serveur a fini ({how}).", flush=True)
    if sys.stdin.isatty():
        with contextlib.suppress(KeyboardInterrupt, EOFError):
            input("Entrée pour tout retirer... ")
    return 0


@contextlib.contextmanager
def _interrupts_for_others() -> Iterator[None]:
    """Leave Ctrl-C to the program in the foreground: it reaches every process of the terminal."""
    before = signal.signal(signal.SIGINT, lambda *_: None)  # not SIG_IGN, which a child would inherit
    ended = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # what was made is removed
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        signal.signal(signal.SIGTERM, ended)


def _remove(key: int, prefix: str) -> None:
    """Remove the kernel objects that the programs may have left."""
    for number in range(key, key + QUEUES):
        with contextlib.suppress(sysv_ipc.Error):
            sysv_ipc.MessageQueue(number).remove()
        with contextlib.suppress(sysv_ipc.Error):
            sysv_ipc.Semaphore(number).remove()
    for name in SEMAPHORES:
        with contextlib.suppress(posix_ipc.Error):
            posix_ipc.unlink_semaphore(prefix + name)
