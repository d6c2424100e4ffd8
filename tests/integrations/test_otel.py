"""`homing.integrations.otel` with the SDK's in-memory exporters, and with its Prometheus exporter."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from prometheus_client import REGISTRY, generate_latest

import homing
from homing.integrations.otel import CAPTURE_VARIABLE, instrument
from homing.testing import Answer, Fault, ToolCall
from homing_server.local import Edge

ROOT = Path(__file__).resolve().parents[2]
SECRET = "a sentence that nobody else may read"


class Recorded:
    """What one test's calls have left."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader])

    def hooks(self, hooks: homing.Hooks | None = None) -> homing.Hooks:
        return instrument(hooks, tracer_provider=self.tracers, meter_provider=self.meters)

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    def points(self, name: str) -> list[Any]:
        data = self.reader.get_metrics_data()
        assert data is not None
        metrics = data.resource_metrics[0].scope_metrics[0].metrics
        return [point for metric in metrics if metric.name == name for point in metric.data.data_points]


@pytest.fixture
def recorded() -> Iterator[Recorded]:
    recorded = Recorded()
    yield recorded
    recorded.meters.shutdown()


@pytest.fixture
def client(recorded: Recorded, edge: Edge) -> Iterator[homing.Client]:
    with homing.Client(edge.url, hooks=recorded.hooks()) as client:
        yield client


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def test_a_turn_is_a_span(client: homing.Client, recorded: Recorded, edge: Edge) -> None:
    chat = client.conversation()
    chat.send("One.")
    reply = chat.send("Two.", temperature=0.5, max_tokens=20)
    first, span = recorded.spans
    told = attributes(span)
    assert span.name == "chat homing-emulated"
    assert span.kind.name == "CLIENT"
    assert span.instrumentation_scope is not None
    assert (span.instrumentation_scope.name, span.instrumentation_scope.version) == ("homing", homing.__version__)
    usage = reply.usage
    assert usage is not None
    assert {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "sglang",
        "gen_ai.conversation.id": chat.id,
        "gen_ai.request.model": "homing-emulated",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.max_tokens": 20,
        "gen_ai.response.finish_reasons": (reply.finish_reason,),
        "gen_ai.response.id": reply.completion.id,
        "gen_ai.usage.input_tokens": usage.prompt_tokens,
        "gen_ai.usage.output_tokens": usage.completion_tokens,
        "gen_ai.usage.cache_read.input_tokens": reply.telemetry.cached_tokens,
        "gen_ai.response.time_to_first_chunk": reply.telemetry.time_to_first_token,
        "homing.replica": reply.telemetry.replica,
        "server.address": "127.0.0.1",
        "server.port": int(edge.url.rpartition(":")[2]),
    }.items() <= told.items()
    assert attributes(first)["gen_ai.usage.cache_read.input_tokens"] == 0
    assert span.start_time is not None
    assert span.end_time is not None
    assert span.end_time > span.start_time


def test_calls_without_a_conversation_too(client: homing.Client, recorded: Recorded) -> None:
    messages: Any = [{"role": "user", "content": "Hi"}]
    client.chat.completions.create(messages=messages)
    with client.chat.completions.create(messages=messages, stream=True) as chunks:
        list(chunks)
    with client.chat.completions.stream(messages=messages) as stream:
        stream.until_done()
    client.models.list()  # no completion, no span
    whole, *streams = map(attributes, recorded.spans)
    assert len(streams) == 2
    assert whole["homing.stream"] is False
    assert "gen_ai.conversation.id" not in whole
    for told in (whole, *streams):
        assert told["gen_ai.usage.output_tokens"] > 0


async def by_asyncio(url: str, hooks: homing.Hooks) -> None:
    async with homing.AsyncClient(url, hooks=hooks) as client:
        await client.conversation().send("Hello")


