"""Each fault as a client meets it on a real socket."""

from __future__ import annotations

import json
import socket
from typing import Any

import httpx
import pytest

from homing.errors import ConfigurationError
from homing_server.local import Answer, Edge, Fault, ToolCall
from homing_server.local.faults import Faults

from .talk import CHAT, ask, joined, post, stream, text_of, user

HELLO = user("hello")


def read_stream(edge: Edge, **fields: Any) -> tuple[bytes, Exception | None]:
    """Read a streamed reply as far as it comes, with the error that ended it."""
    received = b""
    body = {"messages": [HELLO], "stream": True, **fields}
    try:
        with httpx.stream("POST", edge.url + CHAT, json=body) as response:
            assert response.status_code == 200
            for data in response.iter_raw():
                received += data
    except httpx.TransportError as error:
        return received, error
    return received, None


def chunks_in(received: bytes) -> int:
    return received.count(b"data: {")


def test_kill_breaks_every_stream_of_the_replica_and_it_is_replaced(edge: Edge) -> None:
    edge.inject(Fault.kill(after_chunks=3))
    received, error = read_stream(edge)
    assert isinstance(error, httpx.RemoteProtocolError), "a truncated chunked body"
    assert chunks_in(received) == 3
    record = edge.log[-1]
    assert (record.outcome, record.fault) == ("cut", "cut/kill")
    assert record.replica not in edge.replicas
    edge.wait_for(lambda e: len(e.ready) == 3)
    assert text_of(ask(edge.url, HELLO)), "the fault is spent"


@pytest.mark.edge(replicas=2, cold_start=3_600)
def test_churn_has_a_replacement_ready_at_once(edge: Edge) -> None:
    edge.inject(Fault.churn(after_chunks=1))
    read_stream(edge)
    edge.wait_for(lambda e: len(e.ready) == 2)
    assert "r3" in edge.ready


def test_reset_is_a_tcp_reset(edge: Edge) -> None:
    edge.inject(Fault.reset(after_chunks=2))
    _, error = read_stream(edge)
    assert isinstance(error, httpx.ReadError)
    causes: list[BaseException | None] = [error]
    while causes[-1] is not None:
        causes.append(causes[-1].__cause__ or causes[-1].__context__)
    assert any(isinstance(cause, ConnectionResetError) for cause in causes)
    assert len(edge.ready) == 3, "only the connection breaks"


def test_truncate_closes_without_the_last_chunk(edge: Edge) -> None:
    edge.inject(Fault.truncate(after_chunks=4))
    received, error = read_stream(edge)
    assert isinstance(error, httpx.RemoteProtocolError)
    assert chunks_in(received) == 4


def test_a_whole_answer_is_truncated_in_its_middle(edge: Edge) -> None:
    edge.inject(Fault.truncate())
    with pytest.raises(httpx.RemoteProtocolError):
        post(edge.url, HELLO)


def test_eof_ends_properly_without_finish_reason(edge: Edge) -> None:
    edge.inject(Fault.eof(after_chunks=4))
    received, error = read_stream(edge)
    assert error is None
    assert chunks_in(received) == 4
    assert b"[DONE]" not in received
    assert b'"finish_reason":"' not in received


# D43 ANOLISA#2209
def test_cut_inside_a_character(edge: Edge) -> None:
    edge.answer_with("plain ascii, then 漢字 and more")
    edge.inject(Fault.truncate(inside="character"))
    received, error = read_stream(edge)
    assert error is not None
    with pytest.raises(UnicodeDecodeError):
        received.decode()
    received.decode(errors="ignore")
    assert received[-1] >= 0xC0


# D37 command-code#785, ANOLISA#2209
def test_cut_inside_tool_arguments(edge: Edge) -> None:
    edge.answer_with(Answer(tool_calls=[ToolCall("f", {"path": "/etc/passwd", "mode": "read"})]))
    edge.inject(Fault.truncate(inside="arguments"))
    received, error = read_stream(edge, tools=[{"type": "function", "function": {"name": "f"}}])
    assert error is not None
    assert received.rstrip().rpartition(b'"arguments":"')[1]
    assert not received.endswith(b"\n\n")


