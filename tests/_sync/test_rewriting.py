# Generated from tests/_async/test_rewriting.py by scripts/unasync.py: edit that file, not this one.
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

pytestmark = [pytest.mark.usefixtures("settled")]


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def chat(homing_client: homing.Client, store: MemoryStore) -> homing.Conversation:
    """Three turns, saved."""
    chat = homing_client.conversation("trip", system="Be brief, but not so brief that nothing fits.", store=store)
    for content in ("One.", "Two.", "Three."):
        chat.send(content)
    return chat


def said(chat: homing.Conversation) -> list[str]:
    return [turn.messages[0]["content"] for turn in chat.turns]


def stored(store: MemoryStore) -> list[Any]:
    found = store.load("trip")
    assert found is not None
    return [turn["messages"][0]["content"] for turn in found.turns]


def test_edit_replaces_a_turn_and_all_that_followed(
    chat: homing.Conversation, edge: Edge, store: MemoryStore
) -> None:
    first = chat.turns[0]
    reply = chat.edit(1, "Two, but different.")
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
    assert (chat.send("Four.")).telemetry.verdict == "warm"


def test_edit_takes_a_number_or_the_turn(chat: homing.Conversation, store: MemoryStore) -> None:
    chat.edit(chat.turns[2], "3")
    chat.edit(-2, "2")
    chat.edit(0, [{"type": "text", "text": "1"}])
    assert stored(store) == [[{"type": "text", "text": "1"}]]
    for turn in (1, -2, "0", True):
        with pytest.raises(homing.ConfigurationError, match="turn"):
            chat.edit(turn, "No such turn.")  # type: ignore[arg-type]
    assert len(chat.turns) == 1


def test_what_fails_leaves_all_of_it(chat: homing.Conversation, edge: Edge, store: MemoryStore) -> None:
    before = chat.history
    actions: list[Callable[[], Any]] = [chat.regenerate, lambda: chat.edit(0, "Else.")]
    for action in actions:
        edge.inject(Fault.answer(422, "no"))
        with pytest.raises(homing.UnprocessableEntityError):
            action()
        assert chat.history == before
        assert stored(store) == ["One.", "Two.", "Three."]


def test_regenerate_asks_the_same_again(chat: homing.Conversation, edge: Edge, store: MemoryStore) -> None:
    edge.answer_next("another")
    reply = chat.regenerate(temperature=1)
    assert (reply.text, chat.history[-1]["content"]) == ("another", "another")
    assert said(chat) == stored(store) == ["One.", "Two.", "Three."]
    before, after = requests_of(edge, chat)[-2:]
    assert before.request is not None
    assert after.request is not None
    assert before.request["messages"] == after.request["messages"]
    assert reply.telemetry.verdict == "warm"
    assert reply.telemetry.reusable_tokens == reply.telemetry.prompt_tokens


def test_streamed_forms(chat: homing.Conversation, edge: Edge, store: MemoryStore) -> None:
    edge.answer_next("again")
    assert "".join([piece for piece in chat.stream_regenerate().text]) == "again"
    assert chat.history[-1]["content"] == "again"
    edge.inject(Fault.hang(after_chunks=4))
    with chat.stream_edit(1, "Two, but different.") as stream:
        for _ in stream.text:
            break
    # Stopped by its reader: what had come stands in place of what was.
    assert said(chat) == stored(store) == ["One.", "Two, but different."]
    assert chat.turns[-1].interrupted
    assert chat.history[-1]["content"] == (stream.reply()).text


def test_a_stream_that_was_never_read_changes_nothing(chat: homing.Conversation) -> None:
    with chat.stream_edit(0, "Never sent."), chat.stream_regenerate():
        pass
    assert said(chat) == ["One.", "Two.", "Three."]


def test_regenerate_keeps_what_tools_have_answered(
    homing_client: homing.Client, edge: Edge, store: MemoryStore
) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "Ask."},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "42"},
        {"role": "assistant", "content": "It is 42."},
    ]
    store.commit("trip", expected_version=0, header={"format": 1}, turns=[{"messages": messages}])
    chat = homing_client.conversation("trip", store=store)
    chat.regenerate()
    sent = edge.log[-1].request
    assert sent is not None
    assert sent["messages"] == messages[:3]
    assert list(chat.turns[0].messages[:3]) == messages[:3]


def test_what_an_interrupted_turn_left_is_not_sent_again(
    homing_client: homing.Client, edge: Edge, store: MemoryStore
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
    chat = homing_client.load_conversation("trip", store=store)
    chat.send("Four.")
    sent = edge.log[-1].request
    assert sent is not None
    assert sent["messages"] == [{"role": "user", "content": content} for content in ("One.", "Two.", "Three.", "Four.")]
    assert chat.turns[0].messages[1]["tool_calls"] == [call]  # the history keeps it


@pytest.mark.edge(replicas=1)
def test_a_stream_stopped_in_a_tool_call(homing_client: homing.Client, edge: Edge) -> None:
    # halogen-flash#96, ANOLISA#2209: half a call is never executed, and never replayed
    edge.answer_next(Answer(text="", tool_calls=[ToolCall("f", {"city": "Málaga " * 9})]))
    edge.inject(Fault.hang(after_chunks=4))
    tools: list[Any] = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    chat = homing_client.conversation()
    with chat.stream("Call it.", tools=tools) as stream:
        for event in stream:
            if event.type == "tool_calls.function.arguments.delta":
                break
    assert not (stream.reply()).tool_calls
    chat.send("Go on.")
    sent = edge.log[-1].request
    assert sent is not None
    assert [message["role"] for message in sent["messages"]] == ["user", "user"]


def test_undo(chat: homing.Conversation, edge: Edge, store: MemoryStore) -> None:
    turns = chat.turns
    assert chat.undo() == turns[2:]
    assert said(chat) == stored(store) == ["One.", "Two."]
    assert (chat.send("Three, again.")).telemetry.verdict == "warm"
    turns = chat.turns
    assert chat.undo(3) == turns
    assert chat.history == [{"role": "system", "content": chat.system}]
    assert stored(store) == []
    for n in (0, 1, -1, True):
        with pytest.raises(homing.ConfigurationError, match="undo"):
            chat.undo(n)


def test_undo_works_without_a_store(homing_client: homing.Client) -> None:
    chat = homing_client.conversation()
    chat.send("One.")
    (undone,) = chat.undo()
    assert undone.messages[0]["content"] == "One."
    assert chat.history == []
    with pytest.raises(homing.ConfigurationError, match="no turns yet"):
        chat.regenerate()


def test_queued_changes_apply_to_what_they_find(
    homing_client: homing.Client, edge: Edge, store: MemoryStore
) -> None:
    chat = homing_client.conversation("trip", store=store)
    for content in ("One.", "Two.", "Three."):
        chat.send(content)
    gather(*[chat.send for _ in range(3)], *[asked(chat.undo) for _ in range(3)])
    # Whatever the order was: three came, three went, and both sides agree.
    assert len(chat.turns) == 3
    assert stored(store) == said(chat)


def asked(undo: Any) -> Any:
    def wake() -> None:
        undo()

    return wake


def test_stop_and_undo_with_cancel(homing_client: homing.Client, edge: Edge) -> None:
    chat = homing_client.conversation(on_busy="cancel")
    chat.send("One.")
    edge.inject(Fault.hang(after_chunks=4))
    stream = chat.stream("Two.")
    stream.__next__()
    (undone,) = chat.undo()
    assert undone.interrupted
    assert said(chat) == ["One."]
    # What had come with the first item is still handed out, and that is all.
    assert "finished" not in [event.type for event in stream]
