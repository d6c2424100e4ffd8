# Generated from client/homing/_async/raw_response.py by scripts/unasync.py: edit that file, not this one.
"""Responses with their HTTP details: status, headers, body."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import httpx
from pydantic import BaseModel
from typing_extensions import Unpack

from ..core.secrets.redact import protect_secrets
from ..errors import APIError
from ..types import ChatCompletion
from .stream import Stream

if TYPE_CHECKING:
    import httpx2

    from ..types.message_params import ChatCompletionMessageParam
    from ..types.params import CreateParams
    from .completions import Completions

R = TypeVar("R")


class RawResponse(Generic[R]):
    """The result of a `with_raw_response` method. `parse` returns the plain method's result.

    Attributes:
        http_response: The HTTP response: httpx's, or httpx2's over an ``http_client`` of that library.
        content: The body; empty for a stream.
        retries_taken: How many retries the call needed.
    """

    def __init__(
        self, response: httpx.Response | httpx2.Response, content: bytes, parsed: R, *, retries_taken: int
    ) -> None:
        self.http_response = response
        self.content = content
        self.retries_taken = retries_taken
        self._parsed = parsed

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.status_code}>"

    @property
    def status_code(self) -> int:
        """The HTTP status."""
        return self.http_response.status_code

    @property
    def headers(self) -> httpx.Headers | httpx2.Headers:
        """The response's headers."""
        return self.http_response.headers

    @property
    def request_id(self) -> str | None:
        """``x-request-id``, if the server sent one."""
        request_id: str | None = self.headers.get("x-request-id")
        return request_id

    @property
    def text(self) -> str:
        """The body as text; empty for a stream."""
        return self.content.decode("utf-8", errors="replace")

    def parse(self) -> R:
        """Return the parsed response, or the stream."""
        return self._parsed


class RawCompletions:
    """``client.chat.completions.with_raw_response``."""

    def __init__(self, completions: Completions) -> None:
        self._completions = completions

    def create(
        self,
        *,
        messages: Iterable[ChatCompletionMessageParam | BaseModel],
        model: str | None = None,
        stream: bool = False,
        **params: Unpack[CreateParams],
    ) -> RawResponse[Any]:
        """Request a completion as the plain `create` does, and return it with status, headers and body.

        Takes the same arguments and raises the same errors.
        """
        protect_secrets(params)
        call = self._completions._call(messages, model, params, stream=stream)
        parsed: Any
        if stream:
            parsed, content = Stream(call).open(), b""
        else:
            parsed = call.answer(ChatCompletion)
            content = call.content
        if call.response is None:
            raise APIError("the call was stopped before an answer came")
        return RawResponse(call.response, content, parsed, retries_taken=call.budget.retries)
