from __future__ import annotations

from typing import Any

import anyio
import pytest

import homing
from homing.core.retry.readiness import RELEASE_WINDOW
from homing.testing import Fault
from homing_server.local import Edge

from .tasks import gather

pytestmark = pytest.mark.anyio

HELLO: list[Any] = [{"role": "user", "content": "Hello"}]


@pytest.mark.edge(cold_start=0.4, initial_replicas=0)
async def test_a_cold_server_is_waited_for_and_the_wait_is_shown(
    edge: Edge, hooks: homing.Hooks, waits: list[homing.Waiting]
) -> None:
    # OpenLLM#607, huggingface_hub#1454
    async with homing.AsyncClient(edge.url, hooks=hooks) as client:
        reply = await client.conversation(model="m").send("Hello")
    assert reply.text
    assert reply.telemetry.waited > 0.2
    assert waits
    assert waits[0].cause == "HTTP 503"
    assert [wait.elapsed for wait in waits] == sorted(wait.elapsed for wait in waits)
    assert {wait.deadline for wait in waits} == {1200}


@pytest.mark.edge(cold_start=0.3, initial_replicas=0)
async def test_a_wait_for_the_models_name_is_part_of_the_turns(
    async_homing_client: homing.AsyncClient, edge: Edge
) -> None:
    # Without a model's name it is the question for that which meets the cold server.
    reply = await async_homing_client.conversation().send("Hello")
    assert {record.path for record in edge.log if record.status == 503} == {"/v1/models"}
    assert reply.telemetry.waited > 0.1


@pytest.mark.edge(cold_start=0.3, initial_replicas=0)
async def test_streams_show_the_wait_as_events(async_homing_client: homing.AsyncClient) -> None:
    async with async_homing_client.conversation().stream("Hello") as stream:
        kinds = [event.type async for event in stream]
    assert kinds[0] == "waiting"
    assert kinds[-1] == "finished"
    assert kinds.index("content.delta") > max(place for place, kind in enumerate(kinds) if kind == "waiting")


async def test_200_waiting_conversations_have_one_prober(edge: Edge) -> None:
    # lilbee#465
    edge.hold_cold()
    chats = 200
    async with homing.AsyncClient(edge.url) as client:
        readiness = client._options.server_state.readiness
        waiting = anyio.Event()

        def watch(event: Any) -> None:
            if readiness.waiting == chats:
                waiting.set()

        patient = client.with_options(hooks=homing.Hooks(on_wait=watch))

        async def wake() -> str:
            await waiting.wait()
            edge.become_ready(3)
            return "woken"

        replies = await gather(wake, *[patient.conversation(model="m", id=str(n)).send for n in range(chats)])
    assert all(replies)
    refused = [record for record in edge.log if record.status == 503]
    answered = [record for record in edge.log if record.status == 200]
    assert len(answered) == chats
    # At most all of them once, and then only the leader: some tries a second for as long as it took to assemble.
    assert len(refused) <= chats + 40


async def test_giving_up_says_how_long_and_why(edge: Edge) -> None:
    # transformers#32665, huggingface_hub#1455
    edge.hold_cold()
    async with homing.AsyncClient(edge.url, cold_start_timeout=0.4) as client:
        with pytest.raises(homing.ColdStartTimeout, match="HTTP 503") as caught:
            await client.conversation(model="m").send("Hello")
    assert caught.value.waited >= 0.4
    assert caught.value.attempts >= 2
    assert isinstance(caught.value.last, homing.InternalServerError)


async def test_no_server_at_all_is_waited_for_too(hooks: homing.Hooks, waits: list[homing.Waiting]) -> None:
    async with homing.AsyncClient("http://127.0.0.1:9", cold_start_timeout=0.3, hooks=hooks) as client:
        with pytest.raises(homing.ColdStartTimeout) as caught:
            await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])
    assert isinstance(caught.value.last, homing.ServerUnreachable)
    assert waits


async def test_a_503_from_a_ready_server_is_a_hiccup(async_homing_client: homing.AsyncClient, edge: Edge) -> None:
    chat = async_homing_client.conversation()
    await chat.send("One.")
    edge.inject(Fault.overloaded())
    reply = await chat.send("Two.")
    assert (reply.telemetry.retries, reply.telemetry.waited) == (1, 0.0)


async def test_who_asks_for_no_retries_and_no_wait_sends_once(
    async_homing_client: homing.AsyncClient, edge: Edge
) -> None:
    once = async_homing_client.with_options(max_retries=0, cold_start_timeout=0)
    chat = once.conversation()
    await chat.send("One.")
    for streamed in (False, True):
        for fault in (Fault.overloaded(), Fault.answer(500, "oops"), Fault.truncate(), Fault.eof()):
            edge.inject(fault)
            asked = len(edge.log)
            with pytest.raises(homing.HomingError) as caught:
                await (chat.stream("Two.").reply() if streamed else chat.send("Two."))
            assert len(edge.log) == asked + 1
            if fault == Fault.overloaded():
                assert isinstance(caught.value, homing.ColdStartTimeout)
                assert caught.value.attempts == 1
            assert len(chat.turns) == 1


