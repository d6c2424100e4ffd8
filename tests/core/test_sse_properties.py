"""The decoder against the standard's own algorithm, on generated input at any split."""

from __future__ import annotations

from importlib.metadata import version
from itertools import pairwise

import httpx
import pytest
from httpx_sse import EventSource
from hypothesis import given
from hypothesis import strategies as st

from homing.core.streaming.sse import Event, EventDecoder
from homing.errors import APIResponseValidationError

from .standard import reference


def decode(stream: bytes, cuts: list[int], **limits: int) -> tuple[list[Event], bool]:
    """Return the events, and whether a limit was exceeded."""
    decoder = EventDecoder(**limits)
    events: list[Event] = []
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    try:
        for start, end in pairwise(edges):
            events += decoder.feed(stream[start:end])
        events += decoder.close()
    except APIResponseValidationError:
        return events, True
    return events, False


LINE_ENDS = [b"\n", b"\n", b"\r\n", b"\r"]
PIECES = [
    *(b"data: a", b"data:b", b"data", b"data:", b"data: ", b"data:  x", b'data: {"a":1}'),
    *(b"event: e", b"event:", b"event", b"id: 1", b"id:", b"id: \0", b"retry: 5", b"retry: x"),
    *(b":", b": ping", b":data: a", b"", b"", b"\xef\xbb\xbf", b"\xef\xbb", b"\xff", b"\xe2\x82"),
    *("data: ü€".encode(), b"other: y", b" data: z", "\u2028".encode(), b"\x0b", b"\x85", b"\0"),
]
COMMON = [b"data: a\n\n", "data: é\n\n".encode(), b"data: \n\n"]
NEARLY_COMMON = [*COMMON, b"data: a\rdata: b\n\n", b"data: a\r\n\n", b"data: \xff\n\n", b"data: a\n\n\n"]
streams = st.one_of(
    st.binary(max_size=60),
    st.text(alphabet="dat: \r\nevnid\ufeff\u2028é", max_size=80).map(str.encode),
    st.lists(st.sampled_from(PIECES + LINE_ENDS), max_size=30).map(b"".join),
    st.lists(st.tuples(st.sampled_from(PIECES), st.sampled_from(LINE_ENDS)), max_size=20).map(
        lambda lines: b"".join(part for line in lines for part in line)
    ),
    st.lists(st.sampled_from(COMMON), max_size=9).map(b"".join),
    st.lists(st.sampled_from(NEARLY_COMMON), max_size=9).map(b"".join),
)
splits = st.lists(st.integers(min_value=0, max_value=200), max_size=8)


@given(streams, splits)
def test_equals_the_standard_at_any_split(stream: bytes, cuts: list[int]) -> None:
    expected = reference(stream)
    after_lines = [end for end in range(len(stream)) if stream[end - 1 : end] == b"\n"]
    assert decode(stream, []) == (expected, False)
    assert decode(stream, cuts) == (expected, False)
    assert decode(stream, list(range(len(stream)))) == (expected, False)
    assert decode(stream, after_lines) == (expected, False)


@given(streams, splits, st.integers(1, 20), st.integers(1, 30))
def test_limits_strike_at_the_same_place_at_any_split(
    stream: bytes, cuts: list[int], max_line: int, max_event: int
) -> None:
    whole = decode(stream, [], max_line=max_line, max_event=max_event)
    assert decode(stream, cuts, max_line=max_line, max_event=max_event) == whole
    assert decode(stream, list(range(len(stream))), max_line=max_line, max_event=max_event) == whole


@pytest.mark.skipif(version("httpx-sse") == "0.4.0", reason="httpx-sse 0.4.0 splits at U+2028")
@given(streams)
def test_agrees_with_httpx_sse_where_httpx_sse_is_right(stream: bytes) -> None:
    response = httpx.Response(200, headers={"content-type": "text/event-stream; charset=utf-8"}, content=stream)
    theirs = [Event(event.event, event.data.encode()) for event in EventSource(response).iter_sse()]
    if not stream.startswith(b"\xef\xbb\xbf"):
        # Theirs reports blocks without data as well.
        assert [event for event in theirs if event.data] == [e for e in decode(stream, [])[0] if e.data]
