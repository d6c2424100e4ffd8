"""Streams that their readers leave without closing: the next turn goes on, nothing stays open, and no finalizer waits.

A `for` loop with `break` in it is all it takes, and where the stream is part of a reference cycle (a traceback is one)
the collector finds it, in whatever thread, in the middle of anything.
"""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import anyio.to_thread
import pytest

import homing
from homing.stores import MemoryStore
from homing.testing import Fault
from homing_server.local import Edge, EdgeSettings

GUARD = 30.0
"""Seconds after which something hangs: a thousand times what it takes."""


def waiting(chat: Any) -> int:
    """How many hold or want the conversation."""
    return len(chat._turn_lock._mutex._queue)


def until(what: Callable[[], bool]) -> None:
    ends = time.monotonic() + GUARD
    while not what():
        assert time.monotonic() < ends, "it does not come"
        time.sleep(0.005)


async def auntil(what: Callable[[], bool]) -> None:
    with anyio.fail_after(GUARD):
        while not what():
            await anyio.sleep(0.005)


def begun(chat: homing.Conversation, **params: Any) -> list[Any]:
    stream = chat.stream("One.", **params)
    next(iter(stream.text))
    return [stream]


async def abegun(chat: homing.AsyncConversation) -> list[Any]:
    stream = chat.stream("One.")
    await stream.text.__anext__()
    return [stream]


@pytest.mark.parametrize("in_a_cycle", [False, True], ids=["counted", "in a cycle"])
@pytest.mark.parametrize("stored", [False, True], ids=["memory", "store"])
def test_the_turn_that_waits_for_a_dropped_stream(edge: Edge, stored: bool, in_a_cycle: bool) -> None:
    store = MemoryStore() if stored else None
    edge.inject(Fault.hang(after_chunks=4))
    with homing.Client(edge.url, model="m") as client, ThreadPoolExecutor(1) as pool:
        chat = client.conversation(store=store)
        held = begun(chat)
        if in_a_cycle:
            held[0].me = held[0]
        second = pool.submit(chat.send, "Two.", max_tokens=4)
        until(lambda: waiting(chat) == 2)
        held.clear()
        gc.collect()
        assert second.result(GUARD).finish_reason
        assert [turn.interrupted for turn in chat.turns] == [True, False]
        assert [turn.messages[0]["content"] for turn in chat.turns] == ["One.", "Two."]
        if store is not None:
            saved = store.load(chat.id)
            assert saved is not None
            assert [turn["finish_reason"] for turn in saved.turns][:-1] == ["interrupted"]


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_the_task_that_waits_for_a_dropped_stream(edge: Edge) -> None:
    edge.inject(Fault.hang(after_chunks=4))
    async with homing.AsyncClient(edge.url, model="m") as client:
        chat = client.conversation()
        held = await abegun(chat)
        with anyio.fail_after(GUARD):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(chat.send, "Two.")
                await auntil(lambda: waiting(chat) == 2)
                held.clear()
                gc.collect()
        assert [turn.interrupted for turn in chat.turns] == [True, False]


def test_another_object_of_a_stored_conversation_goes_on_behind_it(edge: Edge) -> None:
    """A web program makes one for each request, and drops it with the stream when the browser has left."""
    store = MemoryStore()
    edge.inject(Fault.hang(after_chunks=4))
    with homing.Client(edge.url, model="m") as client:
        held = begun(client.conversation("trip", store=store))
        held.clear()
        gc.collect()
        chat = client.conversation("trip", store=store)
        chat.send("Two.", max_tokens=4)
        assert [turn.interrupted for turn in chat.turns] == [True, False]
        saved = store.load("trip")
        assert saved is not None
        assert len(saved.turns) == 2


