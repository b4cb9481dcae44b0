"""Catalogues as people's programs write them: it comes back the same, or a sentence says what to do."""

from __future__ import annotations

import csv
import io
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spectacles.common import catalogue
from spectacles.common.decoding import decode
from spectacles.common.errors import UsageError
from spectacles.common.spectacle import Spectacle, unpack_table
from tests import helpers

HEAD = "nom;date;places"
ROWS = ("Le Malade imaginaire;15/01/2027;120", "Œdipe roi;22/01/2027;80", "La Flûte enchantée;05/02/2027;1 300")
SHOWS = [
    Spectacle(1, "Le Malade imaginaire", "15/01/2027", 120),
    Spectacle(2, "Œdipe roi", "22/01/2027", 80),
    Spectacle(3, "La Flûte enchantée", "05/02/2027", 1300),
]
TEXT = "\r\n".join([HEAD, *ROWS, ""])


def shows_in(path: Path, data: bytes, remarks: list[str] | None = None) -> list[Spectacle]:
    """Return the shows that a catalogue of these bytes describes."""
    path.write_bytes(data)
    return [show for _, show in unpack_table(catalogue.load(str(path), remarks))]


# What programs write

TAKEN = {
    "Excel, CSV UTF-8.csv": TEXT.encode("utf-8-sig"),
    "Excel, CSV (séparateur point-virgule).csv": TEXT.encode("cp1252"),
    "Excel, texte Unicode.txt": TEXT.replace(";", "\t").encode("utf-16"),
    "Excel, texte (tabulation).txt": TEXT.replace(";", "\t").encode("cp1252"),
    "Excel, emptied rows and columns.csv": (TEXT.replace("\r\n", ";;\r\n") + ";;;;\r\n;;;;\r\n").encode("cp1252"),
    "Excel, an emptied row in the middle.csv": TEXT.replace("Œdipe", ";;\r\nŒdipe").encode("cp1252"),
    "Excel, an emptied row above, and a column at the left.csv": (";\r\n" + re.sub("(?m)^", ";", TEXT)).encode(),
    "Excel, an emptied column in the middle.csv": TEXT.replace(";", ";;").encode("utf-8-sig"),
    "sep.csv": f"sep=;\r\n{TEXT}".encode("cp1252"),
    "sep with a tab.csv": f'"sep=\t"\r\n{TEXT}'.replace(";", "\t").encode("utf-8-sig"),
    "LibreOffice.csv": TEXT.replace(";", ",").replace("\r\n", "\n").encode(),
    "LibreOffice, UTF-16.csv": TEXT.replace(";", ",").encode("utf-16-le"),
    "LibreOffice, Latin-9.csv": TEXT.replace("Œ", "œ").encode("iso8859_15").replace(b"\xbddipe", b"\xbcdipe"),
    "Numbers.csv": TEXT.replace(";", ",").encode().rstrip(),
    "Google.tsv": TEXT.replace(";", "\t").encode(),
    "everything quoted.CSV": re.sub("[^;\r\n]+", r'"\g<0>"', TEXT).encode(),
    "an old Macintosh.csv": TEXT.replace("\r\n", "\r").encode(),
    "capitals.csv": TEXT.replace(HEAD, "NOM;DATE;PLACES").encode(),
    "ornaments.csv": TEXT.replace(HEAD, "\u00a0Nom ;« Date »;\u202fPlaces :").encode(),
    "times.csv": TEXT.replace("2027;", "2027 00:00:00;").encode(),
    "decimals.csv": TEXT.replace(";120\r", ";120,00\r").replace(";80\r", ";80.0\r").encode(),
    "PowerShell.toml": (
        "[[spectacle]]\nnom = 'Le Malade imaginaire'\ndate = '15/01/2027'\nplaces = 120\n"
        "[[spectacle]]\nnom = 'Œdipe roi'\ndate = '22/01/2027'\nPlaces = '80'\n"
        "[[spectacle]]\nNom = 'La Flûte enchantée'\ndate = '05/02/2027'\nplaces = 1_300\n"
    ).encode("utf-16"),
}
TAKEN["mark.toml"] = TAKEN["PowerShell.toml"].decode("utf-16").replace("\n", "\r\n").encode("utf-8-sig")
TAKEN["notepad.toml"] = TAKEN["PowerShell.toml"].decode("utf-16").encode("cp1252")
TAKEN["macintosh.toml"] = TAKEN["PowerShell.toml"].decode("utf-16").replace("\n", "\r").encode()


