"""Says whether what was seen is right.

    accounts           whether the seats add up
    linearizability    whether what clients were told could have come from one clerk at one desk
    baskets            the same where seats are held, and come back: x2_basket

Leans on `common` alone.
"""

__all__ = ["accounts", "baskets", "linearizability"]
