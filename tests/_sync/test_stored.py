# Generated from tests/_async/test_stored.py by scripts/unasync.py: edit that file, not this one.
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import homing
from homing.stores import MemoryStore, SQLiteStore, Store
from homing.testing import Fault, assert_one_replica, requests_of
from homing_server.local import Edge

from .faulty_store import FaultyStore
from .tasks import gather

pytestmark = [pytest.mark.usefixtures("settled")]


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore()


def said(store: Store, name: str = "trip") -> list[str]:
    """What the store holds."""
    found = store.load(name)
    assert found is not None
    return [message["content"] for turn in found.turns for message in turn["messages"] if message["role"] == "user"]


def test_a_turn_is_saved_before_its_reply_is_returned(
    homing_client: homing.Client, store: FaultyStore
) -> None:
    chat = homing_client.conversation("trip", system="S", temperature=0, store=store)
    reply = chat.send("One.")
    found = store.load("trip")
    assert found is not None
    assert found.turns[0]["messages"] == [{"role": "user", "content": "One."}, reply.message]
    assert found.header["affinity_key"] == chat.affinity_key
    assert (found.header["system"], found.header["defaults"]) == ("S", {"temperature": 0})
    chat.send("Two.")
    assert said(store) == ["One.", "Two."]
    assert store.commits == 2


def test_a_turn_is_saved_before_its_streams_last_event(
    homing_client: homing.Client, store: FaultyStore
) -> None:
    chat = homing_client.conversation("trip", store=store)
    with chat.stream("One.") as stream:
        for event in stream:
            if event.type == "finished":
                assert said(store) == ["One."]
                assert len(chat.turns) == 1
    text = "".join([piece for piece in chat.stream("Two.").text])
    assert said(store) == ["One.", "Two."]
    assert chat.history[-1]["content"] == text


def test_a_conversation_continues_in_another_process(
    homing_client: homing.Client, edge: Edge, tmp_path: Path
) -> None:
    # agent-sh#245, hermes-agent#71708: the key must survive a restart
    with SQLiteStore(tmp_path / "chats.db") as store:
        chat = homing_client.conversation("trip", system="S", model="m", top_k=3, store=store)
        first = chat.send("One.")
    with SQLiteStore(tmp_path / "chats.db") as store:
        with homing.Client(edge.url) as client:
            again = client.conversation("trip", system="another", store=store)
            second = again.send("Two.")
            assert again.system == "S"  # what was said stands
            assert again.history[:3] == chat.history
    assert again.affinity_key == chat.affinity_key
    assert (first.telemetry.verdict, second.telemetry.verdict) == ("first", "warm")
    assert_one_replica(edge, again)
    sent = requests_of(edge, again)[-1].request
    assert sent is not None
    assert (sent["model"], sent["top_k"], sent["messages"][0]["content"]) == ("m", 3, "S")


def test_what_the_program_says_today_goes_before_what_was_saved(
    homing_client: homing.Client, edge: Edge, store: FaultyStore
) -> None:
    chat = homing_client.conversation("trip", model="old", top_k=3, min_p=0.1, store=store)
    chat.send("One.")
    again = homing_client.conversation(
        "trip", model="new", top_k=5, affinity_key="mine", metadata={"title": "T"}, store=store
    )
    again.send("Two.")
    sent = edge.log[-1].request
    assert sent is not None
    assert (sent["model"], sent["top_k"], sent["min_p"]) == ("new", 5, 0.1)
    found = store.load("trip")
    assert found is not None
    header = found.header
    assert (header["model"], header["defaults"]) == ("new", {"top_k": 5, "min_p": 0.1})
    assert (header["affinity_key"], header["metadata"]) == ("mine", {"title": "T"})


def test_load_conversation(homing_client: homing.Client, store: FaultyStore) -> None:
    with pytest.raises(homing.ConversationNotFound, match="'trip'"):
        homing_client.load_conversation("trip", store=store)
    chat = homing_client.conversation("trip", system="S", metadata={"title": "T"}, store=store)
    with pytest.raises(homing.ConfigurationError, match="not been read"):
        _ = chat.history  # an empty list would be a lie
    assert "not loaded" in repr(chat)
    chat.save()
    chat.send("One.")
    again = homing_client.load_conversation("trip", store=store)
    assert (again.history, again.metadata, again.turns) == (chat.history, {"title": "T"}, chat.turns)
    assert repr(again) == repr(chat)
    again.send("Two.")
    assert said(store) == ["One.", "Two."]


