# Generated from tests/_async/test_recordings.py by scripts/unasync.py: edit that file, not this one.
"""What real SGLang servers answered, over real sockets and at many splits: documented text, usage and errors."""

from __future__ import annotations

import json
from collections.abc import Iterator, Iterator
from importlib import import_module
from typing import Any

import pytest

import homing

from ..libraries import LIBRARIES
from ..recordings import ANSWERS, PATTERNS, REFUSALS, STREAMS, Replay, recording


HELLO: list[Any] = [{"role": "user", "content": "hello there"}]

DOCUMENTED = {
    "0.5.9/stream_usage": ("\ufffd use IPv", (15, 3, 18, 14, 0)),
    "0.5.23/stream_usage": ("tinue checkarts", (15, 3, 18, 14, 3)),
}
"""Reasoning; tokens of the prompt, the completion, both, found in the cache, and of the reasoning."""


@pytest.fixture
def replay() -> Iterator[Replay]:
    replay = Replay()
    yield replay
    replay.stop()


@pytest.fixture(params=["own", *LIBRARIES])
def client(
    request: pytest.FixtureRequest, replay: Replay
) -> Iterator[homing.Client]:
    """A client over our transport, and over httpx's and httpx2's. Afterwards no connection is in use."""
    http: Any = None if request.param == "own" else import_module(request.param).Client()
    options: dict[str, Any] = {"model": "tiny", "max_retries": 0, "cold_start_timeout": 0.03}
    with homing.Client(replay.url, http_client=http, **options) as client:
        yield client
        if http is None:
            assert client._endpoint.http.pool.in_use == 0  # type: ignore[union-attr]
    if http is not None:
        http.close()


@pytest.mark.parametrize("pattern", PATTERNS)
def test_streams(client: homing.Client, replay: Replay, pattern: str) -> None:
    for name in STREAMS:
        if "overload" in name:
            continue
        played = replay.play(name, pattern)
        with client.chat.completions.stream(messages=HELLO) as stream:
            events = [event for event in stream]
            completion = stream.get_final_completion()
        message = completion.choices[0].message
        assert (message.reasoning or "", message.content or "") == (
            played.joined("reasoning_content"),
            played.joined("content"),
        ), name
        shown = "".join(event.delta for event in events if event.type == "reasoning.delta")
        assert shown == played.joined("reasoning_content"), name
        assert completion.choices[0].finish_reason == "length", name
        usage = completion.usage
        assert (usage and usage.model_dump(exclude_unset=True)) == played.events[-1].get("usage"), name
        chunks = [chunk for chunk in client.chat.completions.create(messages=HELLO, stream=True)]
        assert [chunk.model_dump(exclude_unset=True) for chunk in chunks] == played.events, name
    assert replay.connections == 1


@pytest.mark.parametrize("name", DOCUMENTED)
def test_documented_text_and_usage_reach_a_conversation(
    client: homing.Client, replay: Replay, name: str
) -> None:
    reasoning, counts = DOCUMENTED[name]
    replay.play(name, "bytes")
    chat = client.conversation()
    reply = chat.send("hello there")
    assert (reply.text, reply.reasoning, reply.finish_reason) == ("", reasoning, "length")
    usage = reply.usage
    assert usage is not None
    reported = usage.prompt_tokens, usage.completion_tokens, usage.total_tokens
    assert (*reported, usage.cached_tokens, usage.reasoning_tokens) == counts
    assert (reply.telemetry.prompt_tokens, reply.telemetry.cached_tokens) == (counts[0], counts[3])
    assert len(chat.turns) == 1


def test_a_tool_call_cut_at_the_token_limit_is_not_handed_out(client: homing.Client, replay: Replay) -> None:
    # ANOLISA#2209, command-code#785
    replay.play("0.5.23/tool_named_stream", "seed 1")
    with client.chat.completions.stream(messages=HELLO) as stream:
        events = [event for event in stream]
        message = (stream.get_final_completion()).choices[0].message
    assert message.tool_calls is None
    assert message.unfinished_tool_calls[0].function.name == "get_weather"
    assert "tool_calls.function.arguments.done" not in [event.type for event in events]


@pytest.mark.parametrize("pattern", ["whole", "bytes"])
def test_overload_inside_a_stream(client: homing.Client, replay: Replay, pattern: str) -> None:
    # Nothing had been seen, so it is waited out like any 503, here for a moment.
    replay.play("0.5.23/overload_stream_True", pattern)
    with pytest.raises(homing.ColdStartTimeout) as caught:
        with client.chat.completions.stream(messages=HELLO) as stream:
            stream.until_done()
    last: Any = caught.value.last
    assert type(last) is homing.InternalServerError
    assert "503: The request queue is full" in str(last)
    assert (last.status_code, last.type) == (503, "SERVICE_UNAVAILABLE")


@pytest.mark.parametrize("pattern", PATTERNS)
def test_whole_answers(client: homing.Client, replay: Replay, pattern: str) -> None:
    for name in ANSWERS:
        sent = json.loads(replay.play(name, pattern).body)
        if sent["object"] == "list":
            assert (client.models.list()).model_dump(exclude_unset=True) == sent, name
        elif sent["object"] == "chat.completion":
            completion = client.chat.completions.create(messages=HELLO)
            assert completion.model_dump(exclude_unset=True) == sent, name
    assert replay.connections == 1


KINDS = {
    400: homing.BadRequestError,
    401: homing.AuthenticationError,
    404: homing.NotFoundError,
    405: homing.APIStatusError,
}
FULL = [name for name in REFUSALS if recording(name).status == 503]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_refusal_is_a_typed_error_with_the_servers_words(
    client: homing.Client, replay: Replay, pattern: str, stream: bool
) -> None:
    for name in REFUSALS:
        if name in FULL:
            continue
        played = replay.play(name, pattern)
        with pytest.raises(homing.APIStatusError) as caught:
            client.chat.completions.create(messages=HELLO, stream=stream)
        error = caught.value
        wanted = homing.ContextWindowExceeded if name.endswith("too_long") else KINDS[played.status]
        assert type(error) is wanted, name
        assert (error.status_code, error.body) == (played.status, json.loads(played.body)), name
    assert replay.connections == 1


@pytest.mark.parametrize("name", FULL)
def test_a_full_queue_is_waited_out(client: homing.Client, replay: Replay, name: str) -> None:
    played = replay.play(name, "bytes")
    with pytest.raises(homing.ColdStartTimeout) as caught:
        client.chat.completions.create(messages=HELLO)
    last: Any = caught.value.last
    assert type(last) is homing.InternalServerError
    assert (last.status_code, last.body) == (503, json.loads(played.body))
    assert replay.connections == 1


def test_nothing_is_left_out() -> None:
    chats = [name for name in ANSWERS if b'"chat.completion"' in recording(name).body]
    assert (len(STREAMS), len(chats), len(REFUSALS)) == (9, 35, 39)
    assert {recording(name).status for name in REFUSALS} == {*KINDS, 503}
