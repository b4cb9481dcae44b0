"""Starts things: our servers and clients in processes of their own, the C programs that they are measured against, and
any program in a world of its own.

    process      a server in a process of its own: started, asked, stopped, and what it has left removed
    reference    the C programs of lab/c, compiled on the spot
    questions    the command lines of the five questions, ours and in C
    lockless     question 4 without its lock: a server that sells seats twice, started by its module name
    unshared     x3 with a transaction for each reservation, likewise
    world        World, Program, Limits, Left, Thing: somebody else's programs, with namespaces, limits and a terminal

    kernel       system calls that Python does not have, for worlds and for the gate

Below world: first.py, the first process in a world; leftovers.py, its count of what lies there; refusal.py, why there
can be no private world here; transcript.py, what a program printed.

Leans on `common` alone, `lockless` on question 4, `unshared` on x3.
"""

__all__ = ["kernel", "lockless", "process", "questions", "reference", "unshared", "world"]
