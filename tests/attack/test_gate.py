"""The gate, by every route of SGLang, every method and every key, and by whatever may look like another route.

The routes are those of real SGLang (tests/server/sglang_routes.json, from its wheels); who may use
them is written down in tests/server/gate_policy.txt. Real uvicorn, Starlette, CORS middleware and
Prometheus app; requests are bytes on a socket, so that nothing tidies them up.
"""

from __future__ import annotations

import base64
import http.client
import importlib.util
import json
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import prometheus_client
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

from homing_server.gate import Gate, Keys, Scope, routed
from tests.serving import serving

SERVER = Path(__file__).resolve().parents[1] / "server"
SGLANG: dict[str, list[str]] = json.loads((SERVER / "sglang_routes.json").read_text())
POLICY = {
    route: who
    for who, route in (
        line.split(maxsplit=1)
        for line in (SERVER / "gate_policy.txt").read_text().splitlines()
        if line and not line.startswith("#")
    )
}
PATHS = sorted({route.split()[1] for route in POLICY})
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"]
ODD_METHODS = ["CONNECT", "get", "options", "Post", "WEBSOCKET", "*", ""]

CALLER, ADMIN = "c" * 32, "a" * 32
KEYS = Keys(caller=CALLER, admin=ADMIN, internal="i" * 32)
BEARERS = {"none": [], "wrong": ["Bearer wrong"], "caller": [f"Bearer {CALLER}"], "operator": [f"Bearer {ADMIN}"]}
SECRET = "secret_business_number_total 42.0"
PREFLIGHT = "Origin: https://example.org\r\nAccess-Control-Request-Method: POST\r\n"


def filled(path: str) -> str:
    """A path that a route with parameters takes."""
    return path.replace("{model:path}", "Qwen/Qwen3-4B").replace("{", "").replace("}", "")


def policy(method: str, path: str) -> str:
    return POLICY.get(f"{method} {path}", "operator")


def expected(who: str, key: str, *, asks: bool = True) -> str:
    if key == "operator":
        return "allow"
    if who == "operator":
        return "forbidden"
    return "allow" if key == "caller" or not asks else "unauthorized"


def metrics() -> Mount:
    """As SGLang's add_prometheus_middleware does it."""
    registry = prometheus_client.CollectorRegistry()
    prometheus_client.Counter("secret_business_number", "a figure", registry=registry).inc(42)
    mount = Mount("/metrics", prometheus_client.make_asgi_app(registry=registry))
    mount.path_regex = re.compile("^/metrics(?P<path>.*)$")
    return mount


