"""The outermost layer of a replica: names it on every reply and keeps strangers out.

A plain ASGI wrapper (https://asgi.readthedocs.io/en/latest/specs/main.html) around
whatever app the engine serves. It buffers nothing and adds one header, so a stream
passes through event by event.

Why the keys are checked here and not by SGLang's own ``--api-key``: SGLang prints its
arguments into the log, returns ``api_key`` *and* ``admin_api_key`` in clear from
``/server_info`` to every caller with a key, leaves ``/metrics`` open whatever the keys,
does not check websockets, and takes the keys on the command line, where the process
table shows them (sglang 0.5.9 and 0.5.23: ``srt/utils/auth.py``,
``srt/entrypoints/http_server.py``, ``srt/entrypoints/engine.py``). An engine that never
learns the keys cannot leak them.
"""

from __future__ import annotations

import hmac
import json
import os
import re
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Verdict = Literal["allow", "unauthorized", "forbidden"]

REPLICA_HEADER = "X-Homing-Replica"
RENAME_PATH = "/_homing/replica"

API_KEY = "HOMING_API_KEY"
ADMIN_KEY = "HOMING_ADMIN_KEY"
INTERNAL_KEY = "HOMING_INTERNAL_KEY"
REPLICA_ID = "HOMING_REPLICA_ID"

# What a caller may use, request by request. Everything else is the operator's: flushing the
# cache, loading weights, pausing, profiling, metrics, server info, load, reading or cancelling
# responses by their id. A list of what is open, without prefixes, so that a route added by a
# later SGLang starts out closed, and so does another method of a route that is open.
# Kept in step with tests/server/gate_policy.txt, which lists every route of SGLang.
_CALLER_ROUTES: Mapping[str, frozenset[str]] = {
    "GET": frozenset(
        {
            "/", "/health", "/health_generate", "/ready", "/ping", "/model_info", "/get_model_info",
            "/v1/models", "/api/tags", "/docs", "/openapi.json",
        }
    ),
    "HEAD": frozenset({"/"}),
    "POST": frozenset(
        {
            "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/v1/messages/count_tokens",
            "/v1/embeddings", "/v1/rerank", "/v1/score", "/v1/classify", "/v1/decisions", "/v1/systemone",
            "/v1/tokenize", "/v1/detokenize", "/v1/audio/transcriptions",
            "/generate", "/encode", "/classify", "/parse_function_call", "/separate_reasoning",
            "/api/chat", "/api/generate", "/api/show",
        }
    ),
    "PUT": frozenset({"/generate", "/encode", "/classify", "/v1/rerank"}),
    "WEBSOCKET": frozenset({"/v1/realtime"}),
}  # fmt: skip
# GET of one model, whose name may have slashes. Not of what a proxy or an app might still resolve
# into another path: empty segments, `.` and `..`, backslashes, control characters.
_MODEL = re.compile(r"/v1/models(/(?!\.{1,2}(/|\Z))[^/\\\x00-\x1f\x7f]+)+")

# The answer to a browser's preflight (Fetch standard, CORS protocol), which carries no credentials
# by design. The same for every path and origin, so that no app behind the gate is asked and
# nothing can be learned from it. Keys travel in headers, which "*" covers all but Authorization.
_PREFLIGHT = (
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-methods", b"DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"),
    (b"access-control-allow-headers", b"*, Authorization, Content-Type"),
    (b"access-control-max-age", b"600"),  # seconds; what Starlette says, behind which it was answered before
)


def replica_id(environ: Mapping[str, str]) -> str:
    """Return the name of this replica: Modal's task id, elsewhere ``hostname-pid``.

    Modal sets ``MODAL_TASK_ID`` in each container (``modal/experimental/flash.py``).
    """
    return environ.get("MODAL_TASK_ID") or f"{socket.gethostname()}-{os.getpid()}"


