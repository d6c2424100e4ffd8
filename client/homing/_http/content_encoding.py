"""Reads compressed responses, which no request asks for, without unpacking a decompression bomb.

httpx's decoders return everything that their input unpacks to, and a few kilobytes may unpack to gigabytes.
Fed in slices, they return little at a time, so that a caller that counts the bytes can stop.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import httpx

SLICE: Final = 1024
"""Bytes per slice of gzip or deflate, which unpack to at most a thousand times as many: a megabyte."""

BYTEWISE: Final = 1
"""Bytes per slice of other codings: a single byte may yield some 16 MiB, brotli's longest run."""


def slice_size(encodings: Iterable[str]) -> int:
    """Return how many bytes to decode at once. Raises `httpx.DecodingError` if it is compressed more than once."""
    packed = [name for name in (encoding.strip().lower() for encoding in encodings) if name not in ("", "identity")]
    if len(packed) > 1:
        raise httpx.DecodingError(f"it is packed {len(packed)} times over, which only a bomb needs")
    return SLICE if packed in (["gzip"], ["deflate"]) else BYTEWISE
