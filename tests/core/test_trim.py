"""Prompts are cut seldom and deep, whole turns at a time, and fit afterwards."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homing.core.conversation.pending_turn import PendingTurn, check_undo, turn_number
from homing.core.conversation.prompt_size import BYTES_PER_TOKEN, MEDIA_WEIGHT, weigh
from homing.core.conversation.transcript import Transcript, Turn, make_turn, user_message
from homing.core.conversation.trim import Trim
from homing.core.encoding.messages import encode_message
from homing.core.errors.server_errors import status_error
from homing.core.telemetry.measurements import PreviousTurn, Telemetry
from homing.errors import ConfigurationError, ContextWindowExceeded


def turn(said: str, reply: str = "", **more: Any) -> Turn:
    telemetry = Telemetry(prompt_tokens=more.pop("prompt_tokens", None))
    return make_turn([user_message(said), {"role": "assistant", "content": reply}], "stop", telemetry, **more)


def refusal(message: str) -> ContextWindowExceeded:
    error = status_error(400, {"message": message})
    assert isinstance(error, ContextWindowExceeded)
    return error


class Engine:
    """Counts tokens as a server would: so many bytes each, plus some for the template."""

    def __init__(self, bytes_per_token: float = 3.0) -> None:
        self.bytes_per_token = bytes_per_token

    def count(self, prompt: list[bytes]) -> int:
        return round(sum(len(message) for message in prompt) / self.bytes_per_token) + 4 * len(prompt)


def talk(trim: Trim, sizes: list[int], engine: Engine, system: str | None = "Be brief.") -> list[tuple[int, int, int]]:
    """Have a conversation of turns of these sizes; return start, prompt tokens and reusable tokens of each."""
    transcript = Transcript(system)
    seen, before = [], list[bytes]()
    for number, size in enumerate(sizes):
        place = PendingTurn([user_message(f"{number:04}" + "x" * size)]).place(transcript, trim)
        prompt = place.prompt()
        common = next((n for n, (a, b) in enumerate(zip(before, prompt, strict=False)) if a != b), len(before))
        seen.append((place.start, engine.count(prompt), engine.count(prompt[:common])))
        before = prompt
        message = {"role": "assistant", "content": "y" * size}
        telemetry = Telemetry(prompt_tokens=engine.count(prompt))
        transcript.append(make_turn([*place.new, message], "stop", telemetry, start=place.start))
    return seen


@given(st.lists(st.integers(1, 900), min_size=1, max_size=40), st.floats(2, 5), st.integers(800, 4000))
def test_prompts_stay_below_the_mark_and_keep_their_beginning(sizes: list[int], ratio: float, high: int) -> None:
    seen = talk(Trim(high=high), sizes, Engine(ratio))
    starts = [start for start, _, _ in seen]
    assert starts == sorted(starts)
    assert max(tokens for _, tokens, _ in seen) <= high * 1.15  # an estimate: the server counts afterwards


def test_water_marks_keep_what_is_cached_where_a_sliding_window_loses_it() -> None:
    # kern-ai#295, openclaw#115281, nanobot#4568, zeroclaw#10674
    def share(trim: Trim) -> float:
        seen = talk(trim, [100] * 400, Engine())[1:]
        return sum(reused for _, _, reused in seen) / sum(tokens for _, tokens, _ in seen)

    assert share(Trim(high=8_000)) > 0.95
    assert share(Trim(high=8_000, low=7_999)) < 0.3


def test_nothing_is_trimmed_below_the_mark_or_without_one() -> None:
    assert {start for start, _, _ in talk(Trim(high=100_000), [500] * 30, Engine())} == {0}
    assert {start for start, _, _ in talk(Trim(), [5000] * 30, Engine())} == {0}


def test_the_last_turn_stays_if_it_can() -> None:
    transcript = Transcript(turns=[turn("a" * 400), turn("b" * 700)])  # 200 tokens and 120
    trim = Trim(high=300, low=10)
    assert trim.start(transcript, 70, upto=None, start=0) == 1
    assert trim.start(transcript, 350, upto=None, start=0) == 2
    assert trim.start(transcript, 5000, upto=None, start=0) == 2  # nothing more can go: the server decides
    assert trim.start(Transcript(), 5000, upto=None, start=0) == 0


def test_a_mark_is_the_last_size_that_is_not_too_long() -> None:
    transcript = Transcript(turns=[turn("a" * 400), turn("b" * 700)])
    first, last = (one.weight for one in transcript.turns)
    new = round(400 * BYTES_PER_TOKEN) - first - last  # 400 tokens in all
    assert Trim(high=400, low=1).start(transcript, new, upto=None, start=0) == 0
    assert Trim(high=399, low=1).start(transcript, new, upto=None, start=0) > 0
    new = round(300 * BYTES_PER_TOKEN) - last  # 300 without the first
    assert Trim(high=300, low=1).start(transcript, new, upto=None, start=0) == 1
    assert Trim(high=299, low=1).start(transcript, new, upto=None, start=0) == 2


@pytest.mark.parametrize(("short_of", "start"), [(0, 1), (1, 2)])
def test_a_refused_prompt_may_fill_the_context_to_its_last_token(short_of: int, start: int) -> None:
    transcript = Transcript(turns=[turn("a" * 400), turn("b" * 700)])
    first, last = (one.weight for one in transcript.turns)
    new = 100
    # A byte is a token here, and one token is left for the reply.
    limit = last + new + 1 - short_of
    said = f"The input ({first + last + new} tokens) is longer than the model's context length ({limit} tokens)."
    assert Trim().start_after(refusal(said), transcript, new, upto=None, start=0, params={}) == start


def test_only_the_servers_own_count_decides_what_a_token_is() -> None:
    said = turn("a" * 700, "b" * 700)
    weight = said.weight
    assert Trim(high=500).start(Transcript(turns=[said]), 0, upto=None, start=0) == 0
    dense = turn("a" * 700, "b" * 700, prompt_tokens=600)  # about one token a byte, as in Chinese
    assert Trim(high=500).start(Transcript(turns=[dense]), 0, upto=None, start=0) == 1
    assert weight / BYTES_PER_TOKEN < 500


@pytest.mark.parametrize(
    ("marks", "words"),
    [
        ({"high": 0}, "high"),
        ({"high": True}, "high"),
        ({"high": "8k"}, "high"),
        ({"high": 8, "low": 0}, "low"),
        ({"high": 8, "low": 8}, "low goes with a high above it"),
        ({"low": 8}, "low goes with a high above it"),
    ],
)
def test_marks_that_make_no_sense(marks: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        Trim(**marks)


SGLANG = "The input (900 tokens) is longer than the model's context length (512 tokens)."
SGLANG_TOTAL = (
    "Requested token count exceeds the model's maximum context length of 512 tokens. You requested a total of "
    "1100 tokens: 900 tokens from the input messages and 200 tokens for the completion."
)
OPENAI = "This model's maximum context length is 512 tokens. However, your messages resulted in 900 tokens."
OPENAI_TOTAL = (
    "This model's maximum context length is 512 tokens. However, you requested 1000 tokens (900 in the messages, "
    "100 in the completion). Please reduce the length of the messages."
)
LLAMA = "the request exceeds the available context size. try increasing the context size or enable context shift"


@pytest.mark.parametrize("said", [SGLANG, SGLANG_TOTAL, OPENAI, OPENAI_TOTAL])
@pytest.mark.parametrize("trim", [Trim(), Trim(high=100_000), Trim(high=200, low=100)])
def test_a_refused_prompt_is_cut_to_what_the_server_takes(said: str, trim: Trim) -> None:
    transcript = Transcript("s", [turn("x" * 150, "y" * 150) for _ in range(10)])
    place = PendingTurn([user_message("z" * 90)]).place(transcript, Trim())
    shorter = replace(place, trim=trim).shortened(refusal(said), {"max_tokens": 200})
    assert shorter is not None
    share = sum(map(len, shorter.prompt())) / sum(map(len, place.prompt()))
    assert 900 * share <= 512 - 200
    assert shorter.previous() == PreviousTurn(prefix_changed=True)


def test_a_refusal_without_numbers_halves_the_prompt() -> None:
    transcript = Transcript("s", [turn("x" * 150, "y" * 150) for _ in range(10)])
    place = PendingTurn([user_message("z")]).place(transcript, Trim())
    shorter = place.shortened(refusal(LLAMA), {})
    assert shorter is not None
    assert shorter.start in (5, 6)
    transcript.append(turn("q", start=shorter.start))
    again = PendingTurn([user_message("z")]).place(transcript, Trim())
    assert again.start == shorter.start  # and stays where it is


@pytest.mark.parametrize(
    ("turns", "new", "params"),
    [
        ([], "z" * 3000, {}),  # what is new is too long by itself
        ([turn("x" * 300)] * 3, "z" * 3000, {}),
        ([turn("x" * 300)] * 8, "z", {"max_completion_tokens": 512}),  # no room is left for any prompt
    ],
)
def test_no_second_try_where_it_would_be_in_vain(turns: list[Turn], new: str, params: dict[str, Any]) -> None:
    place = PendingTurn([user_message(new)]).place(Transcript(turns=turns), Trim())
    assert place.shortened(refusal(SGLANG), params) is None


def test_without_a_trim_a_refusal_stands() -> None:
    place = PendingTurn([user_message("z")]).place(Transcript(turns=[turn("x" * 300)] * 8), None)
    assert place.shortened(refusal(SGLANG), {}) is None


def test_a_picture_weighs_what_it_is_worth_not_what_its_base64_is() -> None:
    text = {"type": "text", "text": "What is this?"}
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 500_000}}
    message = user_message([text, image])
    assert MEDIA_WEIGHT < weigh(message, encode_message(message)) < MEDIA_WEIGHT + 200
    plain = user_message([text, {"text": "no type"}])
    assert weigh(plain, encode_message(plain)) == len(encode_message(plain))
    odd = {"role": "user", "content": ["words"]}
    assert weigh(odd, encode_message(odd)) == len(encode_message(odd))


# -- drafts: where a turn goes ---------------------------------------------------------------------


def test_a_turn_asked_again_has_the_same_prompt() -> None:
    turns = [turn("1", prompt_tokens=5), turn("2", prompt_tokens=8), turn("3", prompt_tokens=9, start=2)]
    transcript = Transcript("s", turns)
    again = PendingTurn(None, -1).place(transcript, None)
    assert (again.upto, again.start, again.new) == (2, 2, [user_message("3")])
    assert again.previous() == PreviousTurn(9, None)
    assert [json.loads(message)["content"] for message in again.prompt()] == ["s", "3"]


def test_a_turn_said_otherwise_tells_that_the_prefix_has_changed() -> None:
    turns = [turn("1", prompt_tokens=5), turn("2", prompt_tokens=8)]
    edited = PendingTurn([user_message("two")], 1).place(Transcript("s", turns), None)
    assert [json.loads(message)["content"] for message in edited.prompt()] == ["s", "1", "two"]
    assert edited.previous() == PreviousTurn(5, None, prefix_changed=True)


def test_a_turn_by_its_number_or_itself() -> None:
    turns = [turn("1"), turn("2"), turn("3")]
    assert [turn_number(turns, wanted) for wanted in (0, 2, -1, -3)] == [0, 2, 2, 0]
    assert turn_number(turns, turns[1]) == 1
    assert turn_number(turns, turn("3")) == 2


@pytest.mark.parametrize(
    ("count", "wanted", "words"),
    [
        (3, 3, "there is no turn 3: the conversation has 3"),
        (3, -4, "there is no turn -4"),
        (0, -1, "no turns yet"),
        (3, True, "turn must be"),
        (3, "last", "turn must be"),
        (3, turn("other"), "no longer"),
    ],
)
def test_a_turn_that_is_not_there(count: int, wanted: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        turn_number([turn(str(number)) for number in range(count)], wanted)


def test_what_undo_leaves() -> None:
    one, two, three = turns = [turn("1"), turn("2"), turn("3")]
    assert check_undo(turns, 1) == ([one, two], (three,))
    assert check_undo(turns, 3) == ([], (one, two, three))
    for n in (0, 4, True, 1.0):
        with pytest.raises(ConfigurationError, match="1 to 3"):
            check_undo(turns, n)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="nothing to undo"):
        check_undo([], 1)
