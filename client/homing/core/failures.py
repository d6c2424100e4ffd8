"""Transport errors in our own words. httpx's exceptions never escape (openai-python#2356, #1384)."""

from __future__ import annotations

import socket
import ssl
from urllib.parse import urlsplit

import httpx

from ..errors import (
    APIConnectionError,
    APIError,
    APIResponseValidationError,
    APITimeoutError,
    ConfigurationError,
    ServerUnreachable,
    StreamInterrupted,
    StreamTruncated,
)

REDIRECTS = frozenset({301, 302, 303, 307, 308})

MAX_REDIRECTS = 5
"""Same-host redirects followed for one attempt (a trailing slash, http to https): more is a loop."""


def connection_failure(error: Exception, url: str) -> APIError | ConfigurationError:
    """Translate what the transport raised before any byte of an answer had come."""
    host = urlsplit(url).netloc
    causes = _causes(error)
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        return APIConnectionError(
            f"the TLS certificate of {host} is not trusted: check the URL, or pass an http_client with your own CA"
        )
    if any(isinstance(cause, ssl.SSLError) for cause in causes):
        return APIConnectionError(f"TLS with {host} failed: is it an https server? ({causes[-1]})")
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return APIConnectionError(f"the name {host} cannot be resolved: check base_url")
    if isinstance(error, httpx.PoolTimeout):
        return APITimeoutError(
            "no free connection: close streams you no longer read, or allow more connections"
        )
    if isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout)):
        return ServerUnreachable(f"cannot connect to {host}: {_why(error)}")
    if isinstance(error, (httpx.UnsupportedProtocol, httpx.InvalidURL, httpx.LocalProtocolError)):
        return ConfigurationError(f"the request to {host} cannot be sent: {error}")
    if isinstance(error, httpx.ProxyError):
        return APIConnectionError(f"the proxy refused to connect to {host}: {error}")
    if isinstance(error, httpx.WriteTimeout):
        return APITimeoutError(f"{host} did not take the request in time (Timeout.write)")
    if isinstance(error, httpx.DecodingError):
        return APIResponseValidationError(f"the answer of {host} cannot be decompressed: {error}")
    return ServerUnreachable(f"{host} closed the connection before answering: {_why(error)}")


def stream_failure(error: Exception) -> APIError:
    """Translate what the transport raised in the middle of an answer."""
    if isinstance(error, httpx.DecodingError):
        return APIResponseValidationError(f"the answer cannot be decompressed: {error}")
    return StreamInterrupted(
        f"the connection broke in mid-answer ({_why(error)}); what had come is in .partial"
    )


def truncated() -> StreamTruncated:
    """The error of a stream that ended cleanly, but not by the protocol (litellm#42140, tidebreak#1124)."""
    return StreamTruncated(
        "the stream ended without finish_reason and without [DONE]: a proxy or the replica cut it; "
        "what had come is in .partial"
    )


def redirect_target(response: httpx.Response, url: str) -> str:
    """Return where a redirect leads, if credentials may follow there.

    Only the same host (or http to https on it) and only the kinds that keep the method;
    anything else is for the user to decide (RFC 9110 §15.4 leaves it to the client).
    """
    old = httpx.URL(url)
    try:
        new = old.join(response.headers.get("location", ""))
    except httpx.InvalidURL as error:
        raise ConfigurationError(f"the server redirects to what is no URL: {error}") from None
    same_host = old.host == new.host and (
        (old.scheme, old.port) == (new.scheme, new.port) or (old.scheme, new.scheme) == ("http", "https")
    )
    if response.status_code in (307, 308) and same_host:
        return str(new)
    there = f"{new.scheme}://{new.netloc.decode('ascii')}"
    raise ConfigurationError(
        f"the server redirects to {there} (HTTP {response.status_code}); credentials and "
        "conversations are not sent on unasked: set base_url to that address if you trust it"
    )


def _why(error: Exception) -> str:
    return str(error) or type(error).__name__


def _causes(error: BaseException) -> list[BaseException]:
    causes: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in causes:
        causes.append(current)
        current = current.__cause__ or current.__context__
    return causes
