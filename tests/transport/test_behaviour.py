"""What every HTTP/1.1 transport under httpx does, ours and httpx's own alike."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

import httpx
import pytest

from .ends import Background, End, request
from .peers import CHUNKED, END, PATIENCE, Peer, Server, answer, chunk

Serve = Callable[..., Server]


def once(*pieces: bytes) -> Callable[[Peer], None]:
    """Read one request, send the pieces, close."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(*pieces)
        peer.close()

    return script


def keep(*pieces: bytes) -> Callable[[Peer], None]:
    """Read one request, send the pieces, wait for the client to close."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(*pieces)
        peer.wait_closed()

    return script


def test_get(end: End, server: Server) -> None:
    response = request(end, "GET", server.url + "/a?b=c")
    assert (response.status_code, response.content, response.http_version) == (200, b"ok", "HTTP/1.1")
    assert server.requests[0].target == "/a?b=c"


def test_post_of_bytes(end: End, server: Server) -> None:
    body = bytes(range(256)) * 20
    request(end, "POST", server.url, content=body)
    assert server.requests[0].body == body
    assert server.requests[0].headers["content-length"] == str(len(body))


def test_big_bodies_both_ways(end: End, serve: Serve) -> None:
    def echo(peer: Peer) -> None:
        while (asked := peer.request()) is not None:
            peer.send(answer(asked.body))

    body = bytes(range(256)) * 20_000
    assert request(end, "POST", serve(echo).url, content=body).content == body


def test_body_from_an_iterator_is_sent_in_chunks(end: End, server: Server) -> None:
    request(end, "POST", server.url, content=iter([b"one", b"two" * 50_000, b"three"]))
    assert server.requests[0].body == b"one" + b"two" * 50_000 + b"three"
    assert server.requests[0].headers["transfer-encoding"] == "chunked"


def test_headers_arrive_as_sent(end: End, server: Server) -> None:
    request(end, "GET", server.url, headers={"X-One": "1", "Accept-Encoding": "identity"})
    assert server.requests[0].headers["x-one"] == "1"
    assert server.requests[0].headers["host"] == server.url.removeprefix("http://")


def test_response_headers_keep_case_order_and_repeats(end: End, serve: Serve) -> None:
    url = serve(answer(headers="X-b: 1\r\nX-A: 2\r\nx-B: 3\r\n")).url
    raw = request(end, "GET", url).headers.raw
    assert raw[1:] == [(b"X-b", b"1"), (b"X-A", b"2"), (b"x-B", b"3")]


@pytest.mark.parametrize("split", [1, 2, 7, 1000])
def test_chunked_body_in_any_pieces(end: End, serve: Serve, split: int) -> None:
    whole = CHUNKED + chunk(b"hello ") + chunk(b"wor") + chunk(b"ld" * 200) + END
    pieces = [whole[i : i + split] for i in range(0, len(whole), split)]
    assert request(end, "GET", serve(keep(*pieces)).url).content == b"hello wor" + b"ld" * 200


def test_informational_answers_are_skipped(end: End, serve: Serve) -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    url = serve(b"HTTP/1.1 100 Continue\r\n\r\n" + early + CHUNKED + chunk(b"body") + END).url
    assert request(end, "POST", url, content=b"x").content == b"body"
    assert request(end, "POST", url, content=b"x").content == b"body"


@pytest.mark.parametrize(
    ("method", "whole"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        ("HEAD", CHUNKED),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        ("GET", CHUNKED + END),
    ],
)
def test_answers_without_a_body_keep_the_connection(end: End, serve: Serve, method: str, whole: bytes) -> None:
    server = serve(whole)
    for _ in range(3):
        assert request(end, method, server.url).content == b""
    assert server.accepted == 1


def test_body_until_the_connection_closes(end: End, serve: Serve) -> None:
    server = serve(once(b"HTTP/1.1 200 OK\r\n\r\nhel", b"lo"))
    assert request(end, "GET", server.url).content == b"hello"
    assert request(end, "GET", server.url).content == b"hello"
    assert server.accepted == 2


def test_http_1_0_closes(end: End, serve: Serve) -> None:
    server = serve(keep(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"))
    response = request(end, "GET", server.url)
    assert (response.content, response.http_version) == (b"ok", "HTTP/1.0")
    server.wait(lambda s: s.open == 0)


def test_bare_newlines_in_the_head(end: End, serve: Serve) -> None:
    url = serve(keep(b"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n4\r\nbo", b"dy\r\n" + END)).url
    assert request(end, "GET", url).content == b"body"


@pytest.mark.parametrize("trailer", [b"", b"X-Trailer: 1\r\n", b"A: 1\r\nB: 2\r\n"])
@pytest.mark.parametrize("split", [1, 10_000])
def test_trailers_are_passed_over(end: End, serve: Serve, trailer: bytes, split: int) -> None:
    whole = CHUNKED + chunk(b"one") + b"0\r\n" + trailer + b"\r\n"

    def script(peer: Peer) -> None:
        while peer.request():
            peer.send(*[whole[i : i + split] for i in range(0, len(whole), split)])

    server = serve(script)
    for _ in range(2):
        assert request(end, "GET", server.url).content == b"one"
    assert server.accepted == 1


def test_chunk_extensions_are_passed_over(end: End, serve: Serve) -> None:
    url = serve(CHUNKED + chunk(b"one") + b"3;name=value\r\ntwo\r\n" + chunk(b"three") + END).url
    for _ in range(2):
        assert request(end, "GET", url).content == b"onetwothree"


def test_chunk_header_with_blanks_and_zeros(end: End, serve: Serve) -> None:
    url = serve(CHUNKED + b"0003\r\none\r\n" + b"3  \r\ntwo\r\n" + b"000\r\n\r\n").url
    assert request(end, "GET", url).content == b"onetwo"


@pytest.mark.parametrize(
    "body",
    [
        b"xyz\r\n",
        b"-1\r\nab",
        b"0x3\r\nabc\r\n",
        b"1_0\r\n" + b"a" * 16 + b"\r\n",
        b"+3\r\nabc\r\n",
        b"3\r\nabcd\r\n",
        b"3\r\nabc\n\n0\r\n\r\n",
        b"3\r\nabcX\r\n0\r\n\r\n",
        b"3\r\nabc\rX0\r\n\r\n",
        b"3\r\nabc3\r\nabc\r\n0\r\n\r\n",
        b"111111111111111111111\r\nabc",
        b"\r\n3\r\nabc\r\n",
    ],
)
@pytest.mark.parametrize("before", [b"", chunk(b"good")])
@pytest.mark.parametrize("split", [1, 10_000])
def test_malformed_chunks_are_protocol_errors(end: End, serve: Serve, body: bytes, before: bytes, split: int) -> None:
    whole = before + body + END
    pieces = [whole[i : i + split] for i in range(0, len(whole), split)]
    server = serve(keep(CHUNKED, *pieces))
    response = end.open("GET", server.url)
    with pytest.raises(httpx.RemoteProtocolError):
        end.read(response)
    server.wait(lambda s: s.open == 0)


def test_what_came_before_a_malformed_chunk_is_delivered(end: End, serve: Serve) -> None:
    response = end.open("GET", serve(keep(CHUNKED + chunk(b"good") + b"3\r\nabcd\r\n")).url)
    got = b""
    while len(got) < 7:
        got += end.next(response)
    assert got == b"goodabc"
    with pytest.raises(httpx.RemoteProtocolError, match="chunk"):
        end.next(response)


@pytest.mark.parametrize(
    "whole",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
        CHUNKED + b"a\r\nhello",
        CHUNKED + chunk(b"hello"),
        CHUNKED + chunk(b"hello") + b"0\r\n",
        CHUNKED + chunk(b"hello") + b"5",
        CHUNKED,
    ],
)
def test_truncated_bodies_are_protocol_errors(end: End, serve: Serve, whole: bytes) -> None:
    """openai-python#2356: and they have to be told from a timeout or a reset."""
    response = end.open("GET", serve(once(whole)).url)
    with pytest.raises(httpx.RemoteProtocolError, match="closed connection"):
        end.read(response)


