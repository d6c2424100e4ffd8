"""One commit brings a store up to date, whatever was done since the last; none is sent twice."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homing.core.conversation.sync_state import SyncState
from homing.core.conversation.transcript import Turn, make_turn, user_message
from homing.errors import VersionConflict
from homing.stores import MemoryStore

HEADER = {"format": 1, "affinity_key": "k"}


def turn(said: str) -> Turn:
    return make_turn([user_message(said)], "stop")


def said(data: list[dict[str, Any]]) -> list[str]:
    return [one["messages"][0]["content"] for one in data]


class Kept:
    """A real store and the books that are to keep up with it."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.saved = SyncState()

    def save(self, turns: list[Turn], header: dict[str, Any] = HEADER, *, heard: bool = True) -> bool:
        change = self.saved.pending_commit(turns, header)
        if change is None:
            return False
        version = self.store.commit(
            "c", expected_version=change.expected_version, header=change.header, keep=change.keep, turns=change.turns
        )
        if heard:
            self.saved.mark_saved(version, turns, header)
        else:
            self.saved.mark_uncertain(turns, header)
        return True

    def confirm_uncertain(self) -> bool:
        found = self.store.load("c")
        assert found is not None
        return self.saved.confirm_uncertain(found.version, found.turns, found.header)


@given(st.data())
def test_the_store_ends_up_with_what_was_last_said(data: st.DataObject) -> None:
    kept, turns = Kept(), list[Turn]()
    for number in range(data.draw(st.integers(1, 12))):
        turns = turns[: data.draw(st.integers(0, len(turns)))]
        turns += [turn(f"{number}.{place}") for place in range(data.draw(st.integers(0, 2)))]
        header = {**HEADER, "title": data.draw(st.sampled_from("ab"))}
        if data.draw(st.booleans()):
            kept.save(turns, header)
            found = kept.store.load("c")
            assert found is not None
            assert said(found.turns) == said([one.to_dict() for one in turns])
            assert found.header == header
            assert not kept.save(turns, header)  # nothing is owed any more


def test_only_what_is_new_is_sent() -> None:
    kept, first = Kept(), turn("1")
    change = kept.saved.pending_commit([], HEADER)
    assert change is not None  # a conversation without turns is one
    assert (change.expected_version, change.header, change.keep, change.turns) == (0, HEADER, None, [])
    kept.saved.mark_saved(7, [first], HEADER)
    change = kept.saved.pending_commit([first, turn("2")], HEADER)
    assert change is not None
    assert (change.expected_version, change.header, change.keep) == (7, None, None)
    assert said(change.turns) == ["2"]
    change = kept.saved.pending_commit([turn("1")], HEADER)  # equal, but said again: regenerated
    assert change is not None
    assert (change.keep, said(change.turns)) == (0, ["1"])


def test_a_commit_whose_answer_was_lost_is_recognised() -> None:
    kept, turns = Kept(), [turn("1")]
    kept.save(turns, heard=False)
    with pytest.raises(VersionConflict):
        kept.save(turns)
    assert kept.confirm_uncertain()
    assert not kept.save(turns)
    assert kept.save([*turns, turn("2")])


def test_somebody_elses_commit_is_not_taken_for_ours() -> None:
    kept, turns = Kept(), [turn("1")]
    kept.save(turns)
    found = kept.store.load("c")
    assert found is not None
    assert not kept.confirm_uncertain()  # no commit is in doubt
    kept.saved.mark_uncertain([*turns, turn("mine")], HEADER)
    kept.store.commit("c", expected_version=found.version, turns=[turn("theirs").to_dict()])
    assert not kept.confirm_uncertain()
    kept.saved.mark_uncertain([*turns, turn("theirs")], {**HEADER, "title": "mine"})
    assert not kept.confirm_uncertain()
