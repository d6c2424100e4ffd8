"""The lock that lets a conversation run one turn at a time."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakValueDictionary, ref

from .._concurrency.tasks import WakeEvent, current_runner
from .._http.request_control import Aborted
from ..core.process.fork import renew_after_fork
from ..core.process.mutex import Claim, Mutex
from ..core.retry.policy import wait_exceeded
from ..errors import ConversationBusy

if TYPE_CHECKING:
    from .reply_stream import AsyncReplyStream

INSIDE: ContextVar[tuple[AsyncTurnLock, ...]] = ContextVar("homing.inside", default=())
"""The locks held by the runs whose tools are executing this code. Waiting for one of them would deadlock."""

OnBusy = Literal["wait", "raise", "cancel"]


class AsyncTurnClaim(Claim):
    """One turn's claim to the turn lock."""

    __slots__ = ("stream", "wake_event")

    def __init__(self, stream: AsyncReplyStream[Any] | None = None) -> None:
        self.wake_event = WakeEvent()
        super().__init__(self.wake_event.set, owner=current_runner())
        # A weak reference: a stream dropped by its reader must be collected, because that ends its turn.
        self.stream = None if stream is None else ref(stream)

    def is_lost(self) -> bool:
        """Return whether the claim's stream has been garbage-collected."""
        return self.stream is not None and self.stream() is None


class AsyncTurnLock:
    """Held by the running turn. Shared by all of a client's objects for the same stored conversation."""

    def __init__(self, clock: Callable[[], float], store: object = None) -> None:
        """Create a free lock. ``clock`` is the client's, in seconds."""
        self.version = 0
        """The version of the stored conversation that was last written or read; 0 before that."""
        self.dropped: deque[AsyncReplyStream[Any]] = deque()
        """Streams that were garbage-collected mid-turn. The lock's next holder records their partial replies."""
        self._store = store  # kept alive: `AsyncTurnLocks` looks up locks by its id
        self._clock = clock
        self._mutex = Mutex()
        renew_after_fork(self)

    def _after_fork(self) -> None:
        self.dropped.clear()  # the parent records them

    async def acquire(
        self,
        claim: AsyncTurnClaim,
        name: str,
        on_busy: OnBusy,
        *,
        until: float | None,
        total: float | None,
        stopped: Callable[[], bool] = bool,
    ) -> None:
        """Acquire the lock. If a turn is running, wait for it, cancel it or raise, depending on ``on_busy``.

        The caller must release ``claim``, even if this raises.

        Args:
            claim: The claim of the new turn.
            name: The conversation's id, for error messages.
            on_busy: What to do if a turn is running.
            until: The deadline, in the clock's time: the end of the call's ``total`` seconds.
            total: The length of that limit in seconds, for error messages.
            stopped: Returns whether the new turn has been stopped. Checked whenever the claim is woken.

        Raises:
            ConversationBusy: ``on_busy`` is ``"raise"``, or waiting would deadlock.
            DeadlineExceeded: The deadline has passed.
            Aborted: The new turn has been stopped.
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
        await self._look_at_holder(claim, name, on_busy, limits)
        while (wait := self._mutex.ask(claim, self._clock())) is not None:
            if stopped():
                raise Aborted
            await claim.wake_event.wait(self.patience(wait, *limits))

    def try_acquire(self, claim: AsyncTurnClaim) -> bool:
        """Acquire the lock if no turn holds it or waits for it; return whether it was acquired."""
        return self._mutex.try_take(claim, self._clock())

    def release(self, claim: AsyncTurnClaim) -> None:
        """Let the next turn begin. A second call does nothing."""
        claim.released = True  # here as well: an interrupt may prevent the call below
        self._mutex.release(claim, self._clock())

    def patience(self, wait: float, until: float | None, total: float | None, what: str) -> float:
        """Return ``wait``, or the seconds until ``until`` if less. Raises `DeadlineExceeded` if none are left."""
        if until is None:
            return wait
        left = until - self._clock()
        if left <= 0:
            raise wait_exceeded(total, what)
        return min(wait, left)

    async def _look_at_holder(
        self, claim: AsyncTurnClaim, name: str, on_busy: OnBusy, limits: tuple[float | None, float | None, str]
    ) -> None:
        """Cancel the running turn if ``on_busy`` says so; refuse to wait for one that only this caller can end.

        A separate function, so that no local variable refers to the running turn's stream while this turn waits.
        Otherwise the stream could not be collected.
        """
        holder = self._mutex.holder
        own = self._mutex.is_claimed_by(claim.owner)
        running = holder.stream() if isinstance(holder, AsyncTurnClaim) and holder.stream is not None else None
        if on_busy == "cancel" and running is not None and not (own and running.being_read):
            await running.interrupt(lambda wait: self.patience(wait, *limits))
        elif own:
            raise ConversationBusy(
                f"a stream of conversation {name}, opened right here, has not been read to its end: "
                "finish it, or close it (use `with`), before the next turn"
            )


class AsyncTurnLocks:
    """One lock for each stored conversation, as long as it is referenced.

    Web applications create a conversation object per request. Two of them in one process must
    wait for each other, just as two calls on one object do (notebooklm-py#616).
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._locks: WeakValueDictionary[tuple[int, str], AsyncTurnLock] = WeakValueDictionary()
        self._guard = threading.RLock()  # a signal handler may begin a turn in the middle of `of`
        renew_after_fork(self)

    def _after_fork(self) -> None:
        self._guard = threading.RLock()

    def of(self, store: object, name: str) -> AsyncTurnLock:
        """Return the lock of the conversation ``name`` in ``store``, or a new lock if there is no store."""
        if store is None:
            return AsyncTurnLock(self._clock)
        with self._guard:
            lock = self._locks.get((id(store), name))
            if lock is None:
                lock = self._locks[id(store), name] = AsyncTurnLock(self._clock, store)
            return lock
