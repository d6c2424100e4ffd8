"""Types for data on the wire: request dictionaries, response models, stream events.

Names match openai-python's where the meaning is the same. Each name is imported when it is
first used (PEP 562), because the response models need pydantic, and a program that only does
``import homing`` should not pay for that.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .chunk import ChatCompletionChunk, ChoiceDelta, ChoiceDeltaToolCall, ChoiceDeltaToolCallFunction, ChunkChoice
    from .completion import ChatCompletion, ChatCompletionMessage, ChatCompletionMessageToolCall, Choice, Function
    from .events import (
        ChunkEvent,
        ContentDelta,
        ContentDone,
        Finished,
        LogprobsContentDelta,
        LogprobsContentDone,
        LogprobsRefusalDelta,
        LogprobsRefusalDone,
        ReasoningDelta,
        ReasoningDone,
        RefusalDelta,
        RefusalDone,
        Resumed,
        StreamEvent,
        ToolCallArgumentsDelta,
        ToolCallArgumentsDone,
        UsageEvent,
        Waiting,
    )
    from .logprobs import ChatCompletionTokenLogprob, ChoiceLogprobs, TopLogprob
    from .message_params import ChatCompletionMessageParam
    from .models import Model, ModelList
    from .params import ChatCompletionToolParam, CompletionParams, TurnParams
    from .parsed import ParsedChatCompletion, ParsedChatCompletionMessage, ParsedChoice
    from .tool_events import RoundStarted, ToolEvent, ToolFailed, ToolFinished, ToolStarted
    from .usage import CompletionTokensDetails, CompletionUsage, PromptTokensDetails

__all__ = [
    "ChatCompletion",
    "ChatCompletionChunk",
    "ChatCompletionMessage",
    "ChatCompletionMessageParam",
    "ChatCompletionMessageToolCall",
    "ChatCompletionTokenLogprob",
    "ChatCompletionToolParam",
    "Choice",
    "ChoiceDelta",
    "ChoiceDeltaToolCall",
    "ChoiceDeltaToolCallFunction",
    "ChoiceLogprobs",
    "ChunkChoice",
    "ChunkEvent",
    "CompletionParams",
    "CompletionTokensDetails",
    "CompletionUsage",
    "ContentDelta",
    "ContentDone",
    "Finished",
    "Function",
    "LogprobsContentDelta",
    "LogprobsContentDone",
    "LogprobsRefusalDelta",
    "LogprobsRefusalDone",
    "Model",
    "ModelList",
    "ParsedChatCompletion",
    "ParsedChatCompletionMessage",
    "ParsedChoice",
    "PromptTokensDetails",
    "ReasoningDelta",
    "ReasoningDone",
    "RefusalDelta",
    "RefusalDone",
    "Resumed",
    "RoundStarted",
    "StreamEvent",
    "ToolCallArgumentsDelta",
    "ToolCallArgumentsDone",
    "ToolEvent",
    "ToolFailed",
    "ToolFinished",
    "ToolStarted",
    "TopLogprob",
    "TurnParams",
    "UsageEvent",
    "Waiting",
]

_MODULES = {
    "chunk": [
        "ChatCompletionChunk",
        "ChoiceDelta",
        "ChoiceDeltaToolCall",
        "ChoiceDeltaToolCallFunction",
        "ChunkChoice",
    ],
    "completion": [
        "ChatCompletion",
        "ChatCompletionMessage",
        "ChatCompletionMessageToolCall",
        "Choice",
        "Function",
    ],
    "events": [
        "ChunkEvent",
        "ContentDelta",
        "ContentDone",
        "Finished",
        "LogprobsContentDelta",
        "LogprobsContentDone",
        "LogprobsRefusalDelta",
        "LogprobsRefusalDone",
        "ReasoningDelta",
        "ReasoningDone",
        "RefusalDelta",
        "RefusalDone",
        "Resumed",
        "StreamEvent",
        "ToolCallArgumentsDelta",
        "ToolCallArgumentsDone",
        "UsageEvent",
        "Waiting",
    ],
    "logprobs": ["ChatCompletionTokenLogprob", "ChoiceLogprobs", "TopLogprob"],
    "models": ["Model", "ModelList"],
    "message_params": ["ChatCompletionMessageParam"],
    "params": ["ChatCompletionToolParam", "CompletionParams", "TurnParams"],
    "parsed": ["ParsedChatCompletion", "ParsedChatCompletionMessage", "ParsedChoice"],
    "tool_events": ["RoundStarted", "ToolEvent", "ToolFailed", "ToolFinished", "ToolStarted"],
    "usage": ["CompletionTokensDetails", "CompletionUsage", "PromptTokensDetails"],
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    module = _HOME.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f".{module}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
