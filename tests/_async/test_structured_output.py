"""Structured output in conversations: what fits, what does not, and the second chance."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel, field_validator

import homing
from homing.testing import Answer, Fault, ToolCall, requests_of
from homing_server.local import Edge

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("settled")]


class Weather(BaseModel):
    city: str
    degrees: int

    @field_validator("degrees")
    @classmethod
    def possible(cls, degrees: int) -> int:
        if degrees > 60:
            raise ValueError("it is never that hot")
        return degrees


GOOD = '{"city": "Málaga", "degrees": 31}'
HOT = '{"city": "Málaga", "degrees": 310}'


def sent(edge: Edge, chat: Any) -> list[dict[str, Any]]:
    return [record.request for record in requests_of(edge, chat) if record.request is not None]


async def test_the_engine_fills_the_schema(async_homing_client: homing.AsyncClient) -> None:
    class Plain(BaseModel):
        city: str
        degrees: int

    reply = await async_homing_client.conversation().parse("Weather?", Plain)
    assert isinstance(reply.parsed, Plain)
    assert Plain.model_validate_json(reply.text) == reply.parsed


@pytest.mark.parametrize("bad", [HOT, "It is 31 degrees in Málaga.", '{"city": "Mál', "{}", ""])
async def test_one_repair(async_homing_client: homing.AsyncClient, edge: Edge, bad: str) -> None:
    chat = async_homing_client.conversation(system="S")
    await chat.send("Hello")
    before = chat.history
    edge.answer_next(bad, GOOD)
    reply = await chat.parse("Weather?", Weather, repair=1)
    assert reply.parsed == Weather(city="Málaga", degrees=31)
    # What the history keeps is the question and the answer that fits.
    assert chat.history == [
        *before,
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": GOOD},
    ]
    assert len(chat.turns) == 2
    _, first, second = sent(edge, chat)
    assert second["messages"][:-2] == first["messages"]
    assert second["messages"][-2] == {"role": "assistant", "content": bad}
    assert "does not fit the schema Weather" in second["messages"][-1]["content"]
    assert second["response_format"] == first["response_format"]
    records = requests_of(edge, chat)[-2:]
    assert reply.usage is not None
    assert reply.usage.prompt_tokens == sum(record.tokens.prompt or 0 for record in records)
    assert chat.totals.replies == 3
    after = await chat.send("Thanks.")
    assert after.telemetry.verdict == "warm"
    assert after.telemetry.reusable_tokens == records[0].tokens.prompt


async def test_what_is_wrong_is_told(async_homing_client: homing.AsyncClient, edge: Edge) -> None:
    chat = async_homing_client.conversation()
    edge.answer_next(HOT, GOOD)
    await chat.parse("Weather?", Weather, repair=1)
    assert "degrees: Value error, it is never that hot" in sent(edge, chat)[-1]["messages"][-1]["content"]


async def test_a_repair_that_fails_holds_both_texts(async_homing_client: homing.AsyncClient, edge: Edge) -> None:
    chat = async_homing_client.conversation()
    edge.answer_next(HOT, "Sorry?")
    with pytest.raises(homing.APIResponseValidationError, match="does not fit Weather") as caught:
        await chat.parse("Weather?", Weather, repair=1)
    assert caught.value.partial_text == "Sorry?"
    assert [message["content"] for message in caught.value.messages][:2] == ["Weather?", HOT]
    assert chat.history == []
    edge.answer_next("1", "2", GOOD)
    assert (await chat.parse("Weather?", Weather, repair=2)).parsed.degrees == 31
    edge.answer_next(HOT)
    edge.inject(Fault.answer(422, "no", nth=2))
    with pytest.raises(homing.UnprocessableEntityError) as refused:
        await chat.parse("Weather?", Weather, repair=1)
    assert [message["content"] for message in refused.value.messages][:2] == ["Weather?", HOT]
    assert len(chat.turns) == 1


@pytest.mark.parametrize("repair", [0, 1])
@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (Answer('{"city": "Mál', finish_reason="length"), homing.LengthFinishReasonError, "max_tokens"),
        (Answer("", finish_reason="content_filter"), homing.ContentFilterFinishReasonError, "content filter"),
        (Answer(tool_calls=[ToolCall("f")]), homing.APIResponseValidationError, "called a tool"),
    ],
)
async def test_what_cannot_be_repaired(
    async_homing_client: homing.AsyncClient, edge: Edge, repair: int, answer: Answer, kind: Any, words: str
) -> None:
    chat = async_homing_client.conversation()
    edge.answer_next(answer, GOOD)
    with pytest.raises(kind, match=words) as caught:
        await chat.parse("Weather?", Weather, repair=repair)
    assert caught.value.partial_text == answer.text
    assert chat.history == []
    assert len(sent(edge, chat)) == 1


async def test_a_refusal(async_homing_client: homing.AsyncClient, edge: Edge) -> None:
    # OpenAI's servers have a field of its own for it; the edge's engine, like SGLang, has not.
    said = {"index": 0, "delta": {"role": "assistant", "refusal": "I will not."}, "finish_reason": "stop"}
    edge.inject(Fault.raw(chunk(said) + b"data: [DONE]\n\n", content_type="text/event-stream"))
    chat = async_homing_client.conversation()
    with pytest.raises(homing.RefusalError, match="the model refused: I will not") as caught:
        await chat.parse("Weather?", Weather, repair=1)
    assert caught.value.completion.choices[0].message.refusal == "I will not."
    assert chat.history == []


def chunk(choice: dict[str, Any]) -> bytes:
    body = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(body).encode() + b"\n\n"


@pytest.mark.parametrize("repair", [-1, True, "1", None])
async def test_repair_is_a_number(async_homing_client: homing.AsyncClient, repair: Any) -> None:
    with pytest.raises(homing.ConfigurationError, match="repair must be an integer of at least 0"):
        await async_homing_client.conversation().parse("x", Weather, repair=repair)
