"""Structured output."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from homing.core.rounds.repair import repair_message
from homing.core.streaming.structured_output import parse_completion, parsed_reply
from homing.errors import (
    APIResponseValidationError,
    ContentFilterFinishReasonError,
    LengthFinishReasonError,
    RefusalError,
)
from homing.types import ChatCompletion


class City(BaseModel):
    name: str


def completion(finish: str = "stop", **message: Any) -> ChatCompletion:
    choice = {"index": 0, "message": message, "finish_reason": finish, "matched_stop": 2}
    return ChatCompletion.model_validate({"id": "a", "choices": [choice], "novelty": 1})


def test_parsed() -> None:
    answer = parse_completion(completion(content='{"name":"Oslo"}', mood="fine"), City)
    assert answer.choices[0].message.parsed == City(name="Oslo")
    assert answer.choices[0].message.content == '{"name":"Oslo"}'
    assert answer.choices[0].message.model_extra == {"mood": "fine"}
    assert answer.choices[0].matched_stop == 2
    assert answer.model_extra == {"novelty": 1}
    assert answer.model_dump()["choices"][0]["message"]["parsed"] == {"name": "Oslo"}


def test_refusal_and_tool_call_have_nothing_to_parse() -> None:
    call = {"id": "x", "function": {"name": "f", "arguments": "{}"}}
    for answer in (completion(refusal="no"), completion(tool_calls=[call])):
        assert parse_completion(answer, City).choices[0].message.parsed is None


def test_cut_content() -> None:
    cut = completion("length", content='{"name":"Os')
    with pytest.raises(LengthFinishReasonError, match="max_tokens") as caught:
        parse_completion(cut, City)
    assert caught.value.completion is cut


def test_withheld_content() -> None:
    withheld = completion("content_filter", content="")
    with pytest.raises(ContentFilterFinishReasonError) as caught:
        parse_completion(withheld, City)
    assert caught.value.completion is withheld


@pytest.mark.parametrize("content", ["Oslo", '{"nom":"Oslo"}', "", None])
def test_content_that_does_not_fit(content: str | None) -> None:
    with pytest.raises(APIResponseValidationError, match="does not fit City") as caught:
        parse_completion(completion(content=content), City)
    assert caught.value.partial_text == (content or "")
    assert "\n" not in str(caught.value)


def test_a_reply_in_the_form_asked_for() -> None:
    assert parsed_reply(completion(content='{"name":"Oslo"}'), City) == City(name="Oslo")


def test_a_reply_in_no_form() -> None:
    call = {"id": "x", "function": {"name": "f", "arguments": "{}"}}
    with pytest.raises(RefusalError, match="the model refused: no") as refused:
        parsed_reply(completion(refusal="no", content="Sorry."), City)
    assert refused.value.partial_text == "Sorry."
    for answer in (completion(tool_calls=[call]), ChatCompletion(choices=[])):
        with pytest.raises(APIResponseValidationError, match="instead of giving a City") as caught:
            parsed_reply(answer, City)
        assert caught.value.partial is answer
    assert LengthFinishReasonError("x", completion=ChatCompletion(choices=[])).partial_text == ""


@pytest.mark.parametrize("content", ["Oslo", '{"nom":"Oslo"}', "", '{"name":'])
def test_what_to_say_to_an_answer_that_does_not_fit(content: str) -> None:
    said = repair_message(completion(content=content), City)
    assert said is not None
    assert said.startswith("That does not fit the schema City: ")
    assert "https://" not in said


def test_where_nothing_is_to_be_said() -> None:
    call = {"id": "x", "function": {"name": "f", "arguments": "{}"}}
    good = completion(content='{"name":"Oslo"}')
    for answer in (
        good,
        completion("length", content='{"name":'),
        completion("content_filter", content=""),
        completion(refusal="no"),
        completion(tool_calls=[call]),
    ):
        assert repair_message(answer, City) is None
