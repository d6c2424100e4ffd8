"""Results for the pending tool calls of a conversation's last turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...errors import ConfigurationError
from ..tools.results import pending_calls, result_content, with_results
from .pending_turn import PendingTurn, PromptPlan
from .transcript import Transcript, Turn, make_turn
from .trim import Trim

ToolResults = Mapping[str, Any] | Sequence[Any]
"""Results of tool calls: a mapping from call ids, or a sequence in the order of the calls."""


@dataclass(frozen=True, slots=True)
class Submission(PendingTurn):
    """Results for the pending tool calls of the last turn. The turn continues: a longer one replaces it."""

    at: int | Turn | None = -1
    results: ToolResults = ()

    def place(self, transcript: Transcript, trim: Trim | None) -> PromptPlan:
        """Put the results after their calls. Raises `ConfigurationError` if they don't match."""
        turn = transcript.turns[-1] if transcript.turns else make_turn([], None)
        calls = pending_calls(turn.messages, turn.finish_reason)
        if not calls:
            raise ConfigurationError(
                "no tool call waits for a result: submit() answers those of the last reply (see pending_calls)"
            )
        messages = with_results(turn.messages, _by_id(calls, self.results))
        place = PendingTurn(messages, -1).place(transcript, trim)
        return replace(place, edited=False, start=turn.start)


def _by_id(calls: Sequence[Mapping[str, Any]], results: ToolResults) -> dict[str, str]:
    wanted = [call["id"] for call in calls]
    if isinstance(results, Mapping):
        given = dict(results)
    elif isinstance(results, (str, bytes)) or not isinstance(results, Sequence):
        raise ConfigurationError(
            f"results must be a mapping from call ids, or a list in the calls' order, got {type(results).__name__}"
        )
    elif len(results) == len(wanted):
        given = dict(zip(wanted, results, strict=True))
    else:
        raise ConfigurationError(f"{len(wanted)} tool calls wait for a result, {len(results)} were given")
    if given.keys() != set(wanted):
        raise ConfigurationError(
            f"every tool call that waits needs a result: {sorted(wanted)}, given were {sorted(map(str, given))}"
        )
    return {name: result_content(given[name]) for name in wanted}