async def test_a_turn_that_ran_too_long_for_the_engine_is_not_run_again(
    async_homing_client: homing.AsyncClient, edge: Edge
) -> None:
    # Its 503 looks like a cold start's: the turn would be run, and ended, again for 20 minutes.
    for fault in (
        Fault.answer(503, "Request running timeout reached."),
        Fault.error_in_stream(message="Request running timeout reached.", code=503),
    ):
        edge.inject(fault)
        asked = len(edge.log)
        with pytest.raises(homing.InternalServerError, match="running timeout") as caught:
            await async_homing_client.chat.completions.stream(model="m", messages=HELLO).get_final_text()
        assert caught.value.status_code == 503
        assert len(edge.log) == asked + 1


async def test_a_server_that_scaled_to_zero_is_waited_for_again(edge: Edge) -> None:
    asleep = anyio.Event()
    hooks = homing.Hooks(on_wait=lambda event: asleep.set())
    async with homing.AsyncClient(edge.url, hooks=hooks) as client:
        chat = client.conversation()
        await chat.send("One.")
        edge.hold_cold()
        for replica in edge.ready:
            edge.kill(replica)

        async def wake() -> None:
            await asleep.wait()
            edge.become_ready(1)

        _, reply = await gather(wake, chat.send)
    assert reply.telemetry.waited > 0
    assert reply.telemetry.verdict != "warm"


async def test_a_saturated_replica_loses_the_key_for_one_attempt(
    async_homing_client: homing.AsyncClient, edge: Edge
) -> None:
    # Saturated replicas attract their own sessions: each hash leads back to the full one.
    chat = async_homing_client.conversation()
    home = (await chat.send("One.")).telemetry.replica
    edge.inject(Fault.rate_limited(retry_after=0, replica=home, times=None))
    while True:  # without a key the edge chooses at random, and may choose the full one again
        try:
            reply = await chat.send("Two.")
            break
        except homing.RateLimitError:
            continue
    assert reply.telemetry.replica != home
    keys = [record.key for record in edge.log[-3:]]
    assert keys[:2] == [chat.affinity_key] * 2
    assert keys[2] is None


async def test_retries_are_shown_with_their_cause(edge: Edge) -> None:
    # openai-python#1190, inspect_ai#4568
    seen: list[homing.Retrying] = []
    async with homing.AsyncClient(edge.url, hooks=homing.Hooks(on_retry=seen.append)) as client:
        edge.inject(Fault.answer(502, "bad gateway", path="*"))
        await client.wait_until_ready()
        edge.inject(Fault.answer(500, "oops"))
        await client.chat.completions.create(messages=[{"role": "user", "content": "Hi"}])
    assert [type(event.error) for event in seen] == [homing.InternalServerError]
    assert seen[0].attempt == 1


async def test_an_error_is_told_once(edge: Edge) -> None:
    # Also one that strikes while the model's name is still being asked for.
    told: list[Exception] = []
    async with homing.AsyncClient(edge.url, hooks=homing.Hooks(on_error=told.append)) as client:
        for fault in (Fault.answer(401, "no", path="*"), Fault.answer(200, "{}", path="*"), Fault.answer(400, "no")):
            edge.inject(fault)
            with pytest.raises(homing.APIError) as caught:
                await client.conversation().send("Hello")
            assert told == [caught.value]
            told.clear()


async def test_an_endless_retry_after_is_not_slept(async_homing_client: homing.AsyncClient, edge: Edge) -> None:
    # openai-python#3555
    edge.inject(Fault.rate_limited(retry_after=3600))
    with pytest.raises(homing.RateLimitError):
        await async_homing_client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])


async def test_a_hook_that_raises_breaks_nothing(edge: Edge, caplog: pytest.LogCaptureFixture) -> None:
    def broken(event: object) -> None:
        raise RuntimeError("not my day")

    hooks = homing.Hooks(on_reply=broken, on_retry=broken, on_wait=broken)
    async with homing.AsyncClient(edge.url, hooks=hooks) as client:
        assert (await client.conversation().send("Hello")).text
    assert "not my day" in caplog.text


@pytest.mark.edge(cold_start=5.0, initial_replicas=0)
async def test_five_real_seconds_of_cold_start_with_200_conversations(
    edge: Edge, hooks: homing.Hooks, waits: list[homing.Waiting]
) -> None:
    # modal-examples#1553
    async with homing.AsyncClient(edge.url, hooks=hooks) as client:
        chats = [client.conversation() for _ in range(200)]
        replies = await gather(*[chat.send for chat in chats])
    assert len(replies) == 200
    assert all(replies)
    assert all(len(chat.turns) == 1 for chat in chats)
    # All of them were shown the wait; one of them asked, four times a second at most.
    assert len(waits) >= 200
    assert {wait.cause for wait in waits} <= {"HTTP 503", "another call found no replica ready"}
    assert len([record for record in edge.log if record.status == 503]) <= 200 + 5 / 0.25
    # They were let in one after the other, never within less than the window, and each asked for its reply once.
    served = [record.time for record in edge.log if record.status == 200 and record.path.endswith("completions")]
    assert len(served) == 200
    assert max(served) - min(served) >= RELEASE_WINDOW
