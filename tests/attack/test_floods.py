"""A server that always has bytes ready is as late as one that is silent: every time limit ends it."""

from __future__ import annotations

import itertools
import threading
from typing import Any

import anyio
import pytest

import homing
from homing.core.retry.timers import LATE_BYTES
from tests.transport.peers import chunk

from .floods import ASK, END, EVENT, FACES, HELLO, JSON, OWN, SSE, ask, create, failure, flooding, stream

LIMIT = 0.1
"""Seconds."""

FLOODS = {
    "comments": (SSE, chunk(b": x\n\n")),
    "comments of a byte a chunk": (SSE, chunk(b":") + chunk(b"\n")),
    "bare events": (SSE, chunk(b"data:\n\n")),
    "roles": (SSE, chunk(EVENT % (0, b'"role":"assistant"', b""))),
    "empty deltas": (SSE, chunk(b'data: {"choices":[{"delta":{}}]}\n\n')),
    "chunk extensions": (SSE, b"1;a=b\r\n:\r\n1;a=b\r\n\n\r\n"),
}
INTERIM = (b"", b"HTTP/1.1 102 Processing\r\n\r\n")


@pytest.mark.parametrize(
    ("kind", "flood"),
    [*itertools.product(OWN, FLOODS), *((kind, "comments") for kind in FACES if kind not in OWN)],
)
def test_no_flood_keeps_a_stream_from_its_first_token_s_limit(kind: str, flood: str) -> None:
    with flooding(*FLOODS[flood]) as url:
        error = failure(kind, url, stream, timeout=homing.Timeout(first_token=LIMIT))
    assert isinstance(error, homing.FirstTokenTimeout)


@pytest.mark.parametrize("kind", FACES)
def test_no_flood_keeps_a_stream_from_its_gap_s_limit(kind: str) -> None:
    first, again = FLOODS["comments"]
    with flooding(first + chunk(HELLO), again) as url:
        error = failure(kind, url, stream, timeout=homing.Timeout(gap=LIMIT))
    assert isinstance(error, homing.GapTimeout)
    assert error.partial_text == "Hello"


@pytest.mark.parametrize("kind", FACES)
def test_not_even_text_without_end_keeps_a_call_from_its_total(kind: str) -> None:
    with flooding(SSE, chunk(HELLO)) as url:
        error = failure(kind, url, stream, timeout=LIMIT)
    assert isinstance(error, homing.DeadlineExceeded)
    assert error.partial_text.startswith("HelloHello")


@pytest.mark.parametrize("kind", FACES)
@pytest.mark.parametrize("action", [create, lambda client: client.models.list()], ids=["create", "models"])
def test_a_whole_answer_has_to_begin_and_to_end_in_time(kind: str, action: Any) -> None:
    with flooding(JSON, chunk(b" ")) as url:  # blanks before JSON are keep-alives, and carry nothing on
        assert isinstance(failure(kind, url, action, timeout=LIMIT), homing.DeadlineExceeded)
        late = failure(kind, url, action, timeout=homing.Timeout(first_token=LIMIT))
    assert isinstance(late, homing.FirstTokenTimeout)


