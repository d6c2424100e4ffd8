"""Every exception that Homing raises.

::

    HomingError
    ├── ConfigurationError            also a ValueError: bad argument, missing setting
    ├── APIError                      communication with the server failed
    │   ├── APIConnectionError        no complete response arrived
    │   │   ├── ServerUnreachable     refused, or broken before the first byte of the response
    │   │   └── APITimeoutError
    │   │       ├── FirstTokenTimeout
    │   │       ├── GapTimeout
    │   │       ├── SilenceTimeout
    │   │       └── DeadlineExceeded
    │   ├── APIStatusError            a response with an error status, or an error object in a stream
    │   │   ├── BadRequestError                  400
    │   │   │   └── ContextWindowExceeded
    │   │   ├── AuthenticationError              401
    │   │   ├── PermissionDeniedError            403
    │   │   ├── NotFoundError                    404
    │   │   ├── ConflictError                    409
    │   │   ├── UnprocessableEntityError         422
    │   │   ├── RateLimitError                   429
    │   │   └── InternalServerError              5xx
    │   ├── APIResponseValidationError  the response violates the protocol
    │   │   └── ResponseTooLarge            it is longer than ``max_response_bytes``
    │   └── StreamInterrupted         a stream broke after it had begun
    │       └── StreamTruncated       it ended cleanly, but without finish_reason or [DONE]
    ├── ColdStartTimeout              no replica became ready within the deadline
    ├── FinishReasonError             the model finished, but not with what was requested
    │   ├── LengthFinishReasonError   structured output, or a tool call, was cut by the token limit
    │   ├── ContentFilterFinishReasonError
    │   └── RefusalError              the model refused to give structured output
    ├── ToolError                     a tool failed; tools raise it to tell the model why
    ├── MaxRoundsExceeded             the model still called tools in its last round
    ├── ConversationBusy              a turn is already running
    ├── ConversationNotFound          the store doesn't hold the conversation; also a LookupError
    ├── StoreError                    a conversation store failed: unreachable, full, closed, too new
    └── VersionConflict               the stored conversation has changed since it was loaded

Names and attributes match openai-python's where the meaning is the same, so ``except`` clauses
carry over unchanged. Each message says what to do next, on one line that is safe for terminals
and logs, whatever text it quotes. No message, ``repr`` or attribute holds a credential.

All errors survive ``pickle``, ``copy``, another process or a job queue. They lose only what Python
itself drops: traceback, ``__cause__`` and ``__context__``. A queue that stores only class and
message recreates them as ``kind(message)``, with defaults for the other fields.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .core.text.control_characters import one_line, strip_controls

if TYPE_CHECKING:
    import httpx
    import httpx2

    from .reply import Reply
    from .types import ChatCompletion


class HomingError(Exception):
    """Base class of all errors that Homing raises on purpose.

    Attributes:
        messages: If a turn of several requests failed (a run with tools, a repaired reply), its messages so far:
            the user's message, tool calls and their results. None of these are in the history. Empty otherwise.
    """

    messages: tuple[dict[str, Any], ...] = ()

    _clean = staticmethod(one_line)
    """Cleans the message, which may quote any text, and is shown on terminals and written to logs."""

    def __init__(self, *args: object) -> None:
        super().__init__(*(self._clean(one) if isinstance(one, str) else one for one in args))

    def __reduce__(self) -> tuple[Any, ...]:
        # By default, an exception is recreated by calling its class with `args`, which loses the
        # keyword-only fields of an ``__init__``. The state holds them all.
        return _again, (type(self), self.args), self.__dict__


class ConfigurationError(HomingError, ValueError):
    """An argument or a setting is missing or wrong. The message names it and the fix."""


class APIError(HomingError):
    """Communication with the server failed.

    Attributes:
        message: The error's message.
        body: The body of the server's error, parsed if it is JSON, without credentials. None if there was none.
        partial: The part of the reply that had arrived when the error occurred, so that text which the user has
            already read is never lost. None if nothing had arrived.
    """

    def __init__(
        self,
        message: str,
        *,
        body: object | None = None,
        partial: ChatCompletion | None = None,
    ) -> None:
        super().__init__(message)
        self.message = str(self.args[0])
        self.body = body
        self.partial = partial

    @property
    def partial_text(self) -> str:
        """The visible text that had arrived, or an empty string."""
        if self.partial is None or not self.partial.choices:
            return ""
        return self.partial.choices[0].message.content or ""


class APIConnectionError(APIError):
    """The connection failed, or broke before the response was complete."""


class ServerUnreachable(APIConnectionError):
    """The connection was refused, or broke before the first byte of a response. Perhaps no server is running yet."""


class APITimeoutError(APIConnectionError):
    """A time limit expired. The message says which one, and its length in seconds."""


class FirstTokenTimeout(APITimeoutError):
    """The server accepted the request but generated nothing within ``Timeout.first_token``."""


class GapTimeout(APITimeoutError):
    """The stream made no progress for ``Timeout.gap`` seconds, with or without keep-alives."""


class SilenceTimeout(APITimeoutError):
    """Not a single byte arrived for ``Timeout.silence`` seconds."""


class DeadlineExceeded(APITimeoutError):
    """``Timeout.total`` expired."""


class APIStatusError(APIError):
    """The server responded with an error status, or sent an error object inside a stream.

    ``response`` and ``request`` are copies without secrets: no credentials, query values, cookies or request body.
    They are httpx's, or httpx2's over an ``http_client`` of that library.

    Attributes:
        status_code: The HTTP status. For an error inside a ``200`` stream, the code that the error object states.
        response: The server's response. None for an error inside a stream.
        request_id: The response's ``x-request-id`` header.
        code: The error object's ``code``.
        param: The error object's ``param``.
        type: The error object's ``type``.
    """

    status_code: int = 500

    def __init__(
        self,
        message: str,
        *,
        status_code: int | None = None,
        response: httpx.Response | httpx2.Response | None = None,
        body: object | None = None,
        partial: ChatCompletion | None = None,
    ) -> None:
        super().__init__(message, body=body, partial=partial)
        if status_code is not None:
            self.status_code = status_code
        self.response = response
        self.request_id = response.headers.get("x-request-id") if response is not None else None
        detail: dict[str, Any] = error_object(body)
        self.code: object | None = detail.get("code")
        self.param: object | None = detail.get("param")
        self.type: object | None = detail.get("type")

    @property
    def request(self) -> httpx.Request | httpx2.Request | None:
        """The rejected request; None for an error object in a stream."""
        return None if self.response is None else getattr(self.response, "_request", None)


class BadRequestError(APIStatusError):
    """400: the server rejected the request. Sending it again will not help."""

    status_code = 400


class ContextWindowExceeded(BadRequestError):
    """The prompt, or the prompt plus ``max_tokens``, exceeds the model's context length."""


