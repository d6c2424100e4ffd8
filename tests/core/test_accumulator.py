"""Chunks put together: text, reasoning, tool calls, usage, and when a stream is complete."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from homing.core.streaming.accumulator import Accumulator
from homing.types import (
    ChatCompletionChunk,
    ContentDelta,
    ContentDone,
    Finished,
    LogprobsContentDelta,
    LogprobsContentDone,
    LogprobsRefusalDelta,
    LogprobsRefusalDone,
    ReasoningDelta,
    ReasoningDone,
    RefusalDelta,
    RefusalDone,
    StreamEvent,
    ToolCallArgumentsDelta,
    ToolCallArgumentsDone,
    UsageEvent,
)


def chunk(*choices: dict[str, Any], **fields: Any) -> ChatCompletionChunk:
    return ChatCompletionChunk.model_validate({"choices": list(choices), **fields})


def piece(index: int = 0, finish: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"index": index, "delta": delta, "finish_reason": finish}


def said(text: str) -> ChatCompletionChunk:
    return chunk(piece(content=text))


def tool(arguments: str | None, *, index: int | None = 0, call_id: str | None = None, name: str | None = None) -> Any:
    call = {"index": index, "id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
    return chunk(piece(tool_calls=[call]))


def fed(*chunks: ChatCompletionChunk, n: int = 1) -> Accumulator:
    accumulator = Accumulator(n=n)
    for item in chunks:
        accumulator.update(item)
    return accumulator


def calls(accumulator: Accumulator) -> list[tuple[str, str, str]]:
    made = accumulator.completion.choices[0].message.tool_calls or []
    return [(call.id, call.function.name, call.function.arguments) for call in made]


def unfinished(accumulator: Accumulator) -> list[tuple[str, str]]:
    half = accumulator.completion.choices[0].message.unfinished_tool_calls
    return [(call.function.name, call.function.arguments) for call in half]


END = chunk(piece(finish="stop"))


def test_text() -> None:
    accumulator = Accumulator()
    role = chunk(piece(role="assistant", content=""), id="a", created=3, model="m")
    assert [accumulator.update(c) for c in (role, said("Hel"), said("lo"), END)] == ["", "Hel", "lo", ""]
    completion = accumulator.completion
    assert (completion.id, completion.created, completion.model) == ("a", 3, "m")
    assert completion.choices[0].message.content == "Hello"
    assert completion.choices[0].finish_reason == "stop"


def test_pieces_are_counted() -> None:
    accumulator = fed(said("One"), said(" two"), chunk(piece(reasoning_content="Hm.")), chunk(piece(finish="stop")))
    assert accumulator.pieces == 3


def test_only_the_first_choice_is_text() -> None:
    accumulator = Accumulator(n=2)
    assert accumulator.update(chunk(piece(1, content="b"), piece(0, content="a"))) == "a"
    assert [c.message.content for c in accumulator.completion.choices] == ["a", "b"]
    assert [c.index for c in accumulator.completion.choices] == [0, 1]


def test_events_and_text_keep_the_same_state() -> None:
    both = Accumulator()
    both.update(said("a"))
    events = both.add(said("b"))
    assert isinstance(events[0], ContentDelta)
    assert (events[0].delta, events[0].snapshot) == ("b", "ab")
    assert both.completion == fed(said("a"), said("b")).completion


@given(st.lists(st.text(max_size=3), max_size=12), st.lists(st.booleans(), max_size=12))
def test_any_mixture_of_update_and_add_gives_the_same_reply(texts: list[str], choose: list[bool]) -> None:
    chunks = [chunk(piece(content=t, reasoning_content=t[:1])) for t in texts] + [END]
    mixed, snapshots = Accumulator(), []
    for item, events in zip(chunks, [*choose, *[True] * len(chunks)], strict=False):
        if events:
            snapshots += [e for e in mixed.add(item) if isinstance(e, ContentDelta)]
        else:
            mixed.update(item)
    assert mixed.completion == fed(*chunks).completion
    assert mixed.completion.choices[0].message.content == "".join(texts)
    whole = "".join(texts)
    assert all(whole.startswith(event.snapshot) for event in snapshots)


def test_snapshot_of_an_event_stays_what_it_was() -> None:
    accumulator = Accumulator()
    first = accumulator.add(chunk(piece(content="a"), piece(content="b")))
    accumulator.add(said("c"))
    assert [e.snapshot for e in first if isinstance(e, ContentDelta)] == ["a", "ab"]


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_both_names_of_reasoning(name: str) -> None:  # strands#2354
    accumulator = Accumulator()
    events: list[StreamEvent] = []
    for text in ("let me ", "see"):
        events += accumulator.add(chunk({"delta": {name: text}}))
    events += accumulator.add(chunk(piece(content="42", finish="stop")))
    assert [type(e) for e in events] == [
        ReasoningDelta,
        ReasoningDelta,
        ContentDelta,
        ReasoningDone,
        ContentDone,
    ]
    message = accumulator.completion.choices[0].message
    assert (message.reasoning, message.content) == ("let me see", "42")
    assert message.model_extra == {}


def test_refusal() -> None:
    accumulator = Accumulator()
    events = accumulator.add(chunk(piece(refusal="I ")))
    events += accumulator.add(chunk(piece(refusal="won't", finish="stop")))
    assert [type(e) for e in events] == [RefusalDelta, RefusalDelta, RefusalDone]
    assert accumulator.completion.choices[0].message.refusal == "I won't"
    assert accumulator.has_visible


def test_logprobs_are_concatenated() -> None:
    def token(text: str, kind: str) -> ChatCompletionChunk:
        return chunk({**piece(content=text), "logprobs": {kind: [{"token": text, "logprob": -1.0}]}})

    accumulator = Accumulator()
    events: list[StreamEvent] = []
    for item in (token("a", "content"), token("b", "content"), token("c", "refusal"), END):
        events += accumulator.add(item)
    deltas = [e for e in events if isinstance(e, LogprobsContentDelta)]
    assert [[t.token for t in e.content] for e in deltas] == [["a"], ["b"]]
    assert [[t.token for t in e.snapshot] for e in deltas] == [["a"], ["a", "b"]]
    refusals = [e for e in events if isinstance(e, LogprobsRefusalDelta)]
    assert [[t.token for t in e.refusal] for e in refusals] == [["c"]]
    assert [[t.token for t in e.content] for e in events if isinstance(e, LogprobsContentDone)] == [["a", "b"]]
    assert [[t.token for t in e.refusal] for e in events if isinstance(e, LogprobsRefusalDone)] == [["c"]]
    logprobs = accumulator.completion.choices[0].logprobs
    assert logprobs is not None
    assert [t.token for t in logprobs.content or []] == ["a", "b"]
    assert fed(token("a", "content"), token("b", "content"), token("c", "refusal"), END).completion == (
        accumulator.completion
    )
    refused = fed(token("c", "refusal")).completion.choices[0].logprobs
    assert refused is not None
    assert refused.content is None


def test_progress_tells_liveness_from_work() -> None:  # anthropic-sdk-typescript#867, ante#187
    accumulator = Accumulator()
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    steps = [
        (chunk(piece(role="assistant", content="")), False),
        (chunk(piece(reasoning_content="hm")), True),
        (said("a"), True),
        (chunk(usage=usage), False),
        (tool('{"', name="f"), True),
        (chunk(piece(refusal="no")), True),
        (END, False),
    ]
    for take in (accumulator.update, accumulator.add):
        for item, expected in steps:
            take(item)
            assert accumulator.progress is expected


def test_what_the_caller_may_have_seen() -> None:  # nanobot#4038
    def seen(*chunks: ChatCompletionChunk) -> tuple[bool, bool, bool]:
        accumulator = fed(*chunks)
        return accumulator.has_visible, accumulator.has_reasoning, accumulator.has_tool_calls

    assert seen() == (False, False, False)
    assert seen(chunk(piece(role="assistant", content=""))) == (False, False, False)
    assert seen(chunk(piece(reasoning_content="hm"))) == (False, True, False)
    assert seen(said(" ")) == (True, False, False)
    assert seen(tool("", name="f")) == (False, False, True)


# ---- the end ------------------------------------------------------------------------------


def test_missing_finish_reason_is_truncation() -> None:  # litellm#42140, pydantic-ai#6610
    accumulator = fed(said("half"))
    assert not accumulator.terminal
    assert accumulator.completion.choices[0].message.content == "half"
    assert accumulator.completion.choices[0].finish_reason is None


def test_done_without_finish_reason_is_complete() -> None:  # oh-my-pi#9433
    accumulator = fed(said("whole"))
    accumulator.done = True
    assert accumulator.terminal
    assert not accumulator.complete
    finished = accumulator.finish()
    assert [type(e) for e in finished] == [ContentDone, Finished]
    assert isinstance(finished[-1], Finished)
    assert finished[-1].finish_reason is None


def test_finish_reason_without_done_is_complete() -> None:  # vercel/ai#19165
    assert fed(said("whole"), END).terminal


def test_done_without_any_choice_is_no_reply() -> None:
    accumulator = fed(chunk(usage={"prompt_tokens": 1}))
    accumulator.done = True
    assert not accumulator.started
    assert not accumulator.terminal
    assert accumulator.finish_reason is None
    assert accumulator.completion.choices == []


def test_usage_on_every_chunk_is_no_end() -> None:  # opencode-cmd-provider#213
    accumulator = Accumulator()
    for count in range(1, 4):
        usage = {"prompt_tokens": 9, "completion_tokens": count, "total_tokens": 9 + count}
        events = accumulator.add(chunk(piece(content="x"), usage=usage))
        assert [type(e) for e in events] == [ContentDelta, UsageEvent]
        assert not accumulator.terminal
    assert accumulator.usage is not None
    assert accumulator.usage.completion_tokens == 3


def test_empty_finish_reason_is_none() -> None:
    accumulator = Accumulator()
    events = accumulator.add(chunk(piece(finish="", content="a")))
    assert [type(e) for e in events] == [ContentDelta]
    assert not accumulator.terminal


def test_all_choices_must_end() -> None:
    first, second = chunk(piece(0, content="a", finish="stop")), chunk(piece(1, content="b"))
    assert not fed(first, n=2).complete
    assert not fed(first, second, n=2).complete
    assert fed(first, second, chunk(piece(1, finish="length")), n=2).complete


def test_usage_chunk_after_the_end() -> None:  # apfel#100
    accumulator = fed(said("a"), END, chunk(usage={"prompt_tokens": 5, "prompt_tokens_details": None}))
    assert accumulator.complete
    assert accumulator.usage is not None
    assert accumulator.usage.cached_tokens is None  # not zero: sglang#28801
    assert accumulator.completion.usage == accumulator.usage


# ---- tool calls ---------------------------------------------------------------------------


def test_tool_call_in_sglangs_pieces() -> None:
    accumulator = Accumulator()
    events: list[StreamEvent] = []
    for item in (tool("", call_id="c1", name="f"), tool('{"a"'), tool(": 1}"), chunk(piece(finish="tool_calls"))):
        events += accumulator.add(item)
    deltas = [e for e in events if isinstance(e, ToolCallArgumentsDelta)]
    assert [(e.name, e.index, e.arguments_delta, e.arguments) for e in deltas] == [
        ("f", 0, "", ""),
        ("f", 0, '{"a"', '{"a"'),
        ("f", 0, ": 1}", '{"a": 1}'),
    ]
    done = [e for e in events if isinstance(e, ToolCallArgumentsDone)]
    assert done == [ToolCallArgumentsDone("f", "c1", 0, '{"a": 1}', {"a": 1})]
    assert calls(accumulator) == [("c1", "f", '{"a": 1}')]
    assert accumulator.completion.choices[0].message.content is None


def test_tool_calls_interleaved_by_index() -> None:
    end = chunk(piece(finish="tool_calls"))
    pieces = [
        tool("{", call_id="x", name="f"),
        tool("{", index=1, call_id="y", name="g"),
        tool("}"),
        tool("}", index=1),
    ]
    assert calls(fed(*pieces, end)) == [("x", "f", "{}"), ("y", "g", "{}")]


def test_ids_and_names_repeated_with_each_piece() -> None:
    end = chunk(piece(finish="tool_calls"))
    pieces = [tool("{", call_id="x", name="f"), tool('"a":', call_id="x", name="f"), tool("1}", call_id="x", name="f")]
    assert calls(fed(*pieces, end)) == [("x", "f", '{"a":1}')]


def test_server_that_numbers_all_calls_zero() -> None:
    end = chunk(piece(finish="tool_calls"))
    pieces = [tool("{}", call_id="x", name="f"), tool("{", call_id="y", name="f"), tool("}")]
    assert calls(fed(*pieces, end)) == [("x", "f", "{}"), ("y", "f", "{}")]


def test_server_that_does_not_number_calls() -> None:
    end = chunk(piece(finish="tool_calls"))
    pieces = [
        tool("{", index=None, call_id="x", name="f"),
        tool("}", index=None),
        tool("{}", index=None, call_id="y", name="g"),
    ]
    assert calls(fed(*pieces, end)) == [("x", "f", "{}"), ("y", "g", "{}")]


def test_piece_without_a_function() -> None:
    end = chunk(piece(finish="tool_calls"))
    bare = chunk(piece(tool_calls=[{"index": 0, "id": "x"}]))
    assert calls(fed(bare, tool("{}", name="f"), end)) == [("x", "f", "{}")]
    assert calls(fed(bare, end)) == []  # a call of nothing


def test_stream_that_ends_inside_arguments() -> None:  # command-code#785
    accumulator = fed(said("Let me look."), tool('{"path": "/et', call_id="x", name="rm"))
    assert not accumulator.terminal
    assert calls(accumulator) == []
    assert unfinished(accumulator) == [("rm", '{"path": "/et')]
    dumped = json.dumps(accumulator.completion.model_dump())
    assert "rm" not in dumped  # not sent back either: vercel/ai#10638


@pytest.mark.parametrize("finish", ["length", "abort", "content_filter"])
def test_truncated_arguments_are_never_handed_out(finish: str) -> None:  # ANOLISA#2209
    accumulator = Accumulator()
    events: list[StreamEvent] = []
    whole, half = tool('{"a": 1}', call_id="x", name="f"), tool('{"b": ', index=1, call_id="y", name="g")
    for item in (whole, half, chunk(piece(finish=finish))):
        events += accumulator.add(item)
    events += accumulator.finish()
    assert [e.name for e in events if isinstance(e, ToolCallArgumentsDone)] == ["f"]
    assert calls(accumulator) == [("x", "f", '{"a": 1}')]
    assert unfinished(accumulator) == [("g", '{"b": ')]


@pytest.mark.parametrize("arguments", ["", "12", '"text', "[1]", '{"a": 1} x', "[" * 100_000])
def test_cut_arguments_must_be_an_object_to_count_as_whole(arguments: str) -> None:
    assert calls(fed(tool(arguments, call_id="x", name="f"), chunk(piece(finish="length")))) == []


def test_what_the_model_ended_itself_is_handed_out_as_it_is() -> None:
    accumulator = Accumulator()
    events = accumulator.add(tool("not json", call_id="x", name="f"))
    events += accumulator.add(chunk(piece(finish="tool_calls")))
    assert calls(accumulator) == [("x", "f", "not json")]
    assert [e.parsed_arguments for e in events if isinstance(e, ToolCallArgumentsDone)] == [None]


@given(st.dictionaries(st.text(max_size=5), st.one_of(st.integers(), st.text(max_size=5))), st.data())
def test_no_beginning_of_an_object_passes_for_a_whole_one(value: dict[str, Any], data: st.DataObject) -> None:
    text = json.dumps(value)
    cut = data.draw(st.integers(0, len(text) - 1))
    assert calls(fed(tool(text[:cut], call_id="x", name="f"))) == []
    assert calls(fed(tool(text, call_id="x", name="f"))) == [("x", "f", text)]


# ---- the rest -----------------------------------------------------------------------------


class City(BaseModel):
    name: str


@pytest.mark.parametrize(("text", "parsed"), [('{"name": "Oslo"}', City(name="Oslo")), ("Oslo", None)])
def test_content_is_parsed(text: str, parsed: City | None) -> None:
    accumulator = Accumulator(City)
    events = accumulator.add(chunk(piece(content=text, finish="stop")))
    assert events[-1] == ContentDone(text, parsed)


def test_done_events_come_once() -> None:
    accumulator = Accumulator()
    events = accumulator.add(chunk(piece(content="a", finish="stop")))
    events += accumulator.add(END) + accumulator.finish()
    assert Counter(type(e) for e in events) == {ContentDelta: 1, ContentDone: 1, Finished: 1}


def test_unknown_fields_are_kept_last_wins() -> None:
    accumulator = fed(
        chunk({**piece(content="a", mood=1), "score": 1}, system_fingerprint="f", novelty=1),
        chunk({**piece(content="b", mood=2, role="tool"), "score": 2}, novelty=2, sglext={"x": 1}),
        chunk({**piece(mood=None, finish="stop"), "matched_stop": 7}, novelty=None, system_fingerprint=None),
    )
    completion = accumulator.completion
    assert completion.system_fingerprint == "f"
    assert completion.sglext == {"x": 1}
    assert completion.model_extra == {"novelty": 2}
    assert completion.choices[0].model_extra == {"score": 2}
    assert completion.choices[0].matched_stop == 7
    assert completion.choices[0].message.model_extra == {"mood": 2}
    assert completion.choices[0].message.role == "tool"


def test_a_field_of_the_server_cannot_pose_as_ours() -> None:
    accumulator = fed(chunk(piece(content="a", unfinished_tool_calls="x", parsed=1), created=1))
    assert accumulator.completion.choices[0].message.unfinished_tool_calls == []


def test_long_stream_stays_linear() -> None:
    """No timing: anything quadratic would take minutes here instead of a second."""
    accumulator = Accumulator()
    item, argument = said("x" * 10), tool("y" * 10, name="f")
    for _ in range(50_000):
        accumulator.add(item)
        accumulator.add(argument)
    assert len(accumulator.completion.choices[0].message.content or "") == 500_000


def function(name: str | None = None, arguments: str | None = None, finish: str | None = None) -> ChatCompletionChunk:
    return chunk(piece(finish=finish, function_call={"name": name, "arguments": arguments}))


def test_a_call_in_the_form_before_there_were_tools_is_joined() -> None:
    accumulator = fed(function("weather", ""), function(None, '{"city":'), function("weather", '"Oslo"}'))
    accumulator.update(chunk(piece(finish="function_call")))
    assert accumulator.has_tool_calls
    assert accumulator.complete
    message = accumulator.completion.choices[0].message
    assert message.function_call is not None
    assert (message.function_call.name, message.function_call.arguments) == ("weather", '{"city":"Oslo"}')
    assert message.content is None
    assert message.unfinished_tool_calls == []
    assert message.model_dump(exclude_none=True) == {
        "role": "assistant",
        "function_call": {"name": "weather", "arguments": '{"city":"Oslo"}'},
    }


def test_a_half_written_function_call_is_not_handed_out() -> None:
    accumulator = fed(function("weather", '{"ci'))
    assert accumulator.progress
    message = accumulator.completion.choices[0].message
    assert message.function_call is None
    assert [call.function.arguments for call in message.unfinished_tool_calls] == ['{"ci']
