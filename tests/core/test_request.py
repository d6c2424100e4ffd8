"""One call's settings become URL, headers and body."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel, Field

from homing.core.affinity.strategies import BodyAffinity, HeaderAffinity, NoAffinity
from homing.core.encoding.messages import encode_messages
from homing.core.request.completion import (
    NOT_A_TURN_S,
    chat_request,
    check_turn,
    choices_asked_for,
    first_model,
    split_call_options,
)
from homing.core.request.options import Options
from homing.core.request.request import USER_AGENT, Request
from homing.core.retry.timers import Timeout
from homing.errors import ConfigurationError
from homing.types import Model, ModelList
from homing.types.not_given import NOT_GIVEN

HELLO = encode_messages([{"role": "user", "content": "Hello"}])


def options(**changes: Any) -> Options:
    settings: dict[str, Any] = {
        "api_key": None,
        "proxy_token": None,
        "model": None,
        "timeout": Timeout(total=9),
        "cold_start_timeout": None,
        "max_retries": None,
        "retry": None,
        "affinity": "prefix",
        "default_headers": None,
        "default_query": None,
        "hooks": None,
        "environment": {},
    }
    return Options.resolve("http://host/v1", **{**settings, **changes})


def chat(params: dict[str, Any], *, stream: bool = False, **call: Any) -> Request:
    affinity = call.pop("affinity", NoAffinity())
    key = call.pop("key", None)
    return chat_request(options(), params, HELLO, model="m", stream=stream, affinity=affinity, key=key, **call)


def body(request: Request, *, with_key: bool = True) -> dict[str, Any]:
    content = request.build(options(), with_key=with_key)[2]
    assert content is not None
    sent: dict[str, Any] = json.loads(content)
    return sent


def headers(request: Request, settings: Options | None = None, *, with_key: bool = True) -> dict[str, str]:
    return request.build(settings or options(), with_key=with_key)[1]


def test_a_plain_get() -> None:
    url, sent, content = Request("GET", "/v1/models", Timeout()).build(options(api_key="key"), with_key=True)
    assert (url, content) == ("http://host/v1/models", None)
    assert sent == {
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "User-Agent": USER_AGENT,
        "Authorization": "Bearer key",
    }


def test_a_completion() -> None:
    request = chat({"temperature": 0.5, "seed": None, "stop": NOT_GIVEN})
    assert (request.method, request.path, request.timeout) == ("POST", "/v1/chat/completions", Timeout(total=9))
    assert body(request) == {
        "messages": [{"role": "user", "content": "Hello"}],
        "model": "m",
        "temperature": 0.5,
        "seed": None,  # null is said, what was not given is not
    }
    assert headers(request)["Content-Type"] == "application/json"


def test_what_becomes_of_a_broken_reply_is_the_calls_or_the_clients() -> None:
    assert chat({}).resume == "auto"
    assert chat({}, resume="never").resume == "never"
    assert "resume" not in body(chat({}, resume="never"))
    with pytest.raises(ConfigurationError, match="resume must be"):
        chat({}, resume="always")


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({}, {"include_usage": True}),
        ({"stream_options": None}, {"include_usage": True}),
        (
            {"stream_options": {"continuous_usage_stats": True}},
            {"include_usage": True, "continuous_usage_stats": True},
        ),
        ({"stream_options": {"include_usage": False}}, {"include_usage": False}),
    ],
)
def test_a_stream_asks_for_usage(given: dict[str, Any], sent: dict[str, Any]) -> None:
    request = chat(given, stream=True)
    assert (body(request)["stream"], body(request)["stream_options"]) == (True, sent)
    assert headers(request)["Accept"] == "text/event-stream"


def test_stream_options_need_a_stream() -> None:
    with pytest.raises(ConfigurationError, match="stream=True only"):
        chat({"stream_options": {"include_usage": True}})
    assert body(chat({"stream_options": None}))["stream_options"] is None


def test_extra_body_is_added_as_it_is_but_cannot_replace_the_messages() -> None:
    assert body(chat({"top_k": 1}, extra_body={"top_k": 2, "odd": [1]}))["odd"] == [1]
    assert body(chat({"top_k": 1}, extra_body={"top_k": 2}))["top_k"] == 2
    with pytest.raises(ConfigurationError, match="extra_body may not replace messages"):
        chat({}, extra_body={"messages": []})


@pytest.mark.parametrize("name", ["extra_body", "extra_query", "extra_headers"])
def test_extras_are_mappings(name: str) -> None:
    call: dict[str, Any] = {name: 5}
    with pytest.raises(ConfigurationError, match=f"{name} must be a mapping of names to values, got int"):
        chat({}, **call)


@pytest.mark.parametrize(
    ("timeout", "expected"), [(NOT_GIVEN, Timeout(total=9)), (None, Timeout.of(None)), (3, Timeout(total=3))]
)
def test_the_calls_own_timeout(timeout: Any, expected: Timeout) -> None:
    assert chat({}, timeout=timeout).timeout == expected


def test_what_is_closer_to_the_call_wins_however_it_is_spelt() -> None:
    settings = options(api_key="key", default_headers={"authorization": "Bearer other", "X-A": "1", "X-B": "1"})
    sent = headers(chat({}, extra_headers={"x-a": "2", "user-agent": "mine"}), settings)
    assert {name.lower(): value for name, value in sent.items()} == {
        "accept": "application/json",
        "accept-encoding": "identity",
        "content-type": "application/json",
        "authorization": "Bearer other",
        "x-a": "2",
        "x-b": "1",
        "user-agent": "mine",
    }
    assert len(sent) == 7


def test_bad_headers_show_before_anything_is_sent() -> None:
    with pytest.raises(ConfigurationError, match="extra_headers"):
        chat({}, extra_headers={"X": "a\nb"})


def test_query_parameters_of_client_and_call() -> None:
    settings = options(default_query={"a": 1, "b": 1})
    assert chat({}, extra_query={"b": 2}).all_query(settings) == {"a": 1, "b": 2}


def test_the_key_goes_along_when_it_is_to() -> None:
    request = chat({}, affinity=HeaderAffinity("X-Key") + BodyAffinity("user"), key="k")
    assert (headers(request)["X-Key"], body(request)["user"]) == ("k", "k")
    assert "X-Key" not in headers(request, with_key=False)
    assert "user" not in body(request, with_key=False)
    loose = chat({}, affinity=HeaderAffinity("X-Key"))
    assert "X-Key" not in headers(loose)
    get = Request("GET", "/v1/models", Timeout(), affinity=BodyAffinity() + HeaderAffinity("X-Key"), key="k")
    _, sent, content = get.build(options(), with_key=True)
    assert (sent["X-Key"], content) == ("k", None)


class Part(BaseModel):
    size: int | None = None


class Thing(BaseModel):
    name: str = "a"
    parts: list[Part] = Field(default_factory=list)
    notes: dict[str, int] = Field(default_factory=dict)


def test_a_model_class_becomes_a_strict_schema() -> None:
    sent = body(chat({"response_format": Thing}))["response_format"]
    assert (sent["type"], sent["json_schema"]["name"], sent["json_schema"]["strict"]) == ("json_schema", "Thing", True)
    schema = sent["json_schema"]["schema"]
    assert schema["required"] == ["name", "parts", "notes"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["name"]["default"] == "a"
    assert schema["properties"]["notes"]["additionalProperties"] == {"type": "integer"}  # its own rule stands
    part = schema["$defs"]["Part"]
    assert (part["required"], part["additionalProperties"]) == (["size"], False)
    assert "default" not in part["properties"]["size"]  # null is no useful default


class Open(BaseModel, extra="allow"):
    name: str


def test_a_model_that_allows_more_keeps_allowing_it() -> None:
    schema = body(chat({"response_format": Open}))["response_format"]["json_schema"]["schema"]
    assert schema["additionalProperties"] is True


def test_a_schemas_name_is_what_openai_allows() -> None:
    class Größe(BaseModel):
        pass

    odd = type("X" * 100, (Größe,), {})
    assert body(chat({"response_format": Größe}))["response_format"]["json_schema"]["name"] == "Gr__e"
    assert len(body(chat({"response_format": odd}))["response_format"]["json_schema"]["name"]) == 64


def test_a_plain_response_format_is_sent_as_it_is() -> None:
    assert body(chat({"response_format": {"type": "json_object"}}))["response_format"] == {"type": "json_object"}


@pytest.mark.parametrize("model", [Thing(), dict, "Thing", None])
def test_what_is_no_model_class(model: Any) -> None:
    from homing.core.request.response_format import response_format_of

    with pytest.raises(ConfigurationError, match="must be a pydantic model class"):
        response_format_of(model)


def test_the_calls_own_options_are_taken_out_of_the_parameters() -> None:
    params = {"timeout": 3, "extra_body": None, "top_k": 1}
    assert split_call_options(params) == {"timeout": 3, "extra_body": None}
    assert params == {"top_k": 1}


@pytest.mark.parametrize(("n", "choices"), [(None, 1), (3, 3), (0, 1), ("3", 1)])
def test_choices_asked_for(n: Any, choices: int) -> None:
    assert choices_asked_for({"n": n}) == choices
    assert choices_asked_for({}) == 1


def test_the_first_model_of_a_list() -> None:
    assert first_model(ModelList(data=[Model(id="a"), Model(id="b")])) == "a"
    with pytest.raises(ConfigurationError, match="pass model=… or set HOMING_MODEL"):
        first_model(ModelList(data=[]))


def test_not_given_is_false_and_says_its_name() -> None:
    assert not NOT_GIVEN
    assert repr(NOT_GIVEN) == "NOT_GIVEN"


@pytest.mark.parametrize("name", NOT_A_TURN_S)
def test_what_a_turn_does_not_take(name: str) -> None:
    check_turn({"n": 1, "temperature": 0})
    with pytest.raises(ConfigurationError, match=f"does not take {name}: "):
        check_turn({"temperature": 0, name: 2})


def test_who_asks_is_told_by_what_client_and_call_were_given_to_send() -> None:
    def caller(settings: Options, **call: Any) -> bytes:
        request = chat({}, **call)
        request.build(settings, with_key=True)
        return request.caller(settings)

    alice = options(api_key="alice", default_headers={"X-App": "a"})
    one = caller(alice)
    assert one == caller(alice, key="k", affinity=HeaderAffinity("X-Key"))  # a key says where to, not who
    assert one == caller(alice, extra_headers={"traceparent": "00"})
    others = [
        caller(alice.changed(api_key="bob")),
        caller(alice.changed(default_headers={"X-App": "b"})),
        caller(alice, extra_headers={"authorization": "Bearer eve"}),
        caller(alice, extra_query={"key": "bob"}),
    ]
    assert len({one, *others}) == 5


def test_only_a_request_with_an_affinity_has_a_home() -> None:
    assert chat({}, key="k", affinity=HeaderAffinity("X-Key")).home == "k"
    assert chat({}, key="k").home is None
    assert chat({}, affinity=HeaderAffinity("X-Key")).home is None
