"""Where everything is kept: conversations, who owns them, and replies under way. One store, three kinds of records.

CHATBOT_STORE=chatbot.db                                    a SQLite file, the default
CHATBOT_STORE=postgresql+psycopg://user:password@host/db    pip install 'homing[sql]' psycopg
CHATBOT_STORE=redis://host                                  pip install 'homing[redis]'
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from homing import VersionConflict, stores
from homing.stores import AsyncStore, as_async

SHOWN = 200
"""Conversations in the list; the oldest leave it. Longer ones want a search."""


def open_store(place: str) -> AsyncStore:
    """Return the store for ``place``."""
    if place.startswith(("redis://", "rediss://", "unix://")):
        return as_async(stores.RedisStore(place))
    return as_async(stores.SQLStore(place) if "://" in place else stores.SQLiteStore(place))


def owner_of(cookie: str) -> str:
    """Return the name under which a cookie's owner is stored: whoever reads the store cannot become them."""
    return hashlib.sha256(cookie.encode()).hexdigest()


class Shelf:
    """The list of an owner's conversations, newest first."""

    def __init__(self, store: AsyncStore, owner: str) -> None:
        self._store = store
        self._record = f"owner:{owner}"

    async def entries(self) -> list[dict[str, Any]]:
        """Return ``{"id", "title"}`` of each."""
        record = await self._store.load(self._record)
        return [] if record is None else record.turns[::-1]

    async def add(self, conversation_id: str, title: str) -> None:
        """Put a conversation on top."""
        await self._change(lambda entries: [*entries, {"id": conversation_id, "title": title}][-SHOWN:])

    async def remove(self, conversation_id: str) -> None:
        """Take one away."""
        await self._change(lambda entries: [entry for entry in entries if entry["id"] != conversation_id])

    async def _change(self, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
        while True:
            record = await self._store.load(self._record)
            entries, version = ([], 0) if record is None else (record.turns, record.version)
            try:
                await self._store.commit(self._record, expected_version=version, keep=0, turns=change(entries))
            except VersionConflict:
                continue  # another tab was faster
            return
