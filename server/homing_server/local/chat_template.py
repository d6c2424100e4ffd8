"""Messages to prompt tokens, in the manner of Qwen's chat templates and SGLang's use of them.

Each piece of a message is tokenised by itself, so a reply that comes back as history has
the very tokens that were generated: the prefix cache then hits to the last token.

SGLang's own rules for a trailing assistant message (serving_chat.py, 0.5.23) are kept,
traps included: without ``continue_final_message`` it becomes a *user* message; with it, a
string is continued, tokenised by itself after the generation prompt. A list of parts is
neither: it stays what it is, with the generation prompt behind it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import tokens

Message = Mapping[str, Any]

_START, _END = "<|im_start|>", "<|im_end|>"
_NO_THOUGHTS = ("<think>", "\n\n", "</think>", "\n\n")


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the model reads: ``base`` up to the generation prompt, then the ``continued`` text."""

    base: tuple[int, ...]
    continued: str | None
    thinking: bool

    @property
    def ids(self) -> tuple[int, ...]:
        """All tokens of the prompt."""
        return self.base + tokens.encode(self.continued or "")


@dataclass(frozen=True, slots=True)
class Thinking:
    """What a request and the model say about reasoning before the answer.

    ``asked`` is ``enable_thinking`` of the request, None when it is silent; ``default``
    is the model's habit; ``opened_by_template`` is Qwen 3.5's way of starting the
    thinking block in the prompt.
    """

    asked: bool | None = None
    default: bool = False
    opened_by_template: bool = False

    @property
    def on(self) -> bool:
        """Whether the model reasons."""
        return self.default if self.asked is None else self.asked


def render(
    messages: Sequence[Message],
    *,
    tools: Sequence[Mapping[str, Any]] = (),
    thinking: Thinking | None = None,
    continue_final: bool = False,
) -> Prompt:
    """Return the prompt for ``messages``."""
    thinking = thinking or Thinking()
    messages = list(messages)
    continued = None
    if messages and _role(messages[-1]) == "assistant" and isinstance(messages[-1].get("content"), str):
        if continue_final:
            continued = messages.pop()["content"]
        else:
            messages[-1] = {**messages[-1], "role": "user"}
    pieces = list(_with_tools(messages, tools))
    pieces += [_START, "assistant", "\n"]
    if thinking.on and thinking.opened_by_template:
        pieces += ["<think>", "\n"]
    elif not thinking.on and thinking.asked is False:
        pieces += _NO_THOUGHTS
    ids = tuple(token for piece in pieces for token in tokens.encode(piece))
    return Prompt(base=ids, continued=continued, thinking=thinking.on)


def text_of(content: object) -> str:
    """Return the text of a message's content: a string, a list of parts, or nothing."""
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))
    return ""


def tool_call_pieces(name: str, arguments: str) -> tuple[str, str, str]:
    """Return a tool call as the model writes it: what precedes its arguments, them, what follows."""
    return f'<tool_call>\n{{"name": {json.dumps(name)}, "arguments": ', arguments, "}\n</tool_call>"


def _with_tools(messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    last_question = max((i for i, m in enumerate(messages) if _role(m) == "user"), default=-1)
    if tools:
        first_is_system = bool(messages) and _role(messages[0]) == "system"
        listing = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
        yield from (_START, "system", "\n")
        yield text_of(messages[0].get("content")) if first_is_system else ""
        yield f"\n\n# Tools\n\nYou may call these functions:\n<tools>\n{listing}\n</tools>"
        yield from (_END, "\n")
        rest = messages[1:] if first_is_system else messages
    else:
        rest = messages
    skipped = len(messages) - len(rest)
    for index, message in enumerate(rest, start=skipped):
        # Qwen forgets reasoning once a new question is asked, and keeps it inside a tool loop.
        yield from _message(message, keep_reasoning=index > last_question)


def _message(message: Message, *, keep_reasoning: bool) -> Iterable[str]:
    role, content = _role(message), text_of(message.get("content"))
    if role == "tool":
        yield from (_START, "user", "\n", "<tool_response>", "\n", content, "\n", "</tool_response>")
    else:
        yield from (_START, role, "\n")
        reasoning = message.get("reasoning_content")
        if role == "assistant" and keep_reasoning and reasoning:
            yield from ("<think>", "\n", str(reasoning), "\n", "</think>", "\n\n")
        yield content
        for position, call in enumerate(message.get("tool_calls") or ()):
            if content or position:
                yield "\n"
            function = call.get("function") or {}
            yield from tool_call_pieces(str(function.get("name")), str(function.get("arguments", "")))
    yield from (_END, "\n")


def _role(message: Message) -> str:
    role = str(message.get("role", "")).lower()
    return "system" if role == "developer" else role