@dataclass(frozen=True)
class Keys:
    """The credentials of one replica. ``repr`` shows none of them.

    ``caller`` opens the inference routes (None: they are open, somebody else guards the
    door; empty: they are shut, since no request can carry it); ``admin`` opens everything
    (None: the operator's routes are shut for all); ``internal`` is made afresh for each
    replica and known only to its own supervisor.
    """

    caller: str | None = field(default=None, repr=False)
    admin: str | None = field(default=None, repr=False)
    internal: str | None = field(default=None, repr=False)

    @classmethod
    def take(cls, environ: MutableMapping[str, str]) -> Keys:
        """Read the keys and remove them, so that no child process inherits them."""
        return cls(
            caller=environ.pop(API_KEY, None),  # set but empty is a mistake, and must not open the door
            admin=environ.pop(ADMIN_KEY, None) or None,
            internal=environ.pop(INTERNAL_KEY, None) or None,
        )

    def decide(self, method: str, path: str, authorization: Sequence[bytes] = ()) -> Verdict:
        """Say whether a request may pass. Pure; compares in constant time.

        Args:
            method: As sent, or ``WEBSOCKET``. Methods are case-sensitive (RFC 9110, 9.1).
            path: The path that the app will route, see :func:`routed`.
            authorization: Every ``Authorization`` header of the request. More than one is as
                good as none: whatever reads it next might take another one.
        """
        token = _bearer(authorization[0]) if len(authorization) == 1 else None
        if _same(token, self.internal) or _same(token, self.admin):
            return "allow"
        if path in _CALLER_ROUTES.get(method, ()) or (method == "GET" and _MODEL.fullmatch(path)):
            return "allow" if self.caller is None or _same(token, self.caller) else "unauthorized"
        return "forbidden"


def routed(scope: Scope) -> str:
    """Return the path that the app behind routes.

    ASGI servers put their root path (uvicorn's ``root_path``, SGLang's ``--fastapi-root-path``)
    in front of ``path``, and Starlette takes it off again before it routes. Percent-encoding is
    undone by the server, once, before either looks.
    """
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    if path.startswith(root) and (path == root or path[len(root)] == "/"):
        return path[len(root) :]
    return path if not root else ""  # an app would route this one or that one: no route


def _bearer(authorization: bytes) -> bytes | None:
    scheme, _, token = authorization.partition(b" ")
    return token if scheme.lower() == b"bearer" and token else None


def _same(token: bytes | None, key: str | None) -> bool:
    return token is not None and key is not None and hmac.compare_digest(token, key.encode())


_REFUSALS: dict[str, tuple[int, str, str]] = {
    "unauthorized": (
        401,
        "authentication_error",
        "this server wants its engine key: send 'Authorization: Bearer <HOMING_API_KEY>'",
    ),
    "forbidden": (
        403,
        "permission_error",
        "this method of this path is the operator's: send 'Authorization: Bearer <HOMING_ADMIN_KEY>'",
    ),
}


class Gate:
    """ASGI wrapper that puts ``X-Homing-Replica`` on each reply and asks for the keys.

    Lifespan messages pass untouched; websockets are checked before they are accepted. The app
    sees no request that the keys do not allow, preflights included.
    """

    def __init__(self, app: App, *, keys: Keys, replica: str) -> None:
        self._app = app
        self._keys = keys
        self.replica = replica

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        kind = scope["type"]
        if kind == "lifespan":
            await self._app(scope, receive, send)
            return
        if kind not in ("http", "websocket"):
            raise ValueError(f"no rule for ASGI connections of type {kind!r}")

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                name = REPLICA_HEADER.lower().encode()
                kept = [pair for pair in message.get("headers", ()) if pair[0].lower() != name]
                message = {**message, "headers": [*kept, (name, self.replica.encode("latin-1"))]}
            await send(message)

        method = scope["method"] if kind == "http" else "WEBSOCKET"
        if method == "OPTIONS" and _is_preflight(scope):
            await _answer(named, 204, headers=_PREFLIGHT)
            return
        path = routed(scope)
        authorization = [value for name, value in scope["headers"] if name == b"authorization"]
        verdict = self._keys.decide(method, path, authorization)
        if verdict != "allow":
            await _refuse(scope, named, *_REFUSALS[verdict])
        elif path == RENAME_PATH:
            await self._rename(receive, named)
        else:
            await self._app(scope, receive, named)

    async def _rename(self, receive: Receive, send: Send) -> None:
        """Take a new name: a replica restored from a memory snapshot still has its parent's."""
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        self.replica = body.decode("latin-1").strip() or self.replica
        await _answer(send, 200, {"replica": self.replica})


def _is_preflight(scope: Scope) -> bool:
    """Whether a request has both headers that make one of it (Fetch standard, CORS-preflight request)."""
    names = [name for name, value in scope["headers"] if value]
    return b"origin" in names and b"access-control-request-method" in names


async def _refuse(scope: Scope, send: Send, status: int, kind: str, message: str) -> None:
    if scope["type"] == "websocket":
        # Closing before accepting makes the server answer the handshake with 403 (ASGI, websocket.close).
        await send({"type": "websocket.close", "code": 1008, "reason": kind})
    else:
        await _answer(send, status, {"error": {"message": message, "type": kind, "code": status}})


async def _answer(send: Send, status: int, body: object = None, *, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
    payload = b"" if body is None else json.dumps(body).encode()
    about = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(payload))] if payload else []
    await send({"type": "http.response.start", "status": status, "headers": [*about, *headers]})
    await send({"type": "http.response.body", "body": payload})
