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
    "test_conversation.py",
    "test_dropped.py",
    "test_stored.py",
    "test_tools.py",
}


# Of the other tests over sockets, `make test` runs those on asyncio, httpx and our own transport; `make test-slow`
# those on trio and httpx2. Here both matter to what is tested:
EVERYWHERE = {"test_cancel.py", "test_dropped.py", "test_http_client.py", "test_http_library.py"}
TWICE = {"trio", "httpx2"}


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark what `make test` leaves to CI."""
    folder, file = item.path.parent.name, item.path.name
    if folder == "_sync" and file not in THREADS:
        item.add_marker(pytest.mark.slow)
    callspec = getattr(item, "callspec", None)
    if callspec is not None and folder != "core" and file not in EVERYWHERE and TWICE & {*callspec.id.split("-")}:
        item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True, scope="module")
def frozen() -> Iterator[None]:
    """Exempt what is older than the module from collection, so that collecting after each test is cheap."""
    gc.collect()
    gc.freeze()
    yield
    gc.collect()


@pytest.fixture(autouse=True)
def collected(request: pytest.FixtureRequest) -> Iterator[None]:
    """Collect what a test leaves, so that no later test is blamed for it. Those of the core open nothing."""
    yield
    if request.path.parent.name != "core":
        gc.collect()
