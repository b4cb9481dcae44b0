"""The command line of the checker.

    python -m spectacles.lab.linearizability HISTORY.jsonl --initial 0=50,1=20 [OPTIONS]

with options --final 0=12,1=3 (seats at the end), --absent 7,8 (shows that do not exist) and --time-limit 10 (seconds).
"""

from __future__ import annotations

import argparse

from spectacles.common import cli
from spectacles.common.errors import EXIT_DONE, EXIT_FAILED, UsageError, reason
from spectacles.lab.judge.linearizability.checker import check
from spectacles.lab.judge.linearizability.history import load
from spectacles.lab.judge.linearizability.search import Verdict

EXIT_UNKNOWN = 4  # out of time before knowing


def _seats(text: str) -> dict[int, int]:
    """Read ``0=50,1=20`` as show -> seats."""
    seats: dict[int, int] = {}
    for part in text.split(","):
        left, equals, right = part.partition("=")
        try:
            show, value = int(left), int(right)
        except ValueError:
            equals = ""
        if not equals:
            raise argparse.ArgumentTypeError(f"{part!r} n'est pas de la forme spectacle=places")
        if show in seats:
            raise argparse.ArgumentTypeError(f"spectacle {show} donné deux fois")
        seats[show] = value
    return seats


def _shows(text: str) -> frozenset[int]:
    try:
        return frozenset(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} n'est pas une liste de numéros de spectacles") from None


def judge(argv: list[str] | None) -> int:
    """Judge the history that `argv` names (None: the command line). Blocks, --time-limit at most.

    Returns 0 when it is linearizable, 1 when not (a counterexample is printed), 4 when time ran out. Raises UsageError.
    """
    parser = cli.Parser(
        prog="python -m spectacles.lab.linearizability",
        description="Vérifie qu'un historique d'opérations est linéarisable.",
        epilog="code de sortie : 0 linéarisable, 1 non linéarisable, 2 usage, 4 indécis faute de temps.",
    )
    parser.add_argument("history", metavar="HISTORIQUE.jsonl", help="une opération JSON par ligne")
    parser.add_argument("--initial", type=_seats, default={}, metavar="0=50,1=20", help="places au départ")
    parser.add_argument("--final", type=_seats, metavar="0=12,1=3", help="places à la fin, après tout le reste")
    parser.add_argument(
        "--absent", type=_shows, default=frozenset(), metavar="7,8", help="spectacles qui n'existent pas"
    )
    parser.add_argument(
        "--time-limit", type=float, default=10.0, metavar="S", help="durée limite en secondes (10 par défaut)"
    )
    options = parser.parse_args(argv)
    try:
        with open(options.history, "rb") as file:
            history = load(file)
        report = check(
            history, options.initial, time_limit=options.time_limit, final=options.final, absent=options.absent
        )
        print(report.explain())
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UsageError(reason(error)) from error
    except ValueError as error:
        raise UsageError(f"{options.history} : {error}") from error
    return {Verdict.VALID: EXIT_DONE, Verdict.INVALID: EXIT_FAILED, Verdict.UNKNOWN: EXIT_UNKNOWN}[report.verdict]
