"""The hooks: moving deadlines, abort from anywhere, and what is measured."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest

from homing._http.request_control import Aborted, RequestControl

from .ends import OURS, Background, End, request
from .peers import CHUNKED, END, PATIENCE, Peer, Server, answer, chunk

Serve = Callable[..., Server]


class Clock:
    """A clock that stands still until told otherwise."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class LateCall(RequestControl):
    """Has its deadline just behind the connect, which may be slow on a busy machine."""

    def restart(self) -> None:
        super().restart()
        self.deadline = self.clock() + 0.2


def silent(peer: Peer) -> None:
    """Read one request and say nothing."""
    peer.request()
    peer.wait_closed()


def one_chunk(peer: Peer) -> None:
    """Begin an answer, then say nothing."""
    peer.request()
    peer.send(CHUNKED + chunk(b"hello"))
    peer.wait_closed()


# deadlines


def test_deadline_before_the_answer(ours: End, serve: Serve) -> None:
    server = serve(silent)
    call = LateCall()
    with pytest.raises(httpx.ReadTimeout):
        ours.open("GET", server.url, call=call)
    server.wait(lambda s: s.accepted == 1 and s.open == 0)
    assert ours.transport.pool.in_use == 0


def test_deadline_moves_while_the_body_streams(ours: End, serve: Serve) -> None:
    """langchain#36949, pi#5558: the limit belongs to the gap, and moves with every chunk."""
    clock = Clock()
    server = serve(one_chunk)
    call = RequestControl(deadline=clock.now + PATIENCE, clock=clock)
    response = ours.open("GET", server.url, call=call)
    assert ours.next(response) == b"hello"
    call.deadline = clock.now + 0.05
    with pytest.raises(httpx.ReadTimeout):
        ours.next(response)
    server.wait(lambda s: s.open == 0)
    assert ours.transport.pool.in_use == 0


def test_deadline_may_move_further_away(ours: End, serve: Serve, background: Background) -> None:
    """A timer set for the old deadline must not fire in the new read."""
    late = threading.Event()

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(CHUNKED + chunk(b"one"))
        late.wait(PATIENCE)
        peer.send(chunk(b"two") + END)

    call = RequestControl(deadline=time.monotonic() + 0.3)
    response = ours.open("GET", serve(script).url, call=call)
    assert ours.next(response) == b"one"
    old = call.deadline
    assert old is not None
    call.deadline = None
    step = background.start(ours.next, response)
    late.wait(old + 0.05 - time.monotonic())  # until the old deadline is past
    late.set()
    assert step.result(PATIENCE) == b"two"
    ours.close(response)


def test_infinite_deadline_is_none(ours: End, server: Server) -> None:
    assert request(ours, "GET", server.url, call=RequestControl(deadline=float("inf")), timeout=None).content == b"ok"


def test_deadline_takes_the_place_of_the_read_timeout(ours: End, serve: Serve) -> None:
    """One limit for reads, so that whoever moves it knows which one has passed."""
    go = threading.Event()

    def script(peer: Peer) -> None:
        peer.request()
        go.wait(0.1)
        peer.send(answer())
        peer.wait_closed()

    call = RequestControl(deadline=time.monotonic() + PATIENCE)
    timeout = httpx.Timeout(PATIENCE, read=0.01)
    assert request(ours, "GET", serve(script).url, call=call, timeout=timeout).content == b"ok"


def test_what_has_arrived_is_delivered_after_the_deadline(ours: End, serve: Serve) -> None:
    """A slow consumer is no fault of the server."""
    go, arrived = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(CHUNKED + chunk(b"one"))
        go.wait(PATIENCE)
        peer.send(chunk(b"two"))
        arrived.set()
        peer.wait_closed()

    clock = Clock()
    call = RequestControl(clock=clock)
    response = ours.open("GET", serve(script).url, call=call)
    assert ours.next(response) == b"one"
    go.set()
    assert arrived.wait(PATIENCE)
    call.deadline = clock.now - 1
    assert ours.next(response) == b"two"
    with pytest.raises(httpx.ReadTimeout):
        ours.next(response)


def test_deadline_while_writing(ours: End, serve: Serve) -> None:
    done = threading.Event()
    url = serve(lambda peer: bool(done.wait(PATIENCE))).url
    call = LateCall()
    try:
        with pytest.raises(httpx.WriteTimeout):
            ours.open("POST", url, content=b"x" * 30_000_000, call=call, timeout=None)
    finally:
        done.set()


