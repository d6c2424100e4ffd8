"""Damage and full, locked or missing files: a typed error that names the conversation, and no lost acknowledgement."""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from homing.errors import ConfigurationError, StoreError
from homing.stores import MemoryStore, SQLiteStore, SQLStore, Store
from homing.stores.base import MAX_PAGE

from ..striking import Alarm


def sql(path: Path, statement: str, *values: object) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute(statement, values)


def listed(store: Store, *, limit: int) -> list[str]:
    page = store.list(limit=limit)
    names = [item.id for item in page.items]
    while page.next_cursor is not None:
        page = store.list(limit=limit, cursor=page.next_cursor)
        names += [item.id for item in page.items]
    return names


def opened(kind: str, path: Path, **settings: Any) -> Store:
    return SQLiteStore(path, **settings) if kind == "SQLiteStore" else SQLStore(f"sqlite:///{path}", **settings)


KINDS = ["SQLiteStore", "SQLStore"]

DEEP = "[" * 100_000
HEADERS: list[object] = ["{", "", "null", "[]", '{"a":1}x', f'{{"a":{DEEP}', b'{"a":"\xff\xfe"}', b"\x00\x01", 5]
ROWS = [
    *(("homing_conversations", "header", value, True) for value in HEADERS),
    ("homing_conversations", "version", "many", True),
    ("homing_conversations", "version", 1.5, True),
    ("homing_conversations", "turn_count", b"", True),
    ("homing_conversations", "turn_count", 3, False),
    ("homing_conversations", "updated_at", "yesterday", True),
    ("homing_conversations", "created_at", 1.5e15 + 0.5, True),
    *(("homing_turns", "body", value, False) for value in ("{", "[]", b"\xff", "", 7)),
    ("homing_turns", "position", 4, False),
    ("homing_turns", "position", "first", False),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("table", "column", "value", "shows"), ROWS)
