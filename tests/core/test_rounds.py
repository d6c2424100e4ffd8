"""What follows a reply in the same turn."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel

from homing.core.conversation.pending_turn import PendingTurn
from homing.core.conversation.transcript import Transcript, make_turn, user_message
from homing.core.rounds.repair import Repair
from homing.core.rounds.rounds import ONE_REQUEST
from homing.core.rounds.tool_run import ToolRun
from homing.core.streaming.accumulator import Accumulator
from homing.core.telemetry.measurements import Telemetry
from homing.errors import ToolError
from homing.reply import Reply, RunReply
from homing.types import ChatCompletionChunk, Finished, RoundStarted, ToolFinished, ToolStarted


class City(BaseModel):
    name: str


def add(a: int, b: int) -> int:
    """Add."""
    return a + b


PLAIN = {"type": "function", "function": {"name": "ask"}}
TOOLS = {"tools": ToolRun([add, PLAIN]).definitions}


def came(content: str | None = None, *calls: tuple[str, str], finish: str = "stop") -> Accumulator:
    made = [
        {"index": i, "id": f"c{i}", "function": {"name": name, "arguments": text}}
        for i, (name, text) in enumerate(calls)
    ]
    return fed({"content": content, "tool_calls": made or None}, finish)


def fed(delta: dict[str, Any], finish: str) -> Accumulator:
    reply = Accumulator()
    reply.update(
        ChatCompletionChunk.model_validate({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
    )
    return reply


def called(*calls: tuple[str, str]) -> Accumulator:
    return came(None, *calls, finish="tool_calls")


ADD = ("add", '{"a": 1, "b": 2}')


def test_one_request() -> None:
    reply: Reply[Any] = Reply({"content": "Hi."}, "stop", Telemetry(), came("Hi.").completion)
    assert ONE_REQUEST.is_answer(called(ADD))
    assert ONE_REQUEST.last_round(stopped=True) == []
    assert ONE_REQUEST.outcome(reply, make_turn([], None), (reply,)) is reply


def test_calls_are_run_and_their_results_sent_back() -> None:
    run, reply = ToolRun([add]), called(ADD)
    assert list(run.first) == [RoundStarted(1)]
    assert not run.is_answer(reply)
    steps = run.steps(reply, {**TOOLS, "tool_choice": "required"})
    assert next(steps).show == [ToolStarted("c0", "add", {"a": 1, "b": 2})]
    assert run.last_round(stopped=True) == []  # nothing has a result yet
    step = next(steps)
    [job] = step.run
    job.succeed(3, 0.5)
    assert [message["role"] for message in run.last_round(stopped=True)] == ["assistant", "tool"]
    step = next(steps)
    assert step.show == [ToolFinished("c0", "add", 3, "3", 0.5), RoundStarted(2)]
    assert [message["role"] for message in step.ask] == ["assistant", "tool"]
    assert step.params == {"tool_choice": "auto"}  # a model that must call in each round would never answer
    assert step.keeps
    assert next(steps, None) is None
    assert run.is_answer(came("Three."))
    assert run.last_round(stopped=False) == []  # what had been said is in the turn's place already


def test_a_tool_that_is_not_here_ends_the_run() -> None:
    run, reply = ToolRun([add, PLAIN]), called(ADD, ("ask", "{}"))
    steps = run.steps(reply, TOOLS)
    next(steps)
    [job] = next(steps).run
    job.succeed(3, 0.5)
    step = next(steps)
    assert (step.show[-1], list(step.ask)) == (Finished("tool_calls"), [])
    assert run.is_answer(reply)
    assert next(steps, None) is None
    whole, stopped = run.last_round(stopped=False), run.last_round(stopped=True)
    assert ([len(one[0]["tool_calls"]) for one in (whole, stopped)], whole[1:]) == ([2, 1], stopped[1:])


def test_a_reply_with_nothing_to_run_is_the_answer() -> None:
    run, reply = ToolRun([add]), fed({"function_call": {"name": "add", "arguments": "{}"}}, "stop")
    assert not run.is_answer(reply)
    assert [step.show for step in run.steps(reply, {})] == [[Finished("stop")]]
    assert run.is_answer(reply)


def test_a_tool_that_fails_may_end_the_run() -> None:
    run = ToolRun([add], on_tool_error="raise")
    steps = run.steps(called(ADD), TOOLS)
    next(steps)
    [job] = next(steps).run
    job.fail(OSError("no"))
    with pytest.raises(ToolError, match="add failed: OSError"):
        next(steps)
    assert len(run.last_round(stopped=True)) == 2


def test_the_outcome_of_a_run() -> None:
    completion = came("Three.").completion
    reply: Reply[Any] = Reply({"role": "assistant", "content": "Three."}, "stop", Telemetry(), completion)
    turn = make_turn([user_message("1 + 2?"), reply.message], "stop")
    whole = ToolRun([add]).outcome(reply, turn, (reply, reply))
    assert isinstance(whole, RunReply)
    assert (whole.text, whole.messages, whole.rounds) == ("Three.", turn.messages, (reply, reply))


def test_a_repair() -> None:
    repair, wrong = Repair(City, 1), came('{"name": 3}')
    assert not repair.is_answer(wrong)
    [step] = repair.steps(wrong, {})
    said, complaint = step.ask
    assert (said["content"], complaint["role"], step.keeps) == ('{"name": 3}', "user", False)
    assert "does not fit the schema City: name" in complaint["content"]
    assert repair.is_answer(wrong)  # none is left
    assert Repair(City, 1).is_answer(came(json.dumps({"name": "Rome"})))


def test_the_place_of_a_turn_that_asks_again() -> None:
    transcript = Transcript("Be terse.", [make_turn([user_message("Hi.")], "stop", Telemetry(prompt_tokens=5))])
    place = PendingTurn([user_message("A city?")]).place(transcript, None)
    first = Telemetry(prompt_tokens=9, replica="r1")
    mended = place.after([user_message("No."), user_message("Again.")], first, keeps=False)
    kept = place.after([{"role": "assistant", "content": "", "reasoning_content": "Hm."}], first)
    assert (mended.new, len(mended.repairs), len(kept.new)) == (place.new, 2, 2)
    assert len(mended.prompt()) == len(place.prompt()) + 2
    assert (place.prefix(first), mended.prefix(first), kept.prefix(first)) == (None, 9, 9)
    again = PendingTurn([{"role": "assistant", "content": "", "reasoning_content": "Hm."}], -1).place(transcript, None)
    assert again.prefix(first) == 5  # the turn had begun before
