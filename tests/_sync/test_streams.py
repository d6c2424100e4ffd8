# Generated from tests/_async/test_streams.py by scripts/unasync.py: edit that file, not this one.
from __future__ import annotations

import json
import threading
from typing import Any

import pytest

import homing
from homing.testing import Fault, requests_of
from homing_server.local import Edge

from ..transport.peers import CHUNKED, Peer, Server, chunk

pytestmark = [pytest.mark.usefixtures("settled")]

HELLO: list[Any] = [{"role": "user", "content": "Hello"}]


def read(client: homing.Client, **params: Any) -> str:
    with client.chat.completions.stream(messages=HELLO, **params) as stream:
        return "".join([piece for piece in stream.text])


def uninterrupted(client: homing.Client) -> str:
    return (client.chat.completions.create(messages=HELLO)).choices[0].message.content or ""


CUTS = [
    pytest.param(Fault.kill(after_chunks=4), id="kill"),
    pytest.param(Fault.reset(after_chunks=4), id="reset"),
    pytest.param(Fault.truncate(after_chunks=4), id="truncated-chunked-body"),
    pytest.param(Fault.truncate(inside="event", after_chunks=4), id="cut-inside-event"),
]


# A reset may also take back what had arrived but was not read yet, so it is not in this list.
@pytest.mark.parametrize("fault", [cut for cut in CUTS if cut.id != "reset"])
def test_transport_errors_are_ours_with_the_partial_text(
    any_client: homing.Client, edge: Edge, fault: Fault
) -> None:
    # openai-python#2356, #2065, #1384; anthropic-sdk-python#1919; any-llm#847
    whole = uninterrupted(any_client)
    edge.inject(fault)
    seen = ""
    with pytest.raises(homing.StreamInterrupted) as caught:
        with any_client.chat.completions.stream(messages=HELLO, resume="never") as stream:
            for piece in stream.text:
                seen += piece
    assert seen
    assert whole.startswith(seen)
    assert caught.value.partial_text == seen


@pytest.mark.parametrize("fault", CUTS)
def test_send_begins_again_since_nobody_saw_the_broken_reply(
    homing_client: homing.Client, edge: Edge, fault: Fault
) -> None:
    chat = homing_client.conversation()
    edge.inject(fault)
    reply = chat.send("Hello")
    assert reply.text == uninterrupted(homing_client)
    assert [record.outcome for record in requests_of(edge, chat)][-2:] == ["cut", "completed"]
    # A reset that takes back even the headers looks like a stale connection, which nobody counts.
    assert reply.telemetry.retries == 1 or fault.ending == "reset"
    assert len(chat.turns) == 1


def test_missing_finish_reason_is_truncation(any_client: homing.Client, edge: Edge) -> None:
    # litellm#42140, agent-afk#635, tidebreak#1124, GoModel#1017, pydantic-ai#6610, vercel/ai#19165
    edge.inject(Fault.eof(after_chunks=5))
    with pytest.raises(homing.StreamTruncated) as caught:
        read(any_client, resume="never")
    assert caught.value.partial_text


def test_done_without_finish_reason_is_complete(any_client: homing.Client, edge: Edge) -> None:
    # oh-my-pi#9433
    body = b'data: {"id":"1","choices":[{"index":0,"delta":{"content":"all"}}]}\n\ndata: [DONE]\n\n'
    edge.inject(Fault.raw(body))
    assert read(any_client) == "all"


def test_drop_before_any_visible_character_just_retries(
    homing_client: homing.Client, edge: Edge
) -> None:
    # hermes-agent#112419
    edge.inject(Fault.truncate(after_chunks=1))
    assert read(homing_client) == uninterrupted(homing_client)


@pytest.mark.parametrize("times", [1, 2])
def test_overload_inside_a_stream_is_retried_when_nothing_was_visible(
    homing_client: homing.Client, edge: Edge, times: int
) -> None:
    # SGLang 0.5.23 answers 200 and sends the 503 as data
    edge.inject(Fault.error_in_stream(times=times))
    assert read(homing_client) == uninterrupted(homing_client)


def test_an_empty_200_stream_is_retried(homing_client: homing.Client, edge: Edge) -> None:
    # SGLang 0.5.9 under overload: 200, no body, no [DONE]
    edge.inject(Fault.raw(b""))
    assert read(homing_client) == uninterrupted(homing_client)


def test_error_object_in_mid_stream_is_raised_not_retried(any_client: homing.Client, edge: Edge) -> None:
    # any-llm#847, mastra#22097, codegraff#748, guidellm#743
    edge.inject(Fault.error_in_stream(message="KV cache pool is full", code=500, after_chunks=4))
    with pytest.raises(homing.InternalServerError, match="KV cache pool is full") as caught:
        read(any_client)
    assert caught.value.partial_text
    assert len([record for record in edge.log if record.path.endswith("completions")]) == 1


def test_event_error_is_raised(any_client: homing.Client, edge: Edge) -> None:
    # openai-python#2796, #2943, clicky#132
    edge.inject(Fault.error_event(after_chunks=4))
    with pytest.raises(homing.APIStatusError, match="model worker died"):
        read(any_client)


@pytest.mark.parametrize("framing", ["bom", "crlf", "cr", "bytewise"])
def test_every_framing_reads_the_same(any_client: homing.Client, edge: Edge, framing: Any) -> None:
    # ANOLISA#2209, hey-api#3054, a2a-js#714
    whole = uninterrupted(any_client)
    edge.inject(Fault.reframe(framing))
    assert read(any_client) == whole


