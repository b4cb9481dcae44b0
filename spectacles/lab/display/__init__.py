"""Shows things to people: what all commands of the lab share at the terminal, and figures the French way.

    terminal     rich's console, questions on a command line, an interruption that leaves nothing behind
    french       figures, units, and where a French line may end

Leans on `programs`, for the names of the questions.
"""

__all__ = ["french", "terminal"]
