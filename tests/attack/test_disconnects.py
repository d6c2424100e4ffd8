"""Browsers leave a streamed reply, at every stage and many at once: nothing goes on for nobody, nothing is left."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import anyio
import pytest
from fastapi import Body, FastAPI, Header, Response

import homing
from homing.integrations.fastapi import LiveReply, sse_response
from homing.stores import MemoryStore
from homing.testing import Fault, assert_no_running
from homing_server.local import Edge, EdgeSettings

from ..serving import serving

TEXT = "One two three four five six seven eight nine ten."
CROWD = 200
SEEN = 20
BOUND = 60
"""Seconds after which something is taken never to happen."""

Question = Annotated[str, Body(embed=True)]


class Site:
    """A program as the documentation has it."""

    def __init__(self, edge: Edge) -> None:
        self.edge = edge
        self.store = MemoryStore()
        self.live: dict[str, LiveReply] = {}
        self.url = ""
        self.client: Any = None
        self.loop: Any = None
        self.tasks: Any = None

    def app(self) -> FastAPI:
        @asynccontextmanager
        async def life(app: FastAPI) -> AsyncIterator[None]:
            self.loop = asyncio.get_running_loop()
            client = homing.AsyncClient(self.edge.url, model="homing-emulated")
            async with client as self.client, anyio.create_task_group() as self.tasks:
                yield
                self.tasks.cancel_scope.cancel()

        app = FastAPI(lifespan=life)

        @app.post("/chat/{name}")
        async def chat(name: str, question: Question) -> Response:
            return sse_response(self.client.conversation(name, store=self.store).stream(question))

        @app.post("/loose/{name}")
        async def loose(name: str, question: Question) -> Response:
            return sse_response(self.client.chat.completions.stream(messages=[{"role": "user", "content": question}]))

        @app.post("/live/{name}")
        async def live(name: str, question: Question) -> Response:
            stream = self.client.conversation(name, store=self.store).stream(question)
            reply = self.live[name] = LiveReply(stream, linger=0.05)
            self.tasks.start_soon(reply.run)
            return sse_response(reply)

        @app.get("/live/{name}")
        async def follow(name: str, last_event_id: Annotated[str | None, Header()] = None) -> Response:
            return sse_response(self.live[name], last_event_id=last_event_id)

        return app

    def turns(self, name: str) -> list[dict[str, Any]]:
        stored = self.store.load(name)
        return [] if stored is None else stored.turns

    def rested(self, before: tuple[int, int]) -> bool:
        """Say whether there are no more of them than before."""
        return all(now <= then for now, then in zip(self.rest(), before, strict=True))

    def rest(self) -> tuple[int, int]:
        """Return how many tasks and open descriptors there are."""
        gc.collect()
        tasks = asyncio.run_coroutine_threadsafe(_tasks(), self.loop).result(BOUND)
        return tasks, len(os.listdir("/proc/self/fd"))


async def _tasks() -> int:
    return len(asyncio.all_tasks())


class Browser:
    """A connection that reads as far as it likes, and leaves as it likes."""

    def __init__(
        self, url: str, path: str, question: str = "Hello", *, method: str = "POST", part: int | None = None
    ) -> None:
        """``part``: only so many bytes of the request are sent."""
        host, port = url.removeprefix("http://").split(":")
        self.socket = socket.create_connection((host, int(port)), timeout=BOUND)
        body = json.dumps({"question": question}).encode()
        head = f"{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        head += f"content-length: {len(body)}\r\n\r\n"
        self.socket.sendall((head.encode() + body)[:part])
        self.seen = b""

    def read_until(self, mark: bytes) -> None:
        while mark not in self.seen:
            data = self.socket.recv(65536)
            assert data, self.seen
            self.seen += data

    def close(self) -> None:
        self.socket.close()

    def reset(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


def until(true: Callable[[], object], what: str) -> None:
    ends = time.monotonic() + BOUND
    while not true():
        assert time.monotonic() < ends, what
        time.sleep(0.01)


@pytest.fixture(scope="module")
def running() -> Iterator[Site]:
    with Edge(EdgeSettings.instant()) as edge:
        site = Site(edge)
        with serving(site.app()) as site.url:
            yield site


@pytest.fixture
def site(running: Site) -> Site:
    running.edge.reset()
    running.store = MemoryStore()
    running.edge.answer_with(TEXT)
    return running


def asked(site: Site) -> int:
    return sum(record.path.endswith("completions") for record in site.edge.log)


def carry_on(site: Site, name: str) -> None:
    """The conversation takes its next turn."""
    browser = Browser(site.url, f"/chat/{name}", "And then?")
    browser.read_until(b"event: done")
    browser.close()


STAGES: dict[str, tuple[Fault | None, bytes]] = {
    "before anything has come": (Fault.hang(before_headers=True), b""),
    "before the first token": (Fault.hang(), b"text/event-stream"),
    "in the middle": (Fault.hang(after_chunks=4), b"event: delta"),
    "after the last": (None, b"event: done"),
}
"""What the engine does, and what the browser has seen when it leaves."""


@pytest.mark.parametrize("leave", [Browser.close, Browser.reset])
@pytest.mark.parametrize("path", ["chat", "loose", "live"])
@pytest.mark.parametrize("stage", STAGES)
def test_a_browser_leaves(site: Site, leave: Callable[[Browser], None], path: str, stage: str) -> None:
    fault, seen = STAGES[stage]
    carry_on(site, "before")
    before = site.rest()
    if fault is not None:
        site.edge.inject(fault)
    browser = Browser(site.url, f"/{path}/talk")
    if fault is not None:
        until(lambda: site.edge.running, "the engine is asked")
    browser.read_until(seen)
    leave(browser)
    assert_no_running(site.edge)
    until(lambda: site.rested(before), "all is given back")
    assert asked(site) == 2  # and nothing is asked again for nobody
    if path == "loose":
        return
    [turn] = site.turns("talk")
    assert turn["finish_reason"] == ("stop" if fault is None else "interrupted")
    assert TEXT.startswith(turn["messages"][-1]["content"])
    carry_on(site, "talk")
    assert len(site.turns("talk")) == 2


def test_browsers_that_leave_before_they_have_asked(site: Site) -> None:
    carry_on(site, "before")
    before = site.rest()
    for part in (0, 10, 60, -1):
        for leave in (Browser.close, Browser.reset):
            leave(Browser(site.url, "/chat/talk", part=part))
    until(lambda: site.rested(before), "all is given back")
    assert asked(site) == 1
    assert not site.turns("talk")
    carry_on(site, "talk")


def test_a_crowd_leaves_at_once(site: Site) -> None:
    carry_on(site, "before")
    before = site.rest()
    for _ in range(CROWD):
        site.edge.inject(Fault.hang(after_chunks=4))
    crowd = [Browser(site.url, f"/{'live' if number % 2 else 'chat'}/{number}") for number in range(CROWD)]
    for browser in crowd[:SEEN]:
        browser.read_until(b"event: delta")
    for number, browser in enumerate(crowd):  # few have seen something, most hardly the head
        (browser.reset if number % 3 else browser.close)()
    assert_no_running(site.edge, timeout=BOUND)
    until(lambda: site.rested(before), "all is given back")
    site.edge.clear_faults()
    for number in (0, 1, SEEN - 1):
        assert [turn["finish_reason"] for turn in site.turns(str(number))] == ["interrupted"]
        carry_on(site, str(number))


def test_a_browser_that_comes_back_goes_on_where_it_was(site: Site) -> None:
    site.edge.inject(Fault.hang(after_chunks=4))
    browser = Browser(site.url, "/live/talk")
    browser.read_until(b"event: delta")
    other = Browser(site.url, "/live/talk", method="GET")
    browser.reset()
    other.read_until(b"event: delta")
    site.loop.call_soon_threadsafe(site.live["talk"].stop)
    other.read_until(b"event: done")
    other.close()
    assert_no_running(site.edge)
