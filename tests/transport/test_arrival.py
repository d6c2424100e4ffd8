"""The way of bytes to the task that waits for them: it goes on at once, in its own context, and loses nothing."""

from __future__ import annotations

import asyncio
import contextvars
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpcore
import pytest

from homing._http._sockets.asyncio import Arrival, AsyncioSocket, connect
from homing._http._sockets.base import AsyncSocket

SAID: contextvars.ContextVar[str] = contextvars.ContextVar("said", default="nothing")
PATIENCE = 10.0

Main = Callable[[], Coroutine[Any, Any, Any]]


def of_uvloop() -> asyncio.AbstractEventLoop:
    import uvloop  # the lanes of other versions do without it

    return uvloop.new_event_loop()


@pytest.fixture(params=[asyncio.new_event_loop, of_uvloop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Main], Any]:
    """Run a coroutine function on a loop of its own, within our patience."""

    def run(main: Main) -> Any:
        loop = request.param()
        try:
            return loop.run_until_complete(asyncio.wait_for(main(), PATIENCE))
        finally:
            loop.close()

    return run


@asynccontextmanager
async def pair() -> AsyncIterator[tuple[AsyncSocket, socket.socket]]:
    """Our socket, and the other end of it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host, port = listener.getsockname()
        ours = await connect(host, port, None, None, PATIENCE)
        theirs, _ = listener.accept()
    with theirs:
        yield ours, theirs
        ours.close()
        await ours.closed()


async def waiting(task: asyncio.Task[Any]) -> None:
    """Let ``task`` come to where it waits for bytes."""
    while getattr(task, "_fut_waiter", None) is None:
        await asyncio.sleep(0)


def test_the_reader_goes_on_in_its_own_context(run: Callable[[Main], Any]) -> None:
    async def main() -> None:
        async with pair() as (ours, theirs):

            async def read() -> None:
                token = SAID.set("something")
                assert await ours.recv(PATIENCE) == b"news"
                assert SAID.get() == "something"
                SAID.reset(token)  # which another context would refuse
                assert asyncio.current_task() is reader

            reader = asyncio.create_task(read())
            await waiting(reader)
            theirs.send(b"news")
            await reader
            assert SAID.get() == "nothing"

    run(main)


def test_so_it_does_in_an_empty_one(run: Callable[[Main], Any]) -> None:
    # An empty context is false, and still the task's own.
    async def main() -> None:
        async with pair() as (ours, theirs):
            begun = asyncio.Event()

            async def read() -> None:
                assert await ours.recv(PATIENCE) == b"one"
                token = SAID.set("something")
                begun.set()
                assert await ours.recv(PATIENCE) == b"two"
                SAID.reset(token)

            reader = contextvars.Context().run(asyncio.get_running_loop().create_task, read())
            await waiting(reader)
            theirs.send(b"one")
            await begun.wait()
            await waiting(reader)
            theirs.send(b"two")
            await reader

    run(main)


@pytest.mark.parametrize(("eager", "order"), [(True, ["read", "came"]), (False, ["came", "read"])])
def test_the_eager_wakeup_can_be_switched_off(
    run: Callable[[Main], Any], monkeypatch: pytest.MonkeyPatch, eager: bool, order: list[str]
) -> None:
    monkeypatch.setattr("homing._http._sockets.asyncio.EAGER_WAKEUP", eager)
    seen: list[str] = []
    received = AsyncioSocket.data_received

    def note(self: AsyncioSocket, data: bytes) -> None:
        received(self, data)
        seen.append("came")

    monkeypatch.setattr(AsyncioSocket, "data_received", note)

    async def main() -> None:
        async with pair() as (ours, theirs):

            async def read() -> None:
                assert await ours.recv(PATIENCE) == b"news"
                seen.append("read")

            reader = asyncio.create_task(read())
            await waiting(reader)
            theirs.send(b"news")
            await reader

    run(main)
    assert seen == order


@pytest.mark.parametrize(("value", "eager"), [("0", False), ("1", True), (None, True)])
def test_an_environment_variable_switches_it_off(value: str | None, eager: bool) -> None:
    environment = {name: held for name, held in os.environ.items() if name != "HOMING_EAGER_WAKEUP"}
    if value is not None:
        environment["HOMING_EAGER_WAKEUP"] = value
    code = "from homing._http._sockets import asyncio; print(asyncio.EAGER_WAKEUP)"
    told = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == str(eager)


def test_the_reader_goes_on_before_the_next_round_of_the_loop() -> None:
    async def main() -> list[str]:
        loop = asyncio.get_running_loop()
        order: list[str] = []
        arrival = Arrival(loop=loop)

        async def read() -> None:
            await arrival
            order.append("read")

        def come() -> None:
            loop.call_soon(order.append, "the next round")
            arrival.come()
            order.append("came")

        reader = asyncio.create_task(read())
        await waiting(reader)
        loop.call_soon(come)
        await reader
        await asyncio.sleep(0)
        return order

    assert asyncio.run(main()) == ["read", "came", "the next round"]


def test_where_a_task_runs_already_the_reader_waits_for_its_turn() -> None:
    async def main() -> str:
        arrival = Arrival(loop=asyncio.get_running_loop())

        async def read() -> str:
            await arrival
            return "read"

        reader = asyncio.create_task(read())
        await waiting(reader)
        arrival.come()  # as no loop does that we know
        arrival.come()
        assert not reader.done()
        return await reader

    assert asyncio.run(main()) == "read"


def test_what_comes_before_anybody_waits_is_not_lost() -> None:
    async def main() -> None:
        arrival = Arrival(loop=asyncio.get_running_loop())
        arrival.come()
        arrival.come()
        await arrival

    asyncio.run(main())


def test_a_cancelled_read_loses_no_bytes(run: Callable[[Main], Any]) -> None:
    async def main() -> None:
        async with pair() as (ours, theirs):
            reader = asyncio.create_task(ours.recv(PATIENCE))
            await waiting(reader)
            reader.cancel()
            theirs.send(b"news")
            with pytest.raises(asyncio.CancelledError):
                await reader
            assert await ours.recv(PATIENCE) == b"news"

    run(main)


def test_a_scope_cancels_once(run: Callable[[Main], Any]) -> None:
    async def main() -> None:
        async with pair() as (ours, theirs):
            with anyio.move_on_after(0.01) as scope:
                await ours.recv(PATIENCE)
            assert scope.cancelled_caught
            await asyncio.sleep(0)  # nothing is left that would strike later
            theirs.send(b"news")
            assert await ours.recv(PATIENCE) == b"news"

    run(main)


def test_a_read_ends_with_its_time(run: Callable[[Main], Any]) -> None:
    async def main() -> None:
        async with pair() as (ours, theirs):
            with pytest.raises(httpcore.ReadTimeout):
                await ours.recv(0.01)
            theirs.send(b"news")
            assert await ours.recv(PATIENCE) == b"news"

    run(main)


def test_a_read_ends_when_another_task_closes(run: Callable[[Main], Any]) -> None:
    async def main() -> None:
        async with pair() as (ours, _):
            reader = asyncio.create_task(ours.recv(PATIENCE))
            await waiting(reader)
            ours.close()
            assert await reader == b""

    run(main)


def test_two_readers_are_refused(run: Callable[[Main], Any]) -> None:
    async def main() -> None:
        async with pair() as (ours, theirs):
            reader = asyncio.create_task(ours.recv(PATIENCE))
            await waiting(reader)
            with pytest.raises(RuntimeError, match="two tasks"):
                await ours.recv(PATIENCE)
            theirs.send(b"news")
            assert await reader == b"news"

    run(main)
