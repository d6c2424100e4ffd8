"""What has been said: the turns of a conversation, and the prompt they make.

The prompt of the next turn is joined from encodings made once, so it begins byte for byte
like the one before. A turn enters whole or not at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import ConfigurationError
from ..types import ChatCompletion
from .encode import encode_message
from .telemetry import Previous, Telemetry

FORMAT = 1
"""Version of `Transcript.to_dict`'s layout."""

INTERRUPTED = "interrupted"
"""``finish_reason`` of a turn that its caller stopped."""

Content = str | Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Turn:
    """One user message and the reply to it (with tool calls, several messages)."""

    messages: tuple[dict[str, Any], ...]
    finish_reason: str | None
    telemetry: Telemetry
    encoded: tuple[bytes, ...] = field(repr=False, compare=False)

    @property
    def interrupted(self) -> bool:
        """Whether its caller stopped it."""
        return self.finish_reason == INTERRUPTED

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "messages": list(self.messages),
            "finish_reason": self.finish_reason,
            "telemetry": self.telemetry.to_dict(),
        }


def make_turn(
    messages: Iterable[Mapping[str, Any]], finish_reason: str | None, telemetry: Telemetry | None = None
) -> Turn:
    """Build a turn, encoding what the next prompt will hold of it."""
    plain = tuple(dict(message) for message in messages)
    return Turn(
        plain,
        finish_reason,
        telemetry or Telemetry(),
        tuple(encode_message(sent) for sent in map(_as_prompt, plain) if sent is not None),
    )


def _as_prompt(message: dict[str, Any]) -> dict[str, Any] | None:
    """Return the message as the next prompt carries it, None to leave it out.

    Reasoning stays out: templates drop it from earlier turns, and sending it would only cost
    tokens. An empty reply (stopped before its first word) would break strict templates.
    """
    if message.get("role") != "assistant":
        return message
    sent = {name: value for name, value in message.items() if name not in ("reasoning", "reasoning_content")}
    return sent if any(sent.get(name) for name in ("content", "tool_calls", "function_call")) else None


def assistant_message(completion: ChatCompletion) -> dict[str, Any]:
    """Return the first choice's message as history keeps it. Half tool calls are not in it."""
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
    """Return the message of a user who says ``content``: text, or a list of parts."""
    if isinstance(content, str):
        return {"role": "user", "content": content}
    if isinstance(content, Mapping) or not isinstance(content, Sequence):
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
        self.prefix_changed = False
        """Whether something other than appending has happened since the last turn."""
        self._head = () if system is None else (encode_message({"role": "system", "content": system}),)

    @property
    def messages(self) -> list[dict[str, Any]]:
        """All messages, the system prompt first, as copies."""
        head = [] if self.system is None else [{"role": "system", "content": self.system}]
        return head + [dict(message) for turn in self.turns for message in turn.messages]

    def prompt(self, *new: Mapping[str, Any], upto: int | None = None) -> list[bytes]:
        """Return the encoded messages of the next request: history (its first ``upto`` turns) and ``new``."""
        prompt = list(self._head)
        for turn in self.turns if upto is None else self.turns[:upto]:
            prompt += turn.encoded
        prompt += [encode_message(message) for message in new]
        return prompt

    def previous(self, upto: int | None = None) -> Previous | None:
        """Return what the cache should still hold, None before the first turn."""
        turns = self.turns if upto is None else self.turns[:upto]
        for turn in reversed(turns):
            if turn.telemetry.prompt_tokens is not None:
                telemetry = turn.telemetry
                return Previous(telemetry.prompt_tokens, telemetry.replica, self.prefix_changed)
        return Previous(prefix_changed=self.prefix_changed) if turns else None

    def append(self, turn: Turn, *, upto: int | None = None) -> None:
        """Let a finished turn enter, in place of all turns after ``upto`` if that is given."""
        if upto is not None:
            del self.turns[upto:]
        self.turns.append(turn)
        self.prefix_changed = False

    def copy(self) -> Transcript:
        """Return a transcript that goes its own way from here; the turns are shared."""
        twin = Transcript(self.system, self.turns)
        twin.prefix_changed = self.prefix_changed
        return twin

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {"format": FORMAT, "system": self.system, "turns": [turn.to_dict() for turn in self.turns]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Transcript:
        """Read `to_dict`'s result. Raises `ConfigurationError` for what is not one."""
        if data.get("format") != FORMAT:
            raise ConfigurationError(
                f"this is not a conversation that this version can read (format {data.get('format')!r}, "
                f"expected {FORMAT}): was it written by a newer Homing?"
            )
        try:
            turns = [
                make_turn(
                    turn["messages"],
                    turn.get("finish_reason"),
                    Telemetry.from_dict(turn.get("telemetry") or {}),
                )
                for turn in data.get("turns", ())
            ]
        except ConfigurationError:
            raise  # it says better what is wrong with a message
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ConfigurationError(f"the saved conversation's turns are damaged: {error!r}") from None
        return cls(data.get("system"), turns)

    def to_markdown(self) -> str:
        """Return it for reading, one heading for each message."""
        parts = []
        for message in self.messages:
            text = text_of(message.get("content"))
            calls = [
                f"`{call['function']['name']}({call['function']['arguments']})`" for call in _calls(message)
            ]
            parts.append(f"**{message['role']}**\n\n" + "\n".join([text, *calls]).strip())
        return "\n\n".join(parts)


def text_of(content: Any) -> str:
    """Return the text in a message's content, parts joined."""
    if isinstance(content, str):
        return content
    if not content:
        return ""
    return "\n".join(part.get("text") or f"[{part.get('type')}]" for part in content)


def _calls(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    calls = message.get("tool_calls")
    return calls if isinstance(calls, list) else []
