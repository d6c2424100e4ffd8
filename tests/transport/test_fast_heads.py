"""The short cut through heads against h11: what it accepts, h11 reads in the same way."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homing._http.fast_heads import BY_H11, CHUNKED, ResponseHead, plain_request, plain_response

REQUEST = h11.Request(method="POST", target="/", headers=[("Host", "a"), ("Content-Length", "0")])


def by_h11(head: bytes) -> ResponseHead:
    """Return an answer's head as h11 reads it."""
    connection = h11.Connection(h11.CLIENT)
    connection.send(REQUEST)
    connection.send(h11.EndOfMessage())
    connection.receive_data(head)
    response = connection.next_event()
    assert isinstance(response, h11.Response), response
    headers = [(bytes(name), bytes(value)) for name, value in response.headers.raw_items()]
    framing = BY_H11
    for name, value in response.headers:
        if name == b"transfer-encoding":
            framing = CHUNKED
        elif name == b"content-length" and framing != CHUNKED:
            framing = int(value)
    keeps = connection.their_state is not h11.MUST_CLOSE and connection.our_state is not h11.MUST_CLOSE
    return ResponseHead(response.status_code, bytes(response.reason), headers, framing, keeps, response.http_version)


NAMES = st.sampled_from(
    [b"Server", b"content-length", b"Content-Length", b"transfer-encoding", b"Connection", b"X-\x00", b"a b"]
)
VALUES = st.sampled_from(
    [
        *(b"5", b"0", b"5, 5", b"+5", b"chunked", b"Chunked", b"gzip, chunked", b"close", b"Keep-Alive", b"close, x"),
        *(b"", b"a  b", b"\xe9", b"a\x00", b"a\rb", b"1" * 15, b"1" * 16),
    ]
)
BLANKS = st.sampled_from([b"", b" ", b"\t ", b"  "])
LINES = st.builds(
    lambda name, value, before, after: name + b":" + before + value + after, NAMES, VALUES, BLANKS, BLANKS
) | st.sampled_from([b" folded", b"nonsense", b": empty", b"Name : blank"])
STATUS = st.sampled_from(
    [
        *(b"HTTP/1.1 200 OK", b"HTTP/1.1 200", b"HTTP/1.1 503 ", b"HTTP/1.1 404 Not  Found", b"HTTP/1.0 200 OK"),
        *(b"HTTP/1.1 204 None", b"HTTP/1.1 100 Continue", b"HTTP/1.1 999 ?", b"HTTP/1.1 20 OK"),
        *(b"HTTP/1.1 200 \xe9",),
    ]
)
ENDS = st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n"])


@given(STATUS, st.lists(LINES, max_size=4), st.lists(ENDS, min_size=6, max_size=6))
def test_an_answer_that_is_accepted_is_what_h11_reads(status: bytes, lines: list[bytes], ends: list[bytes]) -> None:
    head = b"".join(line + end for line, end in zip([status, *lines, b""], ends, strict=False))
    plain = plain_response(head)
    if plain is not None:
        assert plain == by_h11(head)
        assert plain.framing != BY_H11


def test_the_answers_of_engines_are_plain() -> None:
    # uvicorn's, as SGLang sends them
    head = b"HTTP/1.1 200 OK\r\ndate: Wed, 25 Nov 2026 05:00:00 GMT\r\nserver: uvicorn\r\ncontent-length: 12\r\n"
    plain = plain_response(head + b"content-type: application/json\r\n\r\n")
    assert plain is not None
    assert (plain.status, plain.reason, plain.framing, plain.keeps) == (200, b"OK", 12, True)
    plain = plain_response(b"HTTP/1.1 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 0\r\n\r\n")
    assert plain is not None
    assert (plain.framing, plain.keeps) == (0, True)
    plain = plain_response(b"HTTP/1.1 503\r\ntransfer-encoding: chunked\r\nConnection: close\r\n\r\n")
    assert plain is not None
    assert (plain.status, plain.reason, plain.framing, plain.keeps) == (503, b"", CHUNKED, False)


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nX: y\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: upgrade\r\nContent-Length: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n",  # h11 would tell of it in small letters
        b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_bodies_without_a_frame_are_h11s_to_read(head: bytes) -> None:
    assert plain_response(head) is None


TARGETS = st.sampled_from([b"/", b"/v1/x?y=%20", b"", b"/a b", b"/\xe9", b"/\r\nX: y"])
SENT = st.tuples(
    st.sampled_from([b"Accept", b"Host", b"Content-Length", b"Transfer-Encoding", b"Expect", b"", b"a b"]),
    st.sampled_from([b"*/*", b"3", b"4", b"", b"a\r\nX: y", b"a ", b" a", b"\xe9", b"keep-alive", b"close"]),
)


METHODS = st.sampled_from(["GET", "POST", "HEAD", "CONNECT", "get"])


@given(METHODS, TARGETS, st.lists(SENT, max_size=4), st.sampled_from([0, 3]))
def test_a_request_that_is_accepted_is_what_h11_sends(
    method: str, target: bytes, headers: list[tuple[bytes, bytes]], length: int
) -> None:
    headers = [(b"Host", b"a"), *headers]
    head = plain_request(method, target, headers, length)
    if head is not None:
        connection = h11.Connection(h11.CLIENT)
        sent = connection.send(h11.Request(method=method, target=target, headers=headers))
        assert head == sent
        connection.send(h11.Data(b"x" * length))
        connection.send(h11.EndOfMessage())  # which raises if the length is wrong


@pytest.mark.parametrize(
    ("headers", "length"),
    [
        ([(b"Host", b"a"), (b"Content-Length", b"3")], 3),
        ([(b"Host", b"a"), (b"Connection", b"keep-alive")], 0),
        ([(b"Host", b"a"), (b"Content-Length", b"0"), (b"X-Empty", b"")], 0),
        ([(b"Content-Length", b"3"), (b"Host", b"a"), (b"X-Percent", b"%d%s")], 3),
        ([(b"Host", b"a"), (b"content-length", b"12"), (b"Accept", b"*/*")], 12),
    ],
)
def test_common_requests_are_plain(headers: list[tuple[bytes, bytes]], length: int) -> None:
    lines = b"".join(b"%b: %b\r\n" % header for header in headers)
    head = b"POST /v1/chat/completions HTTP/1.1\r\n" + lines + b"\r\n"
    assert plain_request("POST", b"/v1/chat/completions", headers, length) == head


@pytest.mark.parametrize(
    ("headers", "length"),
    [
        ([], 0),
        ([(b"Host", b"a"), (b"host", b"b")], 0),
        ([(b"Host", b"a")], 3),
        ([(b"Host", b"a"), (b"Content-Length", b"4")], 3),
        ([(b"Host", b"a"), (b"Content-Length", b"3"), (b"content-length", b"3")], 3),
        ([(b"Host", b"a"), (b"Expect", b"100-continue")], 0),
        ([(b"Host", b"a"), (b"Connection", b"close")], 0),
        ([(b"Host", b"a"), (b"X", b"a\r\nY: b")], 0),
    ],
)
def test_the_others_are_h11s_to_judge(headers: list[tuple[bytes, bytes]], length: int) -> None:
    assert plain_request("POST", b"/", headers, length) is None
