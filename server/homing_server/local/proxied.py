"""A replica that is somebody else's OpenAI-compatible server, behind the edge by its URL."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Mapping
from typing import Any

import anyio
import httpx

from .replica import PLAIN_TEXT, ReplicaLost, Reply, Request, send

# Headers of one connection, not of the message (RFC 9110 §7.6.1), and those httpx writes itself.
_HOP_BY_HOP = {
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "host",
    "content-length",
}
# The edge's own credentials end at the edge.
_FOR_THE_EDGE = {"modal-key", "modal-secret"}
# A backend that does not accept within this is down; how long it then thinks is the client's affair.
_CONNECT_TIMEOUT = 5.0
# Below the 5 s after which uvicorn, and with it SGLang, closes an idle connection: a request sent
# into a closing one would be lost.
_IDLE_TIMEOUT = 2.0
# The end of a stream, where its usage is.
_TAIL_BYTES = 4_096


class ProxiedEngine:
    """Passes requests on to ``base_url`` (with or without ``/v1``) and streams the answer back.

    When the client leaves, the request upstream is closed as well.
    """

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url.rstrip("/").removesuffix("/v1")
        # A URL may hold a password, and what is said of it goes to clients.
        self._shown = re.sub(r"//[^/]*@", "//", self.base_url)
        # The edge limits concurrency; a pool that did so too would queue where nobody can see it.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=_IDLE_TIMEOUT)
        timeout = httpx.Timeout(None, connect=_CONNECT_TIMEOUT)
        self._http = httpx.AsyncClient(timeout=timeout, limits=limits, trust_env=False)

    def __repr__(self) -> str:
        return f"<ProxiedEngine {self._shown}>"

    async def start(self) -> None:
        """Nothing to start: the server is somebody else's."""

    async def stop(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def answer(self, request: Request, reply: Reply) -> None:
        """Pass one request on; 502 when the backend cannot be reached."""
        # Whoever ends a request also closes the connections that others left idle for too long, and
        # httpcore shields that from a cancelled scope only: a cancelled task would leave them open.
        scope = anyio.CancelScope()
        passing = asyncio.ensure_future(self._pass_on(request, reply, scope))
        try:
            await asyncio.wait({passing})
        except asyncio.CancelledError:
            scope.cancel()
            await asyncio.wait({passing})
            if not passing.cancelled():
                passing.exception()  # nobody is left to hear of it
            raise
        passing.result()

    async def _pass_on(self, request: Request, reply: Reply, scope: anyio.CancelScope) -> None:
        with scope:
            await self._exchange(request, reply)

    async def _exchange(self, request: Request, reply: Reply) -> None:
        query = f"?{request.query}" if request.query else ""
        dropped = _HOP_BY_HOP | _FOR_THE_EDGE
        upstream = self._http.build_request(
            request.method,
            f"{self.base_url}{request.path}{query}",
            headers=[(k, v) for k, v in request.headers.items() if k not in dropped],
            content=request.body,
        )
        try:
            response = await self._http.send(upstream, stream=True)
        except httpx.TransportError as error:
            body = f"backend {self._shown} cannot be reached ({type(error).__name__})\n"
            await send(reply, 502, body, content_type=PLAIN_TEXT)
            return
        tail = b""
        async with contextlib.aclosing(response):
            await reply.start(response.status_code, _kept(response.headers))
            try:
                async for data in response.aiter_raw():
                    tail = (tail + data)[-_TAIL_BYTES:]
                    _note_usage(request, tail)
                    await reply.write(data)
            except httpx.TransportError as error:
                raise ReplicaLost from error
        await reply.finish()


def _kept(headers: httpx.Headers) -> list[tuple[str, str]]:
    # raw bytes are passed on, so the original length and encoding stay true
    dropped = (_HOP_BY_HOP - {"content-length"}) | {"date", "server"}
    return [(k, v) for k, v in headers.multi_items() if k.lower() not in dropped]


def _note_usage(request: Request, tail: bytes) -> None:
    """Fill in the token counts where the last ``usage`` object of the body can be read."""
    start = tail.rfind(b'"usage":')
    if start < 0:
        return
    text = tail[start + len(b'"usage":') :].decode("utf-8", "replace").lstrip()
    with contextlib.suppress(ValueError):
        usage: Any = json.JSONDecoder().raw_decode(text)[0]
        if isinstance(usage, Mapping):
            details = usage.get("prompt_tokens_details")
            request.tokens.prompt = usage.get("prompt_tokens")
            request.tokens.completion = usage.get("completion_tokens")
            request.tokens.cached = details.get("cached_tokens") if isinstance(details, Mapping) else None
