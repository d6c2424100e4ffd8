"""One call as a conversation with its driver: attempts, cold starts, retries.

`attempts` is a generator. It yields what is to be done (`Hold`, `Sleep`, `Send`, `Deliver`),
the driver does it and sends back what came of it. All rules live here; the drivers, one for
tasks and one for threads, only perform. (The idea is httpx's auth flow.)
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Generator
from dataclasses import dataclass, field

from ..errors import APIConnectionError, APIStatusError, ColdStartTimeout
from ..types.events import Waiting
from .hooks import Retrying
from .readiness import Readiness, State, Ticket
from .retry import (
    LAPSE_PAUSE,
    LAPSES,
    SATURATED_AFTER,
    Kind,
    RetryPolicy,
    TransientBudget,
    classify,
    out_of_time,
    saturated,
    wished_wait,
)

WAIT_NOTICE = 5.0
"""Seconds between two progress notices of a call that only waits for another call's attempt."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Wait until the ticket is woken, at most ``seconds``."""

    seconds: float
    notice: Waiting | None


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait ``seconds``."""

    seconds: float
    notice: Retrying


@dataclass(frozen=True, slots=True)
class Send:
    """Send the request. Answer with None for success, or with the error."""

    number: int
    """Counted from 1."""
    with_key: bool
    """Whether the affinity key goes along."""


@dataclass(frozen=True, slots=True)
class Deliver:
    """The server has answered: hand it to the caller. Answer with None when all is well, or with the
    error that broke it while nothing had been shown yet, and which may therefore be retried."""


Effect = Hold | Sleep | Send | Deliver
Attempts = Generator[Effect, Exception | None, None]


@dataclass(slots=True)
class Plan:
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
    """Attempts repeated after passing failures."""


def attempts(plan: Plan, readiness: Readiness, ticket: Ticket, clock: Callable[[], float]) -> Attempts:
    """Carry one call through. Raises the last error, `ColdStartTimeout` or `DeadlineExceeded`."""
    budget = TransientBudget(plan.policy, plan.started)
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
                    yield Hold(hold, None)  # only until the first call of all is answered
                    continue
                if cold_since is None:
                    cold_since, waited_before = now, plan.waited
                plan.waited = waited_before + now - cold_since
                left = _time_left(plan, readiness.state, now - cold_since, now, last)
                notice = None
                if now - noticed >= min(WAIT_NOTICE, hold):
                    noticed = now
                    notice = Waiting(
                        elapsed=now - cold_since,
                        deadline=plan.cold_start_timeout,
                        attempt=plan.sent,
                        next_in=min(hold, left),
                        cause=_cause(last),
                    )
                yield Hold(min(hold, left, WAIT_NOTICE), notice)
            now = clock()
            if cold_since is not None:
                plan.waited = waited_before + now - cold_since
            if plan.ends_at is not None and now >= plan.ends_at:
                raise out_of_time(plan.total) from last
            plan.sent += 1
            with_key = refused < SATURATED_AFTER
            error = yield Send(plan.sent, with_key)
            if error is None:
                readiness.answered(ticket, clock())
                cold_since = None
                error = yield Deliver()
                if error is None:
                    return
            last = error
            now = clock()
            state = readiness.state
            kind = classify(error, state)
            if saturated(error) and state == "ready":
                refused = refused + 1 if with_key else 0
            wish = wished_wait(error) or 0.0
            lapsed = lapses >= LAPSES or wish > plan.policy.retry_after_cap
            if kind is Kind.NOT_READY and (state != "ready" or lapsed):
                readiness.not_ready(ticket, now, retry_after=wish)
                continue
            if isinstance(error, APIStatusError) and kind is not Kind.NOT_READY:
                readiness.answered(ticket, now)
            else:
                readiness.leave(ticket)  # another waiter may lead while this call pauses
            if kind is Kind.FINAL:
                raise error
            if kind is Kind.NOT_READY:
                lapses += 1
                pause: float | None = max(wish, random.uniform(0, LAPSE_PAUSE))  # jitter, not a secret
            else:
                pause = budget.next_wait(error, now)
            if pause is None:
                raise error
            if plan.ends_at is not None and now + pause >= plan.ends_at:
                raise out_of_time(plan.total) from error
            plan.retries += 1
            yield Sleep(pause, Retrying(error, plan.sent, pause))
    finally:
        readiness.leave(ticket)


def _time_left(plan: Plan, state: State, waited: float, now: float, last: Exception | None) -> float:
    # Once a replica is up a released call is about to be served: the cold start's budget has done its work.
    left = plan.cold_start_timeout - waited if state == "waiting" else math.inf
    if left <= 0:
        raise ColdStartTimeout(
            f"no replica became ready within {plan.cold_start_timeout:g} s ({plan.sent} attempts by this call, "
            f"last: {_cause(last)}): look at the server's logs, or raise cold_start_timeout",
            waited=waited,
            attempts=plan.sent,
            last=last,
        ) from last
    if plan.ends_at is not None:
        if now >= plan.ends_at:
            raise out_of_time(plan.total) from last
        left = min(left, plan.ends_at - now)
    return left


def _cause(error: Exception | None) -> str:
    """Say in a few words why we wait."""
    if error is None:
        return "another call found no replica ready"
    if isinstance(error, APIStatusError):
        return f"HTTP {error.status_code}"
    if isinstance(error, APIConnectionError):
        return str(error)
    return type(error).__name__
