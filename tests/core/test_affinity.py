"""Keys that are safe to send, and each way to send them."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homing.core.affinity.strategies import (
    FORK_SIBLINGS,
    MAX_KEY,
    Affinity,
    BodyAffinity,
    CombinedAffinity,
    EchoAffinity,
    HeaderAffinity,
    ModalAffinity,
    NoAffinity,
    check_key,
    fork_keys,
    new_key,
    pinned_headers,
    prefix_key,
    strategy_for,
)
from homing.errors import ConfigurationError

SALT = b"0123456789abcdef"


def sent(strategy: Affinity, key: str = "k", **params: Any) -> tuple[dict[str, str], dict[str, Any]]:
    headers: dict[str, str] = {}
    strategy.apply(key, headers, params)
    return headers, params


def test_new_keys_are_uuids_of_version_7_and_sort_by_age(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_700_000_000_000
    keys = []
    for step in range(50):
        monkeypatch.setattr("time.time_ns", lambda step=step: (now + step) * 1_000_000)
        keys.append(new_key())
    assert keys == sorted(keys)
    for step, key in enumerate(keys):
        value = uuid.UUID(check_key(key))
        assert (value.version, value.variant) == (7, uuid.RFC_4122)
        assert value.int >> 80 == now + step
    assert len({key[-12:] for key in keys}) == 50


PRINTABLE = st.characters(min_codepoint=0x21, max_codepoint=0x7E)
OTHER = st.characters(exclude_characters="".join(map(chr, range(0x21, 0x7F))))


@given(st.text(PRINTABLE, min_size=1, max_size=MAX_KEY))
def test_every_short_key_of_printable_ascii_may_travel(key: str) -> None:
    assert check_key(key) == key


@given(st.text(PRINTABLE, max_size=20), OTHER, st.text())
def test_no_key_with_anything_else_may(before: str, bad: str, after: str) -> None:
    with pytest.raises(ConfigurationError):
        check_key(before + bad + after)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("", "non-empty string"),
        (None, "non-empty string, got NoneType"),
        (b"bytes", "got bytes"),
        ("x" * (MAX_KEY + 1), "has 129 characters, at most 128"),
        ("a\r\nX-Evil: 1", "printable ASCII"),
        ("ключ", "hash or quote it first"),
        ("a b", "without blanks"),
    ],
)
def test_a_key_that_may_not_travel_is_named(key: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        check_key(key, name="my_key")
    assert "my_key" in str(caught.value)


SAID = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
MESSAGE = st.builds(lambda role, text: {"role": role, "content": text}, st.sampled_from(["system", "assistant"]), SAID)


MORE = MESSAGE | st.just({"role": "user", "content": "more"})


@given(st.lists(MESSAGE, max_size=3), SAID, st.lists(MORE, max_size=4))
def test_a_growing_list_keeps_its_key(head: list[Any], question: str, later: list[Any]) -> None:
    opening = [*head, {"role": "user", "content": question}]
    key = prefix_key(opening, salt=SALT)
    assert prefix_key([*opening, *later], salt=SALT) == key == check_key(key)
    assert prefix_key(opening, salt=b"another") != key  # nobody can guess contents from a header


@given(st.lists(MESSAGE, min_size=1, max_size=4), st.lists(MESSAGE, min_size=1, max_size=4))
def test_lists_that_begin_otherwise_have_another_key(one: list[Any], other: list[Any]) -> None:
    assert (prefix_key(one, salt=SALT) == prefix_key(other, salt=SALT)) is (one == other)


@pytest.mark.parametrize(
    ("strategy", "headers", "body", "shown"),
    [
        (HeaderAffinity("X-A", "X_b"), {"X-A": "k", "X_b": "k"}, {}, "HeaderAffinity('X-A', 'X_b')"),
        (ModalAffinity(), {"Modal-Session-ID": "k", "Modal-Routing-Affinity-Key": "k"}, {}, "ModalAffinity()"),
        (ModalAffinity(session_id=False), {"Modal-Routing-Affinity-Key": "k"}, {}, "<Modal-Routing-Affinity-Key>"),
        (ModalAffinity(routing_key=False), {"Modal-Session-ID": "k"}, {}, "<Modal-Session-ID>"),
        (BodyAffinity(), {}, {"prompt_cache_key": "k"}, "BodyAffinity('prompt_cache_key')"),
        (BodyAffinity("session_id"), {}, {"session_id": "k"}, "'session_id'"),
        (EchoAffinity(), {}, {}, "EchoAffinity('x-session-token')"),
        (NoAffinity(), {}, {}, "NoAffinity()"),
        (HeaderAffinity("X-A") + BodyAffinity("b"), {"X-A": "k"}, {"b": "k"}, "('X-A') + BodyAffinity('b')"),
    ],
    ids=repr,
)
def test_where_each_strategy_puts_the_key(
    strategy: Affinity, headers: dict[str, str], body: dict[str, Any], shown: str
) -> None:
    assert isinstance(strategy, Affinity)
    assert sent(strategy) == (headers, body)
    assert shown in repr(strategy)
    strategy.observe("k", {"x-other": "1"})  # an answer that says nothing changes nothing
    assert sent(strategy) == (headers, body)


@pytest.mark.parametrize(
    "make",
    [
        lambda: HeaderAffinity(),
        lambda: HeaderAffinity("Authorization"),
        lambda: HeaderAffinity("X-Fine", "modal-key"),
        lambda: HeaderAffinity("a b"),
        lambda: HeaderAffinity("ключ"),
        lambda: HeaderAffinity(""),
        lambda: ModalAffinity(session_id=False, routing_key=False),
        lambda: BodyAffinity("messages"),
        lambda: EchoAffinity("Cookie"),
    ],
)
def test_a_place_that_is_taken_is_refused(make: Any) -> None:
    with pytest.raises(ConfigurationError):
        make()


def test_a_field_that_the_caller_has_set_stays() -> None:
    assert sent(BodyAffinity("user"), user="mine")[1] == {"user": "mine"}


def test_a_token_of_the_server_goes_back_with_its_conversation_only() -> None:
    echo = EchoAffinity("x-token", response_header="X-Issued")
    echo.observe("a", {"x-issued": "t1"})
    assert sent(echo, "a")[0] == {"x-token": "t1"}
    assert sent(echo, "b")[0] == {}
    echo.observe("a", {"x-issued": "t1"})
    echo.observe("a", {})
    assert sent(echo, "a")[0] == {"x-token": "t1"}
    echo.observe("a", {"x-issued": "t2"})
    assert sent(echo, "a")[0] == {"x-token": "t2"}


def test_a_token_goes_back_with_the_caller_it_was_issued_to_only() -> None:
    echo = EchoAffinity("x-token")
    for strategy in (echo, ModalAffinity() + echo):
        alice, bob = (strategy_for(strategy, lambda caller=caller: caller) for caller in (b"alice", b"bob"))  # type: ignore[misc]
        alice.observe("k", {"x-token": "t"})
        assert sent(alice, "k")[0]["x-token"] == "t"
        assert "x-token" not in sent(bob, "k")[0]
        assert "x-token" not in sent(strategy, "k")[0]


def test_a_strategy_that_keeps_nothing_is_the_same_for_all_and_nobody_is_asked_who_it_is() -> None:
    for strategy in (ModalAffinity(), ModalAffinity() + BodyAffinity()):
        assert strategy_for(strategy, pytest.fail) is strategy


def test_of_too_many_tokens_the_oldest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("homing.core.affinity.strategies.ECHO_MEMORY", 3)
    echo = EchoAffinity("x-token")
    for key in "abc":
        echo.observe(key, {"x-token": key})
    echo.observe("a", {"x-token": "a2"})  # used again, so no longer the oldest
    echo.observe("d", {"x-token": "d"})
    assert [sent(echo, key)[0].get("x-token") for key in "abcd"] == ["a2", None, "c", "d"]


def test_combinations_are_flat_and_pass_answers_on() -> None:
    echo = EchoAffinity("x-token")
    combined = ModalAffinity() + (echo + NoAffinity()) + BodyAffinity("b")
    assert isinstance(combined, CombinedAffinity)
    assert len(combined.parts) == 4
    combined.observe("k", {"x-token": "t"})
    headers, body = sent(combined)
    assert (headers["x-token"], headers["Modal-Session-ID"], body) == ("t", "k", {"b": "k"})


@given(st.integers(0, 40))
def test_of_many_forks_the_first_few_share_their_parents_replica(count: int) -> None:
    shared = fork_keys("parent", count, inherit=True)
    assert len(shared) == count
    assert [key == "parent" for key in shared] == [place < FORK_SIBLINGS for place in range(count)]
    fresh = fork_keys("parent", count, inherit=False)
    assert len({*fresh, "parent"}) == count + 1


class Session(NoAffinity):
    """A strategy with a header for every request."""

    def headers(self) -> dict[str, str]:
        return {"Modal-Authorization": "Bearer jwt"}


def test_some_strategies_want_headers_on_every_request() -> None:
    assert pinned_headers(ModalAffinity()) == {}
    assert pinned_headers(Session()) == {"Modal-Authorization": "Bearer jwt"}
    assert pinned_headers(ModalAffinity() + Session()) == {"Modal-Authorization": "Bearer jwt"}