@pytest.mark.parametrize("whole", [b"", b"HTTP/1.1 200 OK\r\nContent-Le"])
def test_closed_before_the_answer(end: End, serve: Serve, whole: bytes) -> None:
    with pytest.raises(httpx.RemoteProtocolError, match="Server disconnected"):
        end.open("GET", serve(once(whole)).url)


@pytest.mark.parametrize(
    "whole",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
        b"\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000,
    ],
)
def test_nonsense_is_a_protocol_error(end: End, serve: Serve, whole: bytes) -> None:
    server = serve(keep(whole))
    with pytest.raises(httpx.RemoteProtocolError):
        end.open("GET", server.url)
    server.wait(lambda s: s.open == 0)


def test_reset_before_the_answer(end: End, serve: Serve) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.reset()

    with pytest.raises(httpx.ReadError):
        end.open("GET", serve(script).url)


def test_reset_within_the_body(end: End, serve: Serve) -> None:
    go = threading.Event()

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(CHUNKED + chunk(b"hello"))
        go.wait(PATIENCE)
        peer.reset()

    response = end.open("GET", serve(script).url)
    assert end.next(response) == b"hello"
    go.set()
    with pytest.raises(httpx.ReadError):
        end.next(response)


def test_nobody_listens(end: End) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(httpx.ConnectError):
        end.open("GET", f"http://127.0.0.1:{port}")


def test_unknown_name(end: End) -> None:
    with pytest.raises(httpx.ConnectError):
        end.open("GET", "http://nobody.invalid")


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "/relative"])
def test_other_protocols(end: End, url: str) -> None:
    with pytest.raises(httpx.UnsupportedProtocol):
        end.open("GET", url)


