"""Builds somebody's folder, in a world of its own, and says what programs came of it.

A Makefile, if there is one; else each C or C++ file with a main() by itself, or with the files without one beside it,
as it links. `-g` is added to whatever is compiled, by a cc of our own that comes first on PATH.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from spectacles.common.errors import SpectaclesError
from spectacles.lab.programs.world import Limits, World, WorldError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

PATIENCE = 60.0  # seconds for one command of a build
MOST_FILES = 2000  # of a folder that is judged
MOST_BYTES = 48 << 20
DEEP = 3  # folders below the one that is given
SKIPPED = ("spectacles-check", ".git", ".venv", "__pycache__", "node_modules")
LIBRARIES = ("-lpthread", "-lrt", "-lm")
COMPILERS = {"cc": "cc", "gcc": "gcc", "g++": "g++", "c++": "c++", "clang": "clang"}
_C, _CPP = (".c",), (".cc", ".cpp", ".cxx")
_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"", re.DOTALL)
_MAIN = re.compile(r"^[ \t]*(?:(?:int|void|signed|auto)[\s\n]+)?main\s*\(", re.MULTILINE)


class BuildError(SpectaclesError):
    """A folder that cannot be read, or does not build; one line says why."""


@dataclass(frozen=True)
class Executable:
    """A program in a built folder. path: relative to it. words: how it is started. sources: what it was made of."""

    path: str
    words: tuple[str, ...]
    sources: tuple[str, ...] = ()


@dataclass(frozen=True)
class Built:
    """A folder, built. folder: a temporary copy, whose end is up to whoever made it. log: what the build printed."""

    name: str
    folder: Path
    programs: tuple[Executable, ...]
    log: str = ""


def build(source: str | Path, into: str | Path, commands: Sequence[str] = (), files: Iterable[str] = ()) -> Built:
    """Build the folder `source` into the empty folder `into`. Blocks, for PATIENCE a command at most.

    commands: of the shell, instead of what would be found. files: made empty where they are missing. Raises BuildError.
    """
    source, into = Path(source), Path(into)
    _copy(source, into)
    for name in files:
        path = into / name
        if not path.resolve().is_relative_to(into.resolve()):
            raise BuildError(f"{name} : ce fichier n'est pas dans le dossier")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    before = {path: path.stat().st_mtime_ns for path in _files(into)}
    log: list[str] = []
    makefile = next((name for name in ("Makefile", "makefile", "GNUmakefile") if (into / name).exists()), None)
    made: dict[str, tuple[str, ...]] = {}
    to_compile = [path for path in _files(into) if path.suffix in (*_C, *_CPP)]
    try:
        with World(into, limits=Limits(seconds=4 * PATIENCE, processes=128)) as world:
            search = _wrap_compilers(world)
            if commands:
                for command in commands:
                    _run(world, ["sh", "-c", command], search, log)
            elif makefile is not None:
                _run(world, ["make"], search, log)
                made = {}
            elif to_compile:
                made = _compile(world, into, to_compile, search, log)
            _fetch(world.folder, into)
    except WorldError as error:
        raise BuildError(f"{source.name} : {error}") from None
    return Built(source.resolve().name, into, tuple(_programs(into, before, made)), "\n".join(log))


def _copy(source: Path, into: Path) -> None:
    """Copy what is judged: files and links, no FIFOs, sockets or devices. Raises BuildError."""
    if not source.is_dir():
        raise BuildError(f"{source} : ce n'est pas un dossier")
    count = size = 0
    try:
        for top, folders, names in os.walk(source):
            folders[:] = [name for name in folders if name not in SKIPPED]
            place = into / Path(top).relative_to(source)
            place.mkdir(exist_ok=True)
            for name in names:
                status = os.lstat(Path(top, name))
                if stat.S_ISREG(status.st_mode):
                    count, size = count + 1, size + status.st_size
                    if count > MOST_FILES or size > MOST_BYTES:
                        raise BuildError(f"{source} : plus de {MOST_FILES} fichiers ou de {MOST_BYTES >> 20} Mio")
                    shutil.copy2(Path(top, name), place / name)
                elif stat.S_ISLNK(status.st_mode):
                    os.symlink(os.readlink(Path(top, name)), place / name)
    except OSError as error:
        raise BuildError(f"{error.filename or source} : {error.strerror}") from None


def _files(folder: Path) -> list[Path]:
    """Return the regular files of a folder, DEEP folders down."""
    found = []
    for top, folders, names in os.walk(folder):
        if len(Path(top).relative_to(folder).parts) >= DEEP:
            folders.clear()
        folders.sort()
        found += [
            path for path in (Path(top, name) for name in sorted(names)) if path.is_file() and not path.is_symlink()
        ]
    return found


def sources(folder: Path) -> list[Path]:
    """Return the source files of a folder, in C, C++ and Python."""
    return [path for path in _files(folder) if path.suffix in (*_C, *_CPP, ".py")]


def _wrap_compilers(world: World) -> str:
    """Put compilers that add -g beside the world's folder; return the PATH that finds them."""
    with tempfile.TemporaryDirectory() as folder:
        for name in COMPILERS:
            real = shutil.which(name)
            if real is not None:
                script = Path(folder, name)
                script.write_text(f'#!/bin/sh\nexec {real} -g "$@"\n')
                script.chmod(0o755)
                world.lend(script)
    return f"{os.path.dirname(world.inside)}:/usr/local/bin:/usr/bin:/bin"


