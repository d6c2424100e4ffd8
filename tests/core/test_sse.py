"""The event decoder, case by case. Each oddity bears the thread or the standard it comes from."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from homing.core.streaming.sse import Event, EventDecoder
from homing.errors import APIResponseValidationError


def decode(*reads: bytes) -> list[Event]:
    decoder = EventDecoder()
    events = [event for read in reads for event in decoder.feed(read)]
    return events + decoder.close()


def messages(*data: bytes) -> list[Event]:
    return [Event("message", item) for item in data]


def feed_all(decoder: EventDecoder, reads: list[bytes]) -> None:
    for read in reads:
        decoder.feed(read)


def bytewise(data: bytes) -> Iterator[bytes]:
    return (data[i : i + 1] for i in range(len(data)))


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        pytest.param(b"data: a\n\ndata: b\n\n", messages(b"a", b"b"), id="common framing"),
        pytest.param(b"data:a\n\n", messages(b"a"), id="no space after the colon"),
        pytest.param(b"data:  a\n\n", messages(b" a"), id="only one space is taken away"),
        pytest.param(b"data: a\r\n\r\ndata: b\r\n\r\n", messages(b"a", b"b"), id="CRLF hey-api#3054"),
        pytest.param(b"data: a\r\rdata: b\r\r", messages(b"a", b"b"), id="lone CR a2a-js#714"),
        pytest.param(b"data: a\n\r\ndata: b\r\n\n", messages(b"a", b"b"), id="mixed line ends"),
        pytest.param(b"data: a\ndata: b\n\n", messages(b"a\nb"), id="multi-line data WrzDJ#354"),
        pytest.param(b": ping\n\ndata: a\n\n", messages(b"a"), id="comment"),
        pytest.param(b"data: a\n: ping\ndata: b\n\n", messages(b"a\nb"), id="comment inside an event"),
        pytest.param(b"event: x\ndata: a\n\ndata: b\n\n", [Event("x", b"a"), *messages(b"b")], id="name"),
        pytest.param(b"event: x\n\ndata: a\n\n", messages(b"a"), id="a name alone is no event"),
        pytest.param(b"data\n\ndata\ndata\n\ndata:", messages(b"", b"\n"), id="WHATWG 9.2.6 example"),
        pytest.param(b"data: a\n\ndata: b\n", messages(b"a"), id="an unfinished event is discarded"),
        pytest.param(b"foo: a\nbar\ndata: b\n\n", messages(b"b"), id="unknown fields"),
        pytest.param(b"data : a\n\n", [], id="the name is taken literally"),
        pytest.param(b"id: a\0b\ndata: c\n\n", messages(b"c"), id="NUL in id"),
        pytest.param(b"retry: 1e9\ndata: a\n\n", messages(b"a"), id="retry is no number"),
        pytest.param("data: \u2028\n\n".encode(), messages("\u2028".encode()), id="U+2028 httpx-sse#34"),
        pytest.param(b"data: a\x0bb\x0c\x85\n\n", messages(b"a\x0bb\x0c\xef\xbf\xbd"), id="VT FF NEL"),
        pytest.param(b"data: \xff\xe2\x82\n\n", messages("\ufffd\ufffd".encode()), id="malformed UTF-8"),
        pytest.param(b"\n\n\ndata: a\n\n\n\n", messages(b"a"), id="spare blank lines"),
        pytest.param(b"", [], id="nothing"),
    ],
)
def test_stream(stream: bytes, expected: list[Event]) -> None:
    assert decode(stream) == expected
    assert decode(*bytewise(stream)) == expected


@pytest.mark.parametrize("event", [b"data: a\n\n", b"event: x\ndata: a\n\n", b": hi\n\ndata: a\n\n"])
def test_bom_before_first_event(event: bytes) -> None:  # ANOLISA#2209
    bom = b"\xef\xbb\xbf"
    assert decode(bom + event) == decode(event) != []
    assert decode(*bytewise(bom + event)) == decode(event)


def test_bom_only_at_the_very_beginning() -> None:
    bom = b"\xef\xbb\xbf"
    assert decode(b"data: a\n\n" + bom + b"data: b\n\n") == messages(b"a")
    assert decode(bom + bom + b"data: a\n\ndata: b\n\n") == messages(b"b")


@pytest.mark.parametrize("block", [b"id: 7\n\n", b"retry: 10\n\n", b"id: 7\n: ping\n\n", b"id\nretry: 1\n\n"])
def test_id_or_retry_only_block_is_not_an_event(block: bytes) -> None:  # openai-python#2722, #3833
    assert decode(block) == []
    assert decode(block, b"data: a\n\n", block, b"\n\n", b"data: b\n\n") == messages(b"a", b"b")


def test_an_id_seen_once_makes_no_later_events() -> None:  # openai-python#2721
    assert decode(b"id: 7\ndata: a\n\n: ping\n\n\n\n") == messages(b"a")


def test_character_split_between_reads() -> None:  # ANOLISA#2209
    euro = "data: €\n\n".encode()
    for split in range(len(euro) + 1):
        assert decode(euro[:split], euro[split:]) == messages("€".encode())


def test_crlf_split_between_reads() -> None:  # hey-api#3054
    assert decode(b"data: a\r", b"\n\r", b"\n") == messages(b"a")
    assert decode(b"data: a\r", b"", b"\ndata: b\r", b"\r") == messages(b"a\nb")


def test_read_that_starts_inside_an_event_and_looks_whole() -> None:
    assert decode(b"event: x\n", b"data: a\n\n", b"data: b\n\n") == [Event("x", b"a"), *messages(b"b")]
    assert decode(b"data: a\n", b"data: b\n\n") == messages(b"a\nb")
    assert decode(b"data: a\rdata: b\n\n") == messages(b"a\nb")


def test_an_event_is_not_held_back_by_its_last_line_end() -> None:
    decoder = EventDecoder()
    assert decoder.feed(b"data: a\r\n\r") == messages(b"a")  # whether or not a line feed follows
    assert decoder.feed(b"\n") == []


def test_counts_comments() -> None:  # ante#187: signs of life that are no progress
    decoder = EventDecoder()
    decoder.feed(b": ping\n\n")
    decoder.feed(b":")
    decoder.feed(b"\ndata: a\n")
    assert decoder.comments == 2


def test_says_whether_it_ends_inside_an_event() -> None:
    decoder = EventDecoder()
    states = []
    for read in (b"", b"data: a", b"\n", b"\n", b": ping\n", b"da"):
        decoder.feed(read)
        states.append(decoder.unfinished)
    assert states == [False, True, True, False, False, True]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_unbounded_line_is_refused(size: int) -> None:
    decoder = EventDecoder(max_line=100)
    with pytest.raises(APIResponseValidationError, match="a line of more than 100 bytes"):
        feed_all(decoder, [b"x" * size] * 1000)
    with pytest.raises(APIResponseValidationError):
        decoder.feed(b"\n\n")
    with pytest.raises(APIResponseValidationError):
        decoder.close()


def test_unbounded_event_is_refused() -> None:
    decoder = EventDecoder(max_event=100)
    with pytest.raises(APIResponseValidationError, match="an event of more than 100 bytes"):
        feed_all(decoder, [b"data: x\n"] * 1000)


def test_events_before_a_refused_line_are_not_lost() -> None:
    decoder = EventDecoder(max_line=20)
    assert decoder.feed(b"data: a\n\n" + b"data: " + b"x" * 20 + b"\n\n") == messages(b"a")
    with pytest.raises(APIResponseValidationError):
        decoder.close()


@pytest.mark.parametrize("cut", range(1, 60))
def test_which_limit_was_exceeded_does_not_depend_on_the_reads(cut: int) -> None:
    # bench/fuzz.py: an event that was too long was reported as the line behind it, when that came in two reads
    stream = b"data: too long\n" + b"id: " + b"x" * 40 + b"\n\n"
    decoder = EventDecoder(max_line=20, max_event=10)
    with pytest.raises(APIResponseValidationError, match="an event of more than 10 bytes"):
        feed_all(decoder, [stream[:cut], stream[cut:], b""])


def test_limits_allow_what_they_name() -> None:
    decoder = EventDecoder(max_line=7, max_event=14)
    assert decoder.feed(b"data: a\ndata: b\n\n" * 3) == messages(b"a\nb", b"a\nb", b"a\nb")
    assert decoder.feed(b"event:x\n" * 9 + b"data: c\n\n") == [Event("x", b"c")]


@pytest.mark.slow
def test_work_is_linear_in_the_input() -> None:
    """No timing: anything quadratic would take minutes here instead of a second."""
    line = b"data: " + b"x" * 1_000_000 + b"\n\n"
    assert decode(*bytewise(line)) == messages(line[6:-2])
    assert len(decode(b"data: {}\n\n" * 300_000)) == 300_000
    assert len(decode(b"data: {}\r\n\r\n" * 100_000)) == 100_000
    assert decode(b"data:\n" * 200_000, b"\n") == messages(b"\n" * 199_999)
