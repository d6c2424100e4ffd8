"""Inputs of a size at which anything that is not linear would show."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from homing._http.chunked import ChunkedDecoder
from homing.core.streaming.accumulator import Accumulator
from homing.core.streaming.decoder import StreamDecoder
from homing.core.streaming.sse import EventDecoder
from homing.errors import APIResponseValidationError

MEGABYTE = 1_000_000
LINE = 50 * MEGABYTE
EVENTS = 1_000_000
READ = 65_536
"""Bytes that a read of the socket brings, at most."""


def long_line(share: float, decoder: EventDecoder | None = None) -> None:
    """A line of 50 MB, as it comes from a socket. (It is refused at 16 MB where nobody has raised the limit.)"""
    size = int(LINE * share)
    decoder = decoder or EventDecoder(max_line=2 * LINE, max_event=2 * LINE)
    events = []
    for part in _parts(b"data: " + b"x" * size + b"\n\n", READ):
        events += decoder.feed(part)
    assert [len(event.data) for event in events] == [size]


def refused_line(share: float) -> int:
    """The same with the usual limit: return how many bytes were taken before it was refused."""
    decoder, taken = EventDecoder(), 0
    try:
        for part in _parts(b"x" * int(LINE * share), READ):
            decoder.feed(part)
            taken += len(part)
    except APIResponseValidationError:
        return taken
    raise AssertionError("it was not refused")


def tiny_events(share: float) -> None:
    """A million events, through the decoder."""
    _events(b"data: a\n\n", share)


def odd_events(share: float) -> None:
    """The same framed so that the short cut does not apply."""
    _events(b"data: a\r\n\r\n", share)


def tiny_chunks(share: float) -> None:
    """A million chunks of one letter, read to text and gathered."""
    count = int(EVENTS * share)
    event = b'data: {"id":"x","choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
    accumulator = Accumulator()
    decoder = StreamDecoder(accumulator)
    seen = 0
    for part in _parts(event * count, READ):
        seen += sum(map(len, decoder.take(part, "text")))  # type: ignore[arg-type]
    assert seen == count
    assert len(accumulator.completion.choices[0].message.content or "") == count


def tiny_http_chunks(share: float) -> None:
    """A million HTTP chunks of one byte."""
    count = int(EVENTS * share)
    body = ChunkedDecoder()
    assert sum(len(body.feed(part)) for part in _parts(b"1\r\na\r\n" * count, READ)) == count


def _events(event: bytes, share: float) -> None:
    count, decoder = int(EVENTS * share), EventDecoder()
    assert sum(len(decoder.feed(part)) for part in _parts(event * count, READ)) == count


def _parts(data: bytes, size: int) -> Iterable[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


SIZES: dict[str, Callable[[float], None]] = {
    "a line of 50 MB": long_line,
    "1 M tiny events": tiny_events,
    "1 M tiny events, CRLF": odd_events,
    "1 M tiny chunks": tiny_chunks,
    "1 M tiny HTTP chunks": tiny_http_chunks,
}
"""By name; the argument is the share of the full size."""
