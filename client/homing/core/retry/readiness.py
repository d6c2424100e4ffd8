"""Waits out a cold start for all calls together.

One `Readiness` stands for one server. While no replica is up, one call leads: it repeats
its own real request, which counts as demand for the autoscaler and returns a useful response.
All others hold. When the leader gets its response, they are released, slightly apart.

This is bookkeeping only. A caller asks before each send, reports after it, and does the
waiting itself; `now` is always passed in. The lock makes each step atomic for threads; no
step blocks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ..process.fork import renew_after_fork

State = Literal["unknown", "waiting", "ready"]

MIN_GAP = 0.25
"""Initial seconds between the leader's attempts. A router returns 503 in a millisecond, so four
attempts a second cost nothing, and no call waits longer than this after the server is up."""

GAP_SHARE = 0.015
"""The gap grows to this share of the time already waited. With the release below, the time lost
after readiness stays under 2 % of the wait + 0.3 s. (A one-second poll by every waiter sends
twenty times as many requests for a worse result.)"""

MAX_GAP = 2.0
"""Maximum gap in seconds: even a user who has waited minutes notices more than this."""

RELEASE_GAP = 0.001
"""Seconds between two released waiters, so that they don't all reach the new replica at once."""

RELEASE_WINDOW = 0.05
RELEASE_SHARE = 0.005
"""All waiters are released within `RELEASE_WINDOW` seconds plus this share of the time waited."""

SCOUT_HOLD = 0.1
"""Seconds that other calls hold while the very first request to a server is pending. A cold router
refuses it in a few milliseconds, which saves hundreds of others from being refused one by one."""

ACCEPTED_AFTER = 1.0
"""Seconds after which a leader's pending request counts as accepted. A router without a ready replica
returns 503 at once, so a longer request is already generating: don't wait for its end."""


@dataclass(frozen=True, slots=True)
class Ready:
    """The result of a wait for a replica."""

    waited: float
    """Seconds spent waiting."""
    attempts: int


class Waiter:
    """One call's place in the queue. ``wake`` is called, from any thread, when it should ask again."""

    __slots__ = ("gone", "release_at", "sent_at", "wake")

    def __init__(self, wake: Callable[[], None]) -> None:
        self.wake = wake
        self.gone = False
        """Whether its call has ended. Setting it is a single store, which no signal can interrupt."""
        self.release_at: float | None = None
        self.sent_at: float | None = None


