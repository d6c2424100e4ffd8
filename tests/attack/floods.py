"""A server that never stops sending, and the ways to talk to it."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import anyio
import pytest

import homing

PATIENCE = 20.0
"""Seconds until a flood ends by itself, so that a client that never gives up fails its test and no more."""

SSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENT = b'data: {"id":"x","created":1,"model":"m","choices":[{"index":%d,"delta":{%b}%b}]}\n\n'
HELLO = EVENT % (0, b'"content":"Hello"', b"")
END = EVENT % (0, b"", b',"finish_reason":"stop"') + b"data: [DONE]\n\n"

OWN = ["sync", "asyncio", "trio"]
FACES = [*OWN, *(f"{kind}-{library}" for kind in OWN for library in ("httpx", "httpx2"))]
"""Threads and tasks, each over our own transport and over a user's own ``http_client`` of either library."""

ASK: Any = {"messages": [{"role": "user", "content": "q"}]}


@contextmanager
def flooding(first: bytes, again: bytes = b"", last: bytes = b"") -> Iterator[str]:
    """Serve ``first`` to each request, and then ``again`` for ever, or ``last`` when there is no such thing."""
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()
    threads: list[threading.Thread] = []
    peers: list[socket.socket] = []

    def serve(peer: socket.socket) -> None:
        ends = time.monotonic() + PATIENCE
        again_and_again = again * max(1, 65536 // max(1, len(again)))
        with peer:
            peer.settimeout(PATIENCE)
            try:
                request = b""
                while b"\r\n\r\n" not in request:
                    data = peer.recv(65536)
                    if not data:
                        return
                    request += data
                peer.sendall(first)
                while again and not over.is_set() and time.monotonic() < ends:
                    peer.sendall(again_and_again)
                peer.sendall(last)
                while peer.recv(65536):
                    pass
            except OSError:
                pass

    def accept() -> None:
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            peers.append(peer)
            threads.append(threading.Thread(target=serve, args=(peer,), daemon=True))
            threads[-1].start()

    acceptor = threading.Thread(target=accept, daemon=True)
    acceptor.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        over.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join()
        for peer in peers:
            with contextlib.suppress(OSError):
                peer.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()


def ask(kind: str, url: str, action: Callable[[Any], Any], **settings: Any) -> Any:
    """Return what ``action`` makes of a client of this kind; a stream is read to its end.

    ``each`` among the settings is called with every item of that.
    """
    backend, _, library = kind.partition("-")
    each: Callable[[Any], object] = settings.pop("each", lambda item: None)
    clock = settings.pop("clock", None)
    settings = {"model": "m", "max_retries": 0, "cold_start_timeout": 0, **settings}

    def set_clock(client: Any) -> None:
        if clock is not None:
            object.__setattr__(client._options, "clock", clock)

    if backend == "sync":
        http = import_module(library).Client(trust_env=False) if library else None
        try:
            with homing.Client(url, http_client=http, **settings) as client:
                set_clock(client)
                result = action(client)
                return [(item, each(item))[0] for item in result] if isinstance(result, homing.Stream) else result
        finally:
            if http is not None:
                http.close()

    async def main() -> Any:
        http = import_module(library).AsyncClient(trust_env=False) if library else None
        try:
            async with homing.AsyncClient(url, http_client=http, **settings) as client:
                set_clock(client)
                result = await action(client)
                if not isinstance(result, homing.AsyncStream):
                    return result
                return [(item, each(item))[0] async for item in result]
        finally:
            if http is not None:
                await http.aclose()

    return anyio.run(main, backend=backend)


def create(client: Any) -> Any:
    return client.chat.completions.create(**ASK)


def stream(client: Any) -> Any:
    return client.chat.completions.create(**ASK, stream=True)


def failure(kind: str, url: str, action: Callable[[Any], Any], **settings: Any) -> homing.HomingError:
    """Return the error that the call ends in."""
    with pytest.raises(homing.HomingError) as caught:
        ask(kind, url, action, **settings)
    return caught.value