def test_a_conversation_without_an_id_is_a_new_one(
    homing_client: homing.Client, store: FaultyStore
) -> None:
    chat = homing_client.conversation(store=store)
    assert chat.history == []
    chat.send("One.")
    assert said(store, chat.id) == ["One."]


def test_metadata_and_keys_are_saved_with_the_next_turn_or_by_save(
    homing_client: homing.Client, store: FaultyStore
) -> None:
    chat = homing_client.conversation("trip", store=store)
    chat.send("One.")
    chat.metadata["title"] = (chat.aside("A title, please.")).text
    chat.save()
    chat.save()  # nothing is owed
    assert store.commits == 2
    page = store.list()
    assert page.items[0].header["metadata"] == chat.metadata
    key = chat.rekey()
    chat.send("Two.")
    found = store.load("trip")
    assert found is not None
    assert found.header["affinity_key"] == key
    assert len(found.turns) == 2


def test_a_failed_turn_leaves_the_store_as_it_was(
    homing_client: homing.Client, edge: Edge, store: FaultyStore
) -> None:
    chat = homing_client.conversation("trip", store=store)
    chat.send("One.")
    before = store.load("trip")
    edge.inject(Fault.answer(400, "no"))
    with pytest.raises(homing.BadRequestError):
        chat.send("Two.")
    assert store.load("trip") == before
    chat.send("Two.")
    assert said(store) == ["One.", "Two."]


def test_a_stopped_turn_is_saved_too(
    homing_client: homing.Client, edge: Edge, store: FaultyStore
) -> None:
    # vercel/eve#953, mastra#17510
    edge.inject(Fault.hang(after_chunks=4))
    chat = homing_client.conversation("trip", store=store)
    with chat.stream("Tell me.") as stream:
        for _ in stream.text:
            break
    found = store.load("trip")
    assert found is not None
    assert found.turns[0]["finish_reason"] == "interrupted"
    assert found.turns[0]["messages"] == [{"role": "user", "content": "Tell me."}, (stream.reply()).message]
    again = homing_client.load_conversation("trip", store=store)
    assert again.turns[0].interrupted


def test_somebody_else_has_moved_on(homing_client: homing.Client, edge: Edge) -> None:
    # effect-gates#64, teachanything#465, praxis ai#662
    store = FaultyStore()
    chat = homing_client.conversation("trip", store=store)
    chat.send("One.")
    with homing.Client(edge.url) as elsewhere:  # as another process would
        (elsewhere.load_conversation("trip", store=store)).send("Theirs.")
    before = chat.history
    with pytest.raises(homing.VersionConflict, match="moved on") as caught:
        chat.send("Mine.")
    assert caught.value.reply is not None
    assert caught.value.reply.text  # it was paid for, and somebody may have read it
    assert chat.history == before
    assert said(store) == ["One.", "Theirs."]
    chat.reload()
    chat.send("Mine.")
    assert said(store) == ["One.", "Theirs.", "Mine."]


def test_a_stream_that_meets_a_conflict_shows_its_text_first(
    homing_client: homing.Client, edge: Edge
) -> None:
    store = FaultyStore()
    chat = homing_client.conversation("trip", store=store)
    chat.send("One.")
    with homing.Client(edge.url) as elsewhere:
        (elsewhere.load_conversation("trip", store=store)).send("Theirs.")
    seen: list[str] = []
    with pytest.raises(homing.VersionConflict) as caught:
        for piece in chat.stream("Mine.").text:
            seen.append(piece)  # noqa: PERF401
    assert caught.value.reply is not None
    assert "".join(seen) == caught.value.reply.text
    kinds: list[str] = []
    with pytest.raises(homing.VersionConflict):
        with chat.stream("Mine.") as stream:
            for event in stream:
                kinds.append(event.type)  # noqa: PERF401
    assert "content.delta" in kinds
    assert "finished" not in kinds


def test_a_deleted_conversation_is_not_revived(homing_client: homing.Client) -> None:
    store = FaultyStore()
    chat = homing_client.conversation("trip", store=store)
    chat.send("One.")
    store.delete("trip")
    with pytest.raises(homing.VersionConflict, match="deleted"):
        chat.send("Two.")
    with pytest.raises(homing.ConversationNotFound):
        chat.reload()
    assert len(chat.turns) == 1  # and not taken from whoever still has it
    fork = chat.fork()
    fork.send("Two.")
    assert said(store, fork.id) == ["One.", "Two."]
    fresh = homing_client.conversation("trip", store=store)
    fresh.send("Anew.")
    assert said(store) == ["Anew."]