def test_illegal_header_is_our_own_fault(end: End, server: Server) -> None:
    with pytest.raises(httpx.LocalProtocolError):
        end.open("GET", server.url, headers={"X": "a\r\nb"})
    assert request(end, "GET", server.url).content == b"ok"


def test_read_timeout_before_the_answer(end: End, serve: Serve) -> None:
    server = serve(keep())
    with pytest.raises(httpx.ReadTimeout):
        end.open("GET", server.url, timeout=httpx.Timeout(10, read=0.05))
    server.wait(lambda s: s.accepted == 1 and s.open == 0)


def test_read_timeout_within_the_body(end: End, serve: Serve) -> None:
    server = serve(keep(CHUNKED + chunk(b"hello")))
    # Long enough for the head on a busy machine: the limit holds for it too.
    response = end.open("GET", server.url, timeout=httpx.Timeout(10, read=0.5))
    assert end.next(response) == b"hello"
    with pytest.raises(httpx.ReadTimeout):
        end.next(response)
    server.wait(lambda s: s.accepted == 1 and s.open == 0)


def test_write_timeout(end: End, serve: Serve) -> None:
    done = threading.Event()

    def deaf(peer: Peer) -> None:
        done.wait(PATIENCE)

    url = serve(deaf).url
    try:
        with pytest.raises(httpx.WriteTimeout):
            end.open("POST", url, content=b"x" * 30_000_000, timeout=httpx.Timeout(10, write=0.05))
    finally:
        done.set()


def test_connect_timeout(end: End) -> None:
    # A listener whose queue is full takes no more connections, and says nothing.
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(address)
        try:
            with pytest.raises(httpx.ConnectTimeout):
                end.open("GET", f"http://127.0.0.1:{address[1]}", timeout=httpx.Timeout(10, connect=0.1))
        finally:
            for filler in fillers:
                filler.close()


def test_answer_before_the_request_is_complete(end: End, serve: Serve) -> None:
    """A server that refuses a body need not read it: its answer counts, not the failed write."""

    def refuse(peer: Peer) -> None:
        peer.sock.recv(1000)
        peer.send(b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno")
        peer.sock.shutdown(socket.SHUT_WR)
        peer.wait_closed()

    assert request(end, "POST", serve(refuse).url, content=b"x" * 5_000_000).status_code == 413


def test_connections_are_used_again(end: End, serve: Serve) -> None:
    server = serve(CHUNKED + chunk(b"hello") + END)
    for _ in range(5):
        assert request(end, "GET", server.url).content == b"hello"
    assert server.accepted == 1


def test_connection_close_is_obeyed(end: End, serve: Serve) -> None:
    server = serve(answer(headers="Connection: close\r\n"))
    for _ in range(3):
        assert request(end, "GET", server.url).content == b"ok"
    server.wait(lambda s: s.accepted == 3 and s.open == 0)


def test_leaving_early_closes_at_once(end: End, serve: Serve) -> None:
    server = serve(keep(CHUNKED + chunk(b"hello")))
    response = end.open("GET", server.url)
    assert end.next(response) == b"hello"
    end.close(response)
    server.wait(lambda s: s.open == 0)
    end.close(response)  # a second time does nothing


def test_leaving_before_the_body_closes_at_once(end: End, serve: Serve) -> None:
    for whole in (CHUNKED + chunk(b"hello"), b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"):
        server = serve(keep(whole))
        end.close(end.open("GET", server.url))
        server.wait(lambda s: s.accepted == 1 and s.open == 0)


def test_leaving_a_body_of_known_length_early_closes_at_once(end: End, serve: Serve) -> None:
    server = serve(keep(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"))
    response = end.open("GET", server.url)
    assert end.next(response) == b"hello"
    end.close(response)
    server.wait(lambda s: s.open == 0)


def test_many_streams_at_once(end: End, serve: Serve, background: Background) -> None:
    go = threading.Event()

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(CHUNKED + chunk(b"%d" % peer.number))
        go.wait(PATIENCE)
        peer.send(chunk(b"bye") + END)
        peer.wait_closed()

    server = serve(script)
    responses = list(background.map(lambda _: end.open("GET", server.url), range(50)))
    first = {end.next(response) for response in responses}
    assert len(first) == 50
    go.set()
    assert {end.next(response) for response in responses} == {b"bye"}
    for response in responses:
        end.close(response)


def test_upgrade_hands_over_the_connection(end: End, serve: Serve) -> None:
    switch = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\n\r\nwelcome"
    response = end.open("GET", serve(keep(switch)).url, headers={"Upgrade": "echo", "Connection": "upgrade"})
    assert response.status_code == 101
    stream = response.extensions["network_stream"]
    if end.library == "threads":
        assert stream.read(7) == b"welcome"
    else:
        assert end.portal.call(stream.read, 7) == b"welcome"
    end.close(response)


def test_ipv6(end: End, serve: Serve) -> None:
    try:
        server = serve(answer(), family=socket.AF_INET6, host="::1")
    except OSError:
        pytest.skip("no IPv6 on this machine")
    assert request(end, "GET", server.url).content == b"ok"
