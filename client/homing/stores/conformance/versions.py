"""Tests with concurrent writers."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from ...errors import VersionConflict
from .probe import RACES, OpenStore, a_turn, append_each, attempt, conflict, loaded, race, texts_of


class VersionPromises:
    """Tests with concurrent writers."""

    durable = True
    """Whether committed data survives closing and reopening the store."""

    def test_a_stale_version_is_refused_and_changes_nothing(self, open_store: OpenStore) -> None:
        """Prevents the lost update, the reason for versions (praxis ai#662)."""
        with open_store() as store:
            first = store.commit("c", expected_version=0, header={"h": 1}, turns=[a_turn("a")])
            second = store.commit("c", expected_version=first, turns=[a_turn("b")])
            for stale in (first, second + 1):
                refusal = conflict(
                    partial(store.commit, "c", expected_version=stale, header={"h": 2}, keep=0, turns=[a_turn("x")])
                )
                assert (refusal.expected, refusal.found) == (stale, second)
            found = loaded(store, "c")
            assert (found.version, found.header, texts_of(found)) == (second, {"h": 1}, ["a", "b"])

    def test_creating_twice_is_refused(self, open_store: OpenStore) -> None:
        """As when two tabs begin the same conversation."""
        with open_store() as store:
            first = store.commit("c", expected_version=0, turns=[a_turn("a")])
            refusal = conflict(partial(store.commit, "c", expected_version=0, turns=[a_turn("b")]))
            assert (refusal.expected, refusal.found) == (0, first)
            assert texts_of(loaded(store, "c")) == ["a"]

    def test_a_deleted_conversation_is_not_revived(self, open_store: OpenStore) -> None:
        """As when a turn was running while the user deleted the conversation."""
        with open_store() as store:
            version = store.commit("c", expected_version=0, turns=[a_turn("a")])
            store.delete("c")
            refusal = conflict(partial(store.commit, "c", expected_version=version, turns=[a_turn("b")]))
            assert (refusal.expected, refusal.found) == (version, None)
            assert store.load("c") is None

    def test_a_recreated_conversation_refuses_the_old_ones_writers(self, open_store: OpenStore) -> None:
        """If it was deleted and recreated elsewhere, a turn of the old conversation doesn't belong in the new one."""
        with open_store() as store:
            old = store.commit("c", expected_version=0, turns=[a_turn("old")])
            store.delete("c")
            new = store.commit("c", expected_version=0, turns=[a_turn("new")])
            refusal = conflict(partial(store.commit, "c", expected_version=old, turns=[a_turn("late")]))
            assert (refusal.expected, refusal.found) == (old, new)
            assert texts_of(loaded(store, "c")) == ["new"]

    def test_two_open_stores_share_the_conversations(self, open_store: OpenStore) -> None:
        """As in two processes: each sees the other's commits, and conflicts on a stale version."""
        if not self.durable:
            return
        with open_store() as one, open_store() as other:
            first = one.commit("c", expected_version=0, turns=[a_turn("a")])
            second = other.commit("c", expected_version=first, turns=[a_turn("b")])
            assert texts_of(loaded(one, "c")) == ["a", "b"]
            assert conflict(partial(one.commit, "c", expected_version=first)).found == second

    def test_one_of_many_simultaneous_commits_wins(self, open_store: OpenStore) -> None:
        """For creating, appending and renaming, from many threads on the same version."""
        with open_store() as store:
            for number in range(RACES):
                name, version, texts = f"c{number}", 0, list[str]()
                for change in ("create", "append", "rename"):
                    outcomes = race(partial(attempt, store, name, version, change))
                    winners = [index for index, outcome in enumerate(outcomes) if isinstance(outcome, int)]
                    assert len(winners) == 1, f"{len(winners)} commits on one version were accepted"
                    version = outcomes[winners[0]]
                    texts.append(str(winners[0]))
                    assert {o.found for o in outcomes if isinstance(o, VersionConflict)} == {version}
                found = loaded(store, name)
                assert [*texts_of(found), found.header["by"]] == texts
                assert found.version == version

    def test_no_update_is_lost_among_writers_that_retry(self, open_store: OpenStore) -> None:
        """With load, append and retry on conflict, every acknowledged turn is stored once, in order."""
        with open_store() as store:
            store.commit("c", expected_version=0)
            acknowledged = race(partial(append_each, store, "c", RACES))
            texts = texts_of(loaded(store, "c"))
            assert sorted(texts) == sorted(text for mine in acknowledged for text in mine)
            for mine in acknowledged:
                assert [text for text in texts if text in mine] == mine

    def test_readers_see_whole_commits(self, open_store: OpenStore) -> None:
        """Header and turns always belong to one version, while a writer replaces both."""
        with open_store() as store:
            version = store.commit("c", expected_version=0, header={"n": 1}, turns=[a_turn("1")])
            done = threading.Event()

            def read() -> int:
                reads = 0
                while not done.is_set() or not reads:
                    found, reads = loaded(store, "c"), reads + 1
                    assert texts_of(found) == [str(found.header["n"])] * found.header["n"]
                return reads

            with ThreadPoolExecutor(2) as pool:
                readers = [pool.submit(read) for _ in range(2)]
                try:
                    for n in range(2, 30):
                        turns = [a_turn(str(n))] * n
                        version = store.commit("c", expected_version=version, header={"n": n}, keep=0, turns=turns)
                finally:
                    done.set()
                assert all(reader.result() for reader in readers)
