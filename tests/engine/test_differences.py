"""The emulated replica held against real SGLang: the same requests to both.

Status, content type, the keys of a body with their order and kinds, the order of a stream's
chunks, and what is counted must be the same. docs/engine.md says what is not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from homing_server.local import Answer, Edge, EdgeSettings, ToolCall
from homing_server.local.engine_environment import TINY_MODEL

from ..edge.test_engine_against_captures import layout, phases
from .conftest import CONTEXT, PLAIN, THINKING
from .test_replies import CALL, WEATHER

CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "hello there"}]
SCHEMA = {
    "type": "json_schema",
    "json_schema": {
        "name": "verdict",
        "schema": {
            "type": "object",
            "properties": {"fine": {"type": "boolean"}},
            "required": ["fine"],
            "additionalProperties": False,
        },
    },
}
USAGE = {"stream": True, "stream_options": {"include_usage": True}}

# What both must do. Grammars cannot be kept to by the emulation, so there the answer is scripted.
ANSWERED: dict[str, dict[str, Any]] = {
    "whole": {"max_tokens": 4, **PLAIN},
    "stream": {"max_tokens": 4, "stream": True, **PLAIN},
    "stream with usage": {"max_tokens": 4, **USAGE, **PLAIN},
    "reasoning": {"max_tokens": 4, **THINKING},
    "reasoning stream": {"max_tokens": 4, **USAGE, **THINKING},
    "two choices": {"max_tokens": 4, "n": 2, **PLAIN},
    "two choices stream": {"max_tokens": 4, "n": 2, **USAGE, **PLAIN},
    "logprobs": {"max_tokens": 3, "logprobs": True, "top_logprobs": 2, **PLAIN},
    "schema": {"max_tokens": 99, "response_format": SCHEMA, **PLAIN},
    "request id": {"max_tokens": 2, "rid": "mine", **PLAIN},
    "another model's name": {"max_tokens": 2, "model": "whatever", **PLAIN},
}
TOOLS: dict[str, dict[str, Any]] = {
    "tool": {"tools": [WEATHER], "max_tokens": 200, **PLAIN},
    "tool stream": {"tools": [WEATHER], "max_tokens": 200, **USAGE, **PLAIN},
}
REFUSED: dict[str, dict[str, Any]] = {
    "no messages": {"messages": []},
    "role": {"messages": [{"role": "owl", "content": "hu"}]},
    "top_p": {"top_p": 2},
    "temperature": {"temperature": -1},
    "max_tokens": {"max_tokens": -1},
    "tools missing": {"tool_choice": "required"},
    "image": {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]},
    "prompt too long": {"messages": [{"role": "user", "content": " self" * 5 * CONTEXT}]},
    "prompt too long stream": {"messages": [{"role": "user", "content": " self" * 5 * CONTEXT}], "stream": True},
    "reply too long": {"max_tokens": 9 * CONTEXT},
}
MODELS = ["/v1/models", f"/v1/models/{TINY_MODEL}", "/v1/models/nope"]
READ = [*MODELS, "/nope", "/health", "/ping", "/ready", "/model_info"]


@pytest.fixture(scope="module")
def emulated() -> Iterator[Edge]:
    with Edge(EdgeSettings.instant(replicas=1, model=TINY_MODEL, context_length=CONTEXT, thinking=True)) as edge:
        yield edge


def ask(edge: Edge, body: dict[str, Any]) -> httpx.Response:
    headers = {"Modal-Session-ID": "differences"}
    return httpx.post(edge.url + CHAT, json={"messages": HELLO, **body}, headers=headers, timeout=60)


def same(real: httpx.Response, ours: httpx.Response) -> None:
    assert ours.status_code == real.status_code
    assert ours.headers.get("content-type") == real.headers.get("content-type")
    if real.headers.get("content-type", "").startswith("text/event-stream"):
        assert phases(ours.text) == phases(real.text)
    elif real.headers.get("content-type") == "application/json":
        assert layout(ours.json()) == layout(real.json())
    else:
        assert ours.text == real.text


@pytest.mark.parametrize("case", ANSWERED)
def test_answers(edge: Edge, emulated: Edge, case: str) -> None:
    body = ANSWERED[case]
    emulated.answer_with(Answer("one two three four five six", reasoning="one two three four five six"))
    if case == "schema":
        emulated.answer_with(None)
    same(ask(edge, body), ask(emulated, body))


@pytest.mark.parametrize("case", TOOLS)
def test_tool_calls(edge: Edge, emulated: Edge, case: str) -> None:
    emulated.answer_with(Answer("Sure.", tool_calls=[ToolCall("weather", {"city": "Oslo"})]))
    same(ask(edge, {**TOOLS[case], "regex": CALL}), ask(emulated, TOOLS[case]))


@pytest.mark.parametrize("switch", [PLAIN, THINKING], ids=["content", "reasoning"])
def test_text_beside_tools_that_are_not_called(edge: Edge, emulated: Edge, switch: dict[str, Any]) -> None:
    emulated.answer_with(Answer("one two three four five six", reasoning="one two three four five six"))
    body = {"tools": [WEATHER], "max_tokens": 4, **USAGE, **switch}
    same(ask(edge, body), ask(emulated, body))


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(edge: Edge, emulated: Edge, case: str) -> None:
    real, ours = ask(edge, REFUSED[case]), ask(emulated, REFUSED[case])
    same(real, ours)
    said, emulation = real.json()["message"], ours.json()["message"]
    # Pydantic's words carry paths of the installation; counts are those of each tokenizer.
    if "validation error" not in said and "tokens" not in said:
        assert emulation == said


@pytest.mark.parametrize("path", READ)
def test_other_routes(edge: Edge, emulated: Edge, path: str) -> None:
    headers = {"Modal-Session-ID": "differences"}
    real, ours = (httpx.get(one.url + path, headers=headers) for one in (edge, emulated))
    if path == "/model_info":
        assert (real.status_code, ours.status_code) == (200, 200)
        assert set(ours.json()) <= set(real.json()), "it tells less, but nothing else"
    else:
        same(real, ours)


def usage(edge: Edge, messages: list[dict[str, Any]], **switch: Any) -> dict[str, Any]:
    """Ask, add the answer to the messages, and return what it cost."""
    body = {"messages": messages, "max_tokens": 6, **switch}
    headers = {"Modal-Session-ID": "counted"}
    answer = httpx.post(edge.url + CHAT, json=body, headers=headers, timeout=60).json()
    messages.append({"role": "assistant", "content": answer["choices"][0]["message"]["content"]})
    told: dict[str, Any] = answer["usage"]
    return told


def test_what_is_counted_as_cached(edge: Edge, emulated: Edge) -> None:
    """The same prompt again: all but one token. The next turn: all that its prompt has in common with the last."""
    emulated.answer_with(None)
    for one in (edge, emulated):
        messages = [{"role": "system", "content": "counted, word by word"}, *HELLO]
        first = usage(one, messages, **PLAIN)
        again = usage(one, messages[:2], **PLAIN)
        assert again["prompt_tokens"] == first["prompt_tokens"]
        assert again["prompt_tokens_details"]["cached_tokens"] == first["prompt_tokens"] - 1
        # Qwen3's template, which the emulation has, drops the empty thought from what was said;
        # the random model's keeps it, so that nothing of a prompt changes.
        empty_thought = first["prompt_tokens"] - usage(one, messages[:2], **THINKING)["prompt_tokens"]
        second = usage(one, [*messages, {"role": "user", "content": "and then"}], **PLAIN)
        kept = first["total_tokens"] - 1 if one is edge else first["prompt_tokens"] - empty_thought
        assert second["prompt_tokens_details"]["cached_tokens"] == kept
        assert second["total_tokens"] == second["prompt_tokens"] + second["completion_tokens"]
