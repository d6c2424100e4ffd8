"""Conversations in PostgreSQL, MySQL or MariaDB (or any SQLite URL), through SQLAlchemy."""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar, cast

from ..errors import ConfigurationError, StoreError
from . import relational
from .base import DEFAULT_PAGE, Header, Page, Store, StoredConversation, Turn
from .rules import Commit, checked_id, checked_limit, checked_moment, microseconds, page_of, position_of
from .sqlite import BUSY_TIMEOUT, PRUNE_TIMEOUT
from .workers import Workers, run_aside

try:
    import sqlalchemy
    import sqlalchemy.event
    import sqlalchemy.exc
except ImportError as error:
    raise ImportError("SQLStore needs SQLAlchemy: pip install 'homing[sql]'") from error

MIGRATION_LOCK = 0x686F6D696E67
"""Identifies the lock held by a migrating process: "homing" in ASCII."""

MIGRATION_TIMEOUT = 600
"""Seconds to wait for another migrating process (MySQL requires a number). It may have
millions of turns to move, and nothing works until it has finished."""

CALL_TIMEOUT = 90.0
"""Seconds for one call, in case a machine disappears silently. Longer than the waits of databases and pools (InnoDB
for a lock 50 s, SQLAlchemy for a connection 30 s), so that they get to report what is wrong."""

MAX_THREADS = 15
"""Concurrent calls: as many as SQLAlchemy's pool has connections by default."""

T = TypeVar("T")


class SQLStore(Store):
    """A store in a SQL database, in the tables ``homing_conversations`` and ``homing_turns``.

    Its asynchronous counterpart runs on threads (`as_async`), not on SQLAlchemy's asyncio
    engines. Those exclude trio and need other drivers, and don't make waiting for fifteen
    database connections any faster.

    Args:
        engine: A database URL, such as ``postgresql+psycopg://user:password@host/db`` or
            ``mysql+pymysql://…``, or an existing SQLAlchemy ``Engine``, which the caller
            disposes of. The database must exist; missing tables are created.
        clock: Returns seconds since the epoch; for tests.

    Raises:
        ImportError: SQLAlchemy or the driver in the URL is missing; the message contains the
            command that installs it.
        ConfigurationError: The URL is invalid, or names an unsupported kind of database.
        StoreError: The database is unreachable, or a newer version of Homing wrote it.
    """

    def __init__(self, engine: str | sqlalchemy.Engine, *, clock: Callable[[], float] = time.time) -> None:
        self._owned = isinstance(engine, str)
        self._engine = _made(engine) if isinstance(engine, str) else engine
        kind = self._engine.dialect.name
        if kind not in _DIALECTS:
            raise ConfigurationError(f"engine: {kind} is not one of {', '.join(_DIALECTS)}")
        if kind == "sqlite" and not self._owned:
            raise ConfigurationError("engine: for SQLite give the URL, or better: SQLiteStore(path)")
        if kind != "sqlite":
            # Each statement sees what is committed when it begins. MySQL locks no gaps
            # between rows, so two conversations with neighbouring ids cannot deadlock.
            self._engine = self._engine.execution_options(isolation_level="READ COMMITTED")
        self._clock = clock
        self._only_in = os.getpid() if kind == "sqlite" else None
        self._workers = Workers(
            "homing-sql",
            waiting_for=repr(self),
            closed="this SQLStore is closed: open a new one",
            connect=partial(_the, self._engine),
            translate=partial(_translated, repr(self), getattr(self._engine.dialect.dbapi, "Error", ())),
            limit=CALL_TIMEOUT,
            # SQLite runs one transaction at a time, and an in-memory database belongs to one thread.
            most=1 if kind == "sqlite" else MAX_THREADS,
            # The child must not read from the parent's connections. The caller looks after an engine of its own.
            forked=partial(self._engine.dispose, close=False) if self._owned and kind != "sqlite" else bool,
            finish=self._engine.dispose if self._owned else bool,
        )
        finalizer = weakref.finalize(self, self._workers.stop_soon)
        finalizer.atexit = False
        try:
            self._workers.run(partial(_migrate, name=repr(self), kind=kind), limit=MIGRATION_TIMEOUT + CALL_TIMEOUT)
        except BaseException:
            self._workers.stop_soon()
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

        def write(session: _Session) -> int:
            return relational.commit(session, change, microseconds(self._clock()))

        try:
            return self._run(write)
        except _SimultaneousCreation as error:
            head = self._run(lambda session: relational.read_head(session, conversation_id), changes=False)
            raise change.conflict(head) from error

    def load(self, conversation_id: str) -> StoredConversation | None:
        """See `Store.load`."""
        checked_id(conversation_id)
        found = self._run(lambda session: relational.load(session, conversation_id), changes=False)
        return found.conversation() if found else None

    def list(self, *, limit: int = DEFAULT_PAGE, cursor: str | None = None) -> Page:
        """See `Store.list`."""
        checked_limit(limit)
        position = position_of(cursor)
        rows = self._run(lambda session: relational.list_page(session, position, limit + 1), changes=False)
        return page_of(rows, limit)

    def delete(self, conversation_id: str) -> bool:
        """See `Store.delete`."""
        checked_id(conversation_id)
        return self._run(lambda session: relational.delete(session, conversation_id))

    def prune(self, *, before: float) -> int:
        """See `Store.prune`."""
        moment = checked_moment("before", before)
        return self._run(lambda session: relational.prune(session, moment), limit=PRUNE_TIMEOUT)

    def close(self) -> None:
        """See `Store.close`. An engine passed by the caller stays open."""
        self._workers.stop()

    def __repr__(self) -> str:
        return f"<SQLStore {self._engine.url.render_as_string(hide_password=True)}>"

    def _run(self, action: Callable[[_Session], T], *, changes: bool = True, limit: float = CALL_TIMEOUT) -> T:
        if self._only_in not in (None, os.getpid()):
            # SQLite's file locks are not inherited, and its internal locks may be held by threads that are gone.
            raise StoreError(f"{self!r} was opened before fork(): open it in the forked process")
        return self._workers.run(partial(_in_transaction, action), changes=changes, limit=limit)


