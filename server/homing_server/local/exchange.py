"""One request on its replica: the reply on its way out, faults in it, and how it ends."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from .faults import Fault
from .faulty_reply import Cut, FaultyReply, forever
from .lifecycle import Lifecycle
from .listener import Connection, Send
from .records import Log, Outcome, Record
from .replica import PLAIN_TEXT, Headers, ReplicaLost, Reply, Request, send
from .routing import REPLICA_HEADER

logger = logging.getLogger("homing.edge")

# A client that does not read keeps a closing connection open; after this it is cut hard.
_CLOSING = 1.0


def _nothing() -> None:
    pass


class ClientReply:
    """The reply as the client gets it, with ``headers`` added to every one.

    ``on_last`` is called just before the bytes that complete the reply are sent, so that
    whoever has read it finds the books closed.
    """

    def __init__(self, send: Send, *, headers: Headers = (), on_last: Callable[[], None] = _nothing) -> None:
        self._send = send
        self._headers = dict(headers)
        self._on_last = on_last
        self._missing: int | None = None
        self.status: int | None = None

    async def start(self, status: int, headers: Headers) -> None:
        """Send status and headers."""
        self.status = status
        kept = [(name.lower(), value) for name, value in headers if name.lower() not in self._headers]
        length = dict(kept).get("content-length")
        self._missing = None if length is None else int(length)
        if self._missing == 0:
            self._on_last()
        raw = [(k.encode("latin-1"), v.encode("latin-1")) for k, v in [*kept, *self._headers.items()]]
        await self._send({"type": "http.response.start", "status": status, "headers": raw})

    async def write(self, data: bytes) -> None:
        """Send a part of the body."""
        if not data:
            return
        if self._missing is not None:
            self._missing -= len(data)
        if self._missing == 0 or b"data: [DONE]" in data:
            self._on_last()
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def finish(self) -> None:
        """End the body."""
        self._on_last()
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})


class Exchange:
    """A request that was admitted, until its end. Lives on the edge's loop.

    ``gone`` is done when the client has left.
    """

    def __init__(
        self,
        request: Request,
        record: Record,
        *,
        replica_id: str,
        lifecycle: Lifecycle,
        log: Log,
        send: Send,
        gone: asyncio.Future[None],
        connection: Connection,
    ) -> None:
        self._request = request
        self._record = record
        self._replica_id = replica_id
        self._lifecycle = lifecycle
        self._log = log
        self._gone = gone
        self._connection = connection
        self._reply = ClientReply(
            send, headers=[(REPLICA_HEADER, replica_id)], on_last=lambda: self._settle("completed")
        )
        self._task: asyncio.Task[None] | None = None

    async def run(self, fault: Fault | None) -> None:
        """Let the replica answer and see it to its end, however that comes."""
        self._record.replica = self._replica_id
        self._task = asyncio.ensure_future(self._answer(fault))
        self._lifecycle.attach(self._replica_id, self._task)
        self._lifecycle.advance()
        try:
            await asyncio.wait({self._task, self._gone}, return_when=asyncio.FIRST_COMPLETED)
            if self._task.done():
                await self._end(self._task)
            else:
                self._task.cancel()
                await asyncio.wait({self._task})
                self._settle("aborted")
        finally:
            self._task.cancel()  # where this one is cancelled: the edge is stopping
            self._settle("cut")

    async def _answer(self, fault: Fault | None) -> None:
        outward: Reply = self._reply
        if fault is not None:
            outward = FaultyReply(fault, self._reply, on_strike=lambda: self._strike(fault))
        if fault is not None and fault.kind == "answer":
            self._strike(fault)
            await send(self._reply, fault.status, fault.body, content_type="", headers=fault.headers)
        elif fault is not None and fault.kind == "hang" and fault.at_headers:
            self._strike(fault)
            await forever()
        else:
            await self._lifecycle.engine(self._replica_id).answer(self._request, outward)

    def _strike(self, fault: Fault) -> None:
        self._record.fault = fault.label
        self._lifecycle.advance()  # tell who waits for it

    async def _end(self, task: asyncio.Task[None]) -> None:
        """Close the books, then do to the connection what this end asks for."""
        if task.cancelled():
            await self._break("cut")  # the replica is gone, and this request with it
            return
        error = task.exception()
        if error is None:
            self._settle("completed")
        elif isinstance(error, Cut):
            await self._cut(error)
        elif isinstance(error, ReplicaLost):
            await self._break("cut")
        else:
            logger.error("replica %s failed", self._replica_id, exc_info=error)
            await self._break("failed", status=500)

    async def _cut(self, cut: Cut) -> None:
        if cut.ending in ("kill", "churn"):
            self._lifecycle.lose(self._replica_id, replace=cut.ending == "churn")
        if cut.ending == "eof":
            self._settle("cut")
            await self._reply.finish()
        elif cut.ending == "reset":
            self._settle("cut")
            self._connection.reset()
            await asyncio.wait({self._gone}, timeout=_CLOSING)
        else:
            await self._break("cut")

    async def _break(self, outcome: Outcome, *, status: int = 502) -> None:
        """Break off: an error status while there is still time for one, else a truncated body.

        What Modal's edge says when a replica is lost before the headers is not documented;
        a gateway that loses its upstream says 502.
        """
        if self._reply.status is None:
            body = "the replica went away\n" if status == 502 else "Internal Server Error"
            self._record.status = status
            self._settle(outcome)
            await send(self._reply, status, body, content_type=PLAIN_TEXT)
            return
        self._settle(outcome)
        self._connection.close()
        await asyncio.wait({self._gone}, timeout=_CLOSING)
        self._connection.abort()

    def _settle(self, outcome: Outcome) -> None:
        """Close the record and count the request as ended. The first call decides."""
        if self._record.outcome == "running" and self._task is not None:
            self._record.status = self._reply.status or self._record.status
            self._log.close(self._record, outcome, time=time.time())
            self._lifecycle.detach(self._replica_id, self._task)
