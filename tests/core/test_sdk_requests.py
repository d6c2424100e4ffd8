"""Requests of other SDKs: keys, failures, answers."""

from __future__ import annotations

import json
import socket
from importlib import import_module
from typing import Any

import httpx
import pytest

from homing import Hooks, NoAffinity
from homing.core.affinity.strategies import BodyAffinity, HeaderAffinity, ModalAffinity
from homing.errors import APIConnectionError, ColdStartTimeout, ConfigurationError, ServerUnreachable
from homing.integrations._sdk.requests import (
    READ_STATUSES,
    SDKSettings,
    apply_affinity,
    cold_start_response,
    key_of,
    origin_of,
    own_key,
    request_caller,
    retryable_error,
    translate_error,
)

from ..libraries import LIBRARIES

SALT = b"0123456789abcdef"
HELLO = {"messages": [{"role": "system", "content": "Be terse."}, {"role": "user", "content": "Hello"}]}


def terms(environment: dict[str, str] | None = None, **changes: Any) -> SDKSettings:
    given: dict[str, Any] = {"affinity": "prefix", "cold_start_timeout": None, "base_url": None, "proxy_token": None}
    return SDKSettings.resolve(**{**given, "hooks": None, "salt": None, **changes}, environment=environment or {})


def test_a_growing_list_keeps_its_key() -> None:
    grown = {"messages": [*HELLO["messages"], {"role": "assistant", "content": "Hi"}, {"role": "user", "content": "?"}]}
    key = key_of(HELLO, salt=SALT)
    assert key is not None
    assert key_of(grown, salt=SALT) == key
    assert key_of(HELLO, salt=b"another salt") != key


def test_prompt_cache_key_comes_first() -> None:
    key = key_of({**HELLO, "prompt_cache_key": "session"}, salt=SALT)
    assert key == key_of({"messages": [], "prompt_cache_key": "session"}, salt=SALT)
    assert key != key_of(HELLO, salt=SALT)


@pytest.mark.parametrize(
    "body",
    [
        *(None, [], "text", {}, {"messages": []}, {"messages": "text"}, {"messages": [None]}),
        *({"messages": [{"content": "no role"}]}, {"prompt_cache_key": 3}),
    ],
)
def test_what_is_no_conversation_has_no_key(body: Any) -> None:
    assert key_of(body, salt=SALT) is None


def test_headers_are_added_and_the_body_is_left_as_it_is() -> None:
    content = json.dumps(HELLO, indent=2).encode()
    key, added, sent = apply_affinity(terms(), {}, content)
    assert added == {"Modal-Session-ID": key, "Modal-Routing-Affinity-Key": key}
    assert sent == content


def test_a_strategy_may_change_the_body() -> None:
    key, added, sent = apply_affinity(terms(affinity=BodyAffinity()), {}, json.dumps(HELLO).encode())
    assert added == {}
    assert json.loads(sent) == {**HELLO, "prompt_cache_key": key}


def test_the_callers_own_header_wins() -> None:
    content = json.dumps(HELLO).encode()
    headers = httpx.Headers({"modal-session-id": "mine"})
    assert apply_affinity(terms(), headers, content) == (None, {}, content)


@pytest.mark.parametrize("content", [b"", b"no JSON", b"\xff", b"[1]", b"{}"])
def test_other_bodies_pass(content: bytes) -> None:
    assert apply_affinity(terms(), {}, content) == (None, {}, content)


def test_affinity_can_be_off() -> None:
    content = json.dumps(HELLO).encode()
    assert apply_affinity(terms(affinity="none"), {}, content) == (None, {}, content)


