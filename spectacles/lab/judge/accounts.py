"""The accounts: seats at the start, sold since, and left, in a server's answer and where its table is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spectacles.common import storage
from spectacles.common.errors import SpectaclesError
from spectacles.common.spectacle import unpack_table
from spectacles.x3_cluster import node
from spectacles.x3_cluster.table import open_table

if TYPE_CHECKING:
    from pathlib import Path


def kept_table(directory: Path) -> bytes:
    """Return the 720 bytes of spectacles.dat in `directory`, or of the etcd there, whether or not it is served (x3).

    Raises OSError, or ValueError if it is none.
    """
    if not (directory / node.FOLDER).is_dir():
        return (directory / storage.FILE_NAME).read_bytes()
    try:
        with open_table(str(directory), None) as table:
            return table.snapshot()
    except SpectaclesError as error:
        raise ValueError(str(error)) from error


def seats_in_file(directory: Path) -> dict[int, int]:
    """Return what kept_table() has left of each show. Raises OSError, or ValueError if it is none."""
    return {slot: show.places for slot, show in unpack_table(kept_table(directory))}


def add_up(initial: int, sold: int, *left: int | None) -> bool:
    """Say whether initial = left + sold, whoever counts what is left; None: nobody could count it."""
    return all(seats == initial - sold for seats in left)