@pytest.mark.parametrize("name", TAKEN)
def test_taken(tmp_path: Path, name: str) -> None:
    """(With open(..., encoding="utf-8-sig") and csv.DictReader, as it was, only four of them are taken.)"""
    remarks: list[str] = []
    assert shows_in(tmp_path / name, TAKEN[name], remarks) == SHOWS
    try:
        TAKEN[name].decode()
        guessed = ""
    except UnicodeDecodeError:
        guessed = "" if "UTF-16" in name or b"\0" in TAKEN[name] else "Latin-9" if "Latin" in name else "Windows-1252"
    assert len(remarks) == bool(guessed), remarks
    assert not guessed or guessed in remarks[0]


@pytest.mark.parametrize(
    "written", ["1200", "1 200", "1\u00a0200", "1\u202f200", "1'200", "1’200", "1200,0", "1 200,00", "+1200"]
)
def test_numbers(tmp_path: Path, written: str) -> None:
    """As the cell's format shows them. (With int(), the second is refused.)"""
    assert shows_in(tmp_path / "a.csv", f"nom;date;places\nA;x;{written}\n".encode())[0].places == 1200


@pytest.mark.parametrize("letter", ["\u00a0", "\u202f", "\u00ad", "\u200d", "\u200f", "\u2066", "\ufe0f"])
def test_letters_that_cannot_be_printed_alone(tmp_path: Path, letter: str) -> None:
    """(With str.isprintable(), each is refused as a control character.)"""
    assert shows_in(tmp_path / "a.csv", f"nom;date;places\nA{letter}B;x;1\n".encode())[0].nom == f"A{letter}B"


# What cannot be taken