class Readiness:
    """What this client knows about whether a server is up, and which calls wait for it."""

    def __init__(self) -> None:
        self._begin()
        renew_after_fork(self)

    def _begin(self) -> None:
        # Reentered only by `leave`, when the garbage collector closes a call in the middle of a step.
        self._lock = threading.RLock()
        self._stepping = False
        self._state: State = "unknown"
        self._since = 0.0
        self._leader: Waiter | None = None
        self._next_try = 0.0
        self._queue: dict[Waiter, None] = {}

    _after_fork = _begin  # the leader and the waiters are threads of the parent

    @property
    def state(self) -> State:
        """``unknown`` until the first response, ``waiting`` while no replica is up, otherwise ``ready``."""
        return self._state

    @property
    def waiting(self) -> int:
        """How many calls wait, including the leader."""
        return len(self._queue) + (self._leader is not None)

    def ask(self, ticket: Waiter, now: float) -> float | None:
        """Return None if ``ticket`` may send now, else how many seconds to hold before asking again.

        A holder must also ask again when its ``wake`` is called.
        """
        with self._lock:
            try:
                self._stepping = True
                ticket.gone = False  # back, after a pause
                self._forget_gone()
                hold = self._ask(ticket, now)
                ticket.sent_at = now if hold is None else None
                return hold
            finally:
                self._stepping = False

    def _ask(self, ticket: Waiter, now: float) -> float | None:
        if self._state == "ready":
            if ticket.release_at is not None and ticket.release_at > now:
                return ticket.release_at - now
            ticket.release_at = None
            return None
        if self._state == "unknown":
            return self._scout(ticket, now)
        if self._leader is None:
            self._queue.pop(ticket, None)
            self._leader = ticket
            self._wake_deputy()
        if ticket is self._leader:
            return self._next_try - now if self._next_try > now else None
        self._queue[ticket] = None
        if ticket is not next(iter(self._queue)):
            return MAX_GAP + ACCEPTED_AFTER  # normally woken earlier; this bounds the harm of a lost wake-up
        out_since = self._leader.sent_at if self._leader.sent_at is not None else max(self._next_try, now)
        if now - out_since < ACCEPTED_AFTER:
            return out_since + ACCEPTED_AFTER - now
        self._become_ready(now)
        ticket.release_at = None
        return None

    def _scout(self, ticket: Waiter, now: float) -> float | None:
        """Let the very first call go ahead; the others follow when it gets a response, or soon anyway."""
        if self._leader is None:
            self._leader = ticket
        out_since = self._leader.sent_at
        if ticket is self._leader or out_since is None or now - out_since >= SCOUT_HOLD:
            self._queue.pop(ticket, None)
            return None
        self._queue[ticket] = None
        return out_since + SCOUT_HOLD - now

    def not_ready(self, ticket: Waiter, now: float, *, retry_after: float = 0.0) -> None:
        """Report that ``ticket``'s request found no ready replica."""
        with self._lock:
            try:
                self._stepping = True
                ticket.sent_at = None
                if self._state != "waiting":
                    self._state, self._since, self._leader = "waiting", now, ticket
                if ticket is not self._leader:
                    return
                gap = min(MAX_GAP, max(MIN_GAP, GAP_SHARE * (now - self._since)))
                self._next_try = now + max(gap, retry_after)
                self._wake_deputy()
            finally:
                self._stepping = False

    def answered(self, ticket: Waiter, now: float) -> None:
        """Report that a replica responded to ``ticket``, in whatever way, so it is up."""
        with self._lock:
            try:
                self._stepping = True
                ticket.sent_at = None
                self._become_ready(now)
            finally:
                self._stepping = False

    def leave(self, ticket: Waiter) -> None:
        """Forget ``ticket``, whose call has ended. A leader that leaves hands over to the first waiter."""
        ticket.gone = True
        with self._lock:
            if self._stepping:  # the garbage collector closes a call in the middle of a step: the next `ask` sees it
                return
            try:
                self._stepping = True
                self._leave(ticket)
            finally:
                self._stepping = False

    def _leave(self, ticket: Waiter) -> None:
        deputy = next(iter(self._queue), None)
        self._queue.pop(ticket, None)
        if ticket is self._leader:
            self._leader = None
            self._next_try = 0.0
            if self._queue:
                self._wake_deputy()
            else:
                self._state = "unknown"  # nobody checks any longer, so the state may be out of date
        elif ticket is deputy:
            self._wake_deputy()

    def _forget_gone(self) -> None:
        """Remove tickets that couldn't leave because of an interrupt or the garbage collector."""
        while self._leader is not None and self._leader.gone:
            self._leave(self._leader)
        while self._queue and (deputy := next(iter(self._queue))).gone:
            self._leave(deputy)

    def _become_ready(self, now: float) -> None:
        cold = self._state == "waiting"
        window = RELEASE_WINDOW + RELEASE_SHARE * (now - self._since)
        apart = min(RELEASE_GAP, window / max(1, len(self._queue))) if cold else 0.0
        self._state, self._leader = "ready", None
        waiters, self._queue = list(self._queue), {}
        for place, waiter in enumerate(waiters):
            waiter.release_at = now + place * apart
            waiter.wake()

    def _wake_deputy(self) -> None:
        """Wake the first waiter, which watches the leader: the leader's times have changed."""
        for deputy in self._queue:
            deputy.wake()
            break
