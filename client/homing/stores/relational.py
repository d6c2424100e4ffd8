"""Conversations in a relational database: tables, migrations, statements.

Shared by `SQLiteStore` and `SQLStore`, in the SQL that SQLite, PostgreSQL, MySQL and MariaDB
have in common. With one row per conversation and one per turn, a commit writes only the new
turn, however long the conversation is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ..errors import StoreError
from .rules import Commit, Position, Record, Row, StoredState, damaged, decode, encode

SCHEMA_VERSION = 2
"""1: all turns of a conversation in one JSON column (every save rewrote the history).
2: one row per turn."""


class Rows(Protocol):
    """The result of a statement."""

    @property
    def rowcount(self) -> int:
        """The number of rows changed."""
        ...

    def fetchall(self) -> Sequence[Any]:
        """All rows read."""
        ...


class Session(Protocol):
    """An open transaction. Parameters have the form ``:name``."""

    def execute(self, statement: str, parameters: Mapping[str, Any], /) -> Rows:
        """Run one statement."""
        ...


@dataclass(frozen=True, slots=True)
class Dialect:
    """Unavoidable differences between databases."""

    key: str
    """Type of a conversation id: compared byte by byte, so that ``A`` differs from ``a``."""
    text: str
    """Type of JSON text. Not a JSON type: those reorder keys and reject NUL characters."""
    inline_indexes: bool = False
    """Whether to create indexes inside CREATE TABLE: MySQL has no CREATE INDEX IF NOT EXISTS."""
    suffix: str = ""


SQLITE = Dialect(key="TEXT", text="TEXT")
POSTGRESQL = Dialect(key='VARCHAR(255) COLLATE "C"', text="TEXT")
MYSQL = Dialect(
    key="VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    text="LONGTEXT CHARACTER SET utf8mb4",  # TEXT is limited to 64 KB
    inline_indexes=True,
    suffix=" ENGINE=InnoDB",
)

_INDEXES = {
    "homing_conversations_created": "(created_at, id)",
    "homing_conversations_updated": "(updated_at)",
}


def migrate(session: Session, dialect: Dialect) -> None:
    """Migrate the tables to `SCHEMA_VERSION`. The caller must keep other processes out meanwhile.

    PostgreSQL and SQLite do this in one transaction. MySQL ends the transaction with each
    CREATE, so creating the tables can be repeated safely. The step from version 1 cannot, and need
    not: only SQLite files were ever written with version 1.
    """
    session.execute("CREATE TABLE IF NOT EXISTS homing_schema (version INTEGER NOT NULL)", {})
    found = [row[0] for row in session.execute("SELECT version FROM homing_schema", {}).fetchall()]
    version = found[0] if found else 0
    if not isinstance(version, int) or version < 0:
        raise StoreError("the table homing_schema is damaged: restore the database from a backup")
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"the tables have schema version {version}, this version of Homing knows up to {SCHEMA_VERSION}: "
            "upgrade homing in this process"
        )
    if version == SCHEMA_VERSION:
        return
    _STEPS[version](session, dialect)
    session.execute("DELETE FROM homing_schema", {})
    session.execute("INSERT INTO homing_schema (version) VALUES (:version)", {"version": SCHEMA_VERSION})


def _create(session: Session, dialect: Dialect) -> None:
    indexes = "".join(f", INDEX {name} {columns}" for name, columns in _INDEXES.items())
    session.execute(
        f"""CREATE TABLE IF NOT EXISTS homing_conversations (
            id {dialect.key} NOT NULL PRIMARY KEY,
            version BIGINT NOT NULL,
            header {dialect.text} NOT NULL,
            turn_count BIGINT NOT NULL,
            created_at BIGINT NOT NULL,
            updated_at BIGINT NOT NULL
            {indexes if dialect.inline_indexes else ""}
        ){dialect.suffix}""",
        {},
    )
    if not dialect.inline_indexes:
        for name, columns in _INDEXES.items():
            session.execute(f"CREATE INDEX IF NOT EXISTS {name} ON homing_conversations {columns}", {})
    # The cascade makes deletion one atomic step: turns cannot disappear while their conversation
    # stays because of a last-moment write.
    session.execute(
        f"""CREATE TABLE IF NOT EXISTS homing_turns (
            conversation_id {dialect.key} NOT NULL,
            position BIGINT NOT NULL,
            body {dialect.text} NOT NULL,
            PRIMARY KEY (conversation_id, position),
            FOREIGN KEY (conversation_id) REFERENCES homing_conversations (id) ON DELETE CASCADE
        ){dialect.suffix}""",
        {},
    )


def _split_turns(session: Session, dialect: Dialect) -> None:
    session.execute("ALTER TABLE homing_conversations RENAME TO homing_conversations_1", {})
    _create(session, dialect)
    ids = session.execute("SELECT id FROM homing_conversations_1", {}).fetchall()
    for (conversation_id,) in ids:  # one at a time: the database may be larger than memory
        ((version, header, turns, created_at, updated_at),) = session.execute(
            "SELECT version, header, turns, created_at, updated_at FROM homing_conversations_1 WHERE id = :id",
            {"id": conversation_id},
        ).fetchall()
        try:
            bodies = [encode("turn", turn) for turn in decode(f'{{"turns":{turns}}}')["turns"]]
        except ValueError as error:
            raise StoreError(f"conversation {conversation_id!r} of schema 1 cannot be read: {error}") from error
        _insert_conversation(session, Row(conversation_id, version, header, len(bodies), created_at, updated_at))
        _insert_turns(session, conversation_id, 0, bodies)
    session.execute("DROP TABLE homing_conversations_1", {})


_STEPS: dict[int, Callable[[Session, Dialect], None]] = {0: _create, 1: _split_turns}


def commit(session: Session, change: Commit, now: int) -> int:
    """Execute a commit and return the new version.

    The version in the UPDATE's WHERE decides a race between two transactions that
    read the same head: the second waits for the row, then matches nothing. If two transactions
    create the same conversation, the primary key decides: the second INSERT fails
    with the driver's integrity error.
    """
    head = read_head(session, change.id)
    plan = change.against(head)
    if head is None:
        header = "{}" if change.header is None else change.header
        _insert_conversation(session, Row(change.id, plan.version, header, plan.turn_count, now, now))
    else:
        updated = session.execute(
            "UPDATE homing_conversations SET version = :version, header = COALESCE(:header, header),"
            # A clock that goes backwards must not age a conversation: prune() would delete it.
            " turn_count = :turn_count, updated_at = CASE WHEN updated_at > :now THEN updated_at ELSE :now END"
            " WHERE id = :id AND version = :expected",
            {
                "version": plan.version,
                "header": change.header,
                "turn_count": plan.turn_count,
                "now": now,
                "id": change.id,
                "expected": head.version,
            },
        )
        if updated.rowcount != 1:
            raise change.conflict(read_head(session, change.id))
        if plan.kept < head.turn_count:
            session.execute(
                "DELETE FROM homing_turns WHERE conversation_id = :id AND position >= :kept",
                {"id": change.id, "kept": plan.kept},
            )
    _insert_turns(session, change.id, plan.kept, change.turns)
    return plan.version


def read_head(session: Session, conversation_id: str) -> StoredState | None:
    """Return the latest version and the number of turns."""
    rows = session.execute(
        "SELECT version, turn_count FROM homing_conversations WHERE id = :id", {"id": conversation_id}
    ).fetchall()
    return StoredState.found(conversation_id, *rows[0]) if rows else None


def load(session: Session, conversation_id: str) -> Record | None:
    """Return a conversation with its turns.

    A single statement reads one snapshot at every isolation level. Between two statements, a
    commit could slip in and pair an old header with new turns.
    """
    rows = session.execute(
        "SELECT -1 AS position, header AS body, version, turn_count, created_at, updated_at"
        " FROM homing_conversations WHERE id = :id"
        " UNION ALL SELECT position, body, 0, 0, 0, 0 FROM homing_turns WHERE conversation_id = :id"
        " ORDER BY position",
        {"id": conversation_id},
    ).fetchall()
    if not rows:
        return None
    if [row[0] for row in rows] != list(range(-1, len(rows) - 1)):
        raise damaged(conversation_id, "a row is missing")
    _, header, version, turn_count, created_at, updated_at = rows[0]
    row = Row(conversation_id, version, header, turn_count, created_at, updated_at)
    return Record(row, [row[1] for row in rows[1:]])


def list_page(session: Session, position: Position, count: int) -> Sequence[Row]:
    """Return up to ``count`` rows after a position, newest first."""
    rows = session.execute(
        "SELECT id, version, header, turn_count, created_at, updated_at FROM homing_conversations"
        " WHERE created_at < :created_at OR (created_at = :created_at AND id < :id)"
        " ORDER BY created_at DESC, id DESC LIMIT :count",
        {"created_at": position.created_at, "id": position.id, "count": count},
    ).fetchall()
    return [Row(*row) for row in rows]


def delete(session: Session, conversation_id: str) -> bool:
    """Delete a conversation and its turns, including turns orphaned by damage."""
    deleted = session.execute("DELETE FROM homing_conversations WHERE id = :id", {"id": conversation_id}).rowcount
    session.execute(
        "DELETE FROM homing_turns WHERE conversation_id = :id"
        " AND NOT EXISTS (SELECT 1 FROM homing_conversations WHERE id = :id)",
        {"id": conversation_id},
    )
    return deleted == 1


def prune(session: Session, moment: int) -> int:
    """Delete conversations last written before ``moment``; return how many."""
    return session.execute("DELETE FROM homing_conversations WHERE updated_at < :moment", {"moment": moment}).rowcount


def _insert_conversation(session: Session, row: Row) -> None:
    session.execute(
        "INSERT INTO homing_conversations (id, version, header, turn_count, created_at, updated_at)"
        " VALUES (:id, :version, :header, :turn_count, :created_at, :updated_at)",
        {
            "id": row.id,
            "version": row.version,
            "header": row.header,
            "turn_count": row.turn_count,
            "created_at": row.created_at,
            "updated_at": row.updated_at,
        },
    )


def _insert_turns(session: Session, conversation_id: str, position: int, turns: Sequence[str]) -> None:
    for offset, body in enumerate(turns):
        session.execute(
            "INSERT INTO homing_turns (conversation_id, position, body) VALUES (:id, :position, :body)",
            {"id": conversation_id, "position": position + offset, "body": body},
        )
