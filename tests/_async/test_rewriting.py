"""Edit, undo, regenerate: each a transaction, in memory and in the store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import homing
from homing.stores import MemoryStore
from homing.testing import Fault, assert_one_replica, requests_of
from homing_server.local import Answer, Edge, ToolCall

from .tasks import gather

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("settled")]


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
async def chat(async_homing_client: homing.AsyncClient, store: MemoryStore) -> homing.AsyncConversation:
    """Three turns, saved."""
    chat = async_homing_client.conversation("trip", system="Be brief, but not so brief that nothing fits.", store=store)
    for content in ("One.", "Two.", "Three."):
        await chat.send(content)
    return chat


def said(chat: homing.AsyncConversation) -> list[str]:
    return [turn.messages[0]["content"] for turn in chat.turns]


def stored(store: MemoryStore) -> list[Any]:
    found = store.load("trip")
    assert found is not None
    return [turn["messages"][0]["content"] for turn in found.turns]


async def test_edit_replaces_a_turn_and_all_that_followed(
    chat: homing.AsyncConversation, edge: Edge, store: MemoryStore
) -> None:
    first = chat.turns[0]
    reply = await chat.edit(1, "Two, but different.")
    assert said(chat) == stored(store) == ["One.", "Two, but different."]
    assert chat.turns[0] is first
    assert chat.history[-1]["content"] == reply.text
    sent = requests_of(edge, chat)[-1].request
    assert sent is not None
    assert [message["content"] for message in sent["messages"]][1:] == [
        "One.",
        first.messages[1]["content"],
        "Two, but different.",
    ]
    # It says why less was cached than a longer history would let one expect, and what was.
    assert reply.telemetry.verdict == "prefix_changed"
    assert reply.telemetry.reuse is not None
    assert reply.telemetry.reuse > 0.8
    assert_one_replica(edge, chat)
    assert (await chat.send("Four.")).telemetry.verdict == "warm"


async def test_edit_takes_a_number_or_the_turn(chat: homing.AsyncConversation, store: MemoryStore) -> None:
    await chat.edit(chat.turns[2], "3")
    await chat.edit(-2, "2")
    await chat.edit(0, [{"type": "text", "text": "1"}])
    assert stored(store) == [[{"type": "text", "text": "1"}]]
    for turn in (1, -2, "0", True):
        with pytest.raises(homing.ConfigurationError, match="turn"):
            await chat.edit(turn, "No such turn.")  # type: ignore[arg-type]
    assert len(chat.turns) == 1


async def test_what_fails_leaves_all_of_it(chat: homing.AsyncConversation, edge: Edge, store: MemoryStore) -> None:
    before = chat.history
    actions: list[Callable[[], Any]] = [chat.regenerate, lambda: chat.edit(0, "Else.")]
    for action in actions:
        edge.inject(Fault.answer(422, "no"))
        with pytest.raises(homing.UnprocessableEntityError):
            await action()
        assert chat.history == before
        assert stored(store) == ["One.", "Two.", "Three."]


async def test_regenerate_asks_the_same_again(chat: homing.AsyncConversation, edge: Edge, store: MemoryStore) -> None:
    edge.answer_next("another")
    reply = await chat.regenerate(temperature=1)
    assert (reply.text, chat.history[-1]["content"]) == ("another", "another")
    assert said(chat) == stored(store) == ["One.", "Two.", "Three."]
    before, after = requests_of(edge, chat)[-2:]
    assert before.request is not None
    assert after.request is not None
    assert before.request["messages"] == after.request["messages"]
    assert reply.telemetry.verdict == "warm"
    assert reply.telemetry.reusable_tokens == reply.telemetry.prompt_tokens


async def test_streamed_forms(chat: homing.AsyncConversation, edge: Edge, store: MemoryStore) -> None:
    edge.answer_next("again")
    assert "".join([piece async for piece in chat.stream_regenerate().text]) == "again"
    assert chat.history[-1]["content"] == "again"
    edge.inject(Fault.hang(after_chunks=4))
    async with chat.stream_edit(1, "Two, but different.") as stream:
        async for _ in stream.text:
            break
    # Stopped by its reader: what had come stands in place of what was.
    assert said(chat) == stored(store) == ["One.", "Two, but different."]
    assert chat.turns[-1].interrupted
    assert chat.history[-1]["content"] == (await stream.reply()).text


async def test_a_stream_that_was_never_read_changes_nothing(chat: homing.AsyncConversation) -> None:
    async with chat.stream_edit(0, "Never sent."), chat.stream_regenerate():
        pass
    assert said(chat) == ["One.", "Two.", "Three."]


async def test_regenerate_keeps_what_tools_have_answered(
    async_homing_client: homing.AsyncClient, edge: Edge, store: MemoryStore
) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "Ask."},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "42"},
        {"role": "assistant", "content": "It is 42."},
    ]
    store.commit("trip", expected_version=0, header={"format": 1}, turns=[{"messages": messages}])
    chat = async_homing_client.conversation("trip", store=store)
    await chat.regenerate()
    sent = edge.log[-1].request
    assert sent is not None
    assert sent["messages"] == messages[:3]
    assert list(chat.turns[0].messages[:3]) == messages[:3]


async def test_what_an_interrupted_turn_left_is_not_sent_again(
    async_homing_client: homing.AsyncClient, edge: Edge, store: MemoryStore
) -> None:
    # vercel/ai#10638
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    broken = [
        [{"role": "user", "content": "One."}, {"role": "assistant", "content": "", "tool_calls": [call]}],
        [{"role": "user", "content": "Two."}, {"role": "tool", "tool_call_id": "lost", "content": "42"}],
        [{"role": "user", "content": "Three."}, {"role": "assistant", "content": ""}],
    ]
    turns: list[dict[str, Any]] = [{"messages": said, "finish_reason": "interrupted"} for said in broken]
    store.commit("trip", expected_version=0, header={"format": 1}, turns=turns)
    chat = await async_homing_client.load_conversation("trip", store=store)
    await chat.send("Four.")
    sent = edge.log[-1].request
    assert sent is not None
    assert sent["messages"] == [{"role": "user", "content": content} for content in ("One.", "Two.", "Three.", "Four.")]
    assert chat.turns[0].messages[1]["tool_calls"] == [call]  # the history keeps it


@pytest.mark.edge(replicas=1)
async def test_a_stream_stopped_in_a_tool_call(async_homing_client: homing.AsyncClient, edge: Edge) -> None:
    # halogen-flash#96, ANOLISA#2209: half a call is never executed, and never replayed
    edge.answer_next(Answer(text="", tool_calls=[ToolCall("f", {"city": "Málaga " * 9})]))
    edge.inject(Fault.hang(after_chunks=4))
    tools: list[Any] = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    chat = async_homing_client.conversation()
    async with chat.stream("Call it.", tools=tools) as stream:
        async for event in stream:
            if event.type == "tool_calls.function.arguments.delta":
                break
    assert not (await stream.reply()).tool_calls
    await chat.send("Go on.")
    sent = edge.log[-1].request
    assert sent is not None
    assert [message["role"] for message in sent["messages"]] == ["user", "user"]


async def test_undo(chat: homing.AsyncConversation, edge: Edge, store: MemoryStore) -> None:
    turns = chat.turns
    assert await chat.undo() == turns[2:]
    assert said(chat) == stored(store) == ["One.", "Two."]
    assert (await chat.send("Three, again.")).telemetry.verdict == "warm"
    turns = chat.turns
    assert await chat.undo(3) == turns
    assert chat.history == [{"role": "system", "content": chat.system}]
    assert stored(store) == []
    for n in (0, 1, -1, True):
        with pytest.raises(homing.ConfigurationError, match="undo"):
            await chat.undo(n)


async def test_undo_works_without_a_store(async_homing_client: homing.AsyncClient) -> None:
    chat = async_homing_client.conversation()
    await chat.send("One.")
    (undone,) = await chat.undo()
    assert undone.messages[0]["content"] == "One."
    assert chat.history == []
    with pytest.raises(homing.ConfigurationError, match="no turns yet"):
        await chat.regenerate()


async def test_queued_changes_apply_to_what_they_find(
    async_homing_client: homing.AsyncClient, edge: Edge, store: MemoryStore
) -> None:
    chat = async_homing_client.conversation("trip", store=store)
    for content in ("One.", "Two.", "Three."):
        await chat.send(content)
    await gather(*[chat.send for _ in range(3)], *[asked(chat.undo) for _ in range(3)])
    # Whatever the order was: three came, three went, and both sides agree.
    assert len(chat.turns) == 3
    assert stored(store) == said(chat)


def asked(undo: Any) -> Any:
    async def wake() -> None:
        await undo()

    return wake


async def test_stop_and_undo_with_cancel(async_homing_client: homing.AsyncClient, edge: Edge) -> None:
    chat = async_homing_client.conversation(on_busy="cancel")
    await chat.send("One.")
    edge.inject(Fault.hang(after_chunks=4))
    stream = chat.stream("Two.")
    await stream.__anext__()
    (undone,) = await chat.undo()
    assert undone.interrupted
    assert said(chat) == ["One."]
    # What had come with the first item is still handed out, and that is all.
    assert "finished" not in [event.type async for event in stream]