@pytest.mark.parametrize(
    ("fault", "status", "kind", "start"),
    [
        (Fault.answer(500, "boom"), 500, "text/plain; charset=utf-8", "boom"),
        (Fault.overloaded(), 503, "application/json", '{"object":"error"'),
        (Fault.rate_limited(), 429, "text/plain; charset=utf-8", "too many"),
        (Fault.html(), 200, "text/html; charset=utf-8", "<!doctype html>"),
        (Fault.error_body(), 200, "application/json", '{"error":{'),
        (Fault.raw(b"\xff\xfe", content_type="application/x"), 200, "application/x", "\xff\xfe"),
    ],
    ids=["500", "503", "429", "html", "error body", "raw"],
)
def test_answers_instead_of_the_replicas(edge: Edge, fault: Fault, status: int, kind: str, start: str) -> None:
    edge.inject(fault)
    answer = post(edge.url, HELLO)
    assert (answer.status_code, answer.headers["content-type"]) == (status, kind)
    assert answer.content.decode("latin-1").startswith(start)
    assert answer.headers["x-homing-replica"] in edge.ready
    assert post(edge.url, HELLO).status_code == 200


def test_retry_after_is_sent_where_asked(edge: Edge) -> None:
    edge.inject(Fault.rate_limited(retry_after=1.5))
    assert post(edge.url, HELLO).headers["retry-after"] == "1.5"


def test_raw_bytes_are_replayed_as_they_are(edge: Edge) -> None:
    body = b"\xef\xbb\xbfdata: {}\r\n\r\ndata: [DONE]\r\n\r\n"
    edge.inject(Fault.raw(body))
    received, error = read_stream(edge)
    assert (received, error) == (body, None)


