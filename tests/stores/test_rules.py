"""The rules that all stores share, as pure functions."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homing.errors import ConfigurationError, VersionConflict
from homing.stores import Page
from homing.stores.rules import (
    START,
    Commit,
    Position,
    Row,
    StoredState,
    checked_moment,
    decode,
    encode,
    microseconds,
    page_of,
    position_of,
    seconds,
)

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    # Half surrogates too: a stream that is cut inside an emoji leaves one behind.
    | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def change(**arguments: Any) -> Commit:
    defaults: dict[str, Any] = {"expected_version": 0, "header": None, "keep": None, "turns": ()}
    return Commit.checked("c", **{**defaults, **arguments})


@settings(deadline=None)
@given(st.dictionaries(st.text(st.characters(exclude_categories=())), json_values))
def test_json_comes_back_as_it_was(value: dict[str, Any]) -> None:
    text = encode("value", value)
    assert json.dumps(decode(text)) == json.dumps(value)  # order and kind of each number included
    assert "\x00" not in text  # which PostgreSQL refuses
    text.encode()


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ([], "value is list: give a JSON object"),
        ({"x": float("inf")}, "value is not plain JSON data"),
        ({"x": b"bytes"}, "bytes is not JSON serializable"),
        ({("a",): 1}, "keys must be"),
    ],
)
def test_what_is_not_json_is_named(value: object, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        encode("value", value)


def test_what_contains_itself_is_refused() -> None:
    value: dict[str, Any] = {}
    value["x"] = value
    with pytest.raises(ConfigurationError, match="value is not plain JSON"):
        encode("value", value)
    deep: dict[str, Any] = {}
    for _ in range(100_000):
        deep = {"x": deep}
    with pytest.raises(ConfigurationError, match="value is not plain JSON"):
        encode("value", deep)


def test_the_turn_that_is_wrong_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"turns\[1\]"):
        change(turns=[{}, {"x": object()}])


@settings(deadline=None)
@given(st.integers(0, 20), st.none() | st.integers(0, 20), st.integers(0, 5), st.integers(1, 2**40))
def test_a_plan_keeps_and_appends(present: int, keep: int | None, new: int, version: int) -> None:
    asked = change(expected_version=version, keep=keep, turns=[{}] * new)
    head = StoredState(version, present)
    if keep is not None and keep > present:
        with pytest.raises(ConfigurationError, match=f"keep={keep}, but the conversation has {present}"):
            asked.against(head)
        return
    plan = asked.against(head)
    assert plan.version == version + 1
    assert plan.kept == (present if keep is None else keep)
    assert plan.turn_count == plan.kept + new


@pytest.mark.parametrize(
    ("expected", "head", "says"),
    [
        (0, StoredState(7, 1), "exists already. Load it and build on version 7"),
        (6, StoredState(7, 1), "expected version 6, found 7. Load it again"),
        (6, None, "was deleted"),
    ],
)
def test_a_conflict_says_what_to_do(expected: int, head: StoredState | None, says: str) -> None:
    with pytest.raises(VersionConflict, match=says) as caught:
        change(expected_version=expected).against(head)
    assert (caught.value.expected, caught.value.found) == (expected, head.version if head else None)


def test_first_versions_differ() -> None:
    assert len({change().against(None).version for _ in range(100)}) > 95


@pytest.mark.parametrize("value", [-1, 1.0, True, "1", None])
def test_a_version_is_a_whole_number(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="expected_version="):
        change(expected_version=value)


@settings(deadline=None)
@given(st.integers(0, 2**53), st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_a_cursor_comes_back_as_its_position(created_at: int, conversation_id: str) -> None:
    position = Position(created_at, conversation_id)
    assert position_of(position.cursor()) == position


@settings(deadline=None)
@given(st.text() | st.integers() | st.binary())
def test_any_other_cursor_is_refused(cursor: Any) -> None:
    with pytest.raises(ConfigurationError, match="give the next_cursor"):
        position_of(cursor)


def test_no_cursor_is_the_start() -> None:
    assert position_of(None) == START


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_the_last_page_has_no_cursor(count: int) -> None:
    rows = [Row(str(n), 1, "{}", 0, 9 - n, 9) for n in range(count)]
    page = page_of(rows, 2)
    assert [item.id for item in page.items] == ["0", "1"][:count]
    assert (page.next_cursor is None) == (count <= 2)
    assert page_of([], 2) == Page([], None)


@settings(deadline=None)
@given(st.integers(0, 4_000_000_000_000_000))  # the year 2096
def test_times_come_back_exactly(moment: int) -> None:
    assert microseconds(seconds(moment)) == moment


@pytest.mark.parametrize("value", [float("nan"), float("inf"), True, "yesterday", None])
def test_a_moment_is_a_number(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="before="):
        checked_moment("before", value)
