"""A turn under way."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import BaseModel
from typing_extensions import Self

from .._concurrency.tasks import WakeEvent, is_this_thread, run_to_completion
from .._http.request_control import Aborted
from ..core.conversation.pending_turn import PendingTurn, PromptPlan
from ..core.conversation.transcript import Turn, assistant_message, make_turn
from ..core.encoding.messages import encode_message
from ..core.process.interrupts import raise_interrupt
from ..core.process.mutex import LOOK_AGAIN
from ..core.streaming.decoder import Mode
from ..core.streaming.structured_output import parsed_reply
from ..core.telemetry.hooks import call_hook, logger
from ..core.telemetry.measurements import judge
from ..core.tools.results import with_ids
from ..errors import APIError, ContextWindowExceeded, HomingError
from ..reply import Reply
from ..types import ChatCompletion
from ..types.completion import INTERRUPTED
from ..types.events import Finished, StreamEvent
from .stream import AsyncItemStream, AsyncTextIterator
from .turn_lock import AsyncTurnClaim

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
    _settled = False
    _recorded = False
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
        response_format: type[BaseModel] | None,
    ) -> None:
        self.shows = shows
        self.response_format = response_format
        self.params = params
        self._conversation = conversation
        self._pending_turn = pending_turn
        self._prompt_plan: PromptPlan | None = None
        self._stopped = False
        self._shortened = False
        self._reading = threading.Lock()  # held while somebody waits for the next item; nobody blocks on it
        self._failure: Exception | None = None
        self._reply: Reply[P] | None = None
        # What cannot be sent is refused here. The prompt is made when the turn has the floor.
        said = [encode_message(message) for message in pending_turn.new or ()]
        super().__init__(conversation._request(self, said))

    def _after_fork(self) -> None:
        super()._after_fork()
        if self._begun and not self._ended:  # it has the turn lock and has sent nothing
            self._ended = self._left_behind = True
        self._begun = False
        self._reading = threading.Lock()  # a thread of the parent may be reading

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
        if self._claim is not None:
            self._claim.wake_event.set()

    @property
    def being_read(self) -> bool:
        """Whether somebody is waiting for the next item right now."""
        return self._reading.locked()

    async def interrupt(self, patience: Callable[[float], float]) -> None:
        """Stop the turn and let what had come enter the history; whoever reads it finds it ended.

        ``patience`` shortens a wait to what the caller may still wait, and raises when that is nothing.
        """
        if self._ended and (self._settled or not self._begun):
            return
        held = False
        try:
            self.cancel()
            if self._reading.locked() and is_this_thread(self._reader):
                return  # a signal handler has come in the middle of the reader's step, which ends now
            held = True  # an interrupt may come right behind the call that takes it
            held = self._reading.acquire(False)
            while not held:
                await self._wait_for_reader(patience)
                held = self._reading.acquire(False)
            if not self._ended:
                await super().aclose()
            elif self._begun:
                await self._settle(None)
        except HomingError:
            raise
        except BaseException as error:
            if held or not self._reading.locked():  # else the reader sees to it
                await self._end_turn(error)
            raise
        finally:
            if held:
                self._stop_reading()

    async def aclose(self) -> None:
        """End the turn at once if it still runs, free its connection, and let what had come enter the history.

        From any task or thread: whoever reads the stream finds it ended.
        """
        await self.interrupt(lambda wait: wait)

    close = aclose  # async only

    async def _more(self, mode: Mode) -> bool:
        held = True  # an interrupt may come right behind the call that takes it
        try:
            held = self._reading.acquire(False)
            while not held:
                await self._wait_for_reader(lambda wait: wait)
                held = self._reading.acquire(False)
            self._reader = threading.get_ident()
            if self._failure is not None:
                failure, self._failure = self._failure, None
                raise failure
            if not self._begun and not self._ended:
                await self._begin()
            more = await super()._more(mode)
            if more and self._call.at_end:
                more = await self._finish_first(mode)
            return more
        except HomingError:
            raise
        except Aborted:  # while it waited for the turn before
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
        except RuntimeError as error:  # an interrupt came before it was taken
            raise_interrupt(error)
        if self._waiting is not None:
            self._waiting.set()

    async def _wait_for_reader(self, patience: Callable[[float], float]) -> None:
        """Wait until whoever reads this stream may have stopped. Rare: two read one stream, or one ends it."""
        wake_event = self._waiting = self._waiting or WakeEvent()
        await wake_event.wait(patience(LOOK_AGAIN))

    async def _end_turn(self, error: BaseException) -> None:
        """An interrupt has ended the turn, wherever it came: free the connection and settle."""
        if self._begun and not self._settled:
            self._ended = True
            self._call.stop()
            try:
                await self._call.aclose()
            finally:
                await self._settle(error)

    async def _finish_first(self, mode: Mode) -> bool:
        """Let the turn enter before its last items are handed out; return whether there are any."""
        items = list(self._items)
        try:
            while await super()._more(mode):
                items += self._items
        except HomingError as error:
            items = [item for item in items if not isinstance(item, Finished)]
            if not items:
                raise
            self._failure = error  # raised in place of the last event, behind the text that came with it
        self._items = iter(items)
        return bool(items)

    async def _begin(self) -> None:
        """Take the turn lock, look at the newest state, and make the prompt."""
        conversation, plan = self._conversation, self._call.budget
        lock = conversation._turn_lock
        claim = self._claim = AsyncTurnClaim(self)
        try:
            await lock.acquire(
                claim,
                conversation.id,
                conversation.on_busy,
                until=plan.ends_at,
                total=plan.total,
                stopped=lambda: self._stopped,
            )
            await conversation._record_dropped()
            opened = await conversation._open(fresh=self._pending_turn.at is None)
            self._prompt_plan = self._pending_turn.place(conversation._transcript, conversation.trim)
            if opened:  # and with it came settings
                self._send(self._prompt_plan)
                self._call.end_at(plan.ends_at)
            else:
                self._call.request.messages = self._prompt_plan.prompt()
                self._call.request.key = conversation.affinity_key
            self._call.placing.placed = conversation.affinity_key != conversation._fresh
            self._begun = True
        except BaseException:
            claim.released = True  # first, and by itself: nothing can come in between
            self._begun = False
            lock.release(claim)
            raise

    def _send(self, place: PromptPlan) -> None:
        """Begin the exchange anew with another prompt."""
        mode = self._call.mode
        self._prompt_plan = place
        self._call = self._conversation._request(self, place.prompt())
        self._call.mode = mode
        if self._stopped:
            self._call.stop()

    def _replaces(self, error: APIError) -> bool:
        """Shorten a prompt that was too long for the server, once."""
        if not isinstance(error, ContextWindowExceeded) or self._shortened:
            return False
        if self._prompt_plan is None or self._call.accumulator.started:
            return False
        place = self._prompt_plan.shortened(error, {**self._conversation.defaults, **self.params})
        if place is None:
            return False
        self._shortened = True
        key = self._call.request.key
        logger.info("the prompt was too long for the server: turns before number %d left out", place.start)
        ends_at = self._call.budget.ends_at
        self._send(place)
        self._call.end_at(ends_at)
        self._call.request.key = key  # placed already
        return True

    async def _settle(self, error: BaseException | None) -> None:
        if not self._begun or self._settled:
            return
        try:
            try:
                await self._conclude(error)
            except HomingError:
                raise
            except BaseException:  # once more: the interrupt may have come before anything was done
                with contextlib.suppress(HomingError):
                    await self._conclude(error)
                raise
        finally:
            claim = self._claim
            assert claim is not None, "a turn that has begun has its claim"
            claim.released = True  # first, and by itself: nothing can come in between
            self._settled = True
            self._conversation._turn_lock.release(claim)

    async def _conclude(self, error: BaseException | None) -> None:
        """Let the turn enter the history, where ``error`` is not a failure of it."""
        if error is None:
            await self._finish()
        elif self.shows and self._is_interrupt(error):
            # The task was cancelled, or a signal handler has raised: the reader has left, and has seen what had come.
            self._call.stop()
            try:
                await self._finish()
            except HomingError as failure:
                logger.warning("a stopped turn could not be saved: %s", failure)

    def _is_interrupt(self, error: BaseException) -> bool:
        if isinstance(error, HomingError):
            return False
        return not isinstance(error, Exception) or self._call.accumulator.started

    async def _finish(self) -> None:
        """Let the turn enter the history."""
        if not self._recorded:
            await run_to_completion(self._record)
            call_hook(self._conversation._client._options.hooks.on_reply, self._reply)

    async def _record(self) -> None:
        conversation = self._conversation
        place, turn, reply = self._concluded()
        self._recorded = True
        self._reply = reply
        if self._pending_turn.record:
            await conversation._record(turn, place.upto, reply)

    def _concluded(self) -> tuple[PromptPlan, Turn, Reply[P]]:
        """Make the turn and the reply of what has come, and count it."""
        call, conversation, place = self._call, self._conversation, self._prompt_plan
        assert place is not None, "a turn that has begun has its place"
        completion = call.accumulator.completion
        stopped = self._broken_off()
        parsed: Any = None
        if self.response_format is not None and not stopped:
            parsed = parsed_reply(completion, self.response_format)
        telemetry = call.telemetry()
        telemetry.verdict = judge(telemetry, place.previous())
        finish_reason = INTERRUPTED if stopped else call.accumulator.finish_reason
        messages = self._messages(completion, stopped=stopped)
        reply = Reply(messages[0], finish_reason, telemetry, completion, parsed)
        turn = make_turn([*place.new, *messages], finish_reason, telemetry, start=place.start)
        conversation._keep_key(call.request.key)
        conversation.totals.add(telemetry)
        conversation._client._options.server_state.count(telemetry)
        return place, turn, reply

    def _broken_off(self) -> bool:
        """Whether the caller stopped the turn before its end."""
        return self._call.stopped and not self._call.accumulator.complete

    def _messages(self, completion: ChatCompletion, *, stopped: bool) -> list[dict[str, Any]]:
        """Return the reply as the history keeps it, and what belongs behind it."""
        message = with_ids(assistant_message(completion))
        if stopped:
            message.pop("tool_calls", None)  # nobody will answer them
        return [message]

    async def _settle_dropped(self) -> None:
        await super()._settle_dropped()
        conversation = self._conversation
        claim = AsyncTurnClaim()
        try:
            if conversation._turn_lock.try_acquire(claim):  # else whoever has it has seen to this
                await conversation._record_dropped()
        finally:
            claim.released = True
            conversation._turn_lock.release(claim)

    def _conclude_dropped(self) -> None:
        """Let what had come of a stream that was collected enter the history, in memory; once."""
        if self._recorded:
            return
        place, turn, reply = self._concluded()
        self._recorded = True
        self._reply = reply
        if self._pending_turn.record:
            self._conversation._transcript.append(turn, upto=place.upto)
        call_hook(self._conversation._client._options.hooks.on_reply, reply)

    def __del__(self) -> None:
        try:
            if self._begun and not self._ended:
                # Dropped without being closed: the turn is over. What had come is recorded by whoever comes next,
                # with the lock: a finalizer runs anywhere, and is no place to wait, or to call anybody.
                self._ended = self._settled = True
                self._conversation._turn_lock.dropped.append(self)
                self._call.finalize(self)
            else:
                super().__del__()
        finally:
            if self._claim is not None:
                self._claim.released = True  # last: what was dropped comes before the next turn

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
