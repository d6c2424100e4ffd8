"""One chunk of a streamed response."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from .completion import reasoning_in
from .logprobs import ChoiceLogprobs
from .usage import CompletionUsage
from .wire import NullMeans, WireModel


class ChoiceDeltaToolCallFunction(WireModel):
    """A piece of a function call. The name arrives once, the arguments in pieces."""

    name: str | None = None
    arguments: str | None = None


class ChoiceDeltaToolCall(WireModel):
    """A piece of a tool call. ``index`` identifies the call; some servers omit it."""

    index: int | None = None
    id: str | None = None
    type: str | None = None
    function: ChoiceDeltaToolCallFunction | None = None


class ChoiceDelta(WireModel):
    """What one chunk adds to a choice. ``function_call`` is the form that predates tools."""

    role: str | None = None
    content: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = None
    tool_calls: list[ChoiceDeltaToolCall] | None = None
    function_call: ChoiceDeltaToolCallFunction | None = None

    @property
    def reasoning(self) -> str | None:
        """The piece of reasoning under either of its two names, or None (strands#2354)."""
        return self.reasoning_content or reasoning_in(self.__pydantic_extra__)


class ChunkChoice(WireModel):
    """One chunk's update of one of ``n`` choices. ``matched_stop`` is SGLang's."""

    index: Annotated[int, NullMeans(int)] = 0
    delta: Annotated[ChoiceDelta, NullMeans(ChoiceDelta)] = Field(default_factory=ChoiceDelta)
    finish_reason: str | None = None
    logprobs: ChoiceLogprobs | None = None
    matched_stop: int | str | None = None


class ChatCompletionChunk(WireModel):
    """One ``chat.completion.chunk``. ``created`` is in Unix seconds.

    ``choices`` is empty in the chunk that reports usage, whether the server sent ``[]``,
    ``null`` or nothing (ATOM#1711, apfel#100).
    """

    id: Annotated[str, NullMeans(str)] = ""
    object: str | None = "chat.completion.chunk"
    created: Annotated[int, NullMeans(int)] = 0
    model: Annotated[str, NullMeans(str)] = ""
    choices: Annotated[list[ChunkChoice], NullMeans(list)] = Field(default_factory=list)
    usage: CompletionUsage | None = None
    system_fingerprint: str | None = None
    service_tier: str | None = None
    metadata: dict[str, Any] | None = None
    sglext: dict[str, Any] | None = None
