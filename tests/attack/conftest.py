"""For tests that leave sockets to the collector on purpose."""

import gc
import warnings
from collections.abc import Iterator

import pytest

LEAVES = ("test_interrupts", "test_dropped_streams", "test_disconnects", "test_fork", "test_interrupted_stores")


@pytest.fixture(autouse=True)
def collected(request: pytest.FixtureRequest) -> Iterator[None]:
    """Collect now what a test has left, or some later test is blamed for it."""
    yield
    if request.module.__name__.rpartition(".")[2] in LEAVES:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()
