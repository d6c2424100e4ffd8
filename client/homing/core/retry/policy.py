"""What to do after a failed attempt: give up, wait for the server, or retry a little later."""

from __future__ import annotations

import email.utils
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timezone
from enum import Enum
from typing import TYPE_CHECKING, Any

from ...errors import (
    APIConnectionError,
    APIResponseValidationError,
    APIStatusError,
    APITimeoutError,
    ConfigurationError,
    DeadlineExceeded,
    ServerUnreachable,
    StreamInterrupted,
)

if TYPE_CHECKING:
    from .readiness import State

MAX_RETRIES = 2
"""The default of openai-python and anthropic: a warm server that fails three times in a row is broken."""

FIRST_BACKOFF = 0.5
MAX_BACKOFF = 8.0
"""Full jitter between 0 and 0.5, 1, 2 … 8 s, like other clients."""

RETRY_AFTER_CAP = 60.0
"""A server may ask for more (openai-python#3555), but no caller expects a silent minute:
beyond this, the error is raised at once, with the requested wait in it."""

LAPSES = 2
"""How many consecutive 503s a previously ready server may return before they count as a cold start. A
single replica that drains or is full returns 503 too, and the next attempt reaches another. These attempts
are part of waiting for a replica. For a call that doesn't wait (``cold_start_timeout=0``) they are ordinary
retries, so ``max_retries`` limits them too."""

LAPSE_PAUSE = 0.5
"""Maximum seconds before retrying after such a 503 (full jitter). A router drops a draining
replica within about a second."""

SATURATED_AFTER = 2
"""Consecutive 429s or 503s from a server that was ready, after which one attempt omits the affinity
key: a saturated replica keeps attracting its own sessions."""

MAX_RESUMES = 2
"""How often in a row a broken reply is resumed. If it breaks a third time without `RESUME_PROGRESS` in
between, the cause is one that another replica won't fix."""

RESUME_PROGRESS = 200
"""Characters of new text, about two lines, after which earlier resumes no longer count. This lets a long
reply finish on replicas that are taken away every few minutes."""

TRANSIENT_STATUSES = frozenset({408, 409, 429, 500, 502, 504})
"""Request timeout, lock conflict, too many requests, and transient errors of a server or gateway."""

UNREACHED_STATUSES = frozenset({502, 504})
"""A gateway can't reach the server behind it, which is like a refused connection."""


class ErrorKind(Enum):
    """What an error means for the next attempt."""

    FINAL = "final"
    NOT_READY = "not ready"
    TRANSIENT = "transient"


def classify(error: Exception, state: State) -> ErrorKind:
    """Return what ``error`` means for a server in this ``state``.

    A refused or broken connection means a cold start while the server has never answered, and a
    transient failure once it has.
    """
    never_answered = state != "ready"
    if isinstance(error, APIStatusError):
        if ran_too_long(error):
            return ErrorKind.FINAL
        if error.status_code == 503:
            return ErrorKind.NOT_READY
        if error.status_code in UNREACHED_STATUSES and never_answered:
            return ErrorKind.NOT_READY
        if error.status_code == 500 and is_loading(error):
            return ErrorKind.NOT_READY
        return ErrorKind.TRANSIENT if error.status_code in TRANSIENT_STATUSES else ErrorKind.FINAL
    if isinstance(error, ServerUnreachable):
        return ErrorKind.NOT_READY if never_answered else ErrorKind.TRANSIENT
    if isinstance(error, (APITimeoutError, APIResponseValidationError)):
        # The request may still be running, and a retry would double the load of a slow server.
        return ErrorKind.FINAL
    return ErrorKind.TRANSIENT if isinstance(error, (APIConnectionError, StreamInterrupted)) else ErrorKind.FINAL


def is_loading(error: APIStatusError) -> bool:
    """Hubs and some engines report "model is loading" with a 500 (transformers#32665, huggingface_hub#1454)."""
    text = error.message.lower()
    return "loading" in text and "model" in text


def ran_too_long(error: APIStatusError) -> bool:
    """SGLang ends a request that exceeds ``SGLANG_REQ_RUNNING_TIMEOUT`` with a 503.

    A replica has worked on it for minutes. A retry would take as long and be ended too.
    """
    return "running timeout reached" in error.message.lower()


def is_saturated(error: Exception) -> bool:
    """Return whether ``error`` means that the replica behind this key accepts no more requests."""
    return isinstance(error, APIStatusError) and error.status_code in (429, 503)


def retry_after(headers: Mapping[str, str], *, now: float | None = None) -> float | None:
    """Return the seconds in ``retry-after-ms`` or ``Retry-After`` (seconds or an HTTP date, RFC 9110 §10.2.3)."""
    milliseconds = _seconds(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    seconds = _seconds(value)
    if seconds is not None or value is None:
        return seconds
    try:
        when = email.utils.parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=timezone.utc)  # the RFC allows no other zone
    return max(0.0, when.timestamp() - (time.time() if now is None else now))


