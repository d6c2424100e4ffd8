# Generated from tests/_async/test_conversation.py by scripts/unasync.py: edit that file, not this one.
from __future__ import annotations

import json

import pytest
from pydantic import BaseModel

import homing
from homing.testing import Fault, assert_one_replica, replicas_of, requests_of
from homing_server.local import Answer, Edge

from .tasks import gather

pytestmark = [pytest.mark.usefixtures("settled")]


def test_turns_build_on_each_other_and_come_home(homing_client: homing.Client, edge: Edge) -> None:
    chat = homing_client.conversation(system="Be brief.")
    first = chat.send("Why do KV caches matter?")
    second = chat.send("And across replicas?")
    assert [message["role"] for message in chat.history] == ["system", "user", "assistant", "user", "assistant"]
    assert chat.history[2]["content"] == first.text
    assert first.telemetry.verdict == "first"
    assert second.telemetry.verdict == "warm"
    assert second.telemetry.replica == assert_one_replica(edge, chat)
    assert requests_of(edge, chat)[-1].request["messages"] == chat.history[:-1]  # type: ignore[index]


def test_cached_tokens_are_the_prompt_before_and_what_the_template_adds(
    homing_client: homing.Client,
) -> None:
    chat = homing_client.conversation(system="Be brief.")
    previous = (chat.send("One.")).telemetry
    for content in ("Two.", "Three.", "Four."):
        telemetry = (chat.send(content)).telemetry
        assert telemetry.cached_tokens is not None
        assert previous.prompt_tokens is not None
        assert previous.completion_tokens is not None
        # The prompt, the reply, and nothing of the new message: the template's opening of the reply
        # (an empty thinking block) is rendered anew for past turns.
        assert telemetry.cached_tokens >= previous.prompt_tokens - 8
        assert telemetry.cached_tokens <= previous.prompt_tokens + previous.completion_tokens + 8
        assert telemetry.reuse == pytest.approx(1.0, abs=0.25)
        previous = telemetry


def test_a_prompt_begins_byte_for_byte_like_the_one_before(homing_client: homing.Client) -> None:
    chat = homing_client.conversation(system="Ünïcode ✓")
    chat.send("Eins")
    before = chat._transcript.prompt()
    chat.send("Zwei")
    assert chat._transcript.prompt()[: len(before)] == before


def test_stream_events_and_text(homing_client: homing.Client) -> None:
    chat = homing_client.conversation()
    with chat.stream("Hello") as stream:
        events = [event for event in stream]
        reply = stream.reply()
    assert events[-1].type == "finished"
    assert "".join(event.delta for event in events if event.type == "content.delta") == reply.text
    text = "".join([piece for piece in chat.stream("More").text])
    assert chat.history[-1]["content"] == text


@pytest.mark.edge(thinking=True)
def test_reasoning_streams_and_stays_out_of_the_next_prompt(
    homing_client: homing.Client, edge: Edge
) -> None:
    # strands#2354
    chat = homing_client.conversation()
    with chat.stream("Think.") as stream:
        kinds = [event.type for event in stream]
        reply = stream.reply()
    assert "reasoning.delta" in kinds
    assert kinds.index("reasoning.delta") < kinds.index("content.delta")
    assert reply.reasoning
    chat.send("Next.")
    sent = requests_of(edge, chat)[-1].request
    assert sent is not None
    assert "reasoning_content" not in json.dumps(sent["messages"])


def test_a_failed_turn_leaves_history_as_it_was(homing_client: homing.Client, edge: Edge) -> None:
    chat = homing_client.conversation()
    chat.send("One.")
    before = chat.history
    edge.inject(Fault.answer(400, '{"error": {"message": "no such thing"}}', content_type="application/json"))
    with pytest.raises(homing.BadRequestError, match="no such thing"):
        chat.send("Two.")
    assert chat.history == before
    chat.send("Two.")
    assert len(chat.turns) == 2


