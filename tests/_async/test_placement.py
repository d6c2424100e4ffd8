from __future__ import annotations

from collections import Counter

import pytest

import homing
from homing.core.affinity.placement import Replicas
from homing.testing import Fault
from homing_server.local import Edge

from .tasks import gather
from .test_cancel import in_thread

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("settled")]


def homes(edge: Edge) -> dict[str, str]:
    """The replica of each key that has had a turn."""
    return {str(r.key): str(r.replica) for r in edge.log if r.path.endswith("completions")}


async def test_without_placement_nothing_is_counted(
    async_homing_client: homing.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("seen", "begin", "end", "loads", "choose"):
        monkeypatch.setattr(Replicas, name, None)  # whoever called it would fail
    chat = async_homing_client.conversation()
    await chat.send("Hi")
    async with chat.stream("And then?") as stream:
        stream.cancel()
    assert async_homing_client._options.search() is None


@pytest.mark.edge(min_replicas=4, max_replicas=4)
async def test_new_conversations_are_spread_evenly(async_homing_client: homing.AsyncClient, edge: Edge) -> None:
    balanced = async_homing_client.with_options(placement="balanced")
    chats = [balanced.conversation() for _ in range(40)]
    await gather(*[chat.send for chat in chats])
    await gather(*[chat.send for chat in chats])
    counts = Counter(homes(edge).values())
    assert sum(counts.values()) == 40, "a conversation that has begun keeps its key"
    # One replica of four gets 16 or more of 40 by hashing in every sixth fleet or so; here never.
    assert max(counts.values()) <= 13
    assert min(counts.values()) >= 7
    assert {chat.affinity_key for chat in chats} == set(homes(edge))
    assert {turn.telemetry.verdict for chat in chats for turn in chat.turns[1:]} == {"warm"}


@pytest.mark.edge(min_replicas=1, max_replicas=1)
async def test_one_replica_is_not_asked_about_for_long(async_homing_client: homing.AsyncClient, edge: Edge) -> None:
    balanced = async_homing_client.with_options(placement="balanced")
    for _ in range(10):
        await balanced.conversation().send("Hello.")
    questions = [r for r in edge.log if r.path == "/v1/models"]
    assert len(questions) < 8


@pytest.mark.edge(min_replicas=2, max_replicas=2)
async def test_a_key_that_somebody_chose_is_kept(async_homing_client: homing.AsyncClient, edge: Edge) -> None:
    balanced = async_homing_client.with_options(placement="balanced", model="m")
    given = balanced.conversation(affinity_key="mine")
    later = balanced.conversation()
    later.affinity_key = "too"
    for chat in (given, later):
        await chat.send("Hello.")
    forks = given.fork(6)
    for fork in forks[:4]:
        await fork.send("Hello.")
    assert set(homes(edge)) == {"mine", "too"}
    saved = homing.AsyncConversation.from_dict(balanced, given.to_dict())
    await saved.send("Hello.")
    assert {r.path for r in edge.log} == {"/v1/chat/completions"}
    await forks[5].send("Hello.")
    assert given.rekey() == given.affinity_key
    await given.send("Hello.")
    assert len(homes(edge)) == 4
    assert any(r.path == "/v1/models" for r in edge.log)


@pytest.mark.edge(min_replicas=2, max_replicas=2)
async def test_a_question_that_fails_delays_no_turn(async_homing_client: homing.AsyncClient, edge: Edge) -> None:
    balanced = async_homing_client.with_options(placement="balanced", model="m")
    await balanced.conversation().send("Hello.")  # the first of all asks nothing
    edge.inject(Fault.answer(500, "", path="/v1/models", times=None))
    reply = await balanced.conversation().send("Hello.")
    assert reply.telemetry.retries == 0
    assert [r.status for r in edge.log if r.path == "/v1/models"] == [500]


@pytest.mark.edge(min_replicas=2, max_replicas=2)
async def test_a_turn_that_is_stopped_while_its_key_is_tried_out_is_not_sent(
    async_homing_client: homing.AsyncClient, edge: Edge
) -> None:
    balanced = async_homing_client.with_options(placement="balanced", model="m")
    await balanced.conversation().send("Hello.")
    edge.inject(Fault.hang(before_headers=True, path="/v1/models"))
    chat = balanced.conversation()
    stream = chat.stream("Hello.")

    async def read(_: str) -> None:
        async for _item in stream:
            pass

    await gather(in_thread(edge, stream), read)
    assert chat.turns[-1].interrupted
    assert [r.path for r in edge.log][1:] == ["/v1/models"]
    assert (await chat.send("Hello.")).text


@pytest.mark.edge(min_replicas=2, max_replicas=2)
async def test_turns_that_end_in_whatever_way_no_longer_count(
    async_homing_client: homing.AsyncClient, edge: Edge
) -> None:
    balanced = async_homing_client.with_options(placement="balanced", max_retries=0)
    replicas = balanced._options.server_state.replicas
    now = balanced._options.clock
    chat = balanced.conversation()
    await chat.send("Hello.")
    edge.inject(Fault.hang(after_chunks=3))  # or all of it may have come before the first item is looked at
    async with chat.stream("Hello.") as stream:
        async for _ in stream:
            assert sum(running for running, _ in replicas.loads(now()).values()) == 1
            break
    edge.inject(Fault.answer(500, ""))
    with pytest.raises(homing.InternalServerError):
        await chat.send("Hello.")
    assert sum(running for running, _ in replicas.loads(now()).values()) == 0
