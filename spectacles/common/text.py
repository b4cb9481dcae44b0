"""Characters that are no text: what may stand in a title or a name, and what may be shown of a stranger's.

One definition for all: a control character (Cc in Unicode, the line and paragraph separators, half a surrogate pair)
drives a terminal or ends a line. Everything else is a letter to somebody: no-break spaces, the joiners of emojis too.
"""

from __future__ import annotations

import re

_CONTROL = r"\0-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff"
# They write what follows on the line backwards, the end of another's sentence too; a title may need them.
_DIRECTION = r"\u202a-\u202e\u2066-\u2069"

_control = re.compile(f"[{_CONTROL}]")
_shown_as_code = re.compile(f"[{_CONTROL}{_DIRECTION}]")


def has_control(text: str) -> bool:
    """Say whether `text` holds a control character, and can therefore be neither a title nor a name."""
    return _control.search(text) is not None


def printable(text: str) -> str:
    """Return `text` on one line, as a terminal can be given it: its control characters as \\x1b, \\n, \\u2028."""
    # Every log line passes here: the first look is C, and nearly always the last.
    return text if text.isprintable() else _shown_as_code.sub(lambda found: ascii(found[0])[1:-1], text)
