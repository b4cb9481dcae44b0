"""Figures, units and lines of text the French way."""

from __future__ import annotations

import re


def number(value: float, digits: int = 0) -> str:
    """Write a number the French way: 12 345,6."""
    return f"{value:,.{digits}f}".replace(",", " ").replace(".", ",")


def duration(nanoseconds: float) -> str:
    """Write a duration in the unit that suits it: three digits or so."""
    for unit, size in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if nanoseconds >= size:
            value = nanoseconds / size
            return f"{number(value, 2 if value < 10 else 1 if value < 100 else 0)} {unit}"
    return f"{nanoseconds:.0f} ns"


def megabytes(kilobytes: float) -> str:
    """Write kB as MB, one digit."""
    return number(kilobytes / 1024, 1)


def unbroken(text: str) -> str:
    """Return French text whose lines end only where they may: not before a colon, nor within a number or its unit."""
    text = re.sub(r" (?=[:;?!»])|(?<=«) |(?<=×) |(?<=\d) (?=(?:µs|ms|s|Mo|%)(?!\w))", "\N{NO-BREAK SPACE}", text)
    return re.sub(r"(?<=\d) (?=\d)", "\N{NARROW NO-BREAK SPACE}", text)


def in_words(count: int) -> str:
    """Write a number of clients."""
    return f"{count} client{'s' if count > 1 else ''}"
