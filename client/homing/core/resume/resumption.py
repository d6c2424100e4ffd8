"""Resumes a broken reply: first the questions about its server, then the request for the rest."""

from __future__ import annotations

from ...errors import (
    APIError,
    APIResponseValidationError,
    APIStatusError,
    APITimeoutError,
    BadRequestError,
    ContextWindowExceeded,
    UnprocessableEntityError,
)
from ...types import ChatCompletion, ModelList
from ...types.wire import WireModel
from ..errors.interruptions import not_resumed
from ..request.request import Request
from ..request.resume_style import ResumeStyle, owner_of, style_for
from ..request.server_state import ServerState
from ..retry.policy import TRANSIENT_STATUSES
from ..retry.timers import Timeout
from ..streaming.chunks import M, parse_response
from ..streaming.splice import NotContinued, Splice
from ..telemetry.resumed_usage import ResumedUsage
from .rules import resume_prefix, resume_request

QUESTION_TIMEOUT = 5.0
"""Seconds for each of the two small requests below. A server answers both from memory in milliseconds.
If it takes longer, it isn't asked again, and the call continues without the answer."""

_AWAY = frozenset({502, 503, 504})
"""The server is unreachable: this attempt fails, and the next one asks again."""


class _Tokens(WireModel):
    count: int


class Resumption:
    """One resume of one reply, over however many attempts.

    Before each attempt, `question` asks which server this is (once for each client) and how many
    tokens the partial text has (``/tokenize`` of SGLang and vLLM; for limits and sums). Then
    `request` is the request to send, and `join` returns the splice for its response.
    """

    def __init__(
        self,
        broken: APIError,
        request: Request,
        partial: ChatCompletion,
        server_state: ServerState,
        resumed_usage: ResumedUsage,
        *,
        pieces: int,
        number: int,
    ) -> None:
        """``pieces`` of the reply have arrived, and ``number`` requests have been sent for it."""
        self.broken = broken
        self._asked_by = request
        self._partial = partial
        self._message = partial.choices[0].message
        self._server_state = server_state
        self._resumed_usage = resumed_usage
        self._pieces = pieces
        self._number = number
        self._owner = server_state.owner
        # A server that reports usage with each chunk has already counted.
        self._tokens = None if partial.usage is None else partial.usage.completion_tokens
        self._counted = self._tokens is not None
        self._request: Request | None = None

    def question(self) -> Request | None:
        """Return the next question, None if none is left. Raises the reply's own error if it can't be resumed."""
        if self._unknown:
            return self._ask("GET", "/v1/models", None)
        style = self._style()
        if self._counted:
            return None
        text = resume_prefix(self._message, style).content
        params = {"model": self._model, "prompt": text, "add_special_tokens": False}
        return self._ask("POST", "/v1/tokenize" if style.dialect == "sglang" else "/tokenize", params)

    def unanswered(self, failure: Exception) -> bool:
        """Return whether to continue without an answer to `question`. If not, ``failure`` ends the attempt."""
        if isinstance(failure, APIStatusError):
            # Which server it is must be known; the token count is optional.
            vital = self._unknown and failure.status_code in TRANSIENT_STATUSES
            if vital or failure.status_code in _AWAY:
                return False
        elif not isinstance(failure, (APITimeoutError, APIResponseValidationError)):
            return False
        self._hear(None)
        return True

    def answered(self, content: bytes) -> None:
        """Process the response to `question`."""
        self._hear(content)

    @property
    def at(self) -> int:
        """Characters of visible text received so far."""
        return len(self._message.content or "")

    @property
    def request(self) -> Request:
        """The request that resumes the reply."""
        if self._request is None:
            # If the server doesn't count, pieces are a lower bound: some hold several tokens.
            came = self._pieces if self._tokens is None else self._tokens
            self._resumed_usage.begin(self._tokens)
            self._request = resume_request(self._asked_by, self._message, self._style(), came=came, number=self._number)
        return self._request

    def join(self) -> Splice:
        """Return the splice that joins the continuation to the partial reply."""
        return Splice(self._partial, self._resumed_usage, owed=resume_prefix(self._message, self._style()).owed)

    def failed(self, failure: Exception) -> None:
        """Remember that the server can't continue a message, if ``failure`` shows it."""
        refused = isinstance(failure, (BadRequestError, UnprocessableEntityError))
        ignored = isinstance(failure, NotContinued) and failure.ignores
        if ignored or (refused and not isinstance(failure, ContextWindowExceeded)):
            self._server_state.resumes = False

    @property
    def _unknown(self) -> bool:
        return self._asked_by.resume == "auto" and self._owner is None

    @property
    def _model(self) -> object:
        return (self._asked_by.params or {}).get("model")

    def _style(self) -> ResumeStyle:
        style = style_for(self._asked_by.resume, owner=self._owner or "", model=self._model)
        if style is None:
            raise not_resumed(self.broken, "the server is not known to go on with a message: pass a ResumeStyle")
        if self._message.reasoning and style.after_reasoning == "never":
            raise not_resumed(self.broken, "it had thought before it answered: pass a ResumeStyle")
        return style

    def _ask(self, method: str, path: str, params: dict[str, object] | None) -> Request:
        by = self._asked_by
        timeout = Timeout(first_token=QUESTION_TIMEOUT)
        return Request(
            method, path, timeout, params=params, affinity=by.affinity, key=by.key, headers=by.headers, query=by.query
        )

    def _hear(self, content: bytes | None) -> None:
        if self._unknown:
            models = _read(content, ModelList)
            self._owner = "" if models is None else owner_of(models, self._model)
            if models is not None:
                self._server_state.owner = self._owner
        else:
            counted = _read(content, _Tokens)
            self._tokens = None if counted is None else counted.count
            self._counted = True


def _read(content: bytes | None, model: type[M]) -> M | None:
    if content is None:
        return None
    try:
        return parse_response(content, model)
    except APIError:
        return None
