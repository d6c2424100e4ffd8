"""A store that fails when it is told to."""

from __future__ import annotations

from typing import Any

from homing.errors import StoreError
from homing.stores import MemoryStore, StoredConversation


class FaultyStore(MemoryStore):
    """``down`` fails every call; ``forgetful`` saves and then loses the answer; ``broken`` raises what it likes."""

    def __init__(self) -> None:
        super().__init__()
        self.down = self.forgetful = self.broken = False
        self.commits = 0

    def commit(self, *arguments: Any, **named: Any) -> int:
        self.check()
        if self.broken:
            raise OSError("a bug in somebody's own store")
        self.commits += 1
        version = super().commit(*arguments, **named)
        if self.forgetful:
            raise StoreError("the connection broke")
        return version

    def load(self, conversation_id: str) -> StoredConversation | None:
        self.check()
        if self.broken:
            raise OSError("a bug in somebody's own store")
        return super().load(conversation_id)

    def check(self) -> None:
        if self.down:
            raise StoreError("the store is down")
