"""A turn as its caller sees it: a stream of one reply, or of several in a row."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .._concurrency.tasks import WakeEvent, is_this_thread
from .._http.request_control import Aborted
from ..core.conversation.pending_turn import PendingTurn
from ..core.encoding.messages import encode_message
from ..core.process.interrupts import raise_interrupt
from ..core.process.mutex import LOOK_AGAIN
from ..core.request.request import Request
from ..core.rounds.rounds import ONE_REQUEST, Rounds
from ..core.streaming.accumulator import Accumulator
from ..core.streaming.decoder import Item, Mode
from ..core.telemetry.hooks import logger
from ..errors import ContextWindowExceeded, HomingError
from ..reply import Reply, RunReply
from ..types.events import Finished, StreamEvent
from .active_turn import AsyncActiveTurn
from .call import AsyncCall
from .stream import AsyncItemStream, AsyncTextIterator
from .turn_lock import AsyncTurnClaim

if TYPE_CHECKING:
    from .conversation import AsyncConversation

P = TypeVar("P")


class AsyncReplyStream(AsyncItemStream[StreamEvent], Generic[P]):
    """The reply to one turn, as a stream: a context manager and an iterator over typed events.

    Nothing is sent until the first item is requested. Leaving the ``with`` block early, `aclose`
    and `cancel` stop the engine; the history keeps what was received until then, marked as
    interrupted. `reply` reads to the end. The turn is saved before the last event is handed out.
    """

    _mode: Mode = "events"
    _begun = False  # also when the constructor failed: `__del__` reads it
    _settled = False
    _claim: AsyncTurnClaim | None = None
    _reader = 0
    _waiting: WakeEvent | None = None

    def __init__(
        self,
        conversation: AsyncConversation,
        pending_turn: PendingTurn,
        params: Mapping[str, Any],
        *,
        shows: bool,
        rounds: Rounds = ONE_REQUEST,
    ) -> None:
        self._turn = AsyncActiveTurn(conversation, pending_turn, rounds)
        self._params = params
        self._shows = shows
        self._stopped = False
        self._reading = threading.Lock()  # held while fetching the next item; never acquired with blocking
        self._failure: Exception | None = None
        # Encoding refuses messages that can't be sent. The prompt is built once the turn holds its lock.
        said = [encode_message(message) for message in pending_turn.new or ()]
        super().__init__(self._exchange_of(conversation._request(params, said)))

    def _after_fork(self) -> None:
        super()._after_fork()
        if self._begun and not self._ended:  # it holds the turn lock but has sent nothing
            self._ended = self._left_behind = True
        self._begun = False
        self._reading = threading.Lock()  # a thread of the parent may hold the old one

    @property
    def text(self) -> AsyncIterator[str]:
        """The visible text, piece by piece: the fastest way to read a reply."""
        return AsyncTextIterator(self)

    async def reply(self) -> Reply[P]:
        """Read to the end and return the reply. A stopped stream's reply holds what was received until then.

        Raises:
            HomingError: The stream was closed before its turn began, or has already failed. Also any error of
                `AsyncConversation.send`.
        """
        while await self._more("text"):
            self._items = iter(())
        if self._turn.reply is None:
            raise HomingError("this reply's stream was closed, or failed, before it had brought anything")
        return self._turn.reply

    def cancel(self) -> None:
        """End the turn immediately, from any thread or task. Content received so far stays readable."""
        self._stopped = True  # first: the call may be about to be replaced
        super().cancel()
        if self._claim is not None:
            self._claim.wake_event.set()
        self._turn.tool_runner.stop()

    @property
    def being_read(self) -> bool:
        """Whether a task or thread is waiting for the next item right now."""
        return self._reading.locked()

    async def interrupt(self, patience: Callable[[float], float]) -> None:
        """Stop the turn and record what was received. The stream's reader finds it ended.

        Args:
            patience: Shortens a wait to the time that the caller has left, and raises if none is left.
        """
        if self._ended and (self._settled or not self._begun):
            return
        held = False
        try:
            self.cancel()
            if self._reading.locked() and is_this_thread(self._reader):
                return  # a signal handler called this in the middle of the reader's step, which ends now
            held = True  # an interrupt may arrive right after the call that acquires it
            while not (held := self._reading.acquire(False)):
                await self._wait_for_reader(patience)
            if self._ended:
                await self._settle(None)
            else:
                await self._end(None)
        except HomingError:
            raise
        except BaseException as error:
            if held or not self._reading.locked():  # otherwise the reader does this
                await self._end_turn(error)
            raise
        finally:
            if held:
                self._stop_reading()

    async def aclose(self) -> None:
        """End the turn immediately if it is still running, free its connection, and record what was received.

        May be called from any task or thread: the stream's reader finds it ended.

        Raises:
            HomingError: The stopped turn could not be saved.
        """
        await self.interrupt(lambda wait: wait)

    close = aclose  # async only

    async def _more(self, mode: Mode) -> bool:
        held = True  # an interrupt may arrive right after the call that acquires it
        try:
            while not (held := self._reading.acquire(False)):
                await self._wait_for_reader(lambda wait: wait)
            self._reader = threading.get_ident()
            if self._failure is not None:
                failure, self._failure = self._failure, None
                raise failure
            if self._ended:
                self._check_process()
                return False
            announced: Iterable[Item] = ()
            if not self._begun:
                await self._begin()
                announced = self._turn.rounds.first
            batch = await self._advance(mode)
            if batch is None:
                return False
            if announced:
                batch = [*announced, *batch]
            if self._call.reader.decoder.complete:
                return await self._finish_first(list(batch), mode)
            self._items = iter(batch)
            return True
        except HomingError:
            raise
        except Aborted:  # while waiting for the previous turn
            self._ended = True
            return False
        except BaseException as error:
            await self._end_turn(error)
            raise
        finally:
            if held:
                self._stop_reading()

    def _stop_reading(self) -> None:
        try:
            self._reading.release()
        except RuntimeError as error:  # an interrupt arrived before it was acquired
            raise_interrupt(error)
        if self._waiting is not None:
            self._waiting.set()

    async def _wait_for_reader(self, patience: Callable[[float], float]) -> None:
        """Wait until the current reader may have stopped. Rare: two callers read the stream, or one closes it."""
        wake_event = self._waiting = self._waiting or WakeEvent()
        await wake_event.wait(patience(LOOK_AGAIN))

    async def _end_turn(self, error: BaseException) -> None:
        """End the turn after an interrupt, wherever it arrived: free the connection and settle."""
        if self._begun and not self._settled:
            await self._end(error)

    async def _end(self, error: BaseException | None) -> None:
        self._ended = True
        self._call.stop()
        try:
            await self._call.aclose()
        finally:
            await self._settle(error)

    # -- its requests --------------------------------------------------------------------------

    async def _advance(self, mode: Mode) -> Iterable[Item] | None:
        """Continue until something arrives, within a reply or between two. Returns None when the turn has ended."""
        try:
            batch = await self._call.next_batch(mode)
            if batch is None and not self._at_answer():
                step = await self._turn.follow(self._call)
                batch = step.show
                if step.ask:
                    self._ask_again(step.params, None)
        except BaseException as error:
            if isinstance(error, ContextWindowExceeded) and self._turn.shorten(error, self._call):
                self._ask_again({}, self._call.budget.ends_at)
                return ()
            self._ended = True
            await self._settle(error)
            raise
        if batch is None:
            self._ended = True
            await self._settle(None)
        return batch

    def _at_answer(self) -> bool:
        """Return whether the turn ends with the reply of this call, which has ended."""
        return self._stopped or self._turn.rounds.is_answer(self._call.reader.accumulator)

    async def _finish_first(self, items: list[Item], mode: Mode) -> bool:
        """If the turn ends here, record it before its last ``items`` are handed out. Returns what `_more` returns."""
        if not self._at_answer():
            if items and isinstance(items[-1], Finished):
                items.pop()  # this event ends the turn, not each of its replies
            self._items = iter(items)
            return True
        try:
            while (batch := await self._advance(mode)) is not None:
                items += batch
        except HomingError as error:
            items = [item for item in items if not isinstance(item, Finished)]
            if not items:
                raise
            self._failure = error  # raised in place of the last event, after the text that came with it
        self._items = iter(items)
        return bool(items)

    async def _begin(self) -> None:
        """Acquire the turn lock, and build the prompt from the latest state."""
        turn, conversation = self._turn, self._turn.conversation
        claim = self._claim = AsyncTurnClaim(self)
        try:
            if await turn.begin(claim, self._call.budget, lambda: self._stopped):
                # Stored settings were loaded, so the request may differ.
                self._ask(conversation._request(self._params, ()), self._call.budget.ends_at)
            self._call.request.messages = turn.place.prompt()
            self._call.request.key = conversation.affinity_key
            self._call.placement.placed = conversation.affinity_key != conversation._fresh
            self._begun = True
        except BaseException:
            claim.released = True  # first: one store, which no interrupt can split
            self._begun = False
            conversation._turn_lock.release(claim)
            raise

    def _ask_again(self, params: Mapping[str, Any], ends_at: float | None) -> None:
        """Request again: the turn's new prompt, the same affinity key, and the same settings except ``params``."""
        request, prompt = self._call.request, self._turn.place.prompt()
        self._ask(replace(request, messages=prompt, params={**(request.params or {}), **params}), ends_at)

    def _ask(self, request: Request, ends_at: float | None) -> None:
        """Begin another call. This is the only place that replaces the current one."""
        self._call = self._exchange_of(request)
        if ends_at is not None:
            self._call.end_at(ends_at)
        if self._stopped:  # checked last: `cancel` stops the call that it finds
            self._call.stop()

    def _exchange_of(self, request: Request) -> AsyncCall:
        accumulate = functools.partial(Accumulator, self._turn.rounds.response_format)
        return self._turn.conversation._client._call(request, accumulate=accumulate, shows=self._shows)

    # -- its end -------------------------------------------------------------------------------

    async def _settle(self, error: BaseException | None) -> None:
        if not self._begun or self._settled:
            return
        try:
            try:
                await self._conclude(error)
            except HomingError:
                raise
            except BaseException:  # again: the interrupt may have arrived before anything was done
                with contextlib.suppress(HomingError):
                    await self._conclude(error)
                raise
        finally:
            claim = self._claim
            assert claim is not None, "a turn that has begun has its claim"
            claim.released = True  # first: one store, which no interrupt can split
            self._settled = True
            self._turn.conversation._turn_lock.release(claim)

    async def _conclude(self, error: BaseException | None) -> None:
        """Record the turn, unless ``error`` means that it failed."""
        if isinstance(error, HomingError):
            self._turn.explain(error)
        elif error is None:
            await self._turn.record(self._call)
        elif self._shows and (not isinstance(error, Exception) or self._call.reader.accumulator.started):
            # The task was cancelled, or a signal handler raised: the reader has left, but has seen what had arrived.
            self._call.stop()
            try:
                await self._turn.record(self._call)
            except HomingError as failure:
                logger.warning("a stopped turn could not be saved: %s", failure)

    async def _settle_dropped(self) -> None:
        await super()._settle_dropped()
        conversation = self._turn.conversation
        claim = AsyncTurnClaim()
        try:
            if conversation._turn_lock.try_acquire(claim):  # otherwise the lock's holder does this
                await conversation._record_dropped()
        finally:
            claim.released = True
            conversation._turn_lock.release(claim)

    def __del__(self) -> None:
        try:
            if self._begun and not self._ended:
                # Dropped without being closed: the turn is over. The lock's next holder records what had arrived.
                # A finalizer may run at any point of any thread, so it must not wait or call the user's code.
                self._ended = self._settled = True
                self._turn.conversation._turn_lock.dropped.append(self)
                self._call.finalize(self)
            else:
                super().__del__()
        finally:
            if self._claim is not None:
                self._claim.released = True  # last: the dropped turn must be recorded before the next one

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.aclose()
        except HomingError as failure:
            if error is None:
                raise
            logger.warning("a stopped turn could not be saved: %s", failure)  # the caller's own error takes precedence


class AsyncRunStream(AsyncReplyStream[None]):
    """A run with tools, as a stream: the events of each reply, and of each call in between.

    A context manager and an iterator, like the stream of a single reply. ``text`` iterates over the text
    of all rounds. The run is one turn: it enters the history when the model has answered. If stopped early,
    it is kept, marked as interrupted, with the calls that had a result. The calls of a round start together;
    once all have ended, their results are handed out in the order of the calls. When the run is cancelled,
    so are tools that are coroutines. A function on a thread keeps running, and its result is dropped.
    """

    async def reply(self) -> RunReply:
        """Read to the end of the run and return its reply.

        Raises:
            HomingError: As for `AsyncReplyStream.reply`, or any error of `AsyncConversation.run`.
        """
        reply = await super().reply()
        assert isinstance(reply, RunReply)
        return reply
