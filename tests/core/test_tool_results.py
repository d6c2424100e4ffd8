"""Calls and results stay together."""

from __future__ import annotations

from typing import Any

import pytest

from homing.core.conversation.submission import Submission
from homing.core.conversation.transcript import Transcript, make_turn
from homing.core.telemetry.measurements import Telemetry
from homing.core.tools.results import as_tool_calls, pending_calls, result_content, with_ids, with_results
from homing.errors import ConfigurationError, ToolError
from homing.types.completion import INTERRUPTED

USER = {"role": "user", "content": "Go."}


def call(name: str) -> dict[str, Any]:
    return {"id": name, "type": "function", "function": {"name": "f", "arguments": "{}"}}


def calling(*names: str) -> dict[str, Any]:
    return {"role": "assistant", "content": "", "tool_calls": [call(name) for name in names]}


def result(name: str, content: str = "ok") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": name, "content": content}


def test_calls_are_told_apart() -> None:
    assert with_ids(USER) == USER
    assert with_ids(calling("a", "b")) == calling("a", "b")
    one, two, three = with_ids(calling("a", "a", ""))["tool_calls"]
    assert one["id"] == "a"
    assert two["id"].startswith("call_")
    assert three["id"].startswith("call_")
    assert two["id"] != three["id"]


@pytest.mark.parametrize(
    ("messages", "waiting"),
    [
        ([], []),
        ([USER], []),
        ([USER, {"role": "assistant", "content": "Hi"}], []),
        ([USER, calling("a", "b")], ["a", "b"]),
        ([USER, calling("a", "b"), result("b")], ["a"]),
        ([USER, calling("a"), result("a")], []),
        ([USER, calling("a"), USER], []),
        ([result("a")], []),
        ([USER, calling("a"), result("a"), calling("b")], ["b"]),
    ],
)
def test_which_calls_wait(messages: list[dict[str, Any]], waiting: list[str]) -> None:
    assert [one["id"] for one in pending_calls(messages, "tool_calls")] == waiting
    assert [one.id for one in as_tool_calls(pending_calls(messages, None))] == waiting
    assert pending_calls(messages, INTERRUPTED) == []


def test_results_stand_in_the_order_of_the_calls() -> None:
    messages = [USER, calling("a", "b", "c"), result("b", "2")]
    put = with_results(messages, {"c": "3", "a": "1"})
    assert put == [USER, calling("a", "b", "c"), result("a", "1"), result("b", "2"), result("c", "3")]
    assert with_results(messages, {}) == messages


def test_a_submission_continues_the_last_turn() -> None:
    first = make_turn([USER, {"role": "assistant", "content": "Hi"}], "stop", Telemetry(prompt_tokens=5))
    waiting = make_turn([USER, calling("a", "b"), result("b", "2")], "tool_calls", Telemetry(prompt_tokens=9), start=1)
    transcript = Transcript("S", [first, waiting])
    place = Submission(results={"a": {"n": 1}}).place(transcript, None)
    assert place.new == [USER, calling("a", "b"), result("a", '{"n":1}'), result("b", "2")]
    assert (place.upto, place.start, place.edited) == (1, 1, False)
    previous = place.previous()
    assert previous is not None
    assert (previous.prompt_tokens, previous.prefix_changed) == (9, False)
    assert Submission(results=["1"]).place(transcript, None).new[2] == result("a", "1")


@pytest.mark.parametrize(
    ("results", "words"),
    [
        ({}, "every tool call that waits needs a result"),
        ({"a": "1", "b": "2"}, "every tool call that waits needs a result"),
        ({"x": "1"}, "every tool call that waits needs a result"),
        ([], "1 tool calls wait for a result, 0 were given"),
        ("1", "results must be a mapping"),
        (3, "results must be a mapping"),
        ([object()], "a tool's result cannot be sent: it returned a object"),
    ],
)
def test_results_that_do_not_match(results: Any, words: str) -> None:
    transcript = Transcript(turns=[make_turn([USER, calling("a")], "tool_calls")])
    with pytest.raises(ConfigurationError, match=words):
        Submission(results=results).place(transcript, None)


@pytest.mark.parametrize("turns", [[], [make_turn([USER], None)], [make_turn([USER, calling("a")], INTERRUPTED)]])
def test_nothing_to_submit_to(turns: Any) -> None:
    with pytest.raises(ConfigurationError, match="no tool call waits for a result"):
        Submission(results=["1"]).place(Transcript(turns=turns), None)


def test_an_exception_as_a_result() -> None:
    assert result_content(ToolError("nobody there")) == "Error: nobody there"
    assert result_content(OSError("secret")) == "Error: the tool failed (OSError)"
