"""The edge in front of somebody else's servers: here, other edges."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator

import anyio
import httpx
import pytest

from homing_server.local import Edge, EdgeSettings, Fault
from homing_server.local.proxied import ProxiedEngine
from homing_server.local.replica import Headers, Request

from .talk import CHAT, ask, post, stream, user

HELLO = user("hello")


@pytest.fixture
def behind() -> Iterator[list[Edge]]:
    with Edge(EdgeSettings.instant(replicas=1, model="a")) as one, Edge(EdgeSettings.instant(replicas=1)) as two:
        yield [one, two]


@pytest.fixture
def front(behind: list[Edge]) -> Iterator[Edge]:
    urls = (behind[0].url, behind[1].url + "/v1/")
    with Edge(EdgeSettings.instant(replicas=2, backends=urls)) as edge:
        yield edge


def test_a_key_finds_its_backend_and_answers_pass_unchanged(front: Edge, behind: list[Edge]) -> None:
    for number in range(10):
        key = str(number)
        whole = post(front.url, HELLO, key=key)
        assert stream(front.url, HELLO, key=key)
        backend = behind[int(whole.headers["x-homing-replica"][1:]) - 1]
        assert backend.log[-1].key == key, "the affinity header goes through"
        assert backend.log[-2].digest == front.log[-2].digest
    assert {record.replica for record in front.log} == {"r1", "r2"}


def test_errors_and_queries_pass(front: Edge) -> None:
    refused = post(front.url)
    assert (refused.status_code, refused.json()["message"]) == (400, "Messages cannot be empty.")
    assert httpx.get(front.url + "/v1/models?x=1").status_code == 200


def test_token_counts_are_read_from_the_answer(front: Edge) -> None:
    usage = ask(front.url, HELLO)["usage"]
    assert front.log[-1].tokens.prompt == usage["prompt_tokens"]
    stream(front.url, HELLO, stream_options={"include_usage": True})
    assert front.log[-1].tokens.completion == usage["completion_tokens"]
    stream(front.url, HELLO)
    assert front.log[-1].tokens.prompt is None, "unknown is not zero"


def test_a_client_that_leaves_ends_the_request_upstream(front: Edge, behind: list[Edge]) -> None:
    for backend in behind:
        backend.inject(Fault.hang(after_chunks=2))
    with httpx.stream("POST", front.url + CHAT, json={"messages": [HELLO], "stream": True}) as running:
        home = behind[int(running.headers["x-homing-replica"][1:]) - 1]
        parts = running.iter_raw()  # kept: an iterator that is dropped closes the response
        next(parts)
        home.wait_for(lambda e: e.running == 1)
    home.wait_for(lambda e: e.running == 0)
    assert home.log[-1].outcome == "aborted"
    front.wait_for(lambda e: e.running == 0)


def test_a_backend_that_breaks_off_breaks_the_stream(front: Edge, behind: list[Edge]) -> None:
    for backend in behind:
        backend.inject(Fault.truncate(after_chunks=2))
    body = {"messages": [HELLO], "stream": True}
    with (
        pytest.raises(httpx.RemoteProtocolError),
        httpx.stream("POST", front.url + CHAT, json=body) as running,
    ):
        running.read()
    front.wait_for(lambda e: e.running == 0)
    assert front.log[-1].outcome == "cut"


def test_an_unreachable_backend_is_a_502() -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    with Edge(EdgeSettings.instant(replicas=1, backends=(f"http://127.0.0.1:{port}",))) as edge:
        answer = post(edge.url, HELLO)
        assert answer.status_code == 502
        assert "ConnectError" in answer.text


def test_proxy_credentials_end_at_the_edge(behind: list[Edge]) -> None:
    token = {"id": "wk-1", "secret": "ws-x"}
    settings = EdgeSettings.instant(replicas=1, backends=(behind[0].url,), proxy_token=token)
    with Edge(settings) as edge:
        headers = {"Modal-Key": "wk-1", "Modal-Secret": "ws-x", "Authorization": "Bearer engine"}
        httpx.post(edge.url + CHAT, json={"messages": [HELLO]}, headers=headers)
    seen = behind[0].log[-1].headers
    assert "modal-key" not in seen
    assert "authorization" in seen


class Backend:
    """Answers one request for each connection, and is done with the connection when ``ended`` is set."""

    def __init__(self) -> None:
        self.answering, self.ended = asyncio.Event(), asyncio.Event()
        self.asked = self.open = self.useless = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        with contextlib.closing(writer), contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            self.asked += 1
            await self.answering.wait()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi")
            await self.ended.wait()
            writer.write_eof()
            self.useless += 1
            await reader.read()
        self.open -= 1


class Ignored:
    """A reply that nobody reads."""

    async def start(self, status: int, headers: Headers) -> None: ...
    async def write(self, data: bytes) -> None: ...
    async def finish(self) -> None: ...


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(10):
        while not condition():
            await asyncio.sleep(0.001)


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("rounds", range(12))
async def test_a_client_that_leaves_leaves_no_connection_of_others_open(anyio_backend: str, rounds: int) -> None:
    """Its request is the one that closes what has become useless, and is cancelled in the middle of it."""
    backend = Backend()
    async with await asyncio.start_server(backend.serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        engine = ProxiedEngine(f"http://127.0.0.1:{port}")

        def ask() -> asyncio.Task[None]:
            return asyncio.create_task(engine.answer(Request("GET", "/", "", {}, b""), Ignored()))

        others = [ask() for _ in range(5)]
        await until(lambda: backend.asked == 5)
        backend.answering.set()
        await asyncio.gather(*others)
        backend.ended.set()
        await until(lambda: backend.useless == 5)
        backend.answering.clear()
        leaving = ask()
        for _ in range(rounds):
            await asyncio.sleep(0)
        leaving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await leaving
        assert leaving.cancelled(), "it has not answered"
        await engine.stop()
        await until(lambda: backend.open == 0)
