"""OpenTelemetry: a span for each call, and metrics, following the GenAI conventions.

    from homing import Client
    from homing.integrations.otel import instrument     # pip install 'homing[otel]'

    client = Client(hooks=instrument())

Spans are named ``chat {model}`` and metrics ``gen_ai.client.*``, following
github.com/open-telemetry/semantic-conventions-genai (in development, as of Nov 2026).
Names that the conventions lack begin with ``homing.``. Only the API package is needed; without an SDK nothing
is recorded. Message content is recorded only if
``OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT`` is ``true``. Keys are never recorded.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .._version import __version__
from ..core.telemetry.hooks import Called, Calling, Hooks
from ..errors import APIStatusError, ConfigurationError

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter, MeterProvider
    from opentelemetry.trace import Span, Tracer, TracerProvider

    from ..types import ChatCompletion

CAPTURE_VARIABLE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"

_SCOPE = "homing"
_REQUEST = {
    "max_tokens": "gen_ai.request.max_tokens",
    "max_completion_tokens": "gen_ai.request.max_tokens",
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "top_k": "gen_ai.request.top_k",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "seed": "gen_ai.request.seed",
}
# Seconds and tokens: the conventions' own bucket boundaries.
_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_FIRST_CHUNK = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
# Cold starts last minutes.
_WAITS = (1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0)


def instrument(
    hooks: Hooks | None = None,
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    provider_name: str = "sglang",
) -> Hooks:
    """Return hooks that record every call.

    Args:
        hooks: Hooks to call as well.
        tracer_provider: Defaults to the global one.
        meter_provider: Defaults to the global one.
        provider_name: The value of ``gen_ai.provider.name``.

    Raises:
        ConfigurationError: opentelemetry is not installed.
    """
    try:
        from opentelemetry import metrics, trace
    except ImportError:
        raise ConfigurationError("instrument() needs opentelemetry: pip install 'homing[otel]'") from None
    recorder = _Recorder(
        trace.get_tracer(_SCOPE, __version__, tracer_provider),
        metrics.get_meter(_SCOPE, __version__, meter_provider),
        provider_name=provider_name,
        capture=os.environ.get(CAPTURE_VARIABLE, "").lower() in ("true", "1", "span_only", "span_and_event"),
    )
    hooks = hooks or Hooks()
    other = hooks.on_call

    def on_call(calling: Calling) -> Callable[[Called], object]:
        ends = [end for end in (recorder.begin(calling), other(calling) if other else None) if end is not None]

        def ended(called: Called) -> None:
            for end in ends:
                end(called)

        return ended

    on_turn = hooks.on_reply

    def on_reply(reply: Any) -> None:
        recorder.count_turn(reply)
        if on_turn is not None:
            on_turn(reply)

    return replace(hooks, on_call=on_call, on_reply=on_reply)


class _Recorder:
    def __init__(self, tracer: Tracer, meter: Meter, *, provider_name: str, capture: bool) -> None:
        from opentelemetry.trace import SpanKind, Status, StatusCode

        self._tracer = tracer
        self._client = SpanKind.CLIENT
        self._failed: Callable[[str], Status] = lambda why: Status(StatusCode.ERROR, why)
        self._provider = provider_name
        self._capture = capture
        histogram, counter = meter.create_histogram, meter.create_counter
        self._duration = histogram(
            "gen_ai.client.operation.duration",
            unit="s",
            description="Duration of calls, cold starts included",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._tokens = histogram(
            "gen_ai.client.token.usage",
            unit="{token}",
            description="Tokens of prompts and replies",
            explicit_bucket_boundaries_advisory=_TOKENS,
        )
        self._first = histogram(
            "gen_ai.client.operation.time_to_first_chunk",
            unit="s",
            description="From sending the attempt that succeeded to its first token",
            explicit_bucket_boundaries_advisory=_FIRST_CHUNK,
        )
        self._waited = histogram(
            "homing.cold_start.duration",
            unit="s",
            description="Time that calls waited for a replica, of those that had to",
            explicit_bucket_boundaries_advisory=_WAITS,
        )
        self._prompt = counter("homing.prompt.tokens", "{token}", "Prompt tokens, where cached ones are told")
        self._cached = counter("homing.cached.tokens", "{token}", "Of these, those found in a replica's cache")
        self._retries = counter("homing.retries", "{attempt}", "Attempts repeated after passing failures")
        self._resumes = counter("homing.resumes", "{resume}", "Broken streams that were gone on with")
        self._verdicts = counter("homing.turns", "{turn}", "Turns of conversations, by what became of their cache")

    def begin(self, calling: Calling) -> Callable[[Called], None]:
        """Begin a span as a child of the caller's current span."""
        url = urlsplit(calling.base_url)
        common: dict[str, Any] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": self._provider,
            "server.address": url.hostname or "",
            "server.port": url.port or (443 if url.scheme == "https" else 80),
        }
        attributes = {**common, "homing.stream": calling.stream}
        if calling.conversation is not None:
            attributes["gen_ai.conversation.id"] = calling.conversation
        for name, attribute in _REQUEST.items():
            if isinstance(value := calling.params.get(name), (int, float)):
                attributes[attribute] = value
        if self._capture:
            attributes["gen_ai.input.messages"] = _messages(calling.messages)
        # `end` adds the model to the name: if the caller chose none, it is not known yet.
        span = self._tracer.start_span("chat", kind=self._client, attributes=attributes)
        began = calling.clock()

        def end(called: Called) -> None:
            seconds = calling.clock() - began
            if called.model:
                common["gen_ai.request.model"] = called.model
                span.update_name(f"chat {called.model}")
                span.set_attribute("gen_ai.request.model", called.model)
            if called.completion is not None and called.completion.model:
                common["gen_ai.response.model"] = called.completion.model
            if called.error is not None:
                common["error.type"] = _type_of(called.error)
            self._finish(span, called)
            self._count(called, common, seconds)

        return end

    def _finish(self, span: Span, called: Called) -> None:
        told = called.telemetry
        attributes: dict[str, Any] = {
            "gen_ai.usage.input_tokens": told.prompt_tokens,
            "gen_ai.usage.output_tokens": told.completion_tokens,
            "gen_ai.usage.cache_read.input_tokens": told.cached_tokens,
            "gen_ai.response.time_to_first_chunk": told.time_to_first_token,
            "homing.replica": told.replica,
            "homing.waited": told.waited or None,
            "homing.attempts": told.attempts,
            "homing.resumes": told.resumes or None,
            "homing.interrupted": called.interrupted or None,
        }
        completion = called.completion
        if completion is not None:
            reasons = [choice.finish_reason for choice in completion.choices if choice.finish_reason]
            attributes |= {
                "gen_ai.response.id": completion.id or None,
                "gen_ai.response.model": completion.model or None,
                "gen_ai.response.finish_reasons": reasons or None,
            }
            if self._capture:
                attributes["gen_ai.output.messages"] = _spoken(completion)
        span.set_attributes({name: value for name, value in attributes.items() if value is not None})
        if called.error is not None:
            span.set_attribute("error.type", _type_of(called.error))
            # The message may quote the conversation.
            span.set_status(self._failed(str(called.error) if self._capture else _type_of(called.error)))
        span.end()

    def _count(self, called: Called, common: Mapping[str, Any], seconds: float) -> None:
        told = called.telemetry
        self._duration.record(seconds, common)
        if told.time_to_first_token is not None:
            self._first.record(told.time_to_first_token, common)
        for kind, tokens in (("input", told.prompt_tokens), ("output", told.completion_tokens)):
            if tokens is not None:
                self._tokens.record(tokens, {**common, "gen_ai.token.type": kind})
        if told.waited:
            self._waited.record(told.waited, common)
        if told.cached_tokens is not None:
            self._prompt.add(told.prompt_tokens or 0, common)
            self._cached.add(told.cached_tokens, common)
        if told.retries:
            self._retries.add(told.retries, common)
        if told.resumes:
            self._resumes.add(told.resumes, common)

    def count_turn(self, reply: Any) -> None:
        """Count a turn by its cache verdict."""
        self._verdicts.add(1, {"gen_ai.provider.name": self._provider, "homing.verdict": reply.telemetry.verdict})


