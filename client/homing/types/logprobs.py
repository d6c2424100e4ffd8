"""Log probabilities of generated tokens."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from .wire import NullMeans, WireModel


class TopLogprob(WireModel):
    """One of the most likely tokens at a position.

    ``logprob`` is None if the server sent null, which is how SGLang encodes an infinite value.
    """

    token: str = ""
    bytes: list[int] | None = None
    logprob: float | None = None


class ChatCompletionTokenLogprob(WireModel):
    """One generated token. ``logprob`` may be None; see `TopLogprob`."""

    token: str = ""
    bytes: list[int] | None = None
    logprob: float | None = None
    top_logprobs: Annotated[list[TopLogprob], NullMeans(list)] = Field(default_factory=list)


class ChoiceLogprobs(WireModel):
    """Log probabilities of a choice, or of one chunk of it."""

    content: list[ChatCompletionTokenLogprob] | None = None
    refusal: list[ChatCompletionTokenLogprob] | None = None
