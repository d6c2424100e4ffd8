"""`homing.integrations.fastapi` over real sockets: uvicorn in front, the local edge behind."""

from __future__ import annotations

import math
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Annotated, Any

import anyio
import httpx
import pytest
from fastapi import Body, FastAPI, Header, Response
from httpx_sse import ServerSentEvent, connect_sse

import homing
import homing.integrations.fastapi as glue
from homing.integrations.fastapi import EventStreamResponse, LiveReply, frames_of, sse_response
from homing.stores import MemoryStore
from homing.testing import Answer, Fault, ToolCall, assert_no_running
from homing.types.message_params import ChatCompletionUserMessageParam
from homing_server.local import Edge, EdgeSettings

from ..serving import serving

Question = Annotated[str, Body(embed=True)]
LONG = "One two three four five six seven eight nine ten. " * 8


class Site:
    """A program as a user would write it, on a port of its own."""

    def __init__(self, edge: Edge, **settings: Any) -> None:
        self.edge = edge
        self.replied = threading.Event()
        hooks = homing.Hooks(on_reply=lambda reply: self.replied.set())
        self._settings = {"model": "homing-emulated", "hooks": hooks, **settings}
        self.http = httpx.Client(timeout=30)
        self.refresh()

    def refresh(self) -> None:
        """Forget what the test before has done."""
        self.store = MemoryStore()
        self.live: dict[str, LiveReply] = {}
        self.keep_alive = 15.0
        self.replied.clear()

    @asynccontextmanager
    async def life(self, app: FastAPI) -> AsyncIterator[None]:
        client = homing.AsyncClient(self.edge.url, **self._settings)
        async with client as self.client, anyio.create_task_group() as self.tasks:
            yield
            self.tasks.cancel_scope.cancel()

    def app(self) -> FastAPI:
        app = FastAPI(lifespan=self.life)

        def chat(name: str) -> homing.AsyncConversation:
            return self.client.conversation(name, store=self.store)

        @app.post("/chat/{name}")
        async def turn(name: str, question: Question) -> Response:
            return sse_response(chat(name).stream(question), keep_alive=self.keep_alive)

        @app.post("/run/{name}")
        async def run(name: str, question: Question) -> Response:
            return sse_response(chat(name).run_stream(question, tools=[look]))

        @app.post("/loose")
        async def loose(question: Question) -> Response:
            asked: ChatCompletionUserMessageParam = {"role": "user", "content": question}
            return sse_response(self.client.chat.completions.stream(messages=[asked]))

        @app.post("/live/{name}")
        async def begin(name: str, question: Question) -> str:
            live = self.live[name] = LiveReply(chat(name).stream(question))
            self.tasks.start_soon(live.run)
            return live.name

        @app.delete("/live/{name}")
        async def stop(name: str) -> None:
            self.live[name].stop()

        @app.get("/live/{name}")
        async def follow(name: str, last_event_id: Annotated[str | None, Header()] = None) -> Response:
            return sse_response(self.live[name], last_event_id=last_event_id)

        return app

    @contextmanager
    def serving(self) -> Iterator[Site]:
        with serving(self.app()) as self.url, self.http:
            yield self

    @contextmanager
    def events(self, method: str, path: str, **request: Any) -> Iterator[Iterator[ServerSentEvent]]:
        with connect_sse(self.http, method, self.url + path, **request) as source:
            source.response.raise_for_status()
            yield source.iter_sse()

    def ask(self, path: str, question: str = "Hello") -> list[ServerSentEvent]:
        with self.events("POST", path, json={"question": question}) as events:
            return list(events)

    def turns(self, name: str) -> list[dict[str, Any]]:
        stored = self.store.load(name)
        return [] if stored is None else stored.turns


def look(place: str) -> str:
    """Look there."""
    return f"the secret of {place}"


@pytest.fixture(scope="module")
def shared() -> Iterator[Site]:
    with Edge(EdgeSettings.instant()) as edge, Site(edge).serving() as site:
        yield site


@pytest.fixture
def edge(shared: Site) -> Edge:
    shared.edge.reset()
    return shared.edge


@pytest.fixture
def site(shared: Site, edge: Edge) -> Site:
    shared.refresh()
    return shared


def data(event: ServerSentEvent) -> dict[str, Any]:
    told: dict[str, Any] = event.json()
    return told


