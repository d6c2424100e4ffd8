"""One call as a generator: attempts, cold starts, retries.

`attempts` yields effects (`Hold`, `Sleep`, `Send`, `Deliver`). The driver performs each one and
sends back the result. All rules live here; the drivers, one for tasks and one for threads, only
perform effects. (The idea is httpx's auth flow.)
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Generator
from dataclasses import dataclass, field

from ...errors import APIConnectionError, APIError, APIStatusError, ColdStartTimeout
from ...types.events import Waiting
from ..errors.interruptions import not_resumed
from ..telemetry.hooks import Retrying
from .policy import (
    LAPSE_PAUSE,
    LAPSES,
    MAX_RESUMES,
    SATURATED_AFTER,
    ErrorKind,
    ResumeBudget,
    RetryPolicy,
    TransientBudget,
    classify,
    deadline_exceeded,
    is_saturated,
    requested_wait,
)
from .readiness import Readiness, State, Waiter

WAIT_NOTICE = 5.0
"""Seconds between progress notices of a call that only waits for another call's attempt."""


# The effects aren't frozen, which would slow down their definition (with the first client) and each attempt.


@dataclass(slots=True)
class Hold:
    """Wait until the ticket is woken, for at most ``seconds``."""

    seconds: float
    notice: Waiting | None


@dataclass(slots=True)
class Sleep:
    """Wait ``seconds``."""

    seconds: float
    notice: Retrying


@dataclass(slots=True)
class Send:
    """Send the request. The driver sends back None on success, or the error."""

    number: int
    """Counted from 1."""
    with_key: bool
    """Whether to send the affinity key."""


@dataclass(slots=True)
class Deliver:
    """Hand the server's response to the caller.

    The driver sends back None on success, `Broken`, or an error that occurred before anything was
    shown, which may therefore be retried.
    """


@dataclass(slots=True)
class Broken:
    """The reply broke partway and should be resumed."""

    error: APIError
    came: int
    """Characters shown since the reply began or was last resumed."""


Effect = Hold | Sleep | Send | Deliver
Result = Exception | Broken | None
Attempts = Generator[Effect, Result, None]


@dataclass(slots=True)
class CallBudget:
    """What one call may spend."""

    policy: RetryPolicy
    cold_start_timeout: float
    started: float
    ends_at: float | None = None
    total: float | None = None
    waited: float = field(default=0.0, init=False)
    """Seconds spent waiting for a replica."""
    sent: int = field(default=0, init=False)
    """Attempts sent."""
    retries: int = field(default=0, init=False)
    """Attempts repeated after transient failures."""
    resumes: int = field(default=0, init=False)
    """How often the reply broke and was resumed."""


def attempts(budget: CallBudget, readiness: Readiness, ticket: Waiter, clock: Callable[[], float]) -> Attempts:
    """Run one call to its end. Raises the last error, `ColdStartTimeout` or `DeadlineExceeded`."""
    retries_left = TransientBudget(budget.policy, budget.started)
    patience = LAPSES if budget.cold_start_timeout > 0 else min(LAPSES, budget.policy.max_retries)
    resumes_left = ResumeBudget(budget.policy)
    cold_since: float | None = None
    waited_before = 0.0
    last: Exception | None = None
    lapses = refused = 0
    try:
        while True:
            noticed = -math.inf
            while (hold := readiness.ask(ticket, clock())) is not None:
                now = clock()
                if readiness.state == "unknown":
                    yield Hold(hold, None)  # only until the very first call gets a response
                    continue
                if cold_since is None:
                    cold_since, waited_before = now, budget.waited
                budget.waited = waited_before + now - cold_since
                left = _time_left(budget, readiness.state, now - cold_since, now, last)
                notice = None
                if now - noticed >= min(WAIT_NOTICE, hold):
                    noticed = now
                    notice = Waiting(
                        elapsed=now - cold_since,
                        deadline=budget.cold_start_timeout,
                        attempt=budget.sent,
                        next_in=min(hold, left),
                        cause=cause_of(last),
                    )
                yield Hold(min(hold, left, WAIT_NOTICE), notice)
            now = clock()
            if cold_since is not None:
                budget.waited = waited_before + now - cold_since
            _check_time(budget, now, last)
            budget.sent += 1
            with_key = refused < SATURATED_AFTER
            result = yield Send(budget.sent, with_key)
            if result is None:
                readiness.answered(ticket, clock())
                cold_since = None
                result = yield Deliver()
                if result is None:
                    return
            now = clock()
            if isinstance(result, Broken):
                last = result.error
                readiness.leave(ticket)
                # Failures before the reply began no longer count.
                retries_left, lapses, refused = TransientBudget(budget.policy, now), 0, 0
                pause = resumes_left.next_wait(last, now, came=result.came)
                if pause is None:
                    raise not_resumed(result.error, f"it broke {MAX_RESUMES + 1} times and had hardly got on")
                _check_time(budget, now + pause, last)
                budget.resumes += 1
                yield Sleep(pause, Retrying(last, budget.sent, pause))
                continue
            last = error = result
            state = readiness.state
            kind = classify(error, state)
            if is_saturated(error) and state == "ready":
                refused = refused + 1 if with_key else 0
            wish = requested_wait(error) or 0.0
            lapsed = lapses >= patience or wish > budget.policy.retry_after_cap
            if kind is ErrorKind.NOT_READY and (state != "ready" or lapsed):
                readiness.not_ready(ticket, now, retry_after=wish)
                continue
            if isinstance(error, APIStatusError) and kind is not ErrorKind.NOT_READY:
                readiness.answered(ticket, now)
            else:
                readiness.leave(ticket)  # another waiter may lead while this call pauses
            if kind is ErrorKind.FINAL:
                raise error
            if kind is ErrorKind.NOT_READY:
                lapses += 1
                pause = max(wish, random.uniform(0, LAPSE_PAUSE))  # jitter, not a secret
            else:
                pause = retries_left.next_wait(error, now)
            if pause is None:
                raise error
            _check_time(budget, now + pause, error)
            budget.retries += 1
            yield Sleep(pause, Retrying(error, budget.sent, pause))
    finally:
        ticket.gone = True  # first, as a single store: nothing can come in between
        readiness.leave(ticket)


def _check_time(budget: CallBudget, then: float, last: Exception | None) -> None:
    if budget.ends_at is not None and then >= budget.ends_at:
        raise deadline_exceeded(budget.total) from last


def _time_left(budget: CallBudget, state: State, waited: float, now: float, last: Exception | None) -> float:
    # Once a replica is up, a released call is about to be served, and the cold start's budget no longer applies.
    left = budget.cold_start_timeout - waited if state == "waiting" else math.inf
    if left <= 0:
        tries = "1 attempt" if budget.sent == 1 else f"{budget.sent} attempts"
        raise ColdStartTimeout(
            f"no replica became ready within {budget.cold_start_timeout:g} s ({tries} by this call, "
            f"last: {cause_of(last)}): look at the server's logs, or raise cold_start_timeout",
            waited=waited,
            attempts=budget.sent,
            last=last,
        ) from last
    if budget.ends_at is not None:
        if now >= budget.ends_at:
            raise deadline_exceeded(budget.total) from last
        left = min(left, budget.ends_at - now)
    return left


def cause_of(error: Exception | None) -> str:
    """Return a short reason for a wait or retry, for logs.

    Leaves out the server's message, which may quote user content.
    """
    if error is None:
        return "another call found no replica ready"
    if isinstance(error, APIStatusError):
        return f"HTTP {error.status_code}"
    if isinstance(error, APIConnectionError):
        return str(error)
    return type(error).__name__
