"""What happened in a run, as data, and the drawings of it.

    model      Run: lanes for tasks and for kernel objects; steps, transfers, holds. All drawings are drawn from it

Leans on nothing.
"""

__all__ = ["model"]
