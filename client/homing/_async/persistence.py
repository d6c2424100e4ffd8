"""Loads and saves a conversation, and tracks its version in the store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..core.conversation.settings import ConversationSettings
from ..core.conversation.sync_state import PendingCommit, SyncState
from ..core.conversation.transcript import Turn
from ..errors import HomingError, StoreError, VersionConflict
from ..stores.base import StoredConversation
from ..stores.rules import checked_id
from .client_store import store_for_client
from .turn_lock import AsyncTurnLock

if TYPE_CHECKING:
    from .client_store import AnyStore


class AsyncPersistence:
    """Loads and saves one conversation. Used only by the holder of the turn lock."""

    def __init__(self, store: AnyStore, conversation_id: str, lock: AsyncTurnLock, *, is_new: bool) -> None:
        self.store = store
        self.opened = is_new
        """Whether the stored state is known here. True from the start for a newly generated id."""
        self._face = store_for_client(store)
        self._id = checked_id(conversation_id)
        self._lock = lock
        self._sync_state = SyncState()

    @property
    def version(self) -> int:
        """The stored version known here; 0 for none."""
        return self._sync_state.version

    def behind(self) -> bool:
        """Return whether another object of this client has saved a newer state than the one known here."""
        return self._lock.version not in (0, self._sync_state.version)

    def is_saved(self, turns: Sequence[Turn]) -> bool:
        """Return whether the last known state of the store has exactly these turns."""
        saved = self._sync_state.turns
        return len(saved) == len(turns) and all(one is other for one, other in zip(saved, turns, strict=True))

    async def load(self) -> tuple[ConversationSettings, list[Turn]] | None:
        """Return the store's current state, or None if the conversation doesn't exist."""
        stored = await self._read()
        if stored is None:
            self.opened = True
            self._lock.version = 0
            return None
        header = ConversationSettings.from_dict(stored.header)
        turns = [Turn.from_dict(turn) for turn in stored.turns]
        # The next turn rewrites an older layout, because then the header differs.
        self._sync_state.mark_saved(stored.version, turns, stored.header)
        self._lock.version = stored.version
        self.opened = True
        return header, turns

    async def save(self, turns: Sequence[Turn], header: dict[str, Any]) -> None:
        """Save this state. Raises `VersionConflict`, and `StoreError` for any other failure."""
        change = self._sync_state.pending_commit(turns, header)
        if change is None:
            return
        try:
            version = await self._write(change, turns, header)
        except VersionConflict:
            if not await self._was_ours():
                raise
            change = self._sync_state.pending_commit(turns, header)
            version = self._sync_state.version if change is None else await self._write(change, turns, header)
        self._sync_state.mark_saved(version, turns, header)
        self._lock.version = version

    async def _write(self, change: PendingCommit, turns: Sequence[Turn], header: dict[str, Any]) -> int:
        try:
            return await self._face.commit(
                self._id,
                expected_version=change.expected_version,
                header=change.header,
                keep=change.keep,
                turns=change.turns,
            )
        except VersionConflict:
            raise
        except BaseException as error:
            self._sync_state.mark_uncertain(turns, header)
            if isinstance(error, Exception) and not isinstance(error, HomingError):
                raise StoreError(f"the store failed: {type(error).__name__}: {error}") from error
            raise

    async def _was_ours(self) -> bool:
        """Return whether the newer state is our own write, whose confirmation was lost with the connection."""
        stored = await self._read()
        return stored is not None and self._sync_state.confirm_uncertain(stored.version, stored.turns, stored.header)

    async def _read(self) -> StoredConversation | None:
        try:
            return await self._face.load(self._id)
        except HomingError:
            raise
        except Exception as error:  # from a user's own store
            raise StoreError(f"the store failed: {type(error).__name__}: {error}") from error
