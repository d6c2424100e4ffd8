"""Our end: the transports under one face, so that one test serves threads and tasks, ours and httpx's."""

from __future__ import annotations

import concurrent.futures
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

import anyio.from_thread
import httpx

from homing._http._async.transport import AsyncTransport
from homing._http._sync.transport import Transport
from homing._http.request_control import EXTENSION, RequestControl

T = TypeVar("T")


class End(Protocol):
    """An HTTP client on one transport. All methods block."""

    transport: Any
    library: str
    portal: Any

    def open(self, method: str, url: str, *, call: RequestControl | None = None, **options: Any) -> httpx.Response: ...
    def next(self, response: httpx.Response) -> bytes: ...
    def read(self, response: httpx.Response) -> bytes: ...
    def close(self, response: httpx.Response) -> None: ...
    def shut(self) -> None: ...


def request(end: End, method: str, url: str, **options: Any) -> httpx.Response:
    """Send a request and read the whole answer."""
    response = end.open(method, url, **options)
    end.read(response)
    return response


def build(call: RequestControl | None, options: dict[str, Any]) -> dict[str, Any]:
    options.setdefault("timeout", 10.0)
    extensions = dict(options.pop("extensions", {}))
    if call is not None:
        extensions[EXTENSION] = call
    return {**options, "extensions": extensions}


class SyncEnd:
    """`httpx.Client`."""

    library = "threads"

    def __init__(self, transport: httpx.BaseTransport) -> None:
        self.transport: Any = transport
        self.portal: Any = None
        self._client = httpx.Client(transport=transport, trust_env=False)

    def open(self, method: str, url: str, *, call: RequestControl | None = None, **options: Any) -> httpx.Response:
        request = self._client.build_request(method, url, **build(call, options))
        return self._client.send(request, stream=True)

    def next(self, response: httpx.Response) -> bytes:
        stream = response.stream
        assert isinstance(stream, httpx.SyncByteStream)
        iterator: Iterator[bytes] = response.extensions.setdefault("test.iterator", iter(stream))
        return next(iterator, b"")

    def read(self, response: httpx.Response) -> bytes:
        return response.read()

    def close(self, response: httpx.Response) -> None:
        response.close()

    def shut(self) -> None:
        self._client.close()


BACKENDS: dict[str, tuple[str, dict[str, Any]]] = {
    "asyncio": ("asyncio", {}),
    "uvloop": ("asyncio", {"use_uvloop": True}),
    "trio": ("trio", {}),
}
"""What anyio calls the libraries."""


class AsyncEnd:
    """`httpx.AsyncClient` in an event loop of its own, on another thread."""

    def __init__(self, transport: httpx.AsyncBaseTransport, library: str) -> None:
        self.transport: Any = transport
        self.library = library
        self._loop: AbstractContextManager[Any] = anyio.from_thread.start_blocking_portal(*BACKENDS[library])
        self.portal: Any = self._loop.__enter__()
        self._client = httpx.AsyncClient(transport=transport, trust_env=False)

    def open(self, method: str, url: str, *, call: RequestControl | None = None, **options: Any) -> httpx.Response:
        content = options.get("content")
        if content is not None and not isinstance(content, (bytes, str)):
            options["content"] = _as_async(content)

        async def send() -> httpx.Response:
            request = self._client.build_request(method, url, **build(call, options))
            return await self._client.send(request, stream=True)

        result: httpx.Response = self.portal.call(send)
        return result

    def next(self, response: httpx.Response) -> bytes:
        async def step() -> bytes:
            stream = response.stream
            assert isinstance(stream, httpx.AsyncByteStream)
            iterator: AsyncIterator[bytes] = response.extensions.setdefault("test.iterator", stream.__aiter__())
            try:
                return await iterator.__anext__()
            except StopAsyncIteration:
                return b""

        result: bytes = self.portal.call(step)
        return result

    def read(self, response: httpx.Response) -> bytes:
        result: bytes = self.portal.call(response.aread)
        return result

    def close(self, response: httpx.Response) -> None:
        async def close() -> None:
            # httpx's own generators, suspended where the test left them, are closed first: trio insists.
            iterator: Any = response.extensions.get("test.iterator")
            if hasattr(iterator, "aclose"):
                await iterator.aclose()
            await response.aclose()

        self.portal.call(close)

    def shut(self) -> None:
        self.portal.call(self._client.aclose)
        self._loop.__exit__(None, None, None)


async def _as_async(parts: Any) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


OURS = ["threads", "asyncio", "uvloop", "trio"]
STOCK = ["httpx-threads", "httpx-asyncio", "httpx-trio"]


def make(kind: str, **options: Any) -> End:
    """Return an end by its name. ``options`` go to the transport."""
    library = kind.removeprefix("httpx-")
    if kind in STOCK:
        if library == "threads":
            return SyncEnd(httpx.HTTPTransport(**options))
        return AsyncEnd(httpx.AsyncHTTPTransport(**options), library)
    if library == "threads":
        return SyncEnd(Transport(**options))
    return AsyncEnd(AsyncTransport(**options), library)


class Background:
    """Runs one blocking step on a thread and gives back what came of it."""

    def __init__(self) -> None:
        self._threads = concurrent.futures.ThreadPoolExecutor(64)

    def start(self, step: Any, *arguments: Any, **options: Any) -> concurrent.futures.Future[Any]:
        return self._threads.submit(step, *arguments, **options)

    def map(self, step: Callable[[Any], T], items: Iterable[Any]) -> Iterator[T]:
        return self._threads.map(step, items)

    def stop(self) -> None:
        self._threads.shutdown()
