"""Limits of the kernel and of this process."""

from __future__ import annotations

import os
import resource

from spectacles.common.errors import SpectaclesError


def kernel_limit(name: str) -> int:
    """Return /proc/sys/kernel/`name`, for example "msgmnb" (bytes in a System V queue), proc(5)."""
    with open(f"/proc/sys/kernel/{name}", "rb") as file:
        return int(file.read())


def raise_descriptor_limit() -> int:
    """Raise the soft limit of open descriptors to the hard one, and return it, getrlimit(2)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else soft


def free_descriptors() -> int:
    """Return how many more descriptors this process can have, its limit raised."""
    limit = raise_descriptor_limit()
    try:
        return limit - sum(int(name) < limit for name in os.listdir("/proc/self/fd"))
    except OSError:  # not even one
        return 0


def need_descriptors(number: int) -> None:
    """Raise SpectaclesError if fewer than `number` descriptors are left to this process, its limit raised."""
    free = free_descriptors()
    if free < number:
        raise SpectaclesError(
            f"trop peu de descripteurs de fichiers : {free} libre(s), il en faut {number} ; voyez « ulimit -n »"
        )
