"""Structured output: parses the content into the caller's own model."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from ...errors import APIResponseValidationError, ContentFilterFinishReasonError, LengthFinishReasonError, RefusalError
from ...types.completion import ChatCompletion, Choice
from ...types.parsed import ParsedChatCompletion
from ..errors.validation import describe_errors

T = TypeVar("T", bound=BaseModel)


def parse_completion(completion: ChatCompletion, response_format: type[T]) -> ParsedChatCompletion[T]:
    """Return the completion with each message's content parsed as ``response_format``.

    ``parsed`` is None if the model refused or called a tool instead of answering.

    Raises:
        LengthFinishReasonError: The content was cut at the token limit.
        ContentFilterFinishReasonError: The server withheld the content.
        APIResponseValidationError: The content does not fit the model; ``partial`` is the completion.
    """
    choices = []
    for choice in completion.choices:
        parsed = _parse_choice(completion, choice, response_format)
        message = {**_fields(choice.message), "parsed": parsed}
        choices.append({**_fields(choice), "message": message})
    # Not parametrized with T: pydantic would build a class for each model, and the instance
    # in ``parsed`` is kept as it is either way.
    whole: ParsedChatCompletion[Any] = ParsedChatCompletion.model_validate({**_fields(completion), "choices": choices})
    return whole


def parsed_reply(completion: ChatCompletion, response_format: type[T]) -> T:
    """Return the first choice's content as ``response_format``.

    Raises the errors of `parse_completion`, `RefusalError` if the model refused, and
    `APIResponseValidationError` if it called a tool instead of answering.
    """
    parsed = parse_completion(completion, response_format)
    message = parsed.choices[0].message if parsed.choices else None
    if message is not None and message.parsed is not None:
        return message.parsed
    if message is not None and message.refusal:
        raise RefusalError(f"the model refused: {message.refusal}", completion=completion)
    raise APIResponseValidationError(
        f"the model called a tool, or said nothing, instead of giving a {response_format.__name__}: "
        "pass tool_choice='none', or use run() where it is to call tools",
        partial=completion,
    )


def _parse_choice(completion: ChatCompletion, choice: Choice, response_format: type[T]) -> T | None:
    if choice.finish_reason == "length":
        raise LengthFinishReasonError(
            "the reply was cut at the token limit, so its JSON is not whole: raise max_tokens",
            completion=completion,
        )
    if choice.finish_reason == "content_filter":
        raise ContentFilterFinishReasonError(
            "the server's content filter withheld the reply: change the prompt", completion=completion
        )
    message = choice.message
    if message.refusal or message.tool_calls or message.function_call:
        return None
    try:
        return response_format.model_validate_json(message.content or "")
    except ValidationError as problem:
        raise APIResponseValidationError(
            f"the reply does not fit {response_format.__name__} ({describe_errors(problem)}). "
            "Check that the server was asked for this schema and supports it (response_format).",
            partial=completion,
        ) from problem


def _fields(model: BaseModel) -> dict[str, object]:
    """Return the fields set on a model, without turning nested models into dictionaries."""
    return {name: getattr(model, name) for name in model.model_fields_set}
