"""A turn that takes several requests: the base of runs with tools, and of answers that are repaired."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from ..core.conversation.pending_turn import PromptPlan
from ..core.conversation.transcript import Turn
from ..core.streaming.decoder import Item, Mode
from ..core.telemetry.hooks import call_hook
from ..core.telemetry.measurements import Telemetry, judge, sum_rounds
from ..core.telemetry.token_usage import with_total_usage
from ..errors import HomingError
from ..reply import Reply
from ..types.events import Finished
from .reply_stream import AsyncReplyStream

P = TypeVar("P")


class AsyncRounds(AsyncReplyStream[P]):
    """The reply to a turn in which the model may be asked again. It holds the turn lock from the first to the last.

    `_after` decides, when a reply has come, whether there is more to do.
    """

    _rounds: tuple[Reply[Any], ...] = ()
    _last = False

    async def _after(self) -> list[Item] | None:
        """Go on after a reply that is not the answer, and return what there is to show; None when stopped.

        `_last` is set when the turn ends with this reply all the same.
        """
        raise NotImplementedError

    def _answered(self) -> bool:
        """Whether the reply that has come is the answer, as far as can be told from itself."""
        return True

    async def _next_batch(self) -> list[Item] | None:
        came: Iterable[Item] | None = await super()._next_batch()
        if came is None:
            if self._over() or self._answered():
                return None
            try:
                return await self._after()
            except HomingError as error:
                call_hook(self._conversation._client._options.hooks.on_error, error)
                raise
        batch = list(came)
        if batch and isinstance(batch[-1], Finished) and not self._answered():
            batch.pop()  # the run's last event, not the round's
        return batch

    async def _finish_first(self, mode: Mode) -> bool:
        return await super()._finish_first(mode) if self._over() or self._answered() else True

    def _over(self) -> bool:
        """Whether nothing more will be asked."""
        return self._last or self._stopped or self._call.stopped

    def _again(self, message: dict[str, Any], more: Sequence[Mapping[str, Any]]) -> None:
        """Count the reply that has come, and ask the model again with ``message`` and ``more`` behind it."""
        place = self._prompt_plan
        assert place is not None, "a turn that has begun has its place"
        telemetry = self._measured(place)
        completion = self._call.accumulator.completion
        self._rounds += (Reply(message, self._call.accumulator.finish_reason, telemetry, completion),)
        self._conversation.totals.add(telemetry)
        self._conversation._client._options.server_state.count(telemetry)
        key = self._call.request.key
        self._send(place.after([message, *more], telemetry))
        self._call.request.key = key  # a new conversation may have been placed with another one

    def _behind(self) -> list[dict[str, Any]]:
        """Return what is known of the round that has not ended."""
        return []

    async def _settle(self, error: BaseException | None) -> None:
        if isinstance(error, HomingError) and self._prompt_plan is not None:
            error.messages = (*self._prompt_plan.new, *self._behind())
        await super()._settle(error)

    def _measured(self, place: PromptPlan) -> Telemetry:
        telemetry = self._call.telemetry()
        telemetry.verdict = judge(telemetry, place.previous())
        return telemetry

    def _prefix(self) -> int | None:
        """Return how much of the last prompt the next turn's begins with, None for all of it."""
        return None

    def _concluded(self) -> tuple[PromptPlan, Turn, Reply[P]]:
        place, turn, reply = super()._concluded()
        self._rounds += (reply,)
        whole = sum_rounds([one.telemetry for one in self._rounds], prefix_tokens=self._prefix())
        completion = with_total_usage(reply.completion, [one.usage for one in self._rounds])
        return place, replace(turn, telemetry=whole), replace(reply, telemetry=whole, completion=completion)