@pytest.mark.parametrize("settle", ["close", "another call"])
def test_what_was_dropped_is_saved_without_another_turn(edge: Edge, settle: str) -> None:
    store = MemoryStore()
    replies: list[homing.Reply[Any]] = []
    edge.inject(Fault.hang(after_chunks=4))
    with homing.Client(edge.url, model="m", hooks=homing.Hooks(on_reply=replies.append)) as client:
        held = begun(client.conversation("trip", store=store))
        held.clear()
        gc.collect()
        assert not replies, "a finalizer calls nobody"
        if settle == "another call":
            client.models.list()
            assert store.load("trip") is not None
            assert client.totals.replies == 1
    saved = store.load("trip")
    assert saved is not None
    assert [turn["finish_reason"] for turn in saved.turns] == ["interrupted"]
    assert [reply.finish_reason for reply in replies] == ["interrupted"]


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_what_an_async_client_has_dropped_is_saved_when_it_closes(edge: Edge) -> None:
    store = MemoryStore()
    edge.inject(Fault.hang(after_chunks=4))
    async with homing.AsyncClient(edge.url, model="m") as client:
        held = await abegun(client.conversation("trip", store=store))
        held.clear()
        gc.collect()
    saved = store.load("trip")
    assert saved is not None
    assert [turn["finish_reason"] for turn in saved.turns] == ["interrupted"]