class Engine:
    """An app with all routes of both versions of SGLang. `reached` lists what got through the gate."""

    def __init__(self) -> None:
        self.reached: list[str] = []
        routes: list[BaseRoute] = [metrics()]
        for route in POLICY:
            method, path = route.split()
            if method == "WEBSOCKET":
                routes.append(WebSocketRoute(path, self.websocket))
            elif method != "*":
                routes.append(Route(path, self.http, methods=[method]))
        cors = Middleware(
            CORSMiddleware, allow_origins=["*"], allow_credentials=True, allow_methods=["*"], allow_headers=["*"]
        )
        self._app = Starlette(routes=routes, middleware=[cors])

    async def http(self, request: Request) -> Response:
        return Response("served")

    async def websocket(self, websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text("served")
        await websocket.close()

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            self.reached.append(f"{scope.get('method', 'WEBSOCKET')} {scope['path']}")
        await self._app(scope, receive, send)


class Door:
    """The gate on a port."""

    def __init__(self, url: str, engine: Engine) -> None:
        self.engine = engine
        self.port = int(url.rpartition(":")[2])

    def send(self, request: str) -> tuple[int, str]:
        """Send these bytes, read to the end; return the status and everything that came."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as sock:
            sock.sendall(request.encode("latin-1"))
            answer = b"".join(iter(lambda: sock.recv(65536), b""))
        text = answer.decode("latin-1")
        return int(text.split(" ", 2)[1]), text

    def ask(self, line: str, headers: str = "", *, version: str = "1.1") -> tuple[int, str]:
        """Send `METHOD target` and these header lines."""
        return self.send(f"{line} HTTP/{version}\r\nHost: replica\r\nConnection: close\r\n{headers}\r\n")


@contextmanager
def opened(**options: Any) -> Iterator[Door]:
    """Serve all routes behind the gate, with options of `uvicorn.Config`."""
    engine = Engine()
    init = uvicorn.Config.__init__
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uvicorn.Config, "__init__", lambda self, app, **more: init(self, app, **{**more, **options}))
        with serving(Gate(engine, keys=KEYS, replica="r-1")) as url:
            yield Door(url, engine)


PARSERS = [name for name in ("h11", "httptools") if importlib.util.find_spec(name)]


@pytest.fixture(scope="module", params=PARSERS)
def door(request: pytest.FixtureRequest) -> Iterator[Door]:
    """By either of uvicorn's parsers. They take targets and methods apart each in a way of its own."""
    with opened(http=request.param) as door:
        yield door


def bearer(*keys: str) -> str:
    return "".join(f"Authorization: Bearer {key}\r\n" for key in keys)


@pytest.mark.parametrize("version", SGLANG)
def test_somebody_has_decided_on_every_route(version: str) -> None:
    """A new route fails here until tests/server/gate_policy.txt says who may use it."""
    assert set(SGLANG[version]) <= set(POLICY)


def test_the_policy_lists_nothing_else_and_knows_two_kinds_of_people() -> None:
    assert set(POLICY) == {route for routes in SGLANG.values() for route in routes}
    assert set(POLICY.values()) == {"caller", "operator"}


def test_administration_is_never_a_callers() -> None:
    """Of the policy itself, in case a hand slips."""
    words = re.compile("weight|lora|profile|memory|cache|session|metrics|log|dump|scale|abort|cancel|load|info$|pause")
    open_ = [route for route, who in POLICY.items() if who == "caller" and words.search(route)]
    assert open_ == ["GET /get_model_info", "GET /model_info"]


@pytest.mark.parametrize("asks", [True, False])
@pytest.mark.parametrize("key", BEARERS)
def test_every_route_is_decided_as_the_policy_says(key: str, asks: bool) -> None:
    keys = Keys(caller=CALLER if asks else None, admin=ADMIN)
    tokens = [value.encode() for value in BEARERS[key]]
    for path in PATHS:
        for method in [*METHODS, *ODD_METHODS]:
            verdict = keys.decide(method, filled(path), tokens)
            assert verdict == expected(policy(method, path), key, asks=asks), (method, path)


@pytest.mark.parametrize("key", BEARERS)
def test_every_route_over_a_socket(door: Door, key: str) -> None:
    """The same through uvicorn: what is refused never reaches the app, and what is allowed is served by it."""
    statuses = {"allow": 200, "unauthorized": 401, "forbidden": 403}
    connection = http.client.HTTPConnection("127.0.0.1", door.port, timeout=20)
    try:
        for path in PATHS:
            for method in METHODS:
                door.engine.reached.clear()
                connection.putrequest(method, filled(path))
                for value in BEARERS[key]:
                    connection.putheader("Authorization", value)
                connection.endheaders()
                reply = connection.getresponse()
                body = reply.read()
                if method == "HEAD" and reply.status == 200:
                    assert not body
                verdict = expected(policy(method, path), key)
                case = (method, path, key, reply.status)
                assert bool(door.engine.reached) == (verdict == "allow"), case
                if f"{method} {path}" in POLICY or verdict != "allow":
                    assert reply.status == statuses[verdict], case
                assert reply.headers["X-Homing-Replica"] == "r-1", case
    finally:
        connection.close()


@pytest.mark.parametrize("method", [*METHODS, *ODD_METHODS, "\tGET"])
@pytest.mark.parametrize("path", ["/metrics", "/metrics/", "/metrics/x", "/metricsx"])
@pytest.mark.parametrize("headers", ["", bearer("wrong"), bearer(CALLER)])
def test_the_mounted_metrics_are_shown_to_no_caller(door: Door, method: str, path: str, headers: str) -> None:
    """The app behind /metrics looks at no method."""
    for extra in ("", PREFLIGHT):
        assert SECRET not in door.ask(f"{method} {path}", headers + extra)[1]


def test_the_operator_sees_the_metrics(door: Door) -> None:
    status, text = door.ask("GET /metrics", bearer(ADMIN))
    assert (status, SECRET in text) == (200, True)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/metrics", "/flush_cache", "/nothing", "/_homing/replica"])
@pytest.mark.parametrize("key", [[], [ADMIN]])
def test_the_gate_answers_a_preflight_itself_and_alike_for_all_paths(door: Door, path: str, key: list[str]) -> None:
    door.engine.reached.clear()
    status, text = door.ask(f"OPTIONS {path}", PREFLIGHT + bearer(*key))
    assert (status, door.engine.reached) == (204, [])
    head = text.lower()
    assert "access-control-allow-origin: *\r\n" in head
    assert "authorization" in head.partition("access-control-allow-headers:")[2].partition("\r\n")[0]
    assert "post" in head.partition("access-control-allow-methods:")[2].partition("\r\n")[0]
    assert "allow-credentials" not in head
    assert head.endswith("\r\n\r\n")


@pytest.mark.parametrize(
    "headers",
    [
        "",
        "Origin: https://example.org\r\n",
        "Access-Control-Request-Method: POST\r\n",
        "Origin: https://example.org\r\nAccess-Control-Request-Method: \r\n",
        "X-Origin: a\r\nX-Access-Control-Request-Method: POST\r\n",
    ],
)
def test_what_only_looks_like_a_preflight_needs_the_operators_key(door: Door, headers: str) -> None:
    for path in ("/metrics", "/v1/models"):
        for key in ("", bearer(CALLER)):
            door.engine.reached.clear()
            status, text = door.ask(f"OPTIONS {path}", headers + key)
            assert (status, door.engine.reached) == (403, [])
            assert SECRET not in text
        assert door.ask(f"OPTIONS {path}", headers + bearer(ADMIN))[0] in (200, 400, 405)  # the app's own answer


@pytest.mark.parametrize("method", ["GET", "options", "POST", "HEAD"])
def test_another_method_with_a_preflights_headers_is_no_preflight(door: Door, method: str) -> None:
    door.engine.reached.clear()
    assert door.ask(f"{method} /metrics", PREFLIGHT)[0] in (400, 403)  # httptools knows no method `options`
    assert not door.engine.reached


# What some software on the way might take for an operator's route, or has been taken for an open one.
DISGUISES = [
    "//flush_cache", "/flush_cache/", "/flush_cache//", "/./flush_cache", "/v1/../flush_cache", "/FLUSH_CACHE",
    "/Flush_Cache", "/%66lush_cache", "/%2566lush_cache", "/%2fflush_cache", "/%2Fflush_cache",
    "/v1/%2e%2e/flush_cache",    "/v1/..%2fflush_cache", "/v1%2f..%2fflush_cache", "/v1/models/../../flush_cache",
    "/v1/models/..%2f..%2fflush_cache", "/v1/models/%2e%2e/%2e%2e/flush_cache", "/v1/models//flush_cache",
    "/v1/models/./x", "/v1/models/x/..",
    "/v1/models/", "/v1/models/x/", "/v1/models/x%0a", "/v1/models/x%00", "/v1/models/..%5c..%5cflush_cache",
    "/flush_cache;x", "/v1/models;/../../flush_cache", "/flush_cache%00", "/flush_cache%20", "/%09flush_cache",
    "/flush_cache?x=/v1/models", "/?/v1/models#/flush_cache", "/v1/loads", "/v1/loads/", "/v1//loads", "/v1/loads?x",
    "/v1/responses/resp_1", "/v1/responses/resp_1/", "/v1/responses//resp_1", "/v1/responses/../responses/resp_1",
    "/v1%2fresponses%2fresp_1", "/v1/responses/resp_1/cancel", "/api/../flush_cache", "/api/flush_cache",
    "/v1/flush_cache", "/health/../metrics", "/metrics%2f", "/%6detrics", "//metrics", "/v1", "/v1/", "/api/",
    "http://replica/flush_cache", "http://replica/metrics", "https://x/v1/loads", "http://replica//metrics",
    "*", "replica:80",
]  # fmt: skip


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("target", DISGUISES)
def test_no_disguise_opens_an_operators_route(door: Door, target: str, version: str) -> None:
    """Refused by the gate, or by the server before it; "/?…" is the root, which is a caller's."""
    for method in ("GET", "POST", "OPTIONS", "HEAD"):
        door.engine.reached.clear()
        status, text = door.ask(f"{method} {target}", bearer(CALLER), version=version)
        if target.startswith("/?") and method in ("GET", "HEAD"):
            assert status == 200
            continue
        assert status in (400, 403), (method, target, status)
        assert not door.engine.reached
        assert SECRET not in text


def test_an_encoded_slash_in_a_models_name_is_that_models_route(door: Door) -> None:
    """The OpenAI client writes it so; the server decodes it once, before the gate and the app look."""
    assert door.ask("GET /v1/models/Qwen%2FQwen3-4B", bearer(CALLER))[0] == 200
    assert door.ask("GET /v1/models/Qwen%252FQwen3-4B", bearer(CALLER))[0] == 200  # another name; no other route
    assert door.ask("GET /v1/models/Qwen%2FQwen3-4B")[0] == 401


def test_old_http_is_asked_for_its_key_too(door: Door) -> None:
    assert door.send("GET /v1/models HTTP/1.0\r\n\r\n")[0] == 401
    assert door.send(f"GET /v1/models HTTP/1.0\r\n{bearer(CALLER)}\r\n")[0] == 200
    assert door.send(f"GET /metrics HTTP/1.0\r\n{bearer(CALLER)}\r\n")[0] == 403


@pytest.mark.parametrize(
    "headers",
    [
        bearer(CALLER, CALLER),
        bearer(CALLER, "wrong"),
        bearer("wrong", CALLER),
        bearer(ADMIN, CALLER),
        bearer("wrong", ADMIN),
        bearer(f"{CALLER}, Bearer {ADMIN}"),
        bearer(f"{CALLER} {ADMIN}"),
        bearer(""),
        "Authorization: Bearer\r\n",
        "Authorization:\r\n",
        "Authorization: \r\n" + bearer(CALLER),
        f"Authorization: Bearer  {CALLER}\r\n",
        f"Authorization: Bearer\t{CALLER}\r\n",
        f"Authorization: Basic {CALLER}\r\n",
        f"Authorization: {CALLER}\r\n",
        f"X-Api-Key: {CALLER}\r\n",
        f"Proxy-Authorization: Bearer {CALLER}\r\n",
        f"Authorization: Bearer {CALLER[:-1]}\r\n",
        f"Authorization: Bearer {CALLER}c\r\n",
        f"Authorization: Bearer {CALLER.upper()}\r\n",
        "Authorization: Bearer \xff\xe9\r\n",
    ],
)
def test_doubtful_credentials_are_none(door: Door, headers: str) -> None:
    door.engine.reached.clear()
    assert door.ask("GET /v1/models", headers)[0] == 401
    assert door.ask("GET /metrics", headers)[0] == 403
    assert not door.engine.reached


@pytest.mark.parametrize("root", ["/api", "/v1", "/v1/responses", "/metrics", "/", "/api/"])
def test_a_root_path_is_not_part_of_the_route(root: str) -> None:
    """`--fastapi-root-path`: uvicorn puts it in front of the path, Starlette takes it off again."""
    with opened(root_path=root) as door:
        for line in ("POST /flush_cache", "GET /metrics", "GET /v1/loads", "POST /v1/responses/r/cancel"):
            assert door.ask(line, bearer(CALLER))[0] == 403, line
            assert door.ask(line.replace(" /", f" {root}/", 1), bearer(CALLER))[0] == 403, line
        assert not door.engine.reached
        assert door.ask("GET /v1/models", bearer(CALLER))[0] == 200
        assert door.ask("POST /flush_cache", bearer(ADMIN))[0] == 200


@pytest.mark.parametrize(("path", "root"), [("/flush_cache", "/api"), ("/apiflush_cache", "/api"), ("/health", "/api")])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_path_outside_the_root_path_is_nobodys(path: str, root: str, method: str) -> None:
    """No telling which of the two an app would route."""
    scope: Scope = {"type": "http", "path": path, "root_path": root}
    assert Keys().decide(method, routed(scope)) == "forbidden"


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_kind_of_connection_without_a_rule_is_refused() -> None:
    reached: list[Scope] = []

    async def app(scope: Scope, receive: Any, send: Any) -> None:
        reached.append(scope)

    async def nothing(*args: Any) -> Any: ...

    with pytest.raises(ValueError, match="webtransport"):
        await Gate(app, keys=Keys(), replica="r")({"type": "webtransport", "path": "/health"}, nothing, nothing)
    assert not reached


HANDSHAKE = (
    "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\n"
)


def shake(door: Door, path: str, headers: str) -> str:
    """A websocket's handshake as bytes; return the answer, and the first message if there is one."""
    with socket.create_connection(("127.0.0.1", door.port), timeout=20) as sock:
        lines = f"GET {path} HTTP/1.1\r\nHost: replica\r\nConnection: Upgrade\r\n{HANDSHAKE}{headers}\r\n"
        sock.sendall(lines.encode("latin-1"))
        answer = b""
        while b"\r\n\r\n" not in answer or (b" 101 " in answer and b"served" not in answer):
            received = sock.recv(65536)
            assert received, answer
            answer += received
    return answer.decode("latin-1")


@pytest.fixture(scope="module")
def websockets() -> Iterator[Door]:
    with opened(ws="websockets-sansio") as door:
        yield door


@pytest.mark.parametrize("headers", ["", bearer("wrong"), bearer(CALLER, CALLER)])
def test_no_websocket_opens_without_its_key(websockets: Door, headers: str) -> None:
    assert shake(websockets, "/v1/realtime", headers).startswith("HTTP/1.1 403")
    assert not websockets.engine.reached


OTHERS = ["/v1/realtime/", "//v1/realtime", "/v1/loads", "/metrics", "/v1/models", "/V1/realtime"]


@pytest.mark.parametrize("path", OTHERS)
def test_no_other_websocket_opens_to_a_caller(websockets: Door, path: str) -> None:
    assert shake(websockets, path, bearer(CALLER)).startswith("HTTP/1.1 403")
    assert not websockets.engine.reached


def test_a_callers_websocket_opens(websockets: Door) -> None:
    answer = shake(websockets, "/v1/realtime", bearer(CALLER))
    assert answer.startswith("HTTP/1.1 101")
    assert "served" in answer
    websockets.engine.reached.clear()


@pytest.mark.parametrize("path", ["/v1/realtime", "/v1/loads", "/metrics"])
def test_a_handshake_that_the_server_takes_for_a_plain_request_opens_nothing(door: Door, path: str) -> None:
    """uvicorn without a websocket library, which is how these doors are."""
    door.engine.reached.clear()
    assert shake(door, path, bearer(CALLER)).startswith("HTTP/1.1 403")
    assert not door.engine.reached
