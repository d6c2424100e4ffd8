"""Markdown from a model, for notebooks. Jupyter trusts what a cell has put out: HTML in it runs, pictures load."""

from __future__ import annotations

import re
from typing import Final

from .control_characters import strip_controls

_NOTHING: Final = "\u200b"
"""Is not seen, and what it stands in means nothing any more: the tag is text. An entity would be seen in code."""

#: Tags, comments, autolinks; pictures; links and definitions of links that do not lead to another page.
_ACTS: Final = re.compile(
    r"<(?=[A-Za-z/!?])|!(?=\[)|\](?=\((?!(?:https?://|mailto:)))|\](?=:(?!\s*(?:https?://|mailto:)))"
)
_OPENING: Final = re.compile(r"(`{3,})[^`]*$|(~{3,})")
_FENCE: Final = re.compile(r"```|~~~")


def sanitize_markdown(text: str) -> str:
    """Return Markdown with its looks, in which nothing acts: no HTML, no pictures, no links but to web pages.

    Fenced code stays as it is, so that it can be copied, as long as there is no doubt where it ends.
    """
    shown, fence, sure = [], "", True
    for line in strip_controls(re.sub("\r\n?", "\n", text)).split("\n"):
        if fence:
            if re.fullmatch(f" {{0,3}}{fence}{fence[0]}*[ \t]*", line):
                fence = ""
        else:
            opening = _OPENING.match(line) if sure else None
            if opening:
                fence = opening[1] or opening[2]
            else:
                # In a list, say, or indented: where that code ends depends on more than this line.
                sure = sure and not _FENCE.search(line)
                line = _ACTS.sub(lambda found: found[0] + _NOTHING, line)
        shown.append(line)
    return "\n".join(shown)
