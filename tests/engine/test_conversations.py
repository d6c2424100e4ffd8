"""Conversations come home on real SGLang, counted to the token; sync, asyncio and trio."""

from __future__ import annotations

from typing import Any

import pytest

from homing import AsyncClient, Client
from homing.testing import assert_one_replica
from homing_server.local import Edge

from .conftest import PLAIN

QUESTIONS = ("Where do pigeons live?", "And in winter?", "Why do they come home?", "Always?")


def test_every_later_turn_finds_all_that_was_said_before(client: Client, edge: Edge) -> None:
    chat = client.conversation(system="You are a guide for people who keep pigeons.", **PLAIN)
    before = None
    for question in QUESTIONS:
        reply = chat.send(question, max_tokens=16)
        told = reply.telemetry
        assert reply.text
        assert told.prompt_tokens is not None
        if before is not None:
            # Of the last reply's tokens only the very last has no KV yet.
            assert told.cached_tokens == before - 1
            assert told.verdict == "warm"
        before = told.prompt_tokens + (told.completion_tokens or 0)
    assert chat.turns[0].telemetry.verdict == "first"
    assert_one_replica(edge, chat)


@pytest.mark.anyio
async def test_async_conversations_stream_home(async_client: AsyncClient, edge: Edge) -> None:
    chat = async_client.conversation(system="You are terse.", **PLAIN)
    for question in QUESTIONS[:3]:
        async with chat.stream(question, max_tokens=12) as stream:
            pieces = [text async for text in stream.text]
            reply = await stream.reply()
        assert "".join(pieces) == reply.text
        assert reply.finish_reason == "length"
        assert reply.telemetry.completion_tokens == 12
        assert reply.telemetry.replica in edge.ready
    assert [turn.telemetry.verdict for turn in chat.turns] == ["first", "warm", "warm"]
    assert len({turn.telemetry.replica for turn in chat.turns}) == 1


def test_a_new_key_moves_and_the_telemetry_says_so(client: Client, edge: Edge) -> None:
    chat = client.conversation(system="You are a lighthouse keeper with a long memory.", **PLAIN)
    told = chat.send("Who goes there?", max_tokens=8).telemetry
    home = told.replica
    for _ in range(64):  # until a key belongs to the other replica
        chat.rekey()
        told = chat.send("And now?", max_tokens=4).telemetry
        if told.replica != home:
            break
    assert told.verdict == "moved"
    assert told.cached_tokens is not None
    assert told.cached_tokens < (told.reusable_tokens or 0)


def test_forks_share_what_was_said(client: Client) -> None:
    chat = client.conversation(system="You draw maps, and remember every coast that you drew.", **PLAIN)
    first = chat.send("Draw an island.", max_tokens=16).telemetry
    assert first.prompt_tokens is not None
    for fork, more in zip(chat.fork(2), ("Add a harbour.", "Put up a lighthouse."), strict=True):
        told = fork.send(more, max_tokens=4).telemetry
        # The second also finds how the first one's turn begins.
        assert first.prompt_tokens + 16 - 1 <= (told.cached_tokens or 0) < first.prompt_tokens + 16 + 12
        assert told.replica == first.replica


def test_a_streamed_reply_is_the_whole_one(client: Client) -> None:
    messages: list[Any] = [{"role": "user", "content": "Say it twice."}]
    whole = client.chat.completions.create(messages=messages, max_tokens=20, **PLAIN)
    with client.chat.completions.create(messages=messages, max_tokens=20, stream=True, **PLAIN) as chunks:
        streamed = "".join(
            choice.delta.content or "" for chunk in chunks for choice in chunk.choices if choice.delta.content
        )
    assert streamed == whole.choices[0].message.content
