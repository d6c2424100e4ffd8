"""The emulated engine beside answers recorded from SGLang 0.5.23, request by request."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from homing_server.local import Answer, Edge, EdgeSettings

from .talk import Json, events

CAPTURES = Path(__file__).parents[1] / "captures" / "0.5.23"

# Their headers were not recorded, so they cannot be sent again.
UNREPEATABLE = {"dp_rank_5", "dp_rank_bad", "rid_header_override"}
# Recorded under load, without a request; emulated in test_engine_load.py.
WITHOUT_REQUEST = {"overload_stream_False", "overload_stream_True"}
# They need an engine with a key: test_keys_as_recorded.
KEYED = {"401_no_key", "401_bad_key"}
# The text of these errors is pydantic's, xgrammar's or counts tokens of another vocabulary.
OWN_WORDS = {"bad_json", "bad_role", "no_messages", "bad_regex", "too_long"}

NAMES = sorted(path.stem for path in CAPTURES.glob("*.txt"))
REPEATABLE = [name for name in NAMES if name not in UNREPEATABLE | WITHOUT_REQUEST | KEYED]


class Capture:
    def __init__(self, name: str) -> None:
        request, head, self.body = (CAPTURES / f"{name}.txt").read_text().split("\n\n", 2)
        line, self.data = request.split("\n", 1)
        self.method, self.path = line.split(" ")
        status, *headers = head.split("\n")
        self.status = int(status.removeprefix("HTTP "))
        self.headers = httpx.Headers(dict(header.split(": ", 1) for header in headers))


def kinds(value: object) -> object:
    """Keys in order with what they hold. A text or none, and a list of any length, are all the same."""
    if isinstance(value, dict):
        return {key: kinds(item) for key, item in value.items()}
    if isinstance(value, list):
        return [kinds(item) for item in value[:1]]
    if value is None or isinstance(value, str):
        return "text"
    return "number" if isinstance(value, (int, float)) and not isinstance(value, bool) else "flag"


def layout(value: object) -> str:
    # As text: the order of keys counts here. A detail object may be null on either side.
    return json.dumps(kinds(value)).replace('{"reasoning_tokens": "number"}', '"text"')


def phases(body: str) -> list[str]:
    """The layouts of a stream's chunks, repetitions folded."""
    folded: list[str] = []
    for chunk in events(body):
        if not folded or folded[-1] != layout(chunk):
            folded.append(layout(chunk))
    return folded


@pytest.fixture
def edge_settings() -> EdgeSettings:
    # The recorded server: a reasoning model called "tiny" with 512 tokens of context.
    return EdgeSettings.instant(model="tiny", context_length=512, thinking=True)


@pytest.mark.parametrize("name", REPEATABLE)
def test_same_status_and_layout_as_recorded(edge: Edge, name: str) -> None:
    capture = Capture(name)
    if capture.status == 200 and "tools" not in capture.data:
        # The recorded model had random weights: it never ceased to think.
        edge.answer_with(Answer("plain answer", reasoning="I ponder. " * 60))
    if name == "tool_named_stream":  # the recorded one was cut by its limit, in the middle of its arguments
        capture.data = capture.data.replace('"max_tokens": 120', '"max_tokens": 25')
    data = None if capture.data == "None" else capture.data.encode()
    kind = "text/plain" if name == "bad_ctype" else "application/json"
    answer = httpx.request(capture.method, edge.url + capture.path, content=data, headers={"content-type": kind})

    assert answer.status_code == capture.status
    assert answer.headers.get("content-type") == capture.headers.get("content-type")
    if capture.headers["content-type"].startswith("text/event-stream"):
        assert phases(answer.text) == phases(capture.body)
    else:
        ours: Json = answer.json()
        theirs: Json = json.loads(capture.body)
        assert layout(ours) == layout(theirs)
        if capture.status >= 400 and name not in OWN_WORDS:
            assert ours == theirs


@pytest.mark.parametrize("name", ["401_no_key", "401_bad_key"])
def test_keys_as_recorded(name: str) -> None:
    capture = Capture(name)
    headers = {"authorization": "Bearer wrong"} if name == "401_bad_key" else {}
    with Edge(EdgeSettings.instant(api_key="secret")) as edge:
        answer = httpx.post(edge.url + capture.path, json=json.loads(capture.data), headers=headers)
        assert (answer.status_code, answer.json()) == (capture.status, json.loads(capture.body))
        assert httpx.get(edge.url + "/health").status_code == 200, "health needs no key"
        right = {"authorization": "Bearer secret"}
        assert httpx.post(edge.url + capture.path, json=json.loads(capture.data), headers=right).status_code == 200
        assert "secret" not in httpx.get(edge.url + "/server_info", headers=right).text
