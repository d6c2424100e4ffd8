# Generated from client/homing/_async/turn_lock.py by scripts/unasync.py: edit that file, not this one.
"""One turn at a time: who may speak in a conversation."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakValueDictionary, ref

from .._concurrency.threads import WakeEvent, current_runner
from .._http.request_control import Aborted
from ..core.process.fork import renew_after_fork
from ..core.process.mutex import Claim, Mutex
from ..core.retry.policy import wait_exceeded
from ..errors import ConversationBusy

if TYPE_CHECKING:
    from .reply_stream import ReplyStream

INSIDE: ContextVar[tuple[TurnLock, ...]] = ContextVar("homing.inside", default=())
"""The locks of the runs whose tools this code is part of: waiting for one of them would be a deadlock."""

OnBusy = Literal["wait", "raise", "cancel"]


class TurnClaim(Claim):
    """One turn's claim to a conversation."""

    __slots__ = ("stream", "wake_event")

    def __init__(self, stream: ReplyStream[Any] | None = None) -> None:
        self.wake_event = WakeEvent()
        super().__init__(self.wake_event.set, owner=current_runner())
        # Weakly: a stream that its reader drops must be collected, for that is what ends its turn.
        self.stream = None if stream is None else ref(stream)

    def is_lost(self) -> bool:
        """Whether it was a stream's, which has been collected."""
        return self.stream is not None and self.stream() is None


class TurnLock:
    """Held by the turn that runs. All objects of one client that stand for the same stored conversation share it."""

    def __init__(self, clock: Callable[[], float], store: object = None) -> None:
        """``clock`` is the client's, in seconds."""
        self.version = 0
        """The version of the stored conversation that was written or read last; 0 before."""
        self.dropped: deque[ReplyStream[Any]] = deque()
        """Streams that were collected in the middle of their turn. Whoever holds the lock records what had come."""
        self._store = store  # kept alive: `TurnLocks` knows locks by its identity
        self._clock = clock
        self._mutex = Mutex()
        renew_after_fork(self)

    def _after_fork(self) -> None:
        self.dropped.clear()  # the parent records them

    def acquire(
        self,
        claim: TurnClaim,
        name: str,
        on_busy: OnBusy,
        *,
        until: float | None,
        total: float | None,
        stopped: Callable[[], bool] = bool,
    ) -> None:
        """Wait for, refuse or cancel the turn that runs, as ``on_busy`` says; then hold the lock.

        The caller releases ``claim`` in whatever way this ends. Raises `ConversationBusy`, `DeadlineExceeded`
        at ``until``, in the clock's time: the end of the call's ``total`` seconds, and `Aborted` when the claim
        was woken and the turn is ``stopped``.
        """
        if self._mutex.try_take(claim, self._clock()):
            return
        if on_busy == "raise":
            raise ConversationBusy(f"a turn of conversation {name} is still running: wait for it, or cancel it")
        if self in INSIDE.get():
            raise ConversationBusy(
                f"a tool cannot begin a turn of the conversation that called it, {name}: let it use a fork()"
            )
        limits = until, total, f"for the turn of conversation {name} that is running"
        self._look_at_holder(claim, name, on_busy, limits)
        while (wait := self._mutex.ask(claim, self._clock())) is not None:
            if stopped():
                raise Aborted
            claim.wake_event.wait(self.patience(wait, *limits))

    def try_acquire(self, claim: TurnClaim) -> bool:
        """Hold the lock if no turn runs or waits for it, and return whether that is so."""
        return self._mutex.try_take(claim, self._clock())

    def release(self, claim: TurnClaim) -> None:
        """Let the next turn begin. Again does nothing."""
        claim.released = True  # here as well: an interrupt may keep the call below from beginning
        self._mutex.release(claim, self._clock())

    def patience(self, wait: float, until: float | None, total: float | None, what: str) -> float:
        """Return ``wait``, or the seconds until ``until`` if less. Raises `DeadlineExceeded` when none are left."""
        if until is None:
            return wait
        left = until - self._clock()
        if left <= 0:
            raise wait_exceeded(total, what)
        return min(wait, left)

    def _look_at_holder(
        self, claim: TurnClaim, name: str, on_busy: OnBusy, limits: tuple[float | None, float | None, str]
    ) -> None:
        """Cancel the turn that runs if ``on_busy`` says so; refuse to wait for one that only this caller can end.

        A function of its own, so that nothing refers to that turn's stream while this one waits: it could
        not be collected.
        """
        holder = self._mutex.holder
        own = self._mutex.is_claimed_by(claim.owner)
        running = holder.stream() if isinstance(holder, TurnClaim) and holder.stream is not None else None
        if on_busy == "cancel" and running is not None and not (own and running.being_read):
            running.interrupt(lambda wait: self.patience(wait, *limits))
        elif own:
            raise ConversationBusy(
                f"a stream of conversation {name}, opened right here, has not been read to its end: "
                "finish it, or close it (use `with`), before the next turn"
            )


class TurnLocks:
    """One lock for each stored conversation, as long as anybody refers to it.

    Web programs make a conversation object for each request: two of them in one process are to
    wait for each other, as two calls on one object do (notebooklm-py#616).
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._locks: WeakValueDictionary[tuple[int, str], TurnLock] = WeakValueDictionary()
        self._guard = threading.RLock()  # a signal handler may begin a turn in the middle of `of`
        renew_after_fork(self)

    def _after_fork(self) -> None:
        self._guard = threading.RLock()

    def of(self, store: object, name: str) -> TurnLock:
        """Return the lock of the conversation ``name`` in ``store``; without a store, one of its own."""
        if store is None:
            return TurnLock(self._clock)
        with self._guard:
            lock = self._locks.get((id(store), name))
            if lock is None:
                lock = self._locks[id(store), name] = TurnLock(self._clock, store)
            return lock
