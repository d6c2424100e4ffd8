from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.websockets import WebSocket

from homing_server.gate import RENAME_PATH, Gate, Keys, Message, Receive, Scope, Send, replica_id
from homing_server.launcher import guard

KEYS = Keys(caller="caller-key", admin="admin-key", internal="internal-key")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def decide(keys: Keys, route: str, *authorization: str) -> str:
    """What the gate says to `METHOD /path`. Every route: tests/attack/test_gate.py."""
    method, path = route.split(" ")
    return keys.decide(method, path, [value.encode() for value in authorization])


@pytest.mark.parametrize(
    ("route", "key", "verdict"),
    [
        ("POST /v1/chat/completions", "caller-key", "allow"),
        ("POST /v1/chat/completions", "admin-key", "allow"),
        ("POST /v1/chat/completions", "wrong", "unauthorized"),
        ("GET /health", "caller-key", "allow"),
        ("POST /flush_cache", "caller-key", "forbidden"),
        ("POST /flush_cache", "admin-key", "allow"),
        ("GET /metrics", "wrong", "forbidden"),
        ("POST /release_memory_occupation", "internal-key", "allow"),
        ("POST /a_route_of_next_year", "caller-key", "forbidden"),
        ("POST /v1/a_route_of_next_year", "caller-key", "forbidden"),
        (f"POST {RENAME_PATH}", "caller-key", "forbidden"),
        (f"POST {RENAME_PATH}", "internal-key", "allow"),
    ],
)
def test_who_may_go_where(route: str, key: str, verdict: str) -> None:
    assert decide(KEYS, route, f"Bearer {key}") == verdict


@pytest.mark.parametrize("header", ["caller-key", "Basic caller-key", "Bearer", "Bearer ", "Bearer caller-key "])
def test_only_a_bearer_token_counts(header: str) -> None:
    assert decide(KEYS, "GET /v1/models", header) == "unauthorized"


def test_without_a_caller_key_inference_is_open_and_the_rest_is_shut() -> None:
    keys = Keys()
    assert decide(keys, "GET /v1/models") == "allow"
    assert decide(keys, "POST /flush_cache") == "forbidden"
    assert decide(keys, "POST /flush_cache", "Bearer ") == "forbidden"
    assert decide(keys, "GET /metrics", "Bearer x") == "forbidden"


def test_a_key_that_is_there_but_empty_opens_nothing() -> None:
    keys = Keys.take({"HOMING_API_KEY": "", "HOMING_ADMIN_KEY": "", "HOMING_INTERNAL_KEY": ""})
    for headers in ([], [""], ["Bearer"], ["Bearer "], ["Bearer  "], ["Bearer x"]):
        assert decide(keys, "GET /v1/models", *headers) == "unauthorized"
        assert decide(keys, "GET /metrics", *headers) == "forbidden"


def test_keys_are_taken_out_of_the_environment_and_shown_nowhere() -> None:
    environ = {"HOMING_API_KEY": "one", "HOMING_ADMIN_KEY": "", "HOMING_INTERNAL_KEY": "three", "PATH": "/bin"}
    keys = Keys.take(environ)
    assert (keys.caller, keys.admin, keys.internal) == ("one", None, "three")
    assert environ == {"PATH": "/bin"}
    assert "one" not in repr(keys)


def test_the_replica_is_modals_task_or_else_this_process() -> None:
    assert replica_id({"MODAL_TASK_ID": "ta-1"}) == "ta-1"
    assert replica_id({}).rpartition("-")[2].isdigit()


async def whole(request: Request) -> Response:
    return Response("x", headers={"X-Homing-Replica": "forged"})


async def pieces() -> AsyncIterator[str]:
    for number in range(3):
        yield f"data: {number}\n\n"


async def stream(request: Request) -> Response:
    return StreamingResponse(pieces(), media_type="text/event-stream")


async def broken(request: Request) -> Response:
    raise ValueError("bug")


APP = Starlette(routes=[Route("/ping", whole), Route("/docs", stream), Route("/health", broken)])