def test_the_async_client_and_the_callers_span_above_it(recorded: Recorded, edge: Edge) -> None:
    import asyncio

    with recorded.tracers.get_tracer("app").start_as_current_span("request") as outer:
        asyncio.run(by_asyncio(edge.url, recorded.hooks()))
    span = recorded.spans[0]
    assert span.parent is not None
    assert span.parent.span_id == outer.get_span_context().span_id


def test_errors(client: homing.Client, recorded: Recorded, edge: Edge) -> None:
    with pytest.raises(homing.BadRequestError):
        client.conversation().send("Hi", temperature=-3)
    edge.inject(Fault.kill(after_chunks=2))
    chat = client.with_options(resume="never").conversation()
    with pytest.raises(homing.StreamInterrupted), chat.stream("Hi") as stream:
        list(stream)
    refused, broken = recorded.spans
    assert attributes(refused)["error.type"] == "400"
    assert refused.status.status_code is StatusCode.ERROR
    assert refused.status.description == "400"  # the server's words may quote the conversation
    assert attributes(broken)["error.type"] == "StreamInterrupted"
    kinds = {point.attributes.get("error.type") for point in recorded.points("gen_ai.client.operation.duration")}
    assert kinds == {"400", "StreamInterrupted"}


def test_what_the_caller_ended_is_no_error(client: homing.Client, recorded: Recorded, edge: Edge) -> None:
    edge.inject(Fault.hang(after_chunks=3))  # else all of it may have come by then
    with client.conversation().stream("Hello") as stream:
        next(iter(stream.text))
    (span,) = recorded.spans
    assert attributes(span)["homing.interrupted"] is True
    assert span.status.status_code is StatusCode.UNSET


def test_a_stream_that_was_never_begun_is_no_call(client: homing.Client, recorded: Recorded) -> None:
    client.conversation().stream("Hello").close()
    assert recorded.spans == []


def test_nothing_that_was_said_is_recorded_unasked(client: homing.Client, recorded: Recorded, edge: Edge) -> None:
    edge.answer_next(f"Answer: {SECRET}")
    client.conversation(system=SECRET).send(SECRET)
    with pytest.raises(homing.BadRequestError):
        client.chat.completions.create(messages=[{"role": SECRET, "content": SECRET}])  # type: ignore[list-item]
    assert all(SECRET not in span.to_json() for span in recorded.spans)


def test_what_was_said_is_recorded_where_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, recorded: Recorded, edge: Edge
) -> None:
    monkeypatch.setenv(CAPTURE_VARIABLE, "true")
    edge.answer_next(Answer(tool_calls=[ToolCall("look", {"at": 3})]))
    with homing.Client(edge.url, hooks=recorded.hooks()) as client:
        client.chat.completions.create(
            messages=[
                {"role": "system", "content": "Be terse."},
                {"role": "user", "content": [{"type": "text", "text": "Hello"}]},
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}],
                },
                {"role": "tool", "tool_call_id": "c1", "content": "nothing"},
            ],
            tools=[{"type": "function", "function": {"name": "look", "parameters": {}}}],
        )
    told = attributes(recorded.spans[0])
    said = json.loads(told["gen_ai.input.messages"])
    assert said[0] == {"role": "system", "parts": [{"type": "text", "content": "Be terse."}]}
    assert said[1]["parts"] == [{"type": "text", "content": "Hello"}]
    assert said[2]["parts"] == [{"type": "tool_call", "id": "c1", "name": "look", "arguments": "{}"}]
    assert said[3] == {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "nothing"}]}
    (answer,) = json.loads(told["gen_ai.output.messages"])
    assert answer["finish_reason"] == "tool_calls"
    assert answer["parts"][0]["name"] == "look"


