"""Conversations in a SQLite file: the durable store that needs no server and no extra."""

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
"""Seconds to wait for another process that is writing. One save takes milliseconds; a
migration or a checkpoint on a slow disk may take seconds, and giving up loses a turn."""

OPEN_PAUSE = 0.05
"""Longest pause in seconds between attempts to open: about one journal switch."""

STALL = 60.0
"""Seconds beyond ``busy_timeout`` that a call waits: for a slow disk, and for the calls before it. Then the disk
hangs, and a typed error is worth more than patience."""

OPEN_TIMEOUT = 600.0
"""The same for opening: an older file is brought up to date, which may mean millions of turns to move."""

PRUNE_TIMEOUT = 3600.0
"""The same for `SQLiteStore.prune`, which may delete years of conversations."""

MAX_READERS = 8
"""Threads for reading, each with its connection, begun when needed and kept; more readers than that wait for
their turn of a fraction of a millisecond. Each costs two file handles and its page cache, and closing one gives
no handle back while others are open (SQLite holds it for the sake of its POSIX locks)."""

CLOSED = "this SQLiteStore is closed: open a new one"

_OPENING = threading.Lock()
"""One opening at a time per process: see `_create_private`. Taken by threads of stores only."""


def _after_fork() -> None:
    """Whoever was opening when the process was forked is not here to give it back."""
    global _OPENING
    _OPENING = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class SQLiteStore(Store):
    """Keeps conversations in one file, safely shared by threads and processes on one machine.

    A commit that has returned survives ``kill -9`` and, with ``synchronous="full"``, a
    power cut, if the disk tells the truth about flushing. Reads never wait for writes (WAL).
    Commits that arrive together share one flush.

    Not for network file systems: their locks do not hold what WAL needs. Open it after
    forking, once per process.

    Reads and writes run on threads of the store's own: a signal handler that raises, Ctrl-C for one, leaves
    nothing behind. Each call has a time limit: ``busy_timeout`` and a minute.

    Args:
        path: The database file, created readable by its owner only if it is missing.
        synchronous: ``"full"`` flushes each commit to the disk (the default: a turn that
            was shown to somebody must not vanish). ``"normal"`` flushes at checkpoints:
            faster, safe against ``kill -9``, but a power cut may undo the latest commits.
        busy_timeout: Seconds to wait for another process that is writing (default 30).
        clock: Seconds since the epoch; for tests.

    Raises:
        ConfigurationError: The path cannot be a database file.
        StoreError: The file is no database, is locked for too long, or was written by a
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
        # Nothing here refers to the store: what its threads hold would keep it from being collected.
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
        # Also when the store is forgotten; at interpreter exit its threads are waited for.
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
        """See `Store.prune`. The file keeps its size: the space is used for later turns."""
        moment = checked_moment("before", before)
        self._check_usable()
        return self._writer.run(lambda connection: relational.prune(connection, moment), limit=PRUNE_TIMEOUT)

    def close(self) -> None:
        """See `Store.close`. Commits under way are finished."""
        self._closed = True
        if self._pid == os.getpid():  # closing in a forked child would pull the parent's file away
            self._readers.stop()
            self._writer.stop()

    def __repr__(self) -> str:
        return f"<SQLiteStore {str(self._path)!r}{' closed' if self._closed else ''}>"

    def _check_usable(self) -> None:
        if self._closed:
            raise StoreError(CLOSED)
        if self._pid != os.getpid():
            # Neither the threads nor SQLite's locks came along.
            raise StoreError("this SQLiteStore was opened before fork(): open it in the forked process")


class _Files:
    """The database file, its log and its index: are they still those that were opened?

    A file that was deleted or replaced while it is open takes changes as before, and keeps them from everybody
    else until the last handle is closed; then they are gone. Three calls of ``stat`` cost some microseconds, a
    commit takes a thousand.
    """

    def __init__(self, path: Path) -> None:
        self._paths = [os.fspath(path) + suffix for suffix in ("", "-wal", "-shm")]
        self._opened: list[tuple[int, int] | None] = [None, None, None]

    def note(self) -> None:
        """Take them as they are now."""
        self._opened = [_identity(path) for path in self._paths]

    def check(self) -> None:
        """Raise `StoreError` if one of them is another one."""
        for path, opened in zip(self._paths, self._opened, strict=True):
            if opened is not None and _identity(path) != opened:
                raise StoreError(
                    f"SQLite file {self._paths[0]!r}: {path!r} was deleted, moved or replaced while it was open, and "
                    "what is written to it now is lost; restore it, then close this store and open it again"
                )

    def commit_together(self, connection: sqlite3.Connection, jobs: list[WorkItem[Any]]) -> None:
        """Carry out changes, and let none of them be acknowledged that is gone."""
        self.check()
        commit_together(connection, jobs)
        self.check()

    def read(self, connection: sqlite3.Connection, jobs: list[WorkItem[Any]]) -> None:
        """Carry out reads."""
        self.check()
        run_each(connection, jobs)


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _nothing(connection: sqlite3.Connection) -> None:
    """What the writer is asked to do for the sake of opening the file."""


def _connect(path: Path, *, synchronous: str, busy_timeout: float) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path,
        timeout=busy_timeout,
        isolation_level=None,  # BEGIN and COMMIT are ours to say
        check_same_thread=False,  # used by one thread at a time: the writer, or a borrower
    )
    try:
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        connection.execute("PRAGMA fullfsync = ON")  # on macOS fsync alone does not reach the disk
        connection.execute("PRAGMA foreign_keys = ON")
        # Bytes that are no UTF-8 are a damaged row, found where it is decoded; SQLite's own error would
        # be that of the whole listing, and quote what people wrote.
        connection.text_factory = partial(str, encoding="utf-8", errors="surrogateescape")
    except BaseException:  # the first statement finds out that the file is no database
        connection.close()
        raise
    return connection


def _open(
    connect: Callable[[], sqlite3.Connection], files: _Files, path: Path, busy_timeout: float
) -> sqlite3.Connection:
    """Open the writing connection and bring the tables up to date."""
    with _OPENING:
        _create_private(path)
        connection = connect()
        try:
            # The switch to WAL does not wait as other statements do: of two processes that open
            # a new file at once, one is told "locked" at once (openai-agents#4202). So: again.
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
    # Python 3.10 has no sqlite_errorcode; SQLite's texts have been the same since 2004.
    return isinstance(error, sqlite3.OperationalError) and "locked" in str(error)


def _disconnect(connection: sqlite3.Connection) -> None:
    with contextlib.suppress(sqlite3.Error):  # its files were taken away: there is nothing to tidy up
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
    """Create a missing file readable by its owner only: it will hold private conversations.

    Only a missing one, and never while another store of this process opens: closing any
    handle to a file drops all locks that the process has on it (POSIX fcntl).
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        pass
    except FileNotFoundError as error:
        raise ConfigurationError(f"path={str(path)!r}: the directory {str(path.parent)!r} does not exist") from error
    except (OSError, ValueError) as error:  # ValueError: characters that no path can have
        why = getattr(error, "strerror", None) or error
        raise ConfigurationError(f"path={str(path)!r} cannot be created: {why}") from error
