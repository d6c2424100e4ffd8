"""Everything a client has been told, and what it has learnt of its server."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from typing_extensions import TypedDict, Unpack

from ..errors import ConfigurationError
from .affinity import Affinity, ModalAffinity, NoAffinity, check_key, prefix_key
from .hooks import Hooks, log_as_asked
from .readiness import Readiness
from .retry import RetryPolicy
from .settings import (
    COLD_START_TIMEOUT,
    ApiKey,
    Credentials,
    ProxyToken,
    merge_headers,
    resolve_base_url,
    resolve_credentials,
    resolve_model,
)
from .telemetry import Telemetry, Totals
from .timers import Timeout

AffinityChoice = Affinity | Literal["prefix", "none"]


class Changes(TypedDict, total=False):
    """What `Options.changed` takes: a client's arguments but ``base_url`` and ``http_client``."""

    api_key: ApiKey | None
    proxy_token: ProxyToken | None
    model: str | None
    timeout: Timeout | float | None
    cold_start_timeout: float | None
    max_retries: int | None
    retry: RetryPolicy | None
    affinity: AffinityChoice
    default_headers: Mapping[str, str] | None
    default_query: Mapping[str, Any] | None
    hooks: Hooks | None


class Learnt:
    """What a client and its `with_options` copies share: they talk to the same server."""

    def __init__(self) -> None:
        self.readiness = Readiness()
        self.model: str | None = None
        self.totals = Totals()
        self._lock = threading.Lock()

    def count(self, telemetry: Telemetry) -> None:
        """Add one reply to the client's sums."""
        with self._lock:
            self.totals.add(telemetry)


@dataclass(frozen=True)
class Options:
    """The settings of one client. Immutable; `with_options` makes a changed copy."""

    base_url: str
    credentials: Credentials
    model: str | None
    timeout: Timeout
    cold_start_timeout: float
    policy: RetryPolicy
    affinity: Affinity
    prefix_keys: bool
    headers: Mapping[str, str]
    query: Mapping[str, Any]
    hooks: Hooks
    salt: bytes = field(repr=False)
    learnt: Learnt = field(repr=False)
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)

    @classmethod
    def resolve(
        cls,
        base_url: str | None,
        *,
        api_key: ApiKey | None,
        proxy_token: ProxyToken | None,
        model: str | None,
        timeout: Timeout | float | None,
        cold_start_timeout: float | None,
        max_retries: int | None,
        retry: RetryPolicy | None,
        affinity: AffinityChoice,
        default_headers: Mapping[str, str] | None,
        default_query: Mapping[str, Any] | None,
        hooks: Hooks | None,
        environment: Mapping[str, str] | None = None,
    ) -> Options:
        """Combine a client's arguments with the environment."""
        environment = os.environ if environment is None else environment
        log_as_asked(environment)
        strategy, prefix_keys = _affinity(affinity)
        return cls(
            base_url=resolve_base_url(base_url, environment),
            credentials=resolve_credentials(api_key, proxy_token, environment),
            model=resolve_model(model, environment),
            timeout=Timeout.of(timeout),
            cold_start_timeout=_cold_start_timeout(cold_start_timeout),
            policy=_policy(max_retries, retry, RetryPolicy()),
            affinity=strategy,
            prefix_keys=prefix_keys,
            headers=merge_headers({}, default_headers or {}, name="default_headers"),
            query=dict(default_query or {}),
            hooks=hooks or Hooks(),
            salt=os.urandom(16),
            learnt=Learnt(),
        )

    def changed(self, **changes: Unpack[Changes]) -> Options:
        """Return a copy with the given client arguments changed.

        A ``max_retries`` alone keeps the rest of the policy; headers and queries are added to those there
        are; a credential of None keeps the one there is.
        """
        unknown = changes.keys() - Changes.__annotations__.keys()
        if unknown:
            raise ConfigurationError(f"with_options cannot change {min(unknown)!r}: make a new client for that")
        fields: dict[str, Any] = {}
        if "model" in changes:
            fields["model"] = changes["model"]
        if "timeout" in changes:
            fields["timeout"] = Timeout.of(changes["timeout"])
        if "cold_start_timeout" in changes:
            fields["cold_start_timeout"] = _cold_start_timeout(changes["cold_start_timeout"])
        if "max_retries" in changes or "retry" in changes:
            fields["policy"] = _policy(changes.get("max_retries"), changes.get("retry"), self.policy)
        if "affinity" in changes:
            fields["affinity"], fields["prefix_keys"] = _affinity(changes["affinity"])
        if "default_headers" in changes:
            fields["headers"] = merge_headers(self.headers, changes["default_headers"] or {}, name="default_headers")
        if "default_query" in changes:
            fields["query"] = {**self.query, **(changes["default_query"] or {})}
        if "api_key" in changes or "proxy_token" in changes:
            given = resolve_credentials(changes.get("api_key"), changes.get("proxy_token"), {})
            fields["credentials"] = Credentials(
                given.api_key if given.api_key is not None else self.credentials.api_key,
                given.proxy_token if given.proxy_token is not None else self.credentials.proxy_token,
            )
        if "hooks" in changes:
            fields["hooks"] = changes["hooks"] or Hooks()
        return replace(self, **fields)

    def loose_key(
        self, messages: Any, affinity: AffinityChoice | None, key: str | None
    ) -> tuple[Affinity, str | None]:
        """Choose strategy and key for a call that belongs to no conversation."""
        strategy, prefix_keys = (self.affinity, self.prefix_keys) if affinity is None else _affinity(affinity)
        if key is not None:
            return strategy, check_key(key)
        return strategy, prefix_key(messages, salt=self.salt) if prefix_keys else None


def _affinity(choice: AffinityChoice) -> tuple[Affinity, bool]:
    if choice == "prefix":
        return ModalAffinity(), True
    if choice == "none":
        return NoAffinity(), False
    if isinstance(choice, Affinity):
        return choice, not isinstance(choice, NoAffinity)
    raise ConfigurationError(
        f"affinity must be 'prefix', 'none' or a strategy such as ModalAffinity(), got {choice!r}"
    )


def _policy(max_retries: int | None, retry: RetryPolicy | None, default: RetryPolicy) -> RetryPolicy:
    policy = default if retry is None else retry
    if not isinstance(policy, RetryPolicy):
        raise ConfigurationError("retry must be a RetryPolicy; its wait= and stop= take tenacity's objects")
    return policy if max_retries is None else replace(policy, max_retries=max_retries)


def _cold_start_timeout(value: float | None) -> float:
    if value is None:
        return COLD_START_TIMEOUT
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
        raise ConfigurationError(f"cold_start_timeout must be seconds (0 = do not wait), got {value!r}")
    return float(value)
