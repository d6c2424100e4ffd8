"""Helpers for the conformance tests."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias, TypeVar

from ...errors import ConfigurationError, VersionConflict
from ..base import ConversationSummary, Store, StoredConversation, Turn

T = TypeVar("T")

OpenStore: TypeAlias = Callable[[], Store]

RACES = 10
"""How often to repeat a race: enough to detect a bug that shows with a probability of one half or more."""

RACERS = 8
"""Threads in a race: more than most machines have cores, so that some are preempted midway."""


def a_turn(text: str) -> Turn:
    """Return a turn with this text."""
    return {"messages": [{"role": "user", "content": text}], "finish_reason": "stop"}


def texts_of(conversation: StoredConversation) -> list[str]:
    """Return the texts of the turns."""
    return [turn["messages"][0]["content"] for turn in conversation.turns]


def loaded(store: Store, conversation_id: str) -> StoredConversation:
    """Load a conversation that must exist."""
    found = store.load(conversation_id)
    assert found is not None, f"conversation {conversation_id!r} was stored and is not there"
    return found


def begin(store: Store, count: int) -> list[str]:
    """Create conversations with one turn each; return their names, newest first.

    The order of conversations created at the same moment is undefined, so each one is retried
    until its time is later than the previous one's.
    """
    names: list[str] = []
    latest = 0.0
    while len(names) < count:
        name = f"c{(len(names) * 5) % count}"  # so that the order differs from that of the names
        store.commit(name, expected_version=0, header={"name": name}, turns=[a_turn(name)])
        created_at = loaded(store, name).created_at
        if created_at > latest:
            names.append(name)
            latest = created_at
        else:
            store.delete(name)
    return names[::-1]


def walk(store: Store, *, limit: int) -> list[ConversationSummary]:
    """List everything, page by page."""
    page = store.list(limit=limit)
    items = list(page.items)
    while page.next_cursor is not None:
        page = store.list(limit=limit, cursor=page.next_cursor)
        items += page.items
        assert len(items) < 1000, "the listing does not end"
    return items


def conflict(call: Callable[[], object]) -> VersionConflict:
    """Return the `VersionConflict` that ``call`` must raise."""
    try:
        call()
    except VersionConflict as refusal:
        return refusal
    raise AssertionError("a commit on a version that is not the newest was accepted")


def refused(call: Callable[..., object], *arguments: object, **named: object) -> None:
    """Check that an invalid argument is rejected."""
    try:
        call(*arguments, **named)
    except ConfigurationError:
        return
    raise AssertionError(f"accepted: {arguments} {named}")


def race(racer: Callable[[int], T]) -> list[T]:
    """Run ``racer`` in many threads that start together; return all results."""
    start = threading.Barrier(RACERS)

    def run(index: int) -> T:
        start.wait()
        return racer(index)

    with ThreadPoolExecutor(RACERS) as pool:
        return list(pool.map(run, range(RACERS)))


def attempt(store: Store, conversation_id: str, version: int, change: str, index: int) -> Any:
    """Commit a new turn, or only a new header; return the new version or the conflict."""
    name = str(index)
    try:
        if change == "rename":  # no turn's key in the database distinguishes this commit from the others
            return store.commit(conversation_id, expected_version=version, header={"by": name})
        return store.commit(conversation_id, expected_version=version, turns=[a_turn(name)])
    except VersionConflict as refusal:
        return refusal


def append_each(store: Store, conversation_id: str, count: int, index: int) -> list[str]:
    """Append turns one by one, retrying on conflict; return the acknowledged texts."""
    acknowledged: list[str] = []
    while len(acknowledged) < count:
        text = f"{index}.{len(acknowledged)}"
        try:
            version = loaded(store, conversation_id).version
            store.commit(conversation_id, expected_version=version, turns=[a_turn(text)])
        except VersionConflict:
            continue
        acknowledged.append(text)
    return acknowledged
