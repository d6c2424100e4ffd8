"""Whoever is cancelled or interrupted in the middle of a save learns of it when the save has ended."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import homing
from homing.stores import MemoryStore, as_async
from homing_server.local import Edge


class HeldStore(MemoryStore):
    """A store whose commits wait until the test lets them go."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()
        self.go_on = threading.Event()
        self.fails = False

    def commit(self, *arguments: Any, **named: Any) -> int:
        self.entered.set()
        assert self.go_on.wait(30)
        if self.fails:
            raise OSError("the disk is full")
        return super().commit(*arguments, **named)


@pytest.fixture
def store() -> Iterator[HeldStore]:
    held = HeldStore()
    yield held
    held.go_on.set()


async def entered(store: HeldStore) -> None:
    assert await anyio.to_thread.run_sync(store.entered.wait, 30)


def turns_of(store: MemoryStore) -> int:
    found = store.load("c")
    return len(found.turns) if found else 0


@pytest.mark.parametrize("times", [1, 3])
def test_a_task_cancelled_by_asyncio_itself(edge: Edge, store: HeldStore, times: int) -> None:
    """``task.cancel()``, and so ``asyncio.timeout`` and ``TaskGroup``: no shield of anyio's holds against it."""

    async def main() -> None:
        async with homing.AsyncClient(edge.url, model="m") as client:
            chat = client.conversation("c", store=store)
            task = asyncio.create_task(chat.send("One."))
            await entered(store)
            for _ in range(times):
                task.cancel()
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            assert not task.done()
            store.go_on.set()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert turns_of(store) == len(chat.turns) == 1
            await chat.send("Two.")  # the floor is free, and both sides agree
            assert turns_of(store) == len(chat.turns) == 2

    asyncio.run(main())


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.anyio
async def test_a_cancelled_scope(edge: Edge, store: HeldStore, streamed: bool) -> None:
    async with homing.AsyncClient(edge.url, model="m") as client:
        chat = client.conversation("c", store=store)
        went_on = False

        async def turn() -> None:
            nonlocal went_on
            if streamed:
                async with chat.stream("One.") as stream:
                    async for _ in stream.text:
                        pass
            else:
                await chat.send("One.")
            await anyio.lowlevel.checkpoint()
            went_on = True

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(turn)
            await entered(store)
            tasks.cancel_scope.cancel()
            store.go_on.set()
        assert not went_on
        assert [turn.finish_reason for turn in chat.turns] == ["stop"]
        assert turns_of(store) == 1
        await chat.undo()
        assert turns_of(store) == 0


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
@pytest.mark.anyio
async def test_cancelled_while_a_save_fails(edge: Edge, store: HeldStore) -> None:
    async with homing.AsyncClient(edge.url, model="m") as client:
        chat = client.conversation("c", store=store)
        store.fails = True
        failures: list[homing.StoreError] = []

        async def turn() -> None:
            try:
                await chat.send("One.")
            except homing.StoreError as error:  # it tells more than the cancellation, which comes next
                failures.append(error)
                await anyio.lowlevel.checkpoint()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(turn)
            await entered(store)
            tasks.cancel_scope.cancel()
            store.go_on.set()
        assert [error.reply.text for error in failures if error.reply] == [chat.history[-1]["content"]]
        assert len(chat.turns) == 1  # not lost: ahead of the store
        store.fails = False
        await chat.save()
        assert turns_of(store) == 1


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
@pytest.mark.anyio
async def test_a_cancelled_turn_that_had_not_ended(edge: Edge) -> None:
    """A send is cancelled before its reply is whole: nothing happened. A stream: what was read is kept."""
    from homing.testing import Fault

    store = MemoryStore()
    edge.inject(Fault.hang(after_chunks=4, times=2))
    async with homing.AsyncClient(edge.url, model="m") as client:
        chat = client.conversation("c", store=store)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(chat.send, "One.")
            await anyio.to_thread.run_sync(lambda: edge.wait_for(lambda e: e.running == 1))
            tasks.cancel_scope.cancel()
        assert not chat.turns
        seen = anyio.Event()

        async def read() -> None:
            async for _ in chat.stream("Two.").text:
                seen.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            await seen.wait()
            tasks.cancel_scope.cancel()
        assert [turn.interrupted for turn in chat.turns] == [True]
        assert turns_of(store) == 1


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_async_face_finishes_a_commit_under_asyncios_own_cancel(store: HeldStore) -> None:
    face = as_async(store)
    task = asyncio.create_task(face.commit("c", expected_version=0))
    await entered(store)
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    store.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert store.load("c") is not None


class PressedStore(MemoryStore):
    """A store in the middle of whose commits a signal comes, some times, as if somebody pressed Ctrl-C."""

    def __init__(self, number: int = signal.SIGINT, *, times: int = 1) -> None:
        super().__init__()
        self.number = number
        self.times = times
        self.fails = False

    def commit(self, *arguments: Any, **named: Any) -> int:
        version = 0 if self.fails else super().commit(*arguments, **named)
        for _ in range(self.times):
            signal.raise_signal(self.number)
        if self.fails:
            raise OSError("the disk is full")
        return version


@pytest.fixture
def handlers() -> Iterator[None]:
    """Programs that leave by an exception, on Ctrl-C and when they are asked to end."""

    def leave(number: int, frame: object) -> None:
        raise SystemExit(number)

    before = signal.signal(signal.SIGTERM, leave)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    yield
    assert signal.signal(signal.SIGTERM, before) is leave
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize(
    ("number", "left_by"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)], ids=["int", "term"]
)
def test_ctrl_c_in_the_middle_of_a_save(edge: Edge, number: int, left_by: type[BaseException], times: int) -> None:
    store = PressedStore(number, times=times)
    with homing.Client(edge.url, model="m") as client:
        chat = client.conversation("c", store=store)
        with pytest.raises(left_by):
            chat.send("One.")
        assert turns_of(store) == len(chat.turns) == 1
        with pytest.raises(left_by), chat.stream("Two.") as stream:
            for _ in stream.text:
                pass
        assert turns_of(store) == len(chat.turns) == 2
        with pytest.raises(left_by):
            chat.undo()
        assert turns_of(store) == len(chat.turns) == 1
        store.times = 0
        chat.send("Three.")
        assert turns_of(store) == len(chat.turns) == 2


@pytest.mark.usefixtures("handlers")
def test_ctrl_c_while_a_save_fails(edge: Edge) -> None:
    store = PressedStore()
    store.fails = True
    with homing.Client(edge.url, model="m") as client:
        chat = client.conversation("c", store=store)
        with pytest.raises(KeyboardInterrupt):
            chat.send("One.")
        assert len(chat.turns) == 1  # not lost: ahead of the store
        store.fails, store.times = False, 0
        chat.save()
        assert turns_of(store) == 1


@pytest.mark.usefixtures("handlers")
def test_signals_are_left_to_the_main_thread(edge: Edge) -> None:
    seen: list[object] = []

    class LookingStore(MemoryStore):
        def commit(self, *arguments: Any, **named: Any) -> int:
            seen.append(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
            return super().commit(*arguments, **named)

    with homing.Client(edge.url) as client:
        chat = client.conversation("c", store=LookingStore())
        thread = threading.Thread(target=chat.send, args=("One.",))
        thread.start()
        thread.join()
        chat.send("Two.")
    assert seen == [True, False]
