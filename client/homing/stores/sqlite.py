"""Conversations in a SQLite file: the durable store that needs no server and no extra dependency."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import tenacity

from ..errors import ConfigurationError, StoreError
from . import relational
from .base import DEFAULT_PAGE, Header, Page, Store, StoredConversation, Turn
from .rules import Commit, checked_id, checked_limit, checked_moment, microseconds, page_of, position_of
from .workers import Workers, WorkItem, run_each
from .writer import MAX_BATCH, commit_together, roll_back

BUSY_TIMEOUT = 30.0
"""Seconds to wait for another process that is writing. A save takes milliseconds, but a
migration or a checkpoint on a slow disk may take seconds, and giving up loses a turn."""

OPEN_PAUSE = 0.05
"""Longest pause between attempts to open, in seconds: about one journal switch."""

STALL = 60.0
"""Seconds beyond ``busy_timeout`` that a call waits for a slow disk and for earlier calls. After that the disk
hangs, and a typed error is more useful than more waiting."""

OPEN_TIMEOUT = 600.0
"""The same for opening, which migrates older files and may have to move millions of turns."""

PRUNE_TIMEOUT = 3600.0
"""The same for `SQLiteStore.prune`, which may delete years of conversations."""

MAX_READERS = 8
"""Threads for reading, each with its own connection, started when needed and kept. Further readers wait for
a fraction of a millisecond. Each thread costs two file handles and a page cache. Closing one would not release
its handles while others are open (SQLite keeps them because of its POSIX locks)."""

CLOSED = "this SQLiteStore is closed: open a new one"

_OPENING = threading.Lock()
"""Serializes opening within a process: see `_create_private`. Only the stores' own threads take it."""


