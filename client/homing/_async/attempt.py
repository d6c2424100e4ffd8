"""Sends requests, one at a time, reads their responses, and releases their connections."""

from __future__ import annotations

import functools
import io
import math
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx

from .._concurrency.tasks import shielded
from .._http._async.body import AsyncBody, AsyncPieces
from .._http._async.transport import BODY, AsyncTransport
from .._http.cookie_jars import exclude_our_cookies
from .._http.request_control import EXTENSION, Aborted, Expired, RequestControl
from .._http_library import http_errors, library_of, read_timeouts
from ..core.affinity.cookies import without
from ..core.errors.server_errors import MAX_ERROR_BODY, invalid_response, is_error, status_error, stream_error
from ..core.errors.transport_errors import (
    MAX_REDIRECTS,
    REDIRECTS,
    connection_failure,
    redirect_target,
    shown_host,
    too_large,
)
from ..core.process.interrupts import raise_interrupt
from ..core.request.options import Options
from ..core.request.request import Request
from ..core.retry.timers import Timers
from ..core.secrets.redact import Secrets, redacted_response, secrets_in
from ..core.telemetry.measurements import replica_of
from ..errors import APIError, APIResponseValidationError, ConfigurationError
from .call_guard import CallGuard

DRAIN = 1.0
"""Seconds to wait, after ``[DONE]``, for the last bytes of the body, so that the connection can be reused."""

_parsed = functools.lru_cache(maxsize=64)(httpx.URL)


@dataclass(frozen=True)
class AsyncEndpoint:
    """The way to one server: settings, and connections through our own transport or an httpx client.

    Calls over our own transport bypass httpx's client. Its features (base URLs, redirects, authentication,
    event hooks) are handled at a higher level or not wanted, and cost 150 µs per request.
    """

    options: Options
    http: AsyncTransport | httpx.AsyncClient
    """The client may also be httpx2's, which has the same methods."""

    def request(self, method: str, url: str, **parts: Any) -> httpx.Request:
        """Build a request. ``parts`` are httpx's keyword arguments."""
        if isinstance(self.http, AsyncTransport):
            return httpx.Request(method, _parsed(url), **parts)
        return self.http.build_request(method, url, **parts)

    async def send(self, request: httpx.Request) -> httpx.Response:
        """Send ``request``; return its response as soon as the head has arrived."""
        if isinstance(self.http, AsyncTransport):
            response = await self.http.handle_async_request(request)
            response.request = request
            return response
        return await self.http.send(request, stream=True, auth=None, follow_redirects=False)


