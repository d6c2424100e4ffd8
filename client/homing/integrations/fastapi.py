"""Replies as server-sent events, for FastAPI or any Starlette application.

    from homing.integrations.fastapi import sse_response     # pip install 'homing[fastapi]'

    @app.post("/chat/{name}")
    async def chat(name: str, question: Annotated[str, Body()]) -> Response:
        return sse_response(client.conversation(name, store=store).stream(question))

When the browser disconnects, the engine stops. During silences (a cold server, a long prefill) comments keep
the connection open, and ``waiting`` events report the progress of a cold start. Errors are sent as a ``failed``
event. docs/chatbot.md describes the content of each event.

For a reply that should survive a reload of the page, use `LiveReply`, which runs independently of the
responses that show it.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import anyio

from .._async.reply_stream import AsyncReplyStream
from .._async.stream import AsyncChatStream
from ..core.affinity.strategies import check_key
from ..core.telemetry.hooks import logger
from ..core.telemetry.measurements import Telemetry
from ..errors import ConfigurationError, HomingError
from ..types.completion import INTERRUPTED
from ._browser_events import (
    KEEP_ALIVE,
    KEEP_ALIVE_EVERY,
    Frame,
    Journal,
    done_frame,
    event_id,
    failed_frame,
    frame_of,
    merged,
    number_after,
)

try:
    from starlette.responses import StreamingResponse
except ImportError as error:
    raise ImportError("homing.integrations.fastapi needs FastAPI: pip install 'homing[fastapi]'") from error

if TYPE_CHECKING:
    from starlette.background import BackgroundTask
    from starlette.types import Message, Receive, Scope, Send

__all__ = [
    "KEEP_ALIVE_EVERY",
    "LINGER",
    "EventStreamResponse",
    "Frame",
    "LiveReply",
    "done_frame",
    "event_id",
    "failed_frame",
    "frames_of",
    "merged",
    "number_after",
    "sse_response",
]

LINGER = 30.0
"""Seconds that a `LiveReply` continues without followers. A reload takes a few seconds, a phone that changes
networks ten or twenty; any longer would waste the engine's time."""

_HEADERS = {
    "cache-control": "no-store",  # the conversation is private
    "x-accel-buffering": "no",  # otherwise nginx buffers events until its buffer is full
}


def sse_response(
    source: AsyncReplyStream[Any] | AsyncChatStream | LiveReply,
    *,
    last_event_id: str | None = None,
    keep_alive: float = KEEP_ALIVE_EVERY,
    headers: Mapping[str, str] | None = None,
) -> EventStreamResponse:
    """Return a response that sends a reply as it arrives.

    Args:
        source: A stream of an `AsyncClient`'s conversation (``stream``, ``run_stream``, ``stream_edit``,
            ``stream_regenerate``) or of ``chat.completions.stream``. When the browser disconnects, the engine
            stops, and a conversation keeps the partial reply as an interrupted turn. A `LiveReply` can have any
            number of responses, and its events have ids.
        last_event_id: The request's ``Last-Event-ID`` header: where to resume a `LiveReply`.
        keep_alive: Seconds of silence before a comment is sent.
        headers: Additional response headers.

    Raises:
        ConfigurationError: ``source`` is not such a stream, or ``keep_alive`` is not positive.
    """
    if isinstance(source, LiveReply):
        body = source.events(last_event_id)
    else:
        body = _encoded(frames_of(source))
    return EventStreamResponse(body, keep_alive=keep_alive, headers=headers)


def frames_of(stream: AsyncReplyStream[Any] | AsyncChatStream) -> AsyncGenerator[Frame, None]:
    """Convert a stream to frames for a browser. The last frame is ``done`` or ``failed``.

    Iterating raises nothing except cancellation. Close the result, as any async generator.

    Raises:
        ConfigurationError: ``stream`` is not a stream of typed events of an `AsyncClient`.
    """
    if not isinstance(stream, (AsyncReplyStream, AsyncChatStream)):
        raise ConfigurationError(
            "the stream must be one of an AsyncClient with typed events: conversation.stream(…) or "
            f"chat.completions.stream(…), got {type(stream).__name__}"
        )
    return _frames(stream)


