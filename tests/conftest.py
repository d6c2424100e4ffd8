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


def pytest_collection_finish() -> None:
    """Have the collector pass over modules and tests from now on: what it looks at after each test is then little."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Collect what a test leaves, so that no later test is blamed for it."""
    yield
    gc.collect()
