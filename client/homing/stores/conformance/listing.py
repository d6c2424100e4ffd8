"""Tests of listing and pruning."""

from __future__ import annotations

from ..base import DEFAULT_PAGE, Page
from .probe import OpenStore, a_turn, begin, loaded, walk


class ListingPromises:
    """Tests of listing and pruning."""

    def test_the_listing_has_pages_newest_first(self, open_store: OpenStore) -> None:
        """Lists every conversation once, in order of creation. Each page but the last has a cursor."""
        with open_store() as store:
            assert store.list() == Page([], None)
            names = begin(store, 7)
            for limit in (1, 3, 7, 8, DEFAULT_PAGE):
                assert [item.id for item in walk(store, limit=limit)] == names
            assert store.list(limit=7).next_cursor is None
            page = store.list(limit=3)
            assert len(page.items) == 3
            item, found = page.items[0], loaded(store, names[0])
            assert (item.id, item.version, item.header) == (found.id, found.version, found.header)
            assert (item.created_at, item.updated_at) == (found.created_at, found.updated_at)
            assert item.turn_count == len(found.turns) == 1

    def test_pages_are_stable_while_others_write(self, open_store: OpenStore) -> None:
        """Creating, changing and deleting between pages still lists all other conversations exactly once."""
        with open_store() as store:
            names = begin(store, 9)
            page = store.list(limit=3)
            seen = [item.id for item in page.items]
            assert seen == names[:3]
            store.commit("new", expected_version=0)
            store.delete(names[0])
            store.delete(names[2])
            store.delete(names[4])
            touched = loaded(store, names[7])
            store.commit(names[7], expected_version=touched.version, turns=[a_turn("late")])
            while page.next_cursor is not None:
                page = store.list(limit=2, cursor=page.next_cursor)
                seen += [item.id for item in page.items]
            assert seen == [*names[:4], *names[5:]]

    def test_prune_deletes_what_was_not_used_since(self, open_store: OpenStore) -> None:
        """The time of the latest commit counts, not that of creation."""
        with open_store() as store:
            names = begin(store, 4)
            assert store.prune(before=loaded(store, names[-1]).updated_at) == 0
            oldest = loaded(store, names[-1])
            moment = oldest.updated_at
            while moment <= max(loaded(store, name).updated_at for name in names[:-1]):
                store.commit(names[-1], expected_version=oldest.version, turns=[a_turn("again")])
                oldest = loaded(store, names[-1])
                moment = oldest.updated_at
            assert store.prune(before=moment) == 3
            assert [item.id for item in store.list().items] == [names[-1]]
            assert len(loaded(store, names[-1]).turns) >= 2
            assert store.load(names[0]) is None
