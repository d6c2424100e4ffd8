"""What tracers are told of a call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from homing import Hooks, Telemetry, Timeout
from homing.core.request.call_trace import CallTrace
from homing.core.request.options import Options
from homing.core.request.request import Request
from homing.core.telemetry.hooks import Called, Calling
from homing.types import ChatCompletion, CompletionUsage


def options(hooks: Hooks) -> Options:
    given: dict[str, Any] = dict.fromkeys(
        ("api_key", "proxy_token", "model", "timeout", "cold_start_timeout", "max_retries", "retry", "hooks")
    )
    resolved = Options.resolve(
        "http://host", affinity="prefix", default_headers=None, default_query=None, environment={}, **given
    )
    return replace(resolved, hooks=hooks)


def completion(usage: CompletionUsage | None) -> ChatCompletion:
    return ChatCompletion.model_validate({"id": "1", "created": 0, "model": "m", "choices": [], "usage": usage})


class Told:
    def __init__(self) -> None:
        self.calls: list[Calling] = []
        self.ends: list[Called] = []

    def on_call(self, calling: Calling) -> Callable[[Called], object]:
        self.calls.append(calling)
        return self.ends.append


def chat() -> Request:
    return Request("POST", "/v1/chat/completions", Timeout(), params={"model": "m"}, messages=[b"{}"], conversation="c")


def test_beginning_and_end_are_told_once() -> None:
    told, watch, request = Told(), CallTrace(), chat()
    for _ in range(2):
        watch.begin(request, options(Hooks(on_call=told.on_call)))
    watch.error = error = KeyError("x")
    usage = CompletionUsage(prompt_tokens=3, completion_tokens=4, total_tokens=7)
    for _ in range(2):
        watch.end(request, Telemetry, lambda: completion(usage), interrupted=True)
    (calling,), (called,) = told.calls, told.ends
    assert (calling.base_url, calling.conversation, calling.stream) == ("http://host", "c", False)
    assert (calling.params, calling.messages) == ({"model": "m"}, [b"{}"])
    assert (called.model, called.error, called.interrupted) == ("m", error, True)
    assert called.telemetry.prompt_tokens == 3  # of a whole answer, whose stream nobody measured


def test_what_was_measured_stands() -> None:
    told, watch, request = Told(), CallTrace(), chat()
    watch.begin(request, options(Hooks(on_call=told.on_call)))
    usage = CompletionUsage(prompt_tokens=3, completion_tokens=4, total_tokens=7)
    watch.end(request, lambda: Telemetry(prompt_tokens=9), lambda: completion(usage), interrupted=False)
    assert told.ends[0].telemetry.prompt_tokens == 9


def test_nothing_came() -> None:
    told = Told()
    for came in (None, completion(None)):
        watch, request = CallTrace(), chat()
        watch.begin(request, options(Hooks(on_call=told.on_call)))
        watch.end(request, Telemetry, lambda came=came: came, interrupted=False)  # type: ignore[misc]
    assert [called.telemetry.prompt_tokens for called in told.ends] == [None, None]


def test_other_requests_and_deaf_ears_cost_nothing() -> None:
    told = Told()
    for request, hooks in (
        (Request("GET", "/v1/models", Timeout()), Hooks(on_call=told.on_call)),
        (chat(), Hooks()),
        (chat(), Hooks(on_call=lambda calling: None)),
    ):
        watch = CallTrace()
        watch.begin(request, options(hooks))
        watch.end(request, Telemetry, lambda: None, interrupted=False)
    assert told.calls == []
