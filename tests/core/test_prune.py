"""What an interrupted turn leaves behind never breaks the next prompt."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homing.core.conversation.prune import pruned

USER = {"role": "user", "content": "Hi"}


def call(name: str) -> dict[str, Any]:
    return {"id": name, "type": "function", "function": {"name": "f", "arguments": "{}"}}


def calls(*names: str, content: str = "") -> dict[str, Any]:
    return {"role": "assistant", "content": content, "tool_calls": [call(name) for name in names]}


def result(name: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": name, "content": "42"}


SAID = {"role": "assistant", "content": "It is 42."}


@pytest.mark.parametrize(
    ("said", "sent"),
    [
        ([USER, calls("a"), result("a"), SAID], [USER, calls("a"), result("a"), SAID]),
        ([USER, calls("a")], [USER]),  # vercel/ai#10638: stopped before the tool had answered
        ([USER, calls("a", content="Let me see.")], [USER, {"role": "assistant", "content": "Let me see."}]),
        ([USER, calls("a", "b"), result("b")], [USER, calls("b"), result("b")]),
        ([USER, result("a"), SAID], [USER, SAID]),
        ([result("a"), calls("a"), SAID], [SAID]),  # an answer that came before its call is none
        ([USER, calls("a"), result("a"), result("a")], [USER, calls("a"), result("a")]),
        ([USER, calls("a"), SAID, result("a")], [USER, SAID]),
        ([USER, calls("a", "b"), result("b"), result("a")], [USER, calls("a", "b"), result("a"), result("b")]),
        ([USER, {"role": "assistant", "content": ""}], [USER]),
        ([USER, {"role": "assistant", "content": None, "tool_calls": None}], [USER]),
        ([USER, {"role": "assistant", "content": "", "tool_calls": [{"function": {}}]}], [USER]),
        ([USER, {**SAID, "reasoning_content": "hm", "reasoning": "hm"}], [USER, SAID]),
        ([{"role": "developer", "content": ""}], [{"role": "developer", "content": ""}]),
        ([], []),
    ],
)
def test_what_is_repeated(said: list[dict[str, Any]], sent: list[dict[str, Any]]) -> None:
    before = [dict(message) for message in said]
    assert pruned(said) == sent
    assert said == before


MESSAGE = st.one_of(
    st.just(USER),
    st.lists(st.sampled_from("abc"), max_size=3, unique=True).map(lambda names: calls(*names)),
    st.sampled_from("abc").map(result),
    st.just(SAID),
    st.just({"role": "assistant", "content": ""}),
)


@given(st.lists(MESSAGE, max_size=8))
def test_every_call_has_its_answer_and_every_answer_its_call(said: list[dict[str, Any]]) -> None:
    sent = pruned(said)
    pending: list[str] = []
    for message in sent:
        if message["role"] == "tool":
            pending.remove(message["tool_call_id"])
            continue
        assert not pending
        if message["role"] == "assistant":
            assert message["content"] or message["tool_calls"]
            pending = [one["id"] for one in message.get("tool_calls", ())]
    assert not pending
    assert pruned(sent) == sent