# measurements


def test_what_is_measured(ours: End, serve: Serve) -> None:
    clock = Clock()

    def script(peer: Peer) -> None:
        peer.request()
        assert call.sent.wait(PATIENCE)
        clock.now += 5
        peer.send(b"HTTP/1.1 200 OK\r\n")
        peer.send(b"Content-Length: 0\r\n\r\n")
        peer.wait_closed()

    call = WatchedCall(clock)
    assert (call.sent_at, call.first_byte_at) == (None, None)
    request(ours, "POST", serve(script).url, content=b"x", call=call)
    assert (call.sent_at, call.first_byte_at) == (1000.0, 1005.0)


def test_not_sent_while_connecting(ours: End) -> None:
    """A cold edge refuses the connection: nothing was sent."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    call = RequestControl()
    with pytest.raises(httpx.ConnectError):
        ours.open("GET", f"http://127.0.0.1:{port}", call=call)
    assert call.sent_at is None


def test_one_call_serves_several_attempts(ours: End, server: Server) -> None:
    call = RequestControl()
    for _ in range(3):
        assert request(ours, "GET", server.url, call=call).content == b"ok"
    assert server.accepted == 1


# abort


@contextmanager
def aborted() -> Iterator[None]:
    with pytest.raises(Aborted) as caught:
        yield
    assert isinstance(caught.value, httpx.TransportError)


def test_abort_before_the_answer(ours: End, serve: Serve, background: Background) -> None:
    """A thread blocked in a read, broken off from another: DEMAND F, cancellation in the sync client."""

    def script(peer: Peer) -> None:
        asked = peer.request()
        assert asked is not None
        server.note(asked)
        peer.wait_closed()

    server = serve(script)
    call = RequestControl()
    step = background.start(ours.open, "GET", server.url, call=call, timeout=None)
    server.wait(lambda s: len(s.requests) == 1)
    call.abort()
    with aborted():
        step.result(PATIENCE)
    server.wait(lambda s: s.open == 0)
    assert (ours.transport.pool.idle, ours.transport.pool.in_use) == (0, 0)


def test_abort_within_the_body(ours: End, serve: Serve, background: Background) -> None:
    server = serve(one_chunk)
    call = RequestControl()
    response = ours.open("GET", server.url, call=call, timeout=None)
    assert ours.next(response) == b"hello"
    step = background.start(ours.next, response)
    call.abort()
    with aborted():
        step.result(PATIENCE)
    server.wait(lambda s: s.open == 0)
    assert (ours.transport.pool.idle, ours.transport.pool.in_use) == (0, 0)


def test_abort_between_reads(ours: End, serve: Serve) -> None:
    server = serve(one_chunk)
    call = RequestControl()
    response = ours.open("GET", server.url, call=call)
    assert ours.next(response) == b"hello"
    call.abort()
    server.wait(lambda s: s.open == 0)  # already now, though nobody reads
    with aborted():
        ours.next(response)
    ours.close(response)
    assert (ours.transport.pool.idle, ours.transport.pool.in_use) == (0, 0)


def test_abort_of_a_connection_used_before(ours: End, serve: Serve, background: Background) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(answer())
        asked = peer.request()
        if asked is not None:
            server.note(asked)
            peer.wait_closed()

    server = serve(script)
    request(ours, "GET", server.url)
    call = RequestControl()
    step = background.start(ours.open, "POST", server.url, content=b"x", call=call, timeout=None)
    server.wait(lambda s: len(s.requests) == 1)
    call.abort()
    with aborted():
        step.result(PATIENCE)
    server.wait(lambda s: s.open == 0)
    assert server.accepted == 1, "an abort is not a stale connection"


def test_abort_while_writing(ours: End, serve: Serve, background: Background) -> None:
    begun, done = threading.Event(), threading.Event()

    def deaf(peer: Peer) -> None:
        peer.sock.recv(10)
        begun.set()
        done.wait(PATIENCE)

    url = serve(deaf).url
    call = RequestControl()
    step = background.start(ours.open, "POST", url, content=b"x" * 30_000_000, call=call, timeout=None)
    try:
        assert begun.wait(PATIENCE)
        call.abort()
        with aborted():
            step.result(PATIENCE)
    finally:
        done.set()
    assert ours.transport.pool.in_use == 0


@contextmanager
def full_listener() -> Iterator[str]:
    """A port where connecting takes for ever."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        for filler in fillers:
            filler.close()


