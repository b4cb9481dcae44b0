"""The text of a file that a person's program wrote: in Unicode, or in the encoding that Windows had before it.

Nothing in the file says which of the old ones it is: the byte of an é in one is a capital or a sign in the others. So
what is not Unicode is read in all those that French programs write, and Windows' is believed if its reading alone makes
sense. Whoever asked is told: a guess in silence, or between two, would put wrong titles into the table.
"""

from __future__ import annotations

import codecs
import itertools
import re

from spectacles.common.errors import UsageError

ADVICE = "enregistrez en UTF-8 (dans un tableur : « CSV UTF-8 »)"
_MARKS = {  # the longest first: the mark of UTF-16 begins that of UTF-32
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}

_SIGNS = "\u00a0«»‘’“”–—…€°½"
_FRENCH = "àâæçèéêëîïôœùû" + "ÀÂÇÈÉÊËÎÏÔŒÙÛ"
_EUROPEAN = _FRENCH + "áãäåìíñòóõöøúüýÿß" + "ÁÃÄÅÆÌÍÑÒÓÕÖØÚÜÝŸ" + "¡¿"
_BELIEVED = {"cp1252": "Windows-1252", "iso8859_15": "Latin-9"}
_LETTERS = {"cp1252": _EUROPEAN, "iso8859_15": _EUROPEAN, "mac_roman": _FRENCH, "cp850": _FRENCH}
_LETTER = r"[^\W\d_]"
_ALONE = _EUROPEAN.translate(dict.fromkeys(map(ord, "àèôÀÔ¡¿")))  # that are no word by themselves
_NONSENSE = re.compile(
    rf"""
      (?<!{_LETTER}) [{_ALONE}] (?!{_LETTER})
    | (?<!{_LETTER}) (?: [îÎ] (?![lL]) | [êÊ] (?![tT]) | [ùûÙÛ] )  # île and être begin so, and hardly another word
    | [àÀ] {_LETTER} | Œ l | œ (?!{_LETTER}) | \d [À-ÝŒ]
    | {_LETTER} [€½‘“] | [€½”] {_LETTER} | [‘“] \s | « (?![^»\n]{{0,100}}»)
    | … (?!(?:[Ee]t|[Mm]ais|[Oo]u|[Pp]uis|[Dd]onc|[Cc]ar)\b) {_LETTER}
    """,
    re.VERBOSE,
)


def decode(data: bytes) -> tuple[str, str | None]:
    """Return the text of a file, and the name of its encoding if that had to be guessed, None if it is Unicode.

    Raises UsageError, with the number of the line, where no reading makes sense, or more than one.
    """
    codec = next((codec for mark, codec in _MARKS.items() if data.startswith(mark)), "utf-8")
    if codec == "utf-8" and b"\0" in data:
        # Of two bytes the high one is 0 in plain letters.
        codec = "utf-16-le" if data[1::2].count(0) > data[::2].count(0) else "utf-16-be"
    try:
        return data.decode(codec).lstrip("\ufeff"), None
    except UnicodeDecodeError as error:
        line = 1 + len(re.findall(rb"\r\n?|\n", data[: error.start]))
    if codec == "utf-8":
        readings: dict[str, str] = {}
        for old, letters in _LETTERS.items():
            text = data.decode(old, "replace")
            if _makes_sense(text, letters):
                readings.setdefault(text, old)
        if len(readings) == 1:
            ((text, old),) = readings.items()
            if old in _BELIEVED:
                return text, _BELIEVED[old]
    raise UsageError(f"ligne {line} : accents illisibles, l'encodage n'est pas reconnu ; {ADVICE}")


def _makes_sense(text: str, letters: str) -> bool:
    special = set(re.sub(r"[\x00-\x7f]", "", text))
    return special <= {*letters, *_SIGNS} and not _NONSENSE.search(text) and not any(map(_is_mixed, _words(text)))


def _words(text: str) -> list[str]:
    return re.findall(f"{_LETTER}+", text)


def _is_mixed(word: str) -> bool:
    """Say whether a capital stands within a word of small letters, beside an accent or with one: LÕavare, fŒte."""
    return not word.isupper() and any(b.isupper() and not (a + b).isascii() for a, b in itertools.pairwise(word))
