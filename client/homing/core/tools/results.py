"""Tool calls and their results among messages: every call needs one, under its id, behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...errors import ConfigurationError, ToolError
from ...types.completion import ChatCompletionMessageToolCall
from ..affinity.strategies import new_key
from ..conversation.pending_turn import PendingTurn, PromptPlan
from ..conversation.transcript import INTERRUPTED, Transcript, Turn, make_turn
from ..conversation.trim import Trim
from .definitions import result_text

ToolResults = Mapping[str, Any] | Sequence[Any]
"""Results of tool calls: by the calls' ids, or in the calls' order."""


def tool_message(call: Mapping[str, Any], content: str) -> dict[str, Any]:
    """Return the message that answers ``call``."""
    return {"role": "tool", "tool_call_id": call["id"], "content": content}


def with_ids(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return an assistant's message with its tool calls told apart: some servers give no ids, or one for all."""
    calls: list[dict[str, Any]] = []
    taken: set[str] = set()
    for call in message.get("tool_calls") or ():
        known = call.get("id")
        calls.append({**call, "id": known if known and known not in taken else f"call_{new_key()}"})
        taken.add(calls[-1]["id"])
    return {**message, "tool_calls": calls} if calls else dict(message)


def pending_calls(messages: Sequence[Mapping[str, Any]], finish_reason: str | None) -> list[dict[str, Any]]:
    """Return the tool calls at the end of a turn that wait for a result. A stopped turn waits for nothing."""
    if finish_reason == INTERRUPTED:
        return []
    calls, _, results = _last_round(messages)
    return [call for call in calls if call.get("id") not in results]


def as_tool_calls(calls: Sequence[Mapping[str, Any]]) -> list[ChatCompletionMessageToolCall]:
    """Return the calls as a reply shows them."""
    return [ChatCompletionMessageToolCall.model_validate(call) for call in calls]


@dataclass(frozen=True, slots=True)
class Submission(PendingTurn):
    """Results for the calls that the last turn waits for. The turn goes on: it is replaced by a longer one."""

    at: int | Turn | None = -1
    results: ToolResults = ()

    def place(self, transcript: Transcript, trim: Trim | None) -> PromptPlan:
        """Put the results behind their calls. Raises `ConfigurationError` when they do not match."""
        turn = transcript.turns[-1] if transcript.turns else make_turn([], None)
        calls = pending_calls(turn.messages, turn.finish_reason)
        if not calls:
            raise ConfigurationError(
                "no tool call waits for a result: submit() answers those of the last reply (see pending_calls)"
            )
        messages = with_results(turn.messages, _by_id(calls, self.results))
        place = PendingTurn(messages, -1).place(transcript, trim)
        return replace(place, edited=False, start=turn.start)


def with_results(messages: Sequence[Mapping[str, Any]], results: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return ``messages`` with results for the last calls, all of them in the order of the calls."""
    calls, reply, known = _last_round(messages)
    error_content = {**known, **results}
    answers = [tool_message(call, error_content[call["id"]]) for call in calls if call["id"] in error_content]
    return [*(dict(message) for message in messages[: reply + 1]), *answers]


def result_content(value: Any) -> str:
    """Return a result as text for the model; an exception in the caller's words."""
    if isinstance(value, BaseException):
        return error_content(value)
    try:
        return result_text(value)
    except ToolError as error:
        raise ConfigurationError(f"a tool's result cannot be sent: {error}") from None


def error_content(error: BaseException) -> str:
    """Say to the model what went wrong: in full what was written for it, else only of what kind it was."""
    return f"Error: {error}" if isinstance(error, ToolError) else f"Error: the tool failed ({type(error).__name__})"


def _last_round(
    messages: Sequence[Mapping[str, Any]],
) -> tuple[list[dict[str, Any]], int, dict[str, str]]:
    """Return the last reply's calls, its place, and the results behind it, by id."""
    results: dict[str, str] = {}
    for place in range(len(messages) - 1, -1, -1):
        message = messages[place]
        if message.get("role") == "assistant":
            return list(message.get("tool_calls") or ()), place, results
        if message.get("role") != "tool":
            break
        results[message.get("tool_call_id", "")] = message.get("content", "")
    return [], len(messages), {}


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