def client(gate: Gate) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=gate, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://replica")


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/ping", "/docs", "/health", "/v1/models", "/v1/nothing"])
async def test_every_reply_carries_the_replica_once(path: str) -> None:
    async with client(Gate(APP, keys=Keys(), replica="r-1")) as http:
        reply = await http.get(path)
    assert reply.headers.get_list("x-homing-replica") == ["r-1"]


@pytest.mark.anyio
@pytest.mark.parametrize(("path", "status"), [("/ping", 401), ("/flush_cache", 403)])
async def test_refusals_say_what_to_send_and_carry_the_replica(path: str, status: int) -> None:
    async with client(Gate(APP, keys=KEYS, replica="r-1")) as http:
        reply = await http.get(path)
    assert (reply.status_code, reply.headers["x-homing-replica"]) == (status, "r-1")
    error = reply.json()["error"]
    assert error["code"] == status
    assert "Authorization: Bearer" in error["message"]


@pytest.mark.anyio
async def test_a_restored_replica_takes_a_new_name_from_its_supervisor_only() -> None:
    async with client(Gate(APP, keys=KEYS, replica="r-1")) as http:
        refused = await http.post(RENAME_PATH, content=b"evil", headers={"Authorization": "Bearer caller-key"})
        assert (refused.status_code, refused.headers["x-homing-replica"]) == (403, "r-1")
        renamed = await http.post(RENAME_PATH, content=b"r-2", headers={"Authorization": "Bearer internal-key"})
        assert (renamed.json(), renamed.headers["x-homing-replica"]) == ({"replica": "r-2"}, "r-2")


@pytest.mark.anyio
async def test_nothing_is_held_back_or_added_to_a_stream() -> None:
    """Each message of the app leaves before the app makes the next one."""
    order: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for number in range(3):
            order.append(f"made {number}")
            await send({"type": "http.response.body", "body": b"%d" % number, "more_body": number < 2})

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            order.append(f"sent {message['body'].decode()}")

    scope: Scope = {"type": "http", "method": "GET", "path": "/ping", "headers": []}
    await Gate(app, keys=Keys(), replica="r")(scope, receive_nothing, send)
    assert order == ["made 0", "sent 0", "made 1", "sent 1", "made 2", "sent 2"]


async def receive_nothing() -> Message:
    raise AssertionError("nobody should ask")


@pytest.mark.anyio
async def test_lifespan_passes_untouched() -> None:
    seen: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend([scope, receive, send])

    async def send(message: Message) -> None: ...

    scope: Scope = {"type": "lifespan"}
    await Gate(app, keys=KEYS, replica="r")(scope, receive_nothing, send)
    assert seen == [scope, receive_nothing, send]


@pytest.mark.anyio
@pytest.mark.parametrize(("key", "first"), [(b"Bearer caller-key", "websocket.accept"), (b"", "websocket.close")])
async def test_a_websocket_is_checked_before_it_is_accepted(key: bytes, first: str) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await WebSocket(scope, receive, send).accept()

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"authorization", key)] if key else []
    scope: Scope = {"type": "websocket", "path": "/v1/realtime", "headers": headers}
    await Gate(app, keys=KEYS, replica="r")(scope, receive, send)
    assert [message["type"] for message in sent] == [first]


def test_uvicorn_gets_the_gate_and_the_longer_keep_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    """SGLang 0.5.9 passes 5 s (srt/entrypoints/http_server.py), shorter than any edge's."""
    init = guard(uvicorn.Config.__init__, keys=Keys(), replica="r", keep_alive=300)
    monkeypatch.setattr(uvicorn.Config, "__init__", init)
    config = uvicorn.Config(APP, timeout_keep_alive=5)
    assert isinstance(config.app, Gate)
    assert config.timeout_keep_alive == 300
    with pytest.raises(RuntimeError, match="--tokenizer-worker-num"):
        uvicorn.Config("sglang.srt.entrypoints.http_server:app")
