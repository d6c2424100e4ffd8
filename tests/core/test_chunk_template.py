"""Reading only what is new of a chunk, against reading every chunk as JSON."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from homing.core.streaming.accumulator import Accumulator
from homing.core.streaming.chunk_template import TRIES, ChunkTemplate, TextRun
from homing.core.streaming.chunks import ChunkReader, StreamEnd, parse_event
from homing.core.streaming.decoder import Mode, StreamDecoder
from homing.core.streaming.sse import MAX_EVENT, Event, EventDecoder
from homing.errors import APIError
from homing.types import ChatCompletionChunk
from homing.types.events import ChunkEvent


def payload(content: str | None, *, reasoning: str | None = None, ascii_only: bool = False, **more: Any) -> bytes:
    delta = {"role": None, "content": content, "reasoning_content": reasoning, **more.pop("delta", {})}
    choice = {"index": 0, "delta": delta, "finish_reason": None, **more.pop("choice", {})}
    body = {"id": "f5", "created": 1763900000, "model": "m", "choices": [choice], "usage": None, **more}
    return json.dumps(body, separators=(",", ":"), ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")


def stream_of(*payloads: bytes) -> bytes:
    return b"".join(b"data: %b\n\n" % data for data in payloads)


def plainly(stream: bytes) -> tuple[list[ChatCompletionChunk | StreamEnd], str]:
    """Read every event as JSON, all at once."""
    read: list[ChatCompletionChunk | StreamEnd] = []
    try:
        for event in EventDecoder().feed(stream):
            chunk = parse_event(event)
            if chunk is not None:
                read.append(chunk)
    except APIError as error:
        return read, str(error)
    return read, ""


def parts_of(stream: bytes, cuts: list[int] | None) -> list[bytes]:
    """Cut a stream at these places (any numbers), or behind each event."""
    if cuts is None:
        return [part + b"\n\n" for part in stream.split(b"\n\n")[:-1]]
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    return [stream[start:end] for start, end in pairwise(edges)]


def by_reader(stream: bytes, cuts: list[int] | None) -> tuple[list[ChatCompletionChunk | StreamEnd], str, int]:
    """Read with the reader; return also how many texts came without a chunk of their own."""
    reader = ChunkReader()
    read: list[ChatCompletionChunk | StreamEnd] = []
    texts = 0
    try:
        for part in parts_of(stream, cuts):
            text = reader.text(part)
            if text:
                texts += 1
                read.append(reader.template.made(text))
                continue
            for piece in reader.feed(part):
                if isinstance(piece, TextRun):
                    texts += len(piece)
                    read += piece.chunks()
                else:
                    read.append(piece)
    except APIError as error:
        return read, str(error), texts
    return read, "", texts


def facts(chunk: ChatCompletionChunk | StreamEnd) -> Any:
    """All there is to a chunk, what pydantic's own equality overlooks included."""
    if isinstance(chunk, StreamEnd):
        return chunk
    models = [chunk, *chunk.choices, *(choice.delta for choice in chunk.choices)]
    inner = [(model.model_fields_set, model.model_extra) for model in models]
    return chunk.model_dump(), chunk.model_dump(exclude_unset=True), inner


NASTY = st.text(st.sampled_from('"\\,{}:n\n\r\0ü€\u2028🙂 a'))
CHUNKS = st.one_of(
    NASTY.map(payload),
    NASTY.map(payload),
    NASTY.map(lambda text: payload(text, ascii_only=True)),
    NASTY.map(lambda text: payload(None, reasoning=text)),
    NASTY.map(lambda text: payload(text, choice={"index": 1})),
    NASTY.map(lambda text: payload(text, choice={"logprobs": {"content": [{"token": text, "logprob": -1}]}})),
    NASTY.map(lambda text: payload(text, delta={"tool_calls": [{"index": 0, "function": {"arguments": text}}]})),
    NASTY.map(lambda text: payload(text, system_fingerprint=text)),
    NASTY.map(lambda text: payload(text, metadata={"content": text})),
    st.sampled_from([
        payload("x", choice={"finish_reason": "stop"}),
        payload("\ud83d", ascii_only=True),  # half a character
        b"[DONE]",
        b"",
        b'{"choices":[{"delta":{"content":"a b","content":"a b"}}]}',
        b'{"choices":[{"delta":{"content":"a\\", "}}]}',
        b'{"choices":[],"usage":{"prompt_tokens":1}}',
        b'{"error":{"message":"gone"}}',
        b"{",
    ]),
)  # fmt: skip

