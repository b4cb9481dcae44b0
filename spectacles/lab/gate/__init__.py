"""Stops programs at chosen system calls, and lets each call go on, fails it, or kills: unmodified programs.

    with World("dossier") as world, Gate(world) as gate:             # everything runs free and is recorded
        server = gate.start("server", ["./serveur"])
        gate.start("A", ["./client"]).wait(5)
        for event in gate.events(): ...

    script = Script("hold A before msgsnd\\nB: msgsnd\\nlet A go")    # or by script
    with World("dossier") as world, Gate(world, script) as gate: ...

events.py     what happened, as data: Event, and what its fields mean. Records and drawings stand on it alone
supervisor.py Gate: starts programs, takes in their calls, knows when all is at rest, carries out decisions
policy.py     who decides: Policy, Free, OneAtATime (for whoever picks the next task), the decisions
script.py     Script: words that one can read aloud, matched by name
calls.py      numbers and names of calls, what they act on, on x86-64 and aarch64
marks.c       a preload library that reports what no system call shows; marks.py compiles and keeps it
seccomp.py    the filter, and the kernel's structures

See docs/worlds-and-gate.md. Leans on programs.
"""

__all__ = ["calls", "events", "policy", "script", "supervisor"]
