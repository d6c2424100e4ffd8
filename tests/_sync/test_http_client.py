# Generated from tests/_async/test_http_client.py by scripts/unasync.py: edit that file, not this one.
"""A user's own ``http_client``, of httpx or of httpx2, against servers that do all that servers may do."""

from __future__ import annotations

import copy
import gzip
import pickle
import socket
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import pytest

import homing
from homing_server.local import Edge

from ..libraries import LIBRARIES
from ..transport.peers import CHUNKED, END, Asked, Peer, Server, answer, chunk


HELLO: list[Any] = [{"role": "user", "content": "Hello"}]
ONCE: dict[str, Any] = {"model": "m", "max_retries": 0, "cold_start_timeout": 0}
EVENTS = "Content-Type: text/event-stream\r\n"
DELTA = b'data: {"id":"x","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"so far"}}]}\n\n'
DONE = b'data: {"id":"x","created":1,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
REPLY = answer(DELTA + DONE + b"data: [DONE]\n\n", headers=EVENTS)
WHOLE = answer(
    b'{"id":"x","created":1,"model":"m","choices":[{"index":0,"finish_reason":"stop",'
    b'"message":{"role":"assistant","content":"all"}}]}',
    headers="Content-Type: application/json\r\n",
)


@pytest.fixture(params=LIBRARIES)
def library(request: pytest.FixtureRequest) -> Any:
    return import_module(request.param)


