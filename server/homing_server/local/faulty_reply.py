"""Does a fault to a reply on its way to the client, whatever kind of replica it comes from."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from .faults import Ending, Fault
from .replica import Headers, Reply

_FILL_PIECE = b"x" * 65_536


class Cut(Exception):
    """The connection ends here. ``ending`` says how."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending)
        self.ending: Ending = ending


class FaultyReply:
    """A reply on its way to the client, with a fault in it. Raises ``Cut`` where the connection ends.

    ``on_strike`` is called when the fault shows: a reply that ends before its place never meets it.
    """

    def __init__(self, fault: Fault, reply: Reply, *, on_strike: Callable[[], None]) -> None:
        self._fault = fault
        self._reply = reply
        self._on_strike = on_strike
        self._passed = 0
        self._struck = False

    async def start(self, status: int, headers: Headers) -> None:
        """Send the headers; a body that will be changed loses its length."""
        changes = self._fault.kind in ("insert", "reframe") or self._fault.ending == "eof"
        kept = [h for h in headers if not (changes and h[0] == "content-length")]
        await self._reply.start(status, kept)

    async def write(self, data: bytes) -> None:
        """Pass an event on, or do something to it."""
        fault = self._fault
        if self._passed < fault.after_chunks:
            self._passed += 1
            await self._reply.write(data)
        elif fault.kind == "hang":
            self._on_strike()
            await forever()
        elif fault.kind == "slow":
            self._on_strike()
            await asyncio.sleep(fault.delay)
            await self._reply.write(data)
        elif fault.kind == "cut":
            await self._cut(data)
        elif fault.kind == "insert":
            if not self._struck:
                self._struck = True
                await self._insert()
            await self._reply.write(data)
        else:
            await self._reframed(data)

    async def finish(self) -> None:
        """End the body."""
        await self._reply.finish()

    async def _cut(self, data: bytes) -> None:
        inside = cut_point(data, self._fault.inside)
        if inside is None:
            await self._reply.write(data)  # not the event it waits for
            return
        self._on_strike()
        await self._reply.write(data[:inside])
        raise Cut(self._fault.ending or "close")

    async def _insert(self) -> None:
        fault = self._fault
        self._on_strike()
        for _ in range(fault.repeat):
            await self._reply.write(fault.body)
            await asyncio.sleep(fault.delay)
        for start in range(0, fault.fill, len(_FILL_PIECE)):
            await self._reply.write(_FILL_PIECE[: fault.fill - start])
            await asyncio.sleep(0)
        if fault.ending:
            raise Cut(fault.ending)

    async def _reframed(self, data: bytes) -> None:
        self._on_strike()
        framing = self._fault.framing
        if framing == "bytewise":
            for position in range(len(data)):
                await self._reply.write(data[position : position + 1])
                await asyncio.sleep(0)
            return
        if framing == "bom":
            data = data if self._struck else b"\xef\xbb\xbf" + data
            self._struck = True
        else:
            data = data.replace(b"\n", b"\r\n" if framing == "crlf" else b"\r")
        await self._reply.write(data)


def cut_point(data: bytes, inside: str | None) -> int | None:
    """Return where to cut ``data``; None if it holds nothing of the kind. ``inside`` None: before it."""
    if inside is None:
        # A whole answer has no events to cut between, so it is cut in its middle.
        return 0 if data.startswith(b"data:") else len(data) // 2
    if inside == "event":
        return len(data) // 2
    if inside == "character":
        return next((i + 1 for i, byte in enumerate(data) if byte >= 0xC0), None)
    start = data.find(b'"arguments":"') + len(b'"arguments":"')
    end = data.find(b'"', start)
    if start < len(b'"arguments":"') or end <= start:
        return None
    return (start + end + 1) // 2


async def forever() -> None:
    """Wait until cancelled: when the client leaves, the replica is killed or the edge stops."""
    await asyncio.get_running_loop().create_future()
