"""What was typed to run this program: usage and errors begin with it, and what they tell people to type works.

`spectacles server 2` and `python -m spectacles.q2_msq.server` run the same main(); whoever typed the one should not be
answered in the words of the other.
"""

from __future__ import annotations

import contextlib
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_typed: str | None = None


def _module() -> str | None:
    """Return the module of ours that `python -m` runs, None for the script `spectacles` and for other programs."""
    specification = getattr(sys.modules.get("__main__"), "__spec__", None)
    name = specification.name.removesuffix(".__main__") if specification else ""
    return name if name.partition(".")[0] == "spectacles" else None


def command() -> str:
    """Return how the `spectacles` command can be typed here, for hints: with `python -m` by who came that way."""
    return "python -m spectacles" if _module() else "spectacles"


def hint(words: str, directory: str) -> str:
    """Return a command to type, in quotation marks: `words` of the `spectacles` command on the run directory."""
    import shlex  # here: a server needs it when something went wrong

    return f"« {command()} {words} --dir {shlex.quote(directory)} »"


def name(otherwise: str) -> str:
    """Return what the running program was called, `otherwise` if another program has called its main()."""
    module = _module()
    return _typed or (f"python -m {module}" if module else otherwise)


@contextlib.contextmanager
def typed(words: str) -> Iterator[None]:
    """While the command runs another program, have that called by the `words` that were typed."""
    global _typed
    before, _typed = _typed, words
    try:
        yield
    finally:
        _typed = before