Serve = Callable[[Callable[[Peer, Asked], object]], Server]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start a server that does something for each request."""
    started: list[Server] = []

    def start(each: Callable[[Peer, Asked], object]) -> Server:
        def script(peer: Peer) -> None:
            while (asked := peer.request()) is not None:
                server.note(asked)
                each(peer, asked)

        server = Server(script=script)
        started.append(server)
        return server

    yield start
    for server in started:
        server.stop()


def fail(client: homing.Client, *, stream: bool = False, **params: Any) -> Any:
    with pytest.raises(homing.HomingError) as caught:
        if stream:
            for _ in client.chat.completions.create(messages=HELLO, stream=True, **params):
                pass
        else:
            client.chat.completions.create(messages=HELLO, **params)
    error = caught.value
    return error.last if isinstance(error, homing.ColdStartTimeout) else error


# -- what the library raises -----------------------------------------------------------------------


def closes(peer: Peer, asked: Asked) -> None:
    peer.close()


def stays_silent(peer: Peer, asked: Asked) -> None:
    peer.wait_closed()


def talks_nonsense(peer: Peer, asked: Asked) -> None:
    peer.send(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")
    peer.close()


def sends_no_gzip(peer: Peer, asked: Asked) -> None:
    peer.send(answer(b"no gzip", headers="Content-Encoding: gzip\r\nContent-Type: application/json\r\n"))


def refuses_to_connect(peer: Peer, asked: Asked) -> None:
    peer.send(answer(b"", status="403 Forbidden"))
    peer.close()


@pytest.mark.parametrize(
    ("does", "kind", "words"),
    [
        (closes, homing.ServerUnreachable, "closed the connection before answering: "),
        (talks_nonsense, homing.ServerUnreachable, "closed the connection before answering: illegal status line"),
        (sends_no_gzip, homing.APIResponseValidationError, "cannot be decompressed: .*incorrect header check"),
        (stays_silent, homing.FirstTokenTimeout, "0.2 s"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_before_an_answer(
    library: Any, serve: Serve, does: Any, kind: type[Exception], words: str, stream: bool
) -> None:
    url = serve(does).url
    with library.Client() as http, homing.Client(url, http_client=http, **ONCE) as client:
        limit = 0.2 if kind is homing.FirstTokenTimeout else 60.0
        error = fail(client, stream=stream, timeout=homing.Timeout(first_token=limit))
    assert type(error) is kind
    with pytest.raises(kind, match=words):
        raise error


def test_nobody_is_there(library: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with library.Client() as http, homing.Client(url, http_client=http, **ONCE) as client:
        error = fail(client)
        assert type(error) is homing.ServerUnreachable
        assert str(error).startswith(f"cannot connect to {url[7:]}: ")
        assert not client.health()


@pytest.mark.parametrize("piece", [b"", DELTA], ids=["nothing", "a piece"])
def test_in_the_middle_of_an_answer(library: Any, serve: Serve, piece: bytes) -> None:
    def breaks(peer: Peer, asked: Asked) -> None:
        peer.send(CHUNKED[:-2] + EVENTS.encode() + b"\r\n", chunk(piece) if piece else b"")
        peer.close()

    with library.Client() as http, homing.Client(serve(breaks).url, http_client=http, **ONCE) as client:
        error = fail(client, stream=True, resume="never")
    assert isinstance(error, homing.StreamInterrupted)
    assert error.partial_text == ("so far" if piece else "")
    assert type(error.__cause__) is library.RemoteProtocolError  # the library's own, as documented


def test_no_connection_is_free(library: Any, edge: Edge) -> None:
    http = library.Client(limits=library.Limits(max_connections=1))
    with http, homing.Client(edge.url, http_client=http, **ONCE) as client:
        with client.chat.completions.stream(messages=HELLO) as stream:
            stream.__next__()
            error = fail(client, timeout=homing.Timeout(connect=0.1))
        assert type(error) is homing.APITimeoutError
        assert "no free connection" in str(error)
        assert (client.chat.completions.create(messages=HELLO)).choices  # now one is


def test_a_proxy_that_refuses(library: Any, serve: Serve) -> None:
    http = library.Client(proxy=f"http://me:pass-word@{serve(refuses_to_connect).url[7:]}")
    with http, homing.Client("https://engine.test", http_client=http, **ONCE) as client:
        error = fail(client)
    assert type(error) is homing.APIConnectionError
    assert str(error) == "the proxy refused to connect to engine.test: 403 Forbidden"


def test_a_proxy_passes_requests_on(library: Any, serve: Serve) -> None:
    proxy = serve(lambda peer, asked: peer.send(WHOLE))
    with (
        library.Client(proxy=proxy.url) as http,
        homing.Client("http://engine.test", http_client=http, **ONCE) as client,
    ):
        assert (client.chat.completions.create(messages=HELLO)).choices[0].message.content == "all"
    assert proxy.requests[0].target == "http://engine.test/v1/chat/completions"


def test_what_cannot_be_sent(library: Any, edge: Edge) -> None:
    def sign(request: Any) -> None:
        request.headers["X-Signature"] = "line\nend"

    http = library.Client()
    hook(http, "request", sign)
    with http, homing.Client(edge.url, http_client=http, **ONCE) as client:
        error = fail(client)
    assert type(error) is homing.ConfigurationError
    assert "cannot be sent" in str(error)


def hook(http: Any, event: str, action: Callable[[Any], None]) -> None:
    """Have ``http`` call ``action``."""

    def call(about: Any) -> None:
        action(about)

    http.event_hooks[event].append(call)


# -- what a user sees of the library ---------------------------------------------------------------


def test_responses_are_the_librarys_own(library: Any, serve: Serve) -> None:
    refused = answer(b'{"error":{"message":"no"}}', status="400 Bad Request", headers="X-Request-Id: r1\r\n")

    def does(peer: Peer, asked: Asked) -> None:
        peer.send(refused if b"refuse" in asked.body else REPLY if b'"stream":true' in asked.body else WHOLE)

    with library.Client() as http, homing.Client(serve(does).url, http_client=http, **ONCE) as client:
        raw = client.chat.completions.with_raw_response.create(messages=HELLO)
        assert (type(raw.http_response), type(raw.headers)) == (library.Response, library.Headers)
        with client.chat.completions.stream(messages=HELLO) as stream:
            assert "".join([text for text in stream.text]) == "so far"
            assert type(stream.response) is library.Response
        error = fail(client, user="refuse", extra_headers={"X-Mine": "a secret of mine"})
    assert isinstance(error, homing.BadRequestError)
    for one in (error, copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert (type(one.response), type(one.request)) == (library.Response, library.Request)
        assert one.request is not None
        assert one.request.headers["x-mine"] == "[hidden]"
        assert one.response is not None
        assert (one.request_id, one.response.json()) == ("r1", one.body)


# -- what a client of the library is set up to do ----------------------------------------------------


def test_of_the_clients_settings_those_count_that_are_about_connections(library: Any, serve: Serve) -> None:
    """Its headers, query, cookies and hooks too; not its URL, its credentials, its redirects or its time limits."""
    server = serve(lambda peer, asked: peer.send(WHOLE))
    http = library.Client(
        base_url="http://elsewhere.invalid/api", auth=("me", "pass"), follow_redirects=True, timeout=1e-9,
        headers={"X-Mine": "1", "Accept": "text/html"}, params={"mine": "1"}, cookies={"mine": "1"},
    )  # fmt: skip
    seen: list[Any] = []
    hook(http, "request", seen.append)
    hook(http, "response", seen.append)
    with http, homing.Client(server.url, http_client=http, **ONCE) as client:
        assert (client.chat.completions.create(messages=HELLO)).choices[0].message.content == "all"
        assert [type(one) for one in seen] == [library.Request, library.Response]
    asked = server.requests[0]
    assert asked.target == "/v1/chat/completions?mine=1"
    assert "authorization" not in asked.headers
    assert (asked.headers["x-mine"], asked.headers["cookie"]) == ("1", "mine=1")
    assert (asked.headers["accept"], asked.headers["accept-encoding"]) == ("application/json", "identity")
    assert asked.headers["user-agent"].startswith("homing/")


@pytest.mark.parametrize("follow", [False, True])
def test_redirects_are_ours_to_follow(library: Any, serve: Serve, follow: bool) -> None:
    def does(peer: Peer, asked: Asked) -> None:
        there = {"/v1/chat/completions": "/there", "/v1/models": "http://elsewhere.invalid/v1/models"}.get(asked.target)
        moved = answer(b"", status="307 T", headers=f"Location: {there}\r\nSet-Cookie: a=1; Path=/\r\n")
        peer.send(moved if there else WHOLE)

    server = serve(does)
    http = library.Client(follow_redirects=follow, max_redirects=0)
    with http, homing.Client(server.url, http_client=http, api_key="right", **ONCE) as client:
        client.chat.completions.create(messages=HELLO)
        assert [(asked.target, asked.headers["authorization"]) for asked in server.requests] == [
            ("/v1/chat/completions", "Bearer right"), ("/there", "Bearer right"),
        ]  # fmt: skip
        with pytest.raises(homing.ConfigurationError, match="redirects to http://elsewhere.invalid"):
            client.models.list()
        assert not http.cookies


def test_a_redirect_to_what_is_no_url(library: Any, serve: Serve) -> None:
    """httpx and older httpx2 refuse the answer themselves, newer httpx2 leaves it to us: all the same to the caller."""
    server = serve(lambda peer, asked: peer.send(answer(b"", status="307 T", headers="Location: http://[::1\r\n")))
    with library.Client() as http, homing.Client(server.url, http_client=http, **ONCE) as client:
        error = fail(client)
    assert type(error) is homing.ConfigurationError
    assert str(error) == "the server redirects to what is no URL: check base_url"


def test_packed_answers(library: Any, serve: Serve) -> None:
    body = REPLY.partition(b"\r\n\r\n")[2]
    packed = answer(gzip.compress(body), headers=EVENTS + "Content-Encoding: gzip\r\n")
    server = serve(lambda peer, asked: peer.send(packed))
    with library.Client() as http, homing.Client(server.url, http_client=http, **ONCE) as client:
        for _ in range(2):
            with client.chat.completions.stream(messages=HELLO) as stream:
                assert "".join([text for text in stream.text]) == "so far"
        error = fail(client, stream=True, max_response_bytes=len(body) - 1)
        assert isinstance(error, homing.ResponseTooLarge)
        # Left halfway.
        for _ in client.chat.completions.create(messages=HELLO, stream=True):
            break
    assert server.accepted <= 2  # a packed answer that is read to its end leaves its connection to the next


def test_copies_share_the_client_and_nobody_closes_it(library: Any, edge: Edge) -> None:
    with library.Client() as http:
        with homing.Client(edge.url, http_client=http) as client:
            copied = client.with_options(model="m", max_response_bytes=100_000)
            assert (copied.conversation().send("Hello")).text
            copied.close()
            assert (client.conversation().send("Hello")).text
        assert not http.is_closed
        assert (http.get(edge.url + "/health")).is_success
    again = homing.Client(edge.url, http_client=http, **ONCE)
    error = fail(again)
    assert type(error) is homing.ConfigurationError
    assert "has been closed" in str(error)


def test_http2_may_be_switched_on(library: Any, edge: Edge) -> None:
    pytest.importorskip("h2", reason="what either library's HTTP/2 needs")
    with library.Client(http2=True) as http, homing.Client(edge.url, http_client=http) as client:
        chat = client.conversation()
        assert [bool((chat.send("Hello")).text) for _ in range(2)] == [True, True]


def test_a_stream_has_our_time_limits(library: Any, serve: Serve) -> None:
    def sends(peer: Peer, asked: Asked) -> None:
        peer.send(CHUNKED[:-2] + EVENTS.encode() + b"\r\n", chunk(DELTA * 3))
        if b"hang" in asked.body:
            return peer.wait_closed()
        return peer.send(chunk(DONE + b"data: [DONE]\n\n"), END)

    http = library.Client(timeout=1e-9)
    with http, homing.Client(serve(sends).url, http_client=http, **ONCE) as client:
        with client.chat.completions.stream(messages=HELLO) as stream:
            assert "".join([text for text in stream.text]) == "so far" * 3
        limits = homing.Timeout(first_token=60, gap=0.3, silence=60)
        error = fail(client, stream=True, user="hang", resume="never", timeout=limits)
    assert type(error) is homing.GapTimeout
    assert error.partial_text == "so far" * 3
