"""The fast path through chunked bodies against a naive reading of the standard, at any split."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homing._http import chunked
from homing._http.chunked import LAST_CHUNK, ChunkedDecoder, HeadEnd


def encode(chunks: list[bytes]) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(data), data) for data in chunks)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in itertools.pairwise(edges)]


def feed(data: bytes, cuts: list[int]) -> tuple[bytes, ChunkedDecoder, bytes]:
    """Return the payload, the decoder, and everything it handed over or was not given any more."""
    body = ChunkedDecoder()
    payload = b""
    parts = pieces(data, cuts)
    while parts and body.rest is None:
        payload += body.feed(parts.pop(0))
    if body.rest is None:
        payload += body.feed(b"")
    assert body.rest is not None
    return payload, body, body.rest + b"".join(parts)


def naive(data: bytes) -> tuple[bytes, bytes]:
    """Read plain chunks one by one; return the payload and the rest from the first odd or cut one."""
    payload = b""
    while match := re.match(rb"([0-9A-Fa-f]{1,16})\r\n", data):
        size, start = int(match[1], 16), match.end()
        if not size or data[start + size : start + size + 2] != b"\r\n":
            break
        payload += data[start : start + size]
        data = data[start + size + 2 :]
    return payload, data


chunk_lists = st.lists(st.binary(min_size=1, max_size=40), max_size=8)
cut_lists = st.lists(st.integers(min_value=0, max_value=10_000), max_size=30)


@pytest.fixture(autouse=True, scope="module")
def _small_reads_count_as_big() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunked, "MANY", 8)
        yield


@given(
    st.lists(st.sampled_from([b"a", b"\r\n1\r\n", b"\r\n", b"\r\n2\r\nab", b"0\r\n\r\n", b"5\r\n"]), max_size=8),
    st.sampled_from([b"", LAST_CHUNK, b"2\r\na", b"0\r\n\r\n3\r\nabc\r\n0\r\n\r\n", b"2\r\nabc\r\n1\r\na\r\n"]),
    cut_lists,
)
def test_data_that_looks_like_framing_is_data(chunks: list[bytes], rest: bytes, cuts: list[int]) -> None:
    stream = encode(chunks) + rest
    payload, body, left = feed(stream, cuts)
    tail, verdict = judged(left) if body.fault is None else (b"", "error")
    assert (payload + tail, verdict) == judged(stream)


@given(chunk_lists, st.sampled_from([LAST_CHUNK, b"0\r\nX: y\r\n\r\n", b"3;a=b\r\nabc\r\n", b"zz\r\n"]), cut_lists)
def test_equals_a_naive_reader_and_leaves_the_rest_untouched(chunks: list[bytes], rest: bytes, cuts: list[int]) -> None:
    payload, body, left = feed(encode(chunks) + rest, cuts)
    assert payload == b"".join(chunks)
    assert left == rest
    assert body.fault is None


@given(st.binary(max_size=200), cut_lists)
def test_noise_is_read_as_a_naive_reader_does(data: bytes, cuts: list[int]) -> None:
    payload, body, left = feed(data, cuts)
    plain, rest = naive(data)
    assert payload.startswith(plain)
    if body.fault is None and payload == plain:
        assert rest.endswith(left)


@given(chunk_lists, st.binary(min_size=1, max_size=30), st.integers(min_value=0), cut_lists)
def test_damage_is_never_worse_than_h11_finds_it(
    chunks: list[bytes], noise: bytes, where: int, cuts: list[int]
) -> None:
    """Whatever stands in the body: payload and verdict are those of h11 alone."""
    whole = encode(chunks) + LAST_CHUNK
    at = where % len(whole)
    damaged = whole[:at] + noise + whole[at + len(noise) :]
    payload, body, left = feed(damaged, cuts)
    if body.fault is not None:
        verdict = "error"
    else:
        tail, verdict = judged(left)
        payload += tail
    assert (payload, verdict) == judged(damaged)


def judged(data: bytes) -> tuple[bytes, str]:
    """What h11 makes of a chunked body that ends with ``data`` and the end of the connection."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=100 * 1024)
    connection.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert isinstance(connection.next_event(), h11.Response)
    if data:
        connection.receive_data(data)
    connection.receive_data(b"")
    payload = b""
    try:
        while isinstance(event := connection.next_event(), h11.Data):
            payload += bytes(event.data)
    except h11.RemoteProtocolError:
        return payload, "error"
    return payload, type(event).__name__


def test_all_chunks_of_a_read_come_as_one() -> None:
    body = ChunkedDecoder()
    assert body.feed(encode([b"a", b"b", b"c"]) + b"2\r\nd") == b"abcd"
    assert body.feed(b"e\r") == b"e"
    assert body.feed(b"\n" + LAST_CHUNK) == b""
    assert body.rest == LAST_CHUNK


def test_a_header_in_pieces_costs_no_more_than_itself() -> None:
    body = ChunkedDecoder()
    for byte in b"0000000000000001\r":
        assert body.feed(bytes([byte])) == b""
        assert body.rest is None
    assert body.feed(b"\nx\r\n") == b"x"


@given(st.lists(st.sampled_from([b"a", b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\n\n"]), max_size=12), cut_lists)
def test_the_end_of_a_head_at_any_split(symbols: list[bytes], cuts: list[int]) -> None:
    data = b"".join(symbols)
    found = re.search(rb"\n\r?\n", data)
    head, consumed, end = HeadEnd(), 0, None
    for piece in pieces(data, cuts):
        at = head.feed(piece)
        if at is not None:
            end = consumed + at
            break
        consumed += len(piece)
    assert end == (found.end() if found else None)


def test_heads_follow_each_other() -> None:
    head = HeadEnd()
    first = b"HTTP/1.1 100 Continue\r\n\r\n"
    assert head.feed(first + b"HTTP/1.1 200 OK\r\n\r\n") == len(first)
    assert head.feed(b"HTTP/1.1 200 OK\r\n\r") is None
    assert head.feed(b"\nbody") == 1


@pytest.mark.parametrize("footer", [b"XX", b"\n\r", b"X\n"])
def test_a_whole_chunk_with_another_end_is_a_fault(footer: bytes) -> None:
    body = ChunkedDecoder()
    assert body.feed(b"5\r\nhello" + footer) == b"hello"
    assert body.fault is not None