def text_of(events: list[ServerSentEvent]) -> str:
    return "".join(data(event)["text"] for event in events if event.event == "delta")


# -- one response, one reply ---------------------------------------------------------------------


def test_a_reply_as_events(site: Site, edge: Edge) -> None:
    edge.answer_next("Line one.\n\nLine two: naïve, 鳩, 🕊.")
    with connect_sse(site.http, "POST", f"{site.url}/chat/a", json={"question": "Hello"}) as source:
        assert source.response.headers["content-type"].startswith("text/event-stream")
        assert source.response.headers["cache-control"] == "no-store"
        assert source.response.headers["x-accel-buffering"] == "no"
        events = list(source.iter_sse())
    assert text_of(events) == "Line one.\n\nLine two: naïve, 鳩, 🕊."
    assert [event.event for event in events if event.event != "delta"] == ["done"]
    assert data(events[-1])["finish_reason"] == "stop"
    told = data(site.ask("/chat/a", "And?")[-1])["telemetry"]
    assert told["verdict"] == "warm"
    assert told["cached_tokens"] > 0
    assert told["prompt_tokens"] > told["cached_tokens"]
    assert told["replica"] == edge.log[-1].replica
    assert told["time_to_first_token"] > 0


def test_a_loose_call(site: Site, edge: Edge) -> None:
    edge.answer_next("Hi.")
    events = site.ask("/loose")
    assert text_of(events) == "Hi."
    assert data(events[-1])["finish_reason"] == "stop"
    assert data(events[-1])["telemetry"]["prompt_tokens"] > 0


def test_thoughts_are_told_apart() -> None:
    with Edge(EdgeSettings.instant(thinking=True)) as edge, Site(edge).serving() as site:
        edge.answer_next(Answer("Yes.", reasoning="Hm."))
        events = site.ask("/chat/a")
    assert next(event.event for event in events if event.event != "delta") == "reasoning"
    assert text_of(events) == "Yes."


def test_tools_show_their_names_and_nothing_else(site: Site, edge: Edge) -> None:
    edge.answer_next(Answer(tool_calls=[ToolCall("look", {"place": "attic"})]), "Done.")
    events = site.ask("/run/a")
    assert [data(event)["state"] for event in events if event.event == "tool"] == ["started", "finished"]
    assert text_of(events) == "Done."
    assert not any("secret" in event.data or "attic" in event.data for event in events)


@pytest.mark.parametrize("path", ["/chat/a", "/loose"])
@pytest.mark.parametrize("silent", [False, True], ids=["in-mid-stream", "before-the-first-byte"])
def test_the_engine_stops_when_the_browser_leaves(site: Site, edge: Edge, path: str, silent: bool) -> None:
    # vercel/eve#953, mastra#17510: what was read, and what was asked, are kept
    edge.answer_next(LONG)
    edge.inject(Fault.hang(before_headers=True) if silent else Fault.hang(after_chunks=4))
    with site.events("POST", path, json={"question": "Hello"}) as events:
        first = None if silent else next(events)
        edge.wait_for(lambda e: e.running == 1)
    assert_no_running(edge)
    assert edge.log[-1].outcome == "aborted"
    if path == "/chat/a":
        assert site.replied.wait(10)
        [turn] = site.turns("a")
        assert turn["finish_reason"] == "interrupted"
        assert turn["messages"][0]["content"] == "Hello"
        if first is not None:
            assert turn["messages"][1]["content"].startswith(data(first)["text"])


def test_comments_keep_a_silent_connection_open(site: Site, edge: Edge) -> None:
    site.keep_alive = 0.01
    edge.inject(Fault.hang(before_headers=True))
    with site.http.stream("POST", f"{site.url}/chat/a", json={"question": "Hello"}) as response:
        lines = [line for line, _ in zip(response.iter_lines(), range(6), strict=False)]
    assert lines == [": keep-alive", ""] * 3


def test_a_cold_start_is_shown(site: Site, edge: Edge) -> None:
    edge.hold_cold()
    with site.events("POST", "/chat/a", json={"question": "Hello"}) as events:
        first = next(events)
        assert first.event == "waiting"
        assert set(data(first)) == {"elapsed", "deadline", "attempt", "next_in"}
        edge.become_ready()
        rest = list(events)
    assert rest[-1].event == "done"
    assert data(rest[-1])["telemetry"]["waited"] > 0


