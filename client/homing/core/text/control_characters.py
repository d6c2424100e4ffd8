"""What a terminal would obey. Foreign words are data: none may move the cursor, write to the clipboard or forge a line.

Errors clean their messages by this themselves, and so does whoever takes up a foreign word beside them: a replica's
name, a log line, whatever the command line shows. What a program reads (a reply's text, an error's ``body``) stays
as it came.
"""

from __future__ import annotations

import re
from typing import Final

from .surrogates import replace_surrogates

#: C0 without tab and newline, DEL, C1 (ECMA-48): without ESC and CSI the rest of a sequence is harmless text.
#: Then what changes the order of text (UAX #9): marks, embeddings, overrides, isolates, and their deprecated kin.
_OBEYED: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f]")
#: What any program may take for the end of a line or a column (``str.splitlines``).
_BREAKS: Final = re.compile("[\t-\r\x1c-\x1e\x85\u2028\u2029]+")


def strip_controls(text: str) -> str:
    """Return ``text`` as a terminal may have it: tabs and newlines stay, halves of characters become U+FFFD.

    Character by character, so a stream may be cleaned piece by piece.
    """
    return replace_surrogates(_OBEYED.sub("", text))


def one_line(text: str) -> str:
    """Return ``text`` as a log, or the cell of a table, may have it: clean, and on one line."""
    return strip_controls(_BREAKS.sub(" ", text))