def test_metrics(client: homing.Client, recorded: Recorded, edge: Edge) -> None:
    chat = client.conversation()
    replies = [chat.send("One."), chat.send("Two.")]
    edge.inject(Fault.overloaded())
    replies.append(chat.send("Three."))
    tokens = {point.attributes["gen_ai.token.type"]: point for point in recorded.points("gen_ai.client.token.usage")}
    assert tokens["input"].sum == chat.totals.prompt_tokens
    assert tokens["output"].sum == chat.totals.completion_tokens
    assert tokens["input"].count == 3
    assert recorded.points("homing.cached.tokens")[0].value == chat.totals.cached_tokens
    assert recorded.points("homing.prompt.tokens")[0].value == chat.totals.prompt_tokens
    assert recorded.points("homing.retries")[0].value == 1
    verdicts = {p.attributes["homing.verdict"]: p.value for p in recorded.points("homing.turns")}
    assert verdicts == chat.totals.verdicts
    assert recorded.points("gen_ai.client.operation.duration")[0].count == 3
    assert recorded.points("gen_ai.client.operation.time_to_first_chunk")[0].count == 3


@pytest.mark.edge(cold_start=0.3, initial_replicas=0)
def test_cold_starts_are_measured(client: homing.Client, recorded: Recorded) -> None:
    reply = client.conversation().send("Hello")
    (point,) = recorded.points("homing.cold_start.duration")
    assert point.sum == reply.telemetry.waited > 0.2


def test_other_hooks_go_on_and_a_broken_one_breaks_nothing(recorded: Recorded, edge: Edge) -> None:
    called: list[str] = []

    def on_call(calling: Any) -> Any:
        called.append("begun")
        return lambda ended: called.append("ended")

    mine = homing.Hooks(on_call=on_call, on_reply=lambda reply: called.append("replied"))
    with homing.Client(edge.url, hooks=recorded.hooks(mine)) as client:
        client.conversation().send("Hello")
    assert called == ["begun", "ended", "replied"]

    def broken(calling: Any) -> Any:
        raise RuntimeError("a hook's own fault")

    with homing.Client(edge.url, hooks=homing.Hooks(on_call=broken)) as client:
        assert client.conversation().send("Hello").text


def test_without_the_extra_the_install_line_is_named() -> None:
    code = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "from homing.integrations.otel import instrument\n"
        "try: instrument()\n"
        "except ValueError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install 'homing[otel]'" in done.stdout


DASHBOARD = ROOT / "docs" / "grafana" / "homing.json"
METRIC = re.compile(r"\b(?:gen_ai|homing)_[a-z_]+")


def test_the_dashboards_queries_name_metrics_that_exist(edge: Edge) -> None:
    reader = PrometheusMetricReader()
    meters = MeterProvider([reader])
    try:
        with homing.Client(edge.url, hooks=instrument(meter_provider=meters)) as client:
            client.wait_until_ready()
            chat = client.conversation()
            chat.send("One.")
            edge.inject(Fault.overloaded())
            edge.inject(Fault.kill(after_chunks=3))
            with chat.stream("Two.") as stream:
                list(stream)
            edge.hold_cold()
            woken = client.with_options(
                hooks=instrument(homing.Hooks(on_wait=lambda wait: edge.become_ready(1)), meter_provider=meters)
            )
            woken.conversation().send("Three.")
            with pytest.raises(homing.BadRequestError):
                client.conversation().send("Hi", temperature=-3)
        exposed = generate_latest(REGISTRY).decode()
    finally:
        meters.shutdown()
    import httpx

    exposed += httpx.get(f"{edge.url}/_edge/metrics").text
    names = set(re.findall(r"^([a-z_]+)(?:\{| )", exposed, re.MULTILINE))
    dashboard = json.loads(DASHBOARD.read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    assert len(queries) >= 12
    asked = {name for query in queries for name in METRIC.findall(query)}
    labels = {"gen_ai_token_type", "gen_ai_request_model", "homing_verdict"}
    assert asked - labels <= names
    for label in asked & labels | {"error_type", "le"}:
        assert f'{label}="' in exposed
