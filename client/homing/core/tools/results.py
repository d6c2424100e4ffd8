"""Tool calls and their results among messages: every call needs one, under its id, behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import ConfigurationError, ToolError
from ...types.completion import INTERRUPTED, ChatCompletionMessageToolCall
from ..affinity.strategies import new_key
from .definitions import result_text


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
