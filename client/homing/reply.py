"""The reply of a finished turn."""

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
    """The assistant's message that ended a turn, and what it cost."""

    message: dict[str, Any]
    """The message as the history keeps it."""
    finish_reason: str | None
    """The engine's ``stop``, ``length``, ``tool_calls`` …, or ``interrupted`` if the caller stopped the reply."""
    telemetry: Telemetry
    completion: ChatCompletion = field(repr=False)
    parsed: P = None  # type: ignore[assignment]
    """With ``parse``, the text parsed as the requested pydantic model."""

    @property
    def text(self) -> str:
        """The visible text."""
        return self.message.get("content") or ""

    @property
    def reasoning(self) -> str:
        """The model's reasoning, if the server separates it from the text."""
        return self.message.get("reasoning_content") or ""

    @property
    def tool_calls(self) -> list[ChatCompletionMessageToolCall]:
        """The complete tool calls. Incomplete ones are never returned."""
        choices = self.completion.choices
        return list(choices[0].message.tool_calls or ()) if choices else []

    @property
    def usage(self) -> CompletionUsage | None:
        """The server's token counts."""
        return self.completion.usage

    @property
    def interrupted(self) -> bool:
        """Whether the caller stopped the reply."""
        return self.finish_reason == "interrupted"

    @property
    def resumed(self) -> int:
        """How often the reply broke off and was resumed by another request."""
        return self.telemetry.resumes

    def __str__(self) -> str:
        return self.text

    def _repr_markdown_(self) -> str:
        return sanitize_markdown(self.text)


@dataclass(frozen=True, slots=True)
class RunReply(Reply[P]):
    """The result of a run with tools: the reply of its last round, and everything that led to it.

    ``telemetry`` covers the whole turn: waits and retries are sums, the verdict is the first round's. ``usage`` is
    the sum over all rounds.
    """

    messages: tuple[dict[str, Any], ...] = field(default=(), repr=False)
    """The whole turn: the user's message, tool calls, their results, the final reply."""
    rounds: tuple[Reply, ...] = field(default=(), repr=False)
    """One reply for each request to the model."""

    @property
    def pending(self) -> list[ChatCompletionMessageToolCall]:
        """Calls of tools that have no function here. Pass their results to the conversation's ``submit``."""
        return as_tool_calls(pending_calls(self.messages, self.finish_reason))