def test_stopping_a_stream_keeps_what_was_read_and_what_was_asked(
    homing_client: homing.Client, edge: Edge
) -> None:
    # vercel/eve#953, tidebreak#1182
    edge.inject(Fault.hang(after_chunks=4))
    chat = homing_client.conversation()
    seen = ""
    with chat.stream("Tell me.") as stream:
        for piece in stream.text:
            seen += piece
            if len(seen) > 3:
                break
    reply = stream.reply()
    assert reply.interrupted
    assert reply.text.startswith(seen)
    assert chat.history[-1]["content"] == reply.text
    assert chat.turns[-1].interrupted
    edge.wait_for(lambda e: e.running == 0)
    chat.send("Go on.")
    assert len(chat.turns) == 2


def test_leaving_after_the_last_word_is_no_interruption(homing_client: homing.Client) -> None:
    chat = homing_client.conversation()
    with chat.stream("One.") as stream:
        while not stream._call.reader.accumulator.complete:
            stream.__next__()
    assert [turn.finish_reason for turn in chat.turns] == ["stop"]


def test_nothing_is_recorded_of_a_stream_that_never_began(homing_client: homing.Client) -> None:
    chat = homing_client.conversation()
    with chat.stream("Never sent."):
        pass
    assert chat.history == []
    chat.send("Sent.")
    assert len(chat.turns) == 1


def test_an_open_stream_does_not_deadlock_its_own_task(
    homing_client: homing.Client, edge: Edge
) -> None:
    edge.inject(Fault.hang(after_chunks=4))
    chat = homing_client.conversation()
    stream = chat.stream("One.")
    stream.__next__()
    with pytest.raises(homing.ConversationBusy, match="not been read to its end"):
        chat.send("Two.")
    stream.close()
    chat.send("Two.")
    assert [turn.interrupted for turn in chat.turns] == [True, False]


def test_busy_can_raise_or_cancel(homing_client: homing.Client, edge: Edge) -> None:
    # alkemio#1976
    edge.inject(Fault.hang(after_chunks=4))
    refusing = homing_client.conversation(on_busy="raise")
    stream = refusing.stream("One.")
    stream.__next__()
    with pytest.raises(homing.ConversationBusy):
        refusing.send("Two.")
    stream.close()

    edge.inject(Fault.hang(after_chunks=4))
    cancelling = homing_client.conversation(on_busy="cancel")
    stream = cancelling.stream("One.")
    stream.__next__()
    assert (cancelling.send("Two.")).text  # also the task that reads the first
    assert stream.cancelled
    assert [turn.interrupted for turn in cancelling.turns] == [True, False]


def test_fork_regenerate_aside_rekey(homing_client: homing.Client, edge: Edge) -> None:
    chat = homing_client.conversation(system="S")
    chat.send("One.")
    fork = chat.fork()
    assert (fork.affinity_key, fork.history) == (chat.affinity_key, chat.history)
    fork.send("Two.")
    assert len(chat.turns) == 1
    # gajae-code#3841
    keys = [one.affinity_key for one in chat.fork(6)]
    assert len({*keys}) == 3
    assert chat.fork(affinity="new").affinity_key != chat.affinity_key

    edge.answer_next("another")
    again = chat.regenerate()
    assert (again.text, len(chat.turns)) == ("another", 1)
    before = chat.history
    aside = chat.aside("A title, please.")
    assert aside.text
    assert chat.history == before
    assert len(set(replicas_of(edge, chat))) == 1
    assert chat.rekey() == chat.affinity_key != fork.affinity_key


def test_regenerate_during_a_turn_replaces_that_turn_and_no_other(
    homing_client: homing.Client, edge: Edge
) -> None:
    chat = homing_client.conversation(on_busy="cancel", model="m")
    chat.send("One.")
    edge.inject(Fault.hang(after_chunks=4))
    running = chat.stream("Two.")
    running.__next__()
    begun = requests_of(edge, chat)[-1].request

    def drain(_: str) -> None:
        for _event in running:
            pass

    def again(_: str) -> homing.Reply:
        return chat.regenerate()

    _, reply = gather(drain, again)
    assert running.cancelled
    asked = [message["content"] for message in chat.history if message["role"] == "user"]
    assert asked == ["One.", "Two."]
    assert chat.history[-1]["content"] == reply.text
    sent = requests_of(edge, chat)[-1].request
    assert begun is not None
    assert sent is not None
    assert sent["messages"] == begun["messages"]


