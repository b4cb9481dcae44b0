"""The preload library of marks.c, compiled on first use and kept in the user's cache."""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import os
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_name("marks.c")
FLAGS = ("-O2", "-shared", "-fPIC", "-w")
LIBRARIES = ("-ldl", "-pthread")
COMPILING = 60.0  # seconds

UNSEEN = "verrous que personne ne dispute, accès à la mémoire partagée et résultats des appels"


def library() -> tuple[Path | None, str]:
    """Return the library, None without one, and then why, one line in French. Blocks, half a second the first time."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return None, f"pas de compilateur C (cc) : ne sont pas vus {UNSEEN}"
    text = SOURCE.read_bytes()
    told = "\0".join((os.uname().machine, compiler, *FLAGS)).encode()
    name = f"marks-{hashlib.sha256(text + told).hexdigest()[:32]}.so"
    try:
        folder = _cache()
        found = folder / name
        if not _ours(found):
            _compile(compiler, found)
        return found, ""
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        return None, f"marks.c ne se compile pas ({str(said).strip().splitlines()[-1]}) : ne sont pas vus {UNSEEN}"


def _cache() -> Path:
    """Return a folder that is ours, and that nobody else can write to."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    root = Path(base) if base.startswith("/") else Path.home() / ".cache"
    folder = root / "spectacles"
    with contextlib.suppress(OSError, RuntimeError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = os.lstat(folder)
        if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022:
            with tempfile.TemporaryFile(dir=folder):
                return folder
    made = Path(tempfile.mkdtemp(prefix="spectacles-marks-"))  # no home, or somebody else's: for this process
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


def _ours(path: Path) -> bool:
    """Say whether it is a file that we made: what else bears its name is compiled over."""
    try:
        status = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022


def _compile(compiler: str, target: Path) -> None:
    """Compile beside it and rename: who else does the same at the same time gets the one or the other, whole."""
    number, made = tempfile.mkstemp(dir=target.parent, suffix=".so")
    os.close(number)
    try:
        subprocess.run(
            [compiler, *FLAGS, "-o", made, str(SOURCE), *LIBRARIES],
            check=True,
            capture_output=True,
            text=True,
            timeout=COMPILING,
            env={**os.environ, "LC_ALL": "C"},
        )
        os.chmod(made, 0o755)
        os.rename(made, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(made)
        raise


def linked_statically(program: str | Path) -> bool | None:
    """Say whether an ELF program is linked statically, so that no preload library reaches it; None: no such program."""
    kind = _elf(program)
    return None if kind is None else not kind[1]


def links(program: str | Path, library: bytes) -> bool:
    """Say whether an ELF program names a library."""
    try:
        return _elf(program) is not None and library in Path(program).read_bytes()
    except OSError:
        return False


def word_size(program: str | Path) -> int | None:
    """Return 32 or 64, None if it is no ELF program: a script, say."""
    kind = _elf(program)
    return None if kind is None else kind[0]


def _elf(program: str | Path) -> tuple[int, bool] | None:
    """Return the bits of an ELF program and whether it asks for a dynamic linker, elf(5)."""
    try:
        with open(program, "rb") as file:
            head = file.read(64)
            if head[:4] != b"\x7fELF" or len(head) < 52:
                return None
            bits = 64 if head[4] == 2 else 32
            at = int.from_bytes(head[32:40] if bits == 64 else head[28:32], "little")
            size, count = (
                int.from_bytes(head[place : place + 2], "little") for place in ((54, 56) if bits == 64 else (42, 44))
            )
            file.seek(at)
            table = file.read(size * count)
    except OSError:
        return None
    interpreter = 3  # PT_INTERP
    kinds = [int.from_bytes(table[start : start + 4], "little") for start in range(0, len(table), size or 1)]
    return bits, interpreter in kinds
