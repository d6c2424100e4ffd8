"""Responses with content parsed into the caller's own model (structured output)."""

from __future__ import annotations

from typing import Generic, TypeVar

from .completion import ChatCompletion, ChatCompletionMessage, Choice

# No bound: pydantic would dump ``parsed`` as the bound type, which has no fields.
T = TypeVar("T")


class ParsedChatCompletionMessage(ChatCompletionMessage, Generic[T]):
    """A message with parsed content. ``parsed`` is None if the LLM refused or called a tool."""

    parsed: T | None = None


class ParsedChoice(Choice, Generic[T]):
    """A choice with a parsed message."""

    # Narrower than the base class allows for a mutable field, but no code assigns a plain message.
    message: ParsedChatCompletionMessage[T]  # pyright: ignore[reportIncompatibleVariableOverride]


class ParsedChatCompletion(ChatCompletion, Generic[T]):
    """A complete response with parsed messages."""

    choices: list[ParsedChoice[T]]  # type: ignore[assignment]  # as above
