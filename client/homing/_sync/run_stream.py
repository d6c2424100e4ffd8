# Generated from client/homing/_async/run_stream.py by scripts/unasync.py: edit that file, not this one.
"""A run with tools: the model calls functions, learns what they return, and goes on until it answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..core.conversation.pending_turn import PendingTurn, PromptPlan
from ..core.conversation.submission import Submission
from ..core.conversation.transcript import Turn
from ..core.streaming.decoder import Item
from ..core.telemetry.hooks import logger
from ..core.text.control_characters import one_line
from ..core.tools.run import ToolInvocation, ToolRun, later_choice, name_of
from ..reply import Reply, RunReply
from ..types import ChatCompletion
from ..types.events import Finished
from ..types.tool_events import RoundStarted
from .rounds import Rounds
from .tool_runner import ToolRunner
from .turn_lock import INSIDE

if TYPE_CHECKING:
    from .conversation import Conversation


class RunStream(Rounds[None]):
    """A run with tools, as it happens: the events of each reply, and of each call in between.

    A context manager and an iterator, like the stream of a single reply, and ``.text`` iterates over the
    text of all rounds. The run is one turn: it enters the history when the model has answered. Stopped
    early it is kept, marked as interrupted, with the calls that had a result. The calls of a round start
    together; their results are handed out when all have ended, in the order of the calls.
    """

    def __init__(
        self,
        conversation: Conversation,
        pending_turn: PendingTurn,
        params: Mapping[str, Any],
        run: ToolRun,
        *,
        shows: bool,
    ) -> None:
        self._run = run
        self._tool_runner = ToolRunner(run.tools.values())
        self._jobs: list[ToolInvocation] | None = None
        self._called: dict[str, Any] = {}
        self._announced: RoundStarted | None = None
        if run.definitions:
            params = {**params, "tools": run.definitions}
        if isinstance(pending_turn, Submission):
            self._conversation = conversation
            params = self._in_later_rounds(params)
        super().__init__(conversation, pending_turn, params, shows=shows, response_format=None)

    def reply(self) -> RunReply:
        """Go through the run to its end, and return what it came to."""
        reply = super().reply()
        assert isinstance(reply, RunReply)
        return reply

    def cancel(self) -> None:
        """End the run at once, from any thread or task. Coroutines among the tools are cancelled; a function on
        a thread runs on, and its result is dropped."""
        super().cancel()
        self._tool_runner.stop()

    def _begin(self) -> None:
        super()._begin()
        self._announced = RoundStarted(self._run.round)

    def _next_batch(self) -> list[Item] | None:
        batch = super()._next_batch()
        announced, self._announced = self._announced, None
        return batch if announced is None or batch is None else [announced, *batch]

    def _answered(self) -> bool:
        return not self._call.accumulator.has_tool_calls

    def _after(self) -> list[Item] | None:
        if self._jobs is None:
            return self._plan()
        jobs = self._jobs
        self._work(jobs)
        if self._stopped:
            return None
        self._run.check(jobs)
        ended: list[Item] = [job.ended for job in jobs if job.tool is not None]
        if any(job.for_caller for job in jobs):
            return [*ended, self._finished()]
        self._jobs = None
        self._run.round += 1
        self.params = self._in_later_rounds(self.params)
        self._again(self._called, [job.message for job in jobs])
        return [*ended, RoundStarted(self._run.round)]

    def _plan(self) -> list[Item]:
        """Look at the calls of the reply that has come, and announce those that are to run."""
        completion = self._call.accumulator.completion
        [self._called] = super()._messages(completion, stopped=False)
        offered = {name_of(tool) for tool in (self._call.request.params or {}).get("tools") or ()}
        jobs = self._run.jobs(completion, self._called, offered)
        if not jobs:
            return [self._finished()]
        self._jobs = jobs
        return [job.started if job.waits else job.ended for job in jobs if not job.for_caller]

    def _finished(self) -> Finished:
        self._last = True
        return Finished(self._call.accumulator.finish_reason)

    def _work(self, jobs: list[ToolInvocation]) -> None:
        inside = INSIDE.set((*INSIDE.get(), self._conversation._turn_lock))
        try:
            self._tool_runner.work([job for job in jobs if job.waits], at_once=self._run.at_once)
        finally:
            INSIDE.reset(inside)
        for job in jobs:
            if job.tool is not None and job.error is not None:
                # Its words, which may be secret, are for those who turn debugging on.
                logger.warning("the tool %s failed: %s", one_line(job.name), type(job.error).__name__)
                logger.debug("the tool %s failed", one_line(job.name), exc_info=job.error)

    def _in_later_rounds(self, params: Mapping[str, Any]) -> dict[str, Any]:
        choice = later_choice({**self._conversation.defaults, **params})
        return {**params, "tool_choice": choice} if choice is not None else dict(params)

    def _broken_off(self) -> bool:
        return super()._broken_off() or (self._over() and not self._last and not self._answered())

    def _messages(self, completion: ChatCompletion, *, stopped: bool) -> list[dict[str, Any]]:
        messages = super()._messages(completion, stopped=stopped)
        if self._jobs is None:
            return messages
        if not stopped:
            return [self._called, *(job.message for job in self._jobs if job.content is not None)]
        return self._behind() or messages

    def _behind(self) -> list[dict[str, Any]]:
        """Return the calls of the last reply that have a result, and the results."""
        ended = [job for job in self._jobs or () if job.content is not None]
        if not ended:
            return []
        return [{**self._called, "tool_calls": [job.call for job in ended]}, *(job.message for job in ended)]

    def _prefix(self) -> int | None:
        """Later prompts leave out what the model thought between two calls."""
        place = self._prompt_plan
        assert place is not None, "a turn that has begun has its place"
        if not any(message.get("reasoning_content") for message in place.new):
            return None
        if place.upto is not None:  # results that the caller gave: the turn had begun before
            return place.transcript.turns[place.upto].telemetry.lasting_tokens
        return self._rounds[0].telemetry.prompt_tokens

    def _concluded(self) -> tuple[PromptPlan, Turn, Reply[None]]:
        place, turn, reply = super()._concluded()
        run = RunReply(
            reply.message,
            reply.finish_reason,
            reply.telemetry,
            reply.completion,
            messages=turn.messages,
            rounds=self._rounds,
        )
        return place, turn, run
