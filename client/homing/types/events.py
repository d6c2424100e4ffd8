"""What a stream yields. Tell events apart by ``event.type`` or by class.

::

    for event in stream:
        if event.type == "content.delta":
            print(event.delta, end="")

``index`` is the choice that an event belongs to (always 0 unless ``n`` was set), except in
tool call events, where it is the number of the tool call, as in openai-python, and the
choice is ``choice_index``.
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
    """A chunk came; always the first event that a chunk gives rise to."""

    type: ClassVar[Literal["chunk"]] = "chunk"
    chunk: ChatCompletionChunk


@dataclass(slots=True)
class _TextSoFar:
    """A piece of growing text.

    The text so far is joined only when asked for: a copy in each event would make a
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
    """The visible answer is whole.

    ``parsed`` is the content as the requested ``response_format``, or None when none was
    requested or the content does not fit it (the final completion says why).
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
    """The reasoning is whole. Comes with the end of the choice, as later pieces are possible."""

    type: ClassVar[Literal["reasoning.done"]] = "reasoning.done"
    reasoning: str
    index: int = 0


@dataclass(slots=True)
class RefusalDelta(_TextSoFar):
    """A piece of a refusal."""

    type: ClassVar[Literal["refusal.delta"]] = "refusal.delta"


@dataclass(slots=True)
class RefusalDone:
    """The refusal is whole."""

    type: ClassVar[Literal["refusal.done"]] = "refusal.done"
    refusal: str
    index: int = 0


@dataclass(slots=True)
class _LogprobsSoFar:
    """Log probabilities of the tokens in one chunk; the list so far is copied only when asked for."""

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
    """A piece of a tool call's arguments. The first one, with the name, is often empty."""

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
    """A tool call is whole. Never sent for one that was cut (command-code#785).

    ``parsed_arguments`` is the JSON value, None when the model's text is not JSON.
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
    """The server reported token counts. A report, not an end: some do so with every chunk."""

    type: ClassVar[Literal["usage"]] = "usage"
    usage: CompletionUsage


@dataclass(slots=True)
class Waiting:
    """The server is not ready yet, and this call waits for it.

    ``elapsed`` seconds waited so far of ``deadline``, ``attempt`` requests sent, the next
    one in ``next_in`` seconds; ``cause`` is what the last one met (an error or a status).
    """

    type: ClassVar[Literal["waiting"]] = "waiting"
    elapsed: float
    deadline: float
    attempt: int
    next_in: float
    cause: object


@dataclass(slots=True)
class Resumed:
    """The connection broke and the reply goes on where it was: after ``at`` characters of
    visible text, in the ``attempt``-th request of this turn.
    """

    type: ClassVar[Literal["resumed"]] = "resumed"
    at: int
    attempt: int


@dataclass(slots=True)
class Finished:
    """The last event. ``finish_reason`` is the first choice's, None if the server gave none."""

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
