"""What a terminal would obey. A reply is text: nothing in it may move the cursor or write to the clipboard."""

from __future__ import annotations

import re

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""C0 without tab and newline, DEL, C1 (ECMA-48). Without ESC and CSI the rest of a sequence is harmless text."""


def without_controls(text: str) -> str:
    """Return ``text`` as a terminal may have it. Pure."""
    return _CONTROLS.sub("", text)


def columns(rows: list[tuple[str, ...]]) -> list[str]:
    """Return ``rows`` as lines, cells below each other. Pure."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    padded = ([cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows)
    return [without_controls("  ".join(cells).rstrip()) for cells in padded]
