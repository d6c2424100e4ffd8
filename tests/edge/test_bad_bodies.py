"""Whatever a request's body says, the edge answers 400 with JSON where it is the caller's mistake."""

from __future__ import annotations

import json
from typing import Any

import httpx

from homing_server.local import Edge

from .talk import CHAT, ask, text_of, user

FAULTS = "/_edge/faults"
HELLO = user("hello")
DEEP = b'{"messages":' + b"[" * 100_000
NOT_READ = (b"", b"{", b"\xff", b"[]", b"null", b"1" * 5_000, b"[" * 100_000, b'{"a":' * 100_000, DEEP)
NO_FAULTS = (
    '"self": 1',
    '"__init__": 1',
    r'"\ud800": 1',
    r'"body": "\ud800"',
    '"status": 1e999',
    '"status": 99999',
    '"status": "x"',
    '"nth": 0',
    '"delay": -1',
    '"delay": NaN',
    '"probability": 2',
    '"fill": 1e999',
    '"headers": {"a": "b"}',
    r'"headers": [["a", "b\r\nc: d"]]',
    '"headers": [["a b", "c"]]',
    r'"headers": [["a", "\u2028"]]',
    '"headers": [["Content-Length", "x"]]',
)
NO_CHATS: tuple[dict[str, Any], ...] = (
    {"messages": []},
    {"messages": 5},
    {"messages": [1]},
    {"messages": [{"role": "user", "content": 5}]},
    {"messages": [{"role": "assistant", "tool_calls": 5}, HELLO]},
    {"messages": [{"role": "assistant", "tool_calls": [1]}, HELLO]},
    {"messages": [{"role": "assistant", "tool_calls": [{"function": "f"}]}, HELLO]},
    {"n": 0},
    {"n": 10**12},
    {"n": "x"},
    {"max_tokens": -1},
    {"max_tokens": float("inf")},
    {"temperature": float("nan")},
    {"stop": 5},
    {"logprobs": True, "top_logprobs": -1},
    {"logprobs": True, "top_logprobs": 10**12},
)
NO_SCHEMAS: tuple[dict[str, Any], ...] = (
    {"enum": []},
    {"enum": 5},
    {"type": []},
    {"type": {}},
    {"type": "resolved"},
    {"type": "_class__"},
    {"anyOf": []},
    {"anyOf": 5},
    {"allOf": 5},
    {"allOf": [5]},
    {"$ref": "#"},
    {"$ref": 5},
    {"properties": [1]},
    {"properties": {"a": 5}},
    {"type": "integer", "multipleOf": 0},
    {"type": "integer", "minimum": "x"},
    {"type": "integer", "minimum": float("inf")},
    {"type": "string", "minLength": 10**12},
    {"type": "string", "minLength": "x"},
    {"type": "array", "minItems": 10**12},
    {"type": "array", "prefixItems": 5},
)


def unexpected(edge: Edge, path: str, *bodies: bytes | str) -> list[tuple[str, int, str]]:
    """Return the bodies that get anything but a refusal in JSON."""
    found = []
    with httpx.Client(base_url=edge.url, headers={"content-type": "application/json"}, timeout=20) as client:
        for body in bodies:
            answer = client.post(path, content=body)
            kind = answer.headers["content-type"]
            if answer.status_code != 400 or kind != "application/json" or not isinstance(answer.json(), dict):
                found.append((repr(body[:100]), answer.status_code, answer.text[:100]))
    return found


def chat(**fields: Any) -> str:
    return json.dumps({"messages": [HELLO], **fields})


def test_what_is_no_fault_arms_none(edge: Edge) -> None:
    assert unexpected(edge, FAULTS, *NOT_READ, *(f'{{"kind": "answer", {field}}}' for field in NO_FAULTS)) == []
    assert httpx.get(edge.url + FAULTS).json() == []


def test_what_is_no_chat_is_refused(edge: Edge) -> None:
    assert unexpected(edge, CHAT, *NOT_READ, *(chat(**fields) for fields in NO_CHATS)) == []
    assert unexpected(edge, "/v1/tokenize", *NOT_READ) == []
    assert text_of(ask(edge.url, HELLO))


def test_what_is_no_schema_is_refused(edge: Edge) -> None:
    for stream in (False, True):
        forms = ({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}} for schema in NO_SCHEMAS)
        assert unexpected(edge, CHAT, *(chat(response_format=form, stream=stream) for form in forms)) == []
    tools = ([{"type": "function", "function": {"name": "f", "parameters": schema}}] for schema in NO_SCHEMAS)
    assert unexpected(edge, CHAT, *(chat(tools=offered, tool_choice="required") for offered in tools)) == []


def test_what_is_deep_but_can_be_read_breaks_nothing(edge: Edge) -> None:
    # Where each step has its own limit, one may read what the next cannot handle.
    for depth in (100, 500, 900, 980, 2_000, 5_000, 20_000):
        deep = "[" * depth + "]" * depth
        for fields in (
            f'"messages": [{{"role": "user", "content": {deep}}}]',
            f'"messages": [{{"role": "user", "content": "hi", "more": {deep}}}]',
            f'"messages": [{{"role": "user", "content": "hi"}}], "tools": [{{"function": '
            f'{{"name": "hi", "parameters": {{"const": {deep}}}}}}}]',
        ):
            answer = httpx.post(
                edge.url + CHAT, content=f"{{{fields}}}", headers={"content-type": "application/json"}, timeout=20
            )
            assert answer.status_code in (200, 400), (depth, fields[:80], answer.text[:200])
            assert answer.headers["content-type"] == "application/json"
