"""How changes are written to a SQLite file: many in one transaction, each as a whole or not at all."""

from __future__ import annotations

import sqlite3
from typing import Any

from .workers import WorkItem

MAX_BATCH = 64
"""Changes that share one transaction, and so one flush to the disk, which is most of what a
commit costs. More would keep the first caller waiting for the last, and save little."""


def commit_together(connection: sqlite3.Connection, jobs: list[WorkItem[Any]]) -> None:
    """Carry out some changes in one transaction. Raises what went wrong with all of them."""
    if not jobs:
        return
    # IMMEDIATE: a transaction that starts by reading and then wants to write is refused at
    # once when another process has written meanwhile, without waiting for the busy timeout.
    connection.execute("BEGIN IMMEDIATE")
    try:
        for job in jobs:
            _run(connection, job)
        connection.execute("COMMIT")
    except BaseException:
        roll_back(connection)
        raise


def roll_back(connection: sqlite3.Connection) -> None:
    """End a transaction that failed, so that the connection can be used again."""
    if connection.in_transaction:  # SQLite has rolled back by itself when the disk is full
        try:
            connection.execute("ROLLBACK")
        except sqlite3.Error:
            pass  # nothing was committed: what went wrong before is what the callers learn


def _run(connection: sqlite3.Connection, job: WorkItem[Any]) -> None:
    """Make one change, or leave no trace of it."""
    connection.execute("SAVEPOINT job")
    job.run(connection)
    if job.error is not None:
        connection.execute("ROLLBACK TO job")
    connection.execute("RELEASE job")
