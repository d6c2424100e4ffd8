"""Tests that a store implements `homing.stores.Store` correctly. Run them on your own store.

::

    class TestMyStore(StoreConformance):
        @pytest.fixture
        def open_store(self, tmp_path):
            return lambda: MyStore(tmp_path / "data")

``open_store()`` opens a store whose data is empty when a test begins. When called again in
the same test, it must open the same data. Test an asynchronous store through `blocking`::

    @pytest.fixture(params=["asyncio", "trio"])
    def open_store(self, request, tmp_path):
        with blocking(lambda: MyAsyncStore(tmp_path / "data"), backend=request.param) as open_store:
            yield open_store

The methods need nothing from pytest except this fixture. You can also call them directly with such a function.
"""

from __future__ import annotations

from .blocking import blocking
from .listing import ListingPromises
from .probe import OpenStore
from .records import RecordPromises
from .versions import VersionPromises

__all__ = ["OpenStore", "StoreConformance", "blocking"]


class StoreConformance(RecordPromises, VersionPromises, ListingPromises):
    """One test method for each promise. Subclass it and provide the fixture ``open_store``."""

    durable = True
    """Whether committed data survives closing and reopening the store."""
