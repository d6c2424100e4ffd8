"""Asks the model again when its structured output doesn't fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from ...errors import APIResponseValidationError, FinishReasonError
from ...types.completion import ChatCompletion
from ..conversation.transcript import assistant_message, user_message
from ..errors.validation import describe_errors
from ..streaming.accumulator import Accumulator
from ..streaming.structured_output import parsed_reply
from .rounds import Rounds, Step


def repair_message(completion: ChatCompletion, response_format: type[BaseModel]) -> str | None:
    """Return a message to a model whose answer doesn't fit, None if it fits or a message would be pointless.

    It is pointless after a reply that was cut, withheld or refused, or that calls a tool.
    """
    try:
        parsed_reply(completion, response_format)
    except APIResponseValidationError as error:
        problem = error.__cause__
        if isinstance(problem, ValidationError):
            return (
                f"That does not fit the schema {response_format.__name__}: {describe_errors(problem)}. "
                "Answer again with the corrected JSON and nothing else."
            )
    except FinishReasonError:
        pass
    return None


class Repair(Rounds):
    """The rules of a turn whose answer must fit a pydantic model: if it doesn't, it is sent back with the problem.

    The history keeps the question and the valid answer. It leaves out the repairs in between, which later turns
    would pay for and might copy.
    """

    several = True

    def __init__(self, response_format: type[BaseModel], times: int) -> None:
        self.response_format = response_format
        self._left = times
        self._complaint: str | None = None

    def is_answer(self, reply: Accumulator) -> bool:
        """Return whether ``reply`` fits, or asking again is pointless or no longer allowed."""
        form = self.response_format if self._left else None
        self._complaint = None if form is None else repair_message(reply.completion, form)
        return self._complaint is None

    def steps(self, reply: Accumulator, params: Mapping[str, Any]) -> Iterator[Step]:
        """Ask the model again, with the problem that `is_answer` found."""
        self._left -= 1
        yield Step(ask=[assistant_message(reply.completion), user_message(self._complaint or "")], keeps=False)
