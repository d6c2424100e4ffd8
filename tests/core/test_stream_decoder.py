"""A stream being read: what is held, what is shown, and when it is over."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest

from homing.core.streaming.accumulator import Accumulator
from homing.core.streaming.decoder import Mode, StreamDecoder
from homing.core.streaming.splice import Splice
from homing.core.telemetry.resumed_usage import ResumedUsage
from homing.errors import APIStatusError, StreamTruncated
from homing.types import ChatCompletionChunk

DONE = b"data: [DONE]\n\n"
ERROR = b'data: {"error":{"message":"full","code":503}}\n\n'


def data(content: str | None = None, **choice: Any) -> bytes:
    delta = choice.pop("delta", {} if content is None else {"content": content})
    chunk = {"id": "x", "created": 1, "model": "m", "choices": [{"index": 0, "delta": delta, **choice}]}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


ROLE = data(delta={"role": "assistant", "content": ""})
THOUGHT = data(delta={"reasoning_content": "Hm."})
STOP = data(finish_reason="stop")


def kinds(items: Iterable[Any]) -> list[str]:
    return [item if isinstance(item, str) else getattr(item, "type", "bare chunk") for item in items]


@pytest.mark.parametrize(
    ("mode", "first", "last"),
    [
        ("text", ["One"], []),
        ("chunks", ["bare chunk"] * 2, ["bare chunk"]),
        ("events", ["chunk", "chunk", "content.delta"], ["chunk", "content.done", "finished"]),
    ],
)
def test_each_mode_gets_its_own(mode: Mode, first: list[str], last: list[str]) -> None:
    reading = StreamDecoder(Accumulator())
    assert reading.take(b"event: ping\ndata: {}\n\n" + ROLE, mode) == []
    assert (reading.progress, reading.shown) == (False, False)
    assert kinds(reading.take(data("One"), mode)) == first
    assert (reading.progress, reading.shown, reading.complete) == (True, True, False)
    assert reading.take(STOP + DONE + data("behind the end"), mode) == []
    assert kinds(reading.end(mode)) == last
    assert reading.complete


@pytest.mark.parametrize("mode", ["text", "chunks", "events"])
def test_thoughts_show_except_where_only_text_is_read(mode: Mode) -> None:
    reading = StreamDecoder(Accumulator())
    assert bool(reading.take(THOUGHT, mode)) is (mode != "text")
    assert reading.shown is (mode != "text")


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("text", ["a", "b", "c"]),
        ("chunks", ["bare chunk"] * 5),
        ("events", ["chunk", "content.delta", "chunk", "content.delta", "chunk", "chunk", "content.delta", "chunk"]),
    ],
)
def test_texts_that_come_alike_are_read_as_chunks_are(mode: Mode, expected: list[str]) -> None:
    accumulator = Accumulator()
    reading = StreamDecoder(accumulator)
    items = reading.take(data("a") + data("b") + data("") + data("c") + data(delta={}), mode)
    assert kinds([*items]) == expected
    assert reading.progress
    assert accumulator.completion.choices[0].message.content == "abc"
    items = reading.take(data("") + data(""), mode)
    assert not reading.progress
    assert kinds([*items]) == [kind for kind in expected if "chunk" in kind][:2]


def test_thoughts_that_come_alike_show_except_where_only_text_is_read() -> None:
    for mode, expected in (("text", 0), ("chunks", 3), ("events", 6)):
        reading = StreamDecoder(Accumulator())
        assert len([*reading.take(THOUGHT * 3, mode)]) == expected  # type: ignore[arg-type]
        assert reading.progress


def test_thoughts_become_visible_where_the_reader_turns_from_text_to_chunks() -> None:
    reading = StreamDecoder(Accumulator())
    for _ in range(3):
        assert reading.take(THOUGHT, "text") == []
    assert not reading.shown
    assert len([*reading.take(THOUGHT, "chunks")]) == 1
    assert reading.shown  # so that nothing takes its place


def test_a_token_on_its_own_is_progress_behind_a_keep_alive() -> None:
    reading = StreamDecoder(Accumulator())
    for piece in (data("a"), data("b"), b": keep-alive\n\n"):
        reading.take(piece, "text")
    assert not reading.progress
    assert reading.take(data("c"), "text") == ["c"]
    assert reading.progress


def test_an_error_before_anything_visible_is_raised_at_once() -> None:
    reading = StreamDecoder(Accumulator())
    with pytest.raises(APIStatusError, match="full"):
        reading.take(ROLE + ERROR, "events")
    assert not reading.shown


def test_an_error_behind_something_visible_waits_its_turn() -> None:
    reading = StreamDecoder(Accumulator())
    reading.check()
    assert reading.take(data("One") + ERROR, "text") == ["One"]
    with pytest.raises(APIStatusError, match="full"):
        reading.check()


def test_half_a_reply_is_truncated_and_nothing_held_is_lost_at_a_proper_end() -> None:
    with pytest.raises(StreamTruncated):
        StreamDecoder(Accumulator()).end("text")
    reading = StreamDecoder(Accumulator())
    assert reading.take(ROLE + STOP, "chunks") == []
    assert len(reading.end("chunks")) == 2


def resumed(text: str = "Once upon") -> tuple[Accumulator, StreamDecoder]:
    accumulator = Accumulator()
    accumulator.update(ChatCompletionChunk.model_validate_json(data(text)[6:]))
    return accumulator, StreamDecoder(accumulator, splice=Splice(accumulator.completion, ResumedUsage()), number=2)


def test_the_rest_is_announced_with_its_first_piece() -> None:
    accumulator, reading = resumed()
    assert reading.take(ROLE, "events") == []
    items: list[Any] = [*reading.take(data(" a time"), "events")]
    assert kinds(items) == ["resumed", "chunk", "content.delta"]
    assert (items[0].at, items[0].attempt) == (9, 2)
    assert reading.take(STOP + DONE, "events") == []
    assert kinds(reading.end("events")) == ["chunk", "content.done", "finished"]
    assert accumulator.completion.choices[0].message.content == "Once upon a time"


@pytest.mark.parametrize("mode", ["text", "chunks"])
def test_bare_chunks_and_text_have_no_place_for_the_announcement(mode: Mode) -> None:
    _, reading = resumed()
    assert len([*reading.take(ROLE + data(" a time"), mode)]) == 1


def test_only_the_end_was_missing() -> None:
    accumulator, reading = resumed()
    reading.take(ROLE + STOP + DONE, "events")
    assert kinds(reading.end("events")) == ["resumed", "chunk", "content.done", "finished"]
    assert accumulator.finish_reason == "stop"


def test_an_empty_answer_does_not_end_the_reply() -> None:
    # SGLang 0.5.9 under overload: 200 and nothing; and a bare [DONE] says nothing of the text before it.
    _, reading = resumed()
    reading.take(DONE, "text")
    with pytest.raises(StreamTruncated):
        reading.end("text")
    assert not reading.shown


def test_what_the_seam_holds_at_done_is_shown() -> None:
    accumulator, reading = resumed()
    assert reading.take(data("Once") + DONE + data("behind the end"), "text") == []
    assert reading.end("text") == ["Once"]
    assert accumulator.completion.choices[0].message.content == "Once uponOnce"