async def _frames(stream: AsyncReplyStream[Any] | AsyncChatStream) -> AsyncGenerator[Frame, None]:
    try:
        async with stream:
            async for event in stream:
                frame = frame_of(event)
                if frame is not None:
                    yield frame
            last = await _end_of(stream)
    except HomingError as error:
        logger.warning("a reply to a browser failed: %s", error)
        last = failed_frame(error)
    except Exception as error:  # noqa: BLE001 - a bug of ours or of a tool's; the browser still needs a last frame
        logger.exception("a reply to a browser failed")
        last = failed_frame(error)
    yield last


async def _end_of(stream: AsyncReplyStream[Any] | AsyncChatStream) -> Frame:
    if isinstance(stream, AsyncReplyStream):
        reply = await stream.reply()
        return done_frame(reply.finish_reason, reply.telemetry)
    choices = stream.current_completion_snapshot.choices
    reason = INTERRUPTED if stream.cancelled else choices[0].finish_reason if choices else None
    return done_frame(reason, stream._call.telemetry())


async def _encoded(frames: AsyncGenerator[Frame, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(frames):
        async for frame in frames:
            yield frame.encode()


class LiveReply:
    """A reply that runs independently of the responses that show it. Any code in the process can follow it.

    Start `run` in a task of the application (not of a request), and pass the object to `sse_response` for
    every request that shows it. A reloaded page resumes where it was, and two tabs see the same reply. If
    nobody has followed the reply for ``linger`` seconds, it is stopped, and the partial reply is kept.

    Args:
        stream: The reply's stream, as for `frames_of`.
        name: Prefix of the events' ids. Defaults to a random one.
        linger: Seconds to continue without followers. Defaults to 30.

    Raises:
        ConfigurationError: ``stream`` is not a stream of typed events of an `AsyncClient`, or ``name`` is invalid.
    """

    def __init__(
        self,
        stream: AsyncReplyStream[Any] | AsyncChatStream,
        *,
        name: str | None = None,
        linger: float = LINGER,
    ) -> None:
        self.journal = Journal(secrets.token_urlsafe(9) if name is None else check_key(name))
        self._frames = frames_of(stream)
        self._stream = stream
        self._linger = linger
        self._followers = 0
        self._alone_since: float | None = None
        self._news = anyio.Event()
        self._moved = anyio.Event()

    @property
    def name(self) -> str:
        """The prefix of the events' ids."""
        return self.journal.name

    def stop(self) -> None:
        """Stop the reply. Keeps the partial reply and sends followers the last frame. Call it from this event loop."""
        self._stream.cancel()

    def touch(self) -> None:
        """Report a follower that this object cannot see, such as one in another process."""
        self._alone_since = anyio.current_time()
        self._moved.set()

    async def run(self) -> None:
        """Read the reply to its end. Errors become a frame and are not raised."""
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._stop_when_alone)
                async with aclosing(self._frames) as frames:
                    async for frame in frames:
                        self._add(frame)
                group.cancel_scope.cancel()
        finally:
            if not self.journal.ended:  # cancelled: the application is shutting down
                self._add(done_frame(INTERRUPTED, Telemetry()))

    async def follow(self, after: int = 0) -> AsyncGenerator[tuple[int, Frame], None]:
        """Yield the numbered frames after number ``after``, then new ones as they arrive, to the end."""
        self._followers += 1
        self._moved.set()
        try:
            while True:
                news = self._news
                for number, frame in self.journal.since(after):
                    after = number
                    yield number, frame
                if self.journal.ended and after >= len(self.journal.frames):
                    return
                if news is self._news:
                    await news.wait()
        finally:
            self._followers -= 1
            self.touch()

    async def changed(self, number: int) -> None:
        """Wait until there are more than ``number`` frames or the reply has ended."""
        while len(self.journal.frames) <= number and not self.journal.ended:
            await self._news.wait()

    async def finished(self) -> None:
        """Wait until the reply has ended."""
        while not self.journal.ended:
            await self._news.wait()

    async def events(self, last_event_id: str | None = None) -> AsyncGenerator[bytes, None]:
        """Yield the encoded events after ``last_event_id``, then new ones as they arrive."""
        async with aclosing(self.follow(number_after(last_event_id, self.name))) as frames:
            async for number, frame in frames:
                yield frame.encode(event_id(self.name, number))

    def _add(self, frame: Frame) -> None:
        self.journal.frames.append(frame)
        self._news.set()
        self._news = anyio.Event()

    async def _stop_when_alone(self) -> None:
        if self._alone_since is None:
            self._alone_since = anyio.current_time()
        while (left := self._time_left()) > 0:
            self._moved = anyio.Event()
            with anyio.move_on_after(left):
                await self._moved.wait()
        logger.info("nobody follows reply %s any more: stopping it", self.name)
        self.stop()

    def _time_left(self) -> float:
        assert self._alone_since is not None, "set before anybody waits"
        return math.inf if self._followers else self._alone_since + self._linger - anyio.current_time()


class EventStreamResponse(StreamingResponse):
    """A response that sends encoded server-sent events, and a comment after each ``keep_alive`` seconds of silence.

    When the client disconnects, ``events`` is cancelled.

    Args:
        events: The encoded events.
        keep_alive: Seconds of silence before a comment is sent.
        headers: Additional response headers.
        background: A task to run after the response.

    Raises:
        ConfigurationError: ``keep_alive`` is not positive.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        events: AsyncGenerator[bytes, None],
        *,
        keep_alive: float = KEEP_ALIVE_EVERY,
        headers: Mapping[str, str] | None = None,
        background: BackgroundTask | None = None,
    ) -> None:
        if not keep_alive > 0:
            raise ConfigurationError(f"keep_alive must be a number of seconds above 0, got {keep_alive!r}")
        super().__init__(events, headers={**_HEADERS, **(headers or {})}, background=background)
        self._events = events
        self._keep_alive = keep_alive

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the response, as an ASGI application."""
        async with anyio.create_task_group() as group:

            async def leave() -> None:
                # Unlike newer ASGI, don't leave this to the next write: a silent reply would keep running unread.
                await self.listen_for_disconnect(receive)
                group.cancel_scope.cancel()

            async def send_unless_gone(message: Message) -> None:
                try:
                    await send(message)
                except OSError:  # how ASGI 2.4 servers report that the client has disconnected
                    group.cancel_scope.cancel()

            group.start_soon(leave)
            await self.stream_response(send_unless_gone)
            group.cancel_scope.cancel()
        if self.background is not None:
            await self.background()

    async def stream_response(self, send: Send) -> None:
        """Send the response head, the events with comments in between, and the end."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        writing = anyio.Lock()
        wrote = anyio.current_time()

        async def write(data: bytes) -> None:
            nonlocal wrote
            async with writing:
                await send({"type": "http.response.body", "body": data, "more_body": True})
                wrote = anyio.current_time()

        async def keep_alive() -> None:
            while True:
                left = wrote + self._keep_alive - anyio.current_time()
                if left <= 0:
                    await write(KEEP_ALIVE)
                else:
                    await anyio.sleep(left)

        async with anyio.create_task_group() as group:
            group.start_soon(keep_alive)
            async with aclosing(self._events) as events:
                async for event in events:
                    await write(event)
            group.cancel_scope.cancel()
        await send({"type": "http.response.body", "body": b"", "more_body": False})
