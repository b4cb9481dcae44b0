"""Starts things: our servers and clients in processes of their own, and the C programs that they are measured against.

    process      a server in a process of its own: started, asked, stopped, and what it has left removed
    reference    the C programs of lab/c, compiled on the spot
    lockless     question 4 without its lock: a server that sells seats twice, started by its module name

Leans on `common` alone, and `lockless` on question 4.
"""

__all__ = ["lockless", "process", "reference"]
