"""What SQLite does beyond the common promises: files, threads, failures, old files."""

from __future__ import annotations

import contextlib
import gc
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from homing.errors import ConfigurationError, StoreError, VersionConflict
from homing.stores import SQLiteStore, SQLStore
from homing.stores.writer import MAX_BATCH


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "chats.db"


@pytest.fixture
def store(path: Path) -> Iterator[SQLiteStore]:
    with SQLiteStore(path) as opened:
        yield opened


def sql(path: Path, *statements: str) -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return [row for statement in statements for row in connection.execute(statement)]


@pytest.mark.parametrize("path", ["", ":memory:", "file:chats.db?mode=ro", "no/such/directory/chats.db", b"chats.db"])
def test_a_path_that_cannot_be_a_file_is_refused(path: str) -> None:
    with pytest.raises(ConfigurationError, match="path="):
        SQLiteStore(path)


def test_bad_settings_are_refused(path: Path) -> None:
    with pytest.raises(ConfigurationError, match="synchronous"):
        SQLiteStore(path, synchronous="off")  # type: ignore[arg-type]  # the refusal is the test
    with pytest.raises(ConfigurationError, match="busy_timeout"):
        SQLiteStore(path, busy_timeout=-1)
    assert not path.exists()


def test_a_directory_is_no_database(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        SQLiteStore(tmp_path)


def test_another_kind_of_file_is_refused_and_left_alone(path: Path) -> None:
    path.write_bytes(b"not a database, " * 100)
    with pytest.raises(StoreError, match="is it a SQLite file"):
        SQLiteStore(path)
    assert path.read_bytes() == b"not a database, " * 100


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_a_new_file_is_private(path: Path, store: SQLiteStore) -> None:
    store.commit("c", expected_version=0)
    assert {file.name: file.stat().st_mode & 0o077 for file in path.parent.iterdir()} == {
        "chats.db": 0,
        "chats.db-shm": 0,
        "chats.db-wal": 0,
    }


@pytest.mark.parametrize(("synchronous", "level"), [("full", 2), ("normal", 1)])
def test_flushing_is_as_asked(path: Path, synchronous: str, level: int) -> None:
    with SQLiteStore(path, synchronous=synchronous) as store:  # type: ignore[arg-type]
        found = store._writer.run(lambda connection: connection.execute("PRAGMA synchronous").fetchall())
        assert found == [(level,)]
        assert sql(path, "PRAGMA journal_mode") == [("wal",)]


def test_a_closed_store_says_so(store: SQLiteStore) -> None:
    store.close()
    store.close()
    assert repr(store).endswith("closed>")
    for call in (
        lambda: store.commit("c", expected_version=0),
        lambda: store.load("c"),
        lambda: store.list(),
        lambda: store.delete("c"),
        lambda: store.prune(before=0),
    ):
        with pytest.raises(StoreError, match="closed"):
            call()


def test_a_forgotten_store_lets_go_of_its_thread_and_files(path: Path) -> None:
    store = SQLiteStore(path)
    store.commit("c", expected_version=0)
    store.load("c")
    ends = [gone for workers in (store._writer, store._readers) for gone in workers._threads.values()]
    assert len(ends) == 2
    del store
    gc.collect()
    assert all(gone.wait(30) for gone in ends)
    assert [file.name for file in path.parent.iterdir()] == ["chats.db"]  # the last one out tidies up


def test_closing_finishes_what_is_queued(path: Path) -> None:
    store = SQLiteStore(path)
    entered, go_on = threading.Event(), threading.Event()

    def hold(connection: sqlite3.Connection) -> None:
        entered.set()
        go_on.wait(30)

    with ThreadPoolExecutor(10) as pool:
        pool.submit(store._writer.run, hold)
        entered.wait(30)
        commits = [pool.submit(store.commit, f"c{n}", expected_version=0) for n in range(5)]
        while store._writer._jobs.qsize() < 5:
            pass
        closing = pool.submit(store.close)
        go_on.set()
        closing.result(30)
        assert all(commit.result(30) for commit in commits)
    with SQLiteStore(path) as again:
        assert len(again.list().items) == 5


def test_commits_that_wait_share_one_transaction(store: SQLiteStore) -> None:
    statements: list[str] = []
    entered, go_on = threading.Event(), threading.Event()

    def hold(connection: sqlite3.Connection) -> None:
        entered.set()
        go_on.wait(30)
        connection.set_trace_callback(statements.append)

    count = MAX_BATCH + 6
    with ThreadPoolExecutor(count + 1) as pool:
        holding = pool.submit(store._writer.run, hold)
        entered.wait(30)
        commits = [pool.submit(store.commit, f"c{n % (count - 1)}", expected_version=0) for n in range(count)]
        while store._writer._jobs.qsize() < count:
            pass
        go_on.set()
        holding.result(30)
        refused = [commit.exception(30) for commit in commits]
    # Two of them begin the same conversation; the others do not suffer for it.
    assert [type(error) for error in refused if error] == [VersionConflict]
    assert len(store.list(limit=1000).items) == count - 1
    assert statements.count("COMMIT") == 3  # the one that held, a full batch, the rest


def test_a_full_disk_takes_nothing_back(path: Path, store: SQLiteStore) -> None:
    version = store.commit("c", expected_version=0, turns=[{"n": 0}])

    def fill(connection: sqlite3.Connection) -> None:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages + 2}")

    store._writer.run(fill)
    with pytest.raises(StoreError, match="full.*room"):
        store.commit("c", expected_version=version, turns=[{"text": "x" * 100_000}])
    found = store.load("c")
    assert found is not None
    assert (found.version, found.turns) == (version, [{"n": 0}])
    store.commit("c", expected_version=version, turns=[{"n": 1}])  # and it goes on


