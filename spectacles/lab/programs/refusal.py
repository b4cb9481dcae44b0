"""Why this machine makes no world of its own for a program, in one line, with what would help."""

from __future__ import annotations

import errno
from pathlib import Path

from spectacles.common.errors import reason


def explain(step: str, number: int) -> str:
    """Return the line: `step` is where the first process was refused, `number` the errno."""
    why = ""
    if number in (errno.EPERM, errno.EACCES, errno.ENOSPC, errno.EUSERS):
        why = _setting() or (_container() if step in ("unshare", "uid_map", "mount", "proc", "loopback") else "")
    if number == errno.ENOSYS:
        why = "ce noyau est trop ancien, il faut Linux 5.12"
    if not why:
        failed = reason(OSError(number, errno.errorcode.get(number, str(number))))
        why = f"le noyau refuse l'étape « {step} » ({failed})"
    return f"pas de monde privé ici, donc un seul à la fois et moins bien gardé : {why}"


def _setting() -> str:
    """Return what a setting of the kernel says, "" if none forbids."""
    for name, forbidden in (
        ("user.max_user_namespaces", "0"),
        ("kernel.unprivileged_userns_clone", "0"),
        ("kernel.apparmor_restrict_unprivileged_userns", "1"),
    ):
        try:
            value = Path("/proc/sys", *name.split(".")).read_text().strip()
        except OSError:
            continue
        if value == forbidden:
            help_ = {"0": "1", "1": "0"}[value] if "max" not in name else "10000"
            return f"{name} = {value} ; l'administrateur peut : sysctl -w {name}={help_}"
    return ""


def _container() -> str:
    """Return what helps in a container, "" outside."""
    if Path("/.dockerenv").exists():
        options = "--security-opt seccomp=unconfined --security-opt systempaths=unconfined"
        return f"le profil de Docker l'interdit ; il faut docker run {options}"
    if Path("/run/.containerenv").exists():
        return (
            "le conteneur l'interdit ; il faut podman run --security-opt seccomp=unconfined --security-opt unmask=ALL"
        )
    return ""
