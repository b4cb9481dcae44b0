"""What clients recorded: operations, whether they make sense, and how they are kept in a file.

A history is what the clients of one server recorded: for each operation, when it was called, when it was answered and
with what. A client may be killed, or its server: then an operation has no answer, and nobody knows whether it happened.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, TextIO

FINAL_CLIENT = "état final"  # the client of the consult that check(final=...) adds after everything

# The part that an operation plays in a search; see role().
ACKNOWLEDGED, PENDING, CONSULT, REFUSED = range(4)
READS = (CONSULT, REFUSED)


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of one client on one show, as its client saw it.

    client: number or name of the client; a client runs one operation at a time. After an unanswered operation, a client
        that goes on must do so under another name.
    kind: "consult" or "reserve".
    show: number of the show.
    seats: seats asked by a reserve (any integer: asking 0 or less must be refused); 0 for a consult.
    result: seats seen by a consult (int), acknowledgement of a reserve (bool), or None: no answer.
    call, ret: instants of the call and of the return, nanoseconds of one clock common to all clients; ret is None
        exactly when result is None.

    Two operations are ordered when one returned strictly before the other was called. At equal instants they count as
    concurrent, which can hide a fault but never accuses wrongly.
    """

    client: int | str
    kind: Literal["consult", "reserve"]
    show: int
    seats: int
    result: int | bool | None
    call: int
    ret: int | None


def split_list(client: int | str, reply: Mapping[int, int], call: int, ret: int) -> list[Operation]:
    """Split the reply of one `list` request (show number -> seats left) into one consult per show.

    This asks less of the server than a snapshot of all shows at one instant would: each show is required to have been
    read at some instant of the request, not all at the same one.
    """
    return [Operation(client, "consult", show, 0, seats, call, ret) for show, seats in sorted(reply.items())]


def role(op: Operation) -> int | None:
    """Return the part an operation plays in the search, or None when it constrains nothing."""
    if op.result is None:
        # A pending reserve of 0 seats or less can only have been refused.
        return PENDING if op.kind == "reserve" and op.seats > 0 else None
    if op.kind == "consult":
        return CONSULT
    return ACKNOWLEDGED if op.result else REFUSED


def is_integer(value: object) -> bool:
    """Whether a value out of a file is a number without a fraction; JSON's true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def defect_of(op: Operation) -> str | None:
    """Say what is wrong with an operation taken alone, or None."""
    if not (is_integer(op.client) or isinstance(op.client, str)):
        return "le client doit être un entier ou un nom"
    if op.kind not in ("consult", "reserve"):
        return f"genre inconnu {op.kind!r} (attendu : consult ou reserve)"
    for name in ("show", "seats", "call"):
        if not is_integer(getattr(op, name)):
            return f"{name} doit être un entier"
    if op.ret is not None and not is_integer(op.ret):
        return "ret doit être un entier ou absent (null)"
    if op.kind == "consult":
        if op.seats != 0:
            return "une consultation ne demande pas de places (seats doit valoir 0)"
        if op.result is not None and not is_integer(op.result):
            return "le résultat d'une consultation est un nombre de places"
    elif op.result is not None and not isinstance(op.result, bool):
        return "le résultat d'une réservation est un booléen"
    if (op.result is None) != (op.ret is None):
        return "result et ret doivent manquer ensemble (opération sans réponse) ou être là tous les deux"
    if op.ret is not None and op.ret < op.call:
        return "le retour (ret) précède l'appel (call)"
    return None


def validate(operations: Sequence[Operation]) -> None:
    """Raise ValueError, naming the operation, when a history is malformed."""
    by_client: dict[int | str, list[Operation]] = {}
    for op in operations:
        defect = defect_of(op)
        if defect is not None:
            raise ValueError(f"opération mal formée : {defect} : {op}")
        by_client.setdefault(op.client, []).append(op)
    for mine in by_client.values():
        mine.sort(key=lambda op: (op.call, math.inf if op.ret is None else op.ret, op.kind, op.show))
        for before, after in itertools.pairwise(mine):
            # The consults that `split_list` made of one reply share their interval.
            same_list = (
                before.kind == after.kind == "consult"
                and (before.call, before.ret) == (after.call, after.ret)
                and before.show != after.show
            )
            if before.ret is None and not same_list:
                raise ValueError(
                    f"le client {before.client!r} continue après une opération sans réponse "
                    f"(un client qui reprend doit changer de nom) : {before} puis {after}"
                )
            if before.ret is not None and after.call < before.ret and not same_list:
                raise ValueError(
                    f"le client {before.client!r} a deux opérations qui se chevauchent : {before} et {after}"
                )


_FIELDS = tuple(field.name for field in fields(Operation))


def dump(operations: Iterable[Operation], file: TextIO) -> None:
    """Write a history as JSON lines: one object per operation, with the fields of `Operation`."""
    for op in operations:
        file.write(json.dumps(asdict(op), ensure_ascii=False) + "\n")


def load(file: Iterable[str | bytes]) -> list[Operation]:
    """Read a history written by `dump`, from the lines of a text or binary (UTF-8) file.

    Blank lines are skipped. Raises ValueError naming the line (from 1) that is not UTF-8, not a JSON object with
    exactly the fields of `Operation`, or an operation malformed by itself.
    """
    operations: list[Operation] = []
    for number, raw in enumerate(file, 1):
        try:
            line = raw.decode() if isinstance(raw, bytes) else raw
            if line.strip():
                operations.append(_operation_of(json.loads(line)))
        except UnicodeDecodeError:
            raise ValueError(f"ligne {number} : texte qui n'est pas en UTF-8") from None
        except json.JSONDecodeError as error:
            raise ValueError(f"ligne {number} : JSON mal formé, colonne {error.colno}") from None
        except RecursionError:
            raise ValueError(f"ligne {number} : JSON trop imbriqué") from None
        except ValueError as error:
            raise ValueError(f"ligne {number} : {error}") from None
    return operations


def _operation_of(value: Any) -> Operation:
    if not isinstance(value, dict):
        raise ValueError("un objet JSON est attendu")
    missing = [name for name in _FIELDS if name not in value]
    if missing:
        raise ValueError(f"champs manquants : {', '.join(missing)}")
    extra = sorted(set(value) - set(_FIELDS))
    if extra:
        raise ValueError(f"champs inconnus : {', '.join(extra)}")
    op = Operation(**value)
    defect = defect_of(op)
    if defect is not None:
        raise ValueError(f"{defect} : {op}")
    return op
