"""A signal handler raises at any point of a store's call: afterwards the store works, for every thread."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import pytest

from homing.errors import StoreError
from homing.stores import MemoryStore, SQLiteStore, SQLStore, Store, StoredConversation
from homing.stores.workers import Workers

from ..striking import Alarm, Strike, strikes

T = TypeVar("T")

GUARD = 30.0
"""Seconds after which a call hangs: thousands of times what it takes."""

NAMES = ["memory", "sqlite", "sql"]


def opened(name: str, directory: Path) -> Store:
    if name == "memory":
        return MemoryStore()
    path = directory / f"{name}.db"
    return SQLiteStore(path, synchronous="normal") if name == "sqlite" else SQLStore(f"sqlite:///{path}")


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


@pytest.fixture
def store(name: str, tmp_path: Path) -> Iterator[Store]:
    with opened(name, tmp_path) as made:
        yield made


@pytest.fixture
def elsewhere() -> Iterator[Callable[[Callable[[], T]], T]]:
    """Call something from another thread, within the guard's time."""
    with ThreadPoolExecutor(1) as pool:
        yield lambda call: pool.submit(call).result(GUARD)


def loaded(store: Store, conversation_id: str) -> StoredConversation:
    found = store.load(conversation_id)
    assert found is not None
    return found


OPERATIONS: dict[str, Callable[[Store, int], object]] = {
    "load": lambda store, version: store.load("c"),
    "list": lambda store, version: store.list(limit=2),
    "commit": lambda store, version: store.commit("c", expected_version=version, header={"n": 1}, turns=[{"n": 1}]),
    "create": lambda store, version: store.commit("new", expected_version=0, turns=[{"n": 1}] * 3),
    "delete": lambda store, version: store.delete("c"),
    "prune": lambda store, version: store.prune(before=4e9),
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_exception_at_any_point_of_a_call(
    store: Store, operation: str, elsewhere: Callable[[Callable[[], object]], object]
) -> None:
    outcomes = set()
    for strike in strikes():
        store.delete("new")
        store.delete("c")
        version = store.commit("c", expected_version=0, header={"n": 0}, turns=[{"n": 0}])

        def call(version: int = version) -> None:
            OPERATIONS[operation](store, version)

        if strike_lands(strike, call):
            found = elsewhere(lambda: store.load("c"))
            created = elsewhere(lambda: store.load("new"))
            # As a whole or not at all; and what has not happened by now does not happen later.
            assert found is None or whole(found, version, operation), strike.struck
            assert created is None or (isinstance(created, StoredConversation) and len(created.turns) == 3)
            outcomes.add((found is None, found and getattr(found, "version", 0) == version, created is None))
            elsewhere(lambda: store.commit("later", expected_version=0))
            assert elsewhere(lambda: store.delete("later")), strike.struck
            assert elsewhere(lambda: store.load("c")) == found, strike.struck
    assert len(outcomes) == (1 if operation in ("load", "list") else 2)  # some came too early, some too late


def strike_lands(strike: Strike, call: Callable[[], object]) -> bool:
    """Return whether it did, and then the exception came out as it was raised, and not as an error of the store."""
    try:
        strike.run(call)
    except Alarm:
        return True
    assert not strike.struck, f"swallowed: {strike.struck}"
    return False


def whole(found: object, version: int, operation: str) -> bool:
    assert isinstance(found, StoredConversation)
    state = found.version - version, found.header["n"], len(found.turns)
    return state == (0, 0, 1) or (operation == "commit" and state == (1, 1, 2))


def test_an_exception_at_any_point_of_opening(
    name: str, tmp_path: Path, elsewhere: Callable[[Callable[[], object]], object]
) -> None:
    for strike in strikes():
        strike_lands(strike, lambda: opened(name, tmp_path).close())

        def use() -> None:
            with opened(name, tmp_path) as store:
                store.commit("c", expected_version=0)
                store.delete("c")

        elsewhere(use)
    no_threads_are_left()


def test_an_exception_at_any_point_of_closing(
    name: str, tmp_path: Path, elsewhere: Callable[[Callable[[], object]], object]
) -> None:
    for strike in strikes():
        store = opened(name, tmp_path)
        store.commit("c", expected_version=0)
        store.load("c")
        strike_lands(strike, store.close)

        def use(store: Store = store) -> None:
            store.close()
            with pytest.raises(StoreError, match="closed"):
                store.load("c")

        elsewhere(use)
        with opened(name, tmp_path) as again:
            again.delete("c")
    no_threads_are_left()


def no_threads_are_left() -> None:
    for thread in threading.enumerate():
        if thread.name.startswith("homing-"):
            thread.join(GUARD)
            assert not thread.is_alive()


# --- Real signals, which come while the caller waits ---


class Held:
    """The writer of a store, busy until it is let go."""

    def __init__(self, workers: Workers[Any]) -> None:
        self.entered, self.go_on = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=workers.run, args=(self._hold,))
        self._thread.start()
        assert self.entered.wait(GUARD)

    def _hold(self, _resource: object) -> None:
        self.entered.set()
        assert self.go_on.wait(GUARD)

    def let_go(self) -> None:
        self.go_on.set()
        self._thread.join(GUARD)


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[SQLiteStore]:
    with SQLiteStore(tmp_path / "chats.db") as opened:
        yield opened