def _the(engine: sqlalchemy.Engine) -> sqlalchemy.Engine:
    return engine


def _migrate(engine: sqlalchemy.Engine, *, name: str, kind: str) -> None:
    """Bring the tables up to date while every other process that opens them waits."""
    lock, unlock = _LOCKS[kind]

    def migrate(session: _Session) -> None:
        if session.execute(lock, {}).fetchall()[0][0] == 0:
            raise StoreError(f"{name}: another process has been migrating for {MIGRATION_TIMEOUT} s")
        try:
            relational.migrate(session, _DIALECTS[kind])
        finally:
            if unlock:
                session.execute(unlock, {})

    try:
        _in_transaction(migrate, engine)
    except ValueError as error:  # the driver rejects the URL's file or address
        raise ConfigurationError(f"engine: the driver refuses the URL ({error})") from None


def _in_transaction(action: Callable[[_Session], T], engine: sqlalchemy.Engine) -> T:
    with engine.begin() as connection:
        return action(_Session(connection))


def _translated(name: str, driver: Any, error: BaseException) -> BaseException:
    # The driver's own error is not wrapped if the connection breaks while a transaction ends.
    if not isinstance(error, (sqlalchemy.exc.SQLAlchemyError, driver)):
        return error
    # `orig` is the driver's own message, without the statement and its parameters,
    # which contain user content.
    cause = getattr(error, "orig", None) or error
    kind = _SimultaneousCreation if isinstance(error, sqlalchemy.exc.IntegrityError) else StoreError
    return kind(f"{name}: {cause}; is the database up and may this user write?")


class _SimultaneousCreation(StoreError):
    """Two commits created the same conversation, and this one came second."""


class _Session:
    """A SQLAlchemy connection as `relational.Session`."""

    def __init__(self, connection: sqlalchemy.Connection) -> None:
        self._connection = connection

    def execute(self, statement: str, parameters: Mapping[str, Any], /) -> relational.Rows:
        result = self._connection.execute(sqlalchemy.text(statement), dict(parameters))
        return cast(relational.Rows, result)  # its rowcount is a descriptor, which pyright doesn't match


_DIALECTS = {
    "postgresql": relational.POSTGRESQL,
    "mysql": relational.MYSQL,
    "mariadb": relational.MYSQL,
    "sqlite": relational.SQLITE,
}

_MYSQL_LOCK = (f"SELECT GET_LOCK('{MIGRATION_LOCK}', {MIGRATION_TIMEOUT})", f"DO RELEASE_LOCK('{MIGRATION_LOCK}')")

_LOCKS: dict[str, tuple[str, str | None]] = {  # lock out other migrating processes, and unlock
    "postgresql": (f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})", None),  # ends with the transaction
    "mysql": _MYSQL_LOCK,
    "mariadb": _MYSQL_LOCK,
    "sqlite": ("SELECT 1", None),  # BEGIN IMMEDIATE has locked already
}


def _made(url: str) -> sqlalchemy.Engine:
    """Create the engine where no signal handler runs, because the library uses locks of its own."""
    return run_aside(partial(_engine, url), waiting_for="SQLAlchemy's engine", limit=CALL_TIMEOUT)


def _engine(url: str) -> sqlalchemy.Engine:
    try:
        engine = sqlalchemy.create_engine(
            url,
            pool_pre_ping=True,  # a database that restarted costs a reconnect, not a turn
            hide_parameters=True,  # they contain user content
        )
    except sqlalchemy.exc.ArgumentError as error:
        raise ConfigurationError(  # without the URL: it may contain a password
            "engine: not a database URL; give for example postgresql+psycopg://user@host/database"
        ) from error
    except ImportError as error:
        raise ImportError(f"{error}; for the driver: pip install 'psycopg[binary]' or pip install pymysql") from error
    if engine.dialect.name == "sqlite":
        sqlalchemy.event.listen(engine, "connect", _configure_sqlite)
        sqlalchemy.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _configure_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # otherwise the driver begins transactions on its own
    connection.execute(f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT * 1000)}")
    connection.execute("PRAGMA foreign_keys = ON")


def _begin_sqlite(connection: sqlalchemy.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
