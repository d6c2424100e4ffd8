"""Answers of real SGLang servers (`tests/captures`), decoded at every possible split of their bytes.

Only the event decoder can tell one split from another, so for the long captures the events
are compared at every split, and what follows from them is checked once.
"""

from __future__ import annotations

import json

import pytest

from homing.core.errors.server_errors import status_error
from homing.core.streaming.accumulator import Accumulator
from homing.core.streaming.chunks import parse_event, parse_response
from homing.core.streaming.sse import Event, EventDecoder
from homing.errors import (
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    ContextWindowExceeded,
    InternalServerError,
    NotFoundError,
)
from homing.types import ChatCompletion, ChatCompletionChunk, Model, ModelList
from homing.types.wire import WireModel

from ..recordings import ANSWERS, NAMES, REFUSALS, STREAMS, recording


def decode(*reads: bytes) -> list[Event]:
    decoder = EventDecoder()
    return [event for read in reads for event in decoder.feed(read)] + decoder.close()


def accumulate(events: list[Event]) -> Accumulator:
    accumulator = Accumulator()
    for event in events:
        chunk = parse_event(event)
        if isinstance(chunk, ChatCompletionChunk):
            accumulator.update(chunk)
        elif chunk is not None:
            accumulator.done = True
    return accumulator


def test_nothing_is_left_out() -> None:
    assert len(STREAMS) == 9
    assert sorted(STREAMS + ANSWERS + REFUSALS) == NAMES


@pytest.mark.parametrize("name", STREAMS)
def test_stream_at_every_split(name: str) -> None:
    body = recording(name).body
    whole = decode(body)
    assert len(whole) == body.count(b"\n\n")
    assert whole[-1] == Event("message", b"[DONE]")
    assert decode(*(body[i : i + 1] for i in range(len(body)))) == whole
    for split in range(len(body)):
        assert decode(body[:split], body[split:]) == whole


@pytest.mark.parametrize("ends", [b"\r\n", b"\r"])
@pytest.mark.parametrize("name", ["0.5.9/stream_usage", "0.5.23/stream_usage", "0.5.23/overload_stream_True"])
def test_stream_with_other_line_ends_at_every_split(name: str, ends: bytes) -> None:
    whole = decode(recording(name).body)
    body = b"\xef\xbb\xbf: keep-alive" + ends * 2 + recording(name).body.replace(b"\n", ends)
    for split in range(len(body)):
        assert decode(body[:split], body[split:]) == whole


@pytest.mark.parametrize("name", ["0.5.9/stream_usage", "0.5.23/stream_usage"])
def test_a_stream_cut_anywhere_is_known_to_be_cut(name: str) -> None:
    """Or to be whole: never an error, never a wrong text."""
    body = recording(name).body
    finish = body.index(b'"finish_reason":"length"')
    complete = body.index(b"\n\n", finish) + 2
    reasoning = recording(name).joined("reasoning_content")
    for cut in range(len(body)):
        accumulator = accumulate(decode(body[:cut]))
        assert accumulator.terminal == (cut >= complete)
        for choice in accumulator.completion.choices:
            assert reasoning.startswith(choice.message.reasoning or "")


@pytest.mark.parametrize("name", [name for name in STREAMS if "overload" not in name])
def test_what_a_stream_says(name: str) -> None:
    played = recording(name)
    accumulator = accumulate(decode(played.body))
    completion = accumulator.completion
    message = completion.choices[0].message
    assert accumulator.terminal
    assert accumulator.finish_reason == "length"
    assert completion.model == "tiny"
    assert f'"id":"{completion.id}"'.encode() in played.body
    assert (message.reasoning or "") == played.joined("reasoning_content")
    assert (message.content or "") == played.joined("content") == ""


@pytest.mark.parametrize(
    ("name", "reasoning", "counts"),
    [
        ("0.5.9/stream_usage", "\ufffd use IPv", (15, 3, 18, 14, 0)),
        ("0.5.23/stream_usage", "tinue checkarts", (15, 3, 18, 14, 3)),
    ],
)
def test_documented_text_and_usage(name: str, reasoning: str, counts: tuple[int, ...]) -> None:
    completion = accumulate(decode(recording(name).body)).completion
    assert completion.choices[0].message.reasoning == reasoning
    usage = completion.usage
    assert usage is not None
    reported = usage.prompt_tokens, usage.completion_tokens, usage.total_tokens
    assert (*reported, usage.cached_tokens, usage.reasoning_tokens) == counts


