"""Heads of HTTP/1.1 messages, as far as speed needs them.

h11 decides what a message means, and takes some 150 µs of a request's time with httpcore's
connection around it. Nearly all heads between a client and its own server are of the plainest
kind. Those are written and read here; for any other the answer is None, and h11 has to judge.
Whatever is accepted here, h11 accepts too and reads in the same way, which the tests check on
generated heads. (RFC 9112, RFC 9110 section 5.)
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from .policy import CHUNKED

Headers = list[tuple[bytes, bytes]]

HEAD_LIMIT: Final = 64 * 1024
"""Bytes of a head after which h11 is asked, which refuses one that does not end."""

MAX_HEADS: Final = 1000
"""Heads of one answer, interim ones (1xx) included: who says every second that a request is being worked on
has a quarter of an hour. Nothing else would end them."""

_TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
# Printable ASCII; neither blanks at the ends, which h11 strips, nor the bytes that it lets pass grudgingly.
_VALUE: Final = rb"(?:[!-~](?:[ \t!-~]*[!-~])?)?"
_TARGET: Final = re.compile(rb"[!-~]+")
_LINES: Final = re.compile(rb"(?:%b: %b\r\n)+" % (_TOKEN, _VALUE))
_ANSWER: Final = re.compile(
    rb"HTTP/1\.1 ([2-5][0-9][0-9])(?: ([ \t!-~]*))?\r\n((?:%b:[ \t]*%b\r\n)*)\r\n" % (_TOKEN, _VALUE)
)
_CONTENT_LENGTH: Final = b"content-length"
_LENGTH: Final = re.compile(rb"[0-9]{1,15}")

_PLAIN_METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})
"""Not HEAD and CONNECT, whose answers are framed in ways of their own."""

_NOT_PLAIN: Final = frozenset({b"transfer-encoding", b"expect", b"upgrade", b"te", b"trailer"})
"""In a request: they change how one of the two goes on."""


class ResponseHead(NamedTuple):
    """A plain answer's head. ``framing`` is the body's length, or `CHUNKED`."""

    status: int
    reason: bytes
    headers: Headers
    framing: int
    keeps: bool
    """Whether the server keeps the connection."""


def plain_request(method: str, target: bytes, headers: Sequence[tuple[bytes, bytes]], length: int) -> bytes | None:
    """Return the head of a request with a body of ``length`` bytes, None if it is not of the plain kind."""
    if method not in _PLAIN_METHODS:
        return None
    size = b"%d" % length
    others = list(headers)
    lengths = [place for place, (name, _) in enumerate(others) if name.lower() == _CONTENT_LENGTH]
    for place in lengths:
        name, value = others[place]
        if value != size:
            return None
        others[place] = name, b""
    parts = _plain_parts(tuple(others))
    if parts is None or len(lengths) > 1 or (length and not lengths) or not _TARGET.fullmatch(target):
        return None
    return b"%b %b HTTP/1.1\r\n%b\r\n" % (method.encode("ascii"), target, size.join(parts))


@functools.lru_cache(maxsize=256)  # the turns of a conversation differ in nothing here
def _plain_parts(headers: tuple[tuple[bytes, bytes], ...]) -> tuple[bytes, ...] | None:
    """Return a request's headers as lines, cut where the value of Content-Length belongs, which is left out here.

    None if they are not of the plain kind.
    """
    hosts = 0
    parts = [b""]
    for name, value in headers:
        lower = name.lower()
        if lower == b"host":
            hosts += 1
        elif lower in _NOT_PLAIN or (lower == b"connection" and value.lower() != b"keep-alive"):
            return None
        if lower == _CONTENT_LENGTH:
            parts[-1] += name + b": "
            parts.append(b"\r\n")
        else:
            parts[-1] += b"%b: %b\r\n" % (name, value)
    lines = b"".join(parts)
    # Counted too: a name or value that holds an end of line would look like two headers.
    plain = hosts == 1 and _LINES.fullmatch(lines) and lines.count(b"\r\n") == len(headers)
    return tuple(parts) if plain else None


def plain_response(head: bytes) -> ResponseHead | None:
    """Read an answer's whole head, None if it is not of the plain kind."""
    found = _ANSWER.fullmatch(head)
    if found is None:
        return None
    status = int(found[1])
    if status in (204, 304):  # no body, whatever the headers say
        return None
    headers: Headers = []
    framing: int | None = None
    keeps = True
    for line in found[3].split(b"\r\n")[:-1]:
        name, _, value = line.partition(b":")
        value = value.strip(b" \t")
        headers.append((name, value))
        name = name.lower()
        if name == _CONTENT_LENGTH:
            if framing is not None or not _LENGTH.fullmatch(value):
                return None
            framing = int(value)
        elif name == b"transfer-encoding":
            if framing is not None or value != b"chunked":  # h11 writes it small where it is not
                return None
            framing = CHUNKED
        elif name == b"connection":
            if value.lower() == b"close":
                keeps = False
            elif value.lower() != b"keep-alive":
                return None
    if framing is None:  # until the connection closes
        return None
    return ResponseHead(status, found[2] or b"", headers, framing, keeps)
