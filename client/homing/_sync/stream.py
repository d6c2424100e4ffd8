# Generated from client/homing/_async/stream.py by scripts/unasync.py: edit that file, not this one.
"""Streams as callers see them: context managers and iterators over what an exchange brings."""

from __future__ import annotations

from collections.abc import Iterator, Iterator
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
from .call import Call

if TYPE_CHECKING:
    from ..types.parsed import ParsedChatCompletion

T = TypeVar("T")


class ItemStream(Generic[T]):
    """What all streams share: iteration, early exit, cancellation.

    Leaving the ``with`` block, or `close`, ends the call at once if it is still running: the
    connection closes and the engine stops generating. `cancel` does the same from any thread
    or task; the iteration then just ends.
    """

    _mode: Mode = "chunks"
    _ended = True  # also where the constructor has failed: `__del__` looks at it

    def __init__(self, call: Call) -> None:
        self._call = call
        # Made one by one as they are asked for: a read may bring a thousand, and so many objects at
        # once keep the garbage collector busy.
        self._items: Iterator[Item] = iter(())
        self._ended = False
        self._left_behind = False
        renew_after_fork(self)

    def _after_fork(self) -> None:
        """What has begun is the parent's: it alone reads it, ends it and records it."""
        if not self._ended and self._call.begun:
            self._ended = self._left_behind = True
            self._items = iter(())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        while True:
            for item in self._items:
                return item  # type: ignore[return-value]
            if not self._more(self._mode):
                raise StopIteration

    def _more(self, mode: Mode) -> bool:
        """Fetch the next items; return whether there may be more."""
        if self._ended:
            if self._left_behind:
                raise HomingError("this stream was begun before fork(): only the process that began it can read it")
            return False
        try:
            self._call.mode = mode
            try:
                batch = self._next_batch()
            except APIError as error:
                if not self._replaces(error):
                    raise
                batch = self._next_batch()
        except BaseException as error:
            self._ended = True
            self._settle(error)
            raise
        if batch is None:
            self._ended = True
            self._settle(None)
            return False
        self._items = iter(batch)
        return True

    def _next_batch(self) -> Any:
        # Hands on what the exchange returns, which is awaited above: a coroutine less for each token.
        return self._call.next_batch()

    def _replaces(self, error: APIError) -> bool:
        """Tell whether the exchange that has failed has been replaced by another, which may do better."""
        return False

    def _settle(self, error: BaseException | None) -> None:
        """Called once, when the call has ended in whatever way."""

    @property
    def response(self) -> httpx.Response | None:
        """The HTTP response, None until there is one."""
        return self._call.response

    @property
    def cancelled(self) -> bool:
        """Whether the caller ended the stream before its end."""
        return self._call.stopped

    @property
    def resumes(self) -> int:
        """How often the stream broke and went on where it was, in another request."""
        return self._call.budget.resumes

    def cancel(self) -> None:
        """End the call at once, from any thread or task. What had come stays readable."""
        if not self._ended:
            self._call.stop()

    def close(self) -> None:
        """End the call at once if it still runs, and free its connection."""
        if self._ended:
            return
        self._ended = True
        self._call.stop()
        try:
            self._call.close()
        finally:
            self._settle(None)


    def _settle_dropped(self) -> None:
        """Called once, when the stream had been collected before its end, by whoever uses the client next."""
        self._call.close()

    def __del__(self) -> None:
        if not self._ended and self._call.begun:
            self._ended = True
            self._call.finalize(self)


class Stream(ItemStream[ChatCompletionChunk]):
    """The chunks of ``create(stream=True)``, as they came over the wire."""

    def open(self) -> Self:
        """Send the request and wait until the server has accepted it."""
        self._call.open()
        return self


class ChatStream(ItemStream[StreamEvent]):
    """The typed events of ``chat.completions.stream(...)``.

    The request goes out with the first event asked for, so that the wait for a cold server
    shows up as `Waiting` events.
    """

    _mode: Mode = "events"

    def __init__(self, call: Call, *, response_format: type[BaseModel] | None = None) -> None:
        super().__init__(call)
        self._response_format = response_format

    @property
    def text(self) -> Iterator[str]:
        """The visible text of the first choice, piece by piece: the fastest way to read a stream."""
        return TextIterator(self)

    @property
    def current_completion_snapshot(self) -> ChatCompletion:
        """The completion as far as it has come."""
        return self._call.accumulator.completion

    def until_done(self) -> Self:
        """Read to the end."""
        while self._more("text"):
            self._items = iter(())
        return self

    def get_final_completion(self) -> ChatCompletion:
        """Read to the end and return the whole completion, parsed when a ``response_format`` was given.

        Raises what parsing raises: `LengthFinishReasonError`, `ContentFilterFinishReasonError`,
        `APIResponseValidationError`.
        """
        self.until_done()
        if self.cancelled:
            raise APIError(
                "the stream was stopped before its end; see current_completion_snapshot for what had come",
                partial=self.current_completion_snapshot,
            )
        completion = self.current_completion_snapshot
        if self._response_format is None:
            return completion
        import_uninterrupted("homing.core.streaming.structured_output")
        from ..core.streaming.structured_output import parse_completion  # few need it, and it builds models

        parsed: ParsedChatCompletion[Any] = parse_completion(completion, self._response_format)
        return parsed

    def get_final_text(self) -> str:
        """Read to the end and return the visible text of the first choice."""
        completion = self.get_final_completion()
        return (completion.choices[0].message.content or "") if completion.choices else ""


class TextIterator:
    """Iterates over a stream's text only."""

    __slots__ = ("_stream",)

    def __init__(self, stream: ItemStream[Any]) -> None:
        self._stream = stream

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        stream = self._stream
        while True:
            for item in stream._items:
                if isinstance(item, str):
                    return item
                if isinstance(item, ContentDelta) and item.index == 0:
                    return item.delta
            if not stream._more("text"):
                raise StopIteration
