"""For all tests."""

import gc
import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

# A deadline for each example is a wall-clock assertion, and fails on a busy machine.
settings.register_profile("homing", deadline=None)
settings.load_profile("homing")

# A run begun in a shell's background ignores Ctrl-C, and so would the tests that press it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# The generated tests that `make test` runs: threads wait, are cancelled and share state differently from tasks.
# `make test-slow` runs the others.
THREADS = {
    "test_cancel.py",
    "test_cold_start.py",
    "test_conversation.py",
    "test_dropped.py",
    "test_stored.py",
    "test_tools.py",
}


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark the other generated tests as slow."""
    if item.path.parent.name == "_sync" and item.path.name not in THREADS:
        item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True, scope="module")
def frozen() -> Iterator[None]:
    """Exempt what is older than the module from collection, so that collecting after each test is cheap."""
    gc.collect()
    gc.freeze()
    yield
    gc.collect()


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Collect what a test leaves, so that no later test is blamed for it."""
    yield
    gc.collect()
