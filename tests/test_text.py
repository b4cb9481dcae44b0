"""What may stand in a title, and what may be shown: one definition of a control character."""

from __future__ import annotations

import sys
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from spectacles.common.text import has_control, printable

CONTROL = {"Cc", "Cs", "Zl", "Zp"}
DIRECTION = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def test_every_character() -> None:
    """A character is forbidden where Unicode calls it a control character, and nowhere else.

    (With str.isprintable() for has_control(), U+00A0 is the first of thousands that are refused.)
    """
    for code in range(sys.maxunicode + 1):
        letter = chr(code)
        control = unicodedata.category(letter) in CONTROL
        assert has_control(f"a{letter}b") == control, hex(code)
        escaped = control or unicodedata.bidirectional(letter) in DIRECTION
        assert (printable(f"a{letter}b") != f"a{letter}b") == escaped, hex(code)


@given(st.text(max_size=40))
def test_one_line_of_text(text: str) -> None:
    """What a client sends cannot drive a terminal or fake a line; what can be printed stays.

    (With printable() returning its argument, a line feed makes two lines.)
    """
    safe = printable(text)
    assert len(safe.splitlines()) <= 1
    assert not has_control(safe)
    assert printable(safe) == safe
    if text.isprintable():
        assert safe == text
