"""What a server says when it refuses, in all its spellings, and what callers get to see."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from homing.core.errors.server_errors import (
    EXCERPT,
    MAX_TEXT_BODY,
    UNSTATED,
    excerpt,
    invalid_response,
    stated_status,
    status_error,
)
from homing.errors import (
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    ConflictError,
    ContextWindowExceeded,
    InternalServerError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    UnprocessableEntityError,
)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, BadRequestError),
        (401, AuthenticationError),
        (403, PermissionDeniedError),
        (404, NotFoundError),
        (409, ConflictError),
        (422, UnprocessableEntityError),
        (429, RateLimitError),
        (500, InternalServerError),
        (503, InternalServerError),
        (529, InternalServerError),
        (405, APIStatusError),
        (413, APIStatusError),
        (302, APIStatusError),
    ],
)
def test_class_by_status(status: int, kind: type[APIStatusError]) -> None:
    error = status_error(status, b'{"error":{"message":"no","code":"c","param":"p","type":"t"}}')
    assert type(error) is kind
    assert error.status_code == status
    assert (error.code, error.param, error.type) == ("c", "p", "t")
    assert str(error).startswith(f"{status}: no. ")
    assert len(str(error)) > len(f"{status}: no. ")  # says what to do next


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"error":"Unauthorized"}', "Unauthorized."),
        (b'{"object":"error","message":"flat","code":400}', "flat."),
        (b'{"detail":"Not Found"}', "Not Found."),
        (b'{"detail":[{"loc":["body"],"msg":"missing"}]}', '[{"loc": ["body"], "msg": "missing"}].'),
        (b'{"error":{"code":7}}', '{"error": {"code": 7}}.'),
        (b'["odd"]', '["odd"].'),
        (b"Internal Server Error", "Internal Server Error."),
        (b"<html><TITLE>502 Bad\nGateway</TITLE>" + b"x" * 9999, "an HTML page, “502 Bad Gateway”."),
        (b"<body><h1 class=a>Oops</h1>", "an HTML page, “Oops”."),
        (b"<p>no <b>title</b></p>", "an HTML page, “no title”."),
        (b"a\nb\t c!", "a b c!"),
        (b"\xff\xfe", "\ufffd\ufffd."),
        ({"error": {"message": "parsed already"}}, "parsed already."),
        ("text", "text."),
    ],
)
def test_the_servers_own_words(body: object, said: str) -> None:
    assert str(status_error(500, body)).startswith(f"500: {said} ")


@pytest.mark.parametrize("body", [b"", "", None, b"{}", b"  "])
def test_no_words_at_all(body: object) -> None:
    assert str(status_error(502, body)).startswith("502 without a message. ")


@pytest.mark.parametrize(
    "body",
    [
        {"message": "The input (6011 tokens) is longer than the model's context length (512 tokens)."},
        {"message": "Requested token count exceeds the model's maximum context length of 512 tokens."},
        {"message": "max_completion_tokens is too large: 999.This model supports at most 512 …"},
        {"message": "Input length (600 tokens) exceeds the maximum allowed length (506 tokens)."},
        {"error": {"message": "This model's maximum context length is 8192 tokens. However, …"}},
        {"error": {"message": "too long", "code": "context_length_exceeded"}},
        {"error": {"message": "the request exceeds the available context size, try increasing it"}},
    ],
)
def test_over_long_context(body: dict[str, Any]) -> None:
    error = status_error(400, json.dumps(body).encode())
    assert type(error) is ContextWindowExceeded
    assert "Shorten the conversation" in str(error)
    assert type(status_error(500, json.dumps(body).encode())) is InternalServerError


@pytest.mark.parametrize("words", ["context_length must be positive", "The name exceeds the maximum length"])
def test_other_refusals_are_not_taken_for_an_over_long_context(words: str) -> None:
    assert type(status_error(400, {"message": words})) is BadRequestError


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"error": {"code": 400}}, 400),
        ({"code": "503"}, 503),
        ({"error": {"code": "model_not_found", "type": "invalid_request_error"}}, 404),
        ({"error": {"code": "odd", "type": "rate_limit_error"}}, 429),
        ({"error": {"code": 7, "status": 502}}, 502),
        ({"error": {"code": 200, "type": "SERVICE_UNAVAILABLE"}}, 503),
        ({"type": "BAD_REQUEST"}, 400),
        ({"type": "BadRequestError"}, 400),
        ({"type": "Bad Request"}, 400),
        ({"type": "BadRequest"}, 400),
        ({"type": "400"}, 400),
        ({"type": "InternalServerError"}, 500),
        ({"error": {"type": "overloaded_error"}}, 503),
        ({"error": "Unauthorized"}, UNSTATED),
        ({"error": {"code": True}}, UNSTATED),
        ({"error": {"code": None, "type": "server_error"}}, 500),
        ("text", UNSTATED),
    ],
)
def test_status_of_an_error_without_http_status(body: object, status: int) -> None:
    assert stated_status(body) == status


def test_response_and_request_id() -> None:
    response = httpx.Response(404, headers={"x-request-id": "r1"})
    error = status_error(404, b"", response)
    assert error.response is response
    assert error.request_id == "r1"


@pytest.mark.parametrize(
    "secret",
    ["sk-abcdefgh1234", "wk-AbCdEfGhIj.ws-KlMnOpQrSt", "ak-abcdefghij", "as-abcdefghij", "hf_abcdefghij"],
)
def test_credentials_are_never_echoed(secret: str) -> None:
    said = {"message": f"Incorrect API key: {secret}.", "tried": [secret, 1]}
    body = json.dumps({"error": said, secret: 0})
    errors = [
        status_error(401, body.encode()),
        status_error(401, f"bad key {secret}"),
        status_error(401, b'{"error":"Bearer my.own%key is wrong"}'),
        invalid_response("odd", f"you sent {secret}".encode()),
    ]
    for error in errors:
        for shown in (str(error), repr(error), str(error.body), repr(error.args)):
            assert not any(part in shown for part in [*secret.split("."), "my.own%key"])


def test_known_secrets_of_any_shape_are_blotted_out() -> None:
    error = status_error(401, b'{"error":{"message":"key hunter2-long is wrong"}}', secrets=("hunter2-long", ""))
    assert "hunter2" not in str(error) + str(error.body)
    assert "[hidden]" in str(error)


def test_a_secret_is_not_shown_by_halves_where_a_long_text_is_cut() -> None:
    for place in range(MAX_TEXT_BODY - 12, MAX_TEXT_BODY + 2):
        text = "x" * place + " hunter2-long"
        for error in (
            status_error(500, text, secrets=["hunter2-long"]),
            invalid_response("odd", text, secrets=["hunter2-long"]),
        ):
            assert "hunt" not in str(error.body)
            assert len(str(error.body)) <= MAX_TEXT_BODY


def test_deep_body_is_survived() -> None:
    error = status_error(400, b"[" * 100_000)
    assert type(error) is BadRequestError
    assert len(str(error.body)) < 5000


def test_excerpt() -> None:
    assert excerpt("a\n\n  b") == "a b."
    assert excerpt("a?") == "a?"
    assert len(excerpt("x" * 5000)) == EXCERPT
    assert excerpt("x" * 5000).endswith("…")


def test_invalid_answer_shows_what_came() -> None:
    assert "The server sent: nothing." in str(invalid_response("it is odd", b""))
    assert str(invalid_response("it is odd", "plain")).startswith("it is odd. The server sent: plain. ")