def test_a_change_that_fails_half_way_leaves_no_trace(store: SQLiteStore) -> None:
    store.commit("c", expected_version=0, turns=[{"n": 0}])

    def fail(connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM homing_turns")
        raise KeyError("half way")

    with pytest.raises(KeyError):
        store._writer.run(fail)
    found = store.load("c")
    assert found is not None
    assert found.turns == [{"n": 0}]


def test_a_writer_elsewhere_that_does_not_end_is_named(path: Path) -> None:  # openai-agents#2843
    with SQLiteStore(path, busy_timeout=0) as store:
        version = store.commit("c", expected_version=0)
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreError, match="another process has held it"):
                store.commit("c", expected_version=version)
            assert store.load("c") is not None  # readers do not wait for it
            other.execute("ROLLBACK")
        store.commit("c", expected_version=version)


def test_a_file_locked_while_opening_is_named(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreError, match="another process has held it"):
            SQLiteStore(path, busy_timeout=0)


def test_a_commit_writes_the_new_turn_only(store: SQLiteStore) -> None:
    def rows_written() -> int:
        changes: int = store._writer.run(lambda connection: connection.total_changes)
        return changes

    version = store.commit("c", expected_version=0, turns=[{"n": 0}] * 500)
    before = rows_written()
    version = store.commit("c", expected_version=version, turns=[{"n": 1}])
    assert rows_written() - before == 2  # the conversation's row, the turn's row
    store.commit("c", expected_version=version, header={"title": "x"})
    assert rows_written() - before == 3


def test_many_readers_open_few_files(store: SQLiteStore, path: Path) -> None:
    # bench/soak.py: SQLite keeps the file of a closed connection open as long as there are others
    from homing.stores.sqlite import MAX_READERS

    store.commit("c", expected_version=0)
    count = MAX_READERS + 4
    full, inside = threading.Event(), []

    def read(connection: sqlite3.Connection) -> None:
        inside.append(1)
        if len(inside) == MAX_READERS:
            full.set()
        assert full.wait(30)

    with ThreadPoolExecutor(count) as pool:
        for reading in [pool.submit(store._readers.run, read) for _ in range(count)]:
            reading.result(30)
    assert len(inside) == count
    assert len(store._readers._threads) == MAX_READERS
    if os.path.isdir("/proc/self/fd"):
        handles = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
        files = [os.readlink(handle) for handle in handles if os.path.lexists(handle)]
        assert files.count(str(path)) == 1 + MAX_READERS  # the writer's, and these


