"""Heads of HTTP/1.1 messages, where speed requires it.

h11 decides what a message means, but takes some 130 µs per request: with it, a request would cost more than a
quarter of what openai's client takes. Nearly all heads between a client and its own server are of the plainest
kind. These are written and read here. For any other, the functions return None and leave it to h11. h11
accepts every head that is accepted here and reads it the same way, which the tests check on generated heads.
(RFC 9112, RFC 9110 section 5.)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

Headers = Sequence[tuple[bytes, bytes]]

HEAD_LIMIT: Final = 100 * 1024
"""Bytes above which h11 refuses a head or a chunk header; httpcore's value."""

MAX_HEADS: Final = 1000
"""Maximum number of heads of one response, including interim ones (1xx). A server that sends one per second to
report progress has a quarter of an hour. Nothing else limits them."""

CHUNKED: Final = -1
BY_H11: Final = -2
"""How a body is framed if not by its length: in chunks, or as h11 reads it."""

_TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
# Printable ASCII, without blanks at the ends, which h11 strips, and without the other bytes that it tolerates.
_VALUE: Final = rb"(?:[!-~](?:[ \t!-~]*[!-~])?)?"
# Not HEAD and CONNECT, whose responses are framed differently.
_REQUEST: Final = re.compile(
    rb"(?:GET|POST|PUT|PATCH|DELETE) [!-~]+ HTTP/1\.1\r\n(?:%b: %b\r\n)+\r\n" % (_TOKEN, _VALUE)
)
_ANSWER: Final = re.compile(
    rb"HTTP/1\.1 ([2-5][0-9][0-9])(?: ([ \t!-~]*))?\r\n((?:%b:[ \t]*%b\r\n)*)\r\n" % (_TOKEN, _VALUE)
)
_LENGTH: Final = re.compile(rb"[0-9]{1,15}")

_NOT_PLAIN: Final = frozenset({b"transfer-encoding", b"expect", b"upgrade", b"te", b"trailer"})
"""Request headers that change what the client or the server does next."""


class ResponseHead(NamedTuple):
    """A response head. ``framing`` is the body's length, `CHUNKED` or `BY_H11`."""

    status: int
    reason: bytes
    headers: Headers
    framing: int
    keeps: bool
    """Whether the server keeps the connection open. Only meaningful for a plain response."""
    version: bytes = b"1.1"


def plain_request(method: str, target: bytes, headers: Headers, length: int) -> bytes | None:
    """Return the head of a request with a body of ``length`` bytes, or None if it isn't plain."""
    lines = b"".join([b"%b: %b\r\n" % header for header in headers])
    head = b"%b %b HTTP/1.1\r\n%b\r\n" % (method.encode(), target, lines)
    # The lines are counted too: a name or value that contains a line end would look like two headers.
    if not _REQUEST.fullmatch(head) or head.count(b"\r\n") != len(headers) + 2:
        return None
    hosts = lengths = 0
    for name, value in headers:
        name = name.lower()
        if name == b"host":
            hosts += 1
        elif name == b"content-length":
            lengths += 1
            if value != b"%d" % length:
                return None
        elif name in _NOT_PLAIN or (name == b"connection" and value.lower() != b"keep-alive"):
            return None
    return head if hosts == 1 and (lengths == 1 or lengths == length == 0) else None


def plain_response(head: bytes) -> ResponseHead | None:
    """Read a whole response head. Return None if it isn't plain."""
    found = _ANSWER.fullmatch(head)
    if found is None:
        return None
    status = int(found[1])
    if status in (204, 304):  # these have no body, whatever the headers claim
        return None
    headers: list[tuple[bytes, bytes]] = []
    framing: int | None = None
    keeps = True
    for line in found[3].split(b"\r\n")[:-1]:
        name, _, value = line.partition(b":")
        value = value.strip(b" \t")
        headers.append((name, value))
        name = name.lower()
        if name == b"content-length":
            if framing is not None or not _LENGTH.fullmatch(value):
                return None
            framing = int(value)
        elif name == b"transfer-encoding":
            if framing is not None or value != b"chunked":  # h11 lower-cases any other spelling
                return None
            framing = CHUNKED
        elif name == b"connection":
            if value.lower() == b"close":
                keeps = False
            elif value.lower() != b"keep-alive":
                return None
    if framing is None:  # the body ends when the connection closes
        return None
    return ResponseHead(status, found[2] or b"", headers, framing, keeps)
