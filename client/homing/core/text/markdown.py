"""Makes Markdown from a model safe for notebooks. Jupyter trusts a cell's output: HTML in it runs, images load."""

from __future__ import annotations

import re
from typing import Final

from .control_characters import strip_controls

_NOTHING: Final = "\u200b"
"""An invisible character that breaks the syntax around it: a tag becomes text. An entity would be visible in code."""

#: Tags, comments, autolinks; images; links and link definitions that lead to neither a web page nor an email address.
_ACTS: Final = re.compile(
    r"<(?=[A-Za-z/!?])|!(?=\[)|\](?=\((?!(?:https?://|mailto:)))|\](?=:(?!\s*(?:https?://|mailto:)))"
)
_OPENING: Final = re.compile(r"(`{3,})[^`]*$|(~{3,})")
_FENCE: Final = re.compile(r"```|~~~")


def sanitize_markdown(text: str) -> str:
    """Return Markdown that looks the same but does nothing: no HTML or images, only web and email links.

    Fenced code stays as it is, so that it can be copied, as long as it is clear where it ends.
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
                # A fence in a list, say, or indented: where that code ends depends on more than this line.
                sure = sure and not _FENCE.search(line)
                line = _ACTS.sub(lambda found: found[0] + _NOTHING, line)
        shown.append(line)
    return "\n".join(shown)
