"""The conformance suite catches each way of breaking a promise."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from homing.errors import VersionConflict
from homing.stores import MemoryStore, Page, Store, StoredConversation
from homing.stores.conformance import OpenStore, StoreConformance
from homing.stores.rules import Record

Data = dict[str, StoredConversation]


class SharedMemory(MemoryStore):
    """A correct store whose data outlives it: what the broken ones are made from."""

    def close(self) -> None:
        pass


class LastWriterWins(SharedMemory):
    """Ignores the version: the lost update."""

    def commit(self, conversation_id: str, *, expected_version: int, **change: Any) -> int:
        found = self.load(conversation_id)
        return super().commit(conversation_id, expected_version=found.version if found else 0, **change)


class ChecksThenActs(SharedMemory):
    """Compares the version, but outside of the lock: the race between two writers."""

    def commit(self, conversation_id: str, *, expected_version: int, **change: Any) -> int:
        found = self.load(conversation_id)
        version = found.version if found else 0
        if version != expected_version:
            raise VersionConflict("moved on", expected=expected_version, found=version or None)
        time.sleep(0.01)  # where the other writer comes in between
        latest = self.load(conversation_id)
        return super().commit(conversation_id, expected_version=latest.version if latest else 0, **change)


class SortsTurnsByName(SharedMemory):
    """Orders turns as text: the tenth before the second."""

    def load(self, conversation_id: str) -> StoredConversation | None:
        found = super().load(conversation_id)
        if found:
            found.turns.sort(key=lambda turn: json.dumps(turn, default=str))
        return found


class AcknowledgesBeforeSaving(SharedMemory):
    """Keeps the newest commit in a buffer that a restart empties."""

    def __init__(self) -> None:
        super().__init__()
        self.saved: dict[str, Any] = {}

    def commit(self, conversation_id: str, **change: Any) -> int:
        self.saved[conversation_id] = self._records.get(conversation_id)
        return super().commit(conversation_id, **change)

    def close(self) -> None:
        for conversation_id, record in self.saved.items():
            if record is not None:
                self._records[conversation_id] = record


class PagesByOffset(SharedMemory):
    """A cursor that counts: a deletion before it makes it skip one."""

    def list(self, *, limit: int = 50, cursor: str | None = None) -> Page:
        items = super().list(limit=1000).items
        start = int(cursor) if cursor and cursor.isdigit() else 0
        more = len(items) > start + limit
        return Page(items[start : start + limit], str(start + limit) if more else None)


class PagesByLastUse(SharedMemory):
    """A conversation that is written to jumps over the reader's position."""

    def list(self, *, limit: int = 50, cursor: str | None = None) -> Page:
        items = sorted(super().list(limit=1000).items, key=lambda item: -item.updated_at)
        if cursor is not None:
            items = [item for item in items if item.updated_at < float(cursor)]
        more = len(items) > limit
        return Page(items[:limit], str(items[limit - 1].updated_at) if more else None)


class OldestFirst(SharedMemory):
    def list(self, *, limit: int = 50, cursor: str | None = None) -> Page:
        page = super().list(limit=limit, cursor=cursor)
        return Page(page.items[::-1], page.next_cursor)


class IgnoresKeep(SharedMemory):
    def commit(self, conversation_id: str, *, keep: int | None = None, **change: Any) -> int:
        return super().commit(conversation_id, **change)


class ForgetsTheHeader(SharedMemory):
    """Takes "not given" for "empty"."""

    def commit(self, conversation_id: str, *, header: Any = None, **change: Any) -> int:
        return super().commit(conversation_id, header=header or {}, **change)


class RevivesTheDeleted(SharedMemory):
    def commit(self, conversation_id: str, *, expected_version: int, **change: Any) -> int:
        expected = expected_version if self.load(conversation_id) else 0
        return super().commit(conversation_id, expected_version=expected, **change)


