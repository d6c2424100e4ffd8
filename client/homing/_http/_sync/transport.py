# Generated from client/homing/_http/_async/transport.py by scripts/unasync.py: edit that file, not this one.
"""An httpx transport for your own servers: many streams, few origins, HTTP/1.1.

httpx's own transport scans its connections for every request, and spends more time on an HTTP
chunk than the rest of a client spends on the event in it. This one keeps h11, and replaces the
pool and the path of the bytes.
"""

from __future__ import annotations

import functools
import ssl
import time
from collections.abc import Callable
from typing import Any

import httpcore
import httpx

from ...core.process.fork import renew_after_fork
from ...errors import ConfigurationError
from ..fast_heads import ResponseHead
from ..policy import KEEPALIVE_EXPIRY, STALE_NOTICE, as_httpx_error, check_limits, origin_of
from ..pool import Origin, Pool, PoolRequest
from ..request_control import EXTENSION, Aborted, RequestControl
from .body import Body
from .connection import Connection
from .network import Waiter, connect, current_run, is_over

LOOK_FOR_ROOM = 1.0
"""Seconds after which a request that waits for one of ``max_connections`` checks again. A response that is
garbage-collected, not closed, makes room without notifying anyone."""

BODY = "homing.body"
"""Key of the `Body` in ``httpx.Response.extensions``: httpx wraps ``response.stream``."""


