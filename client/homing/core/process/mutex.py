"""A queue for one thing that survives interrupted, dropped and forked holders.

A signal handler may raise between almost any two steps of the main thread, a stream may be collected
instead of closed, and a fork copies what belongs to threads that the child does not have. A
`threading.Lock` that such a caller holds stays locked for ever. Here, holding is a note in a `Claim`,
and giving it up is one attribute store, which no signal can get in the way of. Whoever waits looks
again now and then, so that a wake-up that got lost costs a moment and not the conversation.

This is bookkeeping only, like `Readiness`: a caller asks, does the waiting itself, and asks again.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from .fork import renew_after_fork

LOOK_AGAIN = 0.05
"""Seconds after which the first in the queue asks again: collected streams and interrupted threads wake nobody.
Short beside a turn, and 20 questions a second cost nothing."""

LOOK_AGAIN_BEHIND = 1.0
"""Seconds for everybody behind the first, who are woken when it is their turn."""

GONE_AFTER = 30.0
"""Seconds without a question after which a waiter is taken to be gone: thirty times as long as any waiter pauses, for
on a busy machine one may be late, and would lose its place."""

LOST_AFTER = 5.0
"""Seconds for the finalizer of a stream that was collected, which follows at once."""


class Claim:
    """One caller's place: in the queue, then holding, until `released`. It is used once.

    ``wake`` is called, from any thread, when its owner should ask again.
    """

    __slots__ = ("asked", "holds", "lost_at", "owner", "queued", "released", "wake")

    def __init__(self, wake: Callable[[], None], owner: object = None) -> None:
        self.wake = wake
        self.owner = owner
        """Whoever waits can look at it, to tell itself from the holder."""
        self.released = False
        self.holds = False
        self.queued = False
        self.asked = 0.0
        self.lost_at: float | None = None

    def is_lost(self) -> bool:
        """Whether whoever made it is no more, and can give up nothing."""
        return False


class Mutex:
    """First come, first served; one at a time. `now` is always passed in, in seconds."""

    def __init__(self) -> None:
        self._queue: deque[Claim] = deque()
        # Held for a few steps, within `with` on a C lock, which is safe from signals. Taken again by its holder only
        # where a signal handler begins a turn of its own in the middle of a step. Finalizers never take it.
        self._guard = threading.RLock()
        renew_after_fork(self)

    def _after_fork(self) -> None:
        self._guard = threading.RLock()
        self._queue.clear()  # whoever holds or waits is the parent's

    @property
    def holder(self) -> Claim | None:
        """The claim that holds it. None when it is free, or about to be taken by the first in the queue."""
        first = next(iter(tuple(self._queue)), None)
        return first if first is not None and first.holds and not first.released else None

    def is_claimed_by(self, owner: object) -> bool:
        """Whether ``owner`` holds it, or waits for it already."""
        return any(claim.owner == owner and not claim.released for claim in tuple(self._queue))

    def ask(self, claim: Claim, now: float) -> float | None:
        """Return None when ``claim`` holds it, else how many seconds to wait before asking again.

        Its owner must also ask again when its ``wake`` was called.
        """
        with self._guard:
            self._enqueue(claim, now)
            if self._first(now) is claim:
                claim.holds = True
                return None
            return LOOK_AGAIN if self._queue[1] is claim else LOOK_AGAIN_BEHIND

    def try_take(self, claim: Claim, now: float) -> bool:
        """Take it if it is free and nobody waits; return whether ``claim`` holds it. Else it is not queued."""
        with self._guard:
            if self._first(now) is None:
                self._enqueue(claim, now)
                claim.holds = self._first(now) is claim
                if not claim.holds:  # a signal handler has come in between
                    self._forget(claim)
            return claim.holds

    def release(self, claim: Claim, now: float) -> None:
        """Give up ``claim``, whether it holds or waits, and wake the next in the queue. Again does nothing."""
        claim.released = True
        with self._guard:
            first = self._first(now)
        if first is not None and not first.holds:
            first.wake()

    def _first(self, now: float) -> Claim | None:
        """Return the first claim that still counts, and forget those before it."""
        queue = self._queue
        while queue:
            first = queue[0]
            if not first.released and not self._is_gone(first, now):
                return first
            self._forget(first)  # one that was only slow queues up again
        return None

    def _enqueue(self, claim: Claim, now: float) -> None:
        claim.asked = now
        if not claim.queued:
            claim.queued = True
            self._queue.append(claim)

    def _forget(self, claim: Claim) -> None:
        claim.queued = False
        if claim in self._queue:  # a signal handler may have come in between
            self._queue.remove(claim)

    def _is_gone(self, first: Claim, now: float) -> bool:
        if not first.holds:
            return now - first.asked > GONE_AFTER
        if not first.is_lost():
            return False
        # Its finalizer will release it, unless an interrupt comes at its very beginning: that is given some time.
        first.lost_at = now if first.lost_at is None else first.lost_at
        return now - first.lost_at > LOST_AFTER
