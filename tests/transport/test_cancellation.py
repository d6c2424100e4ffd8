"""Cancelled tasks leave nothing behind, wherever they were."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import pytest

from homing._http._async.transport import AsyncTransport

from .ends import BACKENDS
from .peers import CHUNKED, END, PATIENCE, Peer, Server, answer, chunk
from .test_calls import full_listener

Serve = Callable[..., Server]


@pytest.fixture(params=list(BACKENDS))
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return BACKENDS[request.param]


async def seen(server: Server, condition: Callable[[Server], bool]) -> None:
    await anyio.to_thread.run_sync(server.wait, condition)


def client_on(transport: AsyncTransport) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=transport, trust_env=False, timeout=PATIENCE)


async def cancel_when(step: Callable[[], Any], server: Server | None, condition: Callable[[Server], bool]) -> None:
    """Run ``step``, cancel it when the server has seen ``condition``."""
    async with anyio.create_task_group() as group:
        group.start_soon(step)
        if server is not None:
            await seen(server, condition)
        else:
            await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()


@pytest.mark.anyio
async def test_while_waiting_for_the_answer(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        asked = peer.request()
        assert asked is not None
        server.note(asked)
        peer.wait_closed()

    server = serve(script)
    transport = AsyncTransport()
    async with client_on(transport) as client:
        await cancel_when(lambda: client.get(server.url), server, lambda s: len(s.requests) == 1)
        await seen(server, lambda s: s.open == 0)
        assert (transport.pool.idle, transport.pool.in_use) == (0, 0)


@pytest.mark.anyio
async def test_within_the_body(serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(CHUNKED + chunk(b"hello"))
        peer.wait_closed()

    server = serve(script)
    transport = AsyncTransport()
    async with client_on(transport) as client:
        begun = anyio.Event()

        async def step() -> None:
            async with client.stream("GET", server.url) as response:
                async for _ in response.aiter_raw():
                    begun.set()

        async with anyio.create_task_group() as group:
            group.start_soon(step)
            await begun.wait()
            group.cancel_scope.cancel()
        await seen(server, lambda s: s.open == 0)
        assert (transport.pool.idle, transport.pool.in_use) == (0, 0)


@pytest.mark.anyio
async def test_while_writing(serve: Serve) -> None:
    begun, done = threading.Event(), threading.Event()

    def deaf(peer: Peer) -> None:
        peer.sock.recv(10)
        begun.set()
        done.wait(PATIENCE)

    server = serve(deaf)
    transport = AsyncTransport()
    try:
        async with client_on(transport) as client:
            async with anyio.create_task_group() as group:
                group.start_soon(functools.partial(client.post, server.url, content=b"x" * 30_000_000))
                assert await anyio.to_thread.run_sync(begun.wait, PATIENCE)
                group.cancel_scope.cancel()
            assert (transport.pool.idle, transport.pool.in_use) == (0, 0)
    finally:
        done.set()


@pytest.mark.anyio
async def test_while_connecting() -> None:
    transport = AsyncTransport()
    with full_listener() as url:
        async with client_on(transport) as client:
            with anyio.move_on_after(0.05):
                await client.get(url)
            assert (transport.pool.idle, transport.pool.in_use) == (0, 0)


@pytest.mark.anyio
async def test_within_the_tls_handshake(serve: Serve) -> None:
    server = serve(lambda peer: peer.wait_closed())
    transport = AsyncTransport()
    async with client_on(transport) as client:
        url = server.url.replace("http:", "https:")
        await cancel_when(lambda: client.get(url), server, lambda s: s.accepted == 1)
        await seen(server, lambda s: s.open == 0)
        assert (transport.pool.idle, transport.pool.in_use) == (0, 0)


@pytest.mark.anyio
async def test_while_waiting_for_a_connection(serve: Serve) -> None:
    server = serve(CHUNKED + chunk(b"hello") + END)
    transport = AsyncTransport(max_connections=1)
    async with client_on(transport) as client:
        async with client.stream("GET", server.url) as first:
            await cancel_when(lambda: client.get(server.url), None, lambda _: True)
            assert transport.pool.waiting == 0
            await first.aread()
        assert (await client.get(server.url)).content == b"hello"
        assert (transport.pool.idle, transport.pool.in_use) == (1, 0)


@pytest.mark.anyio
async def test_after_any_number_of_steps(serve: Serve) -> None:
    """Wherever the exchange stands when the cancellation strikes: nothing leaks, and the client goes on."""

    def slowly(peer: Peer) -> None:
        while peer.request():
            for byte in CHUNKED + chunk(b"hello") + END:
                peer.send(bytes([byte]))

    server = serve(slowly)
    transport = AsyncTransport()
    async with client_on(transport) as client:
        for steps in range(60):
            async with anyio.create_task_group() as group:
                group.start_soon(client.get, server.url)
                for _ in range(steps):
                    await anyio.lowlevel.checkpoint()
                group.cancel_scope.cancel()
            assert transport.pool.in_use == 0
        assert (await client.get(server.url)).content == b"hello"
        await seen(server, lambda s: s.open == transport.pool.idle)
    await seen(server, lambda s: s.open == 0)


def test_native_cancellation_of_asyncio_tasks(serve: Serve) -> None:
    """Without anyio's scopes: `asyncio.Task.cancel`, as `asyncio.wait_for` and web frameworks do."""

    def slowly(peer: Peer) -> None:
        while peer.request():
            for byte in CHUNKED + chunk(b"hello") + END:
                peer.send(bytes([byte]))

    server = serve(slowly)
    transport = AsyncTransport()

    async def main() -> None:
        async with client_on(transport) as client:
            for steps in range(60):
                task = asyncio.create_task(client.get(server.url))
                for _ in range(steps):
                    await asyncio.sleep(0)
                for _ in range(1 + steps % 3):  # impatient callers cancel again
                    task.cancel()
                    await asyncio.sleep(0)
                await asyncio.wait([task])
                assert transport.pool.in_use == 0
            assert (await client.get(server.url)).content == b"hello"
            await seen(server, lambda s: s.open == transport.pool.idle)
        await seen(server, lambda s: s.open == 0)

    asyncio.run(main())


@pytest.mark.anyio
async def test_many_requests_some_cancelled(serve: Serve) -> None:
    server = serve(answer(b"x" * 1000))
    transport = AsyncTransport(max_connections=10)
    async with client_on(transport) as client:

        async def work(number: int) -> None:
            for turn in range(5):
                with anyio.CancelScope() as scope:
                    if (number + turn) % 3 == 0:
                        scope.cancel()
                    assert len((await client.get(server.url)).content) == 1000

        async with anyio.create_task_group() as group:
            for number in range(200):
                group.start_soon(work, number)
        assert (transport.pool.in_use, transport.pool.waiting) == (0, 0)
        assert transport.pool.idle <= 10
