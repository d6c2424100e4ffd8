from __future__ import annotations

import threading
from typing import Any

import pytest

import homing
from homing.testing import Fault
from homing_server.local import Edge

from .tasks import gather

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("settled")]

HELLO: list[Any] = [{"role": "user", "content": "Hello"}]


async def test_leaving_early_stops_the_engine(any_client: homing.AsyncClient, edge: Edge) -> None:
    # litellm#3341, #17364, vllm#54947
    edge.inject(Fault.hang(after_chunks=4))
    async with any_client.chat.completions.stream(messages=HELLO) as stream:
        async for _ in stream.text:
            break
    edge.wait_for(lambda e: e.running == 0)
    assert edge.log[-1].outcome == "aborted"


@pytest.mark.parametrize(
    "fault", [Fault.hang(before_headers=True), Fault.hang(), Fault.hang(after_chunks=4)], ids=["head", "first", "mid"]
)
async def test_cancel_from_elsewhere_ends_a_blocked_read(
    any_client: homing.AsyncClient, edge: Edge, fault: Fault
) -> None:
    # The reader blocks; another thread or task cancels.
    edge.inject(fault)
    chat = any_client.conversation(model="m")
    stream = chat.stream("Hello")

    async def read(_: str) -> str:
        return "".join([piece async for piece in stream.text])

    _, text = await gather(in_thread(edge, stream), read)
    assert stream.cancelled
    assert chat.turns[-1].interrupted
    assert chat.history[-1]["content"] == text
    edge.wait_for(lambda e: e.running == 0)


def in_thread(edge: Edge, stream: Any) -> Any:
    """Cancel ``stream`` from another thread once the engine works on it."""

    async def wake() -> None:
        def cancel() -> None:
            edge.wait_for(lambda e: any(record.outcome == "running" for record in e.log))
            stream.cancel()

        threading.Thread(target=cancel, daemon=True).start()

    return wake


async def test_cancel_ends_a_cold_wait(edge: Edge) -> None:
    edge.hold_cold()
    stream: Any = None

    def cancel(event: object) -> None:
        stream.cancel()

    async with homing.AsyncClient(edge.url, hooks=homing.Hooks(on_wait=cancel)) as client:
        chat = client.conversation(model="m")
        stream = chat.stream("Hello")
        events = [event.type async for event in stream]
    assert set(events) == {"waiting"}
    assert chat.turns[-1].interrupted


async def test_on_busy_cancel_stops_the_running_turn(async_homing_client: homing.AsyncClient, edge: Edge) -> None:
    edge.inject(Fault.hang(after_chunks=4))
    chat = async_homing_client.conversation(on_busy="cancel", model="m")
    first = chat.stream("One.")
    await first.__anext__()

    async def drain(_: str) -> None:
        async for _event in first:
            pass

    async def second(_: str) -> homing.Reply:
        return await chat.send("Two.")

    _, reply = await gather(drain, second)
    assert [turn.interrupted for turn in chat.turns] == [True, False]
    assert reply.text


async def test_waiting_turns_run_one_after_the_other(async_homing_client: homing.AsyncClient) -> None:
    # notebooklm-py#616, effect-gates#64
    chat = async_homing_client.conversation()
    await gather(*[chat.send for _ in range(10)])
    roles = [message["role"] for message in chat.history]
    assert roles == ["user", "assistant"] * 10
