"""Tool calls and results in a list of messages: a result with its id must follow every call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import ConfigurationError, ToolError
from ...types.completion import INTERRUPTED, ChatCompletionMessageToolCall
from ..affinity.strategies import new_key
from .definitions import result_text


def tool_message(call: Mapping[str, Any], content: str) -> dict[str, Any]:
    """Return the message with the result of ``call``."""
    return {"role": "tool", "tool_call_id": call["id"], "content": content}


def with_ids(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return an assistant message with a distinct id for each tool call: some servers send none, or one for all."""
    calls: list[dict[str, Any]] = []
    taken: set[str] = set()
    for call in message.get("tool_calls") or ():
        known = call.get("id")
        calls.append({**call, "id": known if known and known not in taken else f"call_{new_key()}"})
        taken.add(calls[-1]["id"])
    return {**message, "tool_calls": calls} if calls else dict(message)


def pending_calls(messages: Sequence[Mapping[str, Any]], finish_reason: str | None) -> list[dict[str, Any]]:
    """Return the tool calls at the end of a turn that still need a result. An interrupted turn has none."""
    if finish_reason == INTERRUPTED:
        return []
    calls, _, results = _last_round(messages)
    return [call for call in calls if call.get("id") not in results]


def as_tool_calls(calls: Sequence[Mapping[str, Any]]) -> list[ChatCompletionMessageToolCall]:
    """Return the calls as the models that a reply holds."""
    return [ChatCompletionMessageToolCall.model_validate(call) for call in calls]


def with_results(messages: Sequence[Mapping[str, Any]], results: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return ``messages`` with the results for the last calls, in the order of the calls."""
    calls, reply, known = _last_round(messages)
    error_content = {**known, **results}
    answers = [tool_message(call, error_content[call["id"]]) for call in calls if call["id"] in error_content]
    return [*(dict(message) for message in messages[: reply + 1]), *answers]


def result_content(value: Any) -> str:
    """Return a result that the caller passed as text for the model; an exception becomes an error message."""
    if isinstance(value, BaseException):
        return error_content(value)
    try:
        return result_text(value)
    except ToolError as error:
        raise ConfigurationError(f"a tool's result cannot be sent: {error}") from None


def error_content(error: BaseException) -> str:
    """Return an error as text for the model: a `ToolError`, written for it, in full, else only the error's type."""
    return f"Error: {error}" if isinstance(error, ToolError) else f"Error: the tool failed ({type(error).__name__})"


def _last_round(
    messages: Sequence[Mapping[str, Any]],
) -> tuple[list[dict[str, Any]], int, dict[str, str]]:
    """Return the last reply's calls, its index, and the results that follow it, by id."""
    results: dict[str, str] = {}
    for place in range(len(messages) - 1, -1, -1):
        message = messages[place]
        if message.get("role") == "assistant":
            return list(message.get("tool_calls") or ()), place, results
        if message.get("role") != "tool":
            break
        results[message.get("tool_call_id", "")] = message.get("content", "")
    return [], len(messages), {}
