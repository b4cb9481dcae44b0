"""Says whether what was seen is right.

    linearizability    whether what clients were told could have come from one clerk at one desk

Leans on nothing.
"""

__all__ = ["linearizability"]
