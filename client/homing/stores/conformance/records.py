"""Tests with a single writer."""

from __future__ import annotations

from collections.abc import Callable

from ..base import Turn
from .probe import OpenStore, a_turn, loaded, refused, texts_of, walk


class RecordPromises:
    """Tests with a single writer."""

    durable = True
    """Whether committed data survives closing and reopening the store."""

    def test_a_conversation_reads_back_as_written(self, open_store: OpenStore) -> None:
        """Header, turns, id, version and times are all preserved."""
        with open_store() as store:
            header = {"affinity_key": "k-1", "system": "Be terse.", "metadata": {"title": None}}
            version = store.commit("c", expected_version=0, header=header, turns=[a_turn("a"), a_turn("b")])
            found = loaded(store, "c")
            assert (found.id, found.version, found.header) == ("c", version, header)
            assert texts_of(found) == ["a", "b"]
            assert 0 < found.created_at <= found.updated_at

    def test_an_unknown_conversation_is_none(self, open_store: OpenStore) -> None:
        """An unknown id is neither an error nor an empty conversation."""
        with open_store() as store:
            assert store.load("nobody") is None
            assert store.delete("nobody") is False

    def test_turns_keep_their_order(self, open_store: OpenStore) -> None:
        """Also beyond the tenth and hundredth, where names sort differently from numbers."""
        with open_store() as store:
            version, expected = 0, []
            for number in range(0, 120, 3):
                texts = [str(number + offset) for offset in range(3)]
                version = store.commit("c", expected_version=version, turns=[a_turn(text) for text in texts])
                expected += texts
            assert texts_of(loaded(store, "c")) == expected

    def test_versions_grow_by_one(self, open_store: OpenStore) -> None:
        """A conflict's two versions therefore show how many commits were missed."""
        with open_store() as store:
            first = store.commit("c", expected_version=0)
            assert first > 0
            assert store.commit("c", expected_version=first) == first + 1
            assert loaded(store, "c").version == first + 1

    def test_json_survives_unchanged(self, open_store: OpenStore) -> None:
        """Including key order: the prompt is rebuilt from it, and the replica's cache depends on it."""
        turn: Turn = {
            "z": 1,
            "a": [True, False, None, 0.1, -1.5e300, 2**63 + 1, ""],
            "text": "NUL \x00, quotes \"'`, backslash \\, percent %s, colon :id, line\u2028separator",
            "emoji": "😀 é e\u0301 \uffff",
            "half a pair": "\ud83d",
            "nested": {"b": {"a": [{"b": 1, "a": 2}]}},
        }
        with open_store() as store:
            store.commit("c", expected_version=0, header=turn, turns=[turn])
            found = loaded(store, "c")
            for value in (found.header, found.turns[0]):
                assert value == turn
                assert list(value) == list(turn)
                assert list(value["nested"]["b"]["a"][0]) == ["b", "a"]

    def test_a_large_turn_survives(self, open_store: OpenStore) -> None:
        """An image in a message is a few megabytes of base64."""
        text = "0123456789abcdef" * 200_000
        with open_store() as store:
            store.commit("c", expected_version=0, turns=[a_turn(text)])
            assert texts_of(loaded(store, "c")) == [text]

    def test_ids_are_compared_exactly(self, open_store: OpenStore) -> None:
        """Case, accents and length are significant."""
        ids = ["c", "C", "ç", "c-", "c%", "c_", "会話", "x" * 255, "x" * 254 + "y"]
        with open_store() as store:
            for name in ids:
                store.commit(name, expected_version=0, turns=[a_turn(name)])
            for name in ids:
                assert texts_of(loaded(store, name)) == [name]
            assert sorted(item.id for item in walk(store, limit=4)) == sorted(ids)

    def test_the_header_changes_only_when_given(self, open_store: OpenStore) -> None:
        """None leaves the header unchanged, an empty header clears it."""
        with open_store() as store:
            version = store.commit("c", expected_version=0, header={"system": "x"})
            version = store.commit("c", expected_version=version, turns=[a_turn("a")])
            assert loaded(store, "c").header == {"system": "x"}
            store.commit("c", expected_version=version, header={})
            found = loaded(store, "c")
            assert found.header == {}
            assert texts_of(found) == ["a"]

    def test_keep_drops_the_newest_turns(self, open_store: OpenStore) -> None:
        """As needed for undo, edit and starting over."""
        with open_store() as store:
            version = store.commit("c", expected_version=0, turns=[a_turn(text) for text in "abcd"])
            version = store.commit("c", expected_version=version, keep=3)
            assert texts_of(loaded(store, "c")) == ["a", "b", "c"]
            version = store.commit("c", expected_version=version, keep=1, turns=[a_turn("B")])
            assert texts_of(loaded(store, "c")) == ["a", "B"]
            version = store.commit("c", expected_version=version, keep=0, turns=[a_turn("z")])
            assert texts_of(loaded(store, "c")) == ["z"]
            store.commit("c", expected_version=version, keep=1, turns=[a_turn("y")])
            found = loaded(store, "c")
            assert texts_of(found) == ["z", "y"]
            assert [item.turn_count for item in store.list().items] == [2]

    def test_deleting_takes_everything(self, open_store: OpenStore) -> None:
        """No turn reappears under the same id."""
        with open_store() as store:
            store.commit("c", expected_version=0, header={"h": 1}, turns=[a_turn("a"), a_turn("b")])
            store.commit("d", expected_version=0, turns=[a_turn("d")])
            assert store.delete("c") is True
            assert store.delete("c") is False
            assert store.load("c") is None
            assert [item.id for item in store.list().items] == ["d"]
            store.commit("c", expected_version=0)
            assert (loaded(store, "c").header, texts_of(loaded(store, "c"))) == ({}, [])

    def test_what_was_acknowledged_is_there_after_reopening(self, open_store: OpenStore) -> None:
        """A restart of the program loses nothing, not even the affinity key in the header."""
        if not self.durable:
            return
        with open_store() as store:
            version = store.commit("c", expected_version=0, header={"affinity_key": "k"}, turns=[a_turn("a")])
            version = store.commit("c", expected_version=version, turns=[a_turn("b")])
            store.commit("gone", expected_version=0)
            store.delete("gone")
        with open_store() as store:
            found = loaded(store, "c")
            assert (found.version, found.header) == (version, {"affinity_key": "k"})
            assert texts_of(found) == ["a", "b"]
            assert [item.id for item in store.list().items] == ["c"]
            store.commit("c", expected_version=version, turns=[a_turn("c")])
            assert texts_of(loaded(store, "c")) == ["a", "b", "c"]

    def test_what_is_returned_is_a_copy(self, open_store: OpenStore) -> None:
        """Changing the result, or the committed objects, doesn't affect the store."""
        with open_store() as store:
            header, turn = {"system": ["x"]}, a_turn("a")
            store.commit("c", expected_version=0, header=header, turns=[turn])
            header["system"].append("y")
            turn["messages"].clear()
            loaded(store, "c").header["system"].append("z")
            loaded(store, "c").turns[0]["messages"].clear()
            assert loaded(store, "c").header == {"system": ["x"]}
            assert texts_of(loaded(store, "c")) == ["a"]

    def test_bad_arguments_are_refused(self, open_store: OpenStore) -> None:
        """They raise ``ConfigurationError`` and change nothing."""
        with open_store() as store:
            version = store.commit("c", expected_version=0, turns=[a_turn("a")])
            commit: Callable[..., object] = store.commit  # untyped: a type checker would reject these arguments, too
            for name in ("", "a b", "a\n", "a\x00", "\ud83d", "x" * 256, None):
                refused(commit, name, expected_version=0)
            refused(commit, "c", expected_version=-1)
            refused(commit, "d", expected_version=0, keep=1)
            refused(commit, "c", expected_version=version, keep=2)
            refused(commit, "c", expected_version=version, keep=-1)
            refused(commit, "c", expected_version=version, turns=[a_turn("fine"), {"not JSON": {1, 2}}])
            refused(commit, "c", expected_version=version, turns=[{"not JSON": float("nan")}])
            refused(commit, "c", expected_version=version, turns=["no object"])
            refused(commit, "c", expected_version=version, header=["no object"])
            refused(store.list, limit=0)
            refused(store.list, limit=1001)
            refused(store.list, cursor="no cursor")
            refused(store.prune, before=float("nan"))
            found = loaded(store, "c")
            assert (found.version, texts_of(found)) == (version, ["a"])
            assert [item.id for item in store.list().items] == ["c"]
