"""Catalogues of shows that people write, in TOML or CSV. Imported only when one is read: servers stay light.

TOML: tables [[spectacle]] with nom, date, places, and optionally id (1, 2, ... by default) and case (the slot 0..9, the
next free one by default). CSV: the same names in its first line.
"""

from __future__ import annotations

import csv
import os
import tomllib

from spectacles.common.errors import SpectaclesError, UsageError, reason
from spectacles.common.spectacle import (
    DATE_SIZE,
    INT_MAX,
    MAX_SPECTACLE,
    NOM_SIZE,
    Spectacle,
    encode_text,
    pack_table,
)
from spectacles.common.text import has_control

FILE_NAME = "spectacles.toml"
TOO_MANY = "?"  # what csv calls the values beyond the last column
_FIELDS = {"id", "nom", "date", "places", "case"}


def default_path(directory: str) -> str:
    """Return the catalogue for a run directory: its own spectacles.toml, else the sample that the package brings."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    candidates = [
        os.path.join(directory, FILE_NAME),
        os.path.join(package, "data", FILE_NAME),  # in the wheel
        os.path.join(os.path.dirname(package), "data", FILE_NAME),  # in a checkout
    ]
    return next((path for path in candidates if os.path.isfile(path)), candidates[-1])


def load(path: str) -> bytes:
    """Return the 720 bytes of the table that the catalogue `path` (.toml or .csv) describes.

    Raises UsageError, with the entry in its message, for what does not fit; SpectaclesError if it cannot be read.
    """
    try:
        if path.endswith(".csv"):
            with open(path, newline="", encoding="utf-8-sig") as text:
                separator = ";" if ";" in text.readline() else ","  # a French spreadsheet writes the first
                text.seek(0)
                entries: object = list(csv.DictReader(text, delimiter=separator, restkey=TOO_MANY, strict=True))
        elif path.endswith(".toml"):
            with open(path, "rb") as file:
                entries = tomllib.load(file).get("spectacle", [])
        else:
            raise UsageError(f"{path} : catalogue en .toml ou en .csv attendu")
    except OSError as error:
        raise SpectaclesError(reason(error)) from error
    except (ValueError, csv.Error) as error:  # bad TOML, bad UTF-8
        raise UsageError(f"{path} : illisible ({error})") from error
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UsageError(f"{path} : des tables [[spectacle]] sont attendues")
    if not entries:
        raise UsageError(f"{path} : aucun spectacle dans ce catalogue")
    try:
        return parse(entries)
    except UsageError as error:
        raise UsageError(f"{path} : {error}") from None


def parse(entries: list[dict[str, object]]) -> bytes:
    """Return the 720 bytes of a table with `entries`, in slots of their own or one after the other.

    Raises UsageError: more than ten shows, a slot used twice, a text that does not fit, a number beyond a C int.
    """
    shows: dict[int, Spectacle] = {}
    for number, entry in enumerate(entries, 1):
        where = f"spectacle n° {number}"
        unknown = set(entry) - _FIELDS
        if TOO_MANY in unknown:
            raise UsageError(f"{where} : plus de valeurs que de colonnes")
        if unknown:
            raise UsageError(f"{where} : champ inconnu « {min(unknown, key=str)} »")
        free = next((i for i in range(MAX_SPECTACLE) if i not in shows), MAX_SPECTACLE)
        case = _number(where, entry, "case", 0, MAX_SPECTACLE - 1, free)
        if case >= MAX_SPECTACLE:
            raise UsageError(f"{where} : {MAX_SPECTACLE} spectacles au plus")
        if case in shows:
            raise UsageError(f"{where} : la case {case} est déjà prise")
        shows[case] = Spectacle(
            _number(where, entry, "id", 1, INT_MAX, case + 1),
            _text(where, entry, "nom", NOM_SIZE),
            _text(where, entry, "date", DATE_SIZE),
            _number(where, entry, "places", 0, INT_MAX, None),
        )
    return pack_table(shows)


def _number(where: str, entry: dict[str, object], name: str, low: int, high: int, default: int | None) -> int:
    value = entry.get(name)
    if value is None or value == "":
        if default is None:
            raise UsageError(f"{where} : « {name} » manque")
        return default
    try:
        if isinstance(value, bool | float):
            raise ValueError
        number = int(value)  # type: ignore[call-overload]
    except (TypeError, ValueError):
        raise UsageError(f"{where} : « {name} » n'est pas un entier : {value!r}") from None
    if not low <= number <= high:
        raise UsageError(f"{where} : « {name} » doit être entre {low} et {high}, pas {number}")
    return int(number)


def _text(where: str, entry: dict[str, object], name: str, size: int) -> str:
    value = entry.get(name, "")
    text = str(value or "").strip()
    if not text:
        raise UsageError(f"{where} : « {name} » manque")
    if has_control(text):
        raise UsageError(f"{where} : « {name} » contient un caractère de contrôle")
    if encode_text(text, size) != text.encode():
        raise UsageError(f"{where} : « {name} » dépasse {size - 1} octets en UTF-8")
    return text
