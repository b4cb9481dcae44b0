"""`python -m spectacles.lab.linearizability HISTORY`: judge a history that somebody recorded, see lab/judge."""

from __future__ import annotations

import sys

from spectacles.common.lifecycle import program
from spectacles.lab.judge.linearizability.command import judge


@program
def main(argv: list[str] | None = None) -> int:
    """Judge a history in a file: 0 linearizable, 1 not (with a counterexample), 2 usage or malformed, 4 unknown."""
    return judge(argv)


if __name__ == "__main__":
    sys.exit(main())
