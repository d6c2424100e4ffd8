"""One call on the wire: performs what `core.turn.attempts` decides."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Literal

import httpx

from ..core.accumulate import Accumulator
from ..core.call import EXTENSION, Aborted, Call
from ..core.chunks import M, StreamEnd, parse_answer, parse_event
from ..core.completion_request import first_model
from ..core.failures import (
    MAX_REDIRECTS,
    REDIRECTS,
    connection_failure,
    redirect_target,
    stream_failure,
    truncated,
)
from ..core.hooks import call_hook, logger
from ..core.options import Options
from ..core.problems import invalid_answer, is_error, status_error, stream_error
from ..core.readiness import Ticket
from ..core.request import Request
from ..core.settings import secrets_in
from ..core.sse import EventDecoder
from ..core.telemetry import REPLICA_HEADER, Stopwatch, Telemetry, note_usage
from ..core.timers import Timers
from ..core.turn import Deliver, Effect, Hold, Plan, Send, Sleep, attempts
from ..errors import (
    APIConnectionError,
    APIError,
    APIResponseValidationError,
    APIStatusError,
    HomingError,
    StreamInterrupted,
)
from ..types import ChatCompletionChunk, ModelList
from ..types.events import ChunkEvent, StreamEvent, Waiting
from .concurrency import Alarm, Guard, shielded
from .transport import BODY

Item = ChatCompletionChunk | StreamEvent | str
Mode = Literal["chunks", "events", "text"]

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


class AsyncExchange:
    """A request with its attempts, its response and its measurements.

    `next_batch` is called until it returns None; there is no background work.
    """

    def __init__(
        self,
        channel: AsyncChannel,
        request: Request,
        *,
        accumulate: Callable[[], Accumulator] = Accumulator,
        satisfied: Callable[[], bool] | None = None,
        shows: bool = True,
        lookup: AsyncExchange | None = None,
    ) -> None:
        """``satisfied`` lets another call's result end this one's wait. ``shows`` tells whether somebody
        sees the items before the end; if not, a broken stream may be begun again at any point.
        ``lookup`` is performed first, where the model's name is still to be asked for."""
        options = self._options = channel.options
        self.request = request
        self.mode: Mode = "chunks"
        self.response: httpx.Response | None = None
        self.accumulator = accumulate()
        self.content = b""
        self.stopped = False
        self._secrets: tuple[str, ...] = ()
        self._channel = channel
        self._accumulate = accumulate
        self._satisfied = satisfied
        self._shows = shows
        self._lookup = lookup
        self._alarm = Alarm()
        self._call = Call(clock=options.clock)
        self._guard: Guard | None = None
        self._body: AsyncIterator[bytes] | None = None
        now = options.clock()
        total = request.timeout.total
        self.plan = Plan(
            options.policy,
            options.cold_start_timeout,
            started=now,
            ends_at=None if total is None else now + total,
            total=total,
        )
        self._stopwatch = Stopwatch(now)
        self._timers = Timers(request.timeout, now=now)
        self._decoder = EventDecoder()
        self._held: list[Item] = []
        self._shown = False
        self._pending: APIError | None = None
        self._read_to_end = False
        self._noticed = False
        self._over = False
        self._effect: Effect | None = None
        self._steps = attempts(self.plan, options.learnt.readiness, Ticket(self._alarm.ring), options.clock)

    # -- for the layers above ------------------------------------------------------------------

    async def fetch(self) -> None:
        """Send, and read the answer's body into `content`."""
        while await self.next_batch() is not None:
            pass

    async def answer(self, model: type[M]) -> M:
        """Send, and return the answer's body as ``model``."""
        await self.fetch()
        return self.parsed(model)

    def parsed(self, model: type[M]) -> M:
        """Read the body that has been fetched as ``model``."""
        return parse_answer(self.content, model, secrets=self._secrets)

    async def open(self) -> None:
        """Go on until the server has accepted the request. Errors are raised here instead of later."""
        while not self._over and not isinstance(self._effect, Deliver):
            await self._guarded()

    async def next_batch(self) -> list[Item] | None:
        """Go on until something comes: what one read of the stream brought (perhaps nothing to show), in
        the form that `mode` asks for, or a `Waiting` notice. None when the call is over."""
        while not self._over:
            batch = await self._guarded()
            if batch is not None:
                return batch
        await self.aclose()
        return None

    async def _guarded(self) -> list[Item] | None:
        """Do one step; whatever ends the call also frees its connection."""
        try:
            return await self._step()
        except Aborted:
            self._over = True
            return None
        except HomingError as error:
            if isinstance(error, APIError) and error.partial is None and self.accumulator.started:
                error.partial = self.accumulator.completion
            await self.aclose()
            call_hook(self._options.hooks.on_error, error)
            raise
        except BaseException:
            await self.aclose()
            raise

    def stop(self) -> None:
        """End the call at once, from any thread or task: the engine stops generating."""
        self.stopped = True
        if self._lookup is not None:
            self._lookup.stop()
        guard = self._guard
        if guard is not None:
            guard.abort()
        self._call.abort()
        self._alarm.ring()

    async def aclose(self) -> None:
        """Give the connection back if its answer is read, else close it at once."""
        self._over = True
        if self._lookup is not None:
            await self._lookup.aclose()
        self._steps.close()
        await shielded(self._release)

    def telemetry(self) -> Telemetry:
        """Return what has been measured so far."""
        plan = self.plan
        telemetry = Telemetry(waited=plan.waited, attempts=plan.sent, retries=plan.retries)
        if self.response is not None:
            telemetry.replica = self.response.headers.get(REPLICA_HEADER)
            self._stopwatch.fill(telemetry, self._options.clock())
        note_usage(telemetry, self.accumulator.usage)
        return telemetry

    # -- performing ----------------------------------------------------------------------------

    async def _step(self) -> list[Item] | None:
        if self._lookup is not None:
            return await self._look_up(self._lookup)
        effect = self._effect
        if effect is None:
            self._effect = next(self._steps)
        elif isinstance(effect, Deliver):
            return await self._deliver()
        elif isinstance(effect, Send):
            self._advance(await self._send(with_key=effect.with_key))
        elif isinstance(effect, Hold):
            if effect.notice is not None and not self._noticed:
                self._noticed = True
                self._report(effect.notice)
                return [effect.notice]
            self._noticed = False
            await self._pause(effect.seconds, until_rung=True)
            if self._satisfied is not None and self._satisfied():
                self._over = True
            else:
                self._advance(None)
        else:
            self._report_retry(effect)
            await self._pause(effect.seconds, until_rung=False)
            self._advance(None)
        return None

    async def _look_up(self, lookup: AsyncExchange) -> list[Item] | None:
        batch = await lookup.next_batch()
        if batch is not None:
            return batch
        if self.stopped:
            raise Aborted
        learnt = self._options.learnt
        if learnt.model is None:
            learnt.model = first_model(lookup.parsed(ModelList))
        if self.request.params is not None:
            self.request.params["model"] = learnt.model
        self.plan.waited = lookup.plan.waited
        self._lookup = None
        return None

    def _advance(self, result: Exception | None) -> None:
        try:
            self._effect = self._steps.send(result)
        except StopIteration:
            self._over = True

    async def _pause(self, seconds: float, *, until_rung: bool) -> None:
        clock = self._options.clock
        ends = clock() + seconds
        while not self.stopped and (left := ends - clock()) > 0:
            if await self._alarm.wait(left) and until_rung:
                break
        if self.stopped:
            raise Aborted

    def _report(self, notice: Waiting) -> None:
        logger.info(
            "waiting for a replica: %.1f s of at most %.0f s, attempt %d, next in %.2f s (%s)",
            notice.elapsed,
            notice.deadline,
            notice.attempt,
            notice.next_in,
            notice.cause,
        )
        call_hook(self._options.hooks.on_wait, notice)

    def _report_retry(self, effect: Sleep) -> None:
        notice = effect.notice
        logger.info("attempt %d failed (%s), next in %.2f s", notice.attempt, notice.error, notice.next_in)
        call_hook(self._options.hooks.on_retry, notice)

    # -- sending -------------------------------------------------------------------------------

    async def _send(self, *, with_key: bool) -> Exception | None:
        """Send one attempt; return what went wrong, or None with `response` open."""
        await self._release()
        url, headers, content = self.request.build(self._options, with_key=with_key)
        self._secrets = secrets_in(headers)
        for _ in range(MAX_REDIRECTS):
            failure = await self._open(url, headers, content)
            response = self.response
            if failure is not None or response is None:
                return failure
            if response.status_code in REDIRECTS:
                await self._release()
                url = redirect_target(response, url)
                continue
            if self.request.key is not None and with_key:
                self.request.affinity.observe(self.request.key, response.headers)
            if response.is_success:
                return await self._refuse_what_is_no_stream(response) if self.request.stream else None
            failure = await self._read_whole(limit=MAX_ERROR_BODY)
            await self._release()
            return failure or status_error(
                response.status_code, self.content, response, secrets=self._secrets
            )
        return APIResponseValidationError(f"{url} redirects in a circle")

    async def _refuse_what_is_no_stream(self, response: httpx.Response) -> Exception | None:
        """Tell a login page, or an error object with status 200, from a stream."""
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in ("text/html", "application/json"):
            return None
        failure = await self._read_whole(limit=MAX_ERROR_BODY)
        await self._release()
        if failure is None and is_error(self.content):
            failure = stream_error(self.content, secrets=self._secrets)
        what = f"asked for an event stream, got {kind}"
        return failure or invalid_answer(what, self.content, secrets=self._secrets)

    async def _open(self, url: str, headers: dict[str, str], content: bytes | None) -> Exception | None:
        clock = self._options.clock
        timeout = self.request.timeout
        now = clock()
        self._call = call = Call(clock=clock)
        self._guard = guard = None if self._channel.watched else Guard(call)
        self._timers = Timers(timeout, now=now, ends_at=self.plan.ends_at)
        self._stopwatch = Stopwatch(now)
        self._read_to_end = False
        self.response = None
        call.deadline = self._timers.deadline
        if self.stopped:
            raise Aborted
        left = self._timers.deadline - now
        request = self._channel.http.build_request(
            self.request.method,
            url,
            headers=headers,
            content=content,
            params=self.request.all_query(self._options) or None,
            timeout=httpx.Timeout(
                connect=timeout.connect,
                read=None if left == math.inf else max(0.0, left),
                write=timeout.write,
                pool=timeout.connect,
            ),
            extensions={EXTENSION: call},
        )
        try:
            if guard is None:
                response = await self._channel.http.send(
                    request, stream=True, auth=None, follow_redirects=False
                )
            else:
                response = await guard.run(
                    lambda: self._channel.http.send(request, stream=True, auth=None, follow_redirects=False)
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
            request.extensions["timeout"]["read"] = None
        self.response = response
        self._body = self._iterate(response)
        self._decoder = EventDecoder()
        self.accumulator = self._accumulate()
        self._held = []
        self._pending = None
        return None

    @staticmethod
    def _iterate(response: httpx.Response) -> AsyncIterator[bytes]:
        if response.headers.get("content-encoding", "identity") != "identity":
            body: Any = response.aiter_bytes()
        else:
            body = response.extensions.get(BODY, response.stream)
        iterator: AsyncIterator[bytes] = body.__aiter__()
        return iterator

    async def _release(self) -> None:
        response, body, guard = self.response, self._body, self._guard
        self._body = self._guard = None
        if guard is not None:
            guard.close()
        close_body = getattr(body, "aclose", None)
        if close_body is not None:  # a generator of httpx's, which trio wants closed by its user
            await close_body()
        if response is not None:
            await response.aclose()

    # -- reading -------------------------------------------------------------------------------

    async def _read(self) -> bytes | None:
        """Return the next piece of the body, None at its end."""
        body, guard = self._body, self._guard
        if body is None:
            return None
        try:
            return await (body.__anext__() if guard is None else guard.run(body.__anext__))
        except StopAsyncIteration:
            return None
        except (TimeoutError, httpx.ReadTimeout):
            if self.stopped:
                raise Aborted from None
            raise self._timers.expired(self._options.clock()) from None
        except (httpx.HTTPError, httpx.StreamError):
            if self.stopped:
                raise Aborted from None
            raise

    async def _deliver(self) -> list[Item] | None:
        if not self.request.stream:
            self._advance(await self._read_whole(limit=None))
            return None
        try:
            items = await self._read_items()
        except (APIStatusError, APIConnectionError, StreamInterrupted) as error:
            if self._shown:
                raise
            failure: APIError | None = error
        else:
            if items is not None:
                return items
            failure = None
        self._advance(failure)  # a failure before anything was shown is a failed attempt (hermes-agent#112419)
        return None

    async def _read_items(self) -> list[Item] | None:
        """Return what the next read brings, None when the reply is complete."""
        if self._read_to_end:
            return None
        if self._pending is not None:
            raise self._pending
        try:
            data = await self._read()
        except Aborted:
            raise
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise stream_failure(error) from error
        if data is None:
            if not self.accumulator.terminal:
                raise truncated()
            return self._last_items([])
        now = self._options.clock()
        items, progress, failure = self._take(data)
        if progress:
            self._stopwatch.piece(now)
        self._timers.heard(now, progress=progress)
        self._call.deadline = self._timers.deadline
        if not self._visible():
            if failure is not None:
                raise failure
            if not self.accumulator.done:
                self._held += items  # until something is visible, a retry may still replace it all
                return []
        self._shown = self._shows
        items, self._held = self._held + items, []
        if self.accumulator.done:
            await self._drain()
            if not self.accumulator.terminal:
                raise truncated()
            return self._last_items(items)
        self._pending = failure
        return items

    def _visible(self) -> bool:
        """Whether this reply has brought anything that the caller sees in this mode."""
        accumulator = self.accumulator
        if self._shown or accumulator.has_visible:
            return True
        return self.mode != "text" and (accumulator.has_reasoning or accumulator.has_tool_calls)

    def _take(self, data: bytes) -> tuple[list[Item], bool, APIError | None]:
        """Decode one read: its items, whether they carry the reply on, and what broke it."""
        items: list[Item] = []
        progress = False
        mode, accumulator = self.mode, self.accumulator
        try:
            for event in self._decoder.feed(data):
                chunk = parse_event(event, secrets=self._secrets)
                if chunk is None:
                    continue
                if isinstance(chunk, StreamEnd):
                    accumulator.done = True
                    break
                if mode == "text":
                    text = accumulator.update(chunk)
                    if text:
                        items.append(text)
                elif mode == "chunks":
                    accumulator.update(chunk)
                    items.append(chunk)
                else:
                    items.append(ChunkEvent(chunk))
                    items += accumulator.add(chunk)
                progress = progress or accumulator.progress
        except APIError as error:
            return items, progress, error
        return items, progress, None

    def _last_items(self, items: list[Item]) -> list[Item]:
        self._read_to_end = True
        if self.mode == "events":
            items += self.accumulator.finish()
        return items

    async def _read_whole(self, *, limit: int | None) -> Exception | None:
        """Read the body into `content`; return what went wrong."""
        parts: list[bytes] = []
        size = 0
        try:
            while (data := await self._read()) is not None:
                parts.append(data)
                size += len(data)
                self._timers.heard(self._options.clock(), progress=True)
                self._call.deadline = self._timers.deadline
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

    async def _drain(self) -> None:
        """Read to the end of the body, which is a few bytes away, so that the connection can be used again."""
        self._call.deadline = self._options.clock() + DRAIN
        try:
            while await self._read() is not None:
                pass
        except (APIError, httpx.HTTPError, httpx.StreamError):
            pass  # the reply is complete; only this connection is not worth keeping