def test_a_failed_regenerate_keeps_the_old_reply(homing_client: homing.Client, edge: Edge) -> None:
    chat = homing_client.conversation()
    chat.send("One.")
    before = chat.history
    edge.inject(Fault.answer(422, "no"))
    with pytest.raises(homing.UnprocessableEntityError):
        chat.regenerate()
    assert chat.history == before


def test_a_saved_conversation_goes_on_where_it_was(homing_client: homing.Client, edge: Edge) -> None:
    # agent-sh#245: the id must survive a restart
    chat = homing_client.conversation("trip", system="S", temperature=0)
    chat.send("One.")
    saved = json.loads(json.dumps(chat.to_dict()))
    again = homing.Conversation.from_dict(homing_client, saved)
    assert (again.id, again.history, again.affinity_key) == ("trip", chat.history, chat.affinity_key)
    assert (again.send("Two.")).telemetry.verdict == "warm"
    with pytest.raises(homing.ConfigurationError, match="format"):
        homing.Conversation.from_dict(homing_client, {"format": 99})


class Weather(BaseModel):
    city: str
    degrees: int


def test_parse_gives_the_model(homing_client: homing.Client, edge: Edge) -> None:
    chat = homing_client.conversation()
    edge.answer_next('{"city": "Málaga", "degrees": 31}')
    reply = chat.parse("Weather?", Weather)
    assert reply.parsed == Weather(city="Málaga", degrees=31)
    sent = requests_of(edge, chat)[-1].request
    assert sent is not None
    assert sent["response_format"]["json_schema"]["name"] == "Weather"
    assert sent["response_format"]["json_schema"]["schema"]["additionalProperties"] is False


def test_what_does_not_parse_is_not_recorded_and_not_lost(
    homing_client: homing.Client, edge: Edge
) -> None:
    chat = homing_client.conversation()
    edge.answer_next(Answer(text="not JSON"))
    with pytest.raises(homing.APIResponseValidationError) as caught:
        chat.parse("Weather?", Weather)
    assert caught.value.partial_text == "not JSON"
    assert chat.history == []
    edge.answer_next(Answer(text='{"city": "Mál', finish_reason="length"))
    with pytest.raises(homing.LengthFinishReasonError):
        chat.parse("Weather?", Weather)
    chat.send("Still works?")


def test_representations(homing_client: homing.Client) -> None:
    chat = homing_client.conversation("c-1", system="S")
    reply = chat.send("Hello")
    assert repr(chat) == "<" + type(chat).__name__ + " c-1 turns=1>"
    assert "**user**\n\nHello" in chat.transcript()
    assert chat._repr_markdown_() == chat.transcript()
    assert (str(reply), reply._repr_markdown_()) == (reply.text, reply.text)


def test_totals_add_up(homing_client: homing.Client) -> None:
    chats = [homing_client.conversation() for _ in range(3)]
    for chat in chats:
        chat.send("One.")
        chat.send("Two.")
    totals = homing_client.totals
    assert totals.replies == 6
    assert totals.verdicts == {"first": 3, "warm": 3}
    assert totals.cached_tokens == sum(chat.totals.cached_tokens for chat in chats)


@pytest.mark.edge(cache_report=False)
def test_cached_tokens_not_reported_are_unknown_not_zero(homing_client: homing.Client) -> None:
    # sglang#28801
    chat = homing_client.conversation()
    chat.send("One.")
    telemetry = (chat.send("Two.")).telemetry
    assert telemetry.cached_tokens is None
    assert telemetry.verdict == "unknown"
    assert homing_client.totals.cached_share is None


def test_a_killed_replica_is_told_by_the_verdict(homing_client: homing.Client, edge: Edge) -> None:
    chat = homing_client.conversation(system="A long enough system prompt to be worth a cache.")
    home = (chat.send("One.")).telemetry.replica
    assert home is not None
    edge.kill(home)
    telemetry = (chat.send("Two.")).telemetry
    assert telemetry.replica != home
    assert telemetry.verdict == "moved"
