"""The stores that a client accepts. The twin for tasks is also written by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import ConfigurationError

if TYPE_CHECKING:
    from ..stores.base import Store

    AnyStore = Store
    """The type of a client's ``store`` argument."""


def store_for_client(store: AnyStore) -> Store:
    """Return ``store``. Raises `ConfigurationError` if it is not a store."""
    from ..stores.base import Store

    if not isinstance(store, Store):
        raise ConfigurationError(
            f"store={store!r} is no store: give a Store of homing.stores (an AsyncStore goes with AsyncClient)"
        )
    return store

