"""What becomes of the calls in a reply."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from pydantic import AfterValidator

from homing.core.conversation.transcript import assistant_message
from homing.core.rounds.tool_run import ToolInvocation, ToolRun, later_choice, name_of
from homing.core.tools.definitions import Tool
from homing.core.tools.results import with_ids
from homing.errors import (
    APIResponseValidationError,
    ConfigurationError,
    ContentFilterFinishReasonError,
    HomingError,
    LengthFinishReasonError,
    MaxRoundsExceeded,
    StreamInterrupted,
    ToolError,
)
from homing.types import ChatCompletion, ToolFailed, ToolFinished, ToolStarted


def explode(value: int) -> int:
    raise KeyError(value)


def add(a: int, b: int = 1) -> int:
    """Add."""
    return a + b


def odd(a: Annotated[int, AfterValidator(explode)]) -> int:
    return a


PLAIN = {"type": "function", "function": {"name": "ask"}}
OFFERED = {"add", "odd", "ask"}


def completion(*calls: tuple[str, str], finish: str | None = "tool_calls", half: int = 0) -> ChatCompletion:
    made = [{"id": f"c{i}", "function": {"name": name, "arguments": text}} for i, (name, text) in enumerate(calls)]
    message: dict[str, Any] = {"tool_calls": made[half:] or None, "unfinished_tool_calls": made[:half]}
    return ChatCompletion.model_validate({"choices": [{"message": message, "finish_reason": finish}]})


def jobs(run: ToolRun, reply: ChatCompletion) -> list[ToolInvocation]:
    return run.jobs(reply, with_ids(assistant_message(reply)), OFFERED)


def test_calls_to_be_run() -> None:
    run = ToolRun([Tool(add, timeout=3), odd, PLAIN], tool_timeout=7)
    first, second = jobs(run, completion(("add", '{"a": 1}'), ("ask", '{"what": 1}')))
    assert (first.waits, first.for_caller, first.arguments, first.timeout) == (True, False, {"a": 1}, 3.0)
    assert first.started == ToolStarted("c0", "add", {"a": 1})
    assert (second.waits, second.for_caller) == (False, True)
    first.succeed(2, 0.5)
    assert first.ended == ToolFinished("c0", "add", 2, "2", 0.5)
    assert first.message == {"role": "tool", "tool_call_id": "c0", "content": "2"}
    assert not first.waits
    assert ToolRun([add], tool_timeout=None).tools["add"].name == "add"


def test_a_reply_without_calls_is_the_answer() -> None:
    run = ToolRun([add])
    assert jobs(run, ChatCompletion(choices=[])) == []
    assert jobs(run, completion(finish="length")) == []


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("add", "{}", "Error: the arguments are not right: a: Field required"),
        ("odd", '{"a": 1}', "Error: the tool failed (KeyError)"),
        ("sub", "{}", "Error: there is no tool sub. The tools are: add, ask, odd"),
        ("ask", "[]", "Error: the arguments are not right: they must be a JSON object"),
        ("ask", "{", "Error: the arguments are not right: they must be a JSON object"),
        ("ask", "[" * 100_000, "Error: the arguments are not right: they must be a JSON object"),
    ],
)
def test_calls_that_come_to_nothing(name: str, text: str, told: str) -> None:
    run = ToolRun([add, odd, PLAIN], on_tool_error="raise")
    [job] = jobs(run, completion((name, text)))
    assert (job.waits, job.for_caller, job.content) == (False, False, told)
    assert isinstance(job.ended, ToolFailed)
    run.check([job])  # the model's mistake, for the model to hear


def test_where_there_are_no_tools_at_all() -> None:
    [job] = ToolRun([]).jobs(completion(("f", "")), with_ids(assistant_message(completion(("f", "")))), ())
    assert job.content == "Error: there is no tool f. The tools are: none"


@pytest.mark.parametrize("finish", ["stop", "tool_calls", "function_call", None])
def test_calls_are_whole_where_the_model_ended(finish: str | None) -> None:
    assert len(jobs(ToolRun([add]), completion(("add", "{"), finish=finish))) == 1


@pytest.mark.parametrize(
    ("finish", "half", "kind"),
    [
        ("length", 0, LengthFinishReasonError),  # command-code#785: it may have been cut between two calls
        ("length", 1, LengthFinishReasonError),
        ("content_filter", 0, ContentFilterFinishReasonError),
        ("abort", 0, StreamInterrupted),
        ("abort", 1, StreamInterrupted),
        (None, 1, StreamInterrupted),
        ("tool_calls", 1, APIResponseValidationError),
    ],
)
def test_calls_that_may_have_been_cut_are_not_run(finish: str | None, half: int, kind: type[HomingError]) -> None:
    reply = completion(("add", '{"a": 1}'), ("add", '{"a": 2}'), finish=finish, half=half)
    with pytest.raises(kind) as caught:
        jobs(ToolRun([add]), reply)
    assert reply in (getattr(caught.value, "completion", None), getattr(caught.value, "partial", None))


def test_nothing_is_run_whose_result_would_not_be_read() -> None:
    run = ToolRun([add, PLAIN], max_rounds=2)
    reply = completion(("add", '{"a": 1}'))
    assert len(jobs(run, reply)) == 1
    run.round = 2
    with pytest.raises(MaxRoundsExceeded, match="add in round 2, the last one") as caught:
        jobs(run, reply)
    assert caught.value.completion is reply
    # Handed to the caller, the call is the end of the run anyway.
    assert len(jobs(run, completion(("add", '{"a": 1}'), ("ask", "{}")))) == 2


def test_what_a_failure_says() -> None:
    job = ToolInvocation({"id": "c", "function": {"name": "add"}}, tool=Tool(add), timeout=1.5)
    job.fail(ToolError("no such number"), 2.0)
    assert job.ended == ToolFailed("c", "add", job.error, "Error: no such number", 2.0)  # type: ignore[arg-type]
    with pytest.raises(ToolError, match="^the tool add failed: no such number$") as caught:
        ToolRun([add], on_tool_error="raise").check([job])
    assert caught.value.__cause__ is job.error
    ToolRun([add]).check([job])
    job.fail(RuntimeError("password"))
    with pytest.raises(ToolError, match="^the tool add failed: RuntimeError$"):
        ToolRun([add], on_tool_error="raise").check([job])
    job.expire()
    assert job.content == "Error: the tool did not end within 1.5 s"
    job.succeed(object(), 0.1)
    assert "cannot be told as JSON" in (job.content or "")


@pytest.mark.parametrize(
    ("tools", "limits", "words"),
    [
        (add, {}, "must be a list"),
        ("add", {}, "must be a list"),
        (PLAIN, {}, "must be a list"),
        ([add, Tool(add)], {}, "two tools have the same name"),
        ([{}], {}, "a tool that is a mapping looks like"),
        ([{"function": {"name": ""}}], {}, "a tool that is a mapping looks like"),
        ([], {"max_rounds": 0}, "max_rounds must be an integer of at least 1"),
        ([], {"max_rounds": True}, "max_rounds"),
        ([], {"tools_at_once": "2"}, "tools_at_once"),
        ([], {"tool_timeout": -1}, "tool_timeout must be a positive number"),
        ([], {"on_tool_error": "skip"}, "on_tool_error"),
    ],
)
def test_what_cannot_be_a_run(tools: Any, limits: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        ToolRun(tools, **limits)


def test_the_name_in_a_definition() -> None:
    assert name_of(PLAIN) == "ask"
    with pytest.raises(ConfigurationError):
        name_of("ask")


@pytest.mark.parametrize(
    ("choice", "later"),
    [(None, None), ("none", "none"), ("auto", "auto"), ("required", "auto"), ({"type": "function"}, "auto")],
)
def test_a_forced_choice_is_for_the_first_round(choice: Any, later: Any) -> None:
    assert later_choice({"tool_choice": choice}) == later
    assert later_choice({}) is None
