"""Turning a server's error response into the right exception.

Servers disagree on everything here. ``error`` is an object (OpenAI, SGLang in streams), a string (SGLang's 401) or
missing (SGLang's flat form, FastAPI's ``detail``). ``code`` is a number, a numeric string or a word. ``type`` has
half a dozen spellings in SGLang alone. A proxy in between responds in HTML. Only the HTTP status and an explicit
``code`` are trusted; ``type`` is the last resort.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from pydantic_core import from_json

from ...errors import (
    APIResponseValidationError,
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    ConflictError,
    ContextWindowExceeded,
    InternalServerError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    UnprocessableEntityError,
    error_object,
)
from ..secrets.redact import redact
from ..text.control_characters import strip_controls
from ..text.surrogates import replace_surrogates_json

if TYPE_CHECKING:
    import httpx

#: Characters quoted from a server's message. SGLang's validation errors run to kilobytes and
#: repeat themselves; the first sentences are enough.
EXCERPT: Final = 300
#: Characters to keep in ``error.body`` of a body that is not JSON: a proxy's page, a traceback.
MAX_TEXT_BODY: Final = 4096
#: Bytes to read of an error's body: enough for any message, but not for a proxy's runaway page.
MAX_ERROR_BODY: Final = 1 << 20
#: Status of an error object in a stream that states no code: something failed on the server.
UNSTATED: Final = 500

_BY_STATUS: Final[dict[int, tuple[type[APIStatusError], str]]] = {
    400: (BadRequestError, "Change the request; sending it again will not help."),
    401: (
        AuthenticationError,
        "Set HOMING_API_KEY or pass api_key= (Modal's proxy auth: proxy_token=).",
    ),
    403: (PermissionDeniedError, "This key may not do this: use another key, or another route."),
    404: (NotFoundError, "Check base_url and the model's name; client.models.list() shows what is served."),
    409: (ConflictError, "Try again once the other request has ended."),
    413: (APIStatusError, "The request is too large: shorten the conversation or send smaller images."),
    422: (UnprocessableEntityError, "Correct the field that the message names."),
    429: (RateLimitError, "The server is full: try again later, with fewer requests at once."),
    503: (InternalServerError, "The server is starting, stopping or full: try again later."),
}
_SERVER_HINT: Final = "The server failed: try again, and look into its log if it goes on."
_OTHER_HINT: Final = "Check base_url and the request."
_CONTEXT_HINT: Final = (
    "Shorten the conversation (trim=Trim() leaves out its oldest turns), lower max_tokens, or start the server "
    "with a larger context length."
)

# SGLang: serving_chat.py and scheduler.py of 0.5.9 and 0.5.23; OpenAI and vLLM: "This model's
# maximum context length is …", code context_length_exceeded; llama.cpp: "… exceeds the
# available context size".
_TOO_LONG: Final = re.compile(
    r"longer than the model's context length"
    r"|maximum context length"
    r"|context_length_exceeded"
    r"|input length .{0,40}exceeds the maximum allowed length"
    r"|exceeds? the available context size"
    r"|max_(?:completion_)?tokens is too large",
    re.IGNORECASE,
)
_TOO_LONG_STATUS: Final = frozenset({400, 413, 422})

_WORDS: Final = {
    "badrequest": 400,
    "invalidrequest": 400,
    "contextlengthexceeded": 400,
    "authentication": 401,
    "unauthorized": 401,
    "invalidapikey": 401,
    "permissiondenied": 403,
    "permission": 403,
    "forbidden": 403,
    "notfound": 404,
    "modelnotfound": 404,
    "conflict": 409,
    "unprocessableentity": 422,
    "ratelimit": 429,
    "ratelimitexceeded": 429,
    "toomanyrequests": 429,
    "internalserver": 500,
    "server": 500,
    "serviceunavailable": 503,
    "overloaded": 503,
    "timeout": 504,
    "gatewaytimeout": 504,
}


def status_error(
    status_code: int,
    body: object,
    response: httpx.Response | None = None,
    *,
    secrets: Iterable[str] = (),
) -> APIStatusError:
    """Return the exception for a response with an error status, or for an error object in a stream.

    ``body`` is the response as bytes, text or parsed JSON. Anything in it that looks like a credential, and each of
    ``secrets``, is redacted from the message and from ``error.body``: servers do quote the key that they reject.
    """
    parsed = _parsed(body)
    body = redact(parsed, secrets)
    if isinstance(body, str):
        body = body[:MAX_TEXT_BODY]
    said = _said(body)
    kind, hint = _BY_STATUS.get(
        status_code,
        (InternalServerError, _SERVER_HINT) if status_code >= 500 else (APIStatusError, _OTHER_HINT),
    )
    if status_code in _TOO_LONG_STATUS and _is_too_long(_said(parsed), error_object(parsed)):
        kind, hint = ContextWindowExceeded, _CONTEXT_HINT
    return kind(
        f"{status_code}: {excerpt(said)} {hint}" if said else f"{status_code} without a message. {hint}",
        status_code=status_code,
        response=response,
        body=body,
    )


def stream_error(data: bytes, *, secrets: Iterable[str] = ()) -> APIStatusError:
    """Return the exception for an error object that came with status 200."""
    body = _parsed(data)
    return status_error(stated_status(body), body, secrets=secrets)


def is_error(data: bytes) -> bool:
    """Return whether a body is an error object, whatever its HTTP status."""
    if len(data) > MAX_ERROR_BODY:  # not worth the memory for several copies
        return False
    body = _parsed(data)
    return isinstance(body, dict) and bool(body.get("error") or body.get("object") == "error")


def stated_status(body: object) -> int:
    """Return the HTTP status that an error object states, or :data:`UNSTATED` if it states none."""
    stated = error_object(body)
    for key in ("code", "status", "status_code", "type"):
        value = stated.get(key)
        if isinstance(value, str):
            word = re.sub(r"[^a-z0-9]|error", "", value.lower())
            value = int(word) if re.fullmatch(r"[45]\d\d", word) else _WORDS.get(word)
        if isinstance(value, int) and 400 <= value <= 599:
            return value
    return UNSTATED


def invalid_response(what: str, data: bytes | str, *, secrets: Iterable[str] = ()) -> APIResponseValidationError:
    """Return the exception for a response that violates the protocol.

    ``what`` describes the problem. An excerpt of ``data`` is added, with ``secrets`` redacted.
    """
    text = data if isinstance(data, str) else data[: 4 * MAX_TEXT_BODY].decode("utf-8", "replace")
    text = redact(text, secrets)
    said = _said(text) or "nothing"
    return APIResponseValidationError(
        f"{what}. The server sent: {excerpt(said)} "
        "Check that base_url is an OpenAI-compatible server, with nothing on the way that rewrites answers.",
        body=text[:MAX_TEXT_BODY],
    )


def excerpt(text: str) -> str:
    """Return ``text`` cleaned, on one line, ending with a full stop and cut at :data:`EXCERPT` characters."""
    line = strip_controls(" ".join(text.split()))
    if len(line) > EXCERPT:
        return line[: EXCERPT - 1] + "…"
    return line if line.endswith((".", "!", "?")) else line + "."


def _parsed(body: object) -> Any:
    if isinstance(body, (bytes, bytearray)):
        body = body.decode("utf-8", "replace")
    if not isinstance(body, str):
        return body
    try:
        # Bounded in depth, unlike json.loads, so redact cannot overflow the stack.
        return from_json(replace_surrogates_json(body.encode("utf-8", "replace")) or body)
    except ValueError:
        return body


def _said(body: object) -> str:
    """Return the server's own message, or an empty string."""
    if isinstance(body, str):
        return _page_title(body) if body.lstrip()[:1] == "<" else body.strip()
    detail = error_object(body)
    for key in ("message", "detail", "msg"):
        words = detail.get(key)
        if words:
            return words if isinstance(words, str) else json.dumps(words, default=str)
    return json.dumps(body, default=str) if body else ""


def _page_title(html: str) -> str:
    heading = re.search(r"<(title|h1)\b[^>]*>([^<]*)", html, re.IGNORECASE)
    words = heading[2] if heading else re.sub(r"<[^>]*>", " ", html)
    return f"an HTML page, “{' '.join(words.split())}”"


def _is_too_long(said: str, detail: dict[str, Any]) -> bool:
    return any(_TOO_LONG.search(text) for text in (said, str(detail.get("code")), str(detail.get("type"))))
