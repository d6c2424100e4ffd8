"""Two requests, one reply: no character twice, none lost, one id, one role, one sum."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from homing.core.streaming.splice import SHORTEST_PROOF, STARTED_OVER, NotContinued, Splice, TextSplice
from homing.core.telemetry.measurements import Telemetry
from homing.core.telemetry.resumed_usage import ResumedUsage
from homing.types import ChatCompletion, ChatCompletionChunk, CompletionUsage

WORDS = "The harbour of 神戸 listens for the sound of its own bell 🕊️."


def joined(seam: TextSplice, pieces: list[str]) -> str:
    return "".join([seam.take(piece) for piece in pieces]) + seam.rest()


def split(text: str, cuts: list[int]) -> list[str]:
    places = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    return [text[one:other] for one, other in pairwise(places)]


@given(st.text(), st.text(), st.lists(st.integers(0, 60), max_size=8))
def test_every_cut_and_every_split_joins_to_the_whole(before: str, rest: str, cuts: list[int]) -> None:
    # Where the rest begins like the reply itself, a seam may refuse; it never changes the text.
    try:
        assert before + joined(TextSplice(before), split(rest, cuts)) == before + rest
    except NotContinued:
        assert rest.startswith(before[:STARTED_OVER])


@pytest.mark.parametrize("cut", range(len(WORDS) + 1))
def test_prose_joins_at_every_character_one_by_one(cut: int) -> None:
    assert WORDS[:cut] + joined(TextSplice(WORDS[:cut]), list(WORDS[cut:])) == WORDS


@given(st.text(min_size=1), st.text(), st.lists(st.integers(0, 60), max_size=8))
def test_white_space_that_the_server_was_not_told_of_is_not_doubled(before: str, rest: str, cuts: list[int]) -> None:
    told = before.rstrip()
    owed = before[len(told) :]
    assume(not rest.startswith(told[:SHORTEST_PROOF]))
    assert before + joined(TextSplice(before, owed=owed), split(owed + rest, cuts)) == before + rest


def test_a_server_that_goes_on_without_the_owed_white_space_costs_no_word() -> None:
    assert joined(TextSplice("First.\n\n", owed="\n\n"), ["\n", "Second."]) == "Second."
    assert joined(TextSplice("First. ", owed=" "), ["Second."]) == "Second."
    assert joined(TextSplice("First.\n\n", owed="\n\n"), ["\n"]) == ""


@given(st.lists(st.integers(0, 60), max_size=8))
def test_a_fresh_start_is_found_before_a_character_of_it_is_shown(cuts: list[int]) -> None:
    seam, shown = TextSplice(WORDS[:40]), ""
    with pytest.raises(NotContinued, match="began the reply anew") as caught:
        for piece in split(WORDS, cuts):
            shown += seam.take(piece)
    assert shown == ""
    assert caught.value.ignores


def test_a_short_reply_and_one_that_repeats_itself_prove_nothing() -> None:
    assert joined(TextSplice("No"), ["No", "No"]) == "NoNo"
    loop = "self count self count self count self count "
    assert joined(TextSplice(loop), [loop]) == loop
    assert joined(TextSplice("Once upon"), ["Once", " more"]) == "Once more"


def chunk(content: str | None = None, **choice: Any) -> ChatCompletionChunk:
    delta = choice.pop("delta", {} if content is None else {"content": content})
    return ChatCompletionChunk.model_validate(
        {"id": "second", "created": 2, "model": "m2", "choices": [{"index": 0, "delta": delta, **choice}]}
    )


def join(text: str = "One two", resumed_usage: ResumedUsage | None = None) -> Splice:
    partial = ChatCompletion.model_validate(
        {"id": "first", "created": 1, "model": "m1", "choices": [{"index": 0, "message": {"content": text}}]}
    )
    return Splice(partial, resumed_usage or ResumedUsage())


def test_the_chunks_of_the_rest_are_the_replys_own() -> None:
    joint = join()
    assert joint.at == 7
    assert joint.take(chunk(delta={"role": "assistant", "content": ""})) is None
    assert joint.take(chunk(delta={"reasoning_content": None})) is None
    first = joint.take(chunk(delta={"role": "assistant", "content": " three"}))
    assert first is not None
    assert (first.id, first.created, first.model) == ("first", 1, "m1")
    assert first.choices[0].delta.role is None
    assert first.model_dump(exclude_unset=True)["choices"][0]["delta"] == {"content": " three"}
    end = joint.take(chunk(finish_reason="stop"))
    assert end is not None
    assert end.choices[0].finish_reason == "stop"
    other = ChatCompletionChunk.model_validate({"id": "second", "choices": [], "sglext": {"a": 1}})
    assert joint.take(other) is other
    assert other.id == "first"


@pytest.mark.parametrize("end", [{"finish_reason": "stop"}, {"delta": {"tool_calls": [{"index": 0}]}}])
def test_what_is_held_comes_before_the_end(end: dict[str, Any]) -> None:
    joint = join("Once upon")
    assert joint.take(chunk("Once")) is None
    last = joint.take(chunk(**end))
    assert last is not None
    assert last.choices[0].delta.content == "Once"
    assert joint.rest() is None


def test_what_is_held_comes_with_done() -> None:
    joint = join("Once upon")
    assert joint.take(chunk("Once")) is None
    last = joint.rest()
    assert last is not None
    assert (last.id, last.choices[0].delta.content) == ("first", "Once")


def test_an_answer_is_never_put_inside_a_thinking_block() -> None:
    # The third trap of DEMAND's design notes; flux-2-swift-mlx#70, ChatterUI#360
    with pytest.raises(NotContinued, match="took the reply's text for thoughts") as caught:
        join().take(chunk(delta={"reasoning_content": "Hm."}))
    assert not caught.value.ignores


def usage(prompt: int, completion: int, cached: int | None = None) -> CompletionUsage:
    return CompletionUsage.model_validate(
        {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": cached},
        }
    )


def test_usage_is_that_of_all_requests() -> None:
    resumed_usage, told = ResumedUsage(), Telemetry()
    resumed_usage.fill(told)
    assert told == Telemetry()
    resumed_usage.begin(5)
    report = ChatCompletionChunk(choices=[], usage=usage(15, 7, cached=14))
    summed = join(resumed_usage=resumed_usage).take(report)
    assert summed is report
    assert report.usage == usage(10 + 15, 5 + 7, cached=14)
    told.cached_tokens = 14
    resumed_usage.fill(told)
    assert (told.prompt_tokens, told.completion_tokens, told.cached_tokens) == (10, 12, 10)
    resumed_usage.begin(12)
    assert resumed_usage.total(usage(22, 3)).prompt_tokens == 10 + 15 + 22
    resumed_usage.fill(unknown := Telemetry())
    assert (unknown.prompt_tokens, unknown.completion_tokens, unknown.cached_tokens) == (10, 15, None)


def test_what_nobody_counted_is_not_guessed() -> None:
    resumed_usage, told = ResumedUsage(), Telemetry(prompt_tokens=15)
    resumed_usage.begin(None)
    assert resumed_usage.total(usage(15, 7)) == usage(15, 7)
    resumed_usage.fill(told)
    assert told == Telemetry(prompt_tokens=15)