class AsyncAttempt:
    """The current attempt, and the part of its response read so far. `send` begins the next attempt."""

    __slots__ = (
        "_body",
        "_control",
        "_endpoint",
        "_guard",
        "_limit",
        "_options",
        "_timers",
        "content",
        "ends_at",
        "received",
        "response",
        "secrets",
        "started",
        "stopped",
    )

    def __init__(self, endpoint: AsyncEndpoint, *, ends_at: float | None) -> None:
        """``ends_at`` is when the whole call must be over, in the options' clock's time."""
        self.response: httpx.Response | None = None
        self.content = b""
        self.secrets = Secrets()
        self.started = endpoint.options.clock()
        self.stopped = False
        self.received = 0
        """Bytes of the reply so far, including those of earlier attempts that it continues."""
        self._limit = math.inf
        self._endpoint = endpoint
        self._options = endpoint.options
        self.ends_at = ends_at
        self._control = RequestControl(clock=self._options.clock)
        self._guard: CallGuard | None = None
        self._body: AsyncBody | AsyncPieces | None = None
        self._timers = Timers(self._options.timeout, now=self.started)

    async def send(self, request: Request, *, with_key: bool) -> Exception | None:
        """Send ``request``; return what went wrong, or None if the response is ready to be read."""
        await self.release()
        url, headers, content = request.build(self._options, with_key=with_key)
        home = request.home if with_key else None
        for _ in range(MAX_REDIRECTS):
            failure = await self._open(request, url, headers, content, home)
            response = self.response
            if failure is not None or response is None:
                return failure
            if response.status_code in REDIRECTS:
                await self.release()
                url = redirect_target(response, url, self.secrets)
                continue
            key = request.key if with_key else None
            if key is not None:
                request.strategy(self._options).observe(key, response.headers)
            if response.is_success:
                if self._options.placement == "balanced":
                    replica = replica_of(response.headers)
                    self._options.server_state.replicas.seen(key, replica, self._options.clock())
                return await self._refuse_what_is_no_stream(response) if request.stream else None
            failure = await self.read_whole(limit=MAX_ERROR_BODY)
            await self.release()
            return failure or self._refused(response)
        return APIResponseValidationError(f"{shown_host(url)} redirects in a circle")

    def _refused(self, response: httpx.Response) -> Exception:
        error = status_error(response.status_code, self.content, response, secrets=self.secrets)
        error.response = redacted_response(response, error.body, self.secrets)
        return error

    async def read(self) -> bytes | None:
        """Return the next piece of the body, None at its end. Raises `http_errors`, and our own timeouts."""
        body, guard = self._body, self._guard
        if body is None:
            return None
        try:
            return await (body.read() if guard is None else guard.run(body.read)) or None
        except http_errors(Expired) as error:
            if self.stopped:
                raise Aborted from None
            raise_interrupt(error)
            if isinstance(error, read_timeouts(Expired)):
                raise self._timers.expired(self._options.clock()) from None
            raise

    def heard(self, now: float, size: int, *, progress: bool) -> None:
        """Move the time limits after ``size`` bytes of the reply came. ``progress``: whether they advanced it.

        Raises `ResponseTooLarge` and our own timeouts. A flood never blocks, so no wait would notice an expired limit.
        """
        self.received = received = self.received + size
        if received > self._limit:
            raise too_large(received, self._limit)
        timers = self._timers
        timers.heard(now, progress=progress, size=size)
        self._control.deadline = timers.deadline

    async def read_whole(self, *, limit: int | None) -> Exception | None:
        """Read the body into `content`; return what went wrong. Anything after ``limit`` bytes is left unread."""
        try:
            with io.BytesIO() as content:  # hands over its bytes without a copy, and is freed on errors
                while (data := await self.read()) is not None:
                    content.write(data)
                    # A body with its own limit isn't part of a reply. White space before JSON is a keep-alive.
                    size = len(data) if limit is None else 0
                    self.heard(self._options.clock(), size, progress=not data.isspace())
                    if limit is not None and content.tell() >= limit:
                        break
                self.content = content.getvalue()
        except Aborted:
            raise
        except APIError as error:
            return error
        except http_errors() as error:
            return connection_failure(error, self._options.base_url, self.secrets)
        return None

    async def drain(self) -> None:
        """Read the last few bytes of the body, so that the connection can be reused."""
        clock = self._options.clock
        self._control.deadline = deadline = clock() + DRAIN
        try:
            while await self.read() is not None and clock() < deadline:
                pass
        except http_errors(APIError):
            pass  # the reply is complete; only this connection is lost

    async def release(self) -> None:
        """Return the connection to the pool if the response has been read, otherwise close it."""
        response, body, guard = self.response, self._body, self._guard
        self._body = self._guard = None
        if guard is None:
            if response is not None:
                response.elapsed = timedelta(seconds=self._options.clock() - self.started)
            await self._let_go(response, body)  # with our own transport, nothing can interrupt this
        else:
            guard.close()
            await shielded(lambda: self._let_go(response, body))

    @staticmethod
    async def _let_go(response: httpx.Response | None, body: AsyncBody | AsyncPieces | None) -> None:
        if body is not None:
            await body.aclose()
        if response is not None:
            await response.aclose()

    def abort(self) -> None:
        """End the attempt immediately, from any thread or task. A blocked operation raises `Aborted`."""
        self.stopped = True
        guard = self._guard
        if guard is not None:
            guard.abort()
        self._control.abort()

    def finalize(self) -> None:
        """End an attempt that is no longer referenced. For finalizers: may run in any thread, and takes no lock."""
        self.stopped = True
        self._control.aborted = True
        if isinstance(self._body, AsyncBody):
            self._body.finalize()
        elif self._guard is not None:
            self._guard.finalize()

    async def _refuse_what_is_no_stream(self, response: httpx.Response) -> Exception | None:
        """Return an error if the response is a login page, or an error object with status 200, and not a stream."""
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in ("text/html", "application/json"):
            return None
        failure = await self.read_whole(limit=MAX_ERROR_BODY)
        await self.release()
        if failure is None and is_error(self.content):
            failure = stream_error(self.content, secrets=self.secrets)
        what = f"asked for an event stream, got {kind}"
        return failure or invalid_response(what, self.content, secrets=self.secrets)

    async def _open(
        self, request: Request, url: str, headers: dict[str, str], content: bytes | None, home: str | None
    ) -> Exception | None:
        clock = self._options.clock
        memory = self._options.server_state.cookies
        timeout = request.timeout
        now = self.started = clock()
        self._control = control = RequestControl(clock=clock)
        http = self._endpoint.http
        # Our own transport's connections check the control themselves.
        self._guard = guard = None if isinstance(http, AsyncTransport) else CallGuard(control)
        self._timers = Timers(timeout, now=now, ends_at=self.ends_at)
        self.response = None
        control.deadline = self._timers.deadline
        limit = request.max_response_bytes
        self._limit = self._options.max_response_bytes if limit is None else limit
        if self.stopped:
            raise Aborted
        if http.is_closed:
            return ConfigurationError("this client has been closed: make a new one, or close it later")
        left = self._timers.deadline - now
        cookies = memory.of(request.caller(self._options), home) if memory and home is not None else None
        if not isinstance(http, AsyncTransport):
            theirs = http.cookies.jar
            exclude_our_cookies(theirs)
            cookies = cookies and without(cookies, theirs)
        sent = self._endpoint.request(
            request.method,
            url,
            headers=headers,
            content=content,
            params=request.all_query(self._options) or None,
            cookies=cookies,
            extensions={
                EXTENSION: control,
                **({} if guard is None else guard.extensions),
                "timeout": {
                    "connect": timeout.connect,
                    "read": None if left == math.inf else max(0.0, left),
                    "write": timeout.write,
                    "pool": timeout.connect,
                },
            },
        )
        self.secrets = secrets_in(sent, http)
        try:
            if guard is None:
                response = await self._endpoint.send(sent)
            else:
                response = await guard.run(lambda: self._endpoint.send(sent))
        except http_errors(Expired) as error:
            if self.stopped:
                raise Aborted from None
            raise_interrupt(error)
            if isinstance(error, read_timeouts(Expired)):
                return self._timers.expired(clock())
            return connection_failure(error, url, self.secrets)
        if guard is not None:
            guard.attach(response)
            # Until the headers, httpx's limit applied. From here on ours does, which moves with each chunk.
            sent.extensions["timeout"]["read"] = None
        self.response = response
        if home is not None and "set-cookie" in response.headers:
            memory.keep(request.caller(self._options), home, response, library=library_of(response))
        plain = response.headers.get("content-encoding", "identity") == "identity"
        self._body = (response.extensions.get(BODY) if plain else None) or AsyncPieces(response)
        return None
