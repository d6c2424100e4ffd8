"""Talk to your own LLM servers, one conversation at a time.

::

    from homing import Client

    client = Client()                      # HOMING_BASE_URL, or OPENAI_BASE_URL
    chat = client.conversation(system="You are terse.")
    print(chat.send("Why do KV caches matter?").text)

Names are imported on first use (PEP 562), so ``import homing`` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module

from ._version import __version__

# Not typing.TYPE_CHECKING: importing typing would be nine tenths of the cost. Type checkers recognize the bare name.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from ._async.client import AsyncClient
    from ._async.conversation import AsyncConversation
    from ._async.reply_stream import AsyncReplyStream, AsyncRunStream
    from ._async.stream import AsyncChatStream, AsyncStream
    from ._sync.client import Client
    from ._sync.conversation import Conversation
    from ._sync.reply_stream import ReplyStream, RunStream
    from ._sync.stream import ChatStream, Stream
    from .core.affinity.strategies import (
        Affinity,
        BodyAffinity,
        CombinedAffinity,
        EchoAffinity,
        HeaderAffinity,
        ModalAffinity,
        NoAffinity,
    )
    from .core.conversation.transcript import Turn
    from .core.conversation.trim import Trim
    from .core.request.resume_style import ResumeStyle
    from .core.retry.policy import RetryPolicy
    from .core.retry.readiness import Ready
    from .core.retry.timers import Timeout
    from .core.telemetry.hooks import Hooks, Retrying
    from .core.telemetry.measurements import Telemetry, Totals
    from .core.tools.definitions import Tool
    from .errors import (
        APIConnectionError,
        APIError,
        APIResponseValidationError,
        APIStatusError,
        APITimeoutError,
        AuthenticationError,
        BadRequestError,
        ColdStartTimeout,
        ConfigurationError,
        ConflictError,
        ContentFilterFinishReasonError,
        ContextWindowExceeded,
        ConversationBusy,
        ConversationNotFound,
        DeadlineExceeded,
        FirstTokenTimeout,
        GapTimeout,
        HomingError,
        InternalServerError,
        LengthFinishReasonError,
        MaxRoundsExceeded,
        NotFoundError,
        PermissionDeniedError,
        RateLimitError,
        RefusalError,
        ResponseTooLarge,
        ServerUnreachable,
        SilenceTimeout,
        StoreError,
        StreamInterrupted,
        StreamTruncated,
        ToolError,
        UnprocessableEntityError,
        VersionConflict,
    )
    from .reply import Reply, RunReply
    from .types.events import Waiting
    from .types.not_given import NOT_GIVEN, NotGiven

_MODULES = {
    "_async.client": ["AsyncClient"],
    "_async.conversation": ["AsyncConversation"],
    "_async.reply_stream": ["AsyncReplyStream", "AsyncRunStream"],
    "_async.stream": ["AsyncChatStream", "AsyncStream"],
    "_sync.client": ["Client"],
    "_sync.conversation": ["Conversation"],
    "_sync.reply_stream": ["ReplyStream", "RunStream"],
    "_sync.stream": ["ChatStream", "Stream"],
    "core.affinity.strategies": [
        "Affinity",
        "BodyAffinity",
        "CombinedAffinity",
        "EchoAffinity",
        "HeaderAffinity",
        "ModalAffinity",
        "NoAffinity",
    ],
    "core.telemetry.hooks": ["Hooks", "Retrying"],
    "core.retry.readiness": ["Ready"],
    "core.request.resume_style": ["ResumeStyle"],
    "core.retry.policy": ["RetryPolicy"],
    "types.not_given": ["NOT_GIVEN", "NotGiven"],
    "core.telemetry.measurements": ["Telemetry", "Totals"],
    "core.retry.timers": ["Timeout"],
    "core.tools.definitions": ["Tool"],
    "core.conversation.transcript": ["Turn"],
    "core.conversation.trim": ["Trim"],
    "errors": [
        "APIConnectionError",
        "APIError",
        "APIResponseValidationError",
        "APIStatusError",
        "APITimeoutError",
        "AuthenticationError",
        "BadRequestError",
        "ColdStartTimeout",
        "ConfigurationError",
        "ConflictError",
        "ContentFilterFinishReasonError",
        "ContextWindowExceeded",
        "ConversationBusy",
        "ConversationNotFound",
        "DeadlineExceeded",
        "FirstTokenTimeout",
        "GapTimeout",
        "HomingError",
        "InternalServerError",
        "LengthFinishReasonError",
        "MaxRoundsExceeded",
        "NotFoundError",
        "PermissionDeniedError",
        "RateLimitError",
        "RefusalError",
        "ResponseTooLarge",
        "ServerUnreachable",
        "SilenceTimeout",
        "StoreError",
        "StreamInterrupted",
        "StreamTruncated",
        "ToolError",
        "UnprocessableEntityError",
        "VersionConflict",
    ],
    "reply": ["Reply", "RunReply"],
    "types.events": ["Waiting"],
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "NOT_GIVEN",
    "APIConnectionError",
    "APIError",
    "APIResponseValidationError",
    "APIStatusError",
    "APITimeoutError",
    "Affinity",
    "AsyncChatStream",
    "AsyncClient",
    "AsyncConversation",
    "AsyncReplyStream",
    "AsyncRunStream",
    "AsyncStream",
    "AuthenticationError",
    "BadRequestError",
    "BodyAffinity",
    "ChatStream",
    "Client",
    "ColdStartTimeout",
    "CombinedAffinity",
    "ConfigurationError",
    "ConflictError",
    "ContentFilterFinishReasonError",
    "ContextWindowExceeded",
    "Conversation",
    "ConversationBusy",
    "ConversationNotFound",
    "DeadlineExceeded",
    "EchoAffinity",
    "FirstTokenTimeout",
    "GapTimeout",
    "HeaderAffinity",
    "HomingError",
    "Hooks",
    "InternalServerError",
    "LengthFinishReasonError",
    "MaxRoundsExceeded",
    "ModalAffinity",
    "NoAffinity",
    "NotFoundError",
    "NotGiven",
    "PermissionDeniedError",
    "RateLimitError",
    "Ready",
    "RefusalError",
    "Reply",
    "ReplyStream",
    "ResponseTooLarge",
    "ResumeStyle",
    "RetryPolicy",
    "Retrying",
    "RunReply",
    "RunStream",
    "ServerUnreachable",
    "SilenceTimeout",
    "StoreError",
    "Stream",
    "StreamInterrupted",
    "StreamTruncated",
    "Telemetry",
    "Timeout",
    "Tool",
    "ToolError",
    "Totals",
    "Trim",
    "Turn",
    "UnprocessableEntityError",
    "VersionConflict",
    "Waiting",
    "__version__",
    "errors",
    "reply",
]


def __getattr__(name: str) -> object:
    module = _HOME.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f".{module}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