@pytest.mark.parametrize("kind", FACES)
def test_a_server_that_floods_is_not_healthy(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    package = "_sync" if kind.startswith("sync") else "_async"
    monkeypatch.setattr(f"homing.{package}.client.HEALTH_TIMEOUT", LIMIT)
    with flooding(SSE, chunk(b": x\n")) as url:
        assert not ask(kind, url, lambda client: client.health())


@pytest.mark.parametrize("kind", FACES)
def test_interim_answers_without_end_are_no_answer(kind: str) -> None:
    with flooding(*INTERIM) as url:
        error = failure(kind, url, create, timeout=LIMIT, cold_start_timeout=60, max_retries=2)
    # Over our own transport their number has a bound too, which may come first.
    assert isinstance(error, homing.DeadlineExceeded | homing.APIResponseValidationError)


@pytest.mark.parametrize("kind", OWN)
def test_interim_answers_are_late_when_the_limit_has_passed(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"homing._http.{'_sync' if kind == 'sync' else '_async'}.connection.MAX_HEADS", 1 << 60)
    with flooding(*INTERIM) as url:
        error = failure(kind, url, create, timeout=homing.Timeout(first_token=LIMIT))
    assert isinstance(error, homing.FirstTokenTimeout)


@pytest.mark.parametrize("kind", FACES)
def test_an_error_that_does_not_end_is_told_as_far_as_it_is_read(kind: str) -> None:
    with flooding(JSON.replace(b"200 OK", b"400 Bad Request"), chunk(b" " * 4096)) as url:
        error = failure(kind, url, create)
    assert isinstance(error, homing.BadRequestError)


@pytest.mark.parametrize("kind", FACES)
def test_bytes_behind_the_end_of_a_stream_are_not_waited_for(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"homing.{'_sync' if kind.startswith('sync') else '_async'}.attempt.DRAIN", LIMIT)
    with flooding(SSE + chunk(HELLO + END), chunk(b": x\n")) as url:
        items = ask(kind, url, stream)
    assert items[0].choices[0].delta.content == "Hello"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("kind", FACES)
def test_a_slow_consumer_gets_what_had_arrived(kind: str) -> None:
    clock = Clock()
    size = 200

    def pause(item: object) -> None:
        clock.now += 1000.0  # longer than each of the limits

    pieces = b"".join(chunk(HELLO) for _ in range(size)) + chunk(END) + b"0\r\n\r\n"
    with flooding(SSE + pieces) as url:
        items = ask(kind, url, stream, timeout=homing.Timeout(total=500.0), each=pause, clock=clock)
    assert "".join(item.choices[0].delta.content or "" for item in items) == "Hello" * size


@pytest.mark.parametrize("kind", FACES)
def test_a_slow_consumer_of_a_flood_is_told_in_the_end(kind: str) -> None:
    clock = Clock()
    seen = []

    def pause(item: object) -> None:
        seen.append(item)
        clock.now += 1000.0

    with flooding(SSE, chunk(HELLO)) as url:
        error = failure(kind, url, stream, timeout=homing.Timeout(total=500.0), each=pause, clock=clock)
    assert isinstance(error, homing.DeadlineExceeded)
    # What may have arrived before the limit, and a read or two.
    assert len(seen) * len(HELLO) < 3 * LATE_BYTES


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("flood", ["comments of a byte a chunk", "chunk extensions", "interim answers"])
@pytest.mark.parametrize("own", ["", "-httpx", "-httpx2"])
def test_a_flood_leaves_the_event_loop_to_others(
    backend: str, flood: str, own: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("homing._http._async.connection.MAX_HEADS", 1 << 60)
    turns = 0

    async def act(client: homing.AsyncClient) -> None:
        nonlocal turns
        async with anyio.create_task_group() as group:

            async def read() -> None:
                async for _ in await client.chat.completions.create(**ASK, stream=True):
                    pass

            group.start_soon(read)
            for turns in range(20):  # noqa: B007 - that it goes on is what is to be shown
                await anyio.sleep(0)
            await anyio.sleep(0.05)
            group.cancel_scope.cancel()

    with flooding(*{**FLOODS, "interim answers": INTERIM}[flood]) as url:
        ask(backend + own, url, act, timeout=None)
    assert turns == 19


@pytest.mark.parametrize("kind", ["sync", "sync-httpx"])
def test_a_flood_is_cancelled_from_another_thread(kind: str) -> None:
    begun = threading.Event()

    def act(client: Any) -> Any:
        reply = client.chat.completions.stream(**ASK)

        def cancel() -> None:
            begun.wait()
            reply.cancel()

        thread = threading.Thread(target=cancel)
        thread.start()
        for _ in reply:
            begun.set()
        thread.join()
        return reply

    with flooding(SSE, chunk(HELLO)) as url:
        ask(kind, url, act, timeout=None)