CUTS = st.one_of(st.none(), st.lists(st.integers(0), max_size=6))


@given(st.lists(CHUNKS, max_size=12), CUTS)
@example([payload("a"), payload("b\\"), payload(',"c')], [])
@example([payload("a"), payload('"'), payload('","')], [])
@example([payload("a"), payload('"'), payload("b\\"), payload("\x7f"), payload("c"), payload("\u2028")], None)
def test_it_reads_what_reading_every_chunk_reads_at_any_split(chunks: list[bytes], cuts: list[int] | None) -> None:
    stream = stream_of(*chunks)
    expected, failure = plainly(stream)
    read, error, _ = by_reader(stream, cuts)
    assert [facts(chunk) for chunk in read] == [facts(chunk) for chunk in expected]
    assert bool(error) == bool(failure)


@given(st.binary(), CUTS)
@example(b"\xff", None)
@example(b"\n\n", None)
@example(b"\r", None)
def test_broken_bytes_inside_a_text_are_read_alike(inside: bytes, cuts: list[int] | None) -> None:
    before, _, after = payload("TEXT").partition(b"TEXT")
    stream = stream_of(payload("a"), payload("b"), before + inside + after, payload("c"))
    expected, failure = plainly(stream)
    read, error, _ = by_reader(stream, cuts)
    assert [facts(chunk) for chunk in read] == [facts(chunk) for chunk in expected]
    assert bool(error) == bool(failure)


@given(st.lists(CHUNKS, max_size=12), st.integers(0))
def test_replies_and_events_are_the_same(chunks: list[bytes], cut: int) -> None:
    stream = stream_of(*chunks)
    plain, fast, reader = Accumulator(), Accumulator(), ChunkReader()
    expected = [plain.add(chunk) for chunk in plainly(stream)[0] if not isinstance(chunk, StreamEnd)]
    events: list[Any] = []
    progress: list[bool] = []
    cut %= len(stream) + 1
    try:
        for part in (stream[:cut], stream[cut:]):
            for piece in reader.feed(part):
                if isinstance(piece, TextRun):
                    events += [[delta] if delta else [] for delta in fast.extend(piece, reasoning=piece.reasoning)]
                    progress.append(fast.progress == any(piece))
                elif isinstance(piece, ChatCompletionChunk):
                    events.append(fast.add(piece))
    except APIError:
        pass
    assert events == expected
    assert [[getattr(event, "snapshot", None) for event in made] for made in events] == [
        [getattr(event, "snapshot", None) for event in made] for made in expected
    ]
    assert all(progress)
    assert fast.completion == plain.completion
    assert (fast.has_visible, fast.has_reasoning) == (plain.has_visible, plain.has_reasoning)


def taken(parts: list[bytes], mode: Mode) -> tuple[list[Any], str, Any]:
    """Read a stream as an exchange does; return all there is to what it brought."""
    accumulator = Accumulator()
    reading = StreamDecoder(accumulator)
    items: list[Any] = []
    error = ""
    try:
        for part in parts:
            reading.check()
            items += reading.take(part, mode)
            if accumulator.done:
                break
        reading.check()
        items += reading.end(mode)
    except APIError as problem:
        error = type(problem).__name__
    shown = [
        facts(item)
        if isinstance(item, ChatCompletionChunk)
        else (item, facts(item.chunk) if isinstance(item, ChunkEvent) else getattr(item, "snapshot", None))
        for item in items
    ]
    told = (accumulator.completion, accumulator.has_visible, accumulator.has_reasoning, accumulator.pieces)
    return shown, error, told


