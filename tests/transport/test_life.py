"""Connections over time: stale ones, expired ones, TLS, other loops, other processes, many threads."""

from __future__ import annotations

import asyncio
import gc
import os
import select
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import trustme

from homing._http._async.transport import AsyncTransport
from homing._http._sync.transport import Transport
from homing._http.policy import KEEPALIVE_EXPIRY, STALE_NOTICE, numeric
from homing._http.request_control import RequestControl
from homing.errors import ConfigurationError

from .ends import OURS, Background, End, request
from .peers import CHUNKED, END, PATIENCE, Asked, Peer, Server, answer, chunk
from .test_calls import Clock, WatchedCall

Serve = Callable[..., Server]

HELD = 1.0
"""Seconds for which a connection takes no byte before it counts as held back. An event loop that reads whatever
comes is never away for so long."""


# stale connections


class Ambush:
    """Answers once, and closes only when the next request has come: the race that expiry cannot win."""

    def __init__(self, end: Callable[[Peer], None]) -> None:
        self.end = end
        self.asked: list[tuple[int, Asked]] = []

    def __call__(self, peer: Peer) -> None:
        while (asked := peer.request()) is not None:
            self.asked.append((peer.number, asked))
            if len(self.asked) == 2:
                self.end(peer)
                return
            peer.send(answer(asked.body))


@pytest.mark.parametrize("end", [Peer.close, Peer.reset], ids=["FIN", "RST"])
def test_stale_connection_is_replaced_without_a_word(ours: End, serve: Serve, end: Callable[[Peer], None]) -> None:
    """SGLang's uvicorn closes idle connections after 5 s, with a request perhaps on its way."""
    script = Ambush(end)
    server = serve(script)
    for body in (b"one", b"two", b"three"):
        assert request(ours, "POST", server.url, content=body).content == body
    assert [(number, asked.body) for number, asked in script.asked] == [
        (1, b"one"),
        (1, b"two"),
        (2, b"two"),
        (2, b"three"),
    ]
    assert ours.transport.pool.in_use == 0


def test_stale_only_once(ours: End, serve: Serve) -> None:
    def script(peer: Peer) -> None:
        if peer.number == 1:
            peer.request()
            peer.send(answer())
        peer.request()
        peer.close()

    server = serve(script)
    request(ours, "GET", server.url)
    with pytest.raises(httpx.RemoteProtocolError):
        ours.open("GET", server.url)
    assert server.accepted == 2


