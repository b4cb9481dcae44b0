"""Builds somebody's folder, in a world of its own, and says what programs came of it.

In this order, until there is a pair of programs: a Makefile, and those of another name (MakeServer, server.mk); a
script that compiles (make.sh); Makefiles in folders below; and each C or C++ file with a main() that no program came
of, with what it needs of the files without one. `-g` is added to whatever is compiled, by a cc of our own that comes
first on PATH. What fails is done once more as an older compiler would have it (globals in headers, no -Werror).

Of a folder that holds several exercises, each with its pair, the one is built that speaks most of seats and channels.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import stat
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from elftools.common.exceptions import DWARFError, ELFError
from elftools.elf.elffile import ELFFile

from spectacles.common.errors import SpectaclesError, reason
from spectacles.lab.programs.world import Limits, World, WorldError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

PATIENCE = 60.0  # seconds for one command of a build
MOST_FILES = 2000  # of a folder that is judged
MOST_BYTES = 48 << 20
DEEP = 4  # folders below the one that is given
MOST_READ = 1 << 16  # characters of a source, in search of hints
ENOUGH = 12  # programs compiled by ourselves, at most
SKIPPED = ("spectacles-check", ".git", ".venv", "__pycache__", "node_modules")
LIBRARIES = ("-lpthread", "-lrt", "-lm")
INCLUDED = {"crypt.h": "-lcrypt", "sqlite3.h": "-lsqlite3", "ncurses.h": "-lncurses", "curses.h": "-lncurses"}
COMPILERS = {"cc": "cc", "gcc": "gcc", "g++": "g++", "c++": "c++", "clang": "clang"}
LENIENT = "-fcommon -w"  # what gcc was like before 10
FURTHER = " -fpermissive"  # and before 14
_C, _CPP = (".c",), (".cc", ".cpp", ".cxx")
_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"", re.DOTALL)
_MAIN = re.compile(r"^[ \t]*(?:(?:int|void|signed|auto)[\s\n]+)?main\s*\(", re.MULTILINE)
_PY_MAIN = re.compile(r"^(?:if __name__|while |[\w.]+\()", re.MULTILINE)
_MAKEFILES = ("GNUmakefile", "makefile", "Makefile")
_TARGET = re.compile(r"^([\w./-]+)\s*:(?!=)", re.MULTILINE)
_SCRIPT = re.compile(r"\b(?:gcc|cc|g\+\+|clang|make)\b")
_OBJECTS = ".spectacles-objets"
_SERVES = re.compile(r"\b(?:msgrcv|mkfifo|accept|bind|mq_receive|listen)\s*\(|socketserver|sysv_ipc")
_FOR_EVER = re.compile(r"while\s*\(?\s*(?:1|true|True|running|!\w+)\b|for\s*\(\s*;\s*;")
_SUBJECT = re.compile(r"seat|ticket|book|reserv|réserv|place|spectacle|billet|prenot|posti|asiento|plaza|film|train")
SERVER = re.compile(r"serv|srv|daemon|guichet|bank|gestion|caisse|central")
CLIENT = re.compile(r"client|cli\b|user|agen|custom|achet|usager|client")


class BuildError(SpectaclesError):
    """A folder that cannot be read, or does not build; one line says why."""


@dataclass(frozen=True)
class Executable:
    """A program in a built folder. path: relative to it. words: how it is started, in the folder `folder` of it.

    sources: what it was made of, relative as well.
    """

    path: str
    words: tuple[str, ...]
    sources: tuple[str, ...] = ()
    folder: str = "."


@dataclass(frozen=True)
class Built:
    """A folder, built. folder: a temporary copy, whose end is up to whoever made it. log: what the build printed.

    notes: what is to be told of how it was built, in French.
    """

    name: str
    folder: Path
    programs: tuple[Executable, ...]
    log: str = ""
    notes: tuple[str, ...] = ()


def build(source: str | Path, into: str | Path, commands: Sequence[str] = (), files: Iterable[str] = ()) -> Built:
    """Build the folder `source` into the empty folder `into`. Blocks, for PATIENCE a command at most.

    commands: of the shell, instead of what would be found. files: made empty where they are missing. Raises BuildError.
    """
    source, into = Path(source), Path(into)
    name = source.resolve().name
    if not source.is_dir():
        raise BuildError(f"{source} : ce n'est pas un dossier")
    notes: tuple[str, ...] = ()
    if not commands:
        source, notes = _exercise(source)
    _copy(source, into)
    for wanted in files:
        path = into / wanted
        if not path.resolve().is_relative_to(into.resolve()):
            raise BuildError(f"{wanted} : ce fichier n'est pas dans le dossier")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    log: list[str] = []
    made: dict[str, tuple[str, ...]] = {}
    places: dict[str, str] = {}
    old = {} if commands else _aside(into)
    before = {path: path.stat().st_mtime_ns for path in _files(into)}
    try:
        with World(into, limits=Limits(seconds=4 * PATIENCE, processes=128)) as world:
            search = _wrap_compilers(world)
            if commands:
                for command in commands:
                    _run(world, ["sh", "-c", command], search, log)
                _fetch(world.folder, into)
            else:
                made, places = _ways(world, into, search, log, bool(old))
    except WorldError as error:
        raise BuildError(f"{name} : {error}") from None
    if len(_roles(str(path.relative_to(into)) for path in _files(into) if _is_elf(path))) < 2:
        for path, (content, mode) in old.items():
            if not path.exists():
                path.write_bytes(content)
                path.chmod(mode)
    return Built(name, into, tuple(_programs(into, before, made, places)), "\n".join(log), notes)


# Which of several exercises


def _exercise(source: Path) -> tuple[Path, tuple[str, ...]]:
    """Return the folder that is to be judged: `source`, or that of one exercise in it, and what is to be said of it."""
    if any((source / name).exists() for name in _MAKEFILES) or any(_scripts(source)):
        return source, ()
    pairs: dict[Path, list[Path]] = {}
    for path in _files(source):
        relative = path.relative_to(source)
        if relative.parts[0] in SKIPPED or not _has_main(path):
            continue
        place = path.parent
        if place != source and (SERVER.search(place.name.lower()) or CLIENT.search(place.name.lower())):
            place = place.parent  # server/server.c beside client/client.c
        pairs.setdefault(place, []).append(path)
    scores = {
        place: score
        for place, mains in pairs.items()
        if place != source and (score := _score(mains)) and len(_roles(str(path) for path in mains)) == 2
    }
    if len(scores) < 2 or source in pairs:
        return source, ()
    chosen = max(sorted(scores), key=lambda place: scores[place])
    where = chosen.relative_to(source)
    others = ", ".join(str(place.relative_to(source)) for place in sorted(scores) if place != chosen)
    return chosen, (f"plusieurs exercices : c'est {where} qui est jugé (autres : {others[:200]})",)


def _score(mains: Sequence[Path]) -> int:
    """Return how much some files look like a service with seats to be had: 0 if they serve nobody."""
    text = "\n".join(path.read_text(errors="replace")[:MOST_READ] for path in mains)
    if not _SERVES.search(text):
        return 0
    return 1 + 50 * bool(_FOR_EVER.search(text)) + min(len(_SUBJECT.findall(text.lower())), 100)


def _roles(names: Iterable[str]) -> set[str]:
    """Return which of "server" and "client" there are among programs, by their names."""
    found = set()
    for name in names:
        last = "/".join(name.lower().split("/")[-2:])
        if SERVER.search(last.rpartition("/")[2]) or (SERVER.search(last) and not CLIENT.search(last)):
            found.add("server")
        elif CLIENT.search(last):
            found.add("client")
    return found


def _has_main(path: Path) -> bool:
    """Say whether a source file is a program by itself."""
    if path.suffix in (*_C, *_CPP):
        return _MAIN.search(_COMMENT.sub("", path.read_text(errors="replace"))) is not None
    if path.suffix == ".py":
        return _PY_MAIN.search(path.read_text(errors="replace")) is not None
    return False


def _copy(source: Path, into: Path) -> None:
    """Copy what is judged: files and links, no FIFOs, sockets or devices. Raises BuildError."""
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
        raise BuildError(reason(error) if error.filename else f"{source} : {reason(error)}") from None


def _aside(folder: Path) -> dict[Path, tuple[bytes, int]]:
    """Take away the programs that came with the sources, older than these or of another machine, and return them."""
    found: dict[Path, tuple[bytes, int]] = {}
    if any(path.suffix in (*_C, *_CPP) and _has_main(path) for path in _files(folder)):
        for path in _files(folder):
            if _is_elf(path):
                found[path] = (path.read_bytes(), path.stat().st_mode & 0o777)
                path.unlink()
    return found


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
    """Put compilers that add -g beside the world's folder; return the PATH that finds them.

    What they add else is in SPECTACLES_CC; libraries that old compilers found by themselves come last.
    """
    with tempfile.TemporaryDirectory() as folder:
        for name in COMPILERS:
            real = shutil.which(name)
            if real is not None:
                script = Path(folder, name)
                script.write_text(f'#!/bin/sh\nexec {real} -g $SPECTACLES_CC "$@" {" ".join(LIBRARIES)}\n')
                script.chmod(0o755)
                world.lend(script)
    return f"{os.path.dirname(world.inside)}:/usr/local/bin:/usr/bin:/bin"


def _run(world: World, command: Sequence[str], path: str, log: list[str], cwd: str = ".") -> None:
    """Run one command of a build. Raises BuildError with the first line that says what is wrong."""
    code, output = _try(world, command, path, cwd)
    log += [f"$ {' '.join(command)}", output]
    if code != 0:
        raise BuildError(f"{' '.join(command)} : {_first_error(output) or f'code de sortie {code}'}")


def _try(world: World, command: Sequence[str], path: str, cwd: str = ".", more: str = "") -> tuple[int, str]:
    env = {"PATH": path, "LC_ALL": "C", "SPECTACLES_CC": more}
    try:
        program = world.start(command, env=env, cwd=cwd, size=(50, 500))
    except WorldError as error:
        return 127, str(error)
    ours = f"{world.inside}/"  # a place that says nothing to anybody
    try:
        return program.wait(PATIENCE), program.output().replace(ours, "")
    except WorldError:
        program.signal(9)
        return -1, f"{program.output().replace(ours, '')}\nplus de {PATIENCE:g} s"


def _twice(world: World, command: Sequence[str], path: str, log: list[str], cwd: str = ".") -> str:
    """Run a command of a build, if it fails once more as an older compiler; return what is wrong, "" if nothing."""
    output = ""
    for more in ("", LENIENT + (FURTHER if _gcc() >= 14 else "")):
        code, output = _try(world, command, path, cwd, more)
        log += [f"$ {' '.join(command)}", output]
        if code == 0:
            return ""
        if code in (127, -1):
            break
    return f"{' '.join(command)} : {_first_error(output) or 'elle échoue'}"


@functools.cache
def _gcc() -> int:
    """Return the main version of gcc, 0 if there is none."""
    try:
        said = subprocess.run(["gcc", "-dumpversion"], capture_output=True, text=True, check=False).stdout
    except OSError:
        return 0
    return int(said.split(".")[0]) if said[:1].isdigit() else 0


def _first_error(output: str) -> str:
    lines = [re.sub(r"\x1b\[[\d;]*[mK]", "", line).strip() for line in output.splitlines()]
    for words in (r"(?<!collect2: )\berror:", r"undefined reference", r"No rule|Error \d", r"not found|No such file"):
        for line in lines:
            if re.search(words, line):
                return line
    return next((line for line in reversed(lines) if line), "")


# The ways of building, in turn


def _ways(
    world: World, folder: Path, path: str, log: list[str], old: bool
) -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
    """Build a folder in the ways that people have, until there is a pair of programs.

    old: whether there are programs that came with it. Returns the programs that we compiled -> their sources, and
    programs -> the folder in which they were made. Raises BuildError when something was to be built, and nothing was.
    """
    mains = [one for one in _files(folder) if one.suffix in (*_C, *_CPP) and _has_main(one)]
    before = {one.relative_to(folder) for one in _files(folder)}
    places: dict[str, str] = {}
    failed: list[str] = []

    def fresh() -> list[str]:
        _fetch(world.folder, folder)
        names = [
            str(name) for one in _files(folder) if (name := one.relative_to(folder)) not in before and _is_elf(one)
        ]
        return [name for name in names if not name.startswith(_OBJECTS)]

    def enough() -> bool:
        made = fresh()
        return len(_roles(made)) == 2 or (bool(made) and len(made) >= len(mains))

    for command, cwd in _commands(folder):
        if (command != ["make"] or cwd != ".") and enough():
            break
        known = set(fresh())
        why = _twice(world, command, path, log, cwd)
        failed += [why] if why else []
        places.update({name: cwd for name in fresh() if name not in known and cwd != "."})
    made: dict[str, tuple[str, ...]] = {}
    if mains and not enough():
        done = {Path(name).stem.lower() for name in fresh()}
        rest = [one for one in mains if one.stem.lower() not in done]
        made, why = _compile(world, folder, rest[:ENOUGH], path, log)
        failed += [why] if why else []
        _fetch(world.folder, folder)
        shutil.rmtree(folder / _OBJECTS, ignore_errors=True)
        shutil.rmtree(world.folder / _OBJECTS, ignore_errors=True)
    if failed and not made and not fresh() and not old and not any(one.suffix == ".py" for one in _files(folder)):
        raise BuildError(failed[0] if failed[0].startswith("make") else f"ne se compile pas : {failed[0]}")
    if failed:
        log.append(f"tout ne se construit pas : {failed[0]}")
    return made, places


def _commands(folder: Path) -> Iterable[tuple[list[str], str]]:
    """Return the commands of a build that a folder offers, each with the folder where it is given."""
    usual = next((name for name in _MAKEFILES if (folder / name).exists()), "")
    if usual:
        yield ["make"], "."
        text = (folder / usual).read_text(errors="replace")
        targets = [name for name in _TARGET.findall(text) if not name.startswith(".") and len(_roles([name])) == 1]
        whole = [name for name in _TARGET.findall(text) if name in ("all", "compile", "build", "tout")]
        for name in [name for name in dict.fromkeys((*whole, *targets)) if not name.endswith(".o")][:8]:
            yield ["make", name], "."
    for one in sorted(folder.iterdir()):
        name = one.name.lower()
        other = name.startswith("make") and one.suffix not in (".sh", ".c", ".h", ".py", ".txt", ".md")
        if not (other or one.suffix in (".mk", ".make")) or not one.is_file() or one.name == usual:
            continue
        if _TARGET.search(one.read_text(errors="replace")):
            yield ["make", "-f", one.name], "."
    for one in _scripts(folder):
        yield ["bash", one.name], "."
    for one in _files(folder):
        if one.name in _MAKEFILES and one.parent != folder:
            yield ["make"], str(one.parent.relative_to(folder))


def _scripts(folder: Path) -> Iterable[Path]:
    """Return the scripts of a folder that compile."""
    for one in sorted(folder.glob("*.sh")):
        named = one.is_file() and re.search(r"make|build|compil|constr|install", one.name.lower())
        if named and _SCRIPT.search(one.read_text(errors="replace")):
            yield one


def _compile(
    world: World, folder: Path, mains: Sequence[Path], path: str, log: list[str]
) -> tuple[dict[str, tuple[str, ...]], str]:
    """Compile files with a main(), each with what it needs of the others. Returns program -> sources, and a failure.

    What has no main() goes into archives, of which the linker takes what is asked for: first those of its own folder.
    """
    sources = [one for one in _files(folder) if one.suffix in (*_C, *_CPP)]
    headers = sorted({str(one.parent.relative_to(folder)) for one in _files(folder) if one.suffix in (".h", ".hpp")})
    include = [f"-I{name}" for name in [".", *headers][:20]]
    text = "\n".join(one.read_text(errors="replace") for one in sources)
    taken = set(re.findall(r'#include\s+"(?:[^"\n]*/)?([^"\n/]+\.(?:c|cc|cpp|cxx))"', text))
    rest = [one for one in sources if not _has_main(one) and one.name not in taken] if mains else []
    more = LENIENT + (FURTHER if _gcc() >= 14 else "")
    objects: dict[Path, list[str]] = {}
    _try(world, ["mkdir", "-p", _OBJECTS], path)
    for number, one in enumerate(rest):
        made_of = f"{_OBJECTS}/{number}.o"
        command = [_compiler(one), "-O0", "-c", "-o", made_of, str(one.relative_to(folder)), *include]
        code, output = _try(world, command, path, more=more)
        log += [f"$ {' '.join(command)}", output]
        if code == 0:
            objects.setdefault(one.parent, []).append(made_of)
    archives: dict[Path, str] = {}
    for number, (place, names) in enumerate(objects.items()):
        archives[place] = f"{_OBJECTS}/{number}.a"
        _try(world, ["ar", "rcs", archives[place], *names], path)
    plus = any(one.suffix in _CPP for one in rest)
    made: dict[str, tuple[str, ...]] = {}
    failed = ""
    for main in mains:
        target = main.with_suffix("")
        if target.exists():
            target = main.with_suffix(".bin")
        name, source = str(target.relative_to(folder)), str(main.relative_to(folder))
        near = [archives[main.parent]] if main.parent in archives else []
        far = [name for place, name in archives.items() if place != main.parent]
        link = ["-Wl,--start-group", *near, *far, "-Wl,--end-group"] if archives else []
        kind = "g++" if plus and main.suffix in _CPP else _compiler(main)
        libraries = ["-lstdc++"] if plus and kind == "cc" else []
        command = [kind, "-O0", "-o", name, source, *include, *link, *libraries, *LIBRARIES]
        code, output = _try(world, command, path)
        log += [f"$ {' '.join(command)}", output]
        if code != 0:
            heads = "\n".join(one.read_text(errors="replace") for one in sorted(folder.rglob("*.h")))
            said = text + heads
            wanted = [flag for header, flag in INCLUDED.items() if re.search(rf"#include\s*<{header}>", said)]
            code, output = _try(world, [*command, *wanted], path, more=more)
            log.append(output)
        if code == 0:
            own = [str(one.relative_to(folder)) for one in rest if one.parent == main.parent]
            made[name] = (source, *own)
        else:
            failed = failed or _first_error(output)
    return made, failed


def _compiler(source: Path) -> str:
    return "g++" if source.suffix in _CPP else "cc"


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


def _programs(
    folder: Path, before: dict[Path, int], made: dict[str, tuple[str, ...]], places: dict[str, str]
) -> Iterable[Executable]:
    """Find programs: what was compiled here, what else was made, then other ELF programs, scripts."""
    for name, sources in made.items():
        yield Executable(name, (f"./{name}",), _sources_of(folder / name, folder) or sources)
    for path in sorted(_files(folder), key=lambda one: one in before):
        name = str(path.relative_to(folder))
        if name in made:
            continue
        with open(path, "rb") as file:
            head = file.read(2)
        if _is_elf(path) and os.access(path, os.X_OK):
            place = places.get(name, ".")
            words = f"./{os.path.relpath(name, place)}"
            yield Executable(name, (words,), _sources_of(path, folder), place)
        elif path.suffix == ".py":
            yield Executable(name, ("python3", name), (name,))
        elif head == b"#!" and os.access(path, os.X_OK):
            yield Executable(name, (f"./{name}",), (name,))


def _is_elf(path: Path) -> bool:
    """Say whether a file is a program for this kind of machine: no library, no object."""
    if path.suffix in (".so", ".o", ".a"):
        return False
    with open(path, "rb") as file:
        head = file.read(20)
    if head[:4] != b"\x7fELF" or head[16:18] not in (b"\x02\x00", b"\x03\x00"):
        return False
    with open("/proc/self/exe", "rb") as own:
        return own.read(20)[18:20] == head[18:20]


def _sources_of(path: Path, folder: Path) -> tuple[str, ...]:
    """Return the sources of a program that a Makefile has made: as its debug information has them, else by its name."""
    inside = {one.name: str(one.relative_to(folder)) for one in _files(folder) if one.suffix in (*_C, *_CPP)}
    try:
        with open(path, "rb") as file:
            elf = ELFFile(file)
            units = elf.get_dwarf_info().iter_CUs() if elf.has_dwarf_info() else ()
            names = [unit.get_top_DIE().attributes["DW_AT_name"].value.decode(errors="replace") for unit in units]
        found = tuple(
            dict.fromkeys(inside[name.rpartition("/")[2]] for name in names if name.rpartition("/")[2] in inside)
        )
    except (OSError, ELFError, DWARFError, KeyError, ValueError):
        found = ()
    if found:
        return found
    wanted = path.name.lower().removesuffix(".out").removesuffix(".exe")
    return tuple(name for base, name in inside.items() if base.rpartition(".")[0].lower() == wanted)