@pytest.mark.parametrize(
    ("fault", "chunks"), [(Fault.hang(before_headers=True), None), (Fault.hang(), 0), (Fault.hang(after_chunks=3), 3)]
)
def test_hang_waits_for_the_client_to_leave(edge: Edge, fault: Fault, chunks: int | None) -> None:
    edge.inject(fault)
    body = json.dumps({"messages": [HELLO], "stream": True}).encode()
    with socket.create_connection(("127.0.0.1", int(edge.url.rpartition(":")[2])), timeout=10) as raw:
        head = (
            f"POST {CHAT} HTTP/1.1\r\nhost: localhost\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        raw.sendall(head.encode() + body)
        received = b""
        while chunks is not None and (b"\r\n\r\n" not in received or chunks_in(received) < chunks):
            received += raw.recv(65_536)
        edge.wait_for(lambda e: e.running == 1)
        assert [record.outcome for record in edge.log] == ["running"]
        assert chunks_in(received) == (chunks or 0)
    edge.wait_for(lambda e: e.running == 0)
    assert edge.log[-1].outcome == "aborted"


def test_errors_inside_the_stream(edge: Edge) -> None:
    edge.inject(Fault.error_in_stream(after_chunks=2))
    received, error = read_stream(edge)
    assert error is None
    *_, last, done, _ = received.decode().split("\n\n")
    assert (json.loads(last[6:])["error"]["code"], done) == (503, "data: [DONE]")
    edge.inject(Fault.error_event(after_chunks=2))
    assert b"event: error\ndata: {" in read_stream(edge)[0]


def test_bad_json_between_good_events(edge: Edge) -> None:
    edge.inject(Fault.malformed(after_chunks=2))
    blocks = read_stream(edge)[0].decode().split("\n\n")
    with pytest.raises(ValueError, match="Unterminated|Expecting"):
        json.loads(blocks[2][6:])
    assert blocks[-2] == "data: [DONE]"
    edge.inject(Fault.nan(after_chunks=2))
    assert b'"logprob":NaN' in read_stream(edge)[0]


def test_keepalives_without_progress(edge: Edge) -> None:
    edge.inject(Fault.keepalives(interval=0, count=5, after_chunks=1))
    received, _ = read_stream(edge)
    assert received.count(b": keep-alive\n\n") == 5
    assert received.endswith(b"data: [DONE]\n\n")


def test_a_line_without_end(edge: Edge) -> None:
    edge.inject(Fault.long_line(3_000_000, after_chunks=1))
    received, error = read_stream(edge)
    assert error is not None
    assert len(received.rpartition(b"\n")[2]) == len(b"data: ") + 3_000_000


@pytest.mark.parametrize("framing", ["bom", "crlf", "cr", "bytewise"])
def test_the_same_events_framed_otherwise(edge: Edge, framing: Any) -> None:
    plain = joined(stream(edge.url, HELLO))
    edge.inject(Fault.reframe(framing))
    received, error = read_stream(edge)
    assert error is None
    assert received.startswith(b"\xef\xbb\xbf") == (framing == "bom")
    assert (b"\r\n\r\n" in received) == (framing == "crlf")
    assert (b"\r\r" in received) == (framing == "cr")
    text = received.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    blocks = [json.loads(block[6:]) for block in text.split("\n\n")[:-2]]
    assert joined(blocks) == plain


def test_slow_delays_each_event(edge: Edge) -> None:
    edge.inject(Fault.slow(0.001, after_chunks=1))
    assert read_stream(edge, max_tokens=3)[0].endswith(b"data: [DONE]\n\n")
    assert edge.log[-1].fault == "slow"


def test_the_log_names_a_fault_only_where_it_has_shown(edge: Edge) -> None:
    edge.inject(Fault.eof(after_chunks=3, name="my fault"))
    read_stream(edge)
    assert (edge.log[-1].outcome, edge.log[-1].fault) == ("cut", "my fault")
    for fault in (Fault.eof(after_chunks=500), Fault.malformed(after_chunks=500), Fault.slow(9, after_chunks=500)):
        edge.inject(fault)  # for a place behind its end
        read_stream(edge)
        assert (edge.log[-1].outcome, edge.log[-1].fault) == ("completed", None)
    edge.inject(Fault.truncate(inside="arguments"))  # and no tool is called
    read_stream(edge)
    assert edge.log[-1].fault is None
    edge.inject(Fault.rate_limited())
    assert post(edge.url, HELLO).status_code == 429
    assert edge.log[-1].fault == "answer"


def test_a_kill_before_the_headers_is_a_502(edge: Edge) -> None:
    edge.inject(Fault.hang(before_headers=True))
    with httpx.Client() as client:
        import threading

        answers: list[httpx.Response] = []
        thread = threading.Thread(
            target=lambda: answers.append(client.post(edge.url + CHAT, json={"messages": [HELLO]}))
        )
        thread.start()
        edge.wait_for(lambda e: e.running == 1)
        edge.kill(edge.log[-1].replica or "")
        thread.join()
    assert answers[0].status_code == 502
    assert edge.log[-1].outcome == "cut"


def struck(faults: Faults, count: int, replica: str = "r1", path: str = CHAT) -> list[int]:
    return [n for n in range(1, count + 1) if faults.strike(replica_id=replica, path=path)]


def test_where_and_how_often() -> None:
    def armed(**where: Any) -> Faults:
        faults = Faults()
        faults.arm(Fault.hang(**where))
        return faults

    assert struck(armed(), 5) == [1]
    assert struck(armed(times=2), 5) == [1, 2]
    assert struck(armed(times=None), 5) == [1, 2, 3, 4, 5]
    assert struck(armed(nth=3), 5) == [3]
    assert struck(armed(replica="r2"), 5) == []
    assert struck(armed(replica="r2"), 5, replica="r2") == [1]
    assert struck(armed(), 5, path="/v1/models") == []
    assert struck(armed(path="*"), 5, path="/v1/models") == [1]
    some = struck(armed(probability=0.5, times=None, seed=1), 200)
    assert 60 < len(some) < 140
    assert some == struck(armed(probability=0.5, times=None, seed=1), 200)
    assert some != struck(armed(probability=0.5, times=None, seed=2), 200)


def test_faults_strike_one_at_a_time_oldest_first(edge: Edge) -> None:
    edge.inject(Fault.rate_limited())
    edge.inject(Fault.overloaded())
    assert [post(edge.url, HELLO).status_code for _ in range(3)] == [429, 503, 200]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"after_chunks": -1}, "Fault: after_chunks: "),
        ({"probability": 2}, "Fault: probability: "),
        ({"nth": 0}, "Fault: nth: "),
        ({"colour": "red"}, "Fault: colour: "),
    ],
)
def test_bad_faults_are_refused_by_field(fields: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Fault.kill(**fields)


def test_faults_over_http(edge: Edge) -> None:
    armed = httpx.post(edge.url + "/_edge/faults", json={"kind": "answer", "status": 418, "body": "tea", "times": 2})
    assert armed.json() == [{"kind": "answer", "status": 418, "times": 2}]
    assert post(edge.url, HELLO).text == "tea"
    assert httpx.delete(edge.url + "/_edge/faults").json() == []
    assert post(edge.url, HELLO).status_code == 200
    refused = httpx.post(edge.url + "/_edge/faults", json={"kind": "earthquake"})
    assert refused.status_code == 400
    assert "Fault: kind" in refused.json()["detail"]
    said = {"content-type": "application/json"}
    assert httpx.post(edge.url + "/_edge/faults", content=b"[", headers=said).status_code == 400
