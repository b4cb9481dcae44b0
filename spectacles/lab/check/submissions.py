"""What a class has handed in: folders, or archives as a learning platform exports them. Hostile until read.

An archive may name files outside its folder, hold links and devices, or unpack to more than the disk holds. Only
regular files are taken out of it, below a limit that is kept while unpacking, whatever the archive says of itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from spectacles.common.errors import SpectaclesError, UsageError, reason
from spectacles.common.text import printable

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
MOST_BYTES = 48 << 20  # unpacked, of one submission
MOST_FILES = 2000
DEEPEST = 4  # folders or archives that hold nothing but one folder or archive
_MOODLE = re.compile(r"^(?P<person>.+?)_(?P<number>\d+)_assignsubmission_\w+?_?$")
_FOREIGN = {"__MACOSX", ".DS_Store"}


class ArchiveError(SpectaclesError):
    """An archive that is not unpacked; one line says why."""


@dataclass(frozen=True)
class Submission:
    """What one student handed in. path: a folder or an archive. key: a name for a folder, unlike any other's.

    person: who, as the platform names the folder. number: the participant's, "" where the name does not say it.
    """

    path: Path
    key: str
    person: str
    number: str = ""


def discover(place: Path) -> list[Submission]:
    """Return what there is in a folder of submissions, by name. Raises UsageError when there is none, or no folder."""
    if not place.is_dir():
        raise UsageError(f"{printable(str(place))} : ce n'est pas un dossier (de dossiers, ou d'archives)")
    found: list[Submission] = []
    taken: set[str] = set()
    for path in sorted(place.iterdir(), key=lambda one: (_safe(one.name).lower(), one.name)):  # É beside E
        name = path.name
        if name.startswith(".") or name in _FOREIGN or path.is_symlink():
            continue
        suffix = next(
            (ending for ending in sorted(ARCHIVES, key=len, reverse=True) if name.lower().endswith(ending)), ""
        )
        if not path.is_dir() and not (suffix and path.is_file()):
            continue
        plain = name[: len(name) - len(suffix)] if suffix and not path.is_dir() else name
        said = _MOODLE.match(plain)
        person = said["person"].replace("_", " ") if said else plain
        key = base = _safe(plain)
        count = 1
        while key.lower() in taken:  # file systems that take A for a
            count += 1
            key = f"{base}-{count}"
        taken.add(key.lower())
        found.append(Submission(path, key, printable(person), said["number"] if said else ""))
    if not found:
        raise UsageError(f"{printable(str(place))} : ni dossier ni archive ({', '.join(ARCHIVES)}) à juger")
    return found


def _safe(name: str) -> str:
    """Return a name that is a plain folder name everywhere: ASCII letters, digits, a few signs."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    kept = re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip("-.")[:80]
    return kept or f"remise-{hashlib.sha256(os.fsencode(name)).hexdigest()[:8]}"


@contextlib.contextmanager
def opened(submission: Submission, into: Path) -> Iterator[Path]:
    """Give the folder of sources of a submission, unpacked into the new folder `into` where it is in an archive.

    What was unpacked stays. Raises ArchiveError.
    """
    yield _inner(submission.path, into, DEEPEST)


def _inner(path: Path, into: Path, depth: int) -> Path:
    """Go down through folders and archives that hold nothing but one other."""
    if path.is_file():
        shutil.rmtree(into, ignore_errors=True)
        into.mkdir(parents=True)
        unpack(path, into)
        path = into
    while depth > 0:
        depth -= 1
        try:
            inside = [one for one in path.iterdir() if not one.name.startswith(".") and one.name not in _FOREIGN]
        except OSError as error:
            raise ArchiveError(f"dossier illisible : {reason(error)}") from None
        if len(inside) == 1 and inside[0].is_dir() and not inside[0].is_symlink():
            path = inside[0]
        elif len(inside) == 1 and is_archive(inside[0]):
            return _inner(inside[0], into.with_name(f"{into.name}.{depth}"), depth)
        else:
            break
    return path