def test_abort_while_connecting(ours: End, background: Background) -> None:
    with full_listener() as url:
        call = WatchedCall()
        step = background.start(ours.open, "GET", url, call=call, timeout=None)
        assert call.attached.wait(PATIENCE)
        call.abort()
        with aborted():
            step.result(PATIENCE)
    assert ours.transport.pool.in_use == 0


class WatchedCall(RequestControl):
    """Tells when the transport is about to block, and when it has sent the request."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(clock=clock)
        self.attached = threading.Event()
        self.sent = threading.Event()

    def attach(self, breaker: Callable[[], None]) -> None:
        super().attach(breaker)
        self.attached.set()

    def allowance(self, timeout: float | None) -> float | None:
        if self.sent_at is not None:
            self.sent.set()
        return super().allowance(timeout)


def test_abort_within_the_tls_handshake(ours: End, serve: Serve, background: Background) -> None:
    server = serve(lambda peer: peer.wait_closed())  # takes the ClientHello and says nothing
    call = RequestControl()
    url = server.url.replace("http:", "https:")
    step = background.start(ours.open, "GET", url, call=call, timeout=None)
    server.wait(lambda s: s.accepted == 1)
    call.abort()
    with aborted():
        step.result(PATIENCE)
    server.wait(lambda s: s.open == 0)
    assert ours.transport.pool.in_use == 0


@pytest.mark.parametrize("kind", OURS)
def test_abort_while_waiting_for_a_connection(
    ours_with: Callable[..., End], serve: Serve, background: Background, kind: str
) -> None:
    end = ours_with(kind, max_connections=1)
    server = serve(one_chunk)
    first = end.open("GET", server.url)
    call = WatchedCall()
    step = background.start(end.open, "GET", server.url, call=call, timeout=None)
    assert call.attached.wait(PATIENCE)
    call.abort()
    with aborted():
        step.result(PATIENCE)
    assert end.transport.pool.waiting == 0
    end.close(first)


def test_aborted_before_it_begins(ours: End, server: Server) -> None:
    call = RequestControl()
    call.abort()
    with aborted():
        ours.open("GET", server.url, call=call)
    assert server.requests == []
    assert ours.transport.pool.in_use == 0


def test_abort_after_the_end_spares_the_connection(ours: End, server: Server) -> None:
    """The connection may serve somebody else by now."""
    call = RequestControl()
    request(ours, "GET", server.url, call=call)
    call.abort()
    assert request(ours, "GET", server.url).content == b"ok"
    assert server.accepted == 1


def test_abort_before_the_close_keeps_the_connection_out_of_the_pool(ours: End, serve: Serve) -> None:
    server = serve(CHUNKED + chunk(b"hello") + END)
    call = RequestControl()
    response = ours.open("GET", server.url, call=call)
    ours.next(response)
    call.abort()
    ours.close(response)
    assert ours.transport.pool.idle == 0
    server.wait(lambda s: s.open == 0)


def test_repr_tells_the_state() -> None:
    assert repr(RequestControl(deadline=3.0)) == "<Call deadline=3.0 sent_at=None aborted=False>"


# the body's own way out


def test_closing_after_the_last_chunk_has_arrived_keeps_the_connection(ours: End, serve: Serve) -> None:
    """Whoever stops at [DONE] does not pay for it with a new connection."""
    server = serve(CHUNKED + chunk(b"data: [DONE]\n\n") + END)
    for _ in range(3):
        response = ours.open("GET", server.url)
        assert ours.next(response) == b"data: [DONE]\n\n"
        ours.close(response)
    assert server.accepted == 1


def test_reading_after_closing(ours: End, serve: Serve) -> None:
    response = ours.open("GET", serve(one_chunk).url)
    ours.close(response)
    with pytest.raises(httpx.StreamClosed):
        ours.next(response)


def test_a_read_brings_all_that_has_come(ours: End, serve: Serve) -> None:
    parts = [b"data: %d\n\n" % i for i in range(100)]
    whole = CHUNKED + b"".join(map(chunk, parts)) + END
    response = ours.open("GET", serve(whole).url)
    assert ours.next(response) == b"".join(parts)
    assert ours.next(response) == b""
    ours.close(response)