def _after_fork() -> None:
    """Replace the lock: a thread that held it during the fork doesn't exist here to release it."""
    global _OPENING
    _OPENING = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class SQLiteStore(Store):
    """A store in one file, safely shared by threads and processes on one machine.

    Once a commit has returned, it survives ``kill -9`` and, with ``synchronous="full"``, a
    power cut, provided the disk flushes honestly. Reads never wait for writes (WAL).
    Simultaneous commits share one flush.

    Not for network file systems: their locks are too weak for WAL. Open the store after
    forking, once per process.

    Reads and writes run on the store's own threads, so a signal handler that raises, such as Ctrl-C, leaves
    no inconsistent state behind. Each call has a time limit: ``busy_timeout`` plus one minute.

    Args:
        path: The database file. If missing, it is created readable only by its owner.
        synchronous: ``"full"`` (the default) flushes each commit to the disk, because a turn that
            a user has seen must not vanish. ``"normal"`` flushes at checkpoints: it is
            faster and safe against ``kill -9``, but a power cut may undo the latest commits.
        busy_timeout: Seconds to wait for another process that is writing. Defaults to 30.
        clock: Returns seconds since the epoch; for tests.

    Raises:
        ConfigurationError: The path cannot be a database file, or another argument is invalid.
        StoreError: The file is not a database, is locked for too long, or was written by a
            newer version of Homing.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        synchronous: Literal["full", "normal"] = "full",
        busy_timeout: float = BUSY_TIMEOUT,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if synchronous not in ("full", "normal"):
            raise ConfigurationError(f'synchronous={synchronous!r}: give "full" or "normal"')
        if not busy_timeout >= 0:
            raise ConfigurationError(f"busy_timeout={busy_timeout!r}: give seconds, 0 or more")
        self._path = _checked_path(path)
        self._clock = clock
        self._pid = os.getpid()
        self._closed = False
        # Nothing here refers to the store: a reference held by its threads would keep it alive.
        files = _Files(self._path)
        connect = partial(_connect, self._path, synchronous=synchronous, busy_timeout=busy_timeout)
        common: dict[str, Any] = {
            "waiting_for": f"SQLite file {str(self._path)!r}",
            "closed": CLOSED,
            "close": _disconnect,
            "translate": partial(_translated, self._path),
            "limit": busy_timeout + STALL,
        }
        self._writer = Workers(
            "homing-sqlite-writer",
            connect=partial(_open, connect, files, self._path, busy_timeout),
            carry_out=files.commit_together,
            batch=MAX_BATCH,
            **common,
        )
        self._readers = Workers(
            "homing-sqlite-reader", connect=connect, carry_out=files.read, most=MAX_READERS, **common
        )
        # Stops the threads when the store is garbage-collected; interpreter exit waits for them separately.
        finalizer = weakref.finalize(self, _stop_soon, self._writer, self._readers, self._pid)
        finalizer.atexit = False
        try:
            self._writer.run(_nothing, limit=busy_timeout + OPEN_TIMEOUT)
        except BaseException:
            self._closed = True
            self._writer.stop_soon()
            raise

    def commit(
        self,
        conversation_id: str,
        *,
        expected_version: int,
        header: Header | None = None,
        keep: int | None = None,
        turns: Sequence[Turn] = (),
    ) -> int:
        """See `Store.commit`."""
        change = Commit.checked(
            conversation_id, expected_version=expected_version, header=header, keep=keep, turns=turns
        )
        self._check_usable()
        return self._writer.run(lambda connection: relational.commit(connection, change, microseconds(self._clock())))

    def load(self, conversation_id: str) -> StoredConversation | None:
        """See `Store.load`."""
        checked_id(conversation_id)
        self._check_usable()
        found = self._readers.run(lambda connection: relational.load(connection, conversation_id), changes=False)
        return found.conversation() if found else None

    def list(self, *, limit: int = DEFAULT_PAGE, cursor: str | None = None) -> Page:
        """See `Store.list`."""
        checked_limit(limit)
        position = position_of(cursor)
        self._check_usable()
        rows = self._readers.run(
            lambda connection: relational.list_page(connection, position, limit + 1), changes=False
        )
        return page_of(rows, limit)

    def delete(self, conversation_id: str) -> bool:
        """See `Store.delete`."""
        checked_id(conversation_id)
        self._check_usable()
        return self._writer.run(lambda connection: relational.delete(connection, conversation_id))

    def prune(self, *, before: float) -> int:
        """See `Store.prune`. The file keeps its size; later turns reuse the space."""
        moment = checked_moment("before", before)
        self._check_usable()
        return self._writer.run(lambda connection: relational.prune(connection, moment), limit=PRUNE_TIMEOUT)

    def close(self) -> None:
        """See `Store.close`. Finishes pending commits."""
        self._closed = True
        if self._pid == os.getpid():  # closing in a forked child would affect the parent's file
            self._readers.stop()
            self._writer.stop()

    def __repr__(self) -> str:
        return f"<SQLiteStore {str(self._path)!r}{' closed' if self._closed else ''}>"

    def _check_usable(self) -> None:
        if self._closed:
            raise StoreError(CLOSED)
        if self._pid != os.getpid():
            # A fork inherits neither the threads nor SQLite's locks.
            raise StoreError("this SQLiteStore was opened before fork(): open it in the forked process")


class _Files:
    """Checks that the database file, its log and its index are still the files that were opened.

    A file that was deleted or replaced while open still accepts changes, but nobody else sees them, and
    they are lost when the last handle is closed. Three calls of ``stat`` cost a few microseconds; a
    commit takes a thousand.
    """

    def __init__(self, path: Path) -> None:
        self._paths = [os.fspath(path) + suffix for suffix in ("", "-wal", "-shm")]
        self._opened: list[tuple[int, int] | None] = [None, None, None]

    def note(self) -> None:
        """Remember the current files."""
        self._opened = [_identity(path) for path in self._paths]

    def check(self) -> None:
        """Raise `StoreError` if one of the files has been replaced."""
        for path, opened in zip(self._paths, self._opened, strict=True):
            if opened is not None and _identity(path) != opened:
                raise StoreError(
                    f"SQLite file {self._paths[0]!r}: {path!r} was deleted, moved or replaced while it was open, and "
                    "what is written to it now is lost; restore it, then close this store and open it again"
                )

    def commit_together(self, connection: sqlite3.Connection, jobs: list[WorkItem[Any]]) -> None:
        """Execute changes. Checks the files again afterwards, so that no lost change is acknowledged."""
        self.check()
        commit_together(connection, jobs)
        self.check()

    def read(self, connection: sqlite3.Connection, jobs: list[WorkItem[Any]]) -> None:
        """Execute reads."""
        self.check()
        run_each(connection, jobs)


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _nothing(connection: sqlite3.Connection) -> None:
    """A no-op that makes the writer open the file."""


def _connect(path: Path, *, synchronous: str, busy_timeout: float) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path,
        timeout=busy_timeout,
        isolation_level=None,  # we send BEGIN and COMMIT ourselves
        check_same_thread=False,  # used by one thread at a time: the writer, or a borrower
    )
    try:
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        connection.execute("PRAGMA fullfsync = ON")  # on macOS fsync alone does not reach the disk
        connection.execute("PRAGMA foreign_keys = ON")
        # Invalid UTF-8 means a damaged row, which is detected when it is decoded. SQLite's own error would
        # fail the whole listing and quote user content.
        connection.text_factory = partial(str, encoding="utf-8", errors="surrogateescape")
    except BaseException:  # the first statement fails if the file is not a database
        connection.close()
        raise
    return connection


def _open(
    connect: Callable[[], sqlite3.Connection], files: _Files, path: Path, busy_timeout: float
) -> sqlite3.Connection:
    """Open the writing connection and migrate the tables."""
    with _OPENING:
        _create_private(path)
        connection = connect()
        try:
            # Unlike other statements, the switch to WAL does not wait. If two processes open a new
            # file at once, one of them gets "locked" immediately (openai-agents#4202), so retry.
            tenacity.Retrying(
                retry=tenacity.retry_if_exception(_is_locked),
                wait=tenacity.wait_random(0, OPEN_PAUSE),
                stop=tenacity.stop_after_delay(busy_timeout),
                reraise=True,
            )(_prepare, connection)
            files.note()
        except BaseException:
            connection.close()
            raise
    return connection


def _prepare(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("BEGIN IMMEDIATE")
    try:
        relational.migrate(connection, relational.SQLITE)
        connection.execute("COMMIT")
    except BaseException:
        roll_back(connection)
        raise


def _is_locked(error: BaseException) -> bool:
    # Python 3.10 has no sqlite_errorcode; SQLite's messages have not changed since 2004.
    return isinstance(error, sqlite3.OperationalError) and "locked" in str(error)


def _disconnect(connection: sqlite3.Connection) -> None:
    with contextlib.suppress(sqlite3.Error):  # its files are gone, so there is nothing to clean up
        connection.close()


def _stop_soon(writer: Workers[Any], readers: Workers[Any], pid: int) -> None:
    if pid == os.getpid():
        readers.stop_soon()
        writer.stop_soon()


def _translated(path: Path, error: BaseException) -> BaseException:
    if not isinstance(error, sqlite3.Error):
        return error
    if _is_locked(error):
        hint = "another process has held it for longer than busy_timeout"
    elif isinstance(error, sqlite3.OperationalError):
        hint = "check that the disk has room and that the file may be written"
    else:
        hint = "is it a SQLite file?"
    return StoreError(f"SQLite file {str(path)!r}: {error}; {hint}")


def _checked_path(path: str | os.PathLike[str]) -> Path:
    text = os.fspath(path)
    if not isinstance(text, str) or not text or text.startswith((":memory:", "file:")):
        raise ConfigurationError(f"path={path!r}: give the path of a file, or use MemoryStore")
    return Path(text).absolute()


def _create_private(path: Path) -> None:
    """Create a missing file readable only by its owner, because it will hold private conversations.

    Leaves an existing file alone, and must not run while another store of this process opens: closing
    any handle to a file drops all locks that the process has on it (POSIX fcntl).
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        pass
    except FileNotFoundError as error:
        raise ConfigurationError(f"path={str(path)!r}: the directory {str(path.parent)!r} does not exist") from error
    except (OSError, ValueError) as error:  # ValueError: characters not allowed in a path
        why = getattr(error, "strerror", None) or error
        raise ConfigurationError(f"path={str(path)!r} cannot be created: {why}") from error
