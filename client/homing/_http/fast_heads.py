"""Heads of HTTP/1.1 messages, as far as speed needs them.

h11 decides what a message means, and takes some 130 µs of a request's time: with it, a request would cost more
than a quarter of what openai's client takes. Nearly all heads between a client and its own server are of the
plainest kind. Those are written and read here; for any other the answer is None, and h11 has to judge.
Whatever is accepted here, h11 accepts too and reads in the same way, which the tests check on
generated heads. (RFC 9112, RFC 9110 section 5.)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

Headers = Sequence[tuple[bytes, bytes]]

HEAD_LIMIT: Final = 100 * 1024
"""Bytes of a head, or of a chunk's header, after which h11 refuses it; httpcore's figure."""

MAX_HEADS: Final = 1000
"""Heads of one answer, interim ones (1xx) included: who says every second that a request is being worked on
has a quarter of an hour. Nothing else would end them."""

CHUNKED: Final = -1
BY_H11: Final = -2
"""Ways in which a body is framed, other than by its length: in chunks, or as h11 reads it."""

_TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
# Printable ASCII; neither blanks at the ends, which h11 strips, nor the bytes that it lets pass grudgingly.
_VALUE: Final = rb"(?:[!-~](?:[ \t!-~]*[!-~])?)?"
# Not HEAD and CONNECT, whose answers are framed in ways of their own.
_REQUEST: Final = re.compile(
    rb"(?:GET|POST|PUT|PATCH|DELETE) [!-~]+ HTTP/1\.1\r\n(?:%b: %b\r\n)+\r\n" % (_TOKEN, _VALUE)
)
_ANSWER: Final = re.compile(
    rb"HTTP/1\.1 ([2-5][0-9][0-9])(?: ([ \t!-~]*))?\r\n((?:%b:[ \t]*%b\r\n)*)\r\n" % (_TOKEN, _VALUE)
)
_LENGTH: Final = re.compile(rb"[0-9]{1,15}")

_NOT_PLAIN: Final = frozenset({b"transfer-encoding", b"expect", b"upgrade", b"te", b"trailer"})
"""In a request: they change how one of the two goes on."""


class ResponseHead(NamedTuple):
    """An answer's head. ``framing`` is the body's length, `CHUNKED` or `BY_H11`."""

    status: int
    reason: bytes
    headers: Headers
    framing: int
    keeps: bool
    """Whether the server keeps the connection, of a plain one."""
    version: bytes = b"1.1"


def plain_request(method: str, target: bytes, headers: Headers, length: int) -> bytes | None:
    """Return the head of a request with a body of ``length`` bytes, None if it is not of the plain kind."""
    lines = b"".join([b"%b: %b\r\n" % header for header in headers])
    head = b"%b %b HTTP/1.1\r\n%b\r\n" % (method.encode(), target, lines)
    # Counted too: a name or value that holds an end of line would look like two headers.
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
    """Read an answer's whole head, None if it is not of the plain kind."""
    found = _ANSWER.fullmatch(head)
    if found is None:
        return None
    status = int(found[1])
    if status in (204, 304):  # no body, whatever the headers say
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
