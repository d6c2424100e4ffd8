"""The edge's ASGI application: reads a request, checks it at the door, finds its replica."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from .control import Control
from .doorkeeper import Refused, check
from .exchange import ClientReply, Exchange
from .faults import Faults
from .fleet import NoReplicaReady, ReplicaSaturated
from .hosts import bare
from .lifecycle import Lifecycle
from .listener import Receive, Scope, Send
from .pages import keep_out
from .records import Log, Record, describe
from .replica import PLAIN_TEXT, Headers, Request, send
from .routing import REPLICA_HEADER, affinity_key
from .settings import EdgeSettings


class ClientLeft(Exception):
    """The client went away before its request was complete."""


class Gateway:
    """Takes requests from the listener to replicas. Lives on the edge's loop."""

    def __init__(
        self,
        settings: EdgeSettings,
        *,
        lifecycle: Lifecycle,
        faults: Faults,
        log: Log,
    ) -> None:
        self._settings = settings
        self._lifecycle = lifecycle
        self._faults = faults
        self._log = log
        self._names = {bare(host) for host in (settings.host, *settings.allowed_hosts)}
        self._control = Control(settings, lifecycle=lifecycle, faults=faults, log=log)

    async def __call__(self, scope: Scope, receive: Receive, send_message: Send) -> None:
        """Serve one request (ASGI)."""
        if scope["type"] != "http":
            return
        headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
        own = scope["path"].startswith("/_edge/")
        try:
            keep_out(headers, names=self._names, reached=(scope.get("server") or (None,))[0])
            if own:
                check(headers, self._settings)
        except Refused as refused:  # neither read nor recorded, and it wakes nothing
            await send(ClientReply(send_message), refused.status, f"{refused}\n", content_type=PLAIN_TEXT)
            return
        try:
            request = await _read(scope, receive, headers)
        except ClientLeft:
            return
        if own:
            await self._control.answer(request, ClientReply(send_message))
            return
        record = self._open(request)
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            if self._settings.latency:
                await asyncio.sleep(self._settings.latency)
            replica_id = await self._admit(request, record, send_message)
            if replica_id is not None:
                exchange = Exchange(
                    request,
                    record,
                    replica_id=replica_id,
                    lifecycle=self._lifecycle,
                    log=self._log,
                    send=send_message,
                    gone=gone,
                    connection=scope["state"]["connection"],
                )
                await exchange.run(self._faults.strike(replica_id=replica_id, path=request.path))
        finally:
            gone.cancel()

    def _open(self, request: Request) -> Record:
        settings = self._settings
        record = self._log.open(
            time=time.time(),
            method=request.method,
            path=request.path,
            key=affinity_key(request.headers, smg_routing_key=settings.smg_routing_key),
            headers=request.headers,
        )
        record.tokens = request.tokens
        describe(record, request.body, keep=settings.keep_requests)
        return record

    async def _admit(self, request: Request, record: Record, send_message: Send) -> str | None:
        """Return the replica for a request, or refuse it and return None."""
        named: Headers = ()
        try:
            check(request.headers, self._settings)
            return self._lifecycle.fleet.admit(record.key)
        except Refused as refused:
            status, body = refused.status, f"{refused}\n"
        except ReplicaSaturated as full:
            record.replica = full.replica_id
            named = [(REPLICA_HEADER, full.replica_id)]
            status, body = 429, f"replica {full.replica_id} is at its maximum concurrency\n"
        except NoReplicaReady:
            status, body = 503, "no ready replica\n"
        record.status = status
        self._log.close(record, "refused", time=time.time())
        self._lifecycle.advance()
        await send(ClientReply(send_message, headers=named), status, body, content_type=PLAIN_TEXT)
        return None


async def _read(scope: Scope, receive: Receive, headers: Mapping[str, str]) -> Request:
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return Request(
        method=scope["method"],
        path=scope["path"],
        query=scope["query_string"].decode("latin-1"),
        headers=headers,
        body=bytes(body),
    )


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
