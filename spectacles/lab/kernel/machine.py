"""What machine this is: figures say nothing without it."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import sys
from pathlib import Path


def file_system(path: str | Path) -> str:
    """Return the type of the file system that `path` is on, "?" if unknown."""
    best, kind = "", "?"
    with contextlib.suppress(OSError):
        real = os.path.realpath(path)
        for line in Path("/proc/self/mounts").read_text().splitlines():
            _, mount, found = line.split()[:3]
            if len(mount) >= len(best) and (real == mount or real.startswith(mount.rstrip("/") + "/")):
                best, kind = mount, found
    return kind


def load() -> float:
    """Return how many tasks want a processor, for each that there is: the mean of the last minute, getloadavg(3)."""
    return os.getloadavg()[0] / len(os.sched_getaffinity(0))


def machine(directory: str | Path) -> dict[str, str | int]:
    """Describe the machine; directory: where the run directories are, for the type of its file system."""
    model = "?"
    with contextlib.suppress(OSError):
        found = re.search(r"^(?:model name|Model)\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        model = found[1] if found else platform.machine()
    return {
        "processeur": model,
        "cœurs": len(os.sched_getaffinity(0)),
        "noyau": platform.release(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "fichiers": file_system(directory),
        "charge système": f"{os.getloadavg()[0]:.2f}".replace(".", ","),
        "drapeaux": "sans GIL" if not getattr(sys, "_is_gil_enabled", lambda: True)() else "",
    }
