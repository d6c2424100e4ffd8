"""A user's own ``http_client``, with a transport that does what httpx's never does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from importlib import import_module
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import homing

from ..libraries import LIBRARIES

pytestmark = pytest.mark.anyio

CHUNK = b'data: {"id":"x","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"%b"}%b}]}\n\n'
SAID = CHUNK % (b"Hello", b"")
END = CHUNK % (b"", b',"finish_reason":"stop"') + b"data: [DONE]\n\n"


@pytest.fixture(params=LIBRARIES)
def library(request: pytest.FixtureRequest) -> Any:
    return import_module(request.param)


def body_of(library: Any, *pieces: bytes) -> Any:
    """Return pieces, and then nothing more until it is closed, which takes a moment."""

    class Body(library.AsyncByteStream):  # type: ignore[misc]
        closed = False

        async def __aiter__(self) -> AsyncIterator[bytes]:
            for piece in pieces:
                yield piece
            if not pieces[-1].endswith(b"[DONE]\n\n"):
                await anyio.sleep_forever()

        async def aclose(self) -> None:
            await anyio.lowlevel.checkpoint()  # where a task that is being cancelled would be struck again
            self.closed = True

    return Body()


def client_of(library: Any, body: Any) -> homing.AsyncClient:
    def answer(request: Any) -> Any:
        return library.Response(200, headers={"content-type": "text/event-stream"}, stream=body)

    http = library.AsyncClient(transport=library.MockTransport(answer))
    return homing.AsyncClient("http://engine.test", model="m", http_client=http)


async def test_an_empty_piece_is_not_the_end(library: Any) -> None:
    async with client_of(library, body_of(library, SAID, b"", b"", END)) as client:
        assert (await client.conversation().send("Hi")).text == "Hello"


async def test_the_connection_of_a_cancelled_task_is_let_go(library: Any) -> None:
    body = body_of(library, SAID)
    async with client_of(library, body) as client:
        stream = client.conversation().stream("Hi")
        with anyio.CancelScope() as scope:
            async for _ in stream.text:
                scope.cancel()
        assert scope.cancelled_caught
        assert body.closed