MODES: list[Mode] = ["chunks", "events", "text"]


@pytest.mark.parametrize("mode", MODES)
@given(st.lists(CHUNKS, max_size=12))
@example([payload("a"), payload("b"), payload(None, reasoning="c"), payload(None, reasoning="d"), payload("e")])
def test_events_one_by_one_bring_what_they_bring_together(mode: Mode, chunks: list[bytes]) -> None:
    stream = stream_of(*chunks)
    assert taken(parts_of(stream, None), mode) == taken([stream], mode)


def test_what_differs_behind_the_text_is_seen() -> None:
    stream = stream_of(*(payload(text, number=number) for number, text in enumerate("abc")))
    read, _, texts = by_reader(stream, None)
    assert [getattr(chunk, "number", None) for chunk in read] == [0, 1, 2]
    assert texts == 0


@pytest.mark.parametrize("left", [b": a comment ", b"event: note\n", b"event: error\n", b"data: ", b"\r"])
def test_what_an_earlier_read_has_left_over_counts(left: bytes) -> None:
    parts = [stream_of(payload("a")), stream_of(payload("b")), left, stream_of(payload("c")), stream_of(payload("d"))]
    for mode in MODES:
        assert taken(parts, mode) == taken([b"".join(parts)], mode)


def test_a_text_that_is_too_long_is_refused_on_its_own_too() -> None:
    long = stream_of(payload("a" * MAX_EVENT))
    parts = [stream_of(payload("a")), stream_of(payload("b")), long]
    shown, error, _ = taken(parts, "text")
    assert (shown, error) == ([("a", None), ("b", None)], "APIResponseValidationError")


def test_escaped_characters_are_characters() -> None:
    """Before pydantic 2.7.3 they were their bytes (pydantic#9496), though only in strings never read before."""
    stream = stream_of(payload("a"), payload("five €", ascii_only=True), payload("fünf €", ascii_only=True))
    read, _, texts = by_reader(stream, [])
    assert [chunk.choices[0].delta.content for chunk in read if isinstance(chunk, ChatCompletionChunk)] == [
        "a", "five €", "fünf €",
    ]  # fmt: skip
    assert texts == 2


def test_only_the_first_text_of_a_common_stream_is_read_as_json() -> None:
    words = [" the", " sum", "\n\n", ' "U"', "", " —", "\\"]
    stream = stream_of(payload("", delta={"role": "assistant"}), *map(payload, words), b"[DONE]")
    assert by_reader(stream, [])[2] == len(words) - 1
    assert by_reader(stream, list(range(len(stream))))[2] == len(words) - 1
    assert by_reader(stream, None)[2] == len(words) - 1


BROKEN = [b"b\\", b'b","c', b'b","role":"user', b'"', b"\n", b"\xff", b"\\ud83d", b"\\x"]


@pytest.mark.parametrize("cuts", [[], None], ids=["together", "one by one"])
@pytest.mark.parametrize("broken", BROKEN)
def test_what_is_no_text_is_judged_by_reading_it_as_json(broken: bytes, cuts: list[int] | None) -> None:
    before, _, after = payload("TEXT").partition(b"TEXT")
    stream = stream_of(payload("a"), payload("b"), before + broken + after, payload("c"))
    expected, failure = plainly(stream)
    read, error, _ = by_reader(stream, cuts)
    assert [facts(chunk) for chunk in read] == [facts(chunk) for chunk in expected]
    assert bool(error) == bool(failure)


def test_reasoning_is_told_from_text() -> None:
    reader = ChunkReader()
    kinds = [
        piece.reasoning
        for text in ("a", "b", "c")
        for piece in reader.feed(stream_of(payload(None, reasoning=text)))
        if isinstance(piece, TextRun)
    ]
    kinds += [
        piece.reasoning for t in "de" for piece in reader.feed(stream_of(payload(t))) if isinstance(piece, TextRun)
    ]
    assert kinds == [True, True, False]


