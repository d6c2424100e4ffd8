"""Writes changes to a SQLite file: many in one transaction, each of them atomic."""

from __future__ import annotations

import sqlite3
from typing import Any

from .workers import WorkItem

MAX_BATCH = 64
"""Changes that share one transaction, and so one flush to the disk, which is most of a commit's
cost. More would save little, and make the first caller wait for the last."""


def commit_together(connection: sqlite3.Connection, jobs: list[WorkItem[Any]]) -> None:
    """Execute several changes in one transaction. Raises only errors that affect all of them."""
    if not jobs:
        return
    # IMMEDIATE: a transaction that starts with a read and then writes would fail immediately if
    # another process has written meanwhile, without waiting for the busy timeout.
    connection.execute("BEGIN IMMEDIATE")
    try:
        for job in jobs:
            _run(connection, job)
        connection.execute("COMMIT")
    except BaseException:
        roll_back(connection)
        raise


def roll_back(connection: sqlite3.Connection) -> None:
    """End a failed transaction, so that the connection can be used again."""
    if connection.in_transaction:  # SQLite rolls back by itself when the disk is full
        try:
            connection.execute("ROLLBACK")
        except sqlite3.Error:
            pass  # nothing was committed; callers get the original error


def _run(connection: sqlite3.Connection, job: WorkItem[Any]) -> None:
    """Make one change, or undo it completely if it fails."""
    connection.execute("SAVEPOINT job")
    job.run(connection)
    if job.error is not None:
        connection.execute("ROLLBACK TO job")
    connection.execute("RELEASE job")