class Transport(httpx.BaseTransport):
    """HTTP/1.1 over TCP and TLS, for `httpx.Client`.

    If the server closed a reused connection before the request arrived, the request is resent
    once, on a new connection, provided its body can be sent twice. ``request.extensions["homing.call"]``
    may hold a `RequestControl`; without one, everything works as httpx documents it.

    Args:
        verify: As in httpx; like ``cert`` and ``trust_env``, it only affects certificates. This
            transport supports no proxies (`homing._http.policy.covers` decides when to use httpx's own).
        cert: As in httpx.
        trust_env: As in httpx.
        max_connections: The default, None, means no limit.
        keepalive_expiry: Seconds that an idle connection is kept. The default, 4, is a second less
            than SGLang's server waits.
        clock: Measures idle time and, for a request without a `RequestControl`, its timeouts.

    Raises:
        httpx.TransportError: Including `Aborted`, after `RequestControl.abort`.
        ConfigurationError: If used from a second event loop while the first is still running.
    """

    def __init__(
        self,
        *,
        verify: ssl.SSLContext | str | bool = True,
        cert: Any = None,
        trust_env: bool = True,
        max_connections: int | None = None,
        keepalive_expiry: float = KEEPALIVE_EXPIRY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        check_limits(max_connections, keepalive_expiry)
        self._make_context = functools.partial(httpx.create_ssl_context, verify=verify, cert=cert, trust_env=trust_env)
        # The default context takes 20 ms to load, so the first https request does that. What the
        # user passed is checked at once.
        self._context = None if verify is True and cert is None else self._new_context()
        self._max_connections = max_connections
        self._keepalive_expiry = keepalive_expiry
        self._clock = clock
        self._run: object = None
        self.is_closed = False
        self.pool = self._new_pool()
        renew_after_fork(self)

    def _after_fork(self) -> None:
        self._run = None  # it was the parent's; the pool has dropped all of its connections

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send ``request`` and return the response as soon as its head has arrived."""
        self._check_home()
        control, read_timeout = request.extensions.get(EXTENSION), None
        if control is None:
            control = RequestControl(clock=self._clock)
            read_timeout = request.extensions.get("timeout", {}).get("read")
        elif not isinstance(control, RequestControl):
            raise ConfigurationError(f"request.extensions[{EXTENSION!r}] must be a Call, got {control!r}")
        origin = origin_of(request.url)
        taken: list[Connection] = []  # filled even if an interrupt keeps a function from returning its connection
        try:
            head = self._exchange(request, origin, control, read_timeout, taken)
            connection = taken[-1]
            body = Body(connection, head, functools.partial(self._take_back, self.pool, origin), self.pool.dropped)
            return httpx.Response(
                head.status,
                headers=head.headers,
                stream=body,
                extensions={
                    "http_version": b"HTTP/" + head.version,
                    "reason_phrase": head.reason,
                    "network_stream": connection.wire,
                    BODY: body,
                },
            )
        except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError) as error:
            raise as_httpx_error(error) from error
        except BaseException:
            for connection in taken:
                self.pool.discard(connection)
            raise

    def close(self) -> None:
        """Close all connections. Requests in progress end with `Aborted`."""
        self.is_closed = True
        self._check_home()
        idle, busy = self.pool.close()
        for connection in idle:
            connection.close()
        for connection in busy:
            connection.wire.control.abort()
        for connection in idle + busy:
            connection.wire.socket.closed()

    def _exchange(
        self,
        request: httpx.Request,
        origin: Origin,
        control: RequestControl,
        read_timeout: float | None,
        taken: list[Connection],
    ) -> ResponseHead:
        """Return the response head; its connection is the last one in ``taken``."""
        # A body of bytes can be sent twice, an iterator can't.
        stream = request.stream
        content = b"".join(stream) if isinstance(stream, httpx.ByteStream) else None
        fresh = False
        while True:
            connection = self._acquire(request, origin, control, taken, fresh=fresh)
            try:
                return connection.send(request, content, control, read_timeout)
            except BaseException as error:
                self.pool.discard(connection)
                if fresh or content is None or not self._was_stale(connection, control, error):
                    raise
            fresh = True

    def _was_stale(self, connection: Connection, control: RequestControl, error: BaseException) -> bool:
        """Return whether the server had closed the connection before it saw this request."""
        if not isinstance(error, (httpcore.ReadError, httpcore.RemoteProtocolError)):
            return False
        if connection.served < 2 or control.first_byte_at is not None:
            return False
        return control.sent_at is None or control.clock() - control.sent_at < STALE_NOTICE

    def _acquire(
        self,
        request: httpx.Request,
        origin: Origin,
        control: RequestControl,
        taken: list[Connection],
        *,
        fresh: bool,
    ) -> Connection:
        timeouts = request.extensions.get("timeout", {})
        while True:
            connection = None if fresh else self.pool.take_idle(origin, taken, now=self._clock())
            if connection is None:
                ticket = self._checkout(origin, control, timeouts.get("pool"), fresh=fresh)
                connection = ticket.connection
                if connection is None:
                    return self._open(request, origin, control, timeouts.get("connect"), ticket, taken)
                taken.append(connection)
            if not connection.is_stale():
                return connection
            self.pool.discard(connection)

    def _checkout(
        self, origin: Origin, control: RequestControl, timeout: float | None, *, fresh: bool
    ) -> PoolRequest[Connection]:
        """Return a ticket with an idle connection, or with permission to open one."""
        waiter = Waiter()
        ticket: PoolRequest[Connection] = PoolRequest(origin, waiter.set)
        try:
            self.pool.checkout(ticket, now=self._clock(), fresh=fresh)
            if ticket.served:
                return ticket
            control.attach(waiter.set)
            try:
                in_time = self._wait_for_room(waiter, control, timeout)
            finally:
                control.detach()
            if control.aborted:
                raise Aborted
            if not in_time:
                raise httpcore.PoolTimeout
            if ticket.refused:
                raise RuntimeError("the transport was closed while a request waited for a connection")
        except BaseException:
            self.pool.withdraw(ticket, now=self._clock())
            raise
        return ticket

    def _wait_for_room(self, waiter: Waiter, control: RequestControl, timeout: float | None) -> bool:
        """Wait until ``waiter`` is set. Return False on timeout."""
        began = control.clock()
        while True:
            left = control.allowance(None if timeout is None else max(0.0, began + timeout - control.clock()))
            if waiter.wait(LOOK_FOR_ROOM if left is None else min(left, LOOK_FOR_ROOM)):
                return True
            if left is not None and left <= LOOK_FOR_ROOM:
                return False
            self.pool.admit()

    def _open(
        self,
        request: httpx.Request,
        origin: Origin,
        control: RequestControl,
        timeout: float | None,
        ticket: PoolRequest[Connection],
        taken: list[Connection],
    ) -> Connection:
        scheme, host, port = origin
        try:
            if scheme == "https" and self._context is None:
                self._context = self._new_context()
            socket = connect(
                host,
                port,
                ssl_context=self._context if scheme == "https" else None,
                server_hostname=request.extensions.get("sni_hostname") or host,
                timeout=control.allowance(timeout),
                control=control,
            )
        except BaseException:
            self.pool.failed(ticket)
            raise
        connection = Connection(socket)
        taken.append(connection)
        self.pool.opened(connection, ticket)
        return connection

    def _take_back(self, pool: Pool[Connection], origin: Origin, connection: Connection) -> None:
        control = connection.wire.control
        control.detach()
        if connection.is_reusable() and not control.aborted:
            pool.checkin(connection, origin, now=self._clock())
        else:
            pool.discard(connection)

    def _check_home(self) -> None:
        """Drop the connections of a loop that has ended. Raise if their loop is still running."""
        run = current_run()
        if run is self._run:
            return
        held = self.pool.in_use + self.pool.idle
        if held and self._run is not None and not is_over(self._run):
            raise ConfigurationError(
                "this client is in use by another event loop, which still runs: make one client for each "
                "loop (connections cannot change loops), or close this one there first"
            )
        for connection in self.pool.forget():
            connection.wire.socket.drop()
        self.pool = self._new_pool()
        self._run = run

    def _new_pool(self) -> Pool[Connection]:
        return Pool(
            max_connections=self._max_connections,
            keepalive_expiry=self._keepalive_expiry,
            close=Connection.close,
        )

    def _new_context(self) -> ssl.SSLContext:
        context = self._make_context()
        context.set_alpn_protocols(["http/1.1"])
        return context
