"""Conversations in a SQLite file: the durable store that needs no server and no extra."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

import tenacity

from ..errors import ConfigurationError, StoreError
from . import relational
from .base import DEFAULT_PAGE, Header, Page, Store, StoredConversation, Turn
from .rules import Change, checked_id, checked_limit, checked_moment, microseconds, position_of
from .writer import Writer, roll_back

T = TypeVar("T")

BUSY_TIMEOUT = 30.0
"""Seconds to wait for another process that is writing. One save takes milliseconds; a
migration or a checkpoint on a slow disk may take seconds, and giving up loses a turn."""

OPEN_PAUSE = 0.05
"""Longest pause in seconds between attempts to open: about one journal switch."""

MAX_READERS = 8
"""Connections for reading, opened when needed and kept; more readers than that wait for their turn of a
fraction of a millisecond. Each costs two file handles and its page cache, and closing one gives no handle
back while others are open (SQLite holds it for the sake of its POSIX locks)."""

_OPENING = threading.Lock()
"""One opening at a time per process: see `_create_private`."""


class SQLiteStore(Store):
    """Keeps conversations in one file, safely shared by threads and processes on one machine.

    A commit that has returned survives ``kill -9`` and, with ``synchronous="full"``, a
    power cut, if the disk tells the truth about flushing. Reads never wait for writes (WAL).
    Commits that arrive together share one flush.

    Not for network file systems: their locks do not hold what WAL needs. Open it after
    forking, once per process.

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
        # Not a method: the finalizer holds it, and through a method it would hold the store.
        connect = partial(_connect, self._path, synchronous=synchronous, busy_timeout=busy_timeout)
        with _OPENING, _translated(self._path):
            _create_private(self._path)
            self._writer = Writer(_open(connect, busy_timeout))
        self._readers = _Readers(connect)
        # Also when the store is forgotten, and at interpreter exit.
        self._finalizer = weakref.finalize(self, _close, self._writer, self._readers, self._pid)

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
        change = Change.checked(
            conversation_id, expected_version=expected_version, header=header, keep=keep, turns=turns
        )
        return self._write(lambda connection: relational.commit(connection, change, microseconds(self._clock())))

    def load(self, conversation_id: str) -> StoredConversation | None:
        """See `Store.load`."""
        checked_id(conversation_id)
        with self._reading() as connection:
            return relational.load(connection, conversation_id)

    def list(self, *, limit: int = DEFAULT_PAGE, cursor: str | None = None) -> Page:
        """See `Store.list`."""
        checked_limit(limit)
        position = position_of(cursor)
        with self._reading() as connection:
            return relational.list_page(connection, position, limit)

    def delete(self, conversation_id: str) -> bool:
        """See `Store.delete`."""
        checked_id(conversation_id)
        return self._write(lambda connection: relational.delete(connection, conversation_id))

    def prune(self, *, before: float) -> int:
        """See `Store.prune`. The file keeps its size: the space is used for later turns."""
        moment = checked_moment("before", before)
        return self._write(lambda connection: relational.prune(connection, moment))

    def close(self) -> None:
        """See `Store.close`. Commits under way are finished."""
        self._finalizer()

    def __repr__(self) -> str:
        return f"<SQLiteStore {str(self._path)!r}{'' if self._finalizer.alive else ' closed'}>"

    def _write(self, change: Callable[[sqlite3.Connection], T]) -> T:
        self._check_usable()
        with _translated(self._path):
            return self._writer.run(change)

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        self._check_usable()
        with _translated(self._path), self._readers.one() as connection:
            yield connection

    def _check_usable(self) -> None:
        if not self._finalizer.alive:
            raise StoreError("this SQLiteStore is closed: open a new one")
        if self._pid != os.getpid():
            # Neither the writer thread nor SQLite's locks came along.
            raise StoreError("this SQLiteStore was opened before fork(): open it in the forked process")


class _Readers:
    """Connections for reading, lent to one thread at a time."""

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connect = connect
        self._lock = threading.Lock()
        self._places = threading.Semaphore(MAX_READERS)
        self._idle: list[sqlite3.Connection] = []
        self._closed = False

    @contextmanager
    def one(self) -> Iterator[sqlite3.Connection]:
        with self._places:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            connection = connection or self._connect()
            try:
                yield connection
            finally:
                with self._lock:
                    kept = not self._closed
                    if kept:
                        self._idle.append(connection)
                if not kept:
                    connection.close()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()


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
    except BaseException:  # the first statement finds out that the file is no database
        connection.close()
        raise
    return connection


def _open(connect: Callable[[], sqlite3.Connection], busy_timeout: float) -> sqlite3.Connection:
    """Open the writing connection and bring the tables up to date."""
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


def _close(writer: Writer, readers: _Readers, pid: int) -> None:
    if pid == os.getpid():  # closing in a forked child would pull the parent's file away
        readers.close()
        writer.stop()


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        if _is_locked(error):
            hint = "another process has held it for longer than busy_timeout"
        elif isinstance(error, sqlite3.OperationalError):
            hint = "check that the disk has room and that the file may be written"
        else:
            hint = "is it a SQLite file?"
        raise StoreError(f"SQLite file {str(path)!r}: {error}; {hint}") from error


def _checked_path(path: str | os.PathLike[str]) -> Path:
    text = os.fspath(path)
    if not isinstance(text, str) or not text or text.startswith((":memory:", "file:")):
        raise ConfigurationError(f"path={path!r}: give the path of a file, or use MemoryStore")
    resolved = Path(text).absolute()
    if not resolved.parent.is_dir():
        raise ConfigurationError(f"path={text!r}: the directory {str(resolved.parent)!r} does not exist")
    return resolved


def _create_private(path: Path) -> None:
    """Create a missing file readable by its owner only: it will hold private conversations.

    Only a missing one, and never while another store of this process opens: closing any
    handle to a file drops all locks that the process has on it (POSIX fcntl).
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        pass
    except OSError as error:
        raise ConfigurationError(f"path={str(path)!r} cannot be created: {error.strerror}") from error
