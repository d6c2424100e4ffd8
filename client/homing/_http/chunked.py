"""HTTP/1.1 framing, where speed requires it.

h11 decides what a message means. But it spends 4 µs on every HTTP chunk, and engines send
one for every token. So the plain chunks of a chunked body (RFC 9112, section 7.1) bypass
it. h11 sees the head and whatever follows the plain chunks: the last chunk with its
trailers, chunks with extensions, garbage, or the end of the connection. It then judges an
empty chunked body, with the same result and the same errors as for the full one.
"""

from __future__ import annotations

import re
from itertools import repeat

LAST_CHUNK = b"0\r\n\r\n"
"""The end of a chunked body without trailers."""

# h11's own pattern, so that both find the end of a head in the same place.
_BLANK_LINE = re.compile(rb"\n\r?\n")

# Sizes beyond 16 digits, extensions and stray blanks are left to h11.
_CHUNK_HEADER = re.compile(rb"([0-9A-Fa-f]{1,16})\r\n")
_CHUNK_HEADER_BEGUN = re.compile(rb"[0-9A-Fa-f]{0,16}\r?")
_CRLF = b"\r\n"


_SEPARATOR = re.compile(rb"\r\n([0-9A-Fa-f]{1,16})\r\n")
"""Stands between the data of two chunks, or within the data of one: only the sizes tell."""

MANY = 1024
"""A read of more bytes than this holds several of an engine's chunks, so that taking them at once pays off."""


class HeadEnd:
    """Finds the blank line that ends a message head, however the head is split into pieces."""

    __slots__ = ("_tail",)

    def __init__(self) -> None:
        self._tail = b""

    def feed(self, data: bytes) -> int | None:
        """Return the index in ``data`` just after the head, or None if the head is incomplete.

        It is then ready for the next head (a 1xx response is followed by another).
        """
        window = self._tail + data
        found = _BLANK_LINE.search(window)
        if found is None:
            self._tail = window[-2:]
            return None
        end = found.end() - len(self._tail)
        self._tail = b""
        return end


class ChunkedDecoder:
    """Removes the framing from the plain chunks of one body, all those of a read at once.

    ``rest`` is None as long as the framing is plain. Then it holds every byte from the first
    chunk that is not plain, unchanged; the caller hands it to h11 and feeds no more.
    ``fault`` describes an error that h11 couldn't see: a chunk longer than its stated size.
    """

    __slots__ = ("_header", "_open", "fault", "rest")

    def __init__(self) -> None:
        self.rest: bytes | None = None
        self.fault: str | None = None
        self._header = b""  # an incomplete chunk header
        self._open = 0  # bytes of the current chunk that are still missing, including its CRLF

    def feed(self, data: bytes) -> bytes:
        """Return the payload in ``data``, which may be empty. Feed ``b""`` at the end of the connection."""
        if not data:
            self.rest = self._header
            return b""
        position = self._open
        if position:
            if len(data) <= position - 2:
                self._open = position - len(data)
                return data
            self._open = 0
            payload = data[: position - 2] if position > 2 else b""
            if not self._closes(data, position):
                return payload
            if position >= len(data):
                return payload
            parts = [payload]
        else:
            if self._header:
                data, self._header = self._header + data, b""
            header = _CHUNK_HEADER.match(data)
            if header is not None and data.endswith(_CRLF):
                start = header.end()
                if 0 < int(header[1], 16) == len(data) - start - 2:  # one whole chunk: nearly every token
                    return data[start:-2]
            parts = []
        if len(data) - position > MANY:
            payload, position = _several(data, position)
            parts.append(payload)
        while position < len(data):
            header = _CHUNK_HEADER.match(data, position)
            size = int(header[1], 16) if header is not None else 0
            if header is None or not size:
                if header is None and _CHUNK_HEADER_BEGUN.fullmatch(data, position):
                    self._header = data[position:]
                else:
                    self.rest = data[position:]
                break
            start = header.end()
            position = start + size + 2
            parts.append(data[start : position - 2])
            if not self._closes(data, position):
                break
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _closes(self, data: bytes, end: int) -> bool:
        """Check the CRLF that ends at ``end``, or as much of it as ``data`` holds."""
        if data.endswith(_CRLF, max(end - 2, 0), end) or (end == 1 and data[:1] == b"\n"):
            return True
        missing = end - len(data)
        if missing >= 2 or (missing == 1 and data[-1:] == b"\r"):
            self._open = missing
            return True
        footer = data[max(end - 2, 0) : end]
        self.fault = f"malformed chunk footer: {footer!r} (expected {_CRLF[-min(end, 2) :]!r})"
        self.rest = data[max(end - 2, 0) :]
        return False


def _several(data: bytes, position: int) -> tuple[bytes, int]:
    """Return the payload of the whole chunks from ``position`` except the last, and where that one begins.

    Splitting runs at C speed. If the sizes then match the pieces, those are the chunks; if not, nothing
    is taken.
    """
    before, *parts = _SEPARATOR.split(_CRLF + data[position:])
    sizes, pieces = parts[:-2:2], parts[1:-2:2]
    lengths = list(map(len, pieces))
    if before or not pieces or 0 in lengths or list(map(int, sizes, repeat(16))) != lengths:
        return b"", position
    return b"".join(pieces), len(data) - len(parts[-1]) - len(_CRLF) - len(parts[-2])
