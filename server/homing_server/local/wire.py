"""The shapes of SGLang 0.5.23's chat completion answers, field by field and in its order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .answers import ToolCall
from .replica import compact_json

DONE = b"data: [DONE]\n\n"


@dataclass(slots=True)
class Choice:
    """One choice as far as it has been generated."""

    content: str = ""
    reasoning: str = ""
    arguments: list[str] | None = None
    logprobs: list[dict[str, Any]] | None = None


def event(body: object) -> bytes:
    """Return one server-sent event."""
    return f"data: {compact_json(body)}\n\n".encode()


def error_event(message: str, *, kind: str, code: int) -> bytes:
    """Return an error inside a stream as SGLang 0.5.23 sends it."""
    error = {"object": "error", "message": message, "type": kind, "param": None, "code": code}
    return event({"error": error})


def chunk(
    head: dict[str, Any],
    delta: dict[str, Any],
    *,
    index: int = 0,
    finish_reason: str | None = None,
    matched_stop: int | str | None = None,
    logprobs: list[dict[str, Any]] | None = None,
    usage: object = ...,
) -> bytes:
    """Return one ``chat.completion.chunk``; ``usage`` appears only where it is given."""
    choice = {
        "index": index,
        "delta": delta,
        "logprobs": None if logprobs is None else {"content": logprobs},
        "finish_reason": finish_reason,
        "matched_stop": matched_stop,
    }
    body = {**head, "choices": [choice]}
    return event(body if usage is ... else {**body, "usage": usage})


def role_delta() -> dict[str, Any]:
    """Return the delta of the first chunk."""
    return {"reasoning_content": None, "role": "assistant", "content": ""}


def text_delta(name: str, text: str, *, with_tools: bool = False) -> dict[str, Any]:
    """Return a delta of ``content`` or ``reasoning_content``. Content beside tools names its role."""
    if name == "content" and with_tools:
        return {"role": None, "content": text, "reasoning_content": None}
    if name == "content":
        return {"reasoning_content": None, "content": text}
    return {name: text}


def call_delta(index: int, call: ToolCall | None, arguments: str) -> dict[str, Any]:
    """Return a delta of a tool call: with ``call`` its opening, without it a part of its arguments."""
    opening = {"id": call.id if call else None, "index": index, "type": "function"}
    function = {"name": call.name if call else None, "arguments": arguments}
    return {
        "role": None,
        "content": None,
        "reasoning_content": None,
        "tool_calls": [{**opening, "function": function}],
    }


def usage(*, prompt: int, completion: int, reasoning: int, cached: int | None) -> dict[str, Any]:
    """Return the usage object. ``cached`` None: the server runs without ``--enable-cache-report``."""
    return {
        "prompt_tokens": prompt,
        "total_tokens": prompt + completion,
        "completion_tokens": completion,
        "prompt_tokens_details": None if cached is None else {"cached_tokens": cached},
        "reasoning_tokens": reasoning,
        "completion_tokens_details": {"reasoning_tokens": reasoning} if reasoning else None,
    }


def completion(
    head: dict[str, Any],
    choices: Sequence[dict[str, Any]],
    usage: dict[str, Any],
    *,
    weight_version: str,
    cached: int | None,
) -> dict[str, Any]:
    """Return a whole ``chat.completion``. ``cached`` adds ``sglext`` where the request asked for it."""
    span = {"version": weight_version, "start": 0, "end": usage["completion_tokens"]}
    body = {
        **head,
        "choices": list(choices),
        "usage": usage,
        "metadata": {"weight_version": weight_version, "weight_versions": [span]},
    }
    return body if cached is None else {**body, "sglext": cached_details(cached)}


def cached_details(cached: int) -> dict[str, Any]:
    """Return ``sglext`` for ``return_cached_tokens_details``."""
    return {"cached_tokens_details": {"device": cached, "host": 0}}


def message_choice(
    index: int,
    choice: Choice,
    *,
    calls: Sequence[ToolCall],
    separate_reasoning: bool,
    finish_reason: str,
    matched_stop: int | str | None,
) -> dict[str, Any]:
    """Return one choice of a whole completion."""
    reasoning, content = choice.reasoning, choice.content
    if not separate_reasoning:
        reasoning, content = "", reasoning + content
    message: dict[str, Any] = {
        "role": "assistant",
        "content": content,
        "reasoning_content": reasoning or None,
    }
    if calls:
        # No text beside tool calls is null, as in OpenAI's own answers.
        message["content"] = content or None
        message["tool_calls"] = [
            {
                "id": call.id,
                "index": position,
                "type": "function",
                "function": {"name": call.name, "arguments": arguments},
            }
            for position, (call, arguments) in enumerate(zip(calls, choice.arguments or (), strict=False))
        ]
    return {
        "index": index,
        "message": message,
        "logprobs": None if choice.logprobs is None else {"content": choice.logprobs},
        "finish_reason": finish_reason,
        "matched_stop": matched_stop,
    }


def logprob(text: str, *, alternatives: int) -> dict[str, Any]:
    """Return a logprob entry. The numbers are made up but stable, and the chosen token is on top."""

    def entry(token: str, value: float) -> dict[str, Any]:
        return {"token": token, "bytes": list(token.encode("utf-8", "replace")), "logprob": value}

    others = [entry(f"{text}{'·' * rank}", -0.25 - rank) for rank in range(alternatives)]
    return {**entry(text, -0.25), "top_logprobs": others}
