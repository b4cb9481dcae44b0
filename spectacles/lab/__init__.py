"""The lab: what looks at the five questions from outside, as black boxes. No server and no client imports any of it.

It has wings, and each wing a door: its `__init__` says what is in there, what it leans on, and in `__all__` what may be
imported from outside; the other modules of a wing are its own affair. From the ground up, each leaning on those before
it only:

    programs     starts things: our servers, the C reference, anybody's program in a world of its own
    display      shows things: the terminal, French figures
    kernel       looks at what the kernel knows, and touches nothing
    gate         stops anybody's program at chosen system calls, and decides what becomes of each
    record       what happened in a run, as data: kept, matched, drawn
    judge        says whether what was seen is right
    dossier      somebody's program: how it is built, started and spoken to
    schedules    plays every order that matters of a few programs, and finds the one that goes wrong
    bench, check, compare, demo, explore, hazards, linearizability, trace, watch     the commands: none leans on another

`c` is the C reference itself; `programs` builds it. tests/test_architecture.py holds all this.

Types are imported under `typing.TYPE_CHECKING`, which is false at run time. The servers write `TYPE_CHECKING = False`
for it, which type checkers take for the same, and so start without `typing`; nothing in the lab is in such a hurry.
"""

__all__ = [
    "bench",
    "check",
    "compare",
    "demo",
    "display",
    "dossier",
    "explore",
    "gate",
    "hazards",
    "judge",
    "kernel",
    "linearizability",
    "programs",
    "record",
    "schedules",
    "trace",
    "watch",
]
