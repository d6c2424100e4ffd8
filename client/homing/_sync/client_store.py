"""What a client takes as a store. The twin for tasks is written by hand too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import ConfigurationError

if TYPE_CHECKING:
    from ..stores.base import Store

    AnyStore = Store
    """What a client takes as a ``store``."""


def store_for_client(store: AnyStore) -> Store:
    """Return ``store``. Raises `ConfigurationError` for what is no store."""
    from ..stores.base import Store

    if not isinstance(store, Store):
        raise ConfigurationError(
            f"store={store!r} is no store: give a Store of homing.stores (an AsyncStore goes with AsyncClient)"
        )
    return store