@pytest.mark.skipif(os.name == "nt", reason="fork is POSIX")
def test_a_store_from_before_a_fork_is_refused(path: Path) -> None:
    script = f"""
import os, warnings
warnings.simplefilter("ignore")  # that forking with threads is a risk is what this is about
from homing.errors import StoreError
from homing.stores import SQLiteStore
store = SQLiteStore({str(path)!r})
version = store.commit("c", expected_version=0)
child = os.fork()
if child == 0:
    try:
        store.load("c")
    except StoreError as error:
        print(error, flush=True)
    raise SystemExit  # with the exit handlers
assert os.waitpid(child, 0)[1] == 0
store.commit("c", expected_version=version)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert "open it in the forked process" in done.stdout


# Schema 1, as its code wrote it.
VERSION_1 = """
CREATE TABLE homing_schema (version INTEGER NOT NULL);
INSERT INTO homing_schema VALUES (1);
CREATE TABLE homing_conversations (
    id TEXT NOT NULL PRIMARY KEY,
    version BIGINT NOT NULL,
    header TEXT NOT NULL,
    turns TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
INSERT INTO homing_conversations VALUES
    ('old', 2, '{"system":"x"}', '[{"z":1,"a":"ä"},{"n":2}]', 1700000000000000, 1700000001000000),
    ('empty', 1, '{}', '[]', 1700000002000000, 1700000002000000);
"""


@pytest.fixture
def version_1(path: Path) -> Path:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(VERSION_1)
    return path


@pytest.mark.parametrize("through", ["SQLiteStore", "SQLStore"])
def test_a_file_of_schema_1_is_brought_up_to_date(version_1: Path, through: str) -> None:
    def opened() -> SQLiteStore | SQLStore:
        return SQLiteStore(version_1) if through == "SQLiteStore" else SQLStore(f"sqlite:///{version_1}")

    for _ in range(2):  # the second opening finds nothing left to do
        with opened() as store:
            found = store.load("old")
            assert found is not None
            assert (found.version, found.header) == (2, {"system": "x"})
            assert (found.created_at, found.updated_at) == (1700000000.0, 1700000001.0)
            assert [list(turn.items()) for turn in found.turns] == [[("z", 1), ("a", "ä")], [("n", 2)]]
            assert [(item.id, item.turn_count) for item in store.list().items] == [("empty", 0), ("old", 2)]
    with opened() as store:
        assert store.commit("old", expected_version=2, turns=[{"n": 3}]) == 3
        store.commit("empty", expected_version=1, turns=[{"n": 1}])
        found = store.load("old")
        assert found is not None
        assert len(found.turns) == 3
    assert sql(version_1, "SELECT version FROM homing_schema") == [(2,)]
    assert sql(version_1, "SELECT name FROM sqlite_master WHERE name = 'homing_conversations_1'") == []


def test_a_migration_that_fails_leaves_the_old_file(version_1: Path) -> None:
    sql(version_1, "UPDATE homing_conversations SET turns = 'broken' WHERE id = 'empty'")
    before = sql(version_1, "SELECT * FROM homing_conversations")
    with pytest.raises(StoreError, match="'empty'"):
        SQLiteStore(version_1)
    assert sql(version_1, "SELECT * FROM homing_conversations") == before
    assert sql(version_1, "SELECT version FROM homing_schema") == [(1,)]


@pytest.mark.parametrize("through", ["SQLiteStore", "SQLStore"])
def test_a_newer_schema_is_refused(path: Path, through: str) -> None:
    SQLiteStore(path).close()
    sql(path, "UPDATE homing_schema SET version = 3")
    with pytest.raises(StoreError, match=r"schema version 3.*knows up to 2.*upgrade homing"):
        SQLiteStore(path) if through == "SQLiteStore" else SQLStore(f"sqlite:///{path}")
