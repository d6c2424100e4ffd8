"""Transport errors as Homing's own. The exceptions of httpx and httpx2 never escape (openai-python#2356, #1384)."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterable

import httpx

from ..._http_library import library_of
from ...errors import (
    APIConnectionError,
    APIError,
    APIResponseValidationError,
    APITimeoutError,
    ConfigurationError,
    ResponseTooLarge,
    ServerUnreachable,
    StreamInterrupted,
    StreamTruncated,
)
from ..secrets.redact import redact

REDIRECTS = frozenset({301, 302, 303, 307, 308})

HEAD_TOO_LARGE = 431
"""Request Header Fields Too Large (RFC 6585). h11 uses the same status for a response's headers."""

MAX_REDIRECTS = 5
"""Same-host redirects to follow per attempt (a trailing slash, http to https). More are a loop."""


def connection_failure(error: Exception, url: str, secrets: Iterable[str] = ()) -> APIError | ConfigurationError:
    """Translate an exception that the transport raised before the first byte of a response.

    ``secrets`` are redacted from the message: h11 quotes a header that it won't send, and a line that it can't parse.
    """
    host = shown_host(url)
    library = library_of(error)
    causes = _causes(error)
    why = _why(error, secrets)
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        return APIConnectionError(
            f"the TLS certificate of {host} is not trusted: check the URL, or pass an http_client with your own CA"
        )
    if any(isinstance(cause, ssl.SSLError) for cause in causes):
        return APIConnectionError(f"TLS with {host} failed: is it an https server? ({_why(causes[-1], secrets)})")
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return APIConnectionError(f"the name {host} cannot be resolved: check base_url")
    if _endless_head(causes):
        return APIResponseValidationError(
            f"the head of {host}'s answer does not come to an end: check base_url, and what is on the way"
        )
    if isinstance(error, library.RemoteProtocolError) and isinstance(error.__context__, library.InvalidURL):
        # The library looks where a redirect leads although it is not to follow it; newer ones leave that to us.
        return _redirects_nowhere()
    if isinstance(error, library.PoolTimeout):
        return APITimeoutError("no free connection: close streams you no longer read, or allow more connections")
    if isinstance(error, (library.ConnectError, library.ConnectTimeout)):
        return ServerUnreachable(f"cannot connect to {host}: {why}")
    if isinstance(error, (library.UnsupportedProtocol, library.InvalidURL, library.LocalProtocolError)):
        return ConfigurationError(f"the request to {host} cannot be sent: {why}")
    if isinstance(error, library.ProxyError):
        return APIConnectionError(f"the proxy refused to connect to {host}: {why}")
    if isinstance(error, library.WriteTimeout):
        return APITimeoutError(f"{host} did not take the request in time (Timeout.write)")
    if isinstance(error, library.DecodingError):
        return APIResponseValidationError(f"the answer of {host} cannot be decompressed: {why}")
    return ServerUnreachable(f"{host} closed the connection before answering: {why}")


def stream_failure(error: Exception, secrets: Iterable[str] = ()) -> APIError:
    """Translate an exception that the transport raised in mid-response. The message has no ``secrets``."""
    if isinstance(error, library_of(error).DecodingError):
        return APIResponseValidationError(f"the answer cannot be decompressed: {_why(error, secrets)}")
    if _endless_head(_causes(error)):
        return APIResponseValidationError(
            "the framing of the stream is longer than its text can need: check what is on the way to the server"
        )
    return StreamInterrupted(
        f"the connection broke in mid-answer ({_why(error, secrets)}); what had come is in .partial"
    )


def truncated() -> StreamTruncated:
    """Return the error for a stream that ended cleanly, but against the protocol (litellm#42140, tidebreak#1124)."""
    return StreamTruncated(
        "the stream ended without finish_reason and without [DONE]: a proxy or the replica cut it; "
        "what had come is in .partial"
    )


def too_large(received: int, limit: float) -> ResponseTooLarge:
    """Return the error for a response whose size so far, ``received`` bytes, exceeds the ``limit``."""
    return ResponseTooLarge(
        f"the answer is longer than max_response_bytes allows: {received} bytes have come, the limit is {limit:.0f}. "
        "Raise max_response_bytes if you expect so much; else look into what the server sends",
        limit=int(limit),
        received=received,
    )


def redirect_target(response: httpx.Response, url: str, secrets: Iterable[str] = ()) -> str:
    """Return the target of a redirect, if credentials may be sent there.

    That is only the same host (or http to https on it), and only for redirects that keep the method. The user must
    decide on anything else (RFC 9110 §15.4 leaves it to the client). The error quotes only scheme and host of the
    other address, without ``secrets``.
    """
    old = httpx.URL(url)
    try:
        new = old.join(response.headers.get("location", ""))
    except httpx.InvalidURL:
        raise _redirects_nowhere() from None
    same_host = old.host == new.host and (
        (old.scheme, old.port) == (new.scheme, new.port) or (old.scheme, new.scheme) == ("http", "https")
    )
    if response.status_code in (307, 308) and same_host:
        return str(new)
    there = redact(f"{new.scheme}://{new.netloc.decode('ascii')}", secrets)
    raise ConfigurationError(
        f"the server redirects to {there} (HTTP {response.status_code}); credentials and "
        "conversations are not sent on unasked: set base_url to that address if you trust it"
    )


def _redirects_nowhere() -> ConfigurationError:
    return ConfigurationError("the server redirects to what is no URL: check base_url")


def _endless_head(causes: list[BaseException]) -> bool:
    """Return whether a head or a chunk's header exceeded h11's buffer, which h11 marks with this status hint."""
    return any(getattr(cause, "error_status_hint", None) == HEAD_TOO_LARGE for cause in causes)


def shown_host(url: str) -> str:
    """Return a URL's host and port, the part that may be shown."""
    return httpx.URL(url).netloc.decode("ascii")


def _why(error: BaseException, secrets: Iterable[str]) -> str:
    """Return the transport's message, which may quote the server's."""
    said: str = redact(str(error), secrets)
    return said or type(error).__name__


def _causes(error: BaseException) -> list[BaseException]:
    causes: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in causes:
        causes.append(current)
        current = current.__cause__ or current.__context__
    return causes
