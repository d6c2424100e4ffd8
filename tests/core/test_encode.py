"""Requests to bytes: each message once, and nothing that JSON or UTF-8 cannot carry."""

from __future__ import annotations

import json
from collections import UserDict, UserList
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homing.core.encoding.messages import encode_json, encode_message, encode_messages, encode_request
from homing.errors import ConfigurationError
from homing.types import ChatCompletionMessage

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
PARAMS = st.dictionaries(TEXT.filter(lambda name: name != "messages"), JSON, max_size=4)
MESSAGE = st.fixed_dictionaries({"role": TEXT.filter(bool), "content": JSON})


@given(PARAMS, st.lists(MESSAGE, min_size=1, max_size=4))
def test_a_request_joined_from_its_parts_is_the_request(params: dict[str, Any], messages: list[Any]) -> None:
    body = encode_request(params, encode_messages(messages))
    assert json.loads(body) == {"messages": messages, **params}


def test_a_request_without_messages_names_none() -> None:
    # SGLang's /tokenize takes an empty list for a conversation, and refuses it.
    assert encode_request({"prompt": "a"}, []) == b'{"prompt":"a"}'


@given(st.lists(MESSAGE, min_size=1, max_size=4), MESSAGE, PARAMS)
def test_a_longer_history_begins_with_the_same_bytes(history: list[Any], new: Any, params: dict[str, Any]) -> None:
    before = encode_request({}, encode_messages(history))
    after = encode_request(params, encode_messages([*history, new]))
    assert after.startswith(before.removesuffix(b"]}"))


def test_text_is_not_escaped() -> None:
    assert encode_json({"a": "ö 😀"}, name="x") == '{"a":"ö 😀"}'.encode()


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        ({"b", "a"}, ["a", "b"]),
        (frozenset({2, 1}), [1, 2]),
        (UserDict({"a": 1}), {"a": 1}),
        (UserList([1, 2]), [1, 2]),
        (range(3), [0, 1, 2]),
        ((1, 2), [1, 2]),
        (ChatCompletionMessage(content="a"), {"content": "a"}),
    ],
)
def test_what_has_a_plain_form_is_sent_in_it(value: object, plain: object) -> None:
    assert json.loads(encode_json({"v": value}, name="x")) == {"v": plain}


def deep() -> list[Any]:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    return value


CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (float("nan"), "cannot be sent as JSON"),
        (float("-inf"), "cannot be sent as JSON"),
        ("\ud800", "half of a surrogate pair"),
        (object(), "object is not JSON"),
        (b"bytes", "bytes is not JSON"),
        (bytearray(b"bytes"), "bytearray is not JSON"),
        ({(1, 2): 3}, "cannot be sent as JSON"),
        ({1, "a"}, "cannot be sent as JSON"),
        (CIRCLE, "cannot be sent as JSON"),
        (deep(), "cannot be sent as JSON"),
        (ChatCompletionMessage, "cannot be sent as JSON"),
    ],
    ids=["nan", "inf", "surrogate", "object", "bytes", "bytearray", "key", "set", "circle", "deep", "class"],
)
def test_what_cannot_be_sent_is_named(value: object, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        encode_json(value, name="my_field")
    assert "my_field" in str(caught.value)


def test_a_servers_message_goes_back_without_its_nulls() -> None:
    message = ChatCompletionMessage.model_validate(
        {"role": "assistant", "content": None, "refusal": None, "tool_calls": [], "reasoning_content": "hm"}
    )
    sent = json.loads(encode_message(message))
    assert sent == {"role": "assistant", "content": None, "tool_calls": [], "reasoning_content": "hm"}


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ("Hi", "must be a list of messages"),
        (b"Hi", "must be a list of messages"),
        ({"role": "user"}, "must be a list of messages"),
        (None, "must be a list of messages"),
        (5, "must be a list of messages"),
        ([], "messages is empty"),
        (iter(()), "messages is empty"),
        ([{"role": "user"}, "Hi"], r"messages\[1\] must be a mapping .* got str"),
        ([None], r"messages\[0\] must be a mapping"),
        ([{"content": "Hi"}], r"messages\[0\] needs a 'role' .* got None"),
        ([{"role": ""}], "needs a 'role'"),
        ([{"role": 3}], "needs a 'role'"),
        ([{"role": "user", "content": object()}], r"messages\[0\] cannot be sent"),
    ],
)
def test_the_message_at_fault_is_named(messages: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        encode_messages(messages)


def test_a_single_message_has_no_number() -> None:
    with pytest.raises(ConfigurationError, match="the message needs a 'role'"):
        encode_message({})
