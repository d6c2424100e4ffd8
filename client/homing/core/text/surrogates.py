"""Replaces lone surrogates in JSON from a server.

JSON can spell one half of a UTF-16 pair (``"\\ud83d"``, RFC 8259 §8.2), and proxies that cut
strings between UTF-16 units do. It is not text: pydantic and UTF-8 reject it.
"""

from __future__ import annotations

import json
import re
from typing import Final

_ESCAPE: Final = re.compile(rb"\\u[dD][89a-fA-F]")
_HALF: Final = re.compile("[\ud800-\udfff]")  # a whole pair decodes to one character


def replace_surrogates_json(data: bytes) -> bytes | None:
    """Return the JSON with U+FFFD for each lone surrogate; None if it has no surrogate escapes or isn't JSON."""
    if _ESCAPE.search(data) is None:
        return None
    try:
        text = json.dumps(json.loads(data), ensure_ascii=False)
    except (ValueError, RecursionError):
        return None
    return _HALF.sub("\ufffd", text).encode()


def replace_surrogates(text: str) -> str:
    """Return the text with U+FFFD for each lone surrogate, which Python strings may hold too (PEP 383)."""
    return _HALF.sub("\ufffd", text)
