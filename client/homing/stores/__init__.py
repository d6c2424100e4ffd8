"""Stores that persist conversations. See docs/stores.md.

::

    MemoryStore()                   this process only
    SQLiteStore("chats.db")         one machine, no server; the durable default
    RedisStore("redis://…")         many machines         pip install 'homing[redis]'
    SQLStore("postgresql+psycopg://…")  PostgreSQL, MySQL, MariaDB   pip install 'homing[sql]'

Each one is a `Store`; `as_async` wraps it as an `AsyncStore`. To verify a store of your own, run
`homing.stores.conformance` on it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .base import AsyncStore, ConversationSummary, Page, Store, StoredConversation

if TYPE_CHECKING:
    from .memory import MemoryStore
    from .redis import RedisStore
    from .sqlalchemy import SQLStore
    from .sqlite import SQLiteStore
    from .threaded import ThreadedStore, as_async

__all__ = [
    "AsyncStore",
    "ConversationSummary",
    "MemoryStore",
    "Page",
    "RedisStore",
    "SQLStore",
    "SQLiteStore",
    "Store",
    "StoredConversation",
    "ThreadedStore",
    "as_async",
]

_LAZY = {  # expensive imports happen on first use (PEP 562)
    "MemoryStore": "memory",
    "RedisStore": "redis",
    "SQLStore": "sqlalchemy",
    "SQLiteStore": "sqlite",
    "ThreadedStore": "threaded",
    "as_async": "threaded",
}


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f".{_LAZY[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
