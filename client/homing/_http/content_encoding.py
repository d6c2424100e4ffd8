"""Compressed answers, which nobody has asked for: how to read them without unpacking a bomb.

httpx's decoders return all that their input unpacks to, and some kilobytes unpack to gigabytes. Fed in
slices they return little at a time, so that whoever counts the bytes can stop.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import httpx

SLICE: Final = 1024
"""Bytes of gzip or deflate, which unpack to at most a thousand times as many: a megabyte."""

BYTEWISE: Final = 1
"""Of other codings: some 16 MiB, brotli's longest run, may come of a single byte."""


def slice_size(encodings: Iterable[str]) -> int:
    """Return the bytes of an answer to decode at once. Raises `httpx.DecodingError` for what is packed twice."""
    packed = [name for name in (encoding.strip().lower() for encoding in encodings) if name not in ("", "identity")]
    if len(packed) > 1:
        raise httpx.DecodingError(f"it is packed {len(packed)} times over, which only a bomb needs")
    return SLICE if packed in (["gzip"], ["deflate"]) else BYTEWISE
