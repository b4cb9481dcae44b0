"""The rows of a table as spreadsheets save it: comma, semicolon or tab, with rows and columns that were emptied.

The first row that is not empty names the columns, in any order and in small letters or capitals; a column of another
name is somebody's own, and is passed over. Rows are counted as the spreadsheet's margin counts them.
"""

from __future__ import annotations

import csv
import io
import re

from spectacles.common.errors import UsageError

_SEPARATORS = ";,\t|"
_EXCEL_ERROR = re.compile(r"#(N/A|REF!|NOM\?|NAME\?|VALEUR!|VALUE!|DIV/0!|NUL!|NULL!|NOMBRE!|NUM!)")
_MIDNIGHT = re.compile(r"[ T]00:00(:00(\.0+)?)?Z?$")
FIRST_DAY, LAST_DAY = 36526, 73050  # 2000-01-01 and 2099-12-31, as Excel counts days


def entries(text: str, fields: set[str]) -> tuple[list[tuple[str, dict[str, object]]], list[str]]:
    """Return the rows of a table, each as ("ligne 2", {field: cell}), and the titles of the columns passed over.

    fields: the names of the columns to keep. Raises UsageError with the row, as a person sees it.
    """
    separator, text = _separator(text, fields)
    rows = list(_rows(text, separator))
    if not rows:
        return [], []
    number, titles = rows.pop(0)
    names = [_name(title) for title in titles]
    if not fields & set(names):
        raise UsageError(f"ligne {number} : les titres des colonnes y sont attendus (nom, date, places...)")
    for name in fields & set(names):
        places = [_letter(i) for i, other in enumerate(names) if other == name]
        if len(places) > 1:
            raise UsageError(f"ligne {number} : la colonne « {name} » est là {len(places)} fois ({', '.join(places)})")
    found: list[tuple[str, dict[str, object]]] = []
    for number, cells in rows:
        where = f"ligne {number}"
        for i, cell in enumerate(cells[len(names) :], len(names)):
            if cell:
                raise UsageError(f"{where} : plus de valeurs que de colonnes (« {cell} » en {_letter(i)})")
        pairs = zip(names, cells, strict=False)
        entry: dict[str, object] = {name: _value(where, name, cell) for name, cell in pairs if name in fields}
        if any(entry.values()):
            found.append((where, entry))
    over = [titles[i] or _letter(i) for i, name in enumerate(names) if name not in fields and _is_used(rows, i)]
    return found, over


def _is_used(rows: list[tuple[int, list[str]]], column: int) -> bool:
    return any(column < len(cells) and cells[column] for _, cells in rows)


def _separator(text: str, fields: set[str]) -> tuple[str, str]:
    """Return what separates the cells, and the text without Excel's line that says so."""
    said = re.match(r'"?sep=(.)"?[;,\t]*(\r\n?|\n|$)', text, re.IGNORECASE)
    if said:
        return said[1], text[said.end() :]

    def known(separator: str) -> int:
        first = text.lstrip(' \r\n;,\t|"').splitlines()[:1]
        return len(fields & {_name(cell) for line in first for cell in line.split(separator)})

    return max(_SEPARATORS, key=known), text


def _rows(text: str, separator: str) -> list[tuple[int, list[str]]]:
    """Return the rows that are not empty, with their numbers; cells stripped."""
    rows: list[tuple[int, list[str]]] = []
    number = 0
    try:
        # newline="": a break within quotes is kept, and a lone \r, as an old Macintosh writes it, ends a line too.
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        for number, row in enumerate(reader, 1):
            cells = [cell.strip() for cell in row]
            if any(cells):
                rows.append((number, cells))
    except csv.Error:
        raise UsageError(f"ligne {number + 1} : guillemets mal fermés, ou cellule trop longue") from None
    return rows


def _name(title: str) -> str:
    """Return the field that the title of a column names: « Places », NOM."""
    return re.sub(r"^\W+|\W+$", "", title).casefold()


def _letter(column: int) -> str:
    """Return what a spreadsheet calls its column 0, 1, ...: A, B, ..., Z, AA."""
    return (_letter(column // 26 - 1) if column >= 26 else "") + chr(ord("A") + column % 26)


def _value(where: str, name: str, cell: str) -> str:
    """Return a cell as it was meant. Raises UsageError where the spreadsheet has not saved what it shows."""
    if re.fullmatch("#{2,}", cell):
        raise UsageError(f"{where} : « {name} » : colonne trop étroite dans le tableur, qui n'a gardé que des #")
    if _EXCEL_ERROR.fullmatch(cell):
        raise UsageError(f"{where} : « {name} » : formule en erreur ({cell})")
    if name != "date":
        return cell
    if re.fullmatch("[0-9]{5}", cell) and FIRST_DAY <= int(cell) <= LAST_DAY:
        raise UsageError(f"{where} : « date » : {cell} est un numéro de jour ; mettez la colonne au format Date courte")
    return _MIDNIGHT.sub("", cell)
