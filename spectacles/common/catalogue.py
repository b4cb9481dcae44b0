"""Catalogues of shows that people write, in TOML or CSV. Imported only when one is read: servers stay light.

TOML: tables [[spectacle]] with nom, date, places, and optionally id (1, 2, ... by default) and case (the slot 0..9, the
next free one by default). CSV: the same names in its first line, as any spreadsheet saves it (spreadsheet.py), in
whatever encoding is certain (decoding.py).
"""

from __future__ import annotations

import datetime
import os
import re
import tomllib

from spectacles.common import spreadsheet
from spectacles.common.decoding import decode
from spectacles.common.errors import SpectaclesError, UsageError, reason
from spectacles.common.spectacle import (
    DATE_SIZE,
    INT_MAX,
    MAX_SPECTACLE,
    NOM_SIZE,
    Spectacle,
    pack_table,
)
from spectacles.common.text import has_control

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

FILE_NAME = "spectacles.toml"
LARGEST = 1_000_000  # bytes; ten shows take a thousandth of it
_TABLES = (".csv", ".txt", ".tsv", ".tab")
_WORKBOOKS = (".xlsx", ".xlsm", ".xls", ".ods", ".fods", ".numbers")
_WORKBOOK_MARKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # a zip archive; Microsoft's container before it
_FIELDS = {"id", "nom", "date", "places", "case"}
# 1200, "1 200" (also with no-break spaces, or as the Swiss write it), "1200,00". Not "1,200" nor "1.200": thousands for
# some, one and a fifth for others.
_WHOLE = re.compile(r"([+-]?(?:[0-9]{1,3}(?:[ \u00a0\u202f\u2009'’][0-9]{3})+|[0-9]{1,20}))(?:[.,]0{1,2})?")


def default_path(directory: str) -> str:
    """Return the catalogue for a run directory: its own spectacles.toml, else the sample that the package brings."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    candidates = [
        os.path.join(directory, FILE_NAME),
        os.path.join(package, "data", FILE_NAME),  # in the wheel
        os.path.join(os.path.dirname(package), "data", FILE_NAME),  # in a checkout
    ]
    return next((path for path in candidates if os.path.isfile(path)), candidates[-1])


def load(path: str, remarks: list[str] | None = None) -> bytes:
    """Return the 720 bytes of the table that the catalogue `path` (.toml, .csv) describes.

    remarks: gets a sentence for each thing that had to be guessed, or was passed over.
    Raises UsageError, with the entry in its message, for what does not fit; SpectaclesError if it cannot be read.
    """
    suffix = os.path.splitext(path)[1].lower()
    try:
        with open(path, "rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise SpectaclesError(reason(error)) from error
    try:
        if suffix in _WORKBOOKS or data.startswith(_WORKBOOK_MARKS):
            raise UsageError("c'est un classeur ; enregistrez la feuille en « CSV UTF-8 » et donnez ce fichier")
        if suffix != ".toml" and suffix not in _TABLES:
            raise UsageError("catalogue en .toml ou en .csv attendu")
        if len(data) > LARGEST:
            raise UsageError(f"plus de {LARGEST} octets : ce n'est pas un catalogue de dix spectacles")
        text, guessed = decode(data)
        entries, passed_over = _from_toml(text) if suffix == ".toml" else spreadsheet.entries(text, _FIELDS)
        if not entries:
            raise UsageError("aucun spectacle dans ce catalogue")
        table = parse([entry for _, entry in entries], [where for where, _ in entries])
    except UsageError as error:
        raise UsageError(f"{path} : {error}") from None
    if remarks is not None:
        if guessed:
            remarks.append(f"{path} : lu en {guessed}, par déduction : vérifiez les accents")
        if passed_over:
            remarks.append(f"{path} : colonnes laissées de côté : {', '.join(passed_over)}")
    return table


def _from_toml(text: str) -> tuple[list[tuple[str, dict[str, object]]], list[str]]:
    try:
        # A lone \\r ends a line for an old Macintosh, and means nothing in TOML.
        document = tomllib.loads(re.sub(r"\r\n?", "\n", text))
    except (ValueError, RecursionError) as error:
        at = re.search(r"at line (\d+), column (\d+)", str(error))
        where = f"ligne {at[1]}, colonne {at[2]} : " if at else ""
        raise UsageError(f'{where}ce n\'est pas du TOML (nom = "...", date = "...", places = 120)') from None
    tables = document.get("spectacle", [])
    is_list = isinstance(tables, list) and all(isinstance(table, dict) for table in tables)
    if not is_list or (document and not tables):
        raise UsageError("des tables [[spectacle]] sont attendues")
    entries: list[tuple[str, dict[str, object]]] = []
    for number, table in enumerate(tables, 1):
        entry = {name.strip().casefold(): value for name, value in table.items()}
        if len(entry) < len(table):
            raise UsageError(f"spectacle n° {number} : un champ y est deux fois")
        entries.append((f"spectacle n° {number}", entry))
    return entries, []


def parse(entries: Sequence[dict[str, object]], names: Sequence[str] | None = None) -> bytes:
    """Return the 720 bytes of a table with `entries`, in slots of their own or one after the other.

    names: what messages call each entry, "spectacle n° 1" and so on by default.
    Raises UsageError: more than ten shows, a slot used twice, a text that does not fit, a number beyond a C int.
    """
    if len(entries) > MAX_SPECTACLE:
        raise UsageError(f"{len(entries)} spectacles dans ce catalogue : {MAX_SPECTACLE} spectacles au plus")
    shows: dict[int, Spectacle] = {}
    for number, entry in enumerate(entries):
        where = names[number] if names else f"spectacle n° {number + 1}"
        unknown = set(entry) - _FIELDS
        if unknown:
            raise UsageError(f"{where} : champ inconnu « {min(unknown)} » (connus : {', '.join(sorted(_FIELDS))})")
        free = next(i for i in range(MAX_SPECTACLE) if i not in shows)
        case = _number(where, entry, "case", 0, MAX_SPECTACLE - 1, free)
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
    number = _integer(value)
    if number is None:
        raise UsageError(f"{where} : « {name} » n'est pas un nombre entier : « {value} »")
    if not low <= number <= high:
        raise UsageError(f"{where} : « {name} » doit être entre {low} et {high}, pas {number}")
    return number


def _integer(value: object) -> int | None:
    """Return the number that `value` is, or writes; None for what is none, or may mean another."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    found = _WHOLE.fullmatch(value.strip()) if isinstance(value, str) else None
    return int(re.sub(r"[^0-9+-]", "", found[1])) if found else None


def _text(where: str, entry: dict[str, object], name: str, size: int) -> str:
    value = entry.get(name)
    if isinstance(value, bool) or not isinstance(value, str | int | float | datetime.date | datetime.time | None):
        raise UsageError(f"{where} : « {name} » n'est pas un texte")
    text = "" if value is None else str(value).strip()
    if not text:
        raise UsageError(f"{where} : « {name} » manque")
    if has_control(text):
        what = "passe à la ligne" if "\n" in text or "\r" in text else "contient un caractère de contrôle"
        raise UsageError(f"{where} : « {name} » {what}")
    if (length := len(text.encode())) >= size:
        hint = " ; une date courte y tient : 15/01/2027" if name == "date" else ""
        raise UsageError(f"{where} : « {name} » fait {length} octets en UTF-8, {size - 1} au plus{hint}")
    return text
