"""Operations in French words: who asked what, and what no order explains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from spectacles.lab.judge.linearizability.history import (
    ACKNOWLEDGED,
    FINAL_CLIENT,
    PENDING,
    Operation,
    is_integer,
    role,
)


def places(n: int) -> str:
    """Write a number of seats."""
    return f"{n} place" if abs(n) < 2 else f"{n} places"


def granted(n: int) -> str:
    """Write a number of seats acknowledged."""
    return f"{places(n)} acquittée{'' if n < 2 else 's'}"


def count(n: int, noun: str) -> str:
    """Write a number of things; noun: one of them."""
    return f"{n} {noun}" if n < 2 else f"{n} {noun}s"


def clip(text: str, width: int) -> str:
    """Shorten to `width` characters."""
    return text if len(text) <= width else text[: width - 1] + "…"


def who(op: Operation) -> str:
    """Name the client of an operation, on one line: a name out of a file can hold anything."""
    name = f"client {op.client}" if is_integer(op.client) else str(op.client)
    return "".join(c if c.isprintable() else "?" for c in name)


def what(op: Operation) -> str:
    """Say what was asked and answered."""
    if op.kind == "consult":
        return f"consulte → {op.result} vues" if op.result is not None else "consulte → sans réponse"
    answer = "sans réponse" if op.result is None else "acquittée" if op.result else "refusée"
    return f"réserve {op.seats} → {answer}"


def microseconds(ns: int) -> str:
    """Write nanoseconds as microseconds, one digit."""
    return f"{ns // 1000},{ns % 1000 // 100}"


class _Bounds(NamedTuple):
    """What the others alone say of the seats left: between low and high at any instant of the culprit.

    spent: seats acknowledged before its call; possible: seats of all reserves begun before its return; doubtful:
    whether some of these had no answer.
    """

    high: int
    low: int
    spent: int
    possible: int
    doubtful: bool


def _bounds(culprit: Operation, others: Sequence[Operation], initial: int) -> _Bounds:
    until = culprit.ret if culprit.ret is not None else culprit.call
    before = [op for op in others if role(op) == ACKNOWLEDGED and op.ret is not None and op.ret < culprit.call]
    begun = [op for op in others if role(op) in (ACKNOWLEDGED, PENDING) and op.call <= until]
    spent, possible = sum(op.seats for op in before), sum(op.seats for op in begun)
    doubtful = any(role(op) == PENDING for op in begun)
    return _Bounds(initial - spent, max(0, initial - possible), spent, possible, doubtful)


def accusation(culprit: Operation, operations: Sequence[Operation], initial: int, absent: bool) -> str:
    """Say what no order explains, with bounds on the seats left when they are enough to see it.

    culprit: one of `operations`, on one show that had `initial` seats, or that does not exist (absent).
    """
    others = [op for op in operations if op is not culprit]
    bounds = _bounds(culprit, others, initial)
    if culprit.kind == "consult":
        told = _of_a_consult(culprit, bounds, initial, absent)
    elif culprit.result:
        granted_in_all = culprit.seats + sum(op.seats for op in others if role(op) == ACKNOWLEDGED)
        told = _of_an_acknowledgement(culprit, bounds, initial, absent, granted_in_all)
    else:
        told = _of_a_refusal(culprit, bounds)
    return f"Aucun ordre séquentiel n'explique que {told}"


def _of_a_consult(culprit: Operation, bounds: _Bounds, initial: int, absent: bool) -> str:
    seen = int(culprit.result or 0)
    name = clip(who(culprit), 40)
    subject = f"le {name}" if is_integer(culprit.client) else name
    at_the_end = culprit.client == FINAL_CLIENT and not absent
    opening = f"l'état final compte {places(seen)} : " if at_the_end else f"{subject} ait vu {places(seen)} : "
    if absent:
        return f"{opening}ce spectacle n'existe pas."
    if at_the_end and (seen > bounds.high or not bounds.doubtful):
        most = "au plus " if bounds.doubtful else ""
        return f"{opening}{granted(bounds.spent)} sur {initial}, il doit en rester {most}{bounds.high}."
    if seen > bounds.high:
        if bounds.spent == 0:
            return f"{opening}il n'y en a jamais eu plus de {initial}."
        return f"{opening}{granted(bounds.spent)} avant son appel, il en restait au plus {bounds.high}."
    if seen < bounds.low:
        return (
            f"{opening}les réservations commencées avant sa réponse ne font que {places(bounds.possible)}, "
            f"il en restait au moins {bounds.low}."
        )
    return (
        f"{opening}aucun choix parmi les réservations commencées avant sa réponse ne laisse ce nombre en accord avec "
        "les autres réponses."
    )


def _of_an_acknowledgement(culprit: Operation, bounds: _Bounds, initial: int, absent: bool, granted_in_all: int) -> str:
    opening = f"la réservation de {places(culprit.seats)} {_whose(culprit)} ait été acquittée : "
    if absent:
        return f"{opening}ce spectacle n'existe pas, toute réservation doit être refusée."
    if culprit.seats <= 0:
        return f"{opening}on ne réserve pas moins d'une place."
    if culprit.seats > bounds.high:
        return f"{opening}il restait au plus {places(bounds.high)} à son appel."
    if granted_in_all > initial:
        return (
            f"{opening}avec elle, les réservations acquittées font {places(granted_in_all)} pour {initial} au départ."
        )
    return f"{opening}prise en compte, elle contredit ce que les autres ont lu."


def _of_a_refusal(culprit: Operation, bounds: _Bounds) -> str:
    opening = f"la réservation de {places(culprit.seats)} {_whose(culprit)} ait été refusée : "
    if bounds.low >= culprit.seats:
        return f"{opening}il en restait au moins {bounds.low} jusqu'à sa réponse."
    return (
        f"{opening}d'après les autres réponses, il en est toujours resté au moins {culprit.seats} entre son appel et "
        "sa réponse."
    )


def _whose(op: Operation) -> str:
    name = clip(who(op), 40)
    return f"du {name}" if is_integer(op.client) else f"de {name}"
