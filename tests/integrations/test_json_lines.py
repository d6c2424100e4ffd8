"""The recipe for structured logs in docs/observability.md, with everything in reach that must not get into a line."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import homing
from homing.testing import Edge, EdgeSettings, Fault

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "observability.md").read_text()
(RECIPE,) = re.findall(r"^```python\n(import json\n.*?)^with Client", PAGE, re.MULTILINE | re.DOTALL)
SECRETS = {
    "key": "sk-a-key-of-the-engine",
    "token": "wk-a-token.ws-its-secret",
    "said": "a sentence that nobody else may read",
    "system": "an instruction that is nobody's business",
}


@pytest.fixture
def edge() -> Iterator[Edge]:
    settings = EdgeSettings.instant(
        initial_replicas=0,
        cold_start=0.3,
        proxy_token={"id": "wk-a-token", "secret": "ws-its-secret"},
        api_key=SECRETS["key"],
    )
    with Edge(settings) as edge:
        yield edge


@pytest.fixture
def recipe() -> Iterator[dict[str, Any]]:
    names: dict[str, Any] = {"Hooks": homing.Hooks}
    loggers = [logging.getLogger(name) for name in ("homing", "chat")]
    before = [logger.level for logger in loggers]
    exec(RECIPE, names)
    names["handler"].setStream(io.StringIO())
    yield names
    for logger, level in zip(loggers, before, strict=True):
        logger.removeHandler(names["handler"])
        logger.setLevel(level)


def test_each_line_is_json_and_no_line_holds_a_secret(recipe: dict[str, Any], edge: Edge) -> None:
    client = homing.Client(edge.url, api_key=SECRETS["key"], proxy_token=SECRETS["token"], hooks=recipe["logged"])
    with client:
        chat = client.conversation("trip-42", system=SECRETS["system"])
        reply = chat.send(SECRETS["said"])  # cold
        edge.inject(Fault.answer(502, f"bad gateway, {SECRETS['said']}, {SECRETS['key']}"))
        chat.send(SECRETS["said"])
        with pytest.raises(homing.BadRequestError):
            chat.send(SECRETS["said"], temperature=-1)
        with pytest.raises(homing.AuthenticationError):
            client.with_options(api_key="sk-another-key", max_retries=0).conversation().send(SECRETS["said"])
        broken = homing.Hooks(on_reply=lambda reply: 1 / 0)
        client.with_options(hooks=broken).conversation().send(SECRETS["said"])
    printed = recipe["handler"].stream.getvalue()
    lines = [json.loads(line) for line in printed.splitlines()]
    events = {line["event"] for line in lines if line["logger"] == "chat"}
    assert events == {"waiting", "retry", "call", "turn", "error"}
    assert any(line["logger"] == "homing" and "ZeroDivisionError" in line.get("exception", "") for line in lines)
    assert all({"time", "level", "logger", "event"} <= line.keys() for line in lines)
    calls = [line for line in lines if line["event"] == "call" and line["conversation"] == "trip-42"]
    first, again = (line for line in calls if "error" not in line)
    assert first["waited"] > 0
    assert again["retries"] == 1
    assert again["cached_tokens"] > 0
    assert [line["verdict"] for line in lines if line["event"] == "turn"] == ["first", "warm"]
    assert {(line["error"], line["status"]) for line in lines if line["event"] == "error"} == {
        ("BadRequestError", 400),
        ("AuthenticationError", 401),
    }
    for secret in (*SECRETS.values(), "ws-its-secret", "sk-another-key", reply.text):
        assert secret not in printed
