"""The asynchronous counterpart of a store: the same store, on worker threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import anyio
import anyio.lowlevel
import anyio.to_thread

from .._concurrency.tasks import run_to_completion
from ..errors import ConfigurationError
from .base import DEFAULT_PAGE, AsyncStore, Header, Page, Store, StoredConversation, Turn

T = TypeVar("T")

STORE_THREADS = 32
"""Threads for stores, per event loop. Separate from anyio's own 40: a program whose 40 threads
all wait for a turn to be saved would otherwise deadlock. About as many as can share one
flush of a SQLite file, or as a database allows connections per process."""

_limiter: anyio.lowlevel.RunVar[anyio.CapacityLimiter] = anyio.lowlevel.RunVar("homing_store_threads")


class ThreadedStore(AsyncStore):
    """Runs a blocking store without blocking the event loop, on asyncio and trio.

    One implementation of each store serves both clients, and a single store object may serve
    both at once. The switch to a thread costs tens of microseconds; a turn takes
    hundreds of milliseconds.

    Args:
        store: The blocking store.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    async def commit(
        self,
        conversation_id: str,
        *,
        expected_version: int,
        header: Header | None = None,
        keep: int | None = None,
        turns: Sequence[Turn] = (),
    ) -> int:
        """See `Store.commit`."""
        return await _in_thread(
            partial(
                self._store.commit,
                conversation_id,
                expected_version=expected_version,
                header=header,
                keep=keep,
                turns=turns,
            )
        )

    async def load(self, conversation_id: str) -> StoredConversation | None:
        """See `Store.load`."""
        return await _in_thread(partial(self._store.load, conversation_id))

    async def list(self, *, limit: int = DEFAULT_PAGE, cursor: str | None = None) -> Page:
        """See `Store.list`."""
        return await _in_thread(partial(self._store.list, limit=limit, cursor=cursor))

    async def delete(self, conversation_id: str) -> bool:
        """See `Store.delete`."""
        return await _in_thread(partial(self._store.delete, conversation_id))

    async def prune(self, *, before: float) -> int:
        """See `Store.prune`."""
        return await _in_thread(partial(self._store.prune, before=before))

    async def aclose(self) -> None:
        """See `Store.close`. Completes even in a cancelled scope."""
        with anyio.CancelScope(shield=True):
            await _in_thread(self._store.close)

    def __repr__(self) -> str:
        return f"<ThreadedStore {self._store!r}>"


def as_async(store: Store | AsyncStore) -> AsyncStore:
    """Return an `AsyncStore` that wraps ``store``, or ``store`` itself if it is asynchronous already.

    Raises:
        ConfigurationError: ``store`` is not a store.
    """
    if isinstance(store, AsyncStore):
        return store
    if isinstance(store, Store):
        return ThreadedStore(store)
    raise ConfigurationError(f"store={store!r} is no store: give a Store or an AsyncStore of homing.stores")


async def _in_thread(call: Callable[[], T]) -> T:
    # Not abandoned on cancellation: the store's own timeouts bound the wait, and a commit
    # must not continue after its caller was told that it was cancelled.
    return await run_to_completion(lambda: anyio.to_thread.run_sync(call, limiter=_store_threads()))


def _store_threads() -> anyio.CapacityLimiter:
    try:
        return _limiter.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(STORE_THREADS)
        _limiter.set(limiter)
        return limiter