def _seconds(value: str | None) -> float | None:
    try:
        seconds = float(value or "")
    except ValueError:
        return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


Wait = Callable[[Any], float]
Stop = Callable[[Any], bool]


@dataclass(frozen=True)
class RetryPolicy:
    """How transient failures are retried. Cold starts have their own budget.

    ``wait`` and ``stop`` are tenacity's objects (``wait_exponential_jitter()``,
    ``stop_after_delay(30)`` …). Each is called with a ``tenacity.RetryCallState``.

    Raises:
        ConfigurationError: A number is negative or of the wrong type, or ``wait`` or ``stop`` isn't callable.
    """

    max_retries: int = MAX_RETRIES
    """Attempts after the first."""
    wait: Wait | None = None
    """Returns the seconds before the next attempt; by default full jitter, 0.5 s doubling to 8 s."""
    stop: Stop | None = None
    """Ends the retries earlier than ``max_retries`` would."""
    retry_after_cap: float = RETRY_AFTER_CAP
    """The longest ``Retry-After`` to wait out, in seconds."""

    def __post_init__(self) -> None:
        if isinstance(self.max_retries, bool) or not isinstance(self.max_retries, int) or self.max_retries < 0:
            raise ConfigurationError(f"max_retries must be an integer of 0 or more, got {self.max_retries!r}")
        for name, value in (("wait", self.wait), ("stop", self.stop)):
            if value is not None and not callable(value):
                raise ConfigurationError(f"{name} must be callable, as tenacity's {name}_* objects are, got {value!r}")
        cap = self.retry_after_cap
        if isinstance(cap, bool) or not isinstance(cap, (int, float)) or not cap >= 0:
            raise ConfigurationError(f"retry_after_cap must be a number of seconds of 0 or more, got {cap!r}")


@dataclass
class TransientBudget:
    """The retries that one call has left."""

    policy: RetryPolicy
    started: float
    failures: int = field(default=0, init=False)

    def next_wait(self, error: Exception, now: float) -> float | None:
        """Use up one retry; return the seconds until the next attempt, or None if ``error`` should be raised."""
        self.failures += 1
        if self.failures > self.policy.max_retries:
            return None
        wished = requested_wait(error)
        if wished is not None and wished > self.policy.retry_after_cap:
            return None
        state = _state(error, self.failures, self.started, now)
        if self.policy.stop is not None and self.policy.stop(state):
            return None
        return max(wished or 0.0, (self.policy.wait or _default_wait())(state))


@dataclass
class ResumeBudget:
    """The resumes that one reply has left. ``policy`` only sets the pause before each."""

    policy: RetryPolicy
    fruitless: int = field(default=0, init=False)

    def next_wait(self, error: Exception, now: float, *, came: int) -> float | None:
        """Use up one resume of a reply that got ``came`` characters further.

        Returns the seconds until the next attempt, or None if ``error`` should be raised.
        """
        if came >= RESUME_PROGRESS:
            self.fruitless = 0
        self.fruitless += 1
        if self.fruitless > MAX_RESUMES:
            return None
        return (self.policy.wait or _default_wait())(_state(error, self.fruitless, now, now))


def _state(error: Exception, failures: int, started: float, now: float) -> Any:
    """Build the state that tenacity's strategies read."""
    import tenacity

    state = tenacity.RetryCallState(None, None, (), {})  # type: ignore[arg-type]
    state.attempt_number = failures
    state.start_time = started
    state.set_exception((type(error), error, None))
    state.outcome_timestamp = now
    state.idle_for = 0.0
    return state


def _default_wait() -> Wait:
    import tenacity

    return tenacity.wait_random_exponential(multiplier=FIRST_BACKOFF, max=MAX_BACKOFF)


def requested_wait(error: Exception) -> float | None:
    """Return the seconds that the server asked to wait, None if it didn't."""
    if isinstance(error, APIStatusError) and error.response is not None:
        return retry_after(error.response.headers)
    return None


def deadline_exceeded(total: float | None) -> DeadlineExceeded:
    """Return the error of a call whose ``Timeout.total`` ends before its next attempt could begin."""
    limit = "" if total is None else f" of {total:g} s"
    return DeadlineExceeded(f"the call's total{limit} ends before the next attempt: raise Timeout.total")


def wait_exceeded(total: float | None, what: str) -> DeadlineExceeded:
    """Return the error of a call whose ``Timeout.total`` ended while it waited ``what`` ("for …")."""
    limit = "" if total is None else f" of {total:g} s"
    return DeadlineExceeded(f"the call's total{limit} ended while it waited {what}: raise Timeout.total")
