"""The events that a stream yields. Distinguish them by ``event.type`` or by class.

::

    for event in stream:
        if event.type == "content.delta":
            print(event.delta, end="")

``index`` is the index of the event's choice (always 0 unless ``n`` was set). In tool call
events, as in openai-python, ``index`` is the index of the tool call, and ``choice_index`` that of the choice.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

from .tool_events import RoundStarted, ToolFailed, ToolFinished, ToolStarted

if TYPE_CHECKING:
    from pydantic import BaseModel

    from .chunk import ChatCompletionChunk
    from .logprobs import ChatCompletionTokenLogprob
    from .usage import CompletionUsage


@dataclass(slots=True)
class ChunkEvent:
    """A chunk arrived. Always the first of a chunk's events."""

    type: ClassVar[Literal["chunk"]] = "chunk"
    chunk: ChatCompletionChunk


@dataclass(slots=True)
class _TextSoFar:
    """A piece of growing text.

    The text so far is joined only on request: a copy in every event would make a
    stream quadratic in its length.
    """

    delta: str
    index: int = 0
    _pieces: list[str] = field(default_factory=list, repr=False, compare=False)
    _count: int = field(default=0, repr=False, compare=False)

    @property
    def snapshot(self) -> str:
        """The whole text up to and including this piece. Linear in its length."""
        return "".join(self._pieces[: self._count])


@dataclass(slots=True)
class ContentDelta(_TextSoFar):
    """A piece of the visible answer."""

    type: ClassVar[Literal["content.delta"]] = "content.delta"


@dataclass(slots=True)
class ContentDone:
    """The visible answer is complete.

    ``parsed`` is the content as an instance of the requested ``response_format``. It is None if
    none was requested, or if the content doesn't match it; reading the final completion then raises the reason.
    """

    type: ClassVar[Literal["content.done"]] = "content.done"
    content: str
    parsed: BaseModel | None = None
    index: int = 0


@dataclass(slots=True)
class ReasoningDelta(_TextSoFar):
    """A piece of the model's reasoning."""

    type: ClassVar[Literal["reasoning.delta"]] = "reasoning.delta"


@dataclass(slots=True)
class ReasoningDone:
    """The reasoning is complete. Sent at the end of the choice, because later pieces are possible until then."""

    type: ClassVar[Literal["reasoning.done"]] = "reasoning.done"
    reasoning: str
    index: int = 0


@dataclass(slots=True)
class RefusalDelta(_TextSoFar):
    """A piece of a refusal."""

    type: ClassVar[Literal["refusal.delta"]] = "refusal.delta"


@dataclass(slots=True)
class RefusalDone:
    """The refusal is complete."""

    type: ClassVar[Literal["refusal.done"]] = "refusal.done"
    refusal: str
    index: int = 0


@dataclass(slots=True)
class _LogprobsSoFar:
    """Log probabilities of the tokens in one chunk. The list so far is copied only on request."""

    index: int = 0
    _tokens: list[ChatCompletionTokenLogprob] = field(default_factory=list, repr=False, compare=False)
    _count: int = field(default=0, repr=False, compare=False)

    @property
    def snapshot(self) -> list[ChatCompletionTokenLogprob]:
        """All tokens up to and including these. Linear in their number."""
        return self._tokens[: self._count]


@dataclass(slots=True, kw_only=True)
class LogprobsContentDelta(_LogprobsSoFar):
    """Log probabilities of new content tokens."""

    type: ClassVar[Literal["logprobs.content.delta"]] = "logprobs.content.delta"
    content: list[ChatCompletionTokenLogprob]


@dataclass(slots=True)
class LogprobsContentDone:
    """Log probabilities of all content tokens."""

    type: ClassVar[Literal["logprobs.content.done"]] = "logprobs.content.done"
    content: list[ChatCompletionTokenLogprob]
    index: int = 0


@dataclass(slots=True, kw_only=True)
class LogprobsRefusalDelta(_LogprobsSoFar):
    """Log probabilities of new refusal tokens."""

    type: ClassVar[Literal["logprobs.refusal.delta"]] = "logprobs.refusal.delta"
    refusal: list[ChatCompletionTokenLogprob]


@dataclass(slots=True)
class LogprobsRefusalDone:
    """Log probabilities of all refusal tokens."""

    type: ClassVar[Literal["logprobs.refusal.done"]] = "logprobs.refusal.done"
    refusal: list[ChatCompletionTokenLogprob]
    index: int = 0


@dataclass(slots=True)
class ToolCallArgumentsDelta:
    """A piece of a tool call's arguments. The first piece, which has the name, is often empty."""

    type: ClassVar[Literal["tool_calls.function.arguments.delta"]] = "tool_calls.function.arguments.delta"
    name: str
    index: int
    arguments_delta: str
    choice_index: int = 0
    _pieces: list[str] = field(default_factory=list, repr=False, compare=False)
    _count: int = field(default=0, repr=False, compare=False)

    @property
    def arguments(self) -> str:
        """The JSON text up to and including this piece. Linear in its length."""
        return "".join(self._pieces[: self._count])


@dataclass(slots=True)
class ToolCallArgumentsDone:
    """A tool call is complete. Never sent for a call that was cut (command-code#785).

    ``parsed_arguments`` is the JSON value, or None if the model's text is not JSON.
    """

    type: ClassVar[Literal["tool_calls.function.arguments.done"]] = "tool_calls.function.arguments.done"
    name: str
    id: str
    index: int
    arguments: str
    parsed_arguments: Any
    choice_index: int = 0


@dataclass(slots=True)
class UsageEvent:
    """The server reported token counts. This doesn't end the stream: some servers report with every chunk."""

    type: ClassVar[Literal["usage"]] = "usage"
    usage: CompletionUsage


@dataclass(slots=True)
class Waiting:
    """The server is not ready yet, and this call is waiting for it.

    The call has waited ``elapsed`` of at most ``deadline`` seconds and sent ``attempt`` requests. The next
    request follows in ``next_in`` seconds. ``cause`` is the outcome of the last one (an error or a status).
    """

    type: ClassVar[Literal["waiting"]] = "waiting"
    elapsed: float
    deadline: float
    attempt: int
    next_in: float
    cause: object


@dataclass(slots=True)
class Resumed:
    """The connection broke, and the reply resumes where it stopped.

    It resumes after ``at`` characters of visible text, in the ``attempt``-th request of this turn.
    """

    type: ClassVar[Literal["resumed"]] = "resumed"
    at: int
    attempt: int


@dataclass(slots=True)
class Finished:
    """The last event. ``finish_reason`` is the first choice's, or None if the server sent none."""

    type: ClassVar[Literal["finished"]] = "finished"
    finish_reason: str | None


StreamEvent: TypeAlias = (
    ChunkEvent
    | ContentDelta
    | ContentDone
    | ReasoningDelta
    | ReasoningDone
    | RefusalDelta
    | RefusalDone
    | LogprobsContentDelta
    | LogprobsContentDone
    | LogprobsRefusalDelta
    | LogprobsRefusalDone
    | ToolCallArgumentsDelta
    | ToolCallArgumentsDone
    | UsageEvent
    | Waiting
    | Resumed
    | Finished
    | RoundStarted
    | ToolStarted
    | ToolFinished
    | ToolFailed
)
