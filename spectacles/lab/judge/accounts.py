"""The accounts: seats at the start, sold since, and left, in a server's answer and in its file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spectacles.common import storage
from spectacles.common.spectacle import unpack_table

if TYPE_CHECKING:
    from pathlib import Path


def seats_in_file(directory: Path) -> dict[int, int]:
    """Return what spectacles.dat in `directory` has left of each show. Raises OSError, or ValueError if it is none."""
    return {slot: show.places for slot, show in unpack_table((directory / storage.FILE_NAME).read_bytes())}


def add_up(initial: int, sold: int, *left: int | None) -> bool:
    """Say whether initial = left + sold, whoever counts what is left; None: nobody could count it."""
    return all(seats == initial - sold for seats in left)
