"""What later prompts repeat of a turn. The history keeps all of it.

Templates and strict servers refuse what an interrupted turn leaves behind: a tool call that
nobody answered, a tool's answer to nothing, a reply that was stopped before its first word
(vercel/ai#10638).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def pruned(messages: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the messages of one turn as later prompts carry them.

    - Reasoning stays out: templates drop it from earlier turns, and sending it would only cost tokens.
    - A tool call goes in with its answer or not at all, and so does the answer.
    - A reply with nothing left in it goes.
    """
    kept: list[dict[str, Any]] = []
    for message, answers in _with_answers(messages):
        sent = {name: value for name, value in message.items() if name not in ("reasoning", "reasoning_content")}
        calls = sent.pop("tool_calls", None) or ()
        answered = [call for call in calls if call.get("id") in answers]
        if answered:
            sent["tool_calls"] = answered
        if message.get("role") != "assistant" or any(
            sent.get(name) for name in ("content", "tool_calls", "function_call")
        ):
            kept += [sent, *(answers[call["id"]] for call in answered)]
    return kept


def _with_answers(
    messages: Iterable[Mapping[str, Any]],
) -> list[tuple[Mapping[str, Any], dict[Any, dict[str, Any]]]]:
    """Return each message that is no tool's, with the tools' answers directly behind it, by the call's id."""
    pairs: list[tuple[Mapping[str, Any], dict[Any, dict[str, Any]]]] = []
    for message in messages:
        if message.get("role") != "tool":
            pairs.append((message, {}))
        elif pairs:
            pairs[-1][1].setdefault(message.get("tool_call_id"), dict(message))
    return pairs
