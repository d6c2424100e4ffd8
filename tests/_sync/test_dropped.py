# Generated from tests/_async/test_dropped.py by scripts/unasync.py: edit that file, not this one.
from __future__ import annotations

import gc
from typing import Any

import pytest

import homing
from homing.testing import Fault
from homing_server.local import Edge

from .faulty_store import FaultyStore



def test_a_dropped_stream_is_saved_with_the_next_turn(
    homing_client: homing.Client, edge: Edge
) -> None:
    store = FaultyStore()
    edge.inject(Fault.hang(after_chunks=4))
    chat = homing_client.conversation("trip", store=store)
    stream: Any = chat.stream("One.")
    stream.__next__()
    del stream
    gc.collect()
    assert [turn.interrupted for turn in chat.turns] == [True]
    chat.send("Two.")
    found = store.load("trip")
    assert found is not None
    assert [turn["finish_reason"] for turn in found.turns] == ["interrupted", "stop"]
    edge.wait_for(lambda e: e.running == 0)
