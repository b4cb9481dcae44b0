"""Whether what the clients of one box office were told could have come from one clerk at one desk."""

from spectacles.lab.judge.linearizability.search import (
    FINAL_CLIENT,
    Counterexample,
    Operation,
    Report,
    Verdict,
    check,
    check_show,
    dump,
    load,
    main,
    split_list,
)

__all__ = [
    "FINAL_CLIENT",
    "Counterexample",
    "Operation",
    "Report",
    "Verdict",
    "check",
    "check_show",
    "dump",
    "load",
    "main",
    "split_list",
]