def test_new_connection_that_dies_is_not_stale(ours: End, serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.close()

    server = serve(script)
    with pytest.raises(httpx.RemoteProtocolError):
        ours.open("GET", server.url)
    assert server.accepted == 1


def test_body_from_an_iterator_is_not_sent_twice(ours: End, serve: Serve) -> None:
    server = serve(Ambush(Peer.close))
    request(ours, "POST", server.url, content=b"one")
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        ours.open("POST", server.url, content=iter([b"two"]))
    assert server.accepted == 1


def test_half_an_answer_is_not_stale(ours: End, serve: Serve) -> None:
    def half(peer: Peer) -> None:
        peer.send(b"HTTP/1.1 2")
        peer.close()

    server = serve(Ambush(half))
    request(ours, "POST", server.url, content=b"one")
    with pytest.raises(httpx.RemoteProtocolError):
        ours.open("POST", server.url, content=b"two")
    assert server.accepted == 1


def test_server_that_dies_at_work_is_not_stale(ours: End, serve: Serve) -> None:
    """A minute of prefill is not to be begun again behind the back of the retry policy."""
    clock = Clock()

    def slowly(peer: Peer) -> None:
        assert call.sent.wait(PATIENCE)
        clock.now += STALE_NOTICE + 1
        peer.close()

    call = WatchedCall(clock)

    server = serve(Ambush(slowly))
    request(ours, "POST", server.url, content=b"one", call=RequestControl(clock=clock))
    with pytest.raises(httpx.RemoteProtocolError):
        ours.open("POST", server.url, content=b"two", call=call)
    assert server.accepted == 1


def test_connection_closed_while_idle_is_not_used(ours: End, serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(answer())

    server = serve(script)
    for count in (1, 2, 3):
        request(ours, "POST", server.url, content=iter([b"x"]))
        server.wait(lambda s, n=count: s.accepted == n and s.open == 0)  # type: ignore[misc]


@pytest.mark.parametrize("kind", OURS)
def test_idle_connections_expire(ours_with: Callable[..., End], server: Server, kind: str) -> None:
    clock = Clock()
    end = ours_with(kind, clock=clock)
    request(end, "GET", server.url)
    clock.now += KEEPALIVE_EXPIRY - 0.1
    request(end, "GET", server.url)
    assert server.accepted == 1
    clock.now += KEEPALIVE_EXPIRY
    request(end, "GET", server.url)
    server.wait(lambda s: s.accepted == 2 and s.open == 1)


def test_bytes_behind_an_answer_spoil_the_connection(ours: End, serve: Serve) -> None:
    """httpx takes them for the answer to the next request."""
    smuggled = answer(b"smuggled")
    for first in (answer(b"mine"), CHUNKED + chunk(b"mine") + END, CHUNKED + b"4;x\r\nmine\r\n" + END):
        server = serve(first + smuggled)
        for _ in range(2):
            assert request(ours, "GET", server.url).content == b"mine"
        assert server.accepted == 2


# limits


@pytest.mark.parametrize("kind", OURS)
def test_waiting_for_a_connection(
    ours_with: Callable[..., End], serve: Serve, background: Background, kind: str
) -> None:
    end = ours_with(kind, max_connections=1)
    server = serve(CHUNKED + chunk(b"hello") + END)
    first = end.open("GET", server.url)
    with pytest.raises(httpx.PoolTimeout):
        end.open("GET", server.url, timeout=httpx.Timeout(PATIENCE, pool=0.02))
    second = background.start(request, end, "GET", server.url)
    end.read(first)
    assert second.result(PATIENCE).content == b"hello"
    assert server.accepted == 1
    assert (end.transport.pool.idle, end.transport.pool.in_use, end.transport.pool.waiting) == (1, 0, 0)


@pytest.mark.parametrize("kind", OURS)
def test_closing_the_transport_ends_what_is_under_way(
    ours_with: Callable[..., End], serve: Serve, background: Background, kind: str
) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(CHUNKED + chunk(b"hello"))
        peer.wait_closed()

    server = serve(script)
    end = ours_with(kind)
    response = end.open("GET", server.url, timeout=None)
    assert end.next(response) == b"hello"
    step = background.start(end.next, response)
    if end.portal is None:
        end.transport.close()
    else:
        end.portal.call(end.transport.aclose)
    with pytest.raises(httpx.TransportError):
        step.result(PATIENCE)
    server.wait(lambda s: s.open == 0)
    with pytest.raises(RuntimeError, match="closed"):
        end.open("GET", server.url)


def test_a_reader_that_is_slow_holds_the_server_back(ours: End, serve: Serve) -> None:
    # Or the rest of an endless answer would pile up in the client's memory.
    held: list[int] = []
    told, gone_on = threading.Event(), threading.Event()
    size, most = 1 << 13, 1 << 12  # 32 MiB in all, more than the kernel's buffers hold

    def flood(peer: Peer) -> None:
        peer.request()
        peer.send(CHUNKED)
        for number in range(most):
            # Small pieces: one that has begun to be sent must find room, or it would wait in `send`.
            if not (held or select.select((), (peer.sock,), (), HELD)[1]):
                held.append(number)
                told.set()
                assert gone_on.wait(PATIENCE)
            peer.send(chunk(bytes(size)))
        told.set()
        peer.send(END)
        peer.wait_closed()

    response = ours.open("GET", serve(flood).url)
    came = len(ours.next(response))
    assert told.wait(PATIENCE)
    gone_on.set()
    while data := ours.next(response):
        came += len(data)
    ours.close(response)
    assert came == size * most
    assert held, "all of it was taken in, with nobody to read it"


def test_two_hundred_streams(ours: End, serve: Serve) -> None:
    go = threading.Event()

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(CHUNKED + chunk(b"%d" % peer.number))
        go.wait(PATIENCE)
        peer.send(chunk(b"bye") + END)
        peer.wait_closed()

    server = serve(script)
    responses = [ours.open("GET", server.url) for _ in range(200)]
    assert len({ours.next(response) for response in responses}) == 200
    assert ours.transport.pool.in_use == 200
    go.set()
    for response in responses:
        assert ours.next(response) == b"bye"
        assert ours.next(response) == b""
        ours.close(response)
    assert (ours.transport.pool.idle, ours.transport.pool.in_use) == (200, 0)


def test_thirty_two_threads(serve: Serve, background: Background) -> None:
    def echo(peer: Peer) -> None:
        while (asked := peer.request()) is not None:
            peer.send(CHUNKED, chunk(asked.body), END)

    server = serve(echo)
    transport = Transport(max_connections=8)
    with httpx.Client(transport=transport, trust_env=False, timeout=PATIENCE) as client:

        def work(number: int) -> None:
            for turn in range(20):
                body = b"%d-%d" % (number, turn)
                assert client.post(server.url, content=body).content == body

        list(background.map(work, range(32)))
        assert server.accepted <= 8
        assert transport.pool.in_use == 0
        assert transport.pool.idle == server.accepted


# TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture
def serve_tls(serve: Serve, authority: trustme.CA) -> Callable[..., Server]:
    def start(what: Any, name: str = "127.0.0.1") -> Server:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert(name).configure_cert(context)
        context.set_alpn_protocols(["h2", "http/1.1"])
        return serve(what, tls=context)

    return start


@pytest.mark.parametrize("kind", OURS)
def test_tls(ours_with: Callable[..., End], serve_tls: Serve, trusting: ssl.SSLContext, kind: str) -> None:
    end = ours_with(kind, verify=trusting)

    def echo(peer: Peer) -> None:
        assert isinstance(peer.sock, ssl.SSLSocket)
        assert peer.sock.selected_alpn_protocol() == "http/1.1"
        while (asked := peer.request()) is not None:
            peer.send(CHUNKED, chunk(asked.body), END)

    server = serve_tls(echo)
    body = os.urandom(3_000_000)
    for _ in range(2):
        assert request(end, "POST", server.url, content=body).content == body
    response = request(end, "POST", server.url, content=body)
    assert server.accepted == 1
    assert response.extensions["network_stream"].get_extra_info("ssl_object").version().startswith("TLS")


@pytest.mark.parametrize("kind", OURS)
def test_tls_certificate_for_another_name(
    ours_with: Callable[..., End], serve_tls: Serve, trusting: ssl.SSLContext, kind: str
) -> None:
    end = ours_with(kind, verify=trusting)
    server = serve_tls(answer(), name="other.example")
    with pytest.raises(httpx.ConnectError):
        end.open("GET", server.url)
    server.wait(lambda s: s.accepted == 1 and s.open == 0)
    extensions = {"sni_hostname": "other.example"}
    assert request(end, "GET", server.url, extensions=extensions).content == b"ok"


@pytest.mark.parametrize("kind", OURS)
def test_tls_unknown_authority(ours_with: Callable[..., End], serve_tls: Serve, kind: str) -> None:
    server = serve_tls(answer())
    with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
        ours_with(kind).open("GET", server.url)
    server.wait(lambda s: s.accepted == 1 and s.open == 0)
    assert request(ours_with(kind, verify=False), "GET", server.url).content == b"ok"


@pytest.mark.parametrize("kind", OURS)
def test_tls_abort_and_deadline(
    ours_with: Callable[..., End], serve_tls: Serve, trusting: ssl.SSLContext, background: Background, kind: str
) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(CHUNKED + chunk(b"hello"))
        peer.wait_closed()

    end = ours_with(kind, verify=trusting)
    server = serve_tls(script)
    clock = Clock()
    call = RequestControl(clock=clock)
    response = end.open("GET", server.url, call=call, timeout=None)
    assert end.next(response) == b"hello"
    call.deadline = clock.now + 0.05
    with pytest.raises(httpx.ReadTimeout):
        end.next(response)
    server.wait(lambda s: s.accepted == 1 and s.open == 0)

    call = RequestControl()
    response = end.open("GET", server.url, call=call, timeout=None)
    assert end.next(response) == b"hello"
    step = background.start(end.next, response)
    call.abort()
    with pytest.raises(httpx.TransportError, match="aborted"):
        step.result(PATIENCE)
    server.wait(lambda s: s.accepted == 2 and s.open == 0)
    assert end.transport.pool.in_use == 0


@pytest.mark.parametrize("kind", OURS)
def test_tls_handshake_timeout(ours_with: Callable[..., End], serve: Serve, kind: str) -> None:
    server = serve(lambda peer: peer.wait_closed())
    url = server.url.replace("http:", "https:")
    with pytest.raises(httpx.ConnectTimeout):
        ours_with(kind).open("GET", url, timeout=httpx.Timeout(PATIENCE, connect=0.1))
    server.wait(lambda s: s.accepted == 1 and s.open == 0)


# names with several addresses


@pytest.mark.parametrize("kind", [kind for kind in OURS if kind != "trio"])  # which looks up by itself
def test_an_address_is_not_looked_up(
    ours_with: Callable[..., End], server: Server, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    # In a forked child glibc's look-up may wait for a thread that is not there.
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("looked up")

    end = ours_with(kind)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert request(end, "GET", server.url).content == b"ok"


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ("127.0.0.1", (socket.AF_INET, ("127.0.0.1", 80))),
        ("::1", (socket.AF_INET6, ("::1", 80, 0, 0))),
        ("fe80::1%lo", None),
        ("localhost", None),
    ],
)
def test_what_an_address_is(host: str, found: Any) -> None:
    answers = numeric(host, 80)
    assert (answers and (answers[0][0], answers[0][4])) == found
    if answers is not None:
        assert answers == socket.getaddrinfo(host, 80, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)


# uvloop looks names up in C, where no test can put two addresses.
@pytest.mark.parametrize("kind", [kind for kind in OURS if kind != "uvloop"])
def test_all_addresses_of_a_name_are_tried(
    ours_with: Callable[..., End], server: Server, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = socket.getaddrinfo

    def two(host: Any, port: Any, *rest: Any, **options: Any) -> Any:
        if host not in ("two.example", b"two.example"):
            return real(host, port, *rest, **options)
        # Nobody listens on 127.0.0.2.
        return [
            (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port))
            for address in ("127.0.0.2", "127.0.0.1")
        ]

    monkeypatch.setattr(socket, "getaddrinfo", two)
    if kind == "trio":
        pytest.importorskip("trio")
    url = f"http://two.example:{server.port}"
    assert request(ours_with(kind), "GET", url).content == b"ok"


# loops and processes


async def _get(client: httpx.AsyncClient, url: str) -> bytes:
    return (await client.get(url)).content


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_one_client_in_several_asyncio_runs(server: Server) -> None:
    """openai-python#1254, #2388: "Event loop is closed"."""
    client = httpx.AsyncClient(transport=AsyncTransport(), trust_env=False)
    for count in (1, 2, 3):
        assert asyncio.run(_get(client, server.url)) == b"ok"
        server.wait(lambda s, n=count: s.accepted == n and s.open == 1)  # type: ignore[misc]
    asyncio.run(client.aclose())
    server.wait(lambda s: s.open == 0)
    gc.collect()  # the loops that ended left transports behind, and asyncio says so


def test_two_loops_at_once_are_refused(server: Server, ours_with: Callable[..., End]) -> None:
    """openai-python#769: one async client in two threads dead-locks."""
    end = ours_with("asyncio")
    request(end, "GET", server.url)

    async def elsewhere() -> None:
        await end.transport.handle_async_request(httpx.Request("GET", server.url))

    with pytest.raises(ConfigurationError, match="event loop"):
        asyncio.run(elsewhere())
    request(end, "GET", server.url)
    assert server.accepted == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_opens_its_own_connections(server: Server) -> None:
    transport = Transport()
    with httpx.Client(transport=transport, trust_env=False, timeout=PATIENCE) as client:
        assert client.get(server.url).content == b"ok"
        child = os.fork()
        if not child:
            status = 1
            try:
                status = 0 if client.get(server.url).content == b"ok" else 2
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        assert server.accepted == 2
        assert client.get(server.url).content == b"ok"
        assert server.accepted == 2, "the parent still has its own"
