"""The stores that a client accepts. The twin for threads is also written by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..stores.base import AsyncStore, Store

    AnyStore = Store | AsyncStore
    """The type of a client's ``store`` argument."""


def store_for_client(store: AnyStore) -> AsyncStore:
    """Return ``store`` as an `AsyncStore`. Raises `ConfigurationError` if it is not a store."""
    from ..stores.threaded import as_async

    return as_async(store)
