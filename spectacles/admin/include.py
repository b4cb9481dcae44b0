"""`spectacles include`: where spectacles.h lies, for a C program of one's own: cc -I "$(spectacles include)" mine.c."""

from __future__ import annotations

import os

import spectacles
from spectacles.common import cli, invocation
from spectacles.common.lifecycle import program

HEADER = "spectacles.h"


def directory() -> str:
    """Return the directory of the header, in a checkout and in an installed package."""
    return os.path.join(os.path.dirname(os.path.abspath(spectacles.__file__)), "lab", "c")


@program
def main(argv: list[str] | None = None) -> None:
    """Print the directory."""
    command = invocation.name("spectacles include")
    parser = cli.Parser(
        prog=command,
        description=f"Dit où se trouve {HEADER}, que les programmes en C incluent.",
        epilog=f'exemple : cc -Wall -I "$({command})" -o mien mien.c',
    )
    parser.parse_args(argv)
    print(directory())