REFUSED: dict[str, tuple[str | bytes, str]] = {
    "row.csv": (TEXT + ";;\r\n;;\r\nFin;;3\r\n", "ligne 7 : « date » manque"),
    "row after a break in a cell.csv": (
        f'sep=;\r\n{TEXT}"Deux\nlignes";x;3\r\nFin;x;trois\r\n',
        "ligne 5 : « nom » passe",
    ),
    "row in another.csv": (
        f'{HEAD};note\r\nA;x;1;"a\nb\nc"\r\nFin;x;trois;\r\n',
        "ligne 3 : « places » n'est pas un nombre",
    ),
    "thousands.csv": (TEXT.replace("1 300", "1,300"), "ligne 4 : « places » n'est pas un nombre entier : « 1,300 »"),
    "thousands2.csv": (TEXT.replace("1 300", "1.300"), "ligne 4 : « places » n'est pas un nombre entier"),
    "two numbers.csv": (TEXT.replace("1 300", "1 30"), "ligne 4 : « places » n'est pas un nombre entier"),
    "no titles.csv": ("\r\n".join(ROWS), "ligne 1 : les titres des colonnes"),
    "a title above.csv": (f"Saison 2027;;\r\n{TEXT}", "ligne 1 : les titres des colonnes"),
    "no places.csv": (TEXT.replace("places", "jauge"), "ligne 2 : « places » manque"),
    "twice.csv": (TEXT.replace(HEAD, "nom;date;places;Nom"), "ligne 1 : la colonne « nom » est là 2 fois (A, D)"),
    "narrow.csv": (TEXT.replace("22/01/2027", "########"), "ligne 3 : « date » : colonne trop étroite"),
    "day.csv": (TEXT.replace("22/01/2027", "46402"), "ligne 3 : « date » : 46402 est un numéro de jour"),
    "long date.csv": (TEXT.replace("22/01/2027", "vendredi 22 janvier 2027"), "une date courte y tient"),
    "formula.csv": (TEXT.replace(";80", ";#VALEUR!"), "ligne 3 : « places » : formule en erreur (#VALEUR!)"),
    "extra.csv": (TEXT.replace(";80", ";80;oui"), "ligne 3 : plus de valeurs que de colonnes (« oui » en D)"),
    "eleven.csv": (HEAD + "\r\n" + "A;x;1\r\n" * 11, "11 spectacles dans ce catalogue : 10 spectacles au plus"),
    "quotes.csv": (f'{TEXT}"Fin;x;3\r\n', "ligne 5 : guillemets mal fermés"),
    "workbook.xlsx": (b"PK\x03\x04...", "« CSV UTF-8 »"),
    "workbook.ods": (b"", "« CSV UTF-8 »"),
    "renamed.csv": (b"PK\x03\x04...", "c'est un classeur"),
    "renamed2.csv": (b"\xd0\xcf\x11\xe0...", "c'est un classeur"),
    "huge.csv": (HEAD + "\n" * 2_000_000, "ce n'est pas un catalogue"),
    "macintosh.csv": (TEXT.encode("mac_roman", "replace"), "ligne 3 : accents illisibles"),
    "msdos.csv": (TEXT.replace("Œ", "O").encode("cp850"), "enregistrez en UTF-8"),
    "cut within a letter.csv": (TEXT.encode().replace("ée".encode(), b"\xc3"), "ligne 4 : accents illisibles"),
    "half a pair.csv": (TEXT.encode("utf-16")[:-1], "accents illisibles"),
    "syntax.toml": ("[[spectacle]]\nnom = A\n", "ligne 2, colonne 7 : ce n'est pas du TOML"),
    "end.toml": ("[[spectacle]]\nnom = ", "ce n'est pas du TOML"),
    "deep.toml": ("a = " + "[" * 5000, "ce n'est pas du TOML"),
    "digits.toml": (f"a = {'9' * 5000}", "ce n'est pas du TOML"),
    "plural.toml": ("[[spectacles]]\nnom = 'A'\n", "des tables [[spectacle]] sont attendues"),
    "twice.toml": ("[[spectacle]]\nnom = 'A'\nNom = 'B'\n", "un champ y est deux fois"),
    "truth.toml": ("[[spectacle]]\nnom = true\n", "« nom » n'est pas un texte"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(tmp_path: Path, name: str) -> None:
    """One line of French with the file, the row as the spreadsheet numbers it, and what is wrong there.

    (With a codec's, csv's or tomllib's own text in the message, the last assertion fails.)
    """
    content, expected = REFUSED[name]
    with pytest.raises(UsageError) as caught:
        shows_in(tmp_path / name, content if isinstance(content, bytes) else content.encode())
    said = str(caught.value)
    assert said.startswith(f"{tmp_path / name} : ")
    assert expected in said
    assert "\n" not in said
    assert not re.search(r"\b(at|line|column|codec|byte|invalid|Expected|field|expected|string)\b", said)


def test_columns_of_somebody_s_own(tmp_path: Path) -> None:
    """A price or a note is passed over, which is said; an empty column, or a row with nothing but a note, is not.

    (With every column to be known, as it was, "champ inconnu « prix »" refuses the whole.)
    """
    remarks: list[str] = []
    text = "Prix;nom;date;places;;Note\n12;A;x;1;;\n;;;;;Total\n14;B;y;2;;\n"
    shows = shows_in(tmp_path / "a.csv", text.encode(), remarks)
    assert [show.nom for show in shows] == ["A", "B"]
    assert remarks == [f"{tmp_path / 'a.csv'} : colonnes laissées de côté : Prix, Note"]


# What is certain about the old encodings

WORDS = (
    *("Été", "hôtel", "À bout", "L'École", "l'Île", "Noël", "où êtes-vous", "Ça ira", "Œdipe", "cœur", "CŒUR", "FÊTE"),
    *("sœurs", "maïs", "naïveté", "Bérénice", "garçon", "maître", "« Bonjour »", "“Oui”", "‘Non’", "20 €", "huit ½"),
    *("Le Cid – Corneille", "ambiguë", "Héloïse", "flûte enchantée", "1ère", "2è fois", "n° 5", "Doña", "Così", "Ubu"),
    *("Brünnhilde", "Händel", "ex æquo", "L’AVARE", "L'ÉTÉ", "tôt ou tard", "à trois", "encore un effort…", "l’amour"),
)
ENCODINGS = ["cp1252", "iso8859_1", "iso8859_15", "mac_roman", "cp850"]


@settings(max_examples=500)
@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=9), st.sampled_from(ENCODINGS))
def test_never_a_wrong_letter(words: list[str], encoding: str) -> None:
    """What is not Unicode is read as it was written, or not at all, whichever encoding it has.

    (With "not UTF-8, so it is Windows-1252", or without _is_mixed, a Macintosh's î becomes a ”, its é a Ž.)
    """
    text = "\n".join([*words, "Ubu roi"])
    try:
        data = text.encode(encoding)
    except UnicodeEncodeError:
        return
    try:
        found, guessed = decode(data)
    except UsageError:
        return
    assert found == text
    assert guessed in ("Windows-1252", "Latin-9") or text.isascii()


