"""Events become chunks, whole bodies become answers, or a typed error says why not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from homing.core.streaming.chunks import STREAM_END, StreamEnd, parse_event, parse_response
from homing.core.streaming.sse import Event
from homing.errors import (
    APIResponseValidationError,
    APIStatusError,
    BadRequestError,
    InternalServerError,
    RateLimitError,
)
from homing.types import ChatCompletion, ChatCompletionChunk, ModelList


def event(data: object, name: str = "message") -> Event:
    return Event(name, data if isinstance(data, bytes) else json.dumps(data).encode())


def chunk(data: object) -> ChatCompletionChunk:
    parsed = parse_event(event(data))
    assert isinstance(parsed, ChatCompletionChunk)
    return parsed


def delta(**fields: Any) -> dict[str, Any]:
    return {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": fields}]}


@pytest.mark.parametrize("data", [b"[DONE]", b" [DONE]", b"[DONE] "])
def test_done(data: bytes) -> None:
    parsed = parse_event(Event("message", data))
    assert parsed is STREAM_END
    assert isinstance(parsed, StreamEnd)


@pytest.mark.parametrize("data", [b"", b" ", b"\n"])
def test_bare_data_is_ignored(data: bytes) -> None:  # hermes-agent#111887
    assert parse_event(Event("message", data)) is None


@pytest.mark.parametrize("data", [b'{"id":"x","output_ids":[[0]]}', b"AA", b"[1]", b'{"choices":3}', b"{}"])
def test_named_event_without_choices_is_ignored(data: bytes) -> None:
    assert parse_event(Event("sglext_ids", data)) is None


def test_a_name_does_not_hide_a_chunk_or_an_error() -> None:
    parsed = parse_event(event(delta(content="a"), name="chat.completion.chunk"))
    assert isinstance(parsed, ChatCompletionChunk)
    assert parse_event(Event("end", b"[DONE]")) is STREAM_END
    with pytest.raises(APIStatusError):
        parse_event(event({"error": {"message": "no"}}, name="other"))


@pytest.mark.parametrize("choices", [{}, {"choices": None}, {"choices": []}])
def test_usage_chunk_without_choices(choices: dict[str, Any]) -> None:  # ATOM#1711, apfel#100
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    parsed = chunk({"id": "a", **choices, "usage": usage})
    assert parsed.choices == []
    assert parsed.usage is not None
    assert parsed.usage.prompt_tokens == 5


@pytest.mark.parametrize(
    "data",
    [
        {"id": None, "created": None, "model": None, "object": None, "choices": []},
        {"choices": [{"delta": None, "index": None, "finish_reason": None}]},
        {"choices": [{}]},
        {"choices": [{"delta": {"role": None, "content": None, "tool_calls": None}}], "usage": None},
        {"choices": [{"delta": {"tool_calls": [{"index": None, "function": None}]}}]},
        {"error": None, "choices": []},
        {"object": "", "choices": [], "prompt_filter_results": []},
        {"choices": [{"logprobs": {"content": [{"token": "a", "logprob": None, "top_logprobs": None}]}}]},
        {"choices": [], "usage": {"prompt_tokens": None, "prompt_tokens_details": None}},
    ],
)
def test_null_and_missing_fields_are_tolerated(data: dict[str, Any]) -> None:
    chunk(data)


def test_unknown_fields_survive() -> None:
    sent = {**delta(content="a", mood="fine"), "sglext": {"x": 1}, "novelty": [1]}
    assert chunk(sent).model_dump(exclude_unset=True) == sent


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_both_names_of_reasoning(name: str) -> None:  # strands#2354
    sent = delta(**{name: "hm"})
    parsed = chunk(sent)
    assert parsed.choices[0].delta.reasoning == "hm"
    assert parsed.model_dump(exclude_unset=True) == sent


def test_a_reasoning_that_is_no_text_is_not_text() -> None:
    assert chunk(delta(reasoning={"effort": "low"})).choices[0].delta.reasoning is None


@pytest.mark.parametrize(
    ("data", "status"),
    [
        ({"error": {"object": "error", "message": "m", "type": "BAD_REQUEST", "code": 400}}, 400),
        ({"error": {"message": "m", "code": "503"}}, 503),
        ({"object": "error", "message": "m", "type": "503", "code": 503}, 503),
        ({"error": "Unauthorized"}, 500),
        ({"error": {"message": "m"}, **delta(content="")}, 500),
    ],
)
def test_error_object_inside_a_stream(data: dict[str, Any], status: int) -> None:
    # any-llm#847, guidellm#743, llama.cpp#14566, vllm#40986
    with pytest.raises(APIStatusError) as caught:
        parse_event(event(data))
    assert caught.value.status_code == status
    assert caught.value.response is None
    assert caught.value.body == data


@pytest.mark.parametrize(
    "data", [b'{"error":{"message":"out of memory"}}', b'{"message":"out of memory"}', b"out of memory"]
)
def test_event_named_error(data: bytes) -> None:  # openai-python#2796, clicky#132
    with pytest.raises(InternalServerError, match="out of memory"):
        parse_event(Event("error", data))


def test_event_named_error_without_data() -> None:
    with pytest.raises(InternalServerError, match="without a message"):
        parse_event(Event("error", b""))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b'{"choices":[{"delta":{"content":"half', "EOF while parsing"),
        (b"<html><title>502 Bad Gateway</title>", "502 Bad Gateway"),
        (b"[1,2]", "should be an object"),
        (b"42", "should be an object"),
        (b"hello", "hello"),
        (b'{"usage":{"prompt_tokens":NaN}}', "usage.prompt_tokens"),
        (b'{"usage":{"prompt_tokens":"many"}}', "usage.prompt_tokens"),
        (b'{"choices":[{"logprobs":{"content":[{"token":"a","logprob":NaN}]}}]}', "choices.0.logprobs"),
        (b'{"choices":[{"index":0,"delta":{"content":7}}]}', "choices.0.delta.content"),
        (b'{"choices":"none"}', "choices"),
        (b'{"weather":"fine"}', "no field of one"),
        (b"{}", "no field of one"),
        (b'{"choices":[]}\xff', "trailing"),
    ],
)
def test_malformed_chunk(data: bytes, said: str) -> None:
    with pytest.raises(APIResponseValidationError) as caught:
        parse_event(Event("message", data))
    assert said in str(caught.value)
    assert "base_url" in str(caught.value)


def test_the_excerpt_is_short() -> None:
    with pytest.raises(APIResponseValidationError) as caught:
        parse_event(Event("message", b"x" * 10_000_000))
    assert len(str(caught.value)) < 1000
    assert len(str(caught.value.body)) < 5000


def test_answer() -> None:
    body = b'{"id":"a","choices":[{"index":0,"message":{"role":"assistant","content":"hi"}}],"extra":1}'
    answer = parse_response(body, ChatCompletion)
    assert answer.choices[0].message.content == "hi"
    assert answer.model_dump(exclude_unset=True) == json.loads(body)


def test_models_are_iterable_and_nullable() -> None:
    body = b'{"object":"list","data":[{"id":"a","created":null,"max_model_len":512},{"id":"b"}]}'
    models = parse_response(body, ModelList)
    assert [model.id for model in models] == ["a", "b"]
    assert [model.max_model_len for model in models] == [512, None]


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b'{"error":{"message":"slow down","code":429}}', RateLimitError),
        (b'{"object":"error","message":"bad","code":400}', BadRequestError),
        (b'{"error":{"message":"late","code":500},"choices":[]}', InternalServerError),
        (b'{"detail":"Not Found"}', APIResponseValidationError),
        (b"<!DOCTYPE html><h1>It works!</h1>", APIResponseValidationError),
        (b"", APIResponseValidationError),
        (b"null", APIResponseValidationError),
        (b'{"choices":null}', APIResponseValidationError),
        (b'{"choices":[{"message":{"content":"a"},"index":NaN}]}', APIResponseValidationError),
        (b"[" * 5000, APIResponseValidationError),
    ],
)
def test_200_with_something_else(body: bytes, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        parse_response(body, ChatCompletion)
    assert type(caught.value) is error


KEY = "hunter-2-key"


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("message", {"error": {"message": f"bad key {KEY}", "code": 401}}),
        ("message", {"object": "error", "message": f"bad key {KEY}", "code": 401}),
        ("message", {"choices": [], "error": f"bad key {KEY}"}),
        ("message", {"choices": [{"delta": {}}], "error": f"bad key {KEY}"}),
        ("error", {"message": f"bad key {KEY}"}),
        ("message", {"hello": KEY}),
        ("message", KEY.encode()),
    ],
)
def test_an_error_in_a_stream_does_not_echo_the_key(name: str, data: object) -> None:
    with pytest.raises((APIStatusError, APIResponseValidationError)) as caught:
        parse_event(event(data, name), secrets=(KEY,))
    assert KEY not in f"{caught.value!r} {caught.value} {caught.value.body}"
    assert "[hidden]" in str(caught.value)


@pytest.mark.parametrize("data", [{"error": f"bad key {KEY}"}, {"choices": [], "error": f"bad {KEY}"}, {"a": KEY}])
def test_an_error_in_an_answer_does_not_echo_the_key(data: object) -> None:
    with pytest.raises((APIStatusError, APIResponseValidationError)) as caught:
        parse_response(json.dumps(data).encode(), ChatCompletion, secrets=(KEY,))
    assert KEY not in f"{caught.value!r} {caught.value} {caught.value.body}"


@pytest.mark.parametrize(
    ("escaped", "text"),
    [
        (rb"a\ud83d", "a\ufffd"),
        (rb"\ude00b", "\ufffdb"),
        (rb"\uD83D \uDE00", "\ufffd \ufffd"),
        (rb"\ude00\ud83d", "\ufffd\ufffd"),
        (rb"\ud83d\ude00\ud83d", "\U0001f600\ufffd"),
    ],
)
def test_half_a_surrogate_pair_costs_one_character_and_not_the_reply(escaped: bytes, text: str) -> None:
    parsed = parse_event(Event("message", b'{"choices":[{"delta":{"content":"' + escaped + b'"}}],"odd":"\\\\ud83d"}'))
    assert isinstance(parsed, ChatCompletionChunk)
    assert parsed.choices[0].delta.content == text
    assert parsed.model_extra == {"odd": "\\ud83d"}  # an escaped backslash begins no escape
    answer = parse_response(b'{"choices":[{"message":{"content":"' + escaped + b'"}}]}', ChatCompletion)
    assert answer.choices[0].message.content == text


def test_a_whole_pair_is_one_character() -> None:
    parsed = parse_event(Event("message", rb'{"choices":[{"delta":{"content":"\ud83d\ude00"}}]}'))
    assert isinstance(parsed, ChatCompletionChunk)
    assert parsed.choices[0].delta.content == "\U0001f600"


@pytest.mark.parametrize("data", [rb'{"choices":"\ud83d"}', rb'{"a":"\ud83d', b"[" * 100_000 + rb"\ud83d"])
def test_half_a_pair_excuses_nothing_else(data: bytes) -> None:
    with pytest.raises(APIResponseValidationError):
        parse_event(Event("message", data))


def test_half_a_pair_does_not_hide_an_error() -> None:
    with pytest.raises(RateLimitError, match="full \ufffd"):
        parse_event(Event("message", rb'{"error":{"message":"full \ud83d","code":429}}'))
