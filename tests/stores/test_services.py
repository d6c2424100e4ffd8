"""The stores on real servers: ``make test-services`` starts them and runs this."""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial

import pytest

from homing.errors import StoreError
from homing.stores import SQLStore, ThreadedStore
from homing.stores.conformance import OpenStore, StoreConformance, blocking
from homing.testing import Edge, Fault

from ..chatting import Person, text_of
from ..serving import serving

pytestmark = pytest.mark.services

LONG = "One two three four five six seven eight nine ten. " * 8
SQL_SERVERS = ["POSTGRESQL", "MARIADB"]


def server_url(name: str) -> str:
    """Return where the server is. Without one the test fails: in this lane nothing is skipped."""
    variable = f"HOMING_TEST_{name}_URL"
    url = os.environ.get(variable)
    if not url:
        pytest.fail(f"{variable} is not set: run `make test-services`, which starts the server")
    return url


@pytest.fixture(params=SQL_SERVERS)
def database(request: pytest.FixtureRequest) -> Iterator[str]:
    """A new database on each kind of server."""
    import sqlalchemy

    url = sqlalchemy.make_url(server_url(request.param))
    name = f"homing_{uuid.uuid4().hex[:12]}"
    admin = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sqlalchemy.NullPool)
    with admin.connect() as connection:
        connection.execute(sqlalchemy.text(f"CREATE DATABASE {name}"))
    yield url.set(database=name).render_as_string(hide_password=False)
    with admin.connect() as connection:
        connection.execute(sqlalchemy.text(f"DROP DATABASE {name}"))


@pytest.fixture
def prefix() -> Iterator[str]:
    """A part of the Redis server that is empty, and is emptied afterwards."""
    import redis

    name = f"test:{uuid.uuid4().hex}:"
    yield name
    with redis.Redis.from_url(server_url("REDIS")) as client:
        keys = list(client.scan_iter(f"{name}*"))
        if keys:
            client.delete(*keys)


class TestSQLStore(StoreConformance):
    @pytest.fixture
    def open_store(self, database: str) -> OpenStore:
        return partial(SQLStore, database)


class TestThreadedSQLStore(StoreConformance):
    @pytest.fixture(params=["asyncio", "trio"])
    def open_store(self, database: str, request: pytest.FixtureRequest) -> Iterator[OpenStore]:
        with blocking(lambda: ThreadedStore(SQLStore(database)), backend=request.param) as opened:
            yield opened


class TestRedisStore(StoreConformance):
    @pytest.fixture
    def open_store(self, prefix: str) -> OpenStore:
        from homing.stores import RedisStore

        return partial(RedisStore, server_url("REDIS"), prefix=prefix)


class TestRedisStoreWithItsOwnClient(StoreConformance):
    """A client handed in, one that decodes answers by itself."""

    @pytest.fixture
    def open_store(self, prefix: str) -> Iterator[OpenStore]:
        import redis

        from homing.stores import RedisStore

        with redis.Redis.from_url(server_url("REDIS"), decode_responses=True) as client:
            yield partial(RedisStore, client, prefix=prefix)


class TestThreadedRedisStore(StoreConformance):
    @pytest.fixture(params=["asyncio", "trio"])
    def open_store(self, prefix: str, request: pytest.FixtureRequest) -> Iterator[OpenStore]:
        from homing.stores import RedisStore

        url = server_url("REDIS")
        with blocking(lambda: ThreadedStore(RedisStore(url, prefix=prefix)), backend=request.param) as opened:
            yield opened


def test_many_processes_may_open_a_new_database_at_once(database: str) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def use(number: int) -> int:
        with SQLStore(database) as store:
            return store.commit(f"c{number}", expected_version=0)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(use, range(8)))


def test_newer_tables_are_refused(database: str) -> None:
    import sqlalchemy

    SQLStore(database).close()
    engine = sqlalchemy.create_engine(database, poolclass=sqlalchemy.NullPool)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("UPDATE homing_schema SET version = 99"))
    with pytest.raises(StoreError, match=r"schema version 99.*upgrade homing"):
        SQLStore(database)


