"""A complete response to ``POST /v1/chat/completions``."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from .logprobs import ChoiceLogprobs
from .usage import CompletionUsage
from .wire import NullMeans, WireModel

INTERRUPTED: Final = "interrupted"
"""``finish_reason`` of a turn that the caller stopped."""


class Function(WireModel):
    """The function to call, and its arguments.

    ``arguments`` is the model's raw text. It should be a JSON object, but nothing
    guarantees that: validate it before use.
    """

    name: str
    arguments: Annotated[str, NullMeans(str)] = ""


class ChatCompletionMessageToolCall(WireModel):
    """One complete tool call."""

    id: Annotated[str, NullMeans(str)] = ""
    type: Literal["function"] = "function"
    function: Function


class AnnotationURLCitation(WireModel):
    """A web page cited as a source, and the range of characters in the answer that cite it."""

    url: str
    title: str = ""
    start_index: int = 0
    end_index: int = 0


class Annotation(WireModel):
    """An annotation that a server with web search adds to its answer."""

    type: str = "url_citation"
    url_citation: AnnotationURLCitation | None = None


class ChatCompletionAudio(WireModel):
    """A spoken answer: ``data`` is base64, ``expires_at`` in Unix seconds."""

    id: str
    data: str = ""
    expires_at: int | None = None
    transcript: str = ""


class ChatCompletionMessage(WireModel):
    """The assistant's message.

    ``unfinished_tool_calls`` holds calls that a broken or cut stream left incomplete.
    They are for inspection only, and never appear in ``tool_calls`` or ``model_dump()``,
    so that they are neither executed (ANOLISA#2209) nor sent back (vercel/ai#10638).
    ``function_call`` is the older form, used by servers that respond to ``functions=``.
    """

    role: Annotated[str, NullMeans(lambda: "assistant")] = "assistant"
    content: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = None
    tool_calls: list[ChatCompletionMessageToolCall] | None = None
    function_call: Function | None = None
    annotations: list[Annotation] | None = None
    audio: ChatCompletionAudio | None = None
    unfinished_tool_calls: list[ChatCompletionMessageToolCall] = Field(default_factory=list, exclude=True)

    @property
    def reasoning(self) -> str | None:
        """The model's reasoning before its answer, or None.

        SGLang names it ``reasoning_content``, other servers ``reasoning`` (strands#2354).
        """
        return self.reasoning_content or reasoning_in(self.__pydantic_extra__)


class Choice(WireModel):
    """One of ``n`` answers.

    ``finish_reason`` is ``stop``, ``length``, ``tool_calls``, ``content_filter``,
    ``function_call`` or SGLang's ``abort``; Homing adds ``interrupted``. None means not finished.
    ``matched_stop`` (SGLang) is the token id or the string that ended the reply.
    """

    index: Annotated[int, NullMeans(int)] = 0
    message: ChatCompletionMessage
    finish_reason: str | None = None
    logprobs: ChoiceLogprobs | None = None
    matched_stop: int | str | None = None


class ChatCompletion(WireModel):
    """A complete response. ``created`` is in Unix seconds.

    ``metadata`` and ``sglext`` are SGLang's: the version of the weights, and details
    requested with ``return_…`` parameters.
    """

    id: Annotated[str, NullMeans(str)] = ""
    object: str | None = "chat.completion"
    created: Annotated[int, NullMeans(int)] = 0
    model: Annotated[str, NullMeans(str)] = ""
    choices: list[Choice]
    usage: CompletionUsage | None = None
    system_fingerprint: str | None = None
    service_tier: str | None = None
    moderation: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    sglext: dict[str, Any] | None = None


def reasoning_in(extra: dict[str, Any] | None) -> str | None:
    """Return the text under ``reasoning`` among a model's undeclared fields."""
    if not extra:
        return None
    text = extra.get("reasoning")
    return text if isinstance(text, str) else None