def test_a_store_that_is_down_costs_no_reply(homing_client: homing.Client, store: FaultyStore) -> None:
    chat = homing_client.conversation("trip", store=store)
    chat.send("One.")
    store.down = True
    with pytest.raises(homing.StoreError, match=r"store is down.*save\(\) tries again") as caught:
        chat.send("Two.")
    assert caught.value.reply is not None
    assert chat.history[-1]["content"] == caught.value.reply.text
    with pytest.raises(homing.StoreError, match="store is down"):
        chat.save()
    store.down = False
    assert said(store) == ["One."]
    chat.save()
    assert said(store) == ["One.", "Two."]
    assert store.commits == 2


def test_the_next_turn_makes_up_for_a_failed_save(
    homing_client: homing.Client, store: FaultyStore
) -> None:
    chat = homing_client.conversation("trip", store=store)
    store.broken = True
    with pytest.raises(homing.StoreError, match="OSError"):
        chat.send("Never read, so never begun.")
    store.broken = False
    chat.send("One.")
    store.broken = True
    with pytest.raises(homing.StoreError, match="OSError") as caught:
        chat.send("Two.")
    assert isinstance(caught.value.__cause__, homing.StoreError)
    store.broken = False
    chat.send("Three.")
    assert said(store) == ["One.", "Two.", "Three."]


def test_a_save_whose_answer_was_lost_is_not_made_twice(
    homing_client: homing.Client, store: FaultyStore
) -> None:
    chat = homing_client.conversation("trip", store=store)
    for content in ("One.", "Two."):
        store.forgetful = True
        with pytest.raises(homing.StoreError):
            chat.send(content)
        store.forgetful = False
        chat.save()
    store.forgetful = True
    with pytest.raises(homing.StoreError):
        chat.send("Three.")
    store.forgetful = False
    chat.send("Four.")
    assert said(store) == ["One.", "Two.", "Three.", "Four."]
    assert len(chat.turns) == 4


def test_a_stopped_turn_and_a_store_that_is_down(
    homing_client: homing.Client, edge: Edge, store: FaultyStore, caplog: pytest.LogCaptureFixture
) -> None:
    chat = homing_client.conversation("trip", store=store)
    chat.save()
    edge.inject(Fault.hang(after_chunks=4))
    stream = chat.stream("One.")
    with pytest.raises(homing.StoreError):
        with stream:
            stream.__next__()
            store.down = True
    edge.inject(Fault.hang(after_chunks=4))
    store.down = False
    stream = chat.stream("Two.")
    with pytest.raises(KeyError, match="mine"):  # the caller's own error goes first
        with stream:
            stream.__next__()
            store.down = True
            raise KeyError("mine")
    assert "could not be saved" in caplog.text
    store.down = False
    chat.save()
    assert said(store) == ["One.", "Two."]


def test_two_objects_for_one_conversation_wait_for_each_other(
    homing_client: homing.Client, store: FaultyStore
) -> None:
    # notebooklm-py#616: a web program makes an object for each request
    def request(content: str) -> homing.Reply:
        return homing_client.conversation("trip", store=store).send(content)

    gather(*[request for _ in range(6)])
    assert said(store) == ["Hello"] * 6
    found = store.load("trip")
    assert found is not None
    roles = [message["role"] for turn in found.turns for message in turn["messages"]]
    assert roles == ["user", "assistant"] * 6


def test_an_object_left_behind_catches_up_with_a_plain_turn_only(
    homing_client: homing.Client, store: FaultyStore
) -> None:
    one = homing_client.conversation("trip", store=store)
    one.send("One.")
    other = homing_client.conversation("trip", store=store)
    other.send("Two.")
    replies = homing_client.totals.replies
    for action in (one.regenerate, one.undo, one.save):
        # Each was meant for the state that this object shows.
        with pytest.raises(homing.VersionConflict, match="reload"):
            action()
    assert homing_client.totals.replies == replies  # refused before anything was generated
    one.send("Three.")
    assert [turn.messages[0]["content"] for turn in one.turns] == ["One.", "Two.", "Three."]
    assert said(store) == ["One.", "Two.", "Three."]


