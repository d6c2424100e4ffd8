"""What a reply may hold, as real SGLang writes it."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from homing import Client, MaxRoundsExceeded

from .conftest import PLAIN, THINKING

WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather now.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CALL = r'Sure\. <tool_call>\n\{"name": "weather", "arguments": \{"city": "(Oslo|Rome)"\}\}\n</tool_call>'
ASK: list[Any] = [{"role": "user", "content": "Tell me."}]


class Verdict(BaseModel):
    fine: bool
    side: Literal["left", "right"]


def test_a_schema_is_kept_to(client: Client) -> None:
    reply = client.conversation(**PLAIN).parse("Which?", Verdict, max_tokens=200)
    assert isinstance(reply.parsed, Verdict)
    assert json.loads(reply.text) == reply.parsed.model_dump()


def test_a_regex_is_kept_to(client: Client) -> None:
    reply = client.conversation(**PLAIN).send("Are you there?", regex="(yes|no) sir", max_tokens=30)
    assert reply.text in ("yes sir", "no sir")
    assert reply.finish_reason == "stop"


@pytest.mark.parametrize("streamed", [False, True])
def test_a_tool_is_called_and_its_answer_goes_back(client: Client, streamed: bool) -> None:
    chat = client.conversation(tools=[WEATHER], **PLAIN)
    if streamed:
        with chat.stream("Weather?", regex=CALL, max_tokens=200) as stream:
            kinds = [event.type for event in stream]
            reply = stream.reply()
        assert "tool_calls.function.arguments.delta" in kinds
        assert "tool_calls.function.arguments.done" in kinds
    else:
        reply = chat.send("Weather?", regex=CALL, max_tokens=200)
    (call,) = reply.tool_calls
    assert (reply.text.strip(), reply.finish_reason) == ("Sure.", "tool_calls")
    assert call.function.name == "weather"
    assert json.loads(call.function.arguments) in ({"city": "Oslo"}, {"city": "Rome"})
    messages: list[Any] = [*chat.history, {"role": "tool", "tool_call_id": call.id, "content": "3 degrees, rain"}]
    after = client.chat.completions.create(messages=messages, tools=[WEATHER], max_tokens=4, **PLAIN)
    assert after.choices[0].message.content


def test_a_run_with_tools(client: Client) -> None:
    asked: list[str] = []

    def weather(city: Literal["Oslo", "Rome"]) -> dict[str, Any]:
        """The weather now."""
        asked.append(city)
        return {"city": city, "degrees": 3}

    chat = client.conversation(tools=[weather], **PLAIN)
    # The grammar that makes random weights call holds for every round, so that the run has no end of its own.
    with pytest.raises(MaxRoundsExceeded) as caught:
        chat.run("Weather?", regex=CALL, max_tokens=200, max_rounds=2)
    assert len(asked) == 1
    roles = [message["role"] for message in caught.value.messages]
    assert (roles, chat.history) == (["user", "assistant", "tool"], [])

    reply = chat.run("Weather?", [WEATHER], regex=CALL, max_tokens=200)
    [call] = reply.pending
    answer = chat.submit({call.id: weather("Oslo")}, [WEATHER], regex="It is (cold|warm) there", max_tokens=30)
    assert answer.text in ("It is cold there", "It is warm there")
    assert [message["role"] for message in chat.history] == ["user", "assistant", "tool", "assistant"]
    assert (len(chat.turns), answer.telemetry.verdict) == (1, "warm")


def test_a_thought_and_its_answer_are_told_apart(client: Client, end_of_thought: str) -> None:
    # The bias is small, so that there are words before the thought ends; the grammar holds only after it.
    params: dict[str, Any] = {
        **THINKING,
        "regex": "the answer is (yes|no)",
        "logit_bias": {end_of_thought: 1.4},
        "max_tokens": 900,
    }
    with client.conversation().stream("Yes or no?", **params) as stream:
        kinds = [event.type for event in stream]
        reply = stream.reply()
    assert reply.text in ("the answer is yes", "the answer is no")
    assert reply.reasoning
    assert kinds.index("reasoning.delta") < kinds.index("content.delta")
    assert reply.usage is not None
    whole = client.conversation().send("Yes or no?", **params)
    assert (whole.reasoning, whole.text) == (reply.reasoning, reply.text)


def test_several_choices(client: Client) -> None:
    lively: dict[str, Any] = {**PLAIN, "temperature": 0.8}
    made = client.chat.completions.create(messages=ASK, n=2, max_tokens=6, **lively)
    assert [choice.index for choice in made.choices] == [0, 1]
    assert all(choice.message.content for choice in made.choices)
    assert made.usage is not None
    assert made.usage.completion_tokens == 12
    seen: dict[int, str] = {0: "", 1: ""}
    with client.chat.completions.create(messages=ASK, n=2, max_tokens=6, stream=True, **PLAIN) as chunks:
        for chunk in chunks:
            for choice in chunk.choices:
                seen[choice.index] += choice.delta.content or ""
    assert seen[0]
    assert seen[0] == seen[1], "at temperature 0"


def test_logprobs(client: Client) -> None:
    made = client.chat.completions.create(messages=ASK, max_tokens=3, logprobs=True, top_logprobs=2, **PLAIN)
    told = made.choices[0].logprobs
    assert told is not None
    assert told.content is not None
    assert "".join(one.token for one in told.content) == made.choices[0].message.content
    for one in told.content:
        assert one.logprob == one.top_logprobs[0].logprob >= one.top_logprobs[1].logprob
        assert bytes(one.bytes or []).decode() == one.token


def test_a_stop_string_ends_the_reply_before_it(client: Client) -> None:
    whole = client.chat.completions.create(messages=ASK, max_tokens=12, **PLAIN).choices[0].message.content
    assert whole is not None
    word = whole.split()[3]
    made = client.chat.completions.create(messages=ASK, max_tokens=12, stop=[f" {word}"], **PLAIN).choices[0]
    assert made.finish_reason == "stop"
    assert made.message.content == whole[: whole.index(f" {word}")]


def test_the_model_is_known_by_its_name(client: Client) -> None:
    (model,) = client.models.list().data
    assert model.id == "homing-tiny-random"
    assert client.health()
