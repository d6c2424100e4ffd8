"""Holds secrets, and redacts them from what is shown.

Secrets are credentials and whatever else a user puts into a request: values of headers and of the
query. Errors, ``repr``, pickles and tracebacks with locals end up in logs, queues and error trackers.
"""

from __future__ import annotations

import base64
import functools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NoReturn

import httpx

from ..._http_library import library_of
from .patterns import anywhere_pattern, token_pattern

HIDDEN: Final = "[hidden]"

SHORTEST: Final = 8
"""Minimum length of a secret that is searched for in a server's text. Anything shorter is not a secret
but a placeholder (``-``, ``x``, ``EMPTY``) that also occurs in ordinary words."""

_HARMLESS: Final = frozenset(
    {
        b"accept",
        b"accept-encoding",
        b"accept-language",
        b"connection",
        b"content-length",
        b"content-type",
        b"host",
        b"modal-routing-affinity-key",
        b"modal-session-id",
        b"traceparent",
        b"transfer-encoding",
        b"user-agent",
        b"x-request-id",
    }
)
"""Request headers that reveal nothing. All others are the user's and may reveal something."""

_TELLING: Final = re.compile(r"cookie|secret|authoriz|api-?key|token(?!s)", re.IGNORECASE)
"""Response headers that may hold a credential: ``Set-Cookie``, a session token."""

# What a credential looks like: OpenAI (sk-), Modal (wk- ws- ak- as-), Hugging Face (hf_), bearer.
_CREDENTIAL: Final = re.compile(
    r"\b(?:sk|wk|ws|ak|as)-[A-Za-z0-9_-]{8,}|\bhf_[A-Za-z0-9]{8,}|(?<=Bearer )[^\s\"',]+", re.IGNORECASE
)
_USER_INFO: Final = re.compile(r"(?<=://)[^\s/@?#\"']+@")

# ``Basic`` and possible base64 (a forward proxy's credentials are added in a lower layer).
_BASIC: Final = re.compile(r"(?<=\bBasic )[A-Za-z0-9+/_-]{4,}=*", re.IGNORECASE)
# Invisible to a reader: terminal colors, control characters, zero-width characters (Unicode's format characters).
_UNSEEN: Final = re.compile(
    "\x1b\\[[0-9:;?]*[A-Za-z]"
    "|[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]"
)

_NAME: Final = re.compile(r"[\w.-]{1,40}")
_FRAMING: Final = frozenset({b"content-encoding", b"content-length", b"transfer-encoding"})
_SIMPLE: Final = ("http_version", "reason_phrase")
_BELOW: Final = frozenset(
    {"anyio", "asyncio", "h11", "homing", "httpcore", "httpcore2", "httpx", "httpx2", "socket", "ssl", "trio"}
)


class SecretMapping(Mapping[str, Any]):
    """A mapping that shows its values only on lookup, never in ``repr``, ``vars`` or ``pickle``."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = dict(values)

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        names = (repr(name) if _NAME.fullmatch(str(name)) else HIDDEN for name in self)  # otherwise a misplaced value
        return "{" + ", ".join(f"{name}: {HIDDEN}" for name in names) + "}"

    def __reduce__(self) -> NoReturn:
        raise TypeError("this holds what is secret, and is not to be pickled or copied")


class Secrets(tuple[str, ...]):
    """The secrets of a request. The ``repr`` shows only how many there are."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{len(self)} secrets>"


def protect_secrets(params: Any) -> None:
    """Wrap the possible secrets in a call's parameters in place: a traceback may show our locals."""
    for name in ("extra_headers", "extra_query", "default_headers", "default_query"):
        if name in params:
            params[name] = as_secret_mapping(params[name])


def as_secret_mapping(values: Any) -> Any:
    """Return a mapping as a `SecretMapping`, and anything else unchanged."""
    return SecretMapping(values) if isinstance(values, Mapping) and not isinstance(values, SecretMapping) else values


def secrets_in(request: httpx.Request, http: object = None) -> Secrets:
    """Return everything in a request that must never appear in a message, whoever put it there.

    ``http`` is the client that sends the request. Its credentials for forward proxies are not part of
    the request, so they are read from the client.
    """
    found = [value.decode("latin-1") for name, value in request.headers.raw if name.lower() not in _HARMLESS]
    url = request.url
    if url.query:
        found += [value for _, value in url.params.multi_items()]
    if url.userinfo:
        found += [url.username, url.password]
    return Secrets(found + _told_to_proxies(http))


def _told_to_proxies(http: Any) -> list[str]:
    """Return an httpx client's credentials for forward proxies, which httpx doesn't expose."""
    found: list[bytes] = []
    for transport in (getattr(http, "_transport", None), *getattr(http, "_mounts", {}).values()):
        pool = getattr(transport, "_pool", None)
        found += [value for name, value in getattr(pool, "_proxy_headers", ()) if name.lower() not in _HARMLESS]
        found += getattr(pool, "_proxy_auth", None) or ()  # SOCKS: name and password
    return [value.decode("latin-1") for value in found]


def secrets_of(response: httpx.Response) -> Secrets:
    """Return `secrets_in` the request of a response, empty if it has none."""
    request = getattr(response, "_request", None)
    return Secrets() if request is None else secrets_in(request)


def redact(value: Any, secrets: Iterable[str]) -> Any:
    """Return JSON or text with every secret, and everything that looks like a credential, redacted.

    A secret is found as a whole token of `SHORTEST` characters or more, even if it is quoted or
    escaped. Names in an object are kept, unless they look like a credential.
    """
    return _hide(value, _Finder(secrets))