@pytest.mark.parametrize("encoding", ["cp1252", "iso8859_15"])
def test_what_windows_writes_is_taken(encoding: str) -> None:
    """Each line alone, and all together. (Without _NONSENSE another reading is as good, and most are refused.)"""
    lines = ["Œdipe roi", "Récital", "École", "Été", "À bout de souffle", "L’Avare", "cœur", "à 20 €", "Ça ira", "8½"]
    lines = [line for line in lines if encoding == "cp1252" or not set(line) & set("’½")]
    for text in [*lines, "\n".join(lines)]:
        assert decode(text.encode(encoding))[0] == text


# Whatever is in the table comes back

TITLES = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=20).filter(
    lambda text: text == text.strip() and len(text.encode()) <= 49 and not re.fullmatch("##+|#.*[!?A]", text)
)
TABLES = st.lists(
    st.tuples(TITLES, st.sampled_from(["15/01/2027", "bientôt", "2027-1-5"]), st.integers(0, 10**6)),
    min_size=1,
    max_size=10,
)


@settings(max_examples=300)
@given(
    table=TABLES,
    separator=st.sampled_from(";,\t"),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    end=st.sampled_from(["\r\n", "\n", "\r"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le"]),
    head=st.sampled_from([("nom", "date", "places"), ("NOM ", "Date", "« Places »")]),
    said=st.booleans(),
    empty=st.tuples(*[st.integers(0, 2)] * 4),
    grouped=st.booleans(),
)
def test_what_was_written_comes_back(
    tmp_path_factory: pytest.TempPathFactory,
    table: list[tuple[str, str, int]],
    separator: str,
    quoting: int,
    end: str,
    encoding: str,
    head: tuple[str, ...],
    said: bool,
    empty: tuple[int, int, int, int],
    grouped: bool,
) -> None:
    """In every dialect of the csv module and every encoding of Unicode, with emptied rows and columns around it."""
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=separator, quoting=quoting, lineterminator=end)  # type: ignore[arg-type]
    above, below, left, right = empty
    rows: list[tuple[object, ...]] = [*[()] * above, head, *table, *[()] * below]
    for row in rows:
        cells = [f"{cell:,}".replace(",", "\u202f") if grouped and isinstance(cell, int) else cell for cell in row]
        writer.writerow([*[""] * left, *cells, *[""] * right])
    text = (f"sep={separator}{end}" if said else "") + file.getvalue()
    path = tmp_path_factory.getbasetemp() / "round-trip.csv"
    found = shows_in(path, text.encode(encoding))
    assert found == [Spectacle(i, nom, date, places) for i, (nom, date, places) in enumerate(table, 1)]


# The command


def import_(directory: Path, path: Path) -> subprocess.CompletedProcess[str]:
    """Run `spectacles table import`."""
    return helpers.run([sys.executable, "-m", "spectacles", "table", "import", "--dir", str(directory), str(path)])


def test_the_command_shows_what_it_has_read(directory: Path, tmp_path: Path) -> None:
    """A guess is said, and the table shown, so that a wrong one is seen at once."""
    path = tmp_path / "Saison.CSV"
    path.write_bytes(TEXT.encode("cp1252"))
    done = import_(directory, path)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{path} : lu en Windows-1252, par déduction : vérifiez les accents\n" in done.stdout
    assert "[2] La Flûte enchantée | 05/02/2027 | 1300 places\n" in done.stdout
    assert done.stdout.endswith("écrit\n")


def test_the_command_names_the_row(directory: Path, tmp_path: Path) -> None:
    path = tmp_path / "saison.csv"
    path.write_text(TEXT.replace(";80", ";beaucoup"))
    done = import_(directory, path)
    assert done.returncode == 2
    assert helpers.one_line(done).endswith(
        "saison.csv : ligne 3 : « places » n'est pas un nombre entier : « beaucoup »"
    )
    assert not (directory / "spectacles.dat").exists()
