from __future__ import annotations

import gc
from typing import Any

import pytest

import homing
from homing.testing import Fault
from homing_server.local import Edge

from .faulty_store import FaultyStore

pytestmark = pytest.mark.anyio


async def test_a_dropped_stream_is_saved_with_the_next_turn(
    async_homing_client: homing.AsyncClient, edge: Edge
) -> None:
    store = FaultyStore()
    edge.inject(Fault.hang(after_chunks=4))
    chat = async_homing_client.conversation("trip", store=store)
    stream: Any = chat.stream("One.")
    await stream.__anext__()
    del stream
    gc.collect()
    assert [turn.interrupted for turn in chat.turns] == [True]
    await chat.send("Two.")
    found = store.load("trip")
    assert found is not None
    assert [turn["finish_reason"] for turn in found.turns] == ["interrupted", "stop"]
    edge.wait_for(lambda e: e.running == 0)
