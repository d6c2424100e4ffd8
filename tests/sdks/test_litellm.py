"""litellm, pointed at the local edge as any OpenAI-compatible server (`make test-sdks`)."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import anyio.from_thread
import pytest
from pydantic import BaseModel, Field

from homing.testing import Answer, Edge, Fault, ToolCall, assert_no_running, assert_one_replica

# What litellm and its dependencies warn of is their affair.
pytestmark = [pytest.mark.litellm, pytest.mark.filterwarnings("ignore")]

HELLO = [{"role": "user", "content": "Hello"}]
Ask = Callable[..., Any]


@pytest.fixture
def litellm(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the package, imported here since other environments lack it."""
    # Its price list comes with it: nothing is fetched.
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    return importlib.import_module("litellm")


@pytest.fixture(params=["threads", "asyncio"])
def ask(request: pytest.FixtureRequest, litellm: Any, edge: Edge) -> Iterator[Ask]:
    """Return litellm's ``completion`` or ``acompletion``, aimed at the edge. A stream comes as a list of chunks."""

    def aim(params: dict[str, Any]) -> dict[str, Any]:
        aimed = {"model": "openai/m", "messages": HELLO, "api_base": f"{edge.url}/v1", "api_key": "-", "max_retries": 0}
        return {**aimed, **params}

    if request.param == "threads":

        def sync(**params: Any) -> Any:
            answer = litellm.completion(**aim(params))
            return list(answer) if params.get("stream") else answer

        yield sync
    else:
        with anyio.from_thread.start_blocking_portal("asyncio") as portal:

            async def call(params: dict[str, Any]) -> Any:
                answer = await litellm.acompletion(**aim(params))
                return [chunk async for chunk in answer] if params.get("stream") else answer

            yield lambda **params: portal.call(call, params)
            portal.call(litellm.close_litellm_async_clients)
    assert_no_running(edge)


def test_a_whole_answer(ask: Ask, edge: Edge) -> None:
    edge.answer_next("Zoë says 神戸 🕊️.")
    completion = ask()
    assert completion.choices[0].message.content == "Zoë says 神戸 🕊️."
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage.prompt_tokens == edge.log[-1].tokens.prompt


def test_a_stream_says_what_the_whole_answer_says(ask: Ask) -> None:
    whole = ask()
    chunks = ask(stream=True, stream_options={"include_usage": True})
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert text == whole.choices[0].message.content
    assert [c.finish_reason for chunk in chunks for c in chunk.choices if c.finish_reason] == ["stop"]
    usage = [chunk.usage for chunk in chunks if getattr(chunk, "usage", None)]
    assert usage[-1].completion_tokens == whole.usage.completion_tokens


class Leg(BaseModel):
    harbour: str
    hours: float = Field(ge=0.5, le=30)


TOOLS = [{"type": "function", "function": {"name": "plan_leg", "parameters": Leg.model_json_schema()}}]
PLAN = [{"role": "user", "content": "Please plan_leg"}]


def test_tools_are_called_and_answered(ask: Ask) -> None:
    asked = ask(messages=PLAN, tools=TOOLS).choices[0]
    assert asked.finish_reason == "tool_calls"
    (call,) = asked.message.tool_calls
    assert call.function.name == "plan_leg"
    Leg.model_validate_json(call.function.arguments)
    result = {"role": "tool", "tool_call_id": call.id, "content": "9 hours"}
    answered = ask(messages=[*PLAN, asked.message.model_dump(), result], tools=TOOLS).choices[0]
    assert answered.finish_reason == "stop"
    assert answered.message.content


def test_tools_in_a_stream(litellm: Any, ask: Ask, edge: Edge) -> None:
    wanted = [{"harbour": "Málaga", "hours": hours} for hours in (1.5, 2.0)]
    edge.answer_next(Answer(tool_calls=[ToolCall("plan_leg", leg) for leg in wanted]))
    whole = litellm.stream_chunk_builder(ask(messages=PLAN, tools=TOOLS, stream=True))
    calls = whole.choices[0].message.tool_calls
    assert [json.loads(call.function.arguments) for call in calls] == wanted
    assert whole.choices[0].finish_reason == "tool_calls"


def test_structured_output(ask: Ask) -> None:
    completion = ask(response_format=Leg)
    assert Leg.model_validate_json(completion.choices[0].message.content)


@pytest.mark.edge(thinking=True)
def test_reasoning(ask: Ask) -> None:
    message = ask().choices[0].message
    assert message.reasoning_content
    chunks = ask(stream=True)
    deltas = [getattr(chunk.choices[0].delta, "reasoning_content", None) or "" for chunk in chunks if chunk.choices]
    assert "".join(deltas) == message.reasoning_content


both = pytest.mark.parametrize("stream", [False, True])


@both
@pytest.mark.edge(api_key="right")
def test_401(litellm: Any, ask: Ask, stream: bool) -> None:
    with pytest.raises(litellm.AuthenticationError):
        ask(api_key="wrong", stream=stream)
    assert ask(api_key="right", stream=stream)


@both
@pytest.mark.edge(context_length=64)
def test_400_of_a_context_that_is_too_long(litellm: Any, ask: Ask, stream: bool) -> None:
    with pytest.raises(litellm.ContextWindowExceededError):
        ask(messages=[{"role": "user", "content": "word " * 200}], stream=stream)


@both
@pytest.mark.edge(check_model=True)
def test_404_of_an_unknown_model(litellm: Any, ask: Ask, stream: bool) -> None:
    with pytest.raises(litellm.NotFoundError, match="nope"):
        ask(model="openai/nope", stream=stream)


@both
def test_429(litellm: Any, ask: Ask, edge: Edge, stream: bool) -> None:
    edge.inject(Fault.rate_limited(times=None))
    with pytest.raises(litellm.RateLimitError):
        ask(stream=stream)


@both
def test_503_of_a_cold_edge(litellm: Any, ask: Ask, edge: Edge, stream: bool) -> None:
    edge.hold_cold()
    with pytest.raises(litellm.ServiceUnavailableError):
        ask(stream=stream)
    edge.become_ready()
    assert ask(stream=stream)


def test_an_error_inside_a_stream(ask: Ask, edge: Edge) -> None:
    edge.inject(Fault.error_in_stream(message="KV cache pool is full", after_chunks=3))
    with pytest.raises(Exception, match="KV cache pool is full"):
        ask(stream=True)


def test_a_header_by_hand_brings_every_turn_home(ask: Ask, edge: Edge) -> None:
    for number in range(6):
        messages: list[Any] = [{"role": "user", "content": f"I am {number}."}]
        for _ in range(4):
            answer = ask(messages=messages, extra_headers={"Modal-Session-ID": f"key-{number}"})
            messages += [answer.choices[0].message.model_dump(), {"role": "user", "content": "Go on."}]
        assert_one_replica(edge, f"key-{number}")
