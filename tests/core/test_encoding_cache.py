"""Growing message lists: the bytes of encoding everything anew, for the work of encoding what is new."""

from __future__ import annotations

import copy
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homing.core.affinity.strategies import prefix_key
from homing.core.encoding import cache as encoding_cache
from homing.core.encoding import messages as encode
from homing.core.encoding.cache import SHORT, EncodingCache
from homing.core.encoding.messages import encode_messages
from homing.errors import ConfigurationError
from homing.types import ChatCompletionMessage

SYSTEM = {"role": "system", "content": "Be terse."}


def talk(turns: int, *, name: str = "q") -> list[Any]:
    messages: list[Any] = [dict(SYSTEM)]
    for turn in range(turns):
        messages += [{"role": "user", "content": f"{name} {turn}"}, {"role": "assistant", "content": f"a {turn}"}]
    return messages


@pytest.fixture
def encodings(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """All messages that are really encoded."""
    seen: list[Any] = []
    real = encode.encode_message

    def noted(message: Any, *, place: int | None = None) -> bytes:
        seen.append(message)
        return real(message, place=place)

    monkeypatch.setattr(encode, "encode_message", noted)
    return seen


def test_each_turn_encodes_what_is_new(encodings: list[Any]) -> None:
    cache, messages = EncodingCache(), talk(2)
    cache.encode(messages)
    for turn in range(50):
        messages += [{"role": "user", "content": str(turn)}, ChatCompletionMessage(role="assistant", content="yes")]
        encodings.clear()
        encoded = cache.encode(list(messages))
        assert encodings == messages[-2:]
        assert encoded == encode_messages(messages)


def test_two_conversations_do_not_disturb_each_other(encodings: list[Any]) -> None:
    cache, one, other = EncodingCache(), talk(3, name="one"), talk(3, name="other")
    for messages in (one, other):
        cache.encode(messages)
    encodings.clear()
    for messages in (one, other):
        messages.append({"role": "user", "content": "and?"})
        assert cache.encode(messages) == encode_messages(messages)
    assert len(encodings) == 2 + len(one) + len(other)  # the check's own included


LEAF = st.sampled_from(["", "a", "b", None, 1, 1.0, True, 0, False])
CONTENT = st.recursive(LEAF, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.just("x"), inner))
MESSAGE = st.one_of(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "tool"]), "content": CONTENT}),
    st.builds(lambda text: ChatCompletionMessage(role="assistant", content=text), st.sampled_from(["a", "b", None])),
    st.builds(lambda x: ChatCompletionMessage.model_validate({"role": "assistant", "content": "a", "x": x}), LEAF),
)
EDITS = st.lists(st.tuples(st.integers(0, 8), MESSAGE), max_size=6)


@given(st.lists(MESSAGE, min_size=SHORT, max_size=8), EDITS, st.booleans())
def test_whatever_is_edited_the_bytes_are_those_of_encoding_it_all(
    messages: list[Any], edits: list[tuple[int, Any]], in_place: bool
) -> None:
    cache = EncodingCache()
    messages = [dict(SYSTEM), {"role": "user", "content": "q"}, *copy.deepcopy(messages)]
    for place, message in [(len(messages), dict(SYSTEM)), *edits]:
        assert cache.encode(messages) == encode_messages(messages)
        messages = messages if in_place else copy.deepcopy(messages)
        target = messages[place] if place < len(messages) else None
        if isinstance(target, dict) and isinstance(message, dict) and place > 1:
            target.update(message)
        else:
            messages.insert(place, copy.deepcopy(message))
    assert cache.encode(messages) == encode_messages(messages)


def test_an_edit_deep_inside_is_seen() -> None:
    cache, messages = EncodingCache(), talk(2)
    messages.append({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "one"}}]})
    model = ChatCompletionMessage.model_validate(
        {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}]}
    )
    messages += [model, {"role": "tool", "content": "1", "tool_call_id": "1"}]
    first = cache.encode(messages)
    messages[-3]["content"][0]["image_url"]["url"] = "two"
    assert model.tool_calls
    model.tool_calls[0].function.arguments = "[]"
    second = cache.encode(messages)
    assert second == encode_messages(messages)
    assert [a == b for a, b in zip(first, second, strict=True)] == [True] * 5 + [False, False, True]


@pytest.mark.parametrize(
    "messages",
    [
        talk(1)[: SHORT - 1],
        tuple(talk(2)),
        [{"role": "user", "content": [{"type": "text", "text": "a"}]}] * SHORT,
        [SYSTEM] * SHORT,
        [ChatCompletionMessage(role="assistant", content="a")] * SHORT,
    ],
)
def test_what_is_not_worth_it_or_has_no_beginning_is_just_encoded(messages: Any) -> None:
    cache = EncodingCache()
    assert cache.encode(messages) == encode_messages(messages)
    assert cache.size == 0


def test_errors_name_the_message_at_fault_and_leave_what_is_known(encodings: list[Any]) -> None:
    cache, messages = EncodingCache(), talk(3)
    cache.encode(messages)
    with pytest.raises(ConfigurationError, match=r"messages\[8\]"):
        cache.encode([*messages, {"role": "user", "content": "?"}, {"content": "no role"}])
    encodings.clear()
    assert cache.encode(messages) == encode_messages(messages)
    assert len(encodings) == len(messages)  # the check's own
    with pytest.raises(ConfigurationError, match="empty"):
        cache.encode([])


def test_old_conversations_are_forgotten_first() -> None:
    size = sum(map(len, encode_messages(talk(10, name="0"))))
    cache = EncodingCache(limit=2 * size)
    for number in (0, 1, 0, 2):
        cache.encode(talk(10, name=str(number)))
        assert 0 < cache.size <= 2 * size
    assert {key[1] for key in cache._known} == {"0 0", "2 0"}
    cache.encode(talk(60, name="big"))
    assert cache.size == 0


def test_threads_may_share_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding_cache, "SHORT", 1)
    cache = EncodingCache(limit=2000)
    wrong: list[str] = []

    def converse(name: str) -> None:
        messages = talk(1, name=name)
        for turn in range(60):
            messages.append({"role": "user", "content": f"{turn} {threading.get_ident()}"})
            if cache.encode(messages) != encode_messages(messages):
                wrong.append(name)

    threads = [threading.Thread(target=converse, args=(str(number % 3),)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert cache.size == sum(known.size for known in cache._known.values())


def test_a_key_can_be_derived_from_a_list_that_begins_with_a_model() -> None:
    greeting = ChatCompletionMessage(role="assistant", content="Hello!")
    question = {"role": "user", "content": "Hi"}
    keys = {prefix_key([greeting, question, *more], salt=b"s") for more in ([], [greeting], [question])}
    assert len(keys) == 1
