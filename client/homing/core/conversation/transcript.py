"""The turns of a conversation, and the prompts built from them.

Each message is encoded once, and the next prompt joins these encodings, so it begins byte for byte like the one
before. A turn is added whole or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...errors import ConfigurationError
from ...types import ChatCompletion
from ...types.completion import INTERRUPTED
from ..encoding.messages import encode_message
from ..telemetry.measurements import PreviousTurn, Telemetry
from .prompt_size import weigh
from .prune import pruned

FORMAT = 1
"""Version of the layout in which conversations are saved. Increased when older readers would misread a newer one."""


Content = str | Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Turn:
    """One user message and the reply to it (with tool calls, several messages)."""

    saved: tuple[bytes, ...]
    """Its messages as JSON. Thousands of conversations may be idle in memory, so none holds its text twice."""
    finish_reason: str | None
    telemetry: Telemetry
    encoded: tuple[bytes, ...] = field(repr=False, compare=False)
    """Its messages as later prompts include them. Most are the same bytes as in ``saved``."""
    start: int = 0
    """Index of the oldest turn that its prompt included; above 0 once the prompt was trimmed."""
    weight: int = field(default=0, repr=False, compare=False)
    """Weight of ``encoded``; see `homing.core.conversation.prompt_size`."""
    asked_weight: int = field(default=0, repr=False, compare=False)
    """Weight of the part that its own prompt included: all but the last reply."""

    @property
    def messages(self) -> tuple[dict[str, Any], ...]:
        """The turn's messages, as copies."""
        return tuple(map(json.loads, self.saved))

    @property
    def interrupted(self) -> bool:
        """Whether the caller stopped it."""
        return self.finish_reason == INTERRUPTED

    @property
    def resumed(self) -> int:
        """How often its reply broke off and was resumed by another request."""
        return self.telemetry.resumes

    @property
    def asked(self) -> list[dict[str, Any]]:
        """The messages that came before its last reply, as copies."""
        messages = self.messages
        replies = [place for place, message in enumerate(messages) if message.get("role") == "assistant"]
        return list(messages[: replies[-1] if replies else None])

    def to_dict(self) -> dict[str, Any]:
        """Return the turn as plain data."""
        return {
            "messages": list(self.messages),
            "finish_reason": self.finish_reason,
            "telemetry": self.telemetry.to_dict(),
            **({"start": self.start} if self.start else {}),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Turn:
        """Read the result of `to_dict`. Fields of later versions are ignored.

        Raises:
            ConfigurationError: The data is damaged.
        """
        try:
            telemetry = Telemetry.from_dict(data.get("telemetry") or {})
            return make_turn(data["messages"], data.get("finish_reason"), telemetry, start=int(data.get("start") or 0))
        except ConfigurationError:
            raise  # it describes better what is wrong with a message
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ConfigurationError(f"a turn of the saved conversation is damaged: {error!r}") from None


def make_turn(
    messages: Iterable[Mapping[str, Any]],
    finish_reason: str | None,
    telemetry: Telemetry | None = None,
    *,
    start: int = 0,
) -> Turn:
    """Build a turn, and encode what the next prompt will include of it."""
    plain = tuple(dict(message) for message in messages)
    sent = pruned(plain)
    encoded, weights = encode_and_weigh(sent)
    answered = bool(sent) and plain[-1].get("role") == sent[-1].get("role") == "assistant"
    once = {message: message for message in encoded}
    saved = tuple(once.get(message, message) for message in map(encode_message, plain))
    return Turn(
        encoded if saved == encoded else saved,
        finish_reason,
        telemetry or Telemetry(),
        encoded,
        start,
        weight=sum(weights),
        asked_weight=sum(weights[:-1] if answered else weights),
    )


def encode_and_weigh(messages: Iterable[Mapping[str, Any]]) -> tuple[tuple[bytes, ...], tuple[int, ...]]:
    """Encode each message once, and weigh it."""
    said = list(messages)
    encoded = tuple(map(encode_message, said))
    return encoded, tuple(map(weigh, said, encoded))


def assistant_message(completion: ChatCompletion) -> dict[str, Any]:
    """Return the first choice's message as the history keeps it, without incomplete tool calls."""
    message: dict[str, Any] = {"role": "assistant", "content": ""}
    if not completion.choices:
        return message
    reply = completion.choices[0].message
    message["content"] = reply.content or ""
    if reply.reasoning:
        message["reasoning_content"] = reply.reasoning
    if reply.refusal:
        message["refusal"] = reply.refusal
    if reply.tool_calls:
        message["tool_calls"] = [call.model_dump(mode="json", exclude_none=True) for call in reply.tool_calls]
    if reply.function_call:
        message["function_call"] = reply.function_call.model_dump(mode="json", exclude_none=True)
    return message


def user_message(content: Content) -> dict[str, Any]:
    """Return a user message with ``content``: text, or a list of parts."""
    if isinstance(content, str):
        return {"role": "user", "content": content}
    if isinstance(content, (Mapping, bytes, bytearray)) or not isinstance(content, Sequence):
        raise ConfigurationError(
            f"content must be a string or a list of parts such as {{'type': 'text', 'text': …}}, got "
            f"{type(content).__name__}"
        )
    parts = [dict(part) for part in content if isinstance(part, Mapping)]
    if len(parts) != len(content):
        raise ConfigurationError("every part of content must be a mapping with a 'type'")
    return {"role": "user", "content": parts}


class Transcript:
    """The system prompt and the turns, oldest first."""

    def __init__(self, system: str | None = None, turns: Iterable[Turn] = ()) -> None:
        if system is not None and not isinstance(system, str):
            raise ConfigurationError(f"system must be a string, got {type(system).__name__}")
        self.system = system
        self.turns: list[Turn] = list(turns)
        self._head, weights = encode_and_weigh(self._system_messages())
        self.head_weight = sum(weights)

    def _system_messages(self) -> list[dict[str, Any]]:
        return [] if self.system is None else [{"role": "system", "content": self.system}]

    @property
    def messages(self) -> list[dict[str, Any]]:
        """All messages, the system prompt first, as copies."""
        return self._system_messages() + [message for turn in self.turns for message in turn.messages]

    def prompt(self, *new: Mapping[str, Any], upto: int | None = None, start: int | None = None) -> list[bytes]:
        """Return the encoded messages of the next request: the turns from ``start`` to ``upto``, then ``new``.

        ``start`` defaults to that of the turn before, so a trimmed prompt keeps its beginning.
        """
        prompt = list(self._head)
        for turn in self.turns[self.start(upto) if start is None else start : upto]:
            prompt += turn.encoded
        prompt += [encode_message(message) for message in new]
        return prompt

    def start(self, upto: int | None = None) -> int:
        """Return the index of the oldest turn in the prompt of the last turn before ``upto``."""
        turns = self.turns[:upto]
        return turns[-1].start if turns else 0

    def previous(
        self, upto: int | None = None, *, start: int | None = None, edited: bool = False
    ) -> PreviousTurn | None:
        """Return what the cache should still hold, or None before the first turn.

        ``start`` is that of the new prompt. ``edited`` means that the turn replaces one with other messages.
        """
        trimmed = start is not None and start != self.start(upto)
        for turn in reversed(self.turns[:upto]):
            if turn.telemetry.prompt_tokens is not None:
                tokens = None if trimmed else turn.telemetry.lasting_tokens
                return PreviousTurn(tokens, turn.telemetry.replica, trimmed or edited)
        if edited or self.turns[:upto]:
            return PreviousTurn(prefix_changed=trimmed or edited)
        return None

    def append(self, turn: Turn, *, upto: int | None = None) -> None:
        """Add a finished turn. If ``upto`` is given, it replaces all turns from there on."""
        self.turns = self.with_turn(turn, upto=upto)

    def with_turn(self, turn: Turn, *, upto: int | None = None) -> list[Turn]:
        """Return the turns as `append` would leave them, without changing them."""
        return [*self.turns[:upto], turn]

    def copy(self) -> Transcript:
        """Return an independent transcript that shares the turns."""
        return Transcript(self.system, self.turns)

    def to_dict(self) -> dict[str, Any]:
        """Return the transcript as plain data."""
        return {"format": FORMAT, "system": self.system, "turns": [turn.to_dict() for turn in self.turns]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Transcript:
        """Read the result of `to_dict`. Raises `ConfigurationError` for anything else."""
        check_format(data.get("format"))
        turns = data.get("turns", ())
        if not isinstance(turns, (list, tuple)) or not all(isinstance(turn, Mapping) for turn in turns):
            raise ConfigurationError("the saved conversation's turns are damaged: not a list of objects")
        return cls(data.get("system"), map(Turn.from_dict, turns))

    def to_markdown(self) -> str:
        """Return the transcript as Markdown for reading, with one heading per message."""
        parts = []
        for message in self.messages:
            text = text_of(message.get("content"))
            calls = [f"`{call['function']['name']}({call['function']['arguments']})`" for call in _calls(message)]
            parts.append(f"**{message['role']}**\n\n" + "\n".join([text, *calls]).strip())
        return "\n\n".join(parts)


def check_format(found: object) -> None:
    """Raise `ConfigurationError` for a format that this version cannot read."""
    if found != FORMAT:
        raise ConfigurationError(
            f"this is not a conversation that this version can read (format {found!r}, "
            f"expected {FORMAT}): was it written by a newer Homing? Then upgrade Homing here first"
        )


def text_of(content: Any) -> str:
    """Return the text of a message's content, with its parts joined."""
    if isinstance(content, str):
        return content
    if not content:
        return ""
    return "\n".join(part.get("text") or f"[{part.get('type')}]" for part in content)


def _calls(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    calls = message.get("tool_calls")
    return calls if isinstance(calls, list) else []
