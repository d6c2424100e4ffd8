"""What the transports for threads and for tasks share: constants, coverage, errors."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import httpcore
import httpx

from ..errors import ConfigurationError

C = TypeVar("C", httpx.Client, httpx.AsyncClient)

KEEPALIVE_EXPIRY = 4.0
"""Seconds that an idle connection is kept. SGLang's uvicorn closes after 5 s (fixed in 0.5.9), and a request
sent at that moment is lost. So we close first, with a second to spare for slow networks."""

STALE_NOTICE = 2.0
"""Seconds after sending within which a reused connection that dies without a response counts as stale: a
server that had closed it says so within one round trip. If it dies later, the server was working on the
request, and whether to resend it is up to the retry policy."""

JOIN_LIMIT = 64 * 1024
"""Bytes of request body up to which head and body go out in one write, which saves one system call and
one packet. Copying more than this costs what it saves."""

READ_SIZE = 64 * 1024
"""Bytes per read, as in httpcore."""


def keepalive_options() -> list[tuple[int, int, int]]:
    """Return the arguments of ``setsockopt`` that detect a dead peer on this system."""
    # A stream may be silent for minutes while NATs and load balancers forget it: langchain#36949.
    # The values are anthropic-sdk-python's: a dead peer is detected after 60 + 5 * 60 s.
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 60), ("TCP_KEEPCNT", 5)):
        option = getattr(socket, name, None)
        if option is None and name == "TCP_KEEPIDLE":
            option = getattr(socket, "TCP_KEEPALIVE", None)  # macOS's name for it
        if option is not None:
            options.append((socket.IPPROTO_TCP, option, value))
    return options


SOCKET_OPTIONS = (*keepalive_options(), (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1))
"""Set on every connection."""


def numeric(host: str, port: int) -> list[Any] | None:
    """Return what ``getaddrinfo`` returns for an IP address; None for a name, which must be looked up.

    ``getaddrinfo`` is avoided where possible, even with AI_NUMERICHOST: glibc's takes locks, and a lock that
    another thread held during a fork stays locked in the child forever.
    """
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        return None
    if "%" in host:  # it names an interface
        return None
    if version == 4:
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port))]
    return [(socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port, 0, 0))]


def covers(url: httpx.URL, *, proxies: Mapping[str, str], http2: bool = False, uds: str | None = None) -> bool:
    """Return whether Homing's transport can reach ``url``. If not, use httpx's own.

    ``proxies`` has the form of `urllib.request.getproxies` (which reads the environment); a user's
    own proxy is ``{"all": url}``. Not covered: proxies, HTTP/2, Unix domain sockets.
    """
    if http2 or uds is not None or url.scheme not in ("http", "https") or not url.host:
        return False
    if not any(proxies.get(scheme) for scheme in (url.scheme, "all")):
        return True
    entries = [entry.strip().lower() for entry in proxies.get("no", "").split(",")]
    names = [entry.lstrip("*.").rpartition(":")[0] or entry.lstrip("*.") for entry in entries if entry != "*"]
    host = url.host.lower()
    return "*" in entries or any(name and (host == name or host.endswith("." + name)) for name in names)


def with_proxies(make: Callable[[], C], proxies: Mapping[str, str]) -> C:
    """Return the httpx client that ``make`` creates, which reads ``proxies`` from the environment.

    Raises `ConfigurationError` if they are invalid. httpx's own error would quote them, including any password.
    """
    with contextlib.suppress(httpx.InvalidURL, ValueError):
        return make()
    wrong = next((scheme for scheme in ("http", "https", "all") if not _is_proxy(proxies.get(scheme))), "no")
    raise ConfigurationError(
        f"{wrong.upper()}_PROXY in the environment cannot be read: http://user:password@host:port is wanted, "
        "with the special characters of user and password percent-encoded (# as %23, / as %2F)"
    )


def _is_proxy(url: str | None) -> bool:
    try:
        return not url or bool(httpx.Proxy(url if "://" in url else f"http://{url}"))
    except (httpx.InvalidURL, ValueError):
        return False


def check_limits(max_connections: int | None, keepalive_expiry: float) -> None:
    """Raise `ConfigurationError` for invalid limits."""
    if max_connections is not None and (
        not isinstance(max_connections, int) or isinstance(max_connections, bool) or max_connections < 1
    ):
        raise ConfigurationError(
            f"max_connections must be a whole number from 1, or None for no limit; got {max_connections!r}"
        )
    if (
        not isinstance(keepalive_expiry, (int, float))
        or isinstance(keepalive_expiry, bool)
        or not keepalive_expiry >= 0
    ):
        raise ConfigurationError(
            f"keepalive_expiry must be a number of seconds, 0 to use no connection twice; got {keepalive_expiry!r}"
        )


def origin_of(url: httpx.URL) -> tuple[str, str, int]:
    """Return scheme, host and port; raise `httpx.UnsupportedProtocol` as httpx's transports do."""
    scheme = url.scheme
    if scheme not in ("http", "https"):
        if not scheme:
            raise httpx.UnsupportedProtocol("Request URL is missing an 'http://' or 'https://' protocol.")
        raise httpx.UnsupportedProtocol(f"Request URL has an unsupported protocol '{scheme}://'.")
    return scheme, url.raw_host.decode("ascii"), url.port or (443 if scheme == "https" else 80)


_HTTPX_ERRORS: dict[type[Exception], type[httpx.TransportError]] = {
    httpcore.TimeoutException: httpx.TimeoutException,
    httpcore.ConnectTimeout: httpx.ConnectTimeout,
    httpcore.ReadTimeout: httpx.ReadTimeout,
    httpcore.WriteTimeout: httpx.WriteTimeout,
    httpcore.PoolTimeout: httpx.PoolTimeout,
    httpcore.NetworkError: httpx.NetworkError,
    httpcore.ConnectError: httpx.ConnectError,
    httpcore.ReadError: httpx.ReadError,
    httpcore.WriteError: httpx.WriteError,
    httpcore.UnsupportedProtocol: httpx.UnsupportedProtocol,
    httpcore.ProtocolError: httpx.ProtocolError,
    httpcore.LocalProtocolError: httpx.LocalProtocolError,
    httpcore.RemoteProtocolError: httpx.RemoteProtocolError,
}


def as_httpx_error(error: BaseException) -> BaseException:
    """Return httpx's error for httpcore's, and any other unchanged."""
    kind: Any = _HTTPX_ERRORS.get(type(error))  # type: ignore[arg-type]
    return error if kind is None else kind(str(error))
