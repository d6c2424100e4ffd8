"""uvicorn as the edge's HTTP server, with what a misbehaving edge needs beside ASGI.

ASGI cannot break a connection. The protocol class here hands its transport to the
application, and the server stops at once instead of polling for its connections to end.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import struct
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

try:
    import uvicorn
    from uvicorn.protocols.http.h11_impl import H11Protocol
except ImportError as error:  # pragma: no cover - tested in a bare environment
    from homing.errors import ConfigurationError

    raise ConfigurationError("the local edge needs uvicorn: pip install 'homing[local]'") from error

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

# uvicorn refreshes the Date header when its main loop ticks; HTTP dates have whole seconds.
_DATE_TICK = 1.0
# A burst of clients waits in the kernel rather than being refused (Linux caps it at somaxconn).
_BACKLOG = 4_096
# Connections taken in one tick of the loop: few, so that room can be made before files run out. asyncio does not
# stop at the first that it cannot open (it reports each, and tries each again).
_AT_ONCE = 16
# Open files left for the rest: logs, processes, connections to backends, those taken in one tick.
_SPARE = 256
# Seconds in which nothing more of a request's body comes until its connection counts as idle: a client that sends one
# pauses for a lost packet, not for longer.
_BODY_PAUSE = 5.0
# Waiting for tasks that have been cancelled; one that ignores it is a bug and must not hang a test.
_LAST_TASKS = 2.0


class _Crowd:
    """The open connections, oldest first. When there are too many, the first without a request goes.

    However many clients connect and say nothing: the next one that asks is served.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: dict[_Protocol, None] = {}

    def came(self, protocol: _Protocol) -> None:
        self._open[protocol] = None
        if len(self._open) > self._most:
            first = next((one for one in self._open if one.idle), protocol)
            self.left(first)
            first.transport.close()

    def left(self, protocol: _Protocol) -> None:
        self._open.pop(protocol, None)


class _Protocol(H11Protocol):
    def __init__(self, crowd: _Crowd, **given: Any) -> None:
        super().__init__(**given)
        self._crowd = crowd
        self._heard = self.loop.time()

    @property
    def idle(self) -> bool:
        """Whether no request is being answered, nor the rest of one coming."""
        if self.cycle is None or self.cycle.response_complete:
            return True
        return self.cycle.more_body and self.loop.time() - self._heard >= _BODY_PAUSE

    def data_received(self, data: bytes) -> None:
        self._heard = self.loop.time()
        super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._crowd.left(self)
        super().connection_lost(exc)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._crowd.came(self)
        # uvicorn copies this mapping into each request's scope["state"].
        self.app_state = {**self.app_state, "connection": Connection(transport)}


class Connection:
    """The client's connection, for those who want to break it."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def close(self) -> None:
        """Send what is buffered, then close: a body without its end is truncated."""
        self._transport.close()

    def reset(self) -> None:
        """Close with a TCP reset (a linger time of zero makes close() send RST)."""
        sock = self._transport.get_extra_info("socket")
        with contextlib.suppress(OSError):  # gone already
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def abort(self) -> None:
        """Close at once, buffered data or not."""
        self._transport.abort()


class Listener(uvicorn.Server):
    """Serves ``application`` on a socket that is already bound, until ``stop``.

    ``on_exit`` runs before the last connections are cut.
    """

    def __init__(self, application: Application, *, on_exit: Callable[[], Awaitable[None]]) -> None:
        super().__init__(
            uvicorn.Config(
                application,
                http=functools.partial(_Protocol, _Crowd(most_connections())),  # type: ignore[arg-type]
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                backlog=_AT_ONCE,
            )
        )
        self._on_exit = on_exit
        self._stopping = asyncio.Event()
        self.up = asyncio.Event()

    def stop(self) -> None:
        """Begin to end. On the loop's thread."""
        self._stopping.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen."""
        await super().startup(sockets)
        for sock in sockets or ():
            sock.listen(_BACKLOG)  # asyncio has one number for this and for how many it takes at once

    async def main_loop(self) -> None:
        """Serve until told to stop."""
        self.up.set()
        while not self._stopping.is_set():
            await self.on_tick(0)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), _DATE_TICK)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, let the edge end its requests, cut what is left."""
        for server in self.servers:
            server.close()
        await self._on_exit()
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        if self.server_state.tasks:
            await asyncio.wait(list(self.server_state.tasks), timeout=_LAST_TASKS)
        for server in self.servers:
            await server.wait_closed()


def most_connections() -> int:
    """Return how many connections this process has files for."""
    if sys.platform == "win32":
        return sys.maxsize
    import resource

    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return sys.maxsize if limit == resource.RLIM_INFINITY else max(limit // 2, limit - _SPARE)


def bind(host: str, port: int) -> socket.socket:
    """Return a bound socket. Raises ``OSError``, before any thread is started."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named in full because asyncio sets TCP_NODELAY only then; without it a reply in two
    # writes waits 40 ms for the client's delayed ACK.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except BaseException:
        sock.close()
        raise
    return sock
