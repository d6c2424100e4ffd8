"""A finished turn's answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Generic

from typing_extensions import TypeVar

from .core.telemetry.measurements import Telemetry
from .core.text.markdown import sanitize_markdown
from .core.tools.results import as_tool_calls, pending_calls
from .types import ChatCompletion, ChatCompletionMessageToolCall, CompletionUsage

P = TypeVar("P", default=None)


@dataclass(frozen=True, slots=True)
class Reply(Generic[P]):
    """The assistant's message that ended a turn, with what it cost."""

    message: dict[str, Any]
    """As it stands in the history."""
    finish_reason: str | None
    """The engine's ``stop``, ``length``, ``tool_calls`` …, or ``interrupted`` when the caller stopped it."""
    telemetry: Telemetry
    completion: ChatCompletion = field(repr=False)
    parsed: P = None  # type: ignore[assignment]
    """The text read as the pydantic model asked for, with ``parse``."""

    @property
    def text(self) -> str:
        """The visible text."""
        return self.message.get("content") or ""

    @property
    def reasoning(self) -> str:
        """What the model thought aloud, if the server separates it."""
        return self.message.get("reasoning_content") or ""

    @property
    def tool_calls(self) -> list[ChatCompletionMessageToolCall]:
        """Whole tool calls; half ones are never handed out."""
        choices = self.completion.choices
        return list(choices[0].message.tool_calls or ()) if choices else []

    @property
    def usage(self) -> CompletionUsage | None:
        """The server's token counts."""
        return self.completion.usage

    @property
    def interrupted(self) -> bool:
        """Whether the caller stopped it."""
        return self.finish_reason == "interrupted"

    @property
    def resumed(self) -> int:
        """How often it broke off and was gone on with in another request."""
        return self.telemetry.resumes

    def __str__(self) -> str:
        return self.text

    def _repr_markdown_(self) -> str:
        return sanitize_markdown(self.text)


@dataclass(frozen=True, slots=True)
class RunReply(Reply[P]):
    """What a run with tools has come to: the reply of its last round, and all that led to it.

    ``telemetry`` is the whole turn's (waits and retries are sums, the verdict is the first round's), and
    ``usage`` adds up what all rounds cost.
    """

    messages: tuple[dict[str, Any], ...] = field(default=(), repr=False)
    """The whole turn: the user's message, tool calls, their results, the answer."""
    rounds: tuple[Reply, ...] = field(default=(), repr=False)
    """One reply for each time that the model was asked."""

    @property
    def pending(self) -> list[ChatCompletionMessageToolCall]:
        """Calls of tools that have no function here. Give their results to the conversation's ``submit``."""
        return as_tool_calls(pending_calls(self.messages, self.finish_reason))
