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
from homing.stores import MemoryStore, as_async
from homing.types import (
    ChatCompletion,
    ChatCompletionChunk,
    ChatCompletionMessageParam,
    ChatCompletionMessageToolCall,
    ChatCompletionToolParam,
    CompletionUsage,
    Model,
    ModelList,
    ParsedChatCompletion,
    StreamEvent,
    TurnParams,
)

HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hello"}]
CLOCK: ChatCompletionToolParam = {"type": "function", "function": {"name": "get_time"}}


def tell_time(zone: str = "UTC") -> str:
    return f"14:05 {zone}"


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
    assert_type(chat.edit(0, "Hello!"), homing.Reply[None])
    assert_type(chat.regenerate(), homing.Reply[None])
    with assert_type(chat.stream_regenerate(), ReplyStream[None]) as stream:
        assert_type(stream.reply(), homing.Reply[None])
    assert_type(chat.undo(), tuple[homing.Turn, ...])
    stored = homing_client.conversation("trip", store=MemoryStore(), trim=homing.Trim(high=1000), temperature=0)
    assert_type(stored.save(), None)
    with pytest.raises(homing.ConversationNotFound):
        assert_type(homing_client.load_conversation("trip", store=MemoryStore()), homing.Conversation)
    assert_type(chat.fork(), homing.Conversation)
    assert_type(chat.fork(2), list[homing.Conversation])


def test_a_turns_parameters_are_known(homing_client: Client) -> None:
    chat = homing_client.conversation(temperature=0, max_tokens=50, timeout=30.0, stop=["END"])
    turn: TurnParams = {"temperature": 0.5, "top_k": 5, "extra_headers": {"X-A": "1"}, "reasoning_effort": "low"}
    assert chat.send("Hello", **turn).telemetry.prompt_tokens
    assert_type(chat.send("Hello", tools=[CLOCK], tool_choice="none"), homing.Reply[None])
    assert_type(chat.send("A name", response_format={"type": "json_object"}), homing.Reply[None])
    with chat.stream("And?", seed=7, chat_template_kwargs={"enable_thinking": False}) as stream:
        assert_type(stream, ReplyStream[None])
    assert_type(chat.parse("Which city?", City, max_completion_tokens=200), homing.Reply[City])
    assert_type(chat.regenerate(temperature=1, model=None), homing.Reply[None])
    assert_type(chat.aside("A title", max_tokens=5, timeout=None), homing.Reply[None])


def test_runs(homing_client: Client) -> None:
    chat = homing_client.conversation(tools=[tell_time, homing.Tool(tell_time, name="clock")])
    reply = assert_type(chat.run("Hello", [tell_time, CLOCK]), homing.RunReply[None])
    assert_type(reply.text, str)
    assert_type(reply.rounds, tuple[homing.Reply[None], ...])
    assert_type(reply.pending, list[ChatCompletionMessageToolCall])
    assert_type(chat.pending_calls, list[ChatCompletionMessageToolCall])
    with assert_type(chat.run_stream("Hello", max_rounds=3, temperature=0), homing.RunStream) as run:
        for event in run:
            assert_type(event, StreamEvent)
            if event.type == "tool.started":
                assert_type(event.arguments, dict[str, Any])
        assert_type(run.reply(), homing.RunReply[None])
    for text in chat.run_stream("Hello", tool_timeout=None, tools_at_once=1, on_tool_error="raise").text:
        assert_type(text, str)
    with pytest.raises(homing.ConfigurationError):
        assert_type(chat.submit({"id": 1}), homing.RunReply[None])
    assert_type(chat.submit_stream([3]), homing.RunStream)


@pytest.mark.anyio
async def test_runs_async(async_homing_client: AsyncClient) -> None:
    chat = async_homing_client.conversation()
    assert_type(await chat.run("Hello", [tell_time]), homing.RunReply[None])
    async with assert_type(chat.run_stream("Hello", [tell_time]), homing.AsyncRunStream) as run:
        async for event in run:
            assert_type(event, StreamEvent)
        assert_type(await run.reply(), homing.RunReply[None])


@pytest.mark.anyio
async def test_a_turns_parameters_are_known_async(async_homing_client: AsyncClient) -> None:
    chat = async_homing_client.conversation(temperature=0)
    assert_type(await chat.send("Hello", top_p=0.9), homing.Reply[None])
    assert_type(await chat.aside("A title", max_tokens=5), homing.Reply[None])


@pytest.mark.anyio
async def test_conversations_async(async_homing_client: AsyncClient) -> None:
    chat = assert_type(async_homing_client.conversation(), homing.AsyncConversation)
    for store in (MemoryStore(), as_async(MemoryStore())):
        stored = async_homing_client.conversation("trip", store=store)
        assert_type(await stored.send("Hello"), homing.Reply[None])
        loaded = await async_homing_client.load_conversation("trip", store=store)
        assert_type(loaded, homing.AsyncConversation)
        assert_type(await loaded.undo(), tuple[homing.Turn, ...])
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
    chat = homing_client.conversation()
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
        lambda: homing_client.conversation(temprature=1),  # type: ignore[call-arg]
        lambda: chat.send("Hello", temprature=1),  # type: ignore[call-arg]
        lambda: chat.send("Hello", temperature="hot"),  # type: ignore[arg-type]
        lambda: chat.send("Hello", n=2),  # type: ignore[call-arg]
        lambda: chat.send("Hello", affinity_key="another"),  # type: ignore[call-arg]
        lambda: chat.stream("Hello", timeout="soon"),  # type: ignore[arg-type]
        lambda: chat.parse("Hello", City, temprature=1),  # type: ignore[call-arg]
        lambda: chat.parse("Hello", City, repair="once"),  # type: ignore[arg-type]
        lambda: chat.run("Hello", tols=[tell_time]),  # type: ignore[call-arg]
        lambda: chat.run("Hello", ["tell_time"]),  # type: ignore[list-item]
        lambda: chat.run("Hello", max_rounds="2"),  # type: ignore[arg-type]
        lambda: chat.run_stream("Hello", on_tool_error="skip"),  # type: ignore[arg-type]
        lambda: chat.submit(3),  # type: ignore[arg-type]
        lambda: chat.regenerate(top_k="5"),  # type: ignore[arg-type]
        lambda: chat.aside("Hello", max_token=5),  # type: ignore[call-arg]
    ]
    for call in calls:
        with contextlib.suppress(homing.HomingError, TypeError):
            call()
