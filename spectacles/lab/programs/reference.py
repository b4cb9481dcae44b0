"""The C reference of spectacles/lab/c, compiled on the spot: the yardstick of the comparison and of the bench."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from spectacles.common.errors import SpectaclesError

if TYPE_CHECKING:
    from collections.abc import Sequence

SOURCES = Path(__file__).parents[1] / "c"
FLAGS = ("-std=c11", "-O2", "-pthread")  # those of c/Makefile, which needs a make that users may lack
CLIENTS = {
    "q1_pipes": "q1_client",
    "q2_msq": "q2_client",
    "q3_threads": "q2_client",
    "q4_thread_per_request": "q2_client",
    "q5_sockets": "q5_client",
}


def compiler() -> str | None:
    """Return the path of the C compiler, None without one."""
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


def server_name(question: str) -> str:
    """Return the program that is the C server of `question`."""
    return f"{question[:2]}_server"


def build(directory: str | Path, questions: Sequence[str]) -> Path:
    """Compile the servers and clients of `questions` into `directory` and return it. Blocks, about a second.

    Raises SpectaclesError without a compiler, or when it fails.
    """
    cc = compiler()
    if cc is None:
        raise SpectaclesError("pas de compilateur C (cc) : la référence en C ne peut pas être construite")
    names = sorted({name for question in questions for name in (server_name(question), CLIENTS[question])})
    running: dict[str, subprocess.Popen[str]] = {}
    try:
        for name in names:
            running[name] = subprocess.Popen(
                [cc, *FLAGS, "-o", str(Path(directory) / name), str(SOURCES / f"{name}.c")],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
        for name, process in running.items():
            output, _ = process.communicate()
            if process.returncode != 0:
                raise SpectaclesError(f"{name}.c : {cc} a échoué : {output.strip()}")
    finally:
        for process in running.values():  # of a failure, or Ctrl-C: the others would write to a folder that goes
            process.terminate()  # by which it also takes its temporary files away
            process.wait()
    return Path(directory)
