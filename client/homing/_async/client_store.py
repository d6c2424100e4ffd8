"""What a client takes as a store. The twin for threads is written by hand too."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..stores.base import AsyncStore, Store

    AnyStore = Store | AsyncStore
    """What a client takes as a ``store``."""


def store_for_client(store: AnyStore) -> AsyncStore:
    """Return the face of ``store`` that this client speaks to. Raises `ConfigurationError` for what is no store."""
    from ..stores.threaded import as_async

    return as_async(store)
