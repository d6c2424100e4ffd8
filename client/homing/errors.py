"""Every exception that Homing raises.

::

    HomingError
    ├── ConfigurationError            also a ValueError: bad argument, missing setting
    ├── APIError                      talking to the server went wrong
    │   ├── APIConnectionError        no (complete) answer came
    │   │   ├── ServerUnreachable     refused, or broken before a byte of the answer
    │   │   └── APITimeoutError
    │   │       ├── FirstTokenTimeout
    │   │       ├── GapTimeout
    │   │       ├── SilenceTimeout
    │   │       └── DeadlineExceeded
    │   ├── APIStatusError            an answer with an error status, or an error object in a stream
    │   │   ├── BadRequestError                  400
    │   │   │   └── ContextWindowExceeded
    │   │   ├── AuthenticationError              401
    │   │   ├── PermissionDeniedError            403
    │   │   ├── NotFoundError                    404
    │   │   ├── ConflictError                    409
    │   │   ├── UnprocessableEntityError         422
    │   │   ├── RateLimitError                   429
    │   │   └── InternalServerError              5xx
    │   ├── APIResponseValidationError  the answer is not what the protocol promises
    │   │   └── ResponseTooLarge            it is longer than ``max_response_bytes``
    │   └── StreamInterrupted         a stream broke after it had begun
    │       └── StreamTruncated       it ended cleanly, but without finish_reason or [DONE]
    ├── ColdStartTimeout              no replica became ready within the deadline
    ├── FinishReasonError             the model ended, but not with what was asked for
    │   ├── LengthFinishReasonError   structured output, or a tool call, was cut by the token limit
    │   ├── ContentFilterFinishReasonError
    │   └── RefusalError              the model refused to give structured output
    ├── ToolError                     a tool failed; tools raise it to say why to the model
    ├── MaxRoundsExceeded             the model still called tools in the last round it had
    ├── ConversationBusy              a turn is already running
    ├── ConversationNotFound          the store holds no such conversation; also a LookupError
    ├── StoreError                    a conversation store failed: unreachable, full, closed, too new
    └── VersionConflict               somebody else appended to the stored conversation

Names and attributes are openai-python's where the meaning is the same, so that
``except`` clauses move over unchanged. Each message says what to do next, on one
line that terminals and logs may have, whoever's words it quotes. No message, ``repr``
or attribute holds a credential.

All of them travel: ``pickle``, ``copy``, another process, a job queue. What is left behind is what
Python leaves: traceback, ``__cause__`` and ``__context__``. A queue that stores only class and
message makes ``kind(message)`` of them, whose other fields then have their defaults.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .core.text.control_characters import one_line, strip_controls

if TYPE_CHECKING:
    import httpx

    from .reply import Reply
    from .types import ChatCompletion


class HomingError(Exception):
    """Base of everything that Homing raises on purpose.

    ``messages``: where a turn of several requests failed (a run with tools, a repaired answer), what had
    been said in it by then: the user's message, tool calls and their results. None of it is in the
    history. Empty elsewhere.
    """

    messages: tuple[dict[str, Any], ...] = ()

    _clean = staticmethod(one_line)
    """What is done to the message: it may quote anybody, and is shown on terminals and written to logs."""

    def __init__(self, *args: object) -> None:
        super().__init__(*(self._clean(one) if isinstance(one, str) else one for one in args))

    def __reduce__(self) -> tuple[Any, ...]:
        # Exception's own way is to call the class with `args` again, which misses the fields that
        # an ``__init__`` wants by name. The state holds them all.
        return _again, (type(self), self.args), self.__dict__


class ConfigurationError(HomingError, ValueError):
    """An argument or a setting is missing or wrong. The message names it and the fix."""


class APIError(HomingError):
    """Talking to the server went wrong.

    ``partial`` is the reply as far as it had come when the error struck (None when
    nothing had): text that the user has already read is never lost.
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
    """The connection failed, or broke before the answer was complete."""


class ServerUnreachable(APIConnectionError):
    """The connection was refused, or broke before any byte of an answer: perhaps nobody is there yet."""


class APITimeoutError(APIConnectionError):
    """A time limit ran out. Which one, and its length in seconds, is in the message."""


class FirstTokenTimeout(APITimeoutError):
    """The request was accepted but nothing was generated within ``Timeout.first_token``."""


class GapTimeout(APITimeoutError):
    """The stream made no progress for ``Timeout.gap`` seconds, keep-alives or not."""


class SilenceTimeout(APITimeoutError):
    """Not a single byte came for ``Timeout.silence`` seconds."""


class DeadlineExceeded(APITimeoutError):
    """``Timeout.total`` ran out."""


