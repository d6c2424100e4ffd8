"""What is asked before a reply is gone on with, and what is remembered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from homing.core.encoding.messages import encode_messages
from homing.core.request.request import Request
from homing.core.request.resume_style import ResumeStyle
from homing.core.request.server_state import ServerState
from homing.core.resume.resumption import QUESTION_TIMEOUT, Resumption
from homing.core.retry.timers import Timeout
from homing.core.streaming.splice import NotContinued
from homing.core.telemetry.resumed_usage import ResumedUsage
from homing.errors import (
    APIResponseValidationError,
    APIStatusError,
    BadRequestError,
    ContextWindowExceeded,
    GapTimeout,
    ServerUnreachable,
    StreamInterrupted,
    UnprocessableEntityError,
)
from homing.types import ChatCompletion, CompletionUsage

CAPTURES = Path(__file__).parents[1] / "captures"
SGLANG = b'{"object":"list","data":[{"id":"m","object":"model","owned_by":"sglang"}]}'


def status(code: int) -> APIStatusError:
    return APIStatusError(str(code), status_code=code)


def resumption(
    server_state: ServerState | None = None,
    *,
    resume: Any = "auto",
    reasoning: str | None = None,
    usage: CompletionUsage | None = None,
    **params: Any,
) -> Resumption:
    hello = encode_messages([{"role": "user", "content": "Hello"}])
    request = Request("POST", "/v1/chat/completions", Timeout(), {"model": "m", **params}, hello, True, resume=resume)
    message = {"content": "One two", "reasoning_content": reasoning}
    partial = ChatCompletion.model_validate({"choices": [{"index": 0, "message": message}], "usage": usage})
    broken = StreamInterrupted("it broke")
    return Resumption(broken, request, partial, server_state or ServerState(), ResumedUsage(), pieces=2, number=1)


def asked(going: Resumption) -> tuple[str, dict[str, Any] | None] | None:
    question = going.question()
    if question is None:
        return None
    assert question.timeout.first_token == QUESTION_TIMEOUT
    return f"{question.method} {question.path}", question.params


COUNT = {"model": "m", "prompt": "One two", "add_special_tokens": False}


def test_first_who_then_how_many_then_the_rest() -> None:
    server_state = ServerState()
    going = resumption(server_state, max_tokens=10)
    assert going.at == 7
    assert asked(going) == ("GET /v1/models", None)
    going.answered(SGLANG)
    assert server_state.owner == "sglang"
    assert asked(going) == ("POST /v1/tokenize", COUNT)
    going.answered(b'{"tokens":[1,2,3],"count":3,"max_model_len":9}')
    assert asked(going) is None
    assert going.request is going.request
    assert (going.request.params or {})["max_tokens"] == 7
    assert going.join().at == 7
    again = resumption(server_state)  # the server is asked once for each client
    assert asked(again) == ("POST /v1/tokenize", COUNT)


@pytest.mark.parametrize("version", ["0.5.9", "0.5.23"])
def test_sglangs_own_count_is_read(version: str) -> None:
    body = (CAPTURES / version / "tokenize.txt").read_text().split("\n\n", 2)[2]
    going = resumption(resume=ResumeStyle(), max_tokens=10)
    assert asked(going) == ("POST /v1/tokenize", COUNT)
    going.answered(body.encode())
    assert (going.request.params or {})["max_tokens"] == 10 - json.loads(body)["count"]


def test_vllm_counts_elsewhere() -> None:
    assert asked(resumption(resume=ResumeStyle("vllm"))) == ("POST /tokenize", COUNT)


def test_a_server_that_has_reported_all_along_is_not_asked() -> None:
    going = resumption(resume=ResumeStyle(), usage=CompletionUsage(completion_tokens=4), max_tokens=10)
    assert asked(going) is None
    assert (going.request.params or {})["max_tokens"] == 6


@pytest.mark.parametrize("failure", [status(404), status(500), GapTimeout("slow"), APIResponseValidationError("html")])
def test_without_a_count_the_pieces_are_counted(failure: Exception) -> None:
    going = resumption(resume=ResumeStyle(), max_tokens=10)
    going.question()
    assert going.unanswered(failure)
    assert asked(going) is None
    assert (going.request.params or {})["max_tokens"] == 8


@pytest.mark.parametrize("failure", [status(503), status(502), ServerUnreachable("gone"), ValueError("odd")])
def test_where_nobody_is_the_attempt_has_failed(failure: Exception) -> None:
    going = resumption(resume=ResumeStyle())
    going.question()
    assert not going.unanswered(failure)
    assert asked(going) == ("POST /v1/tokenize", COUNT)


def test_who_it_is_cannot_be_done_without() -> None:
    going = resumption()
    assert not going.unanswered(status(500))
    assert asked(going) == ("GET /v1/models", None)


@pytest.mark.parametrize("body", [b'{"data":[{"id":"m","owned_by":"openai"}]}', b'{"data":[]}'])
def test_an_unknown_server_is_left_alone_and_remembered(body: bytes) -> None:
    server_state = ServerState()
    going = resumption(server_state)
    going.question()
    going.answered(body)
    with pytest.raises(StreamInterrupted, match="it broke; not resumed: the server is not known") as caught:
        going.question()
    assert caught.value is going.broken
    assert server_state.owner in ("", "openai")
    with pytest.raises(StreamInterrupted):
        resumption(server_state).question()


def test_a_server_that_will_not_say_is_asked_again_next_time() -> None:
    server_state = ServerState()
    for going in (resumption(server_state), resumption(server_state)):
        assert asked(going) == ("GET /v1/models", None)
        assert going.unanswered(status(404))
        with pytest.raises(StreamInterrupted, match="not known"):
            going.question()
    garbled = resumption(server_state)
    garbled.answered(b"<html>")
    with pytest.raises(StreamInterrupted, match="not known"):
        garbled.question()


def test_thoughts_need_a_style_that_knows_them() -> None:
    server_state = ServerState()
    server_state.owner = "vllm"
    with pytest.raises(StreamInterrupted, match="had thought before it answered"):
        resumption(server_state, reasoning="Hm.", model="qwen3").question()
    server_state.owner = "sglang"
    going = resumption(server_state, reasoning="Hm.", model="qwen3")
    assert asked(going) == ("POST /v1/tokenize", {**COUNT, "model": "qwen3", "prompt": "Hm.</think>\n\nOne two"})


@pytest.mark.parametrize(
    ("failure", "still"),
    [
        (BadRequestError("no such field", status_code=400), False),
        (UnprocessableEntityError("extra forbidden", status_code=422), False),
        (NotContinued("anew", ignores=True), False),
        (NotContinued("thoughts", ignores=False), True),
        (ContextWindowExceeded("too long", status_code=400), True),
        (status(500), True),
        (ServerUnreachable("gone"), True),
    ],
)
def test_a_server_that_cannot_is_remembered(failure: Exception, still: bool) -> None:
    server_state = ServerState()
    resumption(server_state).failed(failure)
    assert server_state.resumes is still
