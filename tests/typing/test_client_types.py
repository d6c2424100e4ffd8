"""What type checkers infer over the public API: mypy and pyright check this file, pytest runs it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from pydantic import BaseModel
from typing_extensions import assert_type

import homing
from homing import AsyncChatStream, AsyncClient, AsyncReplyStream, AsyncStream, ChatStream, Client, ReplyStream, Stream
from homing.types import (
    ChatCompletion,
    ChatCompletionChunk,
    ChatCompletionMessageParam,
    CompletionUsage,
    Model,
    ModelList,
    ParsedChatCompletion,
    StreamEvent,
)

HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hello"}]


class City(BaseModel):
    name: str


def test_create_gives_what_stream_says(homing_client: Client) -> None:
    create = homing_client.chat.completions.create
    assert_type(create(messages=HELLO), ChatCompletion)
    assert_type(create(messages=HELLO, stream=False, top_k=1, seed=None), ChatCompletion)
    with assert_type(create(messages=HELLO, stream=True), Stream) as stream:
        for chunk in stream:
            assert_type(chunk, ChatCompletionChunk)
    either: bool = bool(homing_client.base_url)
    answer = assert_type(create(messages=HELLO, stream=either), ChatCompletion | Stream)
    assert isinstance(answer, Stream)
    answer.close()


@pytest.mark.anyio
async def test_create_gives_what_stream_says_async(async_homing_client: AsyncClient) -> None:
    create = async_homing_client.chat.completions.create
    assert_type(await create(messages=HELLO), ChatCompletion)
    async with assert_type(await create(messages=HELLO, stream=True), AsyncStream) as stream:
        async for chunk in stream:
            assert_type(chunk, ChatCompletionChunk)


def test_a_servers_message_may_be_sent_back(homing_client: Client) -> None:
    completions = homing_client.chat.completions
    message = completions.create(messages=HELLO).choices[0].message
    again = completions.create(messages=[*HELLO, message, {"role": "user", "content": "Go on"}])
    assert_type(again.usage, CompletionUsage | None)


def test_typed_events(homing_client: Client) -> None:
    completions = homing_client.chat.completions
    with assert_type(completions.stream(messages=HELLO, temperature=0, timeout=30.0), ChatStream) as stream:
        for event in stream:
            assert_type(event, StreamEvent)
            if event.type == "content.delta":
                assert_type(event.delta, str)
        assert_type(stream.get_final_completion(), ChatCompletion)
        assert_type(stream.get_final_text(), str)
    with completions.stream(messages=HELLO, response_format={"type": "json_object"}) as stream:
        for text in assert_type(stream.text, Iterator[str]):
            assert_type(text, str)


@pytest.mark.anyio
async def test_typed_events_async(async_homing_client: AsyncClient) -> None:
    completions = async_homing_client.chat.completions
    async with assert_type(completions.stream(messages=HELLO, affinity="none"), AsyncChatStream) as stream:
        async for event in stream:
            assert_type(event, StreamEvent)
        assert_type(await stream.get_final_completion(), ChatCompletion)
    async with completions.stream(messages=HELLO) as stream:
        async for text in assert_type(stream.text, AsyncIterator[str]):
            assert_type(text, str)


def test_parse_gives_the_callers_model(homing_client: Client) -> None:
    parsed = homing_client.chat.completions.parse(messages=HELLO, response_format=City, max_tokens=200)
    assert_type(parsed, ParsedChatCompletion[City])
    assert isinstance(assert_type(parsed.choices[0].message.parsed, City | None), City)


def test_conversations(homing_client: Client) -> None:
    chat = assert_type(homing_client.conversation(system="Be brief."), homing.Conversation)
    reply = assert_type(chat.send("Hello"), homing.Reply[None])
    assert_type(reply.text, str)
    assert_type(reply.parsed, None)
    assert_type(reply.telemetry, homing.Telemetry)
    assert_type(reply.telemetry.cached_tokens, int | None)
    with assert_type(chat.stream("And?"), ReplyStream[None]) as stream:
        for event in stream:
            assert_type(event, StreamEvent)
        assert_type(stream.reply(), homing.Reply[None])
    with chat.stream("And?") as stream:
        for text in stream.text:
            assert_type(text, str)
    city = assert_type(chat.parse("Which city?", City), homing.Reply[City])
    assert assert_type(city.parsed, City).name is not None
    assert_type(chat.history, list[dict[str, Any]])
    assert_type(chat.fork(), homing.Conversation)
    assert_type(chat.fork(2), list[homing.Conversation])


@pytest.mark.anyio
async def test_conversations_async(async_homing_client: AsyncClient) -> None:
    chat = assert_type(async_homing_client.conversation(), homing.AsyncConversation)
    assert_type(await chat.send("Hello"), homing.Reply[None])
    async with assert_type(chat.stream("And?"), AsyncReplyStream[None]) as stream:
        async for event in stream:
            assert_type(event, StreamEvent)
        assert_type(await stream.reply(), homing.Reply[None])
    city = assert_type(await chat.parse("Which city?", City), homing.Reply[City])
    assert_type(city.parsed, City)
    assert_type(chat.fork(2), list[homing.AsyncConversation])


def test_copies_and_models(homing_client: Client, async_homing_client: AsyncClient) -> None:
    assert_type(homing_client.with_options(timeout=5, max_retries=0, hooks=None, affinity="none"), Client)
    assert_type(async_homing_client.with_options(default_headers={"X-A": "1"}), AsyncClient)
    models = assert_type(homing_client.models.list(), ModelList)
    for model in models:
        assert_type(model, Model)
    assert_type(homing_client.health(), bool)
    assert_type(homing_client.wait_until_ready(), homing.Ready)
    assert_type(homing_client.totals.cached_share, float | None)


def test_mistakes_are_found(homing_client: Client) -> None:
    """An unused ignore comment fails `make check`, so each of these must be an error."""
    completions = homing_client.chat.completions
    calls: list[Callable[[], object]] = [
        lambda: completions.create(messages=[{"role": "user"}]),  # type: ignore[list-item]
        lambda: completions.create(messages=HELLO, temprature=1),  # type: ignore[call-overload]
        lambda: completions.stream(messages=HELLO, temprature=1),  # type: ignore[call-arg]
        lambda: completions.stream(messages=HELLO, timeout="soon"),  # type: ignore[arg-type]
        lambda: completions.parse(messages=HELLO, response_format=dict),  # type: ignore[type-var]
        lambda: completions.parse(messages=HELLO, response_format=City, top_k="5"),  # type: ignore[arg-type]
        lambda: completions.with_raw_response.create(messages=HELLO, top_k="5"),  # type: ignore[arg-type]
        lambda: homing_client.with_options(base_url="http://other"),  # type: ignore[call-arg]
        lambda: homing_client.with_options(max_retries="many"),  # type: ignore[arg-type]
        lambda: homing_client.conversation(on_busy="sometimes"),  # type: ignore[arg-type]
    ]
    for call in calls:
        with contextlib.suppress(homing.HomingError, TypeError):
            call()
