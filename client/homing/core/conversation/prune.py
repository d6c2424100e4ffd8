"""The parts of a turn that later prompts repeat. The history keeps all of it.

Chat templates and strict servers reject what an interrupted turn leaves behind: a tool call without a result, a
tool result without a call, or a reply that was stopped before its first word (vercel/ai#10638).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def pruned(messages: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the messages of one turn as later prompts include them.

    - Reasoning is left out: templates drop it from earlier turns, so sending it would only cost tokens.
    - A tool call and its result are included together or not at all.
    - A reply with nothing left in it is dropped.
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
    """Pair each message that isn't a tool result with the results that directly follow it, by call id."""
    pairs: list[tuple[Mapping[str, Any], dict[Any, dict[str, Any]]]] = []
    for message in messages:
        if message.get("role") != "tool":
            pairs.append((message, {}))
        elif pairs:
            pairs[-1][1].setdefault(message.get("tool_call_id"), dict(message))
    return pairs
