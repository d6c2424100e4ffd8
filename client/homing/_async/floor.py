"""Who is speaking in a conversation: one turn at a time."""

from __future__ import annotations

import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Literal
from weakref import ReferenceType, WeakValueDictionary, ref

from ..errors import ConversationBusy
from .concurrency import Mutex, current

if TYPE_CHECKING:
    from .reply_stream import AsyncReplyStream

INSIDE: ContextVar[tuple[AsyncFloor, ...]] = ContextVar("homing.inside", default=())
"""The floors of the runs whose tools this code is part of: waiting for one of them would be for ever."""

OnBusy = Literal["wait", "raise", "cancel"]


class AsyncFloor:
    """The right to speak, shared by all that stands for the same stored conversation in one client."""

    def __init__(self, store: object = None) -> None:
        self.version = 0
        """The version of the stored conversation that was written or read last; 0 before."""
        self._store = store  # kept alive: `AsyncFloors` knows floors by its identity
        self._mutex = Mutex()
        # Weakly: a stream that its reader drops must be collected, for that is what frees the floor.
        self._speaker: ReferenceType[AsyncReplyStream[Any]] | None = None
        self._holder: object = None

    async def take(self, name: str, on_busy: OnBusy, speaker: AsyncReplyStream[Any] | None = None) -> None:
        """Wait for, refuse or cancel whoever has the floor, as ``on_busy`` says; then take it."""
        if not self._mutex.acquire_nowait():
            if on_busy == "raise":
                raise ConversationBusy(
                    f"a turn of conversation {name} is still running: wait for it, or cancel it"
                )
            if self in INSIDE.get():
                raise ConversationBusy(
                    f"a tool cannot begin a turn of the conversation that called it, {name}: let it use a fork()"
                )
            running = None if self._speaker is None else self._speaker()
            own = self._holder == current()
            if on_busy == "cancel" and running is not None and not (own and running.being_read):
                await running.interrupt()
            elif own:
                raise ConversationBusy(
                    f"a stream of conversation {name}, opened right here, has not been read to its end: "
                    "finish it, or close it (use `with`), before the next turn"
                )
            await self._mutex.acquire()
        self._speaker = None if speaker is None else ref(speaker)
        self._holder = current()

    def leave(self) -> None:
        """Let the next one speak."""
        self._speaker = None
        self._holder = None
        self._mutex.release()


class AsyncFloors:
    """One floor for each stored conversation, as long as anybody stands on it.

    Web programs make a conversation object for each request: two of them in one process are to
    wait for each other, as two calls on one object do (notebooklm-py#616).
    """

    def __init__(self) -> None:
        self._floors: WeakValueDictionary[tuple[int, str], AsyncFloor] = WeakValueDictionary()
        self._lock = threading.Lock()

    def of(self, store: object, name: str) -> AsyncFloor:
        """Return the floor of the conversation ``name`` in ``store``."""
        with self._lock:
            floor = self._floors.get((id(store), name))
            if floor is None:
                floor = self._floors[id(store), name] = AsyncFloor(store)
            return floor