def test_a_damaged_row_is_named_and_costs_only_itself(
    tmp_path: Path, kind: str, table: str, column: str, value: object, shows: bool, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "chats.db"
    times = iter(range(1_500_000_000, 1_600_000_000))
    with opened(kind, path, clock=lambda: float(next(times))) as store:
        for name in ("before", "hurt", "behind"):
            store.commit(name, expected_version=0, header={"secret": "s3cr3t"}, turns=[{"n": 1}, {"n": 2}])
        key = "id" if table == "homing_conversations" else "position = 0 AND conversation_id"
        sql(path, f"UPDATE {table} SET {column} = ? WHERE {key} = 'hurt'", value)
        with pytest.raises(StoreError, match="'hurt' is damaged") as caught:
            store.load("hurt")
        assert caught.value.conversation_id == "hurt"
        assert pickle.loads(pickle.dumps(caught.value)).conversation_id == "hurt"
        assert "s3cr3t" not in str(caught.value)
        for limit in (1, 2, 3, 10):
            caplog.clear()
            with caplog.at_level(logging.WARNING, "homing.stores"):
                names = listed(store, limit=limit)
            expected = ["behind", "before"] if shows else ["behind", "hurt", "before"]
            assert names == expected
            assert ("'hurt' is damaged" in caplog.text) is shows
        for name in ("before", "behind"):
            found = store.load(name)
            assert found is not None
            store.commit(name, expected_version=found.version, turns=[{"n": 3}])
        assert store.delete("hurt")
        assert store.load("hurt") is None
        store.commit("hurt", expected_version=0, turns=[{"n": 1}])  # nothing of the old one is left
        again = store.load("hurt")
        assert again is not None
        assert again.turns == [{"n": 1}]


@pytest.mark.parametrize(("value", "text"), [(b"\xff\xfe", False), (b"hurt", False), (b"q\x80z\xff", True)])
def test_a_damaged_id_costs_only_itself(tmp_path: Path, value: bytes, text: bool) -> None:
    path = tmp_path / "chats.db"
    with SQLiteStore(path, clock=lambda: 1.0) as store:  # of the same moment: the id decides the order
        for name in ("a", "hurt", "z"):
            store.commit(name, expected_version=0)
        as_text = "CAST(? AS TEXT)" if text else "?"
        sql(path, f"UPDATE homing_conversations SET id = {as_text} WHERE id = 'hurt'", value)
        for limit in (1, 2, 3):
            assert listed(store, limit=limit) == ["z", "a"]


def test_a_turn_that_is_gone_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "chats.db"
    with SQLiteStore(path) as store:
        for name in ("first", "last", "row"):
            store.commit(name, expected_version=0, turns=[{"n": n} for n in range(3)])
        sql(path, "DELETE FROM homing_turns WHERE conversation_id = 'first' AND position = 0")
        sql(path, "DELETE FROM homing_turns WHERE conversation_id = 'last' AND position = 2")
        sql(path, "DELETE FROM homing_conversations WHERE id = 'row'")
        for name in ("first", "last", "row"):
            with pytest.raises(StoreError, match=f"'{name}' is damaged"):
                store.load(name)
        store.delete("row")
        assert store.load("row") is None


# --- Paths ---


@pytest.mark.parametrize("name", ["a\0b.db", "\ud800.db", "x" * 5000, "file/below"])
def test_a_path_that_no_file_can_have(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="path="):
        SQLiteStore(f"{tmp_path}/{name}")


def test_an_impossible_path_in_a_url(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="engine"):
        SQLStore(f"sqlite:///{tmp_path}/a\0b.db")


# --- Files that are taken away ---


def removed(path: Path) -> None:
    path.unlink()


def replaced(path: Path) -> None:
    shutil.copy(path, path.with_name("copy"))
    os.replace(path.with_name("copy"), path)


@pytest.mark.skipif(os.name == "nt", reason="Windows does not delete open files")
@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
@pytest.mark.parametrize("take_away", [removed, replaced])
def test_a_file_that_was_taken_away_is_noticed(tmp_path: Path, suffix: str, take_away: Callable[[Path], None]) -> None:
    path = tmp_path / "chats.db"
    with SQLiteStore(path) as store:
        version = store.commit("c", expected_version=0, turns=[{"n": 1}])
        store.load("c")
        take_away(Path(f"{path}{suffix}"))
        for call in (lambda: store.commit("c", expected_version=version), lambda: store.load("c"), store.list):
            with pytest.raises(StoreError, match="deleted, moved or replaced"):
                call()
    with SQLiteStore(path) as store:  # and a new one works
        store.commit("d", expected_version=0)


@pytest.mark.skipif(os.name == "nt", reason="Windows does not delete open files")
def test_a_file_taken_away_in_the_middle_of_a_commit_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "chats.db"
    taken: list[str] = []

    def clock() -> float:  # asked while the transaction is open
        if taken:
            os.unlink(taken.pop())
        return 1.0

    with SQLiteStore(path, clock=clock) as store:
        store.commit("c", expected_version=0)
        taken.append(str(path))
        with pytest.raises(StoreError, match="deleted, moved or replaced"):
            store.commit("d", expected_version=0)


# --- A disk that is full, a file that may not be written, a clock that goes back ---

FULL = """
import os, resource, signal, sys
from homing.errors import StoreError
from homing.stores import SQLiteStore
path = sys.argv[1]
store = SQLiteStore(path)
version = store.commit("c", expected_version=0, turns=[{"n": 0}])
if sys.argv[2] == "limit":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
count = 1
try:
    while count < 1000:
        version = store.commit("c", expected_version=version, turns=[{"n": count, "text": "x" * 20_000}])
        count += 1
except StoreError as error:
    print(error)
assert count < 1000
assert len(store.load("c").turns) == count
if sys.argv[2] == "limit":
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
else:
    os.unlink(os.path.dirname(path) + "/ballast")
store.commit("c", expected_version=version, turns=[{"n": count}])
store.close()
with SQLiteStore(path) as again:
    assert [turn["n"] for turn in again.load("c").turns] == list(range(count + 1))
"""


@pytest.fixture(params=["limit", "tmpfs"])
def small(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A place where little can be written: by a limit for the process, or a small disk where we may make one."""
    if request.param == "limit":
        yield "limit", tmp_path
        return
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("making a small disk needs root and mount")
    try:
        (disk / "ballast").write_bytes(b"x" * 400_000)
        yield "tmpfs", disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits")
def test_a_full_disk_loses_nothing_and_is_named(small: tuple[str, Path]) -> None:
    how, place = small
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(place / "chats.db"), how], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "chats.db" in done.stdout
    assert "room" in done.stdout


READ_ONLY = """
import os, sys
from homing.errors import StoreError
from homing.stores import SQLiteStore
if os.geteuid() == 0:
    os.setuid(65534)
for path in sys.argv[1:]:
    try:
        SQLiteStore(path)
    except Exception as error:
        print(type(error).__name__, error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_what_may_not_be_written_is_named(tmp_path: Path) -> None:
    file, directory = tmp_path / "chats.db", tmp_path / "directory"
    SQLiteStore(file).close()
    directory.mkdir()
    file.chmod(0o444)
    directory.chmod(0o555)
    for parent in tmp_path.parents:
        if parent.stat().st_uid == os.geteuid() and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o111)
    tmp_path.chmod(0o755)
    paths = [str(file), str(directory / "new.db")]
    done = subprocess.run([sys.executable, "-c", READ_ONLY, *paths], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.startswith("StoreError")
    assert str(file) in first
    assert second.startswith("ConfigurationError")
    assert "new.db" in second


@pytest.mark.parametrize("kind", ["MemoryStore", *KINDS])
def test_a_clock_that_goes_back(tmp_path: Path, kind: str) -> None:
    """The listing keeps its order, and what was written last is not pruned for the clock's sake."""
    now = 1_000_000.0

    def clock() -> float:
        return now

    path = tmp_path / "chats.db"
    with MemoryStore(clock=clock) if kind == "MemoryStore" else opened(kind, path, clock=clock) as store:
        versions = {}
        for name in ("a", "b", "c"):
            versions[name] = store.commit(name, expected_version=0)
            now += 1
        now = 10.0  # as after a start without a clock
        store.commit("b", expected_version=versions["b"], turns=[{"n": 1}])
        store.commit("d", expected_version=0)
        assert listed(store, limit=1) == ["c", "b", "a", "d"]
        found = store.load("b")
        assert found is not None
        assert found.updated_at == 1_000_001.0
        assert store.prune(before=1_000_001.0) == 2
        assert listed(store, limit=1) == ["c", "b"]


def test_a_long_listing_has_each_conversation_once(tmp_path: Path) -> None:
    path = tmp_path / "chats.db"
    count = 20_000
    with SQLiteStore(path) as store:
        with contextlib.closing(sqlite3.connect(path)) as connection, connection:
            connection.executemany(
                "INSERT INTO homing_conversations VALUES (?, 1, '{}', 0, ?, 0)",
                [(f"c{n}", n // 7) for n in range(count)],
            )
        names = listed(store, limit=MAX_PAGE)
        assert len(names) == len(set(names)) == count


# --- Errors that are not the store's ---


@pytest.mark.parametrize("kind", ["MemoryStore", *KINDS])
def test_an_error_of_the_callers_own_clock_stays_what_it_is(tmp_path: Path, kind: str) -> None:
    def clock() -> float:
        raise Alarm

    path = tmp_path / "chats.db"
    with MemoryStore(clock=clock) if kind == "MemoryStore" else opened(kind, path, clock=clock) as store:
        with pytest.raises(Alarm):
            store.commit("c", expected_version=0)
        assert store.load("c") is None