@pytest.fixture
def alarmed() -> Iterator[None]:
    def handle(number: int, frame: FrameType | None) -> None:
        raise Alarm

    before = signal.signal(signal.SIGUSR1, handle)
    yield
    signal.signal(signal.SIGUSR1, before)


def alarm_when(ready: Callable[[], bool]) -> threading.Thread:
    """Send the main thread a signal as soon as it is so."""

    def send() -> None:
        while not ready():
            pass
        os.kill(os.getpid(), signal.SIGUSR1)

    thread = threading.Thread(target=send)
    thread.start()
    return thread


@pytest.mark.usefixtures("alarmed")
def test_a_change_that_has_not_begun_is_withdrawn(writer: SQLiteStore) -> None:
    held = Held(writer._writer)
    sender = alarm_when(lambda: writer._writer._jobs.qsize() == 1)
    with pytest.raises(Alarm):
        writer.commit("c", expected_version=0)
    sender.join()
    held.let_go()
    writer.commit("d", expected_version=0)  # behind it
    assert writer.load("c") is None


@pytest.mark.usefixtures("alarmed")
def test_a_change_that_has_begun_is_waited_for(writer: SQLiteStore) -> None:
    inside = threading.Event()

    def slow() -> float:
        inside.set()
        sender.join(GUARD)  # the signal is on its way
        return 1.0

    writer._clock = slow
    sender = alarm_when(inside.is_set)
    with pytest.raises(Alarm):
        writer.commit("c", expected_version=0)
    assert loaded(writer, "c").created_at == 1.0  # the next look shows it


def test_waiting_has_a_limit(writer: SQLiteStore) -> None:
    held = Held(writer._writer)
    with pytest.raises(StoreError, match="chats.db.*not begun within 0.01 s.*nothing was changed"):
        writer._writer.run(lambda connection: connection.execute("DELETE FROM homing_turns"), limit=0.01)
    held.let_go()
    entered, go_on = threading.Event(), threading.Event()

    def hold(_: object) -> None:
        entered.set()
        assert go_on.wait(GUARD)

    writer.load("c")  # the thread and its connection are there
    with pytest.raises(StoreError, match="chats.db.*not ended within 2 s.*loading says"):
        writer._readers.run(hold, limit=2)  # seconds in which it begins, beside any load
    assert entered.wait(GUARD)
    with pytest.raises(StoreError, match="chats.db.*not ended within 0.01 s"):
        writer._readers.stop(wait=0.01)
    go_on.set()


def test_a_handler_may_use_the_store(store: Store) -> None:
    """Saving on the way out, in the handler of SIGTERM, while the same thread is saving."""
    version = store.commit("c", expected_version=0)

    def handle(number: int, frame: FrameType | None) -> None:
        store.commit(f"by the handler {number}".replace(" ", "-"), expected_version=0)

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        threading.Timer(0, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        while len(store.list().items) < 2:
            version = store.commit("c", expected_version=version, turns=[{"n": 1}])
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork is POSIX")
def test_a_child_forked_in_the_middle_of_everything_does_not_hang(store: Store, name: str) -> None:
    """The threads and whoever holds a lock stay behind; a child is refused, or works."""
    stop = threading.Event()

    def keep_busy() -> None:
        while not stop.is_set():
            store.list(limit=1)
            version = store.commit("busy", expected_version=0)
            store.commit("busy", expected_version=version, turns=[{"n": 1}])
            store.delete("busy")

    busy = threading.Thread(target=keep_busy)
    busy.start()
    try:
        for number in range(20):
            child = os.fork()
            if child == 0:
                signal.alarm(int(GUARD))  # whose default ends the process
                code = 1
                try:
                    store.commit(f"child-{number}", expected_version=0)
                    code = 0
                except StoreError as error:
                    code = 0 if name != "memory" and "fork" in str(error) else 2
                finally:
                    os._exit(code)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        stop.set()
        busy.join(GUARD)
    assert store.load("busy") is None
