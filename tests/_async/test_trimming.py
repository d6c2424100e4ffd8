"""Prompts that outgrow the context are cut seldom and deep; the history keeps everything."""

from __future__ import annotations

import pytest

import homing
from homing.stores import MemoryStore
from homing.testing import Fault, assert_one_replica, requests_of
from homing_server.local import Edge

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("settled")]

QUESTION = "Question number {}: what is to be said about it?"


async def talk(client: homing.AsyncClient, trim: homing.Trim) -> list[homing.Telemetry]:
    """Have a conversation of a hundred turns, and return what was measured of all but the first."""
    chat = client.conversation(system="You keep a long conversation going.", trim=trim)
    for number in range(100):
        await chat.send(QUESTION.format(number))
    assert len(chat.history) == 201
    assert chat.turns[-1].start > 0
    return [turn.telemetry for turn in chat.turns[1:]]


def cached_share(measured: list[homing.Telemetry]) -> float:
    """Prompt tokens that came from the cache, as a share of all; the questions themselves are never in it."""
    prompt = sum(one.prompt_tokens or 0 for one in measured)
    return sum(one.cached_tokens or 0 for one in measured) / prompt


def trims(measured: list[homing.Telemetry]) -> list[int]:
    return [number for number, one in enumerate(measured) if one.verdict == "prefix_changed"]


@pytest.mark.edge(replicas=1, sentences=(1, 1))
async def test_water_marks_keep_what_is_cached_where_a_sliding_window_loses_it(
    async_homing_client: homing.AsyncClient,
) -> None:
    # kern-ai#295, openclaw#115281, nanobot#4568, zeroclaw#10674, opencode-copilot-chat#238
    marks = await talk(async_homing_client, homing.Trim(high=3_000))
    window = await talk(async_homing_client, homing.Trim(high=3_000, low=2_999))
    for measured in (marks, window):
        assert max(one.prompt_tokens or 0 for one in measured) <= 3_000 * 1.05
    assert len(trims(marks)) == 2
    assert cached_share(marks) >= 0.95  # 0.97 measured
    assert len(trims(window)) > 30
    assert cached_share(window) < 0.6  # 0.46 measured: all was well until it began to slide, …
    assert cached_share(window[trims(window)[0] :]) < 0.3  # … and then almost nothing was left


@pytest.mark.edge(replicas=1)
async def test_a_trim_keeps_system_key_and_history_and_says_so(
    async_homing_client: homing.AsyncClient, edge: Edge
) -> None:
    store = MemoryStore()
    chat = async_homing_client.conversation("trip", system="S", trim=homing.Trim(high=400, low=150), store=store)
    await chat.send(QUESTION)
    while not chat.turns or chat.turns[-1].start == 0:
        await chat.send(QUESTION.format(len(chat.turns)))
    last = chat.turns[-1]
    assert last.telemetry.verdict == "prefix_changed"
    assert last.telemetry.reusable_tokens is None
    sent = requests_of(edge, chat)[-1].request
    assert sent is not None
    assert sent["messages"] == [chat.history[0], *chat.history[1 + 2 * last.start : -1]]
    assert len(chat.history) == 1 + 2 * len(chat.turns)
    assert_one_replica(edge, chat)
    # After a restart the prompt goes on as it was, with or without a Trim.
    again = async_homing_client.conversation("trip", store=store)
    reply = await again.send("Next.")
    assert again.turns[-1].start == last.start
    assert reply.telemetry.verdict == "warm"
    # And what is undone, edited or regenerated goes back to the prompt of its day.
    await again.regenerate()
    assert again.turns[-1].start == last.start
    await again.undo(len(again.turns) - 1)
    await again.send("Next.")
    assert again.turns[-1].start == 0


@pytest.mark.edge(replicas=1, context_length=600)
async def test_a_refused_prompt_is_cut_and_sent_once_more(async_homing_client: homing.AsyncClient, edge: Edge) -> None:
    # OpenMinis#181: not the same oversized history for ever
    chat = async_homing_client.conversation(trim=homing.Trim(), max_tokens=100)
    while not chat.turns or chat.turns[-1].start == 0:
        await chat.send(QUESTION.format(len(chat.turns)))
    refused, sent = edge.log[-2:]
    assert (refused.status, sent.status) == (400, 200)
    assert chat.turns[-1].telemetry.verdict == "prefix_changed"
    assert (await chat.send("Go on.")).telemetry.verdict == "warm"
    assert len({turn.start for turn in chat.turns}) == 2
    async with chat.stream(QUESTION.format("last")) as stream:
        kinds = [event.type async for event in stream]
    assert kinds[-1] == "finished"


@pytest.mark.edge(replicas=1, context_length=300)
async def test_without_a_trim_nothing_is_left_out(async_homing_client: homing.AsyncClient, edge: Edge) -> None:
    chat = async_homing_client.conversation(max_tokens=20)
    with pytest.raises(homing.ContextWindowExceeded, match=r"trim=Trim\(\)"):
        for number in range(20):
            await chat.send(QUESTION.format(number))
    before = chat.history
    assert before
    chat.trim = homing.Trim()  # now it may
    await chat.send("Go on.")
    assert chat.history[: len(before)] == before


@pytest.mark.edge(replicas=1, context_length=300)
async def test_a_question_that_is_too_long_by_itself_is_refused(
    async_homing_client: homing.AsyncClient, edge: Edge
) -> None:
    chat = async_homing_client.conversation(trim=homing.Trim(high=200))
    await chat.send("One.")
    with pytest.raises(homing.ContextWindowExceeded):
        await chat.send("word " * 900)
    assert len(chat.turns) == 1
    await chat.send("Two.")


async def test_a_second_refusal_stands(async_homing_client: homing.AsyncClient, edge: Edge) -> None:
    chat = async_homing_client.conversation(trim=homing.Trim())
    for number in range(4):
        await chat.send(QUESTION.format(number))
    requests = len(edge.log)
    for limit in (300, 150):  # the second would leave something to cut
        too_long = f'{{"message": "This model\'s maximum context length is {limit} tokens."}}'
        edge.inject(Fault.answer(400, too_long, content_type="application/json"))
    with pytest.raises(homing.ContextWindowExceeded):
        await chat.send("Five.")
    assert len(chat.turns) == 4
    assert len(edge.log) == requests + 2


@pytest.mark.edge(min_replicas=3, max_replicas=3)
async def test_a_prompt_that_is_cut_goes_to_the_replica_that_was_found_for_it(
    async_homing_client: homing.AsyncClient, edge: Edge
) -> None:
    # The search has replaced the conversation's key: it is not to be lost with the prompt that was refused.
    balanced = async_homing_client.with_options(placement="balanced", model="m")
    chat = balanced.conversation(trim=homing.Trim())
    for number in range(4):
        await chat.send(QUESTION.format(number))
    fresh = chat.rekey()
    too_long = '{"message": "This model\'s maximum context length is 300 tokens."}'
    edge.inject(Fault.answer(400, too_long, content_type="application/json", path="/v1/chat/completions"))
    await chat.send("Five.")
    refused, sent = [record for record in edge.log if record.path == "/v1/chat/completions"][-2:]
    assert (refused.status, sent.status) == (400, 200)
    assert chat.turns[-1].start > 0
    assert fresh != refused.key == sent.key == chat.affinity_key
