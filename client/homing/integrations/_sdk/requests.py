"""Requests of other SDKs: which conversation each belongs to, and how to interpret its outcome."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from ...core.affinity.strategies import Affinity, prefix_key, strategy_for
from ...core.errors.server_errors import status_error
from ...core.errors.transport_errors import connection_failure
from ...core.request.environment import (
    BASE_URL_VARIABLES,
    PROXY_TOKEN_VARIABLES,
    ProxyToken,
    resolve_base_url,
    resolve_credentials,
)
from ...core.request.options import AffinityChoice, resolve_affinity, resolve_cold_start_timeout
from ...core.retry.policy import RetryPolicy
from ...core.secrets.caller import caller_digest
from ...core.secrets.redact import redacted_response, secrets_in, secrets_of
from ...core.telemetry.hooks import Hooks, log_as_asked
from ...errors import APIError, APIStatusError, ColdStartTimeout, ConfigurationError

READ_STATUSES = frozenset({408, 409, 429, 500, 502, 503, 504})
"""For these statuses the body is read before the SDK gets it: it may say that the model is loading, and the
connection must be free while the call waits."""

_SALT = os.urandom(16)
"""One salt per process, so that a conversation keeps its key across sync, async and short-lived clients.
Workers forked later share it."""

SHORTEST_SALT = 8
"""Characters. A shorter salt could be guessed, and then the content."""

_MESSAGE_HEADERS = frozenset(
    {
        "accept", "accept-encoding", "connection", "content-length", "content-type", "host", "transfer-encoding",
        "user-agent",
    }
)  # fmt: skip
"""Headers that describe the message or the SDK (as ``x-stainless-…`` do) and don't identify the caller."""

STOP = "x-should-retry"
"""openai-python obeys this header. After a full cold-start budget it should not begin another one."""


@dataclass(frozen=True)
class SDKSettings:
    """Settings for handling the requests of another SDK."""

    affinity: Affinity
    keyed: bool
    cold_start_timeout: float
    hooks: Hooks
    salt: bytes = field(repr=False)
    proxy_headers: Mapping[str, str] = field(repr=False)
    origin: str | None
    """The only origin that receives the proxy token, also after redirects."""
    policy: RetryPolicy = field(default_factory=lambda: RetryPolicy(max_retries=0))
    """No retries of our own: the SDK retries everything except cold starts."""
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)

    @classmethod
    def resolve(
        cls,
        *,
        affinity: AffinityChoice,
        cold_start_timeout: float | None,
        base_url: str | None,
        proxy_token: ProxyToken | None,
        hooks: Hooks | None,
        salt: str | None,
        environment: Mapping[str, str] | None = None,
    ) -> SDKSettings:
        """Combine arguments with the environment. Raises `ConfigurationError` for invalid settings."""
        environment = os.environ if environment is None else environment
        log_as_asked(environment)
        strategy, keyed = resolve_affinity(affinity)
        ours = {name: environment[name] for name in PROXY_TOKEN_VARIABLES if name in environment}
        proxy_headers = resolve_credentials(None, proxy_token, ours).headers()
        given = base_url is not None or any(environment.get(name) for name in BASE_URL_VARIABLES)
        if proxy_headers and not given:
            raise ConfigurationError(
                "a proxy token is sent to its own server only: pass base_url=… too, or set HOMING_BASE_URL"
            )
        return cls(
            affinity=strategy,
            keyed=keyed,
            cold_start_timeout=resolve_cold_start_timeout(cold_start_timeout),
            hooks=hooks or Hooks(),
            salt=_SALT if salt is None else _salt(salt),
            proxy_headers=proxy_headers,
            origin=origin_of(resolve_base_url(base_url, environment)) if given else None,
        )

    def authorize(self, headers: MutableMapping[str, str]) -> None:
        """Add Modal's proxy token to a request to its own server, unless the caller has set one."""
        for name, value in self.proxy_headers.items():
            headers.setdefault(name, value)


def _salt(salt: str) -> bytes:
    if not isinstance(salt, str) or len(salt) < SHORTEST_SALT:
        raise ConfigurationError(f"salt must be a string of {SHORTEST_SALT} or more characters, kept secret")
    return hashlib.blake2b(salt.encode(), digest_size=16).digest()


def origin_of(url: object) -> str:
    """Return scheme, host and port of a URL."""
    parts = urlsplit(str(url))
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"{parts.scheme}://{parts.hostname}:{port}"


def key_of(body: Any, *, salt: bytes) -> str | None:
    """Return the affinity key of a request with this JSON ``body``, or None if it belongs to no conversation.

    ``prompt_cache_key`` has the same meaning for OpenAI's caches as the key for ours (the Agents SDK sets it
    for each session). Without it, the key is derived from the messages up to the first user message.
    """
    if not isinstance(body, dict):
        return None
    given = body.get("prompt_cache_key")
    if isinstance(given, str) and given:
        return prefix_key([{"role": "user", "content": given}], salt=salt)
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        return None
    try:
        return prefix_key(messages, salt=salt)
    except (ConfigurationError, AttributeError):
        return None  # malformed: the server reports the problem better


def apply_affinity(
    settings: SDKSettings, headers: Mapping[str, str], content: bytes
) -> tuple[str | None, dict[str, str], bytes]:
    """Return a request's key, the headers to add, and its body.

    Adds nothing if one of these headers is already set: the caller's own key wins.
    """
    try:
        body = json.loads(content) if content else None
    except ValueError:
        body = None
    key = key_of(body, salt=settings.salt) if settings.keyed else None
    if key is None or not isinstance(body, dict):
        return None, {}, content
    added: dict[str, str] = {}
    routed = dict(body)
    strategy_for(settings.affinity, lambda: request_caller(settings, headers)).apply(key, added, routed)
    if any(name in headers for name in added):
        return None, {}, content
    return key, added, content if routed == body else json.dumps(routed, separators=(",", ":")).encode()


def own_key(settings: SDKSettings, headers: Mapping[str, str]) -> str | None:
    """Return the key that the caller has set on a request, or None."""
    routing: dict[str, str] = {}
    if settings.keyed:
        settings.affinity.apply("-", routing, {})
    return next((headers[name] for name in routing if name in headers), None)


def request_caller(settings: SDKSettings, headers: Mapping[str, str]) -> bytes:
    """Return a digest that identifies the caller, computed from the request's own headers."""
    said = ((name, value) for name, value in headers.items() if not _is_the_sdks(name.lower()))
    return caller_digest(said, {}, salt=settings.salt)


def _is_the_sdks(name: str) -> bool:
    return name in _MESSAGE_HEADERS or name.startswith("x-stainless-")


def translate_error(error: Exception, request: Any) -> APIError | ConfigurationError:
    """Translate a transport error of httpx, of httpx2 or of the system."""
    return connection_failure(error, str(request.url), secrets_in(request))


def retryable_error(status: int, content: bytes, response: Any) -> APIStatusError | None:
    """Return the error for a response that may be worth another attempt, or None for any other response."""
    if status not in READ_STATUSES:
        return None
    if response is None:
        return status_error(status, content)
    secrets = secrets_of(response)
    error = status_error(status, content, response, secrets=secrets)
    error.response = redacted_response(response, error.body, secrets)
    return error


def cold_start_response(error: ColdStartTimeout) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body of the response after a cold start timed out."""
    told = {"message": str(error), "type": "cold_start_timeout", "param": None, "code": 503}
    return 503, {"content-type": "application/json", STOP: "false"}, json.dumps({"error": told}).encode()
