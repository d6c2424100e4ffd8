"""The settings of one client: its arguments, with the environment as fallback."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from typing_extensions import TypedDict, Unpack

from ...errors import ConfigurationError
from ..affinity.placement import Placement, Search, sends_headers
from ..affinity.strategies import Affinity, ModalAffinity, NoAffinity, check_key, prefix_key
from ..retry.policy import RetryPolicy
from ..retry.timers import Timeout
from ..secrets.caller import caller_digest
from ..secrets.redact import SecretMapping
from ..telemetry.hooks import Hooks, log_as_asked
from .environment import (
    COLD_START_TIMEOUT,
    MAX_RESPONSE_BYTES,
    ApiKey,
    Credentials,
    ProxyToken,
    check_mapping,
    merge_headers,
    resolve_base_url,
    resolve_credentials,
    resolve_max_response_bytes,
    resolve_model,
)
from .resume_style import ResumeChoice, check_choice
from .server_state import ServerState

AffinityChoice = Affinity | Literal["prefix", "none"]


class OptionChanges(TypedDict, total=False):
    """What `Options.changed` takes: a client's arguments except ``base_url`` and ``http_client``."""

    api_key: ApiKey | None
    proxy_token: ProxyToken | None
    model: str | None
    timeout: Timeout | float | None
    cold_start_timeout: float | None
    max_retries: int | None
    retry: RetryPolicy | None
    affinity: AffinityChoice
    placement: Placement
    default_headers: Mapping[str, str] | None
    default_query: Mapping[str, Any] | None
    max_response_bytes: int | None
    resume: ResumeChoice
    hooks: Hooks | None


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
    placement: Placement
    headers: Mapping[str, str]
    query: Mapping[str, Any]
    resume: ResumeChoice
    hooks: Hooks
    salt: bytes = field(repr=False)
    server_state: ServerState = field(repr=False)
    max_response_bytes: float = MAX_RESPONSE_BYTES
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
        placement: Placement = "hash",
        default_headers: Mapping[str, str] | None,
        default_query: Mapping[str, Any] | None,
        hooks: Hooks | None,
        max_response_bytes: int | None = MAX_RESPONSE_BYTES,
        resume: ResumeChoice = "auto",
        environment: Mapping[str, str] | None = None,
    ) -> Options:
        """Combine a client's arguments with the environment."""
        environment = os.environ if environment is None else environment
        log_as_asked(environment)
        strategy, prefix_keys = resolve_affinity(affinity)
        return cls(
            base_url=resolve_base_url(base_url, environment),
            credentials=resolve_credentials(api_key, proxy_token, environment),
            model=resolve_model(model, environment),
            timeout=Timeout.of(timeout),
            cold_start_timeout=resolve_cold_start_timeout(cold_start_timeout),
            policy=_policy(max_retries, retry, RetryPolicy()),
            affinity=strategy,
            prefix_keys=prefix_keys,
            placement=_placement(placement),
            headers=SecretMapping(merge_headers({}, default_headers or {}, name="default_headers")),
            query=SecretMapping(check_mapping(default_query or {}, name="default_query")),
            resume=check_choice(resume),
            hooks=_hooks(hooks),
            salt=os.urandom(16),
            server_state=ServerState(),
            max_response_bytes=resolve_max_response_bytes(max_response_bytes),
        )

    def changed(self, **changes: Unpack[OptionChanges]) -> Options:
        """Return a copy with the given client arguments changed.

        ``max_retries`` alone keeps the rest of the policy. Headers and query parameters are added to the existing
        ones. A credential of None keeps the existing one.
        """
        unknown = changes.keys() - OptionChanges.__annotations__.keys()
        if unknown:
            raise ConfigurationError(f"with_options cannot change {min(unknown)!r}: make a new client for that")
        fields: dict[str, Any] = {}
        if "model" in changes:
            fields["model"] = resolve_model(changes["model"], {})
        if "timeout" in changes:
            fields["timeout"] = Timeout.of(changes["timeout"])
        if "cold_start_timeout" in changes:
            fields["cold_start_timeout"] = resolve_cold_start_timeout(changes["cold_start_timeout"])
        if "max_retries" in changes or "retry" in changes:
            fields["policy"] = _policy(changes.get("max_retries"), changes.get("retry"), self.policy)
        if "affinity" in changes:
            fields["affinity"], fields["prefix_keys"] = resolve_affinity(changes["affinity"])
        if "placement" in changes:
            fields["placement"] = _placement(changes["placement"])
        if "default_headers" in changes:
            more = merge_headers(self.headers, changes["default_headers"] or {}, name="default_headers")
            fields["headers"] = SecretMapping(more)
        if "default_query" in changes:
            asked = check_mapping(changes["default_query"] or {}, name="default_query")
            fields["query"] = SecretMapping({**self.query, **asked})
        if "max_response_bytes" in changes:
            fields["max_response_bytes"] = resolve_max_response_bytes(changes["max_response_bytes"])
        if "api_key" in changes or "proxy_token" in changes:
            given = resolve_credentials(changes.get("api_key"), changes.get("proxy_token"), {})
            fields["credentials"] = Credentials(
                given.api_key if given.api_key is not None else self.credentials.api_key,
                given.proxy_token if given.proxy_token is not None else self.credentials.proxy_token,
            )
        if "resume" in changes:
            fields["resume"] = check_choice(changes["resume"])
        if "hooks" in changes:
            fields["hooks"] = _hooks(changes["hooks"])
        return replace(self, **fields)

    @property
    def served_model(self) -> str | None:
        """The model for calls that name none: the client's, else the one that the server reported."""
        return self.model or self.server_state.models.of(self)

    @functools.cached_property
    def caller(self) -> bytes:
        """The digest of the caller, from these settings. A function that returns keys counts as one caller."""
        key, token = self.credentials.api_key, self.credentials.proxy_token
        given = {"authorization": key if isinstance(key, str) else f"{type(key)} {id(key)}", "modal-key": repr(token)}
        return caller_digest([*given.items(), *self.headers.items()], self.query, salt=self.salt)

    def stateless_key(
        self, messages: Any, encoded: Sequence[bytes], affinity: AffinityChoice | None, key: str | None
    ) -> tuple[Affinity, str | None]:
        """Choose strategy and key for a call outside conversations, with these messages and their encodings."""
        strategy, prefix_keys = (self.affinity, self.prefix_keys) if affinity is None else resolve_affinity(affinity)
        if key is not None:
            return strategy, check_key(key)
        return strategy, prefix_key(messages, salt=self.salt, encoded=encoded) if prefix_keys else None

    def search(self) -> Search | None:
        """Return the search for a new conversation's key, or None if any key will do."""
        waiting = self.server_state.readiness.state == "waiting"  # the replicas to come are not known yet
        if self.placement != "balanced" or waiting or not sends_headers(self.affinity):
            return None
        return Search(self.server_state.replicas)