def test_whoever_leaves_a_cold_start_waits_no_more(site: Site, edge: Edge) -> None:
    edge.hold_cold()
    with site.events("POST", "/chat/a", json={"question": "Hello"}) as events:
        next(events)
    assert site.replied.wait(10)
    assert site.turns("a")[0]["finish_reason"] == "interrupted"


def test_an_error_is_an_event_without_the_server_s_words(site: Site, edge: Edge) -> None:
    edge.inject(Fault.answer(400, '{"object":"error","message":"key sk-123 at 10.0.0.7","code":400}'))
    [event] = site.ask("/chat/a")
    assert event.event == "failed"
    assert data(event)["type"] == "BadRequestError"
    assert data(event)["status"] == 400
    assert data(event)["retry"] is False
    assert "sk-123" not in event.data
    assert "10.0.0.7" not in event.data
    assert site.turns("a") == []
    assert site.ask("/chat/a")[-1].event == "done"


def test_a_stream_that_breaks_for_good_says_so(edge: Edge) -> None:
    edge.answer_next(LONG)
    edge.inject(Fault.truncate(after_chunks=4))
    with Site(edge, resume="never").serving() as site:
        events = site.ask("/chat/a")
    assert text_of(events)
    assert data(events[-1])["type"] == "StreamInterrupted"
    assert data(events[-1])["retry"] is True


def test_a_stream_that_is_resumed_says_so_too(site: Site, edge: Edge) -> None:
    edge.answer_with(LONG)
    edge.inject(Fault.churn(after_chunks=4))
    events = site.ask("/chat/a")
    assert "resumed" in [event.event for event in events]
    assert text_of(events) == LONG
    assert data(events[-1])["telemetry"]["resumes"] == 1


def test_nobody_becomes_ready(edge: Edge) -> None:
    edge.hold_cold()
    with Site(edge, cold_start_timeout=0).serving() as site:
        assert data(site.ask("/chat/a")[-1])["type"] == "ColdStartTimeout"


