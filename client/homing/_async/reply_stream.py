"""A turn under way."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import BaseModel
from typing_extensions import Self

from ..core.draft import Draft, Place
from ..core.encode import encode_message
from ..core.hooks import call_hook, logger
from ..core.parsed import parsed_reply
from ..core.reading import Mode
from ..core.telemetry import judge
from ..core.tool_pairs import with_ids
from ..core.transcript import INTERRUPTED, Turn, assistant_message, make_turn
from ..errors import APIError, ContextWindowExceeded, HomingError
from ..reply import Reply
from ..types import ChatCompletion
from ..types.events import Finished, StreamEvent
from .concurrency import Mutex, to_the_end
from .stream import AsyncItemStream, AsyncTextIterator

if TYPE_CHECKING:
    from .conversation import AsyncConversation

P = TypeVar("P")


class AsyncReplyStream(AsyncItemStream[StreamEvent], Generic[P]):
    """The reply to one turn, as it comes. A context manager, and an iterator over typed events.

    Nothing is sent before the first item is asked for. Leaving the ``with`` block early,
    `aclose` and `cancel` stop the engine; what had come by then is kept in the history, marked
    as interrupted. `reply` reads to the end. The turn is saved before the last event is handed out.
    """

    _mode: Mode = "events"
    _begun = False  # also where the constructor has failed: `__del__` looks at it

    def __init__(
        self,
        conversation: AsyncConversation,
        draft: Draft,
        params: Mapping[str, Any],
        *,
        shows: bool,
        response_format: type[BaseModel] | None,
    ) -> None:
        self.shows = shows
        self.response_format = response_format
        self.params = params
        self._conversation = conversation
        self._draft = draft
        self._place: Place | None = None
        self._stopped = False
        self._shortened = False
        self._reading = Mutex()
        self._failure: Exception | None = None
        self._reply: Reply[P] | None = None
        # What cannot be sent is refused here. The prompt is made when the turn has the floor.
        said = [encode_message(message) for message in draft.new or ()]
        super().__init__(conversation._request(self, said))

    @property
    def text(self) -> AsyncIterator[str]:
        """The visible text, piece by piece: the fastest way to read a reply."""
        return AsyncTextIterator(self)

    async def reply(self) -> Reply[P]:
        """Read to the end, and return the reply. A stopped stream's holds what had come."""
        while await self._more("text"):
            self._items = iter(())
        if self._reply is None:
            raise HomingError("this reply's stream was closed, or failed, before it had brought anything")
        return self._reply

    def cancel(self) -> None:
        """End the call at once, from any thread or task. What had come stays readable."""
        self._stopped = True  # first: the exchange may be about to be replaced
        super().cancel()

    @property
    def being_read(self) -> bool:
        """Whether somebody is waiting for the next item right now."""
        if self._reading.acquire_nowait():
            self._reading.release()
            return False
        return True

    async def interrupt(self) -> None:
        """Stop the turn and let what had come enter the history; whoever reads it finds it ended."""
        self.cancel()
        await self._reading.acquire()
        try:
            await self.aclose()
        finally:
            self._reading.release()

    async def _more(self, mode: Mode) -> bool:
        await self._reading.acquire()
        try:
            if self._failure is not None:
                failure, self._failure = self._failure, None
                raise failure
            if not self._begun and not self._ended:
                await self._begin()
            more = await super()._more(mode)
            if more and self._exchange.at_end:
                more = await self._finish_first(mode)
            return more
        finally:
            self._reading.release()

    async def _finish_first(self, mode: Mode) -> bool:
        """Let the turn enter before its last items are handed out; return whether there are any."""
        items = list(self._items)
        try:
            while await super()._more(mode):
                items += self._items
        except Exception as error:
            items = [item for item in items if not isinstance(item, Finished)]
            if not items:
                raise
            self._failure = error  # raised in place of the last event, behind the text that came with it
        self._items = iter(items)
        return bool(items)

    async def _begin(self) -> None:
        """Take the floor, look at the newest state, and make the prompt."""
        conversation = self._conversation
        floor = conversation._floor
        await floor.take(conversation.id, conversation.on_busy, self)
        try:
            opened = await conversation._open(fresh=self._draft.at is None)
            self._place = self._draft.place(conversation._transcript, conversation.trim)
            if opened:  # and with it came settings
                self._send(self._place)
            else:
                self._exchange.request.messages = self._place.prompt()
                self._exchange.request.key = conversation.affinity_key
            self._exchange.placing.placed = conversation.affinity_key != conversation._fresh
        except BaseException:
            floor.leave()
            raise
        self._begun = True

    def _send(self, place: Place) -> None:
        """Begin the exchange anew with another prompt."""
        mode = self._exchange.mode
        self._place = place
        self._exchange = self._conversation._request(self, place.prompt())
        self._exchange.mode = mode
        if self._stopped:
            self._exchange.stop()

    def _replaces(self, error: APIError) -> bool:
        """Shorten a prompt that was too long for the server, once."""
        if not isinstance(error, ContextWindowExceeded) or self._shortened:
            return False
        if self._place is None or self._exchange.accumulator.started:
            return False
        place = self._place.shortened(error, {**self._conversation.defaults, **self.params})
        if place is None:
            return False
        self._shortened = True
        key = self._exchange.request.key
        logger.info("the prompt was too long for the server: turns before number %d left out", place.start)
        self._send(place)
        self._exchange.request.key = key  # placed already
        return True

    async def _settle(self, error: BaseException | None) -> None:
        if not self._begun:
            return
        try:
            if error is None:
                await self._finish()
            elif not isinstance(error, Exception) and self.shows:
                # The task was cancelled, or Ctrl-C came: the reader has left, and has seen what had come.
                self._exchange.stop()
                try:
                    await self._finish()
                except HomingError as failure:
                    logger.warning("a stopped turn could not be saved: %s", failure)
        finally:
            self._conversation._floor.leave()

    async def _finish(self) -> None:
        """Let the turn enter the history."""
        conversation = self._conversation
        place, turn, reply = self._concluded()
        self._reply = reply
        if self._draft.record:
            await to_the_end(lambda: conversation._record(turn, place.upto, reply))
        call_hook(conversation._client._options.hooks.on_reply, reply)

    def _concluded(self) -> tuple[Place, Turn, Reply[P]]:
        """Make the turn and the reply of what has come, and count it."""
        exchange, conversation, place = self._exchange, self._conversation, self._place
        assert place is not None, "a turn that has begun has its place"
        completion = exchange.accumulator.completion
        stopped = self._broken_off()
        parsed: Any = None
        if self.response_format is not None and not stopped:
            parsed = parsed_reply(completion, self.response_format)
        telemetry = exchange.telemetry()
        telemetry.verdict = judge(telemetry, place.previous())
        finish_reason = INTERRUPTED if stopped else exchange.accumulator.finish_reason
        messages = self._messages(completion, stopped=stopped)
        reply = Reply(messages[0], finish_reason, telemetry, completion, parsed)
        turn = make_turn([*place.new, *messages], finish_reason, telemetry, start=place.start)
        conversation._came_home(exchange.request.key)
        conversation.totals.add(telemetry)
        conversation._client._options.learnt.count(telemetry)
        return place, turn, reply

    def _broken_off(self) -> bool:
        """Whether the caller stopped the turn before its end."""
        return self._exchange.stopped and not self._exchange.accumulator.complete

    def _messages(self, completion: ChatCompletion, *, stopped: bool) -> list[dict[str, Any]]:
        """Return the reply as the history keeps it, and what belongs behind it."""
        message = with_ids(assistant_message(completion))
        if stopped:
            message.pop("tool_calls", None)  # nobody will answer them
        return [message]

    def __del__(self) -> None:
        if self._begun and not self._ended:
            # Dropped without being closed: the turn is over, and the conversation must not stay locked.
            # It is saved with the next turn; a destructor is no place to wait for a store.
            self._ended = True
            self._exchange.stop()
            place, turn, self._reply = self._concluded()
            if self._draft.record:
                self._conversation._transcript.append(turn, upto=place.upto)
            call_hook(self._conversation._client._options.hooks.on_reply, self._reply)
            self._conversation._floor.leave()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.aclose()
        except HomingError as failure:
            if error is None:
                raise
            logger.warning("a stopped turn could not be saved: %s", failure)  # the caller's own error goes first