class CountsFromOne(SharedMemory):
    """Versions that a recreated conversation repeats."""

    def __init__(self) -> None:
        super().__init__()
        self.base: dict[str, int] = {}

    def commit(self, conversation_id: str, *, expected_version: int, **change: Any) -> int:
        base = self.base.get(conversation_id, 0)
        try:
            version = super().commit(
                conversation_id, expected_version=expected_version and expected_version + base, **change
            )
        except VersionConflict as conflict:
            found = conflict.found and conflict.found - base
            raise VersionConflict("moved on", expected=expected_version, found=found) from None
        if expected_version == 0:
            self.base[conversation_id] = version - 1
        return version - self.base[conversation_id]


class SortsKeys(SharedMemory):
    """As a database's own JSON type does: the next prompt is no longer the cached one."""

    def load(self, conversation_id: str) -> StoredConversation | None:
        found = super().load(conversation_id)
        if found:
            found.header.update(json.loads(json.dumps(found.header, sort_keys=True)))
            found.turns[:] = [json.loads(json.dumps(turn, sort_keys=True)) for turn in found.turns]
        return found


class LendsItsOwn(SharedMemory):
    """Hands out what it keeps."""

    def __init__(self) -> None:
        super().__init__()
        self.lent: Data = {}

    def load(self, conversation_id: str) -> StoredConversation | None:
        found = super().load(conversation_id)
        kept = self.lent.get(conversation_id)
        if found and kept and kept.version == found.version:
            return kept
        if found:
            self.lent[conversation_id] = found
        return found


class TearsReads(SharedMemory):
    """Reads the header and the turns in two steps."""

    def load(self, conversation_id: str) -> StoredConversation | None:
        header = super().load(conversation_id)
        time.sleep(0.001)  # where a writer comes in between
        turns = super().load(conversation_id)
        if header is None or turns is None:
            return None
        return StoredConversation(
            header.id, turns.version, header.header, turns.turns, header.created_at, turns.updated_at
        )


class IgnoresCase(SharedMemory):
    """As many databases compare text."""

    def load(self, conversation_id: str) -> StoredConversation | None:
        return super().load(conversation_id.lower())

    def commit(self, conversation_id: str, **change: Any) -> int:
        return super().commit(conversation_id.lower(), **change)


class PrunesByCreation(SharedMemory):
    def prune(self, *, before: float) -> int:
        items = self.list(limit=1000).items
        return sum(self.delete(item.id) for item in items if item.created_at < before)


class TakesAnything(SharedMemory):
    """Turns a bad value into some value."""

    def commit(self, conversation_id: str, *, turns: Sequence[Any] = (), **change: Any) -> int:
        plain = [json.loads(json.dumps(turn, default=str)) for turn in turns if isinstance(turn, dict)]
        return super().commit(conversation_id, turns=plain, **change)


class LosesSome(SharedMemory):
    """Acknowledges every fifth commit without its turns."""

    commits = 0

    def commit(self, conversation_id: str, *, turns: Sequence[Any] = (), **change: Any) -> int:
        self.commits += 1
        return super().commit(conversation_id, turns=turns if self.commits % 5 else (), **change)


class InventsConversations(SharedMemory):
    """An empty one for whom nobody knows."""

    def load(self, conversation_id: str) -> StoredConversation | None:
        return super().load(conversation_id) or StoredConversation(conversation_id, 1, {}, [], 1.0, 1.0)


class KeepsNoTimes(SharedMemory):
    def load(self, conversation_id: str) -> StoredConversation | None:
        found = super().load(conversation_id)
        return found and replace(found, created_at=0.0)


class CountsTurns(SharedMemory):
    """Takes the number of turns for a version: an edit leaves it as it was."""

    def commit(self, conversation_id: str, *, turns: Sequence[Any] = (), **change: Any) -> int:
        return super().commit(conversation_id, turns=turns, **change) + len(turns) - 1


