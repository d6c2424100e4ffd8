"""The asynchronous face, and what a store shows of itself."""

from __future__ import annotations

import inspect
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from homing.errors import ConfigurationError, StoreError
from homing.stores import AsyncStore, MemoryStore, SQLiteStore, SQLStore, Store, ThreadedStore, as_async
from homing.stores.threaded import STORE_THREADS


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    backend: str = request.param
    return backend


class HeldStore(MemoryStore):
    """A store whose commits wait until the test lets them go."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Semaphore(0)
        self.go_on = threading.Event()

    def commit(self, *arguments: Any, **named: Any) -> int:
        self.entered.release()
        assert self.go_on.wait(30)
        return super().commit(*arguments, **named)


def operations(face: type) -> dict[str, inspect.Signature]:
    return {
        name: inspect.signature(method)
        for name, method in inspect.getmembers(face, inspect.isfunction)
        if not name.startswith("_") and name not in ("close", "aclose")
    }


def test_both_faces_offer_the_same() -> None:
    assert operations(Store) == operations(AsyncStore) == operations(ThreadedStore)
    assert set(operations(Store)) == {"commit", "load", "list", "delete", "prune"}


def test_as_async_takes_either_face() -> None:
    store = MemoryStore()
    threaded = as_async(store)
    assert isinstance(threaded, ThreadedStore)
    assert as_async(threaded) is threaded
    with pytest.raises(ConfigurationError, match="store="):
        as_async({})  # type: ignore[arg-type]  # the refusal is the test


@pytest.mark.anyio
async def test_a_waiting_commit_does_not_block_the_loop() -> None:
    held = HeldStore()
    async with as_async(held) as store, anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: store.commit("c", expected_version=0))
        await anyio.to_thread.run_sync(held.entered.acquire)
        assert await store.load("c") is None
        held.go_on.set()


@pytest.mark.anyio
async def test_a_cancelled_commit_is_finished_before_its_caller_goes_on() -> None:
    held = HeldStore()
    store = as_async(held)
    outcome: list[str] = []

    async def commit() -> None:
        try:
            await store.commit("c", expected_version=0)
            await anyio.lowlevel.checkpoint()
        finally:
            outcome.append("stored" if held.load("c") else "nothing stored")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(commit)
        await anyio.to_thread.run_sync(held.entered.acquire)
        tasks.cancel_scope.cancel()
        held.go_on.set()
    assert outcome == ["stored"]


@pytest.mark.anyio
async def test_a_program_whose_threads_all_wait_for_the_store_goes_on() -> None:
    """anyio's 40 threads, each waiting for a commit, leave none of theirs to make it in."""
    limiter = anyio.to_thread.current_default_thread_limiter()
    store = as_async(MemoryStore())
    done: list[int] = []

    def endpoint(number: int) -> None:  # as a plain `def` endpoint of a web framework runs
        done.append(anyio.from_thread.run(lambda: store.commit(f"c{number}", expected_version=0)))

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            for number in range(int(limiter.total_tokens) + STORE_THREADS):
                tasks.start_soon(anyio.to_thread.run_sync, endpoint, number)
    assert len(done) == limiter.total_tokens + STORE_THREADS


def test_one_store_serves_several_loops_and_threads() -> None:
    store = MemoryStore()
    threaded = as_async(store)

    async def commit(name: str) -> int:
        return await threaded.commit(name, expected_version=0)

    for backend in ("asyncio", "trio", "asyncio"):
        anyio.run(commit, backend + str(len(store.list().items)), backend=backend)
    assert len(store.list().items) == 3


def test_nothing_shows_what_people_wrote(tmp_path: Path) -> None:
    with SQLiteStore(tmp_path / "chats.db") as store:
        store.commit("c", expected_version=0, header={"system": "SECRET"}, turns=[{"text": "SECRET"}])
        for shown in (store, store.load("c"), store.list(), as_async(store)):
            assert "SECRET" not in repr(shown)


def test_a_password_is_not_shown() -> None:
    pytest.importorskip("psycopg", reason="only where the services' drivers are")
    url = "postgresql+psycopg://user:SECRET@127.0.0.1:1/none"
    with pytest.raises(StoreError) as caught:
        SQLStore(url)
    assert "SECRET" not in str(caught.value)
    assert "127.0.0.1" in str(caught.value)


@pytest.mark.parametrize("url", ["SECRET", "nosuch://user:SECRET@host/db"])
def test_a_url_that_names_no_database_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="engine: not a database URL") as caught:
        SQLStore(url)
    assert "SECRET" not in str(caught.value)


def test_an_engine_of_an_unknown_kind_is_refused() -> None:
    import sqlalchemy

    class Unknown:
        class dialect:
            name = "oracle"

    engine: Any = Unknown()
    with pytest.raises(ConfigurationError, match="oracle is not one of"):
        SQLStore(engine)
    memory = sqlalchemy.create_engine("sqlite://")
    with pytest.raises(ConfigurationError, match="SQLiteStore"):
        SQLStore(memory)
    memory.dispose()


def test_a_redis_that_is_not_there_is_named() -> None:
    from homing.stores import RedisStore

    with pytest.raises(StoreError, match="is the server up"):
        RedisStore("redis://:SECRET@127.0.0.1:1")
    with pytest.raises(ConfigurationError, match="not a Redis URL") as caught:
        RedisStore("http://:SECRET@127.0.0.1:1")
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize("name", ["MemoryStore", "SQLStore"])
def test_other_stores_refuse_work_once_closed(name: str, tmp_path: Path) -> None:
    store: Store = MemoryStore() if name == "MemoryStore" else SQLStore(f"sqlite:///{tmp_path / 'chats.db'}")
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.load("c")


def python(script: str) -> str:
    command = [sys.executable, "-c", script]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.strip()


@pytest.mark.parametrize(
    ("module", "store", "extra"), [("redis", "RedisStore", "redis"), ("sqlalchemy", "SQLStore", "sql")]
)
def test_a_missing_extra_names_its_line(module: str, store: str, extra: str) -> None:
    script = f"""
import sys
sys.modules[{module!r}] = None
import homing.stores
try:
    homing.stores.{store}
except ImportError as error:
    print(error)
"""
    assert f"pip install 'homing[{extra}]'" in python(script)


def test_importing_the_stores_imports_no_driver() -> None:
    script = """
import sys
import homing.stores
homing.stores.SQLiteStore
print([name for name in ("redis", "sqlalchemy", "psycopg", "pymysql", "pytest") if name in sys.modules])
"""
    assert python(script) == "[]"


def test_an_unknown_name_is_no_store() -> None:
    import homing.stores

    assert "SQLiteStore" in dir(homing.stores)
    with pytest.raises(AttributeError, match="NoStore"):
        _ = homing.stores.NoStore


def test_each_client_says_which_stores_are_its_own() -> None:
    import homing

    blocking, waiting = MemoryStore(), as_async(MemoryStore())
    client, async_client = homing.Client("http://127.0.0.1:9"), homing.AsyncClient("http://127.0.0.1:9")
    client.conversation("c", store=blocking)
    async_client.conversation("c", store=blocking)
    async_client.conversation("c", store=waiting)
    with pytest.raises(ConfigurationError, match="goes with AsyncClient"):
        client.conversation("c", store=waiting)  # type: ignore[arg-type]
    client.close()
