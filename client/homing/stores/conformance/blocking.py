"""Drives an asynchronous store from threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

from anyio.from_thread import BlockingPortal, start_blocking_portal

from ..base import DEFAULT_PAGE, AsyncStore, Header, Page, Store, StoredConversation, Turn
from .probe import OpenStore


@contextmanager
def blocking(
    open_store: Callable[[], AsyncStore], *, backend: Literal["asyncio", "trio"] = "asyncio"
) -> Iterator[OpenStore]:
    """Run an event loop in a thread and yield a function that opens asynchronous stores in it.

    The stores behave like a blocking `Store`. Calls from several threads run as concurrent tasks
    in the same loop.

    Args:
        open_store: Creates the asynchronous store. Called in the event loop.
        backend: The event loop to run.
    """
    with start_blocking_portal(backend) as portal:

        async def opened() -> AsyncStore:  # in the loop, where some drivers must be created
            return open_store()

        yield lambda: _Blocking(portal, portal.call(opened))


class _Blocking(Store):
    """A blocking wrapper around an asynchronous store."""

    def __init__(self, portal: BlockingPortal, store: AsyncStore) -> None:
        self._portal = portal
        self._store = store

    def commit(
        self,
        conversation_id: str,
        *,
        expected_version: int,
        header: Header | None = None,
        keep: int | None = None,
        turns: Sequence[Turn] = (),
    ) -> int:
        """See `Store.commit`."""
        arguments: dict[str, Any] = {"header": header, "keep": keep, "turns": turns}
        return self._portal.call(
            partial(self._store.commit, conversation_id, expected_version=expected_version, **arguments)
        )

    def load(self, conversation_id: str) -> StoredConversation | None:
        """See `Store.load`."""
        return self._portal.call(self._store.load, conversation_id)

    def list(self, *, limit: int = DEFAULT_PAGE, cursor: str | None = None) -> Page:
        """See `Store.list`."""
        return self._portal.call(partial(self._store.list, limit=limit, cursor=cursor))

    def delete(self, conversation_id: str) -> bool:
        """See `Store.delete`."""
        return self._portal.call(self._store.delete, conversation_id)

    def prune(self, *, before: float) -> int:
        """See `Store.prune`."""
        return self._portal.call(partial(self._store.prune, before=before))

    def close(self) -> None:
        """See `Store.close`."""
        self._portal.call(self._store.aclose)
