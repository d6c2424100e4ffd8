"""A load balancer with sticky cookies in front of the edge, as HAProxy's ``cookie SRV insert``.

It gives each newcomer a server in turn, says which in a cookie, and sends whoever brings the cookie to that server
again. Its servers are names only: behind each is the whole edge. What it saw tells whether every conversation
has stayed at its home, and brought nobody else's cookie.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import socket
import struct
import threading
from dataclasses import dataclass
from types import TracebackType
from urllib.parse import urlsplit

from typing_extensions import Self

COOKIE = "SRV"
SERVERS = ("s1", "s2", "s3")
PROCESS = "X-Chaos-Process"
"""Which client process sends; a new one in its place does not know the cookies of the one before."""
KEY = "modal-session-id"
SPREAD = 12
"""Conversations from which on every server must have got some: by chance one gets none in two cases of a hundred,
and they are given out in turn."""
EACH = 10
"""One conversation of so many goes through the balancer."""


def goes_through(conversation: str) -> bool:
    """Whether a conversation goes through the balancer."""
    return conversation[1:].isdigit() and int(conversation[1:]) % EACH == EACH // 2


@dataclass
class Visit:
    """One request."""

    process: str
    key: str
    brought: str | None
    """The server named by its cookie."""
    server: str
    told: bool = False
    """Whether the head of a successful answer with a cookie went out."""
    whole: bool = False
    """Whether all of that answer did."""


class Balancer:
    """Runs until its block is left."""

    def __init__(self, upstream: str) -> None:
        self.url = ""
        self.visits: list[Visit] = []
        self._port = urlsplit(upstream).port
        self._turns = itertools.cycle(SERVERS)
        self._down: str | None = None
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._over = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),), name="balancer")

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()
        self._loop.close()

    def take_away(self, server: str | None) -> None:
        """Let a server be down, instead of the one that was; its clients are sent elsewhere, with another cookie."""
        self._down = server

    async def _run(self) -> None:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._ready.set()
        await self._over.wait()
        server.close()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on one request and its answer, and close."""
        upstream: asyncio.StreamWriter | None = None
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = _header(head, "content-length")
            body = await reader.readexactly(int(length or 0))
            visit = self._visit(head)
            source, upstream = await asyncio.open_connection("127.0.0.1", self._port)
            upstream.write(_closing(head) + body)
            passing = asyncio.create_task(self._answer(source, writer, visit))
            leaving = asyncio.create_task(reader.read(1))  # b"": the client has gone, and the engine is to stop
            try:
                await asyncio.wait((passing, leaving), return_when=asyncio.FIRST_COMPLETED)
                if passing.done():
                    passing.result()
            finally:
                passing.cancel()
                leaving.cancel()
                await asyncio.gather(passing, leaving, return_exceptions=True)
        except ConnectionResetError:
            _reset_on_close(writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # one side has gone, and so does the other
        finally:
            for end in (writer, upstream):
                if end is not None:
                    end.close()
                    with contextlib.suppress(ConnectionError):
                        await end.wait_closed()

    def _visit(self, head: bytes) -> Visit:
        found = re.search(rf"\b{COOKIE}=(\w+)", _header(head, "cookie") or "")
        brought = found[1] if found else None
        server = brought
        while server is None or server == self._down:
            server = next(self._turns)
        visit = Visit(_header(head, PROCESS) or "", _header(head, KEY) or "", brought, server)
        self.visits.append(visit)
        return visit

    async def _answer(self, source: asyncio.StreamReader, writer: asyncio.StreamWriter, visit: Visit) -> None:
        head = _closing(await source.readuntil(b"\r\n\r\n"))
        if visit.server != visit.brought:
            head = head.replace(b"\r\n", f"\r\nSet-Cookie: {COOKIE}={visit.server}; path=/\r\n".encode(), 1)
        writer.write(head)
        visit.told = b" 200 " in head.partition(b"\r\n")[0]
        while data := await source.read(65536):
            writer.write(data)
            await writer.drain()
            visit.whole = visit.told and data.endswith(b"0\r\n\r\n")


def astray(visits: list[Visit]) -> list[str]:
    """Return what is wrong: conversations that left their home, or brought a cookie that was not theirs."""
    wrong: list[str] = []
    given: dict[str, set[str]] = {}
    homes: dict[tuple[str, str], set[str]] = {}
    for visit in visits:
        if not visit.key:
            continue
        place = visit.process, visit.key
        known = homes.get(place)
        if visit.brought is None and known is not None:
            wrong.append(f"{visit.key} came without its cookie, and got from {sorted(known)} to {visit.server}")
        elif visit.brought is not None and visit.brought not in given.get(visit.key, ()):
            wrong.append(f"{visit.key} brought the cookie of {visit.brought}, which it was never given")
        elif visit.brought is not None and known is not None and visit.brought not in known:
            wrong.append(f"{visit.key} brought the cookie of {visit.brought}, and was at home at {sorted(known)}")
        given.setdefault(visit.key, set()).add(visit.server)
        if visit.whole:
            homes[place] = {visit.server}
        elif known is not None:
            known.add(visit.server)  # it may have heard of the new one, or not
    if len(given) >= SPREAD:
        wrong += [f"no conversation of {len(given)} was at {name}" for name in set(SERVERS).difference(*given.values())]
    return wrong


def _header(head: bytes, name: str) -> str | None:
    found = re.search(rb"(?im)^%b:[ \t]*(.*?)\r$" % re.escape(name.encode()), head)
    return found[1].decode("latin-1") if found else None


def _closing(head: bytes) -> bytes:
    """Return the head with one request on each connection."""
    head = re.sub(rb"(?im)^(connection|keep-alive):.*\r\n", b"", head)
    return head.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)


def _reset_on_close(writer: asyncio.StreamWriter) -> None:
    peer: socket.socket = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):  # gone already
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
