"""Overload, leaving, and replicas that are told to go. A replica that dies: test_resume.py."""

from __future__ import annotations

import os
import signal
import time

import anyio
import httpx
import pytest

from homing import AsyncClient, Client
from homing_server.local import Edge

from .conftest import MAX_QUEUED, MAX_RUNNING, PLAIN

# Seconds for the engine to notice that a client has left: a stream at its next token, a whole reply when
# SGLang next looks, every 4 s (0.5.23, http_server and tokenizer_manager).
NOTICED = 15.0
# Seconds for a lost replica to be replaced by one that is warm, on a busy machine.
REPLACED = 180.0


def load(edge: Edge, key: str) -> tuple[int, int]:
    """Running and waiting requests in the engine of ``key``, as it says itself."""
    told = httpx.get(edge.url + "/v1/loads", headers={"Modal-Session-ID": key}).json()["loads"][0]
    return told["num_running_reqs"], told["num_waiting_reqs"]


def idle(edge: Edge, key: str) -> None:
    """Wait until that engine has nothing to do."""
    deadline = time.monotonic() + NOTICED
    while (busy := load(edge, key)) != (0, 0):
        assert time.monotonic() < deadline, f"still {busy}"
        time.sleep(0.02)


@pytest.mark.anyio
@pytest.mark.parametrize("streamed", [False, True])
async def test_an_overload_is_ridden_out_unseen(edge: Edge, streamed: bool) -> None:
    count = 2 * (MAX_RUNNING + MAX_QUEUED)
    asked = len(edge.log)
    texts: list[str] = []
    async with AsyncClient(base_url=edge.url, model="tiny", max_retries=40) as client:

        async def talk() -> None:
            chat = client.conversation(affinity_key="crowd", **PLAIN)
            if streamed:
                async with chat.stream("Hello?", max_tokens=150, ignore_eos=True) as stream:
                    texts.append("".join([text async for text in stream.text]))
            else:
                texts.append((await chat.send("Hello?", max_tokens=150, ignore_eos=True)).text)

        async with anyio.create_task_group() as group:
            for _ in range(count):
                group.start_soon(talk)
    assert len(texts) == count
    assert len(set(texts)) == 1, "nothing lost, nothing twice"
    assert len(edge.log) - asked > count, "some were refused and asked again"


@pytest.mark.parametrize("how", ["leave", "cancel"])
def test_whoever_leaves_frees_the_engine(client: Client, edge: Edge, how: str) -> None:
    chat = client.conversation(**PLAIN)
    with chat.stream("Count.", max_tokens=900, ignore_eos=True) as stream:
        text = stream.text
        first = next(iter(text))
        assert load(edge, chat.affinity_key)[0] == 1
        if how == "cancel":
            stream.cancel()
    idle(edge, chat.affinity_key)
    edge.wait_for(lambda e: e.running == 0)
    assert chat.history[-1]["content"].startswith(first), "what was seen is kept"
    cached = chat.send("And on.", max_tokens=4).telemetry.cached_tokens
    assert cached, "the engine kept what it had"


@pytest.mark.anyio
async def test_a_cancelled_task_frees_the_engine(async_client: AsyncClient, edge: Edge) -> None:
    chat = async_client.conversation(**PLAIN)

    async def talk() -> None:
        await chat.send("Count.", max_tokens=900, ignore_eos=True)

    async with anyio.create_task_group() as group:
        group.start_soon(talk)
        with anyio.fail_after(NOTICED):
            while await anyio.to_thread.run_sync(load, edge, chat.affinity_key) == (0, 0):
                await anyio.sleep(0.01)
        group.cancel_scope.cancel()
    await anyio.to_thread.run_sync(idle, edge, chat.affinity_key)
    assert chat.history == []


def test_a_replica_told_to_go_finishes_its_stream(client: Client, edge: Edge) -> None:
    chat = client.conversation(**PLAIN)
    home = chat.send("Hello.", max_tokens=4).telemetry.replica
    assert home is not None
    with chat.stream("Everything, please.", max_tokens=400, ignore_eos=True) as stream:
        text = iter(stream.text)
        next(text)
        os.kill(edge.pids[home], signal.SIGTERM)
        for _ in text:
            pass
        reply = stream.reply()
    assert reply.finish_reason == "length"
    assert reply.telemetry.completion_tokens == 400
    edge.wait_for(lambda e: home not in e.replicas, timeout=REPLACED)
    edge.wait_for(lambda e: len(e.ready) == 2, timeout=REPLACED)
    assert chat.send("Still there?", max_tokens=4).telemetry.verdict in ("moved", "warm", "cold")
