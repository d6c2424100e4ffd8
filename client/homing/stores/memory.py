"""Conversations in this process's memory: for tests, notebooks and one-off scripts."""

from __future__ import annotations

import heapq
import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace

from ..errors import StoreError
from .base import DEFAULT_PAGE, Header, Page, Store, StoredConversation, Turn
from .rules import (
    Commit,
    Record,
    Row,
    StoredState,
    checked_id,
    checked_limit,
    checked_moment,
    microseconds,
    page_of,
    position_of,
)


class MemoryStore(Store):
    """A store that lasts until the process ends. It evicts nothing: call ``prune``.

    Values are stored encoded, as in every other store. So code that works here works with the others,
    and callers cannot change a stored turn through a reference.

    Args:
        clock: Returns seconds since the epoch; for tests.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        # Released by C code, so that no signal handler can run in between; reentrant, because a handler may
        # use the store on the thread that holds the lock.
        self._lock = threading.RLock()
        self._records: dict[str, Record] = {}
        self._closed = False
        _all.add(self)

    def commit(
        self,
        conversation_id: str,
        *,
        expected_version: int,
        header: Header | None = None,
        keep: int | None = None,
        turns: Sequence[Turn] = (),
    ) -> int:
        """See `Store.commit`. Durable only within this process."""
        change = Commit.checked(
            conversation_id, expected_version=expected_version, header=header, keep=keep, turns=turns
        )
        with self._lock:
            while True:
                records = self._open_records()
                found = records.get(conversation_id)
                row = found.row if found else None
                plan = change.against(StoredState(row.version, row.turn_count) if row else None)
                now = microseconds(self._clock())
                row = row or Row(conversation_id, 0, "{}", 0, created_at=now, updated_at=now)
                changed = replace(
                    row,
                    version=plan.version,
                    header=row.header if change.header is None else change.header,
                    turn_count=plan.turn_count,
                    updated_at=max(now, row.updated_at),
                )
                kept: Sequence[str] = found.turns[: plan.kept] if found else ()
                record = Record(changed, (*kept, *change.turns))
                # No call between the check and the change: a signal handler could commit there.
                if (records[conversation_id] if conversation_id in records else None) is found:  # noqa: SIM401
                    records[conversation_id] = record
                    return plan.version

    def load(self, conversation_id: str) -> StoredConversation | None:
        """See `Store.load`."""
        checked_id(conversation_id)
        with self._lock:
            record = self._open_records().get(conversation_id)
        return record.conversation() if record else None

    def list(self, *, limit: int = DEFAULT_PAGE, cursor: str | None = None) -> Page:
        """See `Store.list`."""
        checked_limit(limit)
        position = position_of(cursor)
        after = (position.created_at, position.id)
        with self._lock:
            records = list(self._open_records().values())
        rows = [record.row for record in records if (record.row.created_at, record.row.id) < after]
        return page_of(heapq.nlargest(limit + 1, rows, key=lambda row: (row.created_at, row.id)), limit)

    def delete(self, conversation_id: str) -> bool:
        """See `Store.delete`."""
        checked_id(conversation_id)
        with self._lock:
            return self._open_records().pop(conversation_id, None) is not None

    def prune(self, *, before: float) -> int:
        """See `Store.prune`."""
        moment = checked_moment("before", before)
        with self._lock:
            records = self._open_records()
            old = [record.row.id for record in list(records.values()) if record.row.updated_at < moment]
            return sum(records.pop(conversation_id, None) is not None for conversation_id in old)

    def close(self) -> None:
        """See `Store.close`. All conversations are lost."""
        self._closed = True
        self._records.clear()

    def __repr__(self) -> str:
        return f"<MemoryStore {len(self._records)} conversations>"

    def _open_records(self) -> dict[str, Record]:
        if self._closed:
            raise StoreError("this MemoryStore is closed: make a new one")
        return self._records


_all: weakref.WeakSet[MemoryStore] = weakref.WeakSet()


def _after_fork() -> None:
    for store in list(_all):
        store._lock = threading.RLock()  # the thread that held it doesn't exist here to release it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