@pytest.fixture(scope="module")
def far_edge() -> Iterator[str]:
    """An edge in a process of its own, so that this one's descriptors are the client's."""
    import subprocess
    import sys

    program = (
        "from homing_server.local import Edge, EdgeSettings\n"
        "with Edge(EdgeSettings.instant(decode_rate=50)) as edge:\n"
        "    print(edge.url, flush=True)\n"
        "    input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.communicate("\n", timeout=GUARD)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


MESSAGES: Any = [{"role": "user", "content": "One."}]
KINDS: dict[str, Callable[[Any], Any]] = {
    "text": lambda client: client.conversation().stream("One.").text,
    "events": lambda client: client.conversation().stream("One."),
    "run": lambda client: client.conversation().run_stream("One.", tools=[]),
    "chunks": lambda client: client.chat.completions.create(messages=MESSAGES, stream=True),
    "completion": lambda client: client.chat.completions.stream(messages=MESSAGES),
}


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors in /proc")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("in_a_cycle", [False, True], ids=["counted", "in a cycle"])
def test_dropped_streams_give_their_descriptors_back(far_edge: str, kind: str, in_a_cycle: bool) -> None:
    def drop() -> None:
        stream = KINDS[kind](client)
        next(iter(stream))
        if in_a_cycle:
            cycle = [stream]
            cycle.append(cycle)

    with homing.Client(far_edge, model="m") as client:
        client.conversation().send("Warm.", max_tokens=2)
        gc.collect()
        before = descriptors()
        for _ in range(12):
            drop()
        gc.collect()
        assert descriptors() <= before
        client.models.list()
        assert client._endpoint.http.pool.in_use == 0  # type: ignore[union-attr]


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors in /proc")
@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
@pytest.mark.parametrize("kind", KINDS)
async def test_dropped_async_streams_give_their_descriptors_back(far_edge: str, kind: str) -> None:
    async def drop() -> None:
        stream = KINDS[kind](client)
        if kind == "chunks":
            stream = await stream
        await stream.__aiter__().__anext__()
        cycle = [stream]
        cycle.append(cycle)

    async with homing.AsyncClient(far_edge, model="m") as client:
        await client.conversation().send("Warm.", max_tokens=2)
        gc.collect()
        before = descriptors()
        for _ in range(12):
            await drop()
        gc.collect()
        await auntil(lambda: descriptors() <= before)
        await client.models.list()
        assert client._endpoint.http.pool.in_use == 0  # type: ignore[union-attr]


def test_a_request_that_waits_for_room_gets_that_of_a_dropped_stream(edge: Edge) -> None:
    import httpx

    from homing._http._sync.transport import Transport

    edge.inject(Fault.hang(after_chunks=4))
    with (
        httpx.Client(transport=Transport(max_connections=1)) as http,
        homing.Client(edge.url, model="m", http_client=http) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        stream = client.chat.completions.create(messages=MESSAGES, stream=True)
        held = [stream, next(stream)]
        del stream
        second = pool.submit(client.models.list)
        until(lambda: http._transport.pool.waiting == 1)  # type: ignore[attr-defined]
        held.clear()
        gc.collect()
        assert second.result(GUARD)


def test_the_collector_strikes_anywhere(edge: Edge) -> None:
    """Streams in cycles are found by whichever allocation starts the collector, within whatever lock."""
    thresholds = gc.get_threshold()
    done: list[int] = []

    def work(client: homing.Client) -> None:
        for number in range(60):
            gc.set_threshold(1 + number % 50)
            stream: Any = client.conversation().stream("One.", max_tokens=40)
            next(iter(stream))
            stream.me = stream
            del stream
            client.conversation().send("Two.", max_tokens=2)
            done.append(number)

    try:
        for placement in ("hash", "balanced"):
            with homing.Client(edge.url, model="m", placement=placement) as client:
                thread = threading.Thread(target=work, args=(client,), daemon=True)
                thread.start()
                thread.join(2 * GUARD)
                assert not thread.is_alive(), f"stuck after {len(done)} rounds"
                gc.collect()  # what is left, while the client is open
    finally:
        gc.set_threshold(*thresholds)
        gc.collect()
    assert len(done) == 120
    edge.wait_for(lambda running: running.running == 0)


def test_a_finalizer_calls_nothing_that_could_wait(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every lock of the client is held by this very thread when the stream goes."""
    edge.inject(Fault.hang(after_chunks=4))
    with homing.Client(edge.url, model="m", placement="balanced") as client:
        chat = client.conversation()
        held = begun(chat)
        server_state = client._options.server_state
        call = held[0]._call._attempt._control
        pool = client._endpoint.http.pool  # type: ignore[union-attr]

        def forbidden(*_: object) -> None:
            raise AssertionError("a finalizer took a lock")

        with monkeypatch.context() as patch:

            class Lock:
                __enter__ = __exit__ = acquire = release = forbidden

            for owner in (server_state, server_state.readiness, server_state.replicas, call, pool):
                patch.setattr(owner, "_lock", Lock())
            patch.setattr(chat._turn_lock._mutex, "_guard", Lock())
            patch.setattr("sys.unraisablehook", lambda problem: problems.append(problem.exc_value))
            problems: list[object] = []
            del call
            held.clear()
            gc.collect()
        assert not problems
        assert chat.send("Two.", max_tokens=4).finish_reason


def test_total_bounds_the_wait_for_the_turn_before(edge: Edge) -> None:
    edge.inject(Fault.hang(after_chunks=4))
    with homing.Client(edge.url, model="m") as client, ThreadPoolExecutor(1) as pool:
        chat = client.conversation(id="trip", on_busy="wait", store=MemoryStore())
        with chat.stream("One.") as stream:
            next(stream.text)
            limited = client.with_options(timeout=0.2).conversation(id="trip", store=chat._persistence.store)  # type: ignore[union-attr]
            for call in (lambda: chat.send("Two.", timeout=0.2), lambda: limited.save(), lambda: limited.undo()):
                with pytest.raises(homing.errors.DeadlineExceeded, match="the turn of conversation trip"):
                    pool.submit(call).result(GUARD)
        assert chat.send("Three.", max_tokens=4).finish_reason


def test_total_holds_for_the_waiting_and_the_turn_together() -> None:
    """A turn that has waited gets what is left, also where the stored settings have it begin anew."""
    store = MemoryStore()
    with Edge(EdgeSettings.instant(decode_rate=20)) as edge, homing.Client(edge.url, model="m") as client:
        client.conversation("trip", store=store).send("Zero.", max_tokens=2)
        chat = client.conversation("trip", store=store)
        stream = chat.stream("One.", timeout=5.0, max_tokens=2)
        began = stream._call.budget.ends_at
        with stream:
            next(iter(stream))
            assert stream._call.budget.ends_at == stream._call._attempt.ends_at == began


def test_a_waiter_that_is_cancelled_in_the_moment_of_its_turn(edge: Edge) -> None:
    """The lock is handed over, and its new holder is cancelled before it knows: the one behind it must get it."""

    async def main() -> None:
        edge.inject(Fault.hang(after_chunks=4))
        async with homing.AsyncClient(edge.url, model="m") as client:
            chat = client.conversation()
            stream = chat.stream("One.")
            await stream.text.__anext__()
            second, third = (asyncio.create_task(chat.send(words)) for words in ("Two.", "Three."))
            await auntil(lambda: waiting(chat) == 3)
            await stream.aclose()  # wakes the second
            second.cancel()
            with pytest.raises(asyncio.CancelledError):
                await second
            assert (await asyncio.wait_for(third, GUARD)).finish_reason

    asyncio.run(main())


class SlowStore(MemoryStore):
    """Its loads wait until the test lets them go."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()

    def load(self, conversation_id: str) -> Any:
        self.entered.set()
        assert self.go_on.wait(GUARD)
        return super().load(conversation_id)


def test_a_stream_that_another_thread_closes_while_it_begins(edge: Edge) -> None:
    store = SlowStore()
    with homing.Client(edge.url, model="m") as client, ThreadPoolExecutor(3) as pool:
        client.conversation("trip", store=store).send("Zero.", max_tokens=2)
        store.entered.clear()
        store.go_on.clear()
        chat = client.conversation("trip", store=store)
        stream = chat.stream("One.")
        reader = pool.submit(list, stream)
        assert store.entered.wait(GUARD)
        closer = pool.submit(stream.close)
        until(lambda: stream.cancelled)
        store.go_on.set()
        closer.result(GUARD)
        assert reader.result(GUARD) == []
        assert pool.submit(chat.send, "Two.", max_tokens=2).result(GUARD).finish_reason


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_a_stream_that_another_task_closes(edge: Edge) -> None:
    """At any stage, also while it waits for the turn before: what had come is saved once, and the next turn runs."""
    store = MemoryStore()
    async with homing.AsyncClient(edge.url, model="m") as client:
        for yields in range(0, 60, 3):
            chat = client.conversation(store=store)
            stream = chat.stream("One.", max_tokens=200)

            async def read(stream: Any = stream) -> None:
                async for _ in stream:
                    pass

            async def close(stream: Any = stream, yields: int = yields) -> None:
                for _ in range(yields):
                    await anyio.sleep(0)
                await stream.aclose()

            with anyio.fail_after(GUARD):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(read)
                    tasks.start_soon(close)
                assert (await chat.send("Two.", max_tokens=2)).finish_reason
            saved = store.load(chat.id)
            assert saved is not None
            assert len(saved.turns) == len(chat.turns) <= 2


@pytest.mark.parametrize("end", ["cancel", "close"])
def test_a_stream_that_is_ended_while_it_waits_for_the_turn_before(edge: Edge, end: str) -> None:
    edge.inject(Fault.hang(after_chunks=4))
    with homing.Client(edge.url, model="m") as client, ThreadPoolExecutor(2) as pool:
        chat = client.conversation()
        with chat.stream("One.") as running:
            next(running.text)
            second = chat.stream("Two.")
            reader = pool.submit(list, second)
            until(lambda: waiting(chat) == 2)
            pool.submit(getattr(second, end)).result(GUARD)
            assert reader.result(GUARD) == []
        assert [turn.messages[0]["content"] for turn in chat.turns] == ["One."]
        assert chat.send("Three.", max_tokens=2).finish_reason