class AuthenticationError(APIStatusError):
    """401: the key is missing or wrong."""

    status_code = 401


class PermissionDeniedError(APIStatusError):
    """403: the key is valid but doesn't permit this."""

    status_code = 403


class NotFoundError(APIStatusError):
    """404: the path or model doesn't exist."""

    status_code = 404


class ConflictError(APIStatusError):
    """409: the request conflicts with another."""

    status_code = 409


class UnprocessableEntityError(APIStatusError):
    """422: the server cannot process a field."""

    status_code = 422


class RateLimitError(APIStatusError):
    """429: too many requests at once."""

    status_code = 429


class InternalServerError(APIStatusError):
    """5xx: the server failed, or is unavailable."""


class APIResponseValidationError(APIError):
    """The response violates the protocol: HTML, broken JSON, a wrong structure."""


class ResponseTooLarge(APIResponseValidationError):
    """The response is longer than ``max_response_bytes``.

    For a stream, ``partial`` holds the reply so far.

    Attributes:
        limit: The limit, in bytes after decompression.
        received: The bytes received when the call ended, after decompression.
    """

    def __init__(
        self,
        message: str,
        *,
        limit: int = 0,
        received: int = 0,
        body: object | None = None,
        partial: ChatCompletion | None = None,
    ) -> None:
        super().__init__(message, body=body, partial=partial)
        self.limit = limit
        self.received = received


class StreamInterrupted(APIError):
    """A stream broke after it had begun. ``partial`` holds what had arrived.

    ``__cause__`` is the transport's own error, if there was one.
    """


class StreamTruncated(StreamInterrupted):
    """A stream ended without ``finish_reason`` and without ``[DONE]``, so it is incomplete."""


