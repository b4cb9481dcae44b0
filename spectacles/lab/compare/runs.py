"""Comparisons kept in files: written whole, read with every value looked at, and refused where they do not compare."""

from __future__ import annotations

import datetime
import json
import os
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from types import UnionType
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

from spectacles import __version__
from spectacles.common.errors import UsageError, reason
from spectacles.common.text import printable
from spectacles.lab.compare.rows import Row
from spectacles.lab.compare.workload import Workload
from spectacles.lab.display.files import write_whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spectacles.lab.compare.measuring import Cell

RUNS = "runs"
MOST_PER_SECOND = 1000  # runs kept under one date
LARGEST = 2**63  # no count of ours comes near, and a float holds it: what is beyond was never measured
NEEDED = ("p50", "p99")  # points of the latency that are shown beside another run
MOVING = {"charge système"}  # differs on one machine from one run to the next: says nothing of the machine


@dataclass(frozen=True, kw_only=True)
class Run:
    """One comparison, as it is kept: these fields, in JSON.

    spectacles: the version that measured. date: ISO 8601. command: as typed. machine: see kernel.machine. description:
    the workload in a French sentence. seconds: that it took. remarks: the sentences that the figures need.
    """

    spectacles: str = __version__
    date: str
    command: str
    machine: dict[str, str | int]
    workload: Workload
    description: str = ""
    seconds: float = 0.0
    remarks: list[str] = field(default_factory=list)
    rows: list[Row]

    def text(self) -> str:
        """Return the JSON of it, with a final newline."""
        return json.dumps(asdict(self), ensure_ascii=False, indent=1) + "\n"


def keep(run: Run) -> str:
    """Write `run` under RUNS in the current directory, and return where. Raises OSError."""
    os.makedirs(RUNS, exist_ok=True)
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    names = (f"{RUNS}/{stamp}{(n and f'-{n}') or ''}.json" for n in range(MOST_PER_SECOND))
    path = next(name for name in names if not os.path.exists(name))
    write_whole(path, run.text())
    return path


# Read again


class Misfit(ValueError):
    """A value in a file that is not what stands there in a run; the message names its place."""


def load(path: str) -> Run:
    """Read a run, of this version or an earlier one. Raises UsageError when the file is none, and says why."""
    try:
        document = json.loads(_read(path))
        run: Run = _fitted(Run, document, "")
        _refuse_half_a_workload(document["workload"])
        _refuse_rows_without_latency(run.rows)
    except OSError as error:
        raise UsageError(reason(error)) from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} : ce n'est pas une comparaison enregistrée ({_in_french(error)})") from error
    return run


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error  # a failed read names no file


def _in_french(error: Exception) -> str:
    if isinstance(error, Misfit):
        return str(error)
    if isinstance(error, json.JSONDecodeError):
        return f"JSON mal formé, ligne {error.lineno}, colonne {error.colno}"
    if isinstance(error, UnicodeDecodeError):
        return "texte qui n'est pas en UTF-8"
    return "JSON trop imbriqué" if isinstance(error, RecursionError) else "nombre trop long"


def _fitted(kind: Any, value: object, where: str) -> Any:
    """Return `value`, out of JSON, as the annotation `kind` has it. Raises Misfit.

    kind: a dataclass, a dict with str for keys, a list, a tuple, alternatives as in `X | None`, int, float, str, bool.
    where: the place of the value in the file.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        return _fitted_object(kind, value, where)
    if origin is UnionType:
        for alternative in inner:
            if _is_plain(alternative, value):
                return value
    elif origin is dict and isinstance(value, dict):
        return {key: _fitted(inner[1], found, _place(where, key)) for key, found in value.items()}
    elif origin is list and isinstance(value, list):
        return [_fitted(inner[0], found, f"{where}[{place}]") for place, found in enumerate(value)]
    elif origin is tuple and isinstance(value, list):
        if inner[-1] is Ellipsis or len(inner) == len(value):
            return tuple(_fitted(inner[0], found, f"{where}[{place}]") for place, found in enumerate(value))
    elif _is_plain(kind, value):
        return value
    raise Misfit(f"{where} : valeur inattendue" if where else "un objet est attendu")


def _fitted_object(kind: Any, value: object, where: str) -> Any:
    if not isinstance(value, dict):
        raise Misfit(f"{where} : un objet est attendu" if where else "un objet est attendu")
    hints = get_type_hints(kind)
    known = {one.name: one.default is MISSING and one.default_factory is MISSING for one in fields(kind)}
    for name in value:
        if name not in known:
            raise Misfit(f"{_place(where, name)} : inconnu de cette version")
    for name, required in known.items():
        if required and name not in value:
            raise Misfit(f"{_place(where, name)} manque")
    return kind(**{name: _fitted(hints[name], found, _place(where, name)) for name, found in value.items()})


def _is_plain(kind: Any, value: object) -> bool:
    if kind is type(None):
        return value is None
    if isinstance(value, bool):
        return kind is bool
    if kind in (int, float):
        return isinstance(value, int if kind is int else int | float) and -LARGEST <= value <= LARGEST
    return kind is str and isinstance(value, str)


def _place(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _refuse_half_a_workload(workload: dict[str, object]) -> None:
    for one in fields(Workload):
        if one.name not in workload:  # its default may be another than when this was measured
            raise Misfit(f"workload.{one.name} manque")


def _refuse_rows_without_latency(rows: Sequence[Row]) -> None:
    for place, row in enumerate(rows):
        for point in NEEDED:
            if row.throughput and point not in row.latency.get("", {}):
                raise Misfit(f"rows[{place}].latency..{point} manque")


# Beside another run


def refuse_unequal(work: Workload, other: Workload, path: str) -> None:
    """Raise UsageError unless both runs do the same work: figures of different work say nothing about each other."""
    mine, theirs = asdict(work), asdict(other)
    unequal = [f"{name} {theirs[name]} et non {mine[name]}" for name in mine if mine[name] != theirs[name]]
    if unequal:
        raise UsageError(f"{path} : autre charge ({', '.join(unequal)}) ; deux charges inégales ne se comparent pas")


def refuse_disjoint(cells: Sequence[Cell], before: Sequence[Row], path: str) -> None:
    """Raise UsageError when the earlier run has nothing of what is about to be measured."""
    known = {(row.question, row.variant, row.clients) for row in before}
    if not any((cell.subject.question, cell.subject.variant, cell.clients) in known for cell in cells):
        raise UsageError(f"{path} : ni les mêmes questions ni les mêmes nombres de clients, rien à mettre côte à côte")


def about(earlier: Run, machine: dict[str, str | int]) -> str:
    """Say in a French sentence what the run beside this one is, and in what its machine differs from `machine`."""
    told = f"Comparée à la mesure du {printable(earlier.date)} ({printable(earlier.command)})"
    other = [
        printable(f"{what} {value}")
        for what, value in earlier.machine.items()
        if what not in MOVING and value != machine.get(what)
    ]
    return f"{told}, faite sur une autre machine : {', '.join(other)}." if other else f"{told}, sur cette machine."
