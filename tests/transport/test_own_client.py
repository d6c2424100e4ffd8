"""A user's own ``http_client``, with a transport that does what httpx's never does."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import anyio.lowlevel
import httpx
import pytest

import homing

pytestmark = pytest.mark.anyio

CHUNK = b'data: {"id":"x","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"%b"}%b}]}\n\n'
SAID = CHUNK % (b"Hello", b"")
END = CHUNK % (b"", b',"finish_reason":"stop"') + b"data: [DONE]\n\n"


class Body(httpx.AsyncByteStream):
    """Pieces, and then nothing more until it is closed, which takes a moment."""

    def __init__(self, *pieces: bytes) -> None:
        self.closed = False
        self._pieces = pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece
        if not self._pieces[-1].endswith(b"[DONE]\n\n"):
            await anyio.sleep_forever()

    async def aclose(self) -> None:
        await anyio.lowlevel.checkpoint()  # where a task that is being cancelled would be struck again
        self.closed = True


def client_of(body: Body) -> homing.AsyncClient:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=body)

    http = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    return homing.AsyncClient("http://engine.test", model="m", http_client=http)


async def test_an_empty_piece_is_not_the_end() -> None:
    async with client_of(Body(SAID, b"", b"", END)) as client:
        assert (await client.conversation().send("Hi")).text == "Hello"


async def test_the_connection_of_a_cancelled_task_is_let_go() -> None:
    body = Body(SAID)
    async with client_of(body) as client:
        stream = client.conversation().stream("Hi")
        with anyio.CancelScope() as scope:
            async for _ in stream.text:
                scope.cancel()
        assert scope.cancelled_caught
        assert body.closed