class APIStatusError(APIError):
    """The server answered with an error status, or sent an error object inside a stream.

    ``status_code`` is the HTTP status, or for an error inside a ``200`` stream the code
    that the error object states. ``response`` is None in that second case.

    ``response`` and ``request`` are copies without what is secret: no credentials, no values of the
    query, no cookies, and no body of the request.
    """

    status_code: int = 500

    def __init__(
        self,
        message: str,
        *,
        status_code: int | None = None,
        response: httpx.Response | None = None,
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
    def request(self) -> httpx.Request | None:
        """The request that was refused, None for an error object in a stream."""
        return None if self.response is None else getattr(self.response, "_request", None)


class BadRequestError(APIStatusError):
    """400: the server understood and refuses. Sending it again will not help."""

    status_code = 400


class ContextWindowExceeded(BadRequestError):
    """The prompt, or prompt plus ``max_tokens``, is longer than the model's context."""


class AuthenticationError(APIStatusError):
    """401: no key, or a wrong one."""

    status_code = 401


class PermissionDeniedError(APIStatusError):
    """403: the key is known but may not do this."""

    status_code = 403


class NotFoundError(APIStatusError):
    """404: no such path or model."""

    status_code = 404


class ConflictError(APIStatusError):
    """409."""

    status_code = 409


class UnprocessableEntityError(APIStatusError):
    """422: the server cannot read a field."""

    status_code = 422


class RateLimitError(APIStatusError):
    """429: too much at once."""

    status_code = 429


class InternalServerError(APIStatusError):
    """5xx."""


class APIResponseValidationError(APIError):
    """The answer is not what the protocol promises: HTML, broken JSON, a wrong shape."""


class ResponseTooLarge(APIResponseValidationError):
    """The answer is longer than the client takes: ``max_response_bytes``.

    ``limit`` is that bound, ``received`` what had come when the call was ended, both in bytes after
    decompression. Of a stream ``partial`` holds the reply so far.
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
    """A stream broke after it had begun; ``partial`` holds what had come.

    ``__cause__`` is the transport's own error where there was one.
    """


class StreamTruncated(StreamInterrupted):
    """A stream ended without ``finish_reason`` and without ``[DONE]``: it is not complete."""


class ColdStartTimeout(HomingError):
    """No replica became ready in time.

    ``waited`` in seconds, ``attempts`` sent by this client meanwhile, ``last`` what the
    last of them met (an error or a status).
    """

    def __init__(self, message: str, *, waited: float = 0.0, attempts: int = 0, last: Exception | None = None) -> None:
        super().__init__(message)
        self.waited = waited
        self.attempts = attempts
        self.last = last


class FinishReasonError(HomingError):
    """The model ended its reply, but not with what was asked for. ``completion`` is the whole reply."""

    def __init__(self, message: str, *, completion: ChatCompletion | None = None) -> None:
        super().__init__(message)
        self.completion = _nothing() if completion is None else completion

    @property
    def partial_text(self) -> str:
        """The visible text, or an empty string."""
        choices = self.completion.choices
        return (choices[0].message.content or "") if choices else ""


class LengthFinishReasonError(FinishReasonError):
    """Structured output, or a tool call, was cut at the token limit: it is of no use. Raise ``max_tokens``."""


class ContentFilterFinishReasonError(FinishReasonError):
    """The server withheld the content."""


class RefusalError(FinishReasonError):
    """The model refused to answer in the form asked for. The message holds its words."""


class ToolError(HomingError):
    """A tool failed.

    Raise it in a tool to tell the model why: its message becomes the tool's answer. Of any other exception
    the model learns the class only, since messages may hold what is not for it. With
    ``on_tool_error="raise"`` a run raises it for whatever a tool has raised (``__cause__``).
    """

    _clean = staticmethod(strip_controls)  # the model may be told something in several lines


class MaxRoundsExceeded(HomingError):
    """The model still called tools in the last round it had. ``messages`` is what had been said by then.

    ``completion`` is the reply whose calls were not run. Raise ``max_rounds``, or ask for less.
    """

    def __init__(self, message: str, *, completion: ChatCompletion | None = None) -> None:
        super().__init__(message)
        self.completion = _nothing() if completion is None else completion


class ConversationBusy(HomingError):
    """A turn of this conversation is already running, and ``on_busy`` is ``"raise"``."""


class ConversationNotFound(HomingError, LookupError):
    """The store holds no conversation of this id: it was never saved, or it was deleted."""


class StoreError(HomingError):
    """A conversation store cannot do its work: unreachable, full, damaged, closed, too new.

    ``__cause__`` is the driver's own error where there was one. After a failed ``commit``
    load the conversation: its version says whether the turn was saved.

    From a conversation's turn ``reply`` is the reply that could not be saved. It stands in the
    history; the conversation's ``save()`` tries again, and so does its next turn.

    ``conversation_id`` names the conversation when it is that one's record which is damaged, and not the
    store that failed: the others can be read. None elsewhere.
    """

    reply: Reply[Any] | None = None
    conversation_id: str | None = None


class VersionConflict(HomingError):
    """The stored conversation has moved on since it was loaded: load it again, then retry.

    ``expected`` and ``found`` are the two versions. From a conversation's turn ``reply`` is the
    reply to what had been asked on the old state; it is in no history.
    """

    reply: Reply[Any] | None = None

    def __init__(self, message: str, *, expected: int = 0, found: int | None = None) -> None:
        super().__init__(message)
        self.expected = expected
        self.found = found


def _again(kind: type[HomingError], args: tuple[Any, ...]) -> HomingError:
    """Make an error that has been one before: its fields follow, as its state."""
    error = kind.__new__(kind, *args)
    error.args = args
    return error


def _nothing() -> ChatCompletion:
    """Return a completion in which nothing came."""
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