class ColdStartTimeout(HomingError):
    """No replica became ready in time.

    Attributes:
        waited: The time waited, in seconds.
        attempts: The number of attempts that this call sent.
        last: The error of the last attempt: a connection error or an error status.
    """

    def __init__(self, message: str, *, waited: float = 0.0, attempts: int = 0, last: Exception | None = None) -> None:
        super().__init__(message)
        self.waited = waited
        self.attempts = attempts
        self.last = last


class FinishReasonError(HomingError):
    """The model finished its reply, but not with what was requested.

    Attributes:
        completion: The whole reply.
    """

    def __init__(self, message: str, *, completion: ChatCompletion | None = None) -> None:
        super().__init__(message)
        self.completion = _nothing() if completion is None else completion

    @property
    def partial_text(self) -> str:
        """The visible text, or an empty string."""
        choices = self.completion.choices
        return (choices[0].message.content or "") if choices else ""


class LengthFinishReasonError(FinishReasonError):
    """Structured output, or a tool call, was cut off at the token limit and is unusable. Raise ``max_tokens``."""


class ContentFilterFinishReasonError(FinishReasonError):
    """The server withheld the content."""


class RefusalError(FinishReasonError):
    """The model refused to reply in the requested form. The message quotes its refusal."""


class ToolError(HomingError):
    """A tool failed.

    Raise it in a tool to tell the model why: its message becomes the tool's result. For any other exception, the
    model sees only the class, since the message may hold what the model must not see. With
    ``on_tool_error="raise"``, a run raises `ToolError` for any exception of a tool (``__cause__``).
    """

    _clean = staticmethod(strip_controls)  # a message to the model may have several lines


class MaxRoundsExceeded(HomingError):
    """The model still called tools in its last round. Raise ``max_rounds``, or ask for less.

    ``messages`` holds the turn so far.

    Attributes:
        completion: The reply whose calls were not run.
    """

    def __init__(self, message: str, *, completion: ChatCompletion | None = None) -> None:
        super().__init__(message)
        self.completion = _nothing() if completion is None else completion


class ConversationBusy(HomingError):
    """A turn of this conversation is already running, and ``on_busy`` is ``"raise"``."""


class ConversationNotFound(HomingError, LookupError):
    """The store holds no conversation with this id: it was never saved, or it was deleted."""


class StoreError(HomingError):
    """A conversation store failed: it is unreachable, full, damaged, closed, or too new.

    ``__cause__`` is the driver's own error, if there was one. After a failed ``commit``, load the conversation: its
    version shows whether the turn was saved.

    Attributes:
        reply: If a conversation's turn raised the error, the reply that could not be saved. It is in the history.
            The conversation's ``save()`` tries again, and so does its next turn.
        conversation_id: The id of a conversation whose record is damaged, while the store itself works and others
            can be read. None otherwise.
    """

    reply: Reply[Any] | None = None
    conversation_id: str | None = None


class VersionConflict(HomingError):
    """The stored conversation has changed since it was loaded. Load it again, then retry.

    Attributes:
        expected: The version that the commit expected.
        found: The version in the store, or None if the conversation is not there.
        reply: If a conversation's turn raised the error, the reply, which is based on the old state. It is in no
            history.
    """

    reply: Reply[Any] | None = None

    def __init__(self, message: str, *, expected: int = 0, found: int | None = None) -> None:
        super().__init__(message)
        self.expected = expected
        self.found = found


def _again(kind: type[HomingError], args: tuple[Any, ...]) -> HomingError:
    """Recreate a pickled or copied error. Its fields follow, as its state."""
    error = kind.__new__(kind, *args)
    error.args = args
    return error


def _nothing() -> ChatCompletion:
    """Return an empty completion."""
    from .types import ChatCompletion

    return ChatCompletion.model_construct(id="", choices=[], created=0, model="", object="chat.completion")


def error_object(body: object) -> dict[str, Any]:
    """Return the part of an error body that describes the error.

    OpenAI nests it (``{"error": {...}}``), SGLang sends it flat (``{"object": "error", ...}``)
    or as a bare string (``{"error": "Unauthorized"}``), FastAPI as ``{"detail": ...}``.
    """
    if not isinstance(body, dict):
        return {}
    inner = body.get("error", body)
    if isinstance(inner, dict):
        return inner
    return {"message": inner}
