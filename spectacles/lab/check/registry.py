"""The checks, and how one is added: a function with a decorator.

    @check("ctrl-c", finds=(34,), layer="A", does="tape Ctrl-C au serveur")
    def ctrl_c(case: Case) -> Outcome:
        with case.bench() as bench:
            server = bench.serve()
            ...
            return defect(34, "...", done=..., expected=..., seen=...)
        return ok()

It is called with a fresh Case, returns one outcome or several, and raises NotReached, NotApplicable, Inconclusive when
there is nothing to say. A defect counts only once a second call, with case.script as the outcome says, has found it
again: a check never looks at what an earlier call has left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spectacles.lab.check.model import Outcome

if TYPE_CHECKING:
    from spectacles.lab.check.case import Case

    Function = Callable[["Case"], Outcome | Iterable[Outcome]]

LAYERS = ("A", "B", "C")  # start commands alone; the client's dialogue; the wire
# What a check needs of a program, beside being started; Case says what there is.
NEEDS = {
    "client": "un client que l'on sait faire parler",
    "prompt": "un client qui attend une ligne",
    "two clients": "deux clients à la fois",
    "layout": "la disposition des messages",
    "gate": "le portillon (seccomp)",
    "private": "un monde à part (espaces de noms)",
}


@dataclass(frozen=True)
class Check:
    """One check. name: as --only takes it. finds: numbers of the defects that it can find. does: one line in French.

    needs: of NEEDS. quick: whether it belongs to the quick set. rank: those of lower rank go first.
    """

    name: str
    finds: tuple[int, ...]
    layer: str
    does: str
    run: Function
    needs: tuple[str, ...] = ()
    quick: bool = True
    rank: int = 50


_CHECKS: dict[str, Check] = {}


def check(
    name: str,
    *,
    finds: tuple[int, ...],
    layer: str,
    does: str,
    needs: tuple[str, ...] = (),
    quick: bool = True,
    rank: int = 50,
) -> Callable[[Function], Function]:
    """Register the decorated function as a check: see Check, and the top of this file."""
    assert layer in LAYERS
    assert set(needs) <= set(NEEDS)

    def register(function: Function) -> Function:
        assert name not in _CHECKS, name
        _CHECKS[name] = Check(name, finds, layer, does, function, needs, quick, rank)
        return function

    return register


def checks() -> list[Check]:
    """Return all of them, in the order in which they are run."""
    return sorted(_CHECKS.values(), key=lambda one: (one.layer, one.rank))
