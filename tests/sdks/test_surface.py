"""What the openai SDK's types know of a chat completion, ours know too, by the same names."""

from __future__ import annotations

from typing import Any

import openai.types.chat as theirs
import openai.types.completion_usage as their_usage
import pytest
from openai.types.chat.chat_completion_chunk import ChoiceDelta
from openai.types.chat.completion_create_params import CompletionCreateParamsBase
from pydantic import BaseModel
from typing_extensions import TypedDict

from homing import Client
from homing.types import ChatCompletion, ChatCompletionChunk, ChatCompletionMessage, chunk, params, usage

# Spoken answers come as a whole, and what hides the lengths of a stream's pieces says nothing.
LEFT_AS_EXTRAS = {"ChoiceDelta": {"audio"}, "ChatCompletionChunk": {"moderation", "obfuscation"}}


def names(kind: Any) -> set[str]:
    """The keys of a TypedDict, its bases' included: annotations that are for type checkers only."""
    bases = [base for base in getattr(kind, "__orig_bases__", ()) if base is not TypedDict]
    return set(kind.__annotations__).union(*map(names, bases))


def test_every_parameter_can_be_passed() -> None:
    with Client("http://127.0.0.1:9") as client:
        named = set(client.chat.completions.create.__annotations__)
    assert names(CompletionCreateParamsBase) | {"stream"} <= names(params.CompletionParams) | named


@pytest.mark.parametrize(
    ("their", "our"),
    [
        (theirs.ChatCompletion, ChatCompletion),
        (theirs.ChatCompletionMessage, ChatCompletionMessage),
        (theirs.ChatCompletionChunk, ChatCompletionChunk),
        (ChoiceDelta, chunk.ChoiceDelta),
        (their_usage.CompletionUsage, usage.CompletionUsage),
        (their_usage.CompletionTokensDetails, usage.CompletionTokensDetails),
        (their_usage.PromptTokensDetails, usage.PromptTokensDetails),
    ],
)
def test_every_field_of_an_answer_is_declared(their: type[BaseModel], our: type[BaseModel]) -> None:
    extras = LEFT_AS_EXTRAS.get(our.__name__, set())
    assert set(their.model_fields) - set(our.model_fields) == extras & set(their.model_fields)
    assert our.model_config.get("extra") == "allow"  # whatever comes next is kept