def test_details_that_were_asked_for_are_kept() -> None:
    completion = accumulate(decode(recording("0.5.23/stream_usage").body)).completion
    assert completion.sglext == {"cached_tokens_details": {"device": 14, "host": 0}}


@pytest.mark.parametrize("name", ["0.5.9/stream", "0.5.23/stream"])
def test_usage_that_was_not_asked_for_is_unknown(name: str) -> None:  # sglang#4707
    assert accumulate(decode(recording(name).body)).usage is None


def test_reasoning_sent_as_a_whole_equals_reasoning_sent_in_pieces() -> None:
    whole, bit_by_bit = (
        accumulate(decode(recording(f"0.5.23/{name}").body)).completion.choices[0].message.reasoning
        for name in ("reasoning_buffered_stream", "reasoning_stream")
    )
    assert whole == bit_by_bit


def test_tool_call_cut_at_the_token_limit_is_not_handed_out() -> None:  # ANOLISA#2209
    message = accumulate(decode(recording("0.5.23/tool_named_stream").body)).completion.choices[0].message
    assert message.tool_calls is None
    (half,) = message.unfinished_tool_calls
    assert (half.id, half.function.name) == ("call_0baf357d87a6499fb9423d7c", "get_weather")
    assert half.function.arguments.endswith("\\ract Thection")


def test_overload_inside_a_stream() -> None:
    body = recording("0.5.23/overload_stream_True").body
    with pytest.raises(InternalServerError, match="503: The request queue is full") as caught:
        accumulate(decode(body))
    assert (caught.value.status_code, caught.value.type) == (503, "SERVICE_UNAVAILABLE")


def test_overload_of_0_5_9_is_an_empty_stream() -> None:
    accumulator = accumulate(decode(b""))
    assert not accumulator.terminal
    assert not accumulator.has_visible


@pytest.mark.parametrize("name", ANSWERS)
def test_answer_keeps_everything(name: str) -> None:
    body = recording(name).body
    sent = json.loads(body)
    models: dict[str, type[WireModel]] = {
        "chat.completion": ChatCompletion,
        "list": ModelList,
        "model": Model,
    }
    model = models[sent["object"]]
    assert parse_response(body, model).model_dump(exclude_unset=True) == sent


@pytest.mark.parametrize(
    ("name", "content", "cached"),
    [
        ("0.5.9/ok", None, None),  # null details: zero cached or not reported, nobody can tell
        ("0.5.23/ok", "", 6),
        ("0.5.9/continue_final", None, 15),
        ("0.5.23/effort_none", "plain answer", 20),
    ],
)
def test_documented_answers(name: str, content: str | None, cached: int | None) -> None:
    completion = parse_response(recording(name).body, ChatCompletion)
    assert completion.choices[0].message.content == content
    assert completion.usage is not None
    assert completion.usage.cached_tokens == cached


def test_two_choices() -> None:
    completion = parse_response(recording("0.5.23/n2").body, ChatCompletion)
    assert [choice.index for choice in completion.choices] == [0, 1]
    assert all(choice.message.reasoning for choice in completion.choices)


@pytest.mark.parametrize("name", REFUSALS)
def test_every_refusal_is_a_typed_error_with_the_servers_words(name: str) -> None:
    status, _, body = recording(name)
    error = status_error(status, body)
    kinds = {400: BadRequestError, 401: AuthenticationError, 404: NotFoundError, 503: InternalServerError}
    expected = ContextWindowExceeded if name.endswith("too_long") else kinds.get(status, APIStatusError)
    assert type(error) is expected
    assert error.status_code == status
    sent = json.loads(body)
    inner = sent["error"] if isinstance(sent.get("error"), dict) else sent
    words = inner.get("message") or inner.get("detail") or inner["error"]
    assert " ".join(words.split())[:200] in str(error)
    assert error.body == sent