def _run(world: World, command: Sequence[str], path: str, log: list[str], cwd: str = ".") -> None:
    """Run one command of a build. Raises BuildError with the first line that says what is wrong."""
    code, output = _try(world, command, path, cwd)
    log += [f"$ {' '.join(command)}", output]
    if code != 0:
        raise BuildError(f"{' '.join(command)} : {_first_error(output) or f'code de sortie {code}'}")


def _try(world: World, command: Sequence[str], path: str, cwd: str = ".") -> tuple[int, str]:
    try:
        program = world.start(command, env={"PATH": path, "LC_ALL": "C"}, cwd=cwd, size=(50, 500))
    except WorldError as error:
        return 127, str(error)
    try:
        return program.wait(PATIENCE), program.output()
    except WorldError:
        program.signal(9)
        return -1, f"{program.output()}\nplus de {PATIENCE:g} s"


def _first_error(output: str) -> str:
    lines = [re.sub(r"\x1b\[[\d;]*[mK]", "", line).strip() for line in output.splitlines()]
    for words in (r"\berror:", r"undefined reference", r"No rule|Error \d", r"not found|No such file"):
        for line in lines:
            if re.search(words, line):
                return line
    return next((line for line in reversed(lines) if line), "")


def _compile(world: World, folder: Path, sources: list[Path], path: str, log: list[str]) -> dict[str, tuple[str, ...]]:
    """Compile every file with a main(). Returns program -> its sources. Raises BuildError when none compiles."""
    mains = [path for path in sources if _MAIN.search(_COMMENT.sub("", path.read_text(errors="replace")))]
    rest = [path for path in sources if path not in mains]
    made: dict[str, tuple[str, ...]] = {}
    failed = ""
    for main in mains:
        target = main.with_suffix("")
        if target.exists():
            target = main.with_suffix(".bin")
        near = [other for other in rest if other.parent == main.parent]
        output = ""
        for with_ in ([], near, rest) if rest else ([],):
            files = [str(other.relative_to(folder)) for other in (main, *with_)]
            plus = any(name.endswith(_CPP) for name in files)
            command = ["g++" if plus else "cc", "-O0", "-o", str(target.relative_to(folder)), *files, "-I.", *LIBRARIES]
            code, output = _try(world, command, path)
            log += [f"$ {' '.join(command)}", output]
            if code == 0:
                made[str(target.relative_to(folder))] = tuple(files)
                break
            if "undefined reference" not in output and "undefined symbol" not in output:
                break
        else:
            failed = failed or _first_error(output)
            continue
        if str(target.relative_to(folder)) not in made:
            failed = failed or _first_error(output)
    if not made and mains:
        raise BuildError(f"ne se compile pas : {failed}")
    if failed:
        log.append(f"un fichier au moins ne se compile pas : {failed}")
    return made


def _fetch(there: Path, into: Path) -> None:
    """Copy what a build has made back out of its world."""
    begun = time.monotonic()
    for top, folders, names in os.walk(there):
        place = into / Path(top).relative_to(there)
        folders[:] = [name for name in folders if name not in SKIPPED]
        place.mkdir(exist_ok=True)
        for name in names:
            path = Path(top, name)
            status = os.lstat(path)
            if not stat.S_ISREG(status.st_mode) or time.monotonic() - begun > PATIENCE:
                continue
            old = place / name
            if old.exists() and old.stat().st_mtime_ns == status.st_mtime_ns and old.stat().st_size == status.st_size:
                continue
            shutil.copy2(path, old)


def _programs(folder: Path, before: dict[Path, int], made: dict[str, tuple[str, ...]]) -> Iterable[Executable]:
    """Find programs: what was compiled here, other ELF programs, scripts."""
    for name, sources in made.items():
        yield Executable(name, (f"./{name}",), sources)
    for path in _files(folder):
        name = str(path.relative_to(folder))
        if name in made:
            continue
        with open(path, "rb") as file:
            head = file.read(18)
        if head[:4] == b"\x7fELF" and head[16:18] in (b"\x02\x00", b"\x03\x00") and os.access(path, os.X_OK):
            if path.suffix not in (".so", ".o"):
                yield Executable(name, (f"./{name}",), _sources_of(path, folder))
        elif path.suffix == ".py":
            yield Executable(name, ("python3", name), (name,))
        elif head[:2] == b"#!" and os.access(path, os.X_OK):
            yield Executable(name, (f"./{name}",), (name,))


def _sources_of(path: Path, folder: Path) -> tuple[str, ...]:
    """Guess the source of a program that a Makefile has made: the file of its name."""
    wanted = path.name.lower().removesuffix(".out").removesuffix(".exe")
    return tuple(
        str(other.relative_to(folder))
        for other in _files(folder)
        if other.suffix in (*_C, *_CPP) and other.stem.lower() == wanted
    )
