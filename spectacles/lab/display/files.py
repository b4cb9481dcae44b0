"""The files that people ask a command of the lab to write: looked at before the work, written whole after it."""

from __future__ import annotations

import os
from pathlib import Path

from spectacles.common.errors import UsageError


def refuse_unwritable(*paths: str | None) -> None:
    """Raise UsageError when one of `paths` (None: not asked for) cannot be written to: before the minute of work."""
    for path in paths:
        if path is not None:
            whole = os.path.realpath(path)
            if os.path.isdir(whole) or not os.access(path if _special(path) else os.path.dirname(whole), os.W_OK):
                raise UsageError(f"{path} : impossible d'écrire là")


def write_whole(path: str, text: str) -> None:
    """Write a file whole or not at all: a full disk must not take what was there. Raises OSError, which names `path`.

    What UTF-8 cannot write, the bytes of a strange file name, is written as an escape, which is as good in JSON. Where
    `path` leads to is written: a link stays one, and a device or FIFO is written to, not replaced by a file.
    """
    target = Path(os.path.realpath(path))
    draft = Path(path) if _special(path) else target.with_name(f".{target.name}.{os.getpid()}")
    try:
        draft.write_text(text, encoding="utf-8", errors="backslashreplace")
        if not _special(path):
            draft.replace(target)
    except OSError as error:
        if not _special(path):
            draft.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, path) from error


def _special(path: str) -> bool:
    """Say whether there is something at `path` that is no file: a device, a FIFO, the pipe of /dev/stdout."""
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)