def _type_of(error: BaseException) -> str:
    return str(error.status_code) if isinstance(error, APIStatusError) else type(error).__name__


def _messages(encoded: Any) -> str:
    return json.dumps([_parts(json.loads(message)) for message in encoded], ensure_ascii=False)


def _spoken(completion: ChatCompletion) -> str:
    said = [
        {
            **_parts(choice.message.model_dump(mode="json", exclude_none=True)),
            "finish_reason": choice.finish_reason or "error",
        }
        for choice in completion.choices
    ]
    return json.dumps(said, ensure_ascii=False)


def _parts(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message in the format of the conventions."""
    content = message.get("content")
    if message.get("role") == "tool":
        return {
            "role": "tool",
            "parts": [{"type": "tool_call_response", "id": message.get("tool_call_id"), "response": content}],
        }
    parts: list[dict[str, Any]] = []
    if reasoning := message.get("reasoning_content"):
        parts.append({"type": "reasoning", "content": reasoning})
    if isinstance(content, str):
        parts += [{"type": "text", "content": content}] * bool(content)
    elif content:
        parts += [
            {"type": "text", "content": part["text"]} if part.get("type") == "text" else dict(part) for part in content
        ]
    parts += [
        {
            "type": "tool_call",
            "id": call.get("id"),
            "name": call["function"]["name"],
            "arguments": call["function"]["arguments"],
        }
        for call in message.get("tool_calls") or ()
    ]
    return {"role": message.get("role"), "parts": parts}