def redacted_request(request: httpx.Request) -> httpx.Request:
    """Return a copy without body, user info, query values, and values of headers that may reveal something."""
    headers = [(name, value if name.lower() in _HARMLESS else HIDDEN.encode()) for name, value in request.headers.raw]
    url = request.url
    if url.userinfo:
        url = url.copy_with(userinfo=b"")
    if url.query:
        url = url.copy_with(params=[(name, HIDDEN) for name, _ in url.params.multi_items()])
    return type(request)(request.method, url, headers=headers)


def redacted_response(response: httpx.Response, body: object, secrets: Iterable[str]) -> httpx.Response:
    """Return a copy whose content is ``body``: JSON or text that `redact` has already processed.

    The live response holds the connection, and the request with its credentials.
    """
    finder = _Finder(secrets)
    headers = [
        (name, HIDDEN.encode() if _TELLING.search(name.decode("latin-1")) else _hidden_bytes(value, finder))
        for name, value in response.headers.raw
        if name.lower() not in _FRAMING  # the body is decompressed
    ]
    request = getattr(response, "_request", None)
    return type(response)(
        response.status_code,
        headers=headers,
        content=(body if isinstance(body, str) else json.dumps(body, default=str)) if body else b"",
        request=None if request is None else redacted_request(request),
        extensions={
            name: _hidden_bytes(response.extensions[name], finder) for name in _SIMPLE if name in response.extensions
        },
    )


def strip_secrets(error: BaseException, secrets: Iterable[str] = ()) -> None:
    """Remove the frames and requests that hold secrets from an error and its causes.

    Errors of the transport may quote the server, so ``secrets`` are redacted from their messages.

    Call this once the error has left the layers that send; the layers above add their frames later.
    An error that the user's code was handling when it called us stays as it is.
    """
    seen: set[int] = set()
    left: list[Any] = [error]
    while left:
        one = left.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        one.__traceback__ = None
        if _is_the_transports(one):
            one.args = tuple(redact(list(one.args), secrets))
        if isinstance(one, library_of(one).RequestError) and one._request is not None:
            one.request = redacted_request(one._request)
        if one.__cause__ is not None:
            left.append(one.__cause__)
        if one.__suppress_context__ and one.__context__ is not one.__cause__:
            one.__context__ = None  # never displayed, but it quotes the input: pydantic's does
            one.__suppress_context__ = True
        elif one.__context__ is not None and _is_below(one.__context__):
            left.append(one.__context__)


def _is_below(error: BaseException) -> bool:
    """Return whether an error was caught by the layers that send."""
    trace = error.__traceback__
    return trace is None or trace.tb_frame.f_globals.get("__name__", "").partition(".")[0] in _BELOW


def _is_the_transports(error: BaseException) -> bool:
    return type(error).__module__.partition(".")[0] in ("h11", "httpcore", "httpcore2", "httpx", "httpx2", "ssl")


def _hidden_bytes(data: bytes, finder: _Finder) -> bytes:
    return finder.hide(data.decode("latin-1")).encode("latin-1")


def _hide(value: Any, finder: _Finder) -> Any:
    if isinstance(value, str):
        return finder.hide(value)
    if isinstance(value, dict):
        return {_CREDENTIAL.sub(HIDDEN, str(key)): _hide(item, finder) for key, item in value.items()}
    if isinstance(value, list):
        return [_hide(item, finder) for item in value]
    return value


class _Finder:
    """Finds secrets in text."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._words = {word for secret in secrets for word in _words(secret)}

    @functools.cached_property
    def tokens(self) -> re.Pattern[str]:
        return re.compile(token_pattern(self._words), re.IGNORECASE)

    @functools.cached_property
    def anywhere(self) -> re.Pattern[str]:
        return re.compile(anywhere_pattern(self._words), re.IGNORECASE)

    def hide(self, text: str) -> str:
        """Return a text with every secret, and everything that looks like a credential, redacted."""
        if self._words:
            text = self.tokens.sub(lambda found: (found["escape"] or "") + HIDDEN, text)
            # Whatever displays the text drops these characters, and the parts of a secret would join again.
            bare = _UNSEEN.sub("", text)
            if len(bare) < len(text) and self.anywhere.search(bare):
                text = self.anywhere.sub(HIDDEN, bare)
        text = _BASIC.sub(lambda found: HIDDEN if b":" in _decoded(found[0]) else found[0], text)
        return _CREDENTIAL.sub(HIDDEN, _USER_INFO.sub(f"{HIDDEN}@", text))


def _decoded(code: str) -> bytes:
    """Return decoded base64, empty if it is invalid. Its padding may be missing."""
    try:
        return base64.b64decode(code.rstrip("=") + "==", altchars=b"-_" if re.search("[-_]", code) else None)
    except ValueError:
        return b""


def _words(secret: str) -> set[str]:
    """Return the tokens of a header or query value that can do harm on their own."""
    parts = {secret, *re.split(r"[\s;,]+", secret)}
    parts |= {part.partition("=")[2] for part in parts}
    scheme, _, coded = secret.partition(" ")
    if scheme.lower() == "basic":
        pair = _decoded(coded).decode("utf-8", "replace")
        parts |= {pair, pair.partition(":")[2]}
    return {part for part in parts if len(part) >= SHORTEST}
