"""A turn: its place in the conversation, and its outcome."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .._concurrency.tasks import run_to_completion
from ..core.conversation.pending_turn import PendingTurn, PromptPlan
from ..core.conversation.transcript import Turn, assistant_message, make_turn
from ..core.retry.attempts import CallBudget
from ..core.rounds.rounds import Rounds, Step
from ..core.rounds.tool_run import ToolInvocation
from ..core.streaming.structured_output import parsed_reply
from ..core.telemetry.hooks import call_hook, logger
from ..core.telemetry.measurements import Telemetry, judge, sum_rounds
from ..core.telemetry.token_usage import with_total_usage
from ..core.text.control_characters import one_line
from ..core.tools.results import with_ids
from ..errors import ContextWindowExceeded, HomingError
from ..reply import Reply
from ..types.completion import INTERRUPTED
from .call import AsyncCall
from .tool_runner import ToolRunner
from .turn_lock import INSIDE, AsyncTurnClaim

if TYPE_CHECKING:
    from .conversation import AsyncConversation


class AsyncActiveTurn:
    """One turn of ``conversation``, from the turn lock to the history. Its stream makes the requests."""

    place: PromptPlan
    """Where the turn goes in the conversation. Set by `begin`."""

    def __init__(self, conversation: AsyncConversation, pending_turn: PendingTurn, rounds: Rounds) -> None:
        self.conversation = conversation
        self.rounds = rounds
        self.tool_runner = ToolRunner(rounds.tools.values())
        self.reply: Reply[Any] | None = None
        self._pending_turn = pending_turn
        self._shortened = False
        self._replies: tuple[Reply[Any], ...] = ()
        self._steps: Iterator[Step] | None = None
        self._recorded = False

    async def begin(self, claim: AsyncTurnClaim, budget: CallBudget, stopped: Callable[[], bool]) -> bool:
        """Acquire the turn lock, and find the turn's place in the latest state. Returns whether state was loaded.

        The caller must release ``claim``, even if this raises.
        """
        conversation = self.conversation
        lock, on_busy = conversation._turn_lock, conversation.on_busy
        await lock.acquire(claim, conversation.id, on_busy, until=budget.ends_at, total=budget.total, stopped=stopped)
        await conversation._record_dropped()
        opened = await conversation._open(fresh=self._pending_turn.at is None)
        self.place = self._pending_turn.place(conversation._transcript, conversation.trim)
        return opened

    # -- between two requests ------------------------------------------------------------------

    def shorten(self, refusal: ContextWindowExceeded, call: AsyncCall) -> bool:
        """Plan a shorter prompt after the server refused a long one, once per turn. Returns whether there is one."""
        if self._shortened or call.reader.accumulator.started:
            return False
        place = self.place.shortened(refusal, call.request.params or {})
        if place is not None:
            self.place, self._shortened = place, True
            logger.info("the prompt was too long for the server: turns before number %d left out", place.start)
        return place is not None

    async def follow(self, call: AsyncCall) -> Step:
        """Take the next step after the reply of ``call``, which isn't the answer."""
        accumulator = call.reader.accumulator
        try:
            if self._steps is None:
                self._steps = self.rounds.steps(accumulator, call.request.params or {})
            step = next(self._steps)
            if step.run:
                await self._work(step.run)
            if step.ask:
                telemetry = self._count(call)
                message = dict(step.ask[0])
                self._replies += (Reply(message, accumulator.finish_reason, telemetry, accumulator.completion),)
                self.place = self.place.after(step.ask, telemetry, keeps=step.keeps)
                self._steps = None
        except HomingError as error:
            call_hook(self.conversation._client._options.hooks.on_error, error)
            raise
        return step

    async def _work(self, jobs: Sequence[ToolInvocation]) -> None:
        inside = INSIDE.set((*INSIDE.get(), self.conversation._turn_lock))
        try:
            await self.tool_runner.work(jobs, at_once=self.rounds.at_once)
        finally:
            INSIDE.reset(inside)
        for job in jobs:
            if job.error is not None:
                # The error's text may be secret, so only the debug log gets it.
                logger.warning("the tool %s failed: %s", one_line(job.name), type(job.error).__name__)
                logger.debug("the tool %s failed", one_line(job.name), exc_info=job.error)

    # -- its end -------------------------------------------------------------------------------

    async def record(self, call: AsyncCall) -> None:
        """Record the turn, with what the last ``call`` received. Only the first time."""
        if not self._recorded:
            await run_to_completion(functools.partial(self._record, call))
            call_hook(self.conversation._client._options.hooks.on_reply, self.reply)

    async def _record(self, call: AsyncCall) -> None:
        turn, reply = self._conclude(call)
        if self._pending_turn.record:
            await self.conversation._record(turn, self.place.upto, reply)

    def record_dropped(self, call: AsyncCall) -> None:
        """Record what was received, in memory only. Only the first time."""
        if not self._recorded:
            turn, reply = self._conclude(call)
            if self._pending_turn.record:
                self.conversation._transcript.append(turn, upto=self.place.upto)
            call_hook(self.conversation._client._options.hooks.on_reply, reply)

    def explain(self, error: HomingError) -> None:
        """Attach the messages so far to the ``error`` of a turn that may take several requests."""
        if self.rounds.several:
            error.messages = (*self.place.new, *self.place.repairs, *self.rounds.last_round(stopped=True))

    def _conclude(self, call: AsyncCall) -> tuple[Turn, Reply[Any]]:
        """Build the turn and the reply from what was received, and count it."""
        place, rounds, accumulator = self.place, self.rounds, call.reader.accumulator
        completion = accumulator.completion
        stopped = call.stopped and not (accumulator.complete and rounds.is_answer(accumulator))
        parsed: Any = None
        if rounds.response_format is not None and not stopped:
            try:
                parsed = parsed_reply(completion, rounds.response_format)
            except HomingError as error:
                self.explain(error)
                raise
        finish_reason = INTERRUPTED if stopped else accumulator.finish_reason
        message = with_ids(assistant_message(completion))
        if stopped:
            message.pop("tool_calls", None)  # they will never get a result
        messages = rounds.last_round(stopped=stopped) or [message]
        telemetry = self._count(call)
        reply = Reply(messages[0], finish_reason, telemetry, completion, parsed)
        replies = (*self._replies, reply)
        if rounds.several:
            prefix = place.prefix(replies[0].telemetry)
            telemetry = sum_rounds([one.telemetry for one in replies], prefix_tokens=prefix)
            completion = with_total_usage(completion, [one.usage for one in replies])
            reply = replace(reply, telemetry=telemetry, completion=completion)
        turn = make_turn([*place.new, *messages], finish_reason, telemetry, start=place.start)
        self.conversation._keep_key(call.request.key)
        reply = rounds.outcome(reply, turn, replies)
        self._recorded = True
        self.reply = reply
        return turn, reply

    def _count(self, call: AsyncCall) -> Telemetry:
        """Measure one reply, and add it to the totals."""
        telemetry = call.telemetry()
        telemetry.verdict = judge(telemetry, self.place.previous())
        self.conversation.totals.add(telemetry)
        self.conversation._client._options.server_state.count(telemetry)
        return telemetry
