"""The files that people ask a command of the lab to write: looked at before the work, written whole after it."""

from __future__ import annotations

import os
from pathlib import Path

from spectacles.common.errors import UsageError


def refuse_unwritable(*paths: str | None) -> None:
    """Raise UsageError when one of `paths` (None: not asked for) cannot be written to: before the minute of work."""
    for path in paths:
        if path is not None:
            whole = os.path.abspath(path)
            if os.path.isdir(whole) or not os.access(os.path.dirname(whole), os.W_OK):
                raise UsageError(f"{path} : impossible d'écrire là")


def write_whole(path: str, text: str) -> None:
    """Write a file whole or not at all: a full disk must not take what was there. Raises OSError, which names `path`.

    What UTF-8 cannot write, the bytes of a strange file name, is written as an escape, which is as good in JSON.
    """
    target = Path(path)
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        draft.write_text(text, encoding="utf-8", errors="backslashreplace")
        draft.replace(target)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, path) from error