def test_ping_after_id_line_is_not_an_event(any_client: homing.Client, edge: Edge) -> None:
    # openai-python#2722, #2721, #2943, #3833, openai-go#621, hermes-agent#111887
    whole = uninterrupted(any_client)
    edge.inject(Fault.insert(b"id: 7\n\nretry: 10\n\n: ping\n\nid: 8\n: ping\n\ndata:\n\n", after_chunks=3))
    assert read(any_client) == whole


@pytest.mark.parametrize(
    ("fault", "words"),
    [(Fault.malformed(after_chunks=4), "chunk"), (Fault.nan(after_chunks=4), "chunk")],
    ids=["malformed", "nan"],
)
def test_bad_json_in_a_chunk(any_client: homing.Client, edge: Edge, fault: Fault, words: str) -> None:
    edge.inject(fault)
    with pytest.raises(homing.APIResponseValidationError, match=words) as caught:
        read(any_client)
    assert caught.value.partial_text


def test_an_endless_line_is_refused(homing_client: homing.Client, edge: Edge) -> None:
    edge.inject(Fault.long_line(20_000_000, after_chunks=4))
    with pytest.raises(homing.APIResponseValidationError):
        read(homing_client)


def test_html_instead_of_a_stream(any_client: homing.Client, edge: Edge) -> None:
    edge.inject(Fault.html())
    with pytest.raises(homing.APIResponseValidationError):
        read(any_client)


def test_keepalives_do_not_hide_a_hang(any_client: homing.Client, edge: Edge) -> None:
    # pi#5558, anthropic-sdk-typescript#867
    edge.inject(Fault.keepalives(interval=0.02, after_chunks=4))
    with pytest.raises(homing.GapTimeout) as caught:
        read(any_client, timeout=homing.Timeout(gap=0.3, silence=30))
    assert caught.value.partial_text


def test_silence(any_client: homing.Client, edge: Edge) -> None:
    # langchain#36949
    edge.inject(Fault.hang(after_chunks=4))
    with pytest.raises(homing.SilenceTimeout):
        read(any_client, timeout=homing.Timeout(gap=30, silence=0.3))


@pytest.mark.parametrize("before_headers", [True, False])
def test_first_token(any_client: homing.Client, edge: Edge, before_headers: bool) -> None:
    # cline#12839
    edge.inject(Fault.hang(before_headers=before_headers))
    with pytest.raises(homing.FirstTokenTimeout):
        read(any_client, timeout=homing.Timeout(first_token=0.3))


def test_total_caps_everything(any_client: homing.Client, edge: Edge) -> None:
    edge.inject(Fault.slow(0.05))
    with pytest.raises(homing.DeadlineExceeded):
        read(any_client, timeout=0.3)


def test_legitimate_slowness_is_left_alone(any_client: homing.Client, edge: Edge) -> None:
    # ante#187
    edge.inject(Fault.slow(0.005))
    assert read(any_client, timeout=homing.Timeout(gap=20, silence=20, first_token=20))


@pytest.mark.edge(thinking=True)
def test_reasoning_counts_as_progress(homing_client: homing.Client, edge: Edge) -> None:
    edge.inject(Fault.hang(after_chunks=5))
    with pytest.raises(homing.SilenceTimeout):
        read(homing_client, timeout=homing.Timeout(first_token=0.2, silence=0.5))


def test_usage_chunk_without_choices(homing_client: homing.Client) -> None:
    # apfel#100, ATOM#1711
    chunks = [chunk for chunk in homing_client.chat.completions.create(messages=HELLO, stream=True)]
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.prompt_tokens > 0


def test_connections_are_used_again(homing_client: homing.Client) -> None:
    for _ in range(5):
        read(homing_client)
    pool = homing_client._endpoint.http.pool  # type: ignore[union-attr]
    assert pool.idle == 1


def test_a_body_that_does_not_end_holds_a_reply_up_for_a_moment_only() -> None:
    # Proxies have kept the end of a body back: the reply is whole, and only the connection is not worth keeping.
    left_by_itself = threading.Event()

    def endless(peer: Peer) -> None:
        peer.request()
        delta = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        said = {**delta, "choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}]}
        events = b"data: %b\n\ndata: [DONE]\n\n" % json.dumps(said).encode()
        peer.send(CHUNKED.replace(b"\r\n\r\n", b"\r\nContent-Type: text/event-stream\r\n\r\n") + chunk(events))
        peer.sock.settimeout(5)  # many times what the client waits, and less than it takes for silence
        if not peer.sock.recv(1):  # raises when its time is up
            left_by_itself.set()

    server = Server(endless)
    try:
        with homing.Client(server.url) as client:
            assert read(client, model="m") == "Hi"
        server.wait(lambda s: s.open == 0)
    finally:
        server.stop()
    assert left_by_itself.is_set()


def test_openai_stream_interface(homing_client: homing.Client) -> None:
    with homing_client.chat.completions.stream(messages=HELLO) as stream:
        assert (stream.get_final_completion()).choices[0].finish_reason == "stop"
        assert stream.response is not None
        assert stream.get_final_text() == stream.current_completion_snapshot.choices[0].message.content
    with pytest.raises(homing.APIError, match="stopped"):
        with homing_client.chat.completions.stream(messages=HELLO) as stopped:
            stopped.__next__()
            stopped.cancel()
            stopped.get_final_completion()
