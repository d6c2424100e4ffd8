"""The openai SDK, pointed at the local edge: whichever of its versions is installed.

`make test` runs this on the 3.x of the constraints, `make test-sdks` on 2.x and on the newer
3.x that litellm brings.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
from pydantic import BaseModel, Field

from homing.testing import Answer, Edge, Fault, ToolCall, assert_no_running, assert_one_replica

from .faces import KINDS, Async, Sync, make

# SGLang's `metadata` holds a list where openai-python's type promises strings; it says so when dumping.
pytestmark = pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning")

Client = Sync | Async
HELLO = [{"role": "user", "content": "Hello"}]


@pytest.fixture(params=KINDS)
def connect(request: pytest.FixtureRequest, edge: Edge) -> Iterator[Callable[..., Client]]:
    """Return what makes clients of the edge, closed at the end; nothing may still run then."""
    clients: list[Client] = []

    def connect(**options: Any) -> Client:
        clients.append(make(request.param, edge.url, **options))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()
    assert_no_running(edge)


@pytest.fixture
def sdk(connect: Callable[..., Client]) -> Client:
    return connect()


def test_the_version_is_the_one_this_environment_is_for() -> None:
    wanted = os.environ.get("HOMING_TEST_OPENAI", "3")
    assert openai.__version__.partition(".")[0] == wanted


def test_a_whole_answer(sdk: Client, edge: Edge) -> None:
    edge.answer_next("Zoë says 神戸 🕊️.")
    completion = sdk.create(model="m", messages=HELLO)
    assert completion.choices[0].message.content == "Zoë says 神戸 🕊️."
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage.prompt_tokens + completion.usage.completion_tokens == completion.usage.total_tokens
    assert completion.usage.prompt_tokens_details.cached_tokens == 0
    assert sdk.models() == ["homing-emulated"]


def test_chunks_of_a_stream_say_what_the_whole_answer_says(sdk: Client) -> None:
    whole = sdk.create(model="m", messages=HELLO)
    chunks = sdk.chunks(model="m", messages=HELLO, stream_options={"include_usage": True})
    assert "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices) == (
        whole.choices[0].message.content
    )
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices][-1] == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_events_of_a_stream(sdk: Client) -> None:
    events, final = sdk.events(model="m", messages=HELLO)
    text = final.choices[0].message.content
    assert "".join(event.delta for event in events if event.type == "content.delta") == text
    assert [event.content for event in events if event.type == "content.done"] == [text]
    assert final.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("framing", ["crlf", "cr", "bytewise"])
def test_other_framings_read_the_same(sdk: Client, edge: Edge, framing: Any) -> None:
    plain = sdk.chunks(model="m", messages=HELLO)
    edge.inject(Fault.reframe(framing))
    assert [c.choices[0].delta.content for c in sdk.chunks(model="m", messages=HELLO) if c.choices] == [
        c.choices[0].delta.content for c in plain if c.choices
    ]


@pytest.mark.edge(decode_rate=20)
def test_leaving_a_stream_ends_the_generation(sdk: Client, edge: Edge) -> None:
    assert sdk.first_chunk(model="m", messages=HELLO).choices
    edge.wait_for(lambda e: e.log[0].outcome == "aborted")


class Leg(BaseModel):
    harbour: str
    hours: float = Field(ge=0.5, le=30)


class Voyage(BaseModel):
    name: str
    legs: list[Leg] = Field(min_length=2)


TOOLS = [openai.pydantic_function_tool(Leg, name="plan_leg")]
PLAN = [{"role": "user", "content": "Please plan_leg"}]


def test_tools_are_called_and_answered(sdk: Client, edge: Edge) -> None:
    asked = sdk.create(model="m", messages=PLAN, tools=TOOLS).choices[0]
    assert asked.finish_reason == "tool_calls"
    (call,) = asked.message.tool_calls
    assert call.function.name == "plan_leg"
    Leg.model_validate_json(call.function.arguments)
    result = {"role": "tool", "tool_call_id": call.id, "content": "9 hours"}
    answered = sdk.create(model="m", messages=[*PLAN, asked.message, result], tools=TOOLS).choices[0]
    assert (answered.finish_reason, answered.message.tool_calls) == ("stop", None)
    assert answered.message.content


def test_tools_in_a_stream(sdk: Client, edge: Edge) -> None:
    edge.answer_next(
        Answer(tool_calls=[ToolCall("plan_leg", {"harbour": "Málaga", "hours": h}) for h in (1.5, 2.0)]),
    )
    events, final = sdk.events(model="m", messages=PLAN, tools=TOOLS)
    calls = final.choices[0].message.tool_calls
    assert [call.function.parsed_arguments for call in calls] == [
        Leg(harbour="Málaga", hours=1.5),
        Leg(harbour="Málaga", hours=2.0),
    ]
    assert len({call.id for call in calls}) == 2
    done = [event for event in events if event.type == "tool_calls.function.arguments.done"]
    assert [event.parsed_arguments for event in done] == [call.function.parsed_arguments for call in calls]
    for index, call in enumerate(calls):
        deltas = [event for event in events if event.type == "tool_calls.function.arguments.delta"]
        assert "".join(e.arguments_delta for e in deltas if e.index == index) == call.function.arguments


def test_structured_output_is_parsed(sdk: Client) -> None:
    message = sdk.parse(model="m", messages=HELLO, response_format=Voyage).choices[0].message
    assert isinstance(message.parsed, Voyage)
    assert Voyage.model_validate_json(message.content) == message.parsed
    _, final = sdk.events(model="m", messages=HELLO, response_format=Voyage)
    assert final.choices[0].message.parsed == message.parsed


def test_a_json_object(sdk: Client) -> None:
    completion = sdk.create(model="m", messages=HELLO, response_format={"type": "json_object"})
    assert isinstance(json.loads(completion.choices[0].message.content), dict)


def test_structured_output_cut_by_its_limit(sdk: Client) -> None:
    with pytest.raises(openai.LengthFinishReasonError):
        sdk.parse(model="m", messages=HELLO, response_format=Voyage, max_tokens=4)


@pytest.mark.edge(thinking=True)
def test_reasoning_survives_as_an_extra_field(sdk: Client) -> None:
    message = sdk.create(model="m", messages=HELLO).choices[0].message
    assert message.reasoning_content
    chunks = sdk.chunks(model="m", messages=HELLO)
    deltas = [getattr(c.choices[0].delta, "reasoning_content", None) or "" for c in chunks if c.choices]
    assert "".join(deltas) == message.reasoning_content


def calls(sdk: Client) -> list[Callable[..., Any]]:
    """Return what a refusal has to be a typed error of: the whole answer and the stream."""
    return [sdk.create, sdk.chunks]


@pytest.mark.edge(api_key="right")
def test_401(connect: Callable[..., Client]) -> None:
    for call in calls(connect(api_key="wrong")):
        with pytest.raises(openai.AuthenticationError) as caught:
            call(model="m", messages=HELLO)
        assert caught.value.status_code == 401
    assert connect(api_key="right").create(model="m", messages=HELLO).choices


@pytest.mark.edge(context_length=64)
def test_400_of_a_context_that_is_too_long(sdk: Client) -> None:
    for call in calls(sdk):
        with pytest.raises(openai.BadRequestError, match="longer than the model's context length") as caught:
            call(model="m", messages=[{"role": "user", "content": "word " * 200}])
        assert caught.value.status_code == 400
        assert str(caught.value.code) == "400"


def test_400_of_bad_parameters(sdk: Client) -> None:
    for call in calls(sdk):
        with pytest.raises(openai.BadRequestError, match="temperature must be"):
            call(model="m", messages=HELLO, temperature=-1)
        with pytest.raises(openai.BadRequestError, match="Messages cannot be empty"):
            call(model="m", messages=[])


@pytest.mark.edge(check_model=True)
def test_404_of_an_unknown_model(sdk: Client) -> None:
    for call in calls(sdk):
        with pytest.raises(openai.NotFoundError, match="nope"):
            call(model="nope", messages=HELLO)


def test_429(sdk: Client, edge: Edge) -> None:
    edge.inject(Fault.rate_limited(retry_after=7, times=None))
    for call in calls(sdk):
        with pytest.raises(openai.RateLimitError) as caught:
            call(model="m", messages=HELLO)
        assert caught.value.response.headers["retry-after"] == "7"


def test_503_of_a_cold_edge(sdk: Client, edge: Edge) -> None:
    edge.hold_cold()
    for call in calls(sdk):
        with pytest.raises(openai.InternalServerError) as caught:
            call(model="m", messages=HELLO)
        assert caught.value.status_code == 503
    edge.become_ready()
    assert sdk.create(model="m", messages=HELLO).choices


def test_its_own_retries_meet_a_server_that_comes_back(connect: Callable[..., Client], edge: Edge) -> None:
    edge.inject(Fault.overloaded(retry_after=0, times=2))
    assert connect(max_retries=2).create(model="m", messages=HELLO).choices
    assert [record.status for record in edge.log] == [503, 503, 200]


def test_an_error_inside_a_stream(sdk: Client, edge: Edge) -> None:
    edge.inject(Fault.error_in_stream(message="KV cache pool is full", after_chunks=3))
    with pytest.raises(openai.APIError, match="KV cache pool is full"):
        sdk.chunks(model="m", messages=HELLO)


@pytest.mark.parametrize("header", ["Modal-Session-ID", "Modal-Routing-Affinity-Key"])
def test_a_header_by_hand_brings_every_turn_home(sdk: Client, edge: Edge, header: str) -> None:
    for number in range(6):
        messages: list[Any] = [{"role": "user", "content": f"I am {number}."}]
        for _ in range(4):
            answer = sdk.create(model="m", messages=messages, extra_headers={header: f"key-{number}"})
            messages += [answer.choices[0].message, {"role": "user", "content": "Go on."}]
        assert_one_replica(edge, f"key-{number}")


def test_without_a_header_the_same_workload_strays(edge: Edge) -> None:
    # opengeni#386. With Homing's client every one of these stays: tests/_async/test_affinity.py.
    client = make("threads", edge.url)
    talks: list[list[Any]] = [[{"role": "system", "content": f"You are {n}."}] for n in range(60)]
    usages: list[list[Any]] = [[] for _ in talks]
    for _ in range(5):
        for talk, used in zip(talks, usages, strict=True):
            talk.append({"role": "user", "content": "Hello"})
            answer = client.create(model="m", messages=talk)
            talk.append(answer.choices[0].message)
            used.append(answer.usage)
    client.close()
    assert {record.key for record in edge.log} == {None}
    routes = [[edge.log[turn * 60 + n].replica for turn in range(5)] for n in range(60)]
    # Five turns on one of three replicas by chance: 1 in 81.
    assert sum(len(set(route)) > 1 for route in routes) >= 50
    later = [(before, after) for used in usages for before, after in itertools.pairwise(used)]
    came_home = [
        after.prompt_tokens_details.cached_tokens == before.prompt_tokens + before.completion_tokens - 1
        for before, after in later
    ]
    assert sum(came_home) < 0.7 * len(came_home)
