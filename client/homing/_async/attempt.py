"""One request on the wire at a time: sent, read, let go."""

from __future__ import annotations

import math
from dataclasses import dataclass

import httpx

from ..core.call import EXTENSION, Aborted, Call
from ..core.failures import MAX_REDIRECTS, REDIRECTS, connection_failure, redirect_target
from ..core.options import Options
from ..core.problems import invalid_answer, is_error, status_error, stream_error
from ..core.request import Request
from ..core.settings import secrets_in
from ..core.telemetry import REPLICA_HEADER
from ..core.timers import Timers
from ..errors import APIError, APIResponseValidationError, ConfigurationError
from .body import AsyncBody, AsyncPieces
from .concurrency import Guard, shielded
from .transport import BODY

MAX_ERROR_BODY = 1 << 20
"""Bytes of an error's body that are read: enough for any message, not for a proxy's runaway page."""

DRAIN = 1.0
"""Seconds to wait, after ``[DONE]``, for the last bytes of the body, so that the connection can be used again."""


@dataclass(frozen=True)
class AsyncChannel:
    """The way to one server: settings and connections."""

    options: Options
    http: httpx.AsyncClient
    watched: bool
    """Whether the connections look at the `Call` themselves, as those of our own transport do."""


class AsyncAttempt:
    """The attempt under way, and the answer to it as far as it is read. `send` begins the next one."""

    __slots__ = (
        "_body", "_call", "_channel", "_ends_at", "_guard", "_options", "_timers", "content", "response",
        "secrets", "started", "stopped",
    )

    def __init__(self, channel: AsyncChannel, *, ends_at: float | None) -> None:
        """``ends_at`` is when the call as a whole has to be over, on the options' clock."""
        self.response: httpx.Response | None = None
        self.content = b""
        self.secrets: tuple[str, ...] = ()
        self.started = channel.options.clock()
        self.stopped = False
        self._channel = channel
        self._options = channel.options
        self._ends_at = ends_at
        self._call = Call(clock=self._options.clock)
        self._guard: Guard | None = None
        self._body: AsyncBody | AsyncPieces | None = None
        self._timers = Timers(self._options.timeout, now=self.started)

    async def send(self, request: Request, *, with_key: bool) -> Exception | None:
        """Send ``request``; return what went wrong, or None with the answer ready to be read."""
        await self.release()
        url, headers, content = request.build(self._options, with_key=with_key)
        self.secrets = secrets_in(headers)
        for _ in range(MAX_REDIRECTS):
            failure = await self._open(request, url, headers, content)
            response = self.response
            if failure is not None or response is None:
                return failure
            if response.status_code in REDIRECTS:
                await self.release()
                url = redirect_target(response, url)
                continue
            key = request.key if with_key else None
            if key is not None:
                request.affinity.observe(key, response.headers)
            if response.is_success:
                replica = response.headers.get(REPLICA_HEADER)
                self._options.learnt.replicas.seen(key, replica, self._options.clock())
                return await self._refuse_what_is_no_stream(response) if request.stream else None
            failure = await self.read_whole(limit=MAX_ERROR_BODY)
            await self.release()
            return failure or status_error(
                response.status_code, self.content, response, secrets=self.secrets
            )
        return APIResponseValidationError(f"{url} redirects in a circle")

    async def read(self) -> bytes | None:
        """Return the next piece of the body, None at its end. Raises httpx's errors, and our timeouts."""
        body, guard = self._body, self._guard
        if body is None:
            return None
        try:
            return await (body.read() if guard is None else guard.run(body.read)) or None
        except (TimeoutError, httpx.ReadTimeout):
            if self.stopped:
                raise Aborted from None
            raise self._timers.expired(self._options.clock()) from None
        except (httpx.HTTPError, httpx.StreamError):
            if self.stopped:
                raise Aborted from None
            raise

    def heard(self, now: float, *, progress: bool) -> None:
        """Move the time limits: a piece came, and maybe carried the reply on."""
        self._timers.heard(now, progress=progress)
        self._call.deadline = self._timers.deadline

    async def read_whole(self, *, limit: int | None) -> Exception | None:
        """Read the body into `content`; return what went wrong."""
        parts: list[bytes] = []
        size = 0
        try:
            while (data := await self.read()) is not None:
                parts.append(data)
                size += len(data)
                self.heard(self._options.clock(), progress=True)
                if limit is not None and size >= limit:
                    break
        except Aborted:
            raise
        except APIError as error:
            return error
        except (httpx.HTTPError, httpx.StreamError) as error:
            return connection_failure(error, self._options.base_url)
        self.content = b"".join(parts)
        return None

    async def drain(self) -> None:
        """Read to the end of the body, which is a few bytes away, so that the connection can be used again."""
        self._call.deadline = self._options.clock() + DRAIN
        try:
            while await self.read() is not None:
                pass
        except (APIError, httpx.HTTPError, httpx.StreamError):
            pass  # the reply is complete; only this connection is not worth keeping

    async def release(self) -> None:
        """Give the connection back if its answer is read, else close it."""
        response, body, guard = self.response, self._body, self._guard
        self._body = self._guard = None
        if guard is None:
            await self._let_go(response, body)  # our transport's, which nothing can interrupt
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
        """End it at once, from any thread or task; whatever blocks raises `Aborted`."""
        self.stopped = True
        guard = self._guard
        if guard is not None:
            guard.abort()
        self._call.abort()

    async def _refuse_what_is_no_stream(self, response: httpx.Response) -> Exception | None:
        """Tell a login page, or an error object with status 200, from a stream."""
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in ("text/html", "application/json"):
            return None
        failure = await self.read_whole(limit=MAX_ERROR_BODY)
        await self.release()
        if failure is None and is_error(self.content):
            failure = stream_error(self.content, secrets=self.secrets)
        what = f"asked for an event stream, got {kind}"
        return failure or invalid_answer(what, self.content, secrets=self.secrets)

    async def _open(
        self, request: Request, url: str, headers: dict[str, str], content: bytes | None
    ) -> Exception | None:
        clock = self._options.clock
        timeout = request.timeout
        now = self.started = clock()
        self._call = call = Call(clock=clock)
        self._guard = guard = None if self._channel.watched else Guard(call)
        self._timers = Timers(timeout, now=now, ends_at=self._ends_at)
        self.response = None
        call.deadline = self._timers.deadline
        if self.stopped:
            raise Aborted
        if self._channel.http.is_closed:
            return ConfigurationError("this client has been closed: make a new one, or close it later")
        left = self._timers.deadline - now
        sent = self._channel.http.build_request(
            request.method,
            url,
            headers=headers,
            content=content,
            params=request.all_query(self._options) or None,
            extensions={
                EXTENSION: call,
                "timeout": {
                    "connect": timeout.connect,
                    "read": None if left == math.inf else max(0.0, left),
                    "write": timeout.write,
                    "pool": timeout.connect,
                },
            },
        )
        try:
            if guard is None:
                response = await self._channel.http.send(
                    sent, stream=True, auth=None, follow_redirects=False
                )
            else:
                response = await guard.run(
                    lambda: self._channel.http.send(sent, stream=True, auth=None, follow_redirects=False)
                )
        except (TimeoutError, httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            if self.stopped:
                raise Aborted from None
            if isinstance(error, (TimeoutError, httpx.ReadTimeout)):
                return self._timers.expired(clock())
            return connection_failure(error, url)
        if guard is not None:
            guard.attach(response)
            # The limit of the headers was httpx's; from here on ours, which moves with each chunk.
            sent.extensions["timeout"]["read"] = None
        self.response = response
        plain = response.headers.get("content-encoding", "identity") == "identity"
        self._body = (response.extensions.get(BODY) if plain else None) or AsyncPieces(response)
        return None