def test_newer_keys_are_refused(prefix: str) -> None:
    import redis

    from homing.stores import RedisStore

    with redis.Redis.from_url(server_url("REDIS")) as client:
        client.set(f"{prefix}schema", 99)
    with pytest.raises(StoreError, match=r"schema version 99.*upgrade homing"):
        RedisStore(server_url("REDIS"), prefix=prefix)


def test_a_redis_that_forgets_is_named(prefix: str, caplog: pytest.LogCaptureFixture) -> None:
    import redis

    from homing.stores import RedisStore

    with redis.Redis.from_url(server_url("REDIS")) as client, caplog.at_level(logging.WARNING, "homing.stores"):
        RedisStore(client, prefix=prefix)
        assert not caplog.records
        client.config_set("appendonly", "no")
        try:
            RedisStore(client, prefix=prefix)
        finally:
            client.config_set("appendonly", "yes")
    assert "appendfsync always" in caplog.text


def test_a_commit_whose_answer_was_lost_is_not_taken_for_anothers(prefix: str) -> None:
    """redis-py runs the transaction again when the connection breaks after EXEC: the
    version is then one too high, and by our own hand."""
    import redis
    from redis.client import Pipeline

    from homing.stores import RedisStore

    class Forgetful(redis.Redis):
        lose_next = False

        def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
            pipe = super().pipeline(transaction, shard_hint)
            execute = pipe.execute

            def execute_and_lose(raise_on_error: bool = True) -> list[object]:
                result: list[object] = execute(raise_on_error)
                if self.lose_next:
                    self.lose_next = False
                    raise redis.WatchError("A ConnectionError occurred while watching one or more keys")
                return result

            pipe.execute = execute_and_lose  # type: ignore[method-assign]
            return pipe

    client = Forgetful.from_url(server_url("REDIS"))
    assert isinstance(client, Forgetful)
    store = RedisStore(client, prefix=prefix)
    version = store.commit("c", expected_version=0, turns=[{"n": 1}])
    client.lose_next = True
    assert store.commit("c", expected_version=version, turns=[{"n": 2}]) == version + 1
    found = store.load("c")
    assert found is not None
    assert found.turns == [{"n": 1}, {"n": 2}]
    client.close()


@pytest.mark.parametrize("name", ["POSTGRESQL", "REDIS"])
def test_the_chatbot_s_workers_share_a_store(name: str, edge: Edge) -> None:
    from chatbot.app import make_app

    place = server_url(name)  # the conversation is deleted at the end; its owner's empty list may stay
    edge.answer_with(LONG)
    edge.inject(Fault.hang(after_chunks=4))
    with ExitStack() as stack:
        workers = [stack.enter_context(serving(make_app(place, edge.url))) for _ in range(2)]
        person = stack.enter_context(Person(workers))
        chat, reply = person.create()
        with person.events(chat, reply, worker=1) as events:
            seen = [next(events)]
            running = person.call("GET", f"/{chat}", worker=1)["latest"]
            assert (running["reply"], running["running"]) == (reply, True)
            person.call("POST", f"/{chat}/turns", {"content": "Me too"}, worker=1, status=409)
            person.call("POST", f"/{chat}/stop", worker=1, status=202)
            seen += events
        assert seen[-1].json()["finish_reason"] == "interrupted"
        assert text_of(person.follow(chat, reply)) == text_of(seen)
        edge.answer_with("Again.")
        person.follow(chat, person.say(chat, "Once more", worker=1))
        turns = person.call("GET", f"/{chat}")["turns"]
        assert [turn["text"] for turn in turns] == [text_of(seen), "Again."]
        assert [entry["id"] for entry in person.call("GET", "", worker=1)] == [chat]
        person.call("DELETE", f"/{chat}", status=204)
        person.call("GET", f"/{chat}", worker=1, status=404)
