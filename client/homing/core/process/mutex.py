"""A mutex that survives holders that are interrupted, garbage-collected or forked.

A signal handler may raise between almost any two steps of the main thread, a stream may be collected instead of
closed, and a fork copies the state of threads that the child doesn't have. A `threading.Lock` held by such a caller
stays locked forever. Here, a `Claim` records who holds the mutex, and releasing it is one attribute store, which no
signal can interrupt. Waiters check again now and then, so a lost wake-up costs a moment, not the conversation.

This is bookkeeping only, like `Readiness`: callers ask, do the waiting themselves, and ask again.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from .fork import renew_after_fork

LOOK_AGAIN = 0.05
"""Seconds after which the first in the queue asks again: collected streams and interrupted threads wake nobody.
This is short compared with a turn, and asking 20 times a second costs nothing."""

LOOK_AGAIN_BEHIND = 1.0
"""Seconds for the others in the queue, which are woken when it is their turn."""

GONE_AFTER = 30.0
"""Seconds without asking after which a waiter counts as gone. This is thirty times the longest pause of a waiter,
because on a busy machine a waiter may be late, and would lose its place."""

LOST_AFTER = 5.0
"""Seconds to wait for the finalizer of a collected stream, which normally runs at once."""


class Claim:
    """One caller's place in the queue, and then its hold, until `released`. It can't be reused.

    ``wake`` is called, from any thread, when the owner should ask again.
    """

    __slots__ = ("asked", "holds", "lost_at", "owner", "queued", "released", "wake")

    def __init__(self, wake: Callable[[], None], owner: object = None) -> None:
        self.wake = wake
        self.owner = owner
        """Lets a waiter check whether it is the holder itself."""
        self.released = False
        self.holds = False
        self.queued = False
        self.asked = 0.0
        self.lost_at: float | None = None

    def is_lost(self) -> bool:
        """Return whether the claim's maker no longer exists, so it can't release anything."""
        return False


class Mutex:
    """First come, first served, one at a time. Callers always pass in `now`, in seconds."""

    def __init__(self) -> None:
        self._queue: deque[Claim] = deque()
        # Held for a few steps, by `with` on a C lock, which is safe from signals. It is reentrant for a signal handler
        # that begins a turn of its own in the middle of a step. Finalizers never take it.
        self._guard = threading.RLock()
        renew_after_fork(self)

    def _after_fork(self) -> None:
        self._guard = threading.RLock()
        self._queue.clear()  # all holders and waiters belong to the parent

    @property
    def holder(self) -> Claim | None:
        """The claim that holds the mutex. None if it is free, or about to be taken by the first in the queue."""
        first = next(iter(tuple(self._queue)), None)
        return first if first is not None and first.holds and not first.released else None

    def is_claimed_by(self, owner: object) -> bool:
        """Return whether ``owner`` holds the mutex or already waits for it."""
        return any(claim.owner == owner and not claim.released for claim in tuple(self._queue))

    def ask(self, claim: Claim, now: float) -> float | None:
        """Return None if ``claim`` holds the mutex, else the seconds to wait before asking again.

        The owner must also ask again when its ``wake`` is called.
        """
        with self._guard:
            self._enqueue(claim, now)
            if self._first(now) is claim:
                claim.holds = True
                return None
            return LOOK_AGAIN if self._queue[1] is claim else LOOK_AGAIN_BEHIND

    def try_take(self, claim: Claim, now: float) -> bool:
        """Take the mutex if it is free and nobody waits. Return whether ``claim`` holds it; if not, it isn't queued."""
        with self._guard:
            if self._first(now) is None:
                self._enqueue(claim, now)
                claim.holds = self._first(now) is claim
                if not claim.holds:  # a signal handler got in between
                    self._forget(claim)
            return claim.holds

    def release(self, claim: Claim, now: float) -> None:
        """Release ``claim``, whether it holds or waits, and wake the next in the queue. Repeating it is harmless."""
        claim.released = True
        with self._guard:
            first = self._first(now)
        if first is not None and not first.holds:
            first.wake()

    def _first(self, now: float) -> Claim | None:
        """Return the first claim that is still valid, and drop those before it."""
        queue = self._queue
        while queue:
            first = queue[0]
            if not first.released and not self._is_gone(first, now):
                return first
            self._forget(first)  # a waiter that was only slow queues up again
        return None

    def _enqueue(self, claim: Claim, now: float) -> None:
        claim.asked = now
        if not claim.queued:
            claim.queued = True
            self._queue.append(claim)

    def _forget(self, claim: Claim) -> None:
        claim.queued = False
        if claim in self._queue:  # a signal handler may have got in between
            self._queue.remove(claim)

    def _is_gone(self, first: Claim, now: float) -> bool:
        if not first.holds:
            return now - first.asked > GONE_AFTER
        if not first.is_lost():
            return False
        # Its finalizer will release it, unless an interrupt hits it at its very beginning. Give it some time.
        first.lost_at = now if first.lost_at is None else first.lost_at
        return now - first.lost_at > LOST_AFTER