def resolve_affinity(choice: AffinityChoice) -> tuple[Affinity, bool]:
    """Return the strategy, and whether calls outside conversations get a key derived from their prefix."""
    if choice == "prefix":
        return ModalAffinity(), True
    if choice == "none":
        return NoAffinity(), False
    if isinstance(choice, Affinity):
        return choice, not isinstance(choice, NoAffinity)
    raise ConfigurationError(f"affinity must be 'prefix', 'none' or a strategy such as ModalAffinity(), got {choice!r}")


def _hooks(hooks: Hooks | None) -> Hooks:
    if hooks is not None and not isinstance(hooks, Hooks):
        raise ConfigurationError(f"hooks must be Hooks(on_wait=…), with a function for each, got {hooks!r}")
    return hooks or Hooks()


def _placement(choice: Placement) -> Placement:
    if choice not in ("hash", "balanced"):
        raise ConfigurationError(f"placement must be 'hash' or 'balanced', got {choice!r}")
    return choice


def _policy(max_retries: int | None, retry: RetryPolicy | None, default: RetryPolicy) -> RetryPolicy:
    policy = default if retry is None else retry
    if not isinstance(policy, RetryPolicy):
        raise ConfigurationError("retry must be a RetryPolicy; its wait= and stop= take tenacity's objects")
    return policy if max_retries is None else replace(policy, max_retries=max_retries)


def resolve_cold_start_timeout(value: float | None) -> float:
    """Return the budget in seconds, or the default for None."""
    if value is None:
        return COLD_START_TIMEOUT
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
        raise ConfigurationError(f"cold_start_timeout must be seconds (0 = do not wait), got {value!r}")
    return float(value)
