"""Typing as behaviour: mypy and pyright check this file, pytest runs it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from typing_extensions import Unpack, assert_type

from homing.core.streaming.chunks import STREAM_END, StreamEnd, parse_event, parse_response
from homing.core.streaming.sse import Event
from homing.core.streaming.structured_output import parse_completion
from homing.types import (
    ChatCompletion,
    ChatCompletionChunk,
    ChatCompletionMessageParam,
    CompletionParams,
    Model,
    ModelList,
    ParsedChatCompletion,
    StreamEvent,
)
from homing.types.events import ContentDelta, Finished, UsageEvent


class City(BaseModel):
    name: str


def create(messages: list[ChatCompletionMessageParam], **params: Unpack[CompletionParams]) -> dict[str, Any]:
    return {"messages": messages, **params}


def show(event: StreamEvent) -> str:
    if event.type == "content.delta":
        assert_type(event, ContentDelta)
        return assert_type(event.delta, str) + assert_type(event.snapshot, str)
    if event.type == "usage":
        assert_type(event, UsageEvent)
        return str(assert_type(event.usage.cached_tokens, int | None))
    if isinstance(event, Finished):
        return assert_type(event.finish_reason, str | None) or ""
    if event.type == "tool_calls.function.arguments.done":
        return assert_type(event.id, str)
    return event.type


def test_events_are_told_apart_by_type() -> None:
    assert show(ContentDelta("a", 0, ["a"], 1)) == "aa"
    assert show(Finished("stop")) == "stop"


def test_parse_event_is_narrowed() -> None:
    parsed = parse_event(Event("message", b"[DONE]"))
    assert_type(parsed, ChatCompletionChunk | StreamEnd | None)
    if parsed is None or parsed is STREAM_END:
        return
    assert_type(parsed, ChatCompletionChunk)


def test_parsed_content_has_the_callers_type() -> None:
    body = b'{"choices":[{"message":{"content":"{\\"name\\":\\"Oslo\\"}"}}]}'
    completion = assert_type(parse_response(body, ChatCompletion), ChatCompletion)
    parsed = assert_type(parse_completion(completion, City), ParsedChatCompletion[City])
    assert assert_type(parsed.choices[0].message.parsed, City | None) == City(name="Oslo")
    assert assert_type(completion.choices[0].message.reasoning, str | None) is None


def test_models_iterate_over_models() -> None:
    for model in ModelList(data=[Model(id="a")]):
        assert_type(model, Model)


def test_request_surface() -> None:
    request = create(
        [
            {"role": "system", "content": "Be brief."},
            {"role": "developer", "content": [{"type": "text", "text": "Briefer."}]},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is this?"},
                    {"type": "image_url", "image_url": {"url": "https://example.org/a.png", "detail": "low"}},
                    {"type": "input_audio", "input_audio": {"data": "…", "format": "wav"}},
                    {"type": "video_url", "video_url": {"url": "https://example.org/a.mp4"}},
                    {"type": "file", "file": {"file_id": "f"}},
                ],
            },
            {
                "role": "assistant",
                "content": None,
                "reasoning_content": "hm",
                "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
            },
            {"role": "tool", "content": "42", "tool_call_id": "c"},
            {"role": "function", "content": "42", "name": "f"},
        ],
        temperature=0,
        max_tokens=None,
        reasoning_effort=0.5,
        stop=["a", "b"],
        tools=[{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
        tool_choice={"type": "function", "function": {"name": "f"}},
        response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": {}}},
        stream_options={"include_usage": True, "continuous_usage_stats": True},
        top_k=5,
        regex="a|b",
        chat_template_kwargs={"enable_thinking": False},
        continue_final_message=True,
        rid="r",
    )
    assert len(request["messages"]) == 6


def test_mistakes_are_found() -> None:
    """An unused ignore comment fails `make check`, so each of these must be an error."""
    create([{"role": "user"}])  # type: ignore[typeddict-item]
    create([], temperature="hot")  # type: ignore[arg-type]
    create([], tool_choice="sometimes")  # type: ignore[arg-type]
    create([], temprature=1)  # type: ignore[call-arg]
