"""What a store is known to hold of a conversation, and what still has to be saved.

A conversation may be ahead of its store: a save failed, or a stream was dropped without being closed. Each commit
brings the store fully up to date, with all turns that were appended, undone or replaced since the last commit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..encoding.messages import plain_json
from .transcript import Turn


@dataclass(frozen=True, slots=True)
class PendingCommit:
    """The arguments of a store's ``commit``."""

    expected_version: int
    header: dict[str, Any] | None
    keep: int | None
    turns: list[dict[str, Any]]


class SyncState:
    """What is known to be saved of one conversation."""

    def __init__(self) -> None:
        self.version = 0
        """The last known version in the store; 0 while none is known."""
        self.turns: tuple[Turn, ...] = ()
        self.header: dict[str, Any] | None = None
        self._doubtful: tuple[tuple[Turn, ...], Mapping[str, Any]] | None = None

    def pending_commit(self, turns: Sequence[Turn], header: dict[str, Any]) -> PendingCommit | None:
        """Return the commit after which the store holds ``turns`` and ``header``, or None if it already does."""
        kept = 0
        for saved, turn in zip(self.turns, turns, strict=False):
            if saved is not turn:
                break
            kept += 1
        changed = header != self.header
        if not changed and kept == len(turns) == len(self.turns) and self.version:
            return None
        return PendingCommit(
            expected_version=self.version,
            header=header if changed else None,
            keep=kept if kept < len(self.turns) else None,
            turns=[_plain(turn) for turn in turns[kept:]],
        )

    def mark_saved(self, version: int, turns: Sequence[Turn], header: dict[str, Any]) -> None:
        """Record that the store holds this, at ``version``."""
        self.version, self.turns, self.header = version, tuple(turns), header
        self._doubtful = None

    def mark_uncertain(self, turns: Sequence[Turn], header: dict[str, Any]) -> None:
        """Record that the store may hold this: a commit failed, and its outcome is unknown."""
        self._doubtful = tuple(turns), header

    def confirm_uncertain(self, version: int, turns: Sequence[Mapping[str, Any]], header: Mapping[str, Any]) -> bool:
        """Return whether the store holds what an uncertain commit tried to save. If so, mark it as saved."""
        if self._doubtful is None:
            return False
        tried, with_header = self._doubtful
        if dict(header) != with_header or list(turns) != [_plain(turn) for turn in tried]:
            return False
        self.mark_saved(version, tried, dict(header))
        return True


def _plain(turn: Turn) -> dict[str, Any]:
    plain: dict[str, Any] = plain_json(turn.to_dict(), name="the turn")
    return plain
