"""httpx's client, without what a call to one's own server has no use for."""

from __future__ import annotations

import functools
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx

from .network import AsyncBodyStream
from .transport import AsyncTransport

_parsed = functools.lru_cache(maxsize=64)(httpx.URL)
_encoded = functools.lru_cache(maxsize=256)(str.encode)  # names of headers, of which there are few


class AsyncMinimalClient(httpx.AsyncClient):
    """An httpx client over our own transport, for exchanges only.

    Base URLs, redirects, authentication and event hooks are dealt with above it or not wanted, and
    take 200 µs for each request. What remains is httpx's: its requests and responses, closing.
    It has no cookies of its own, which would be shared by all who use it (`core.cookies`).
    """

    def __init__(self, transport: AsyncTransport) -> None:
        super().__init__(transport=transport, trust_env=False)
        self._straight = transport

    def build_request(self, method: str, url: httpx.URL | str, **more: Any) -> httpx.Request:
        """Build a request; takes what an exchange gives: headers, content, params, cookies, extensions."""
        target = _parsed(url)
        if more["params"]:
            target = target.copy_with(params=more["params"])
        content: bytes | None = more["content"]
        headers = [(b"Host", target.netloc)]
        headers += [(_encoded(name), value.encode("ascii")) for name, value in more["headers"].items()]
        headers.append((b"Connection", b"keep-alive"))
        if content is not None:
            headers.append((b"Content-Length", b"%d" % len(content)))
        request = httpx.Request(
            method,
            target,
            headers=headers,
            stream=httpx.ByteStream(content or b""),
            extensions=more["extensions"],
        )
        request.read()
        if more.get("cookies") is not None:
            httpx.Cookies(more["cookies"]).set_cookie_header(request)
        return request

    async def send(self, request: httpx.Request, **_: Any) -> httpx.Response:
        """Send ``request``; return its answer as soon as the head is there."""
        began = time.perf_counter()
        response = await self._straight.handle_async_request(request)
        response.request = request
        response.stream = AsyncTimedStream(response, began)
        return response


class AsyncTimedStream(AsyncBodyStream):
    """A response's stream, which notes `httpx.Response.elapsed` when it is closed."""

    def __init__(self, response: httpx.Response, began: float) -> None:
        self._stream: Any = response.stream
        self._response = response
        self._began = began

    def __aiter__(self) -> AsyncIterator[bytes]:
        stream: AsyncIterator[bytes] = self._stream.__aiter__()
        return stream

    async def aclose(self) -> None:
        """Close the stream."""
        self._response.elapsed = timedelta(seconds=time.perf_counter() - self._began)
        await self._stream.aclose()