def test_a_bug_is_an_event_too(site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def broken(event: object) -> None:
        raise KeyError("private")

    monkeypatch.setattr(glue, "frame_of", broken)
    [event] = site.ask("/chat/a")
    assert data(event)["type"] == "InternalError"
    assert "private" not in event.data
    assert "KeyError: 'private'" in caplog.text
    assert_no_running(site.edge)


# -- a reply that outlives its responses ---------------------------------------------------------


def test_a_reload_goes_on_where_it_was(site: Site, edge: Edge) -> None:
    edge.answer_with(LONG)
    edge.inject(Fault.slow(0.001))
    name = site.http.post(f"{site.url}/live/a", json={"question": "Hello"}).json()
    with site.events("GET", "/live/a") as events:
        before = [next(events) for _ in range(3)]
    assert [event.id for event in before][-1].startswith(f"{name}:")
    with site.events("GET", "/live/a", headers={"last-event-id": before[-1].id}) as events:
        after = list(events)
    assert text_of(before) + text_of(after) == LONG
    numbers = [int(event.id.rpartition(":")[2]) for event in [*before, *after]]
    assert numbers == sorted(set(numbers))
    assert after[-1].event == "done"
    # Whoever has seen nothing, or another reply, is told everything, in few events.
    for header in ({}, {"last-event-id": "other:3"}):
        with site.events("GET", "/live/a", headers=header) as events:
            whole = list(events)
        assert [event.event for event in whole] == ["delta", "done"]
        assert text_of(whole) == LONG
    assert len(site.turns("a")) == 1


def test_two_tabs_see_the_same(site: Site, edge: Edge) -> None:
    edge.answer_with(LONG)
    edge.inject(Fault.slow(0.001))
    site.http.post(f"{site.url}/live/a", json={"question": "Hello"})
    with site.events("GET", "/live/a") as one:
        seen = [next(one)]
        with site.events("GET", "/live/a") as other:
            assert text_of(list(other)) == LONG
        assert text_of([*seen, *one]) == LONG


def test_a_stopped_reply_ends_for_all_and_is_kept(site: Site, edge: Edge) -> None:
    edge.answer_with(LONG)
    edge.inject(Fault.hang(after_chunks=4))
    site.http.post(f"{site.url}/live/a", json={"question": "Hello"})
    with site.events("GET", "/live/a") as one, site.events("GET", "/live/a") as other:
        first = next(one)
        site.http.delete(f"{site.url}/live/a")
        seen = [first, *one]
        assert text_of(list(other)) == text_of(seen)
    assert data(seen[-1])["finish_reason"] == "interrupted"
    [turn] = site.turns("a")
    assert turn["messages"][1]["content"] == text_of(seen)
    assert_no_running(edge)


def test_a_reply_that_nobody_follows_any_more_is_stopped(site: Site, edge: Edge) -> None:
    edge.answer_with(LONG)
    edge.inject(Fault.hang(after_chunks=4))
    site.http.post(f"{site.url}/live/a", json={"question": "Hello"})
    with site.events("GET", "/live/a") as events:
        next(events)
        site.live["a"]._linger = 0.0  # and not 30 s: no test waits that long
    assert_no_running(edge)
    assert edge.log[-1].outcome == "aborted"
    assert site.replied.wait(10)
    assert site.turns("a")[0]["finish_reason"] == "interrupted"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_followers_are_told_when_the_program_ends(edge: Edge, backend: str) -> None:
    edge.answer_with(LONG)
    edge.inject(Fault.hang(after_chunks=4))

    async def scene() -> list[str]:
        seen: list[str] = []

        async def follow() -> None:
            async for _, frame in live.follow():
                seen.append(frame.event)
                began.set()

        async with homing.AsyncClient(edge.url) as client, anyio.create_task_group() as group:
            live, began = LiveReply(client.conversation().stream("Hello")), anyio.Event()
            group.start_soon(follow)
            async with anyio.create_task_group() as program:
                program.start_soon(live.run)
                await began.wait()
                program.cancel_scope.cancel()
        return seen

    assert anyio.run(scene, backend=backend)[-1] == "done"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_somebody_elsewhere_counts_as_a_follower(edge: Edge, backend: str) -> None:
    edge.inject(Fault.hang(after_chunks=4))

    async def scene() -> LiveReply:
        async with homing.AsyncClient(edge.url) as client:
            live = LiveReply(client.conversation().stream("Hello"), name="reply-1", linger=1000)
            async with anyio.create_task_group() as group:
                group.start_soon(live.run)
                await live.changed(0)
                assert live._alone_since is not None
                live._alone_since -= 900  # time goes by
                assert live._time_left() < 200
                live.touch()
                assert live._time_left() > 800
                live.stop()
                await live.changed(len(live.journal.frames))
            return live

    live = anyio.run(scene, backend=backend)
    assert live.name == "reply-1"
    assert live.journal.ended


# -- what is refused, and other servers ----------------------------------------------------------


def test_what_is_no_stream_of_events_is_refused(edge: Edge) -> None:
    with homing.Client(edge.url) as client, pytest.raises(homing.ConfigurationError, match="AsyncClient"):
        sse_response(client.conversation().stream("Hello"))  # type: ignore[arg-type]
    with pytest.raises(homing.ConfigurationError, match=r"chat\.completions\.stream"):
        frames_of(object())  # type: ignore[arg-type]


async def nothing() -> AsyncGenerator[bytes, None]:
    yield b""


@pytest.mark.parametrize("seconds", [0, -1, math.nan])
def test_keep_alives_need_a_time(seconds: float) -> None:
    with pytest.raises(homing.ConfigurationError, match="keep_alive"):
        EventStreamResponse(nothing(), keep_alive=seconds)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_server_that_raises_when_the_client_has_left(backend: str) -> None:
    # ASGI 2.4: send() raises OSError, and receive() may never say so.
    ended = False

    async def events() -> AsyncGenerator[bytes, None]:
        nonlocal ended
        try:
            while True:
                yield b"event: delta\ndata: {}\n\n"
        finally:
            ended = True

    async def send(message: Any) -> None:
        if message.get("body"):
            raise BrokenPipeError

    async def scene() -> None:
        response = EventStreamResponse(events())
        scope = {"type": "http", "asgi": {"spec_version": "2.4"}}
        await response(scope, anyio.sleep_forever, send)  # type: ignore[arg-type]  # it never returns

    anyio.run(scene, backend=backend)
    assert ended
