"""The data that a conversation store holds, and the interface of every store.

A store holds conversations as plain JSON data: a *header* (affinity key, system prompt,
model, defaults, metadata) and a list of *turns*, both opaque to it. The only way to
write is ``commit``, a compare-and-swap on the conversation's version: a write based on an
outdated state raises ``VersionConflict`` and changes nothing. So two browser tabs, two
workers or a retried request can never overwrite or reorder each other's turns
(effect-gates#64, praxis ai#662).

A store implements the blocking interface, `Store`. `homing.stores.as_async` wraps it as an
`AsyncStore`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol, TypeAlias, runtime_checkable

from typing_extensions import Self

Header: TypeAlias = dict[str, Any]
"""JSON object: affinity key, system prompt, model, defaults, metadata."""

Turn: TypeAlias = dict[str, Any]
"""JSON object: messages, finish reason, usage, telemetry of one turn."""

DEFAULT_PAGE = 50
"""Conversations per page: more than a sidebar shows, and only a few kilobytes."""

MAX_PAGE = 1000
"""Conversations. A page, headers included, is held in memory as a whole; request several pages for more."""


@dataclass(frozen=True, slots=True)
class StoredConversation:
    """A conversation as a store returns it. It is a copy: changing it doesn't affect the store.

    Attributes:
        id: The id it was committed under.
        version: Increases by one with each commit. The first version is a random number, not 1,
            so that a writer that still holds a deleted conversation cannot append to a new
            one with the same id.
        header: The header of the latest commit that had one.
        turns: Oldest first.
        created_at: Seconds since the epoch, by the clock of the store that created it.
        updated_at: The same, for the latest commit.
    """

    id: str
    version: int
    header: Header = field(repr=False)  # contains user content, which must not be logged
    turns: list[Turn] = field(repr=False)
    created_at: float
    updated_at: float


@dataclass(frozen=True, slots=True)
class ConversationSummary:
    """A conversation in a listing: everything except its turns, of which it has only the count."""

    id: str
    version: int
    header: Header = field(repr=False)
    turn_count: int
    created_at: float
    updated_at: float


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a listing. ``next_cursor`` is None only on the last page.

    A page may contain fewer conversations than requested, because some were deleted meanwhile.
    """

    items: list[ConversationSummary]
    next_cursor: str | None


@runtime_checkable
class Store(Protocol):
    """Interface of a conversation store. Safe to use from many threads at once.

    To write a store, subclass this or implement the same methods, and run
    `homing.stores.conformance` on the result. All methods raise ``ConfigurationError`` for an
    invalid argument, and ``StoreError`` if the store fails or is closed.
    """

    @abstractmethod
    def commit(
        self,
        conversation_id: str,
        *,
        expected_version: int,
        header: Header | None = None,
        keep: int | None = None,
        turns: Sequence[Turn] = (),
    ) -> int:
        """Change a conversation atomically, and return its new version.

        Returns only once the change is as durable as the store promises.

        Args:
            conversation_id: 1 to 255 printable characters without spaces.
            expected_version: The version this change builds on; 0 creates the conversation.
            header: The new header. None leaves it unchanged (empty, for a new conversation).
            keep: How many of the existing turns to keep, counted from the oldest. None keeps
                all; undo and edit pass a number.
            turns: New turns, appended after the kept ones.

        Raises:
            VersionConflict: The stored version is a different one (``found``), or the
                conversation was deleted (``found`` is None). Nothing was changed.
            ConfigurationError: An argument is not as described, or not JSON.
            StoreError: The store failed. ``load`` shows whether the change was saved.
        """

    @abstractmethod
    def load(self, conversation_id: str) -> StoredConversation | None:
        """Return the conversation with all its turns, or None if it doesn't exist."""

    @abstractmethod
    def list(self, *, limit: int = DEFAULT_PAGE, cursor: str | None = None) -> Page:
        """Return a page of conversations, newest first.

        The order is that of creation, which never changes. So a walk from page to page, even while
        others write, returns every conversation that exists throughout exactly once. (Ordered by
        last use, a conversation written meanwhile would jump past the reader's position.)

        Args:
            limit: Conversations per page, 1 to 1000.
            cursor: The ``next_cursor`` of the previous page. None starts at the newest.
        """

    @abstractmethod
    def delete(self, conversation_id: str) -> bool:
        """Delete a conversation; return whether it existed."""

    @abstractmethod
    def prune(self, *, before: float) -> int:
        """Delete every conversation last written before a given time; return how many.

        Args:
            before: Seconds since the epoch. ``time.time() - 30 * 86400`` keeps a month.
        """

    @abstractmethod
    def close(self) -> None:
        """Finish pending work, and release connections and threads. Calling it twice is harmless."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


@runtime_checkable
class AsyncStore(Protocol):
    """The asynchronous counterpart of `Store`: the same methods, rules and errors.

    A cancelled ``commit`` completes before the cancellation is delivered, so that it is
    never unclear whether a turn was saved.
    """

    @abstractmethod
    async def commit(
        self,
        conversation_id: str,
        *,
        expected_version: int,
        header: Header | None = None,
        keep: int | None = None,
        turns: Sequence[Turn] = (),
    ) -> int:
        """See `Store.commit`."""

    @abstractmethod
    async def load(self, conversation_id: str) -> StoredConversation | None:
        """See `Store.load`."""

    @abstractmethod
    async def list(self, *, limit: int = DEFAULT_PAGE, cursor: str | None = None) -> Page:
        """See `Store.list`."""

    @abstractmethod
    async def delete(self, conversation_id: str) -> bool:
        """See `Store.delete`."""

    @abstractmethod
    async def prune(self, *, before: float) -> int:
        """See `Store.prune`."""

    @abstractmethod
    async def aclose(self) -> None:
        """See `Store.close`."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()