def test_what_is_done_to_a_chunk_does_not_show_in_the_next() -> None:
    reader = ChunkReader()
    (first,) = reader.feed(stream_of(payload("a")))
    assert isinstance(first, ChatCompletionChunk)
    first.model, first.choices[0].delta.refusal = "other", "no"
    first.model_fields_set.clear()
    (texts,) = reader.feed(stream_of(payload("b")))
    assert isinstance(texts, TextRun)
    expected = parse_event(Event("message", payload("b")))
    assert [facts(chunk) for chunk in texts.chunks()] == [facts(expected)]  # type: ignore[arg-type]


def test_empty_texts_are_no_progress() -> None:
    accumulator = Accumulator()
    accumulator.update(ChatCompletionChunk.model_validate_json(payload("a")))
    assert list(accumulator.extend(["", ""], reasoning=True)) == [None, None]
    assert not accumulator.progress


def test_chunks_share_nothing_that_can_change() -> None:
    stream = stream_of(*(payload(text, system_fingerprint="x", service="y") for text in ("a", "b", "c")))
    first, second, third = (chunk for chunk in by_reader(stream, [])[0] if isinstance(chunk, ChatCompletionChunk))
    assert (second.model_extra, third.model_extra) == ({"service": "y"}, {"service": "y"})
    second.choices[0].delta.content = "changed"
    second.choices[0].delta.refusal = "no"
    for extra in (second.choices[0].delta.model_extra, second.choices[0].model_extra):
        (extra or {})["new"] = 1
    second.choices.append(first.choices[0])
    (second.model_extra or {})["service"] = "other"
    second.sglext = {}
    assert facts(third) == facts(parse_event(Event("message", payload("c", system_fingerprint="x", service="y"))))  # type: ignore[arg-type]
    assert third.model_copy(deep=True) == third


def test_a_stream_that_never_repeats_itself_is_left_alone() -> None:
    template = ChunkTemplate()
    for number in range(TRIES + 1):
        event = Event("message", payload("text", id=str(number)))
        chunk = parse_event(event)
        assert isinstance(chunk, ChatCompletionChunk)
        template.learn(event, chunk)
        assert template.fits(event) == (number < TRIES)


@pytest.mark.parametrize(
    "event",
    [
        Event("message", payload("m")),  # the model's name is the same text
        Event("message", payload("text").replace(b",", b",\n", 1)),  # two data lines
        Event("other", payload("text")),
        Event("message", payload("text", choice={"matched_stop": [1]})),
        Event("message", payload("text", reasoning="too")),
        Event("message", b'{"choices":[{"delta":{"content":"text"}},{"delta":{"content":"b"},"index":1}]}'),
        Event("message", payload("\n")),  # which is not what it looks like
        Event("message", b'{"choices":[{"delta":{"content":"text"},"delta":{"content" :"text"}}]}'),
        Event("message", b'{"service_tier":"text","choices":[{"delta":{"content":"te\\u0078t"}}]}'),
        Event("message", b'{"created":"1","choices":[{"delta":{"content":"\\u0031"}}]}'),
    ],
)
def test_what_might_not_be_the_text_makes_no_stencil(event: Event) -> None:
    template, chunk = ChunkTemplate(), None
    try:
        chunk = parse_event(event)
    except APIError:
        pass
    if isinstance(chunk, ChatCompletionChunk):
        template.learn(event, chunk)
    assert not template.fits(event)
    assert template.texts(stream_of(event.data)) is None


def test_a_chunk_event_comes_before_its_delta() -> None:
    # What the streams do with them; see tests/_async/test_streams.py for the rest.
    reader, accumulator = ChunkReader(), Accumulator()
    seen: list[Any] = []
    for piece in reader.feed(stream_of(payload("a"), payload("b"))):
        if isinstance(piece, TextRun):
            deltas = accumulator.extend(piece, reasoning=False)
            pairs = zip(piece.chunks(), deltas, strict=True)
            seen += [(ChunkEvent(chunk).type, delta and delta.type) for chunk, delta in pairs]
        elif isinstance(piece, ChatCompletionChunk):
            accumulator.add(piece)
    assert seen == [("chunk", "content.delta")]
