"""Whether what the clients of one box office were told could have come from one clerk at one desk: linearizability.

    history           what the clients recorded, checked for sense, and kept in files
    search            an order that explains it all: verdict
    reduction         without one, the few operations that no order explains
    words             operations in French
    counterexample    these operations, drawn
    checker           a whole history, show by show: check()
    command           `python -m spectacles.lab.linearizability`

Each leans on those above it. From outside: the names below, and `command` for its command line.
"""

from spectacles.lab.judge.linearizability.checker import Report, check, check_show
from spectacles.lab.judge.linearizability.counterexample import Counterexample
from spectacles.lab.judge.linearizability.history import FINAL_CLIENT, Operation, dump, load, split_list
from spectacles.lab.judge.linearizability.search import Verdict

__all__ = [
    "FINAL_CLIENT",
    "Counterexample",
    "Operation",
    "Report",
    "Verdict",
    "check",
    "check_show",
    "command",
    "dump",
    "load",
    "split_list",
]
