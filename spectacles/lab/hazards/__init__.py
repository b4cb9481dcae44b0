"""`spectacles break`: the known hazards, each broken and sound under the same script.

    catalogue/   one hazard: NAME.c, compiled with -DBROKEN and without, and NAME.toml: script, signature, lesson
    hazard.py    Hazard: what a file of the catalogue says
    play.py      play(): one of the two programs of a hazard, run under its script; Outcome
    view.py      both runs side by side, in a terminal and as a page; step by step
    words.py     what the messages of the catalogue say
    predict.py   what people expect, asked before and compared after
    by_hand.py   the programs of a hazard in a directory, for people to try in other terminals
    crash.py     the crash map: a server, ours or anybody's, killed at each call of one reservation
    disk.py      what a power cut could leave of its files there
    crash_table.py   the map as it is printed
    command.py   the command line

From outside: main(). Leans on programs, display, gate, record, dossier.
"""

from __future__ import annotations

from spectacles.common.lifecycle import program

__all__ = ["main"]


@program
def main(argv: list[str] | None = None) -> int:
    """List the hazards, play one or all. The exit code is described by --help."""
    from spectacles.lab.hazards.command import run

    return run(argv)