class CutsLongText(SharedMemory):
    """As MySQL's TEXT does, at 64 KB."""

    def commit(self, conversation_id: str, *, turns: Sequence[Any] = (), **change: Any) -> int:
        for turn in turns:
            turn["messages"][0]["content"] = turn["messages"][0]["content"][:65535]
        return super().commit(conversation_id, turns=turns, **change)


class LeavesTurnsBehind(SharedMemory):
    """Deletes the conversation, but not its turns."""

    left: Sequence[str] = ()

    def delete(self, conversation_id: str) -> bool:
        record = self._records.get(conversation_id)
        self.left = record.turns if record else self.left
        return super().delete(conversation_id)

    def commit(self, conversation_id: str, *, expected_version: int, **change: Any) -> int:
        version = super().commit(conversation_id, expected_version=expected_version, **change)
        if expected_version == 0:
            record = self._records[conversation_id]
            turns = (*self.left, *record.turns)
            self._records[conversation_id] = Record(replace(record.row, turn_count=len(turns)), turns)
        return version


# Which promise each one breaks; the test that must say so.
BROKEN: list[tuple[Callable[[], Store], str]] = [
    (LosesSome, "test_no_update_is_lost_among_writers_that_retry"),
    (KeepsNoTimes, "test_a_conversation_reads_back_as_written"),
    (InventsConversations, "test_an_unknown_conversation_is_none"),
    (CountsTurns, "test_versions_grow_by_one"),
    (CutsLongText, "test_a_large_turn_survives"),
    (LeavesTurnsBehind, "test_deleting_takes_everything"),
    (MemoryStore, "test_two_open_stores_share_the_conversations"),
    (LastWriterWins, "test_a_stale_version_is_refused_and_changes_nothing"),
    (LastWriterWins, "test_creating_twice_is_refused"),
    (ChecksThenActs, "test_one_of_many_simultaneous_commits_wins"),
    (SortsTurnsByName, "test_turns_keep_their_order"),
    (AcknowledgesBeforeSaving, "test_what_was_acknowledged_is_there_after_reopening"),
    (MemoryStore, "test_what_was_acknowledged_is_there_after_reopening"),
    (PagesByOffset, "test_pages_are_stable_while_others_write"),
    (PagesByLastUse, "test_pages_are_stable_while_others_write"),
    (OldestFirst, "test_the_listing_has_pages_newest_first"),
    (IgnoresKeep, "test_keep_drops_the_newest_turns"),
    (ForgetsTheHeader, "test_the_header_changes_only_when_given"),
    (RevivesTheDeleted, "test_a_deleted_conversation_is_not_revived"),
    (CountsFromOne, "test_a_recreated_conversation_refuses_the_old_ones_writers"),
    (SortsKeys, "test_json_survives_unchanged"),
    (LendsItsOwn, "test_what_is_returned_is_a_copy"),
    (TearsReads, "test_readers_see_whole_commits"),
    (IgnoresCase, "test_ids_are_compared_exactly"),
    (PrunesByCreation, "test_prune_deletes_what_was_not_used_since"),
    (TakesAnything, "test_bad_arguments_are_refused"),
]


def reopening(make: Callable[[], Store]) -> OpenStore:
    """Open one store again and again, as a path to a file does; a MemoryStore is a new one each time."""
    if make is MemoryStore:
        return make
    store = make()
    return lambda: store


@pytest.mark.parametrize(("make", "promise"), BROKEN, ids=lambda value: getattr(value, "__name__", value))
def test_each_broken_promise_is_found(make: Callable[[], Store], promise: str) -> None:
    check = getattr(StoreConformance(), promise)
    check(reopening(SharedMemory))  # the store that the broken one is made from passes
    with pytest.raises((AssertionError, VersionConflict)):
        check(reopening(make))


def test_every_promise_has_a_store_that_breaks_it() -> None:
    promises = {name for name in dir(StoreConformance) if name.startswith("test_")}
    assert promises == {promise for _, promise in BROKEN}