def test_terms() -> None:
    assert terms().affinity.__class__ is ModalAffinity
    assert terms(affinity=NoAffinity()).keyed is False
    assert terms(affinity=HeaderAffinity("X-Key")).keyed is True
    assert (terms().cold_start_timeout, terms(cold_start_timeout=3).cold_start_timeout) == (1200.0, 3.0)
    assert terms().hooks == Hooks()
    assert terms().salt == terms().salt != terms(salt="of the service").salt
    assert terms(salt="of the service").salt == terms(salt="of the service").salt != terms(salt="of another").salt
    assert terms().policy.max_retries == 0
    assert terms().origin is None
    assert terms(base_url="https://host/v1").origin == "https://host:443"
    assert terms({"OPENAI_BASE_URL": "http://host:8000"}).origin == "http://host:8000"
    for wrong in ("short", 12345678):
        with pytest.raises(ConfigurationError, match="salt must be"):
            terms(salt=wrong)


def test_a_proxy_token_needs_a_server_to_go_to_and_is_not_shown() -> None:
    variables = {"MODAL_PROXY_TOKEN_ID": "wk-abc", "MODAL_PROXY_TOKEN_SECRET": "ws-secret0123", "OPENAI_API_KEY": "sk"}
    with pytest.raises(ConfigurationError, match="base_url"):
        terms(variables)
    bound = terms(variables, base_url="https://host")
    assert bound.proxy_headers == {"Modal-Key": "wk-abc", "Modal-Secret": "ws-secret0123"}
    assert "secret" not in repr(bound)
    headers = {"Modal-Key": "the caller's own"}
    bound.authorize(headers)
    assert headers == {"Modal-Key": "the caller's own", "Modal-Secret": "ws-secret0123"}
    assert terms(proxy_token="wk-a.ws-b", base_url="https://host").proxy_headers["Modal-Key"] == "wk-a"


def test_origins() -> None:
    assert origin_of(httpx.URL("https://host/v1/x")) == origin_of("https://host:443") == "https://host:443"
    assert origin_of("http://host") == "http://host:80"


@pytest.mark.parametrize("name", LIBRARIES)
def test_failures_of_either_library_are_told_alike(name: str) -> None:
    library: Any = import_module(name)
    request = library.Request("GET", "http://host")
    refused = translate_error(library.ConnectError("refused"), request)
    assert (type(refused), str(refused)) == (ServerUnreachable, "cannot connect to host: refused")
    assert isinstance(translate_error(ConnectionResetError("?"), request), ServerUnreachable)
    unknown = library.ConnectError("nobody")
    unknown.__cause__ = socket.gaierror(8, "unknown")
    assert type(translate_error(unknown, request)) is APIConnectionError


def test_refusals() -> None:
    assert {status for status in range(200, 600) if retryable_error(status, b"", None)} == READ_STATUSES
    refused = retryable_error(503, b"", httpx.Response(503, headers={"retry-after": "3"}))
    assert refused is not None
    assert refused.status_code == 503


def test_the_answer_after_a_cold_start_in_vain() -> None:
    status, headers, body = cold_start_response(ColdStartTimeout("nobody came", waited=3, attempts=2, last=None))
    assert (status, headers["x-should-retry"]) == (503, "false")
    assert json.loads(body)["error"]["message"] == "nobody came"


def test_a_key_of_the_callers_own_is_found() -> None:
    assert own_key(terms(), httpx.Headers({"modal-session-id": "mine"})) == "mine"
    assert own_key(terms(), httpx.Headers()) is None
    assert own_key(terms(affinity="none"), httpx.Headers({"modal-session-id": "mine"})) is None


def test_callers_are_told_apart_by_what_is_not_the_sdks() -> None:
    def caller(**headers: str) -> bytes:
        return request_caller(asked, {name.replace("_", "-"): value for name, value in headers.items()})

    asked = terms()
    one = caller(authorization="Bearer a", x_stainless_retry_count="0", content_length="9")
    assert one == caller(Authorization="Bearer a", X_Stainless_Retry_Count="1", Content_Length="8", User_Agent="x")
    assert len({one, caller(authorization="Bearer b"), caller(authorization="Bearer a", openai_project="p")}) == 3
