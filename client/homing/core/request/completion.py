"""Building the request of a chat completion from its arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import ConfigurationError
from ...types.models import ModelList
from ...types.not_given import NOT_GIVEN, NotGiven
from ..affinity.strategies import Affinity
from ..retry.timers import Timeout
from ..secrets.redact import SecretMapping, as_secret_mapping
from .environment import check_mapping, merge_headers, resolve_max_response_bytes
from .options import Options
from .request import Request
from .response_format import response_format_of
from .resume_style import ResumeChoice, check_choice

PATH = "/v1/chat/completions"

CALL_OPTIONS = ("timeout", "max_response_bytes", "resume", "extra_headers", "extra_query", "extra_body")
"""Arguments that concern the call, not the model. They are not part of the JSON."""


NOT_A_TURN_S = {
    "messages": "the prompt of a turn is its conversation's history: loose calls take messages, with "
    "client.chat.completions.create",
    "stream": "call stream(content) for a stream, send(content) for a whole reply",
    "affinity": "it is the client's: client.with_options(affinity=…).conversation()",
    "affinity_key": "it is the conversation's: client.conversation(affinity_key=…), rekey()",
    "n": "a turn has one reply: use client.chat.completions.create, or fork(n)",
}
"""Arguments that calls take but turns don't, with the alternative. In the JSON they would be lost, or worse."""


def check_turn(params: Mapping[str, Any]) -> None:
    """Raise `ConfigurationError` for parameters that a conversation's turn doesn't take."""
    for name, way_out in NOT_A_TURN_S.items():
        if name in params and not (name == "n" and params[name] == 1):
            raise ConfigurationError(f"a turn does not take {name}: {way_out}")


def chat_request(
    options: Options,
    params: Mapping[str, Any],
    messages: Sequence[bytes],
    *,
    model: str | None,
    stream: bool,
    affinity: Affinity,
    key: str | None,
    timeout: Timeout | float | NotGiven | None = NOT_GIVEN,
    max_response_bytes: int | NotGiven | None = NOT_GIVEN,
    resume: ResumeChoice | None = None,
    extra_headers: Mapping[str, str] | None = None,
    extra_query: Mapping[str, Any] | None = None,
    extra_body: Mapping[str, Any] | None = None,
) -> Request:
    """Build the request.

    ``params`` are the model's parameters as the caller passed them. A ``model`` of None is filled in later, once
    the server has been asked.
    """
    body: dict[str, Any] = {"model": model}
    body.update((name, value) for name, value in params.items() if value is not NOT_GIVEN)
    response_format = body.get("response_format")
    if isinstance(response_format, type):
        body["response_format"] = response_format_of(response_format)
    if stream:
        body["stream"] = True
        # Without it, a stream reports no usage, so cache hits would be unknown.
        body["stream_options"] = {"include_usage": True, **(body.get("stream_options") or {})}
    elif body.get("stream_options") is not None:
        raise ConfigurationError("stream_options goes with stream=True only")
    if extra_body:
        if "messages" in check_mapping(extra_body, name="extra_body"):
            raise ConfigurationError("extra_body may not replace messages: pass messages=…")
        body.update(extra_body)
    return Request(
        method="POST",
        path=PATH,
        timeout=options.timeout if isinstance(timeout, NotGiven) else Timeout.of(timeout),
        params=body,
        messages=messages,
        stream=stream,
        affinity=affinity,
        key=key,
        headers=SecretMapping(merge_headers({}, extra_headers or {}, name="extra_headers")),
        query=as_secret_mapping(check_mapping(extra_query or {}, name="extra_query")),
        resume=options.resume if resume is None else check_choice(resume),
        max_response_bytes=None
        if isinstance(max_response_bytes, NotGiven)
        else resolve_max_response_bytes(max_response_bytes),
    )


def split_call_options(params: dict[str, Any]) -> dict[str, Any]:
    """Remove the call's own options from ``params``, and return them."""
    return {name: params.pop(name) for name in CALL_OPTIONS if name in params}


def choices_asked_for(params: Mapping[str, Any]) -> int:
    """Return ``n``, or 1 if it wasn't passed."""
    n = params.get("n")
    return n if isinstance(n, int) and n > 0 else 1


def first_model(models: ModelList) -> str:
    """Return the first model of a server's list. Engines like SGLang serve only one."""
    if not models.data:
        raise ConfigurationError("the server lists no models: pass model=… or set HOMING_MODEL")
    return models.data[0].id