def test_busy_holds_across_objects(
    homing_client: homing.Client, edge: Edge, store: FaultyStore
) -> None:
    # alkemio#1976
    edge.inject(Fault.hang(after_chunks=4))
    one = homing_client.conversation("trip", store=store)
    stream = one.stream("One.")
    stream.__next__()
    refused = homing_client.conversation("trip", on_busy="raise", store=store)
    with pytest.raises(homing.ConversationBusy, match="still running"):
        refused.send("Two.")
    cancelling = homing_client.conversation("trip", on_busy="cancel", store=store)
    cancelling.send("Three.")
    assert (stream.reply()).interrupted
    assert said(store) == ["One.", "Three."]
    assert [turn.interrupted for turn in cancelling.turns] == [True, False]


def test_forks_are_saved_under_their_own_ids(homing_client: homing.Client, store: FaultyStore) -> None:
    chat = homing_client.conversation("trip", system="S", metadata={"title": "T"}, store=store)
    chat.send("One.")
    left, right = chat.fork(2)
    left.send("Left.")
    right.save()
    assert said(store, left.id) == ["One.", "Left."]
    assert said(store, right.id) == ["One."]
    assert said(store) == ["One."]
    again = homing_client.load_conversation(left.id, store=store)
    assert (again.system, again.metadata, again.affinity_key) == ("S", {"title": "T"}, chat.affinity_key)


def test_a_dictionary_moves_into_a_store(
    homing_client: homing.Client, edge: Edge, store: FaultyStore
) -> None:
    chat = homing_client.conversation("trip", system="S", timeout=30, metadata={"title": "T"})
    chat.send("One.")
    saved = json.loads(json.dumps(chat.to_dict()))
    moved = homing.Conversation.from_dict(homing_client, {**saved, "novelty": 1}, store=store)
    moved.save()
    found = store.load("trip")
    assert found is not None
    assert found.header["novelty"] == 1  # of a later version: carried along
    assert found.header["metadata"] == {"title": "T"}
    with homing.Client(edge.url) as elsewhere:
        again = homing.Conversation.from_dict(elsewhere, saved, store=store)
        with pytest.raises(homing.VersionConflict, match="exists already"):
            again.save()


def test_a_header_from_before_there_was_a_format(
    homing_client: homing.Client, store: FaultyStore
) -> None:
    messages = [{"role": "user", "content": "One."}, {"role": "assistant", "content": "1"}]
    store.commit("trip", expected_version=0, header={"title": "T"}, turns=[{"messages": messages}])
    chat = homing_client.conversation("trip", store=store)
    chat.send("Two.")
    found = store.load("trip")
    assert found is not None
    assert (found.header["format"], found.header["metadata"]) == (1, {"title": "T"})
    assert said(store) == ["One.", "Two."]


def test_what_a_newer_version_has_saved_is_refused_and_left_alone(
    homing_client: homing.Client, edge: Edge, store: FaultyStore
) -> None:
    store.commit("trip", expected_version=0, header={"format": 99}, turns=[{"odd": 1}])
    before = store.load("trip")
    chat = homing_client.conversation("trip", store=store)
    for _ in range(2):
        with pytest.raises(homing.ConfigurationError, match="upgrade Homing"):
            chat.send("Two.")
    with pytest.raises(homing.ConfigurationError, match="upgrade Homing"):
        homing_client.load_conversation("trip", store=store)
    assert store.load("trip") == before
    assert not edge.log


class Weather(BaseModel):
    city: str


def test_parsed_turns_are_saved_and_asides_are_not(
    homing_client: homing.Client, edge: Edge, store: FaultyStore
) -> None:
    chat = homing_client.conversation("trip", store=store)
    edge.answer_next('{"city": "Málaga"}')
    chat.parse("Where?", Weather)
    chat.aside("A title, please.")
    assert said(store) == ["Where?"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"id": "two words", "store": MemoryStore()}, "conversation_id"),
        ({"id": "trip", "store": object()}, "no store"),
        ({"id": "trip", "trim": 24_000}, "trim must be a Trim"),
    ],
)
def test_what_cannot_be_is_refused_at_once(
    homing_client: homing.Client, arguments: dict[str, Any], words: str
) -> None:
    with pytest.raises(homing.ConfigurationError, match=words):
        homing_client.conversation(**arguments)


def test_without_a_store_there_is_nothing_to_save(homing_client: homing.Client) -> None:
    chat = homing_client.conversation()
    for action in (chat.save, chat.reload):
        with pytest.raises(homing.ConfigurationError, match="has no store"):
            action()
