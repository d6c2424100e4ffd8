"""Printing. All output of commands goes through here, so that foreign text can't control the terminal."""

from __future__ import annotations

import json
import re
from typing import Any

from ..core.text.control_characters import one_line, strip_controls

_UNUSUAL = re.compile(r"[^\x20-\x7e\n]")


def say(text: str = "", *, mark: str = "", err: bool = False, **style: Any) -> None:
    """Print ``text`` in click's ``style``, after a trusted ``mark`` that may already be styled."""
    import click  # an extra, which the screens of `homing chat` don't need

    clean = strip_controls(text)
    click.echo(mark + (click.style(clean, **style) if style else clean), err=err)


def say_json(value: Any) -> None:
    """Print ``value`` as a line of JSON. Characters that could control a terminal are escaped, not removed."""
    import click

    click.echo(_UNUSUAL.sub(_escaped, json.dumps(value, ensure_ascii=False)))


def _escaped(found: re.Match[str]) -> str:
    return found[0] if one_line(found[0]) == found[0] else f"\\u{ord(found[0]):04x}"


def columns(rows: list[tuple[str, ...]]) -> list[str]:
    """Return ``rows`` as lines with aligned columns. Pure."""
    clean = [tuple(map(one_line, row)) for row in rows]
    widths = [max(len(row[column]) for row in clean) for column in range(len(clean[0]))]
    padded = ([cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in clean)
    return ["  ".join(cells).rstrip() for cells in padded]
