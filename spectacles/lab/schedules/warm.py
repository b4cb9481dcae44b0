"""Runs a module of ours as `python -m` does, but from a point where all that it imports is in memory.

    python -m spectacles.lab.schedules.warm spectacles.q2_msq.server --dir .

Where the gate prepares programs to copy them, this is where the copies begin: an interpreter and its imports take ten
times as long as the run itself. Anywhere else it makes no difference.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import runpy
import sys


def main() -> None:
    """Import the module, wait to be copied, run it. Returns what it returns."""
    sys.argv.pop(0)
    name = sys.argv[0]
    importlib.import_module(name)
    del sys.modules[name]
    with contextlib.suppress(AttributeError):  # without the gate's library
        ctypes.CDLL(None).spectacles_nursery()
    runpy.run_module(name, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
