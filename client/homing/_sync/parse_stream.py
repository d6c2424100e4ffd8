# Generated from client/homing/_async/parse_stream.py by scripts/unasync.py: edit that file, not this one.
"""Structured output in a conversation, with a second chance for an answer that does not fit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

from ..core.conversation.pending_turn import PromptPlan
from ..core.conversation.transcript import Turn, assistant_message, user_message
from ..core.streaming.decoder import Item
from ..core.streaming.structured_output import repair_message
from ..errors import HomingError
from ..reply import Reply
from .rounds import Rounds

P = TypeVar("P")


class ParseStream(Rounds[P]):
    """The reply to a turn that is to fit a model.

    While `repairs` are left, an answer that does not fit is sent back with what is wrong with it. What the
    history keeps is the question and the answer that fits: not the mending in between, which later turns
    would pay for and might copy.
    """

    repairs = 0

    def _answered(self) -> bool:
        return self.repairs < 1 or self._complaint() is None

    def _complaint(self) -> str | None:
        assert self.response_format is not None, "structured output has a form"
        return repair_message(self._call.accumulator.completion, self.response_format)

    def _after(self) -> list[Item] | None:
        complaint = self._complaint()
        assert complaint is not None, "what fits is the answer"
        self.repairs -= 1
        self._again(assistant_message(self._call.accumulator.completion), [user_message(complaint)])
        return []

    def _prefix(self) -> int | None:
        return self._rounds[0].telemetry.prompt_tokens if len(self._rounds) > 1 else None

    def _concluded(self) -> tuple[PromptPlan, Turn, Reply[P]]:
        place = self._prompt_plan
        assert place is not None, "a turn that has begun has its place"
        said: list[dict[str, Any]] = place.new[: len(place.new) - 2 * len(self._rounds)]
        self._prompt_plan = replace(place, new=said)
        try:
            return super()._concluded()
        except HomingError as error:
            error.messages = tuple(place.new)
            raise
