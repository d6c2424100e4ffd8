"""Streams as callers see them: context managers and iterators over the items of a call."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import httpx
from pydantic import BaseModel
from typing_extensions import Self

from ..core.process.fork import renew_after_fork
from ..core.process.interrupts import import_uninterrupted
from ..core.streaming.decoder import Item, Mode
from ..errors import APIError, HomingError
from ..types import ChatCompletion, ChatCompletionChunk
from ..types.events import ContentDelta, StreamEvent
from .call import AsyncCall

if TYPE_CHECKING:
    import httpx2

    from ..types.parsed import ParsedChatCompletion

T = TypeVar("T")


class AsyncItemStream(Generic[T]):
    """Base of all streams: iteration, early exit, cancellation.

    Leaving the ``with`` block, or calling `aclose`, ends a running call immediately: the
    connection closes and the engine stops generating. `cancel` does the same from any thread
    or task, and ends the iteration without an error.
    """

    _mode: Mode = "chunks"
    _ended = True  # also when the constructor failed: `__del__` reads it

    def __init__(self, call: AsyncCall) -> None:
        self._call = call
        # Created lazily, one at a time: a read may contain a thousand items, and creating that many objects
        # at once keeps the garbage collector busy.
        self._items: Iterator[Item] = iter(())
        self._ended = False
        self._left_behind = False
        renew_after_fork(self)

    def _after_fork(self) -> None:
        """Leave a call that has begun to the parent: only the parent reads, ends and records it."""
        if not self._ended and self._call.begun:
            self._ended = self._left_behind = True
            self._items = iter(())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        while True:
            for item in self._items:
                return item  # type: ignore[return-value]
            if not await self._more(self._mode):
                raise StopAsyncIteration

    async def _more(self, mode: Mode) -> bool:
        """Fetch the next items; return whether there may be more."""
        if self._ended:
            self._check_process()
            return False
        batch = None
        try:
            batch = await self._call.next_batch(mode)
        finally:
            if batch is None:
                self._ended = True
        self._items = iter(batch or ())
        return batch is not None

    def _check_process(self) -> None:
        if self._left_behind:
            raise HomingError("this stream was begun before fork(): only the process that began it can read it")

    @property
    def response(self) -> httpx.Response | httpx2.Response | None:
        """The HTTP response, or None before it arrives: httpx2's over an ``http_client`` of that library."""
        return self._call.response

    @property
    def cancelled(self) -> bool:
        """Whether the caller ended the stream early."""
        return self._call.stopped

    @property
    def resumes(self) -> int:
        """How often the stream broke and was resumed in another request."""
        return self._call.budget.resumes

    def cancel(self) -> None:
        """End the call immediately, from any thread or task. Content received so far stays readable."""
        if not self._ended:
            self._call.stop()

    async def aclose(self) -> None:
        """End the call immediately if it is still running, and release its connection."""
        if self._ended:
            return
        self._ended = True
        self._call.stop()
        await self._call.aclose()

    close = aclose  # async only

    async def _settle_dropped(self) -> None:
        """Called once by the client's next user, if the stream was garbage-collected before its end."""
        await self._call.aclose()

    def __del__(self) -> None:
        if not self._ended and self._call.begun:
            self._ended = True
            self._call.finalize(self)


class AsyncStream(AsyncItemStream[ChatCompletionChunk]):
    """The chunks of ``create(stream=True)``, as received."""

    async def open(self) -> Self:
        """Send the request and wait until the server has accepted it."""
        await self._call.open()
        return self


class AsyncChatStream(AsyncItemStream[StreamEvent]):
    """The typed events of ``chat.completions.stream(...)``.

    The request is sent when the first event is requested, so that waiting for a cold server
    is reported as `Waiting` events.
    """

    _mode: Mode = "events"

    def __init__(self, call: AsyncCall, *, response_format: type[BaseModel] | None = None) -> None:
        super().__init__(call)
        self._response_format = response_format

    @property
    def text(self) -> AsyncIterator[str]:
        """The visible text of the first choice, piece by piece: the fastest way to read a stream."""
        return AsyncTextIterator(self)

    @property
    def current_completion_snapshot(self) -> ChatCompletion:
        """The completion received so far."""
        return self._call.reader.accumulator.completion

    async def until_done(self) -> Self:
        """Read to the end."""
        while await self._more("text"):
            self._items = iter(())
        return self

    async def get_final_completion(self) -> ChatCompletion:
        """Read to the end and return the whole completion, parsed if ``response_format`` is a pydantic model.

        Raises:
            APIError: The stream failed, or was stopped before its end.
            LengthFinishReasonError: The output to parse was cut at the token limit.
            ContentFilterFinishReasonError: The server withheld the output to parse.
            APIResponseValidationError: The model's text doesn't match ``response_format``.
        """
        await self.until_done()
        if self.cancelled:
            raise APIError(
                "the stream was stopped before its end; see current_completion_snapshot for what had come",
                partial=self.current_completion_snapshot,
            )
        completion = self.current_completion_snapshot
        if self._response_format is None:
            return completion
        import_uninterrupted("homing.core.streaming.structured_output")
        from ..core.streaming.structured_output import parse_completion  # rarely needed, and builds pydantic models

        parsed: ParsedChatCompletion[Any] = parse_completion(completion, self._response_format)
        return parsed

    async def get_final_text(self) -> str:
        """Read to the end and return the visible text of the first choice.

        Raises the errors of `get_final_completion`.
        """
        completion = await self.get_final_completion()
        return (completion.choices[0].message.content or "") if completion.choices else ""


class AsyncTextIterator:
    """An iterator over a stream's text only."""

    __slots__ = ("_stream",)

    def __init__(self, stream: AsyncItemStream[Any]) -> None:
        self._stream = stream

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        stream = self._stream
        while True:
            for item in stream._items:
                if isinstance(item, str):
                    return item
                if isinstance(item, ContentDelta) and item.index == 0:
                    return item.delta
            if not await stream._more("text"):
                raise StopAsyncIteration
