"""Removes what a terminal would obey. Foreign text must not move the cursor, write to the clipboard or forge a line.

Errors clean their own messages with this. So does all code that displays other foreign text: a replica's name, a log
line, the output of the command line. What a program reads (a reply's text, an error's ``body``) stays as received.
"""

from __future__ import annotations

import re
from typing import Final

from .surrogates import replace_surrogates

#: C0 without tab and newline, DEL, C1 (ECMA-48): without ESC and CSI, the rest of a sequence is harmless text.
#: Then what reorders text (UAX #9): marks, embeddings, overrides, isolates, and their deprecated relatives.
_OBEYED: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f]")
#: Characters that a program may take for the end of a line or a column (``str.splitlines``).
_BREAKS: Final = re.compile("[\t-\r\x1c-\x1e\x85\u2028\u2029]+")


def strip_controls(text: str) -> str:
    """Return ``text`` safe for a terminal: tabs and newlines stay, lone surrogates become U+FFFD.

    Each character is handled on its own, so a stream may be cleaned piece by piece.
    """
    return replace_surrogates(_OBEYED.sub("", text))


def one_line(text: str) -> str:
    """Return ``text`` clean and on one line, for a log or a table cell."""
    return strip_controls(_BREAKS.sub(" ", text))