def is_archive(path: Path) -> bool:
    """Say whether a file is one that can be unpacked, by its name."""
    return path.is_file() and not path.is_symlink() and path.name.lower().endswith(ARCHIVES)


def unpack(archive: Path, into: Path) -> None:
    """Unpack an archive into an empty folder. Blocks. Raises ArchiveError."""
    budget = [MOST_BYTES, MOST_FILES]
    try:
        if archive.name.lower().endswith(".zip"):
            with zipfile.ZipFile(archive) as zipped:
                for entry in zipped.infolist():
                    mode = entry.external_attr >> 16
                    if entry.flag_bits & 0x1:
                        raise ArchiveError("archive chiffrée : elle ne s'ouvre pas sans mot de passe")
                    if entry.is_dir():
                        _target(into, entry.filename).mkdir(parents=True, exist_ok=True)
                    elif not mode or stat.S_ISREG(mode) or not stat.S_IFMT(mode):
                        with zipped.open(entry) as content:
                            _write(content, _target(into, entry.filename), bool(mode & 0o100), budget)
        else:
            with tarfile.open(archive) as tarred:
                for member in tarred:
                    if member.isdir():
                        _target(into, member.name).mkdir(parents=True, exist_ok=True)
                    elif member.isreg():
                        plain = tarred.extractfile(member)
                        if plain is not None:
                            _write(plain, _target(into, member.name), bool(member.mode & 0o100), budget)
    except ArchiveError:
        raise
    except (
        zipfile.BadZipFile,
        tarfile.TarError,
        zlib.error,
        EOFError,
        OSError,
        RuntimeError,
        NotImplementedError,
        ValueError,
    ) as error:
        said = reason(error) if isinstance(error, OSError) else str(error) or type(error).__name__
        raise ArchiveError(f"archive illisible : {printable(said)}") from None


def _target(into: Path, name: str) -> Path:
    """Return where a member of an archive goes. Raises ArchiveError when that is outside."""
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or "\0" in name or re.match(r"[A-Za-z]:", name):
        raise ArchiveError(f"l'archive veut écrire hors de son dossier : {printable(name)[:200]}")
    target = into.joinpath(*parts.parts)
    if len(os.fsencode(str(target))) > 3000:
        raise ArchiveError("l'archive contient un chemin trop long")
    return target


def _write(content: IO[bytes], target: Path, executable: bool, budget: list[int]) -> None:
    budget[1] -= 1
    if budget[1] < 0:
        raise ArchiveError(f"plus de {MOST_FILES} fichiers")
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target, "wb") as file:
        while data := content.read(1 << 16):
            budget[0] -= len(data)
            if budget[0] < 0:
                raise ArchiveError(f"plus de {MOST_BYTES >> 20} Mio une fois ouverte : une bombe ?")
            file.write(data)
    target.chmod(0o755 if executable else 0o644)


def fingerprint(path: Path, *more: str) -> str:
    """Return what changes when a submission, or how it is judged (`more`), does. Reads at most MOST_BYTES of it."""
    digest = hashlib.sha256("\0".join(more).encode())
    left, files = MOST_BYTES, MOST_FILES
    todo = [path]
    while todo and files > 0 and left > 0:
        one = todo.pop()
        files -= 1
        with contextlib.suppress(OSError):
            if one.is_symlink():
                digest.update(os.fsencode(f"{one.relative_to(path)} -> {os.readlink(one)}"))
            elif one.is_dir():
                todo += sorted(one.iterdir(), reverse=True)
            elif one.is_file():
                status = one.stat()
                digest.update(os.fsencode(str(one.relative_to(path))) + str(status.st_mode & 0o100).encode())
                with open(one, "rb") as file:
                    while (data := file.read(1 << 20)) and left > 0:
                        digest.update(data)
                        left -= len(data)
    return digest.hexdigest()
