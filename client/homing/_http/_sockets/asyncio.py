"""Sockets for asyncio tasks, including uvloop: a bare protocol.

A read through anyio's streams and cancel scopes costs several times as much. Arriving data wakes its reader
at once, not in the loop's next iteration (see `Arrival`).
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import os
import socket
import ssl
from collections.abc import Callable, Iterable
from typing import Any, cast

import anyio
import httpcore

from ..._concurrency.event_loop import on_this_run, soon_on_this_run
from ..policy import SOCKET_OPTIONS, numeric
from ..request_control import shutdown_socket
from .base import AsyncSocket

RECEIVE_LIMIT = 256 * 1024
"""Bytes to buffer for a consumer that doesn't read. Beyond that, reading pauses and the kernel holds back the
sender."""

EAGER_WAKEUP = os.environ.get("HOMING_EAGER_WAKEUP") != "0"
"""Whether a reader resumes as soon as its bytes arrive. If not, it waits on an ordinary future: for Python versions
or event loops that don't work with `Arrival`."""


async def connect(
    host: str, port: int, context: ssl.SSLContext | None, server_hostname: str | None, timeout: float | None
) -> AsyncSocket:
    loop = asyncio.get_running_loop()
    with anyio.fail_after(timeout) as scope:
        connected = await _connect_first(await _resolve(loop, host, port), scope.deadline)
        try:
            _, stream = await loop.create_connection(
                functools.partial(AsyncioSocket, loop, connected),
                sock=connected,
                ssl=context,
                server_hostname=server_hostname if context is not None else None,
            )
        except BaseException:
            connected.close()
            raise
        return stream
    raise AssertionError("unreachable: the scope raises")


async def _resolve(loop: asyncio.AbstractEventLoop, host: str, port: int) -> Iterable[Any]:
    # The loop would use a thread even for an IP address.
    return numeric(host, port) or await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)


async def _connect_first(addresses: Iterable[Any], deadline: float) -> socket.socket:
    loop = asyncio.get_running_loop()
    todo = list(addresses)
    failure: OSError = OSError("the name has no address")
    while todo:
        # An unresponsive address must leave time for the next: dead IPv6 routes are common.
        share = (deadline - anyio.current_time()) / len(todo)
        family, kind, protocol, _, address = todo.pop(0)
        candidate = socket.socket(family, kind, protocol)
        try:
            candidate.setblocking(False)
            for option in SOCKET_OPTIONS:
                candidate.setsockopt(*option)
            with anyio.fail_after(share):
                await loop.sock_connect(candidate, address)
            return candidate
        except OSError as error:  # includes TimeoutError
            candidate.close()
            failure = error
        except BaseException:
            candidate.close()
            raise
    raise failure


class Arrival(asyncio.Future[None]):
    """The future that a socket's only reader waits on.

    When a future is done, asyncio resumes the task in the loop's next iteration, and the loop polls the kernel
    before each: for small pieces, that costs as much as the read itself. But bytes arrive in a callback of the
    loop, while no task runs, so the reader's task can resume right there. This needs no private API: a task
    passes its wake-up function to `add_done_callback`, along with its ``context``.
    """

    _wake: Callable[[Any], object] | None = None
    _context: contextvars.Context | None = None

    def add_done_callback(self, fn: Callable[[Any], object], /, *, context: contextvars.Context | None = None) -> None:
        # Not `or`: an empty context is falsy, but may still be the task's.
        self._wake, self._context = fn, contextvars.copy_context() if context is None else context

    def come(self) -> None:
        """Wake the reader now. Call this only from the loop's own callbacks, while no task runs."""
        if self.done():
            return
        super().set_result(None)
        wake, context = self._wake, self._context
        if wake is None or context is None:
            return
        try:
            context.run(wake, self)
        except RuntimeError:  # another kind of loop, which calls back while a task runs; nothing has changed yet
            self._wake_soon()

    def set_result(self, result: None, /) -> None:
        super().set_result(result)
        self._wake_soon()

    def set_exception(self, exception: type | BaseException, /) -> None:
        super().set_exception(exception)
        self._wake_soon()

    def cancel(self, msg: Any | None = None) -> bool:
        cancelled = super().cancel(msg)
        if cancelled:
            self._wake_soon()
        return cancelled

    def _wake_soon(self) -> None:
        if self._wake is not None:
            self.get_loop().call_soon(self._wake, self, context=self._context)


class AsyncioSocket(asyncio.Protocol, AsyncSocket):
    """The protocol of one asyncio connection.

    Reads share one timer, which is re-armed only if it fires too early: a timer for each read would
    cost more than the read itself.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, raw: socket.socket) -> None:
        super().__init__()
        self._loop = loop
        self._raw = raw
        self._dropped = False
        self._transport = cast(asyncio.Transport, None)  # until connection_made
        self._parts: list[bytes] = []
        self._size = 0
        self._reading = True
        self._ended = False
        self._error: Exception | None = None
        self._arrival: asyncio.Future[None] | None = None
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._writable: asyncio.Future[None] | None = None
        self._lost: asyncio.Future[None] = loop.create_future()
        self._close_from_anywhere = on_this_run(self.close)
        self._close_soon = soon_on_this_run(self.close)

    # Called by asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        # A write is done when the kernel has everything. (0 would mean "always full" under TLS.)
        self._transport.set_write_buffer_limits(high=1)

    def data_received(self, data: bytes) -> None:
        self._parts.append(data)
        self._size += len(data)
        arrival = self._arrival
        if isinstance(arrival, Arrival):
            arrival.come()
        elif arrival is not None:
            self._wake_reader()
        elif self._size > RECEIVE_LIMIT and self._reading:
            self._reading = False
            self._transport.pause_reading()

    def eof_received(self) -> None:
        self._ended = True
        self._wake_reader()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = True
        self._error = exc
        self._wake_reader()
        self.resume_writing()
        if not self._lost.done():
            self._lost.set_result(None)

    def pause_writing(self) -> None:
        self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        writable, self._writable = self._writable, None
        if writable is not None and not writable.done():
            writable.set_result(None)

    # Called by the connection

    async def recv(self, timeout: float | None) -> bytes:
        parts = self._parts
        if not parts and not self._ended:
            if self._arrival is not None:
                raise RuntimeError("two tasks read the same response")
            if timeout is None:
                self._deadline = float("inf")
            else:
                self._deadline = deadline = self._loop.time() + timeout
                if self._timer is None or self._timer_at > deadline:
                    self._arm(deadline)
            self._arrival = Arrival(loop=self._loop) if EAGER_WAKEUP else self._loop.create_future()
            try:
                await self._arrival
            finally:
                self._arrival = None
        if parts:
            data = parts[0] if len(parts) == 1 else b"".join(parts)
            parts.clear()
            self._size = 0
            if not self._reading:
                self._reading = True
                self._transport.resume_reading()
            return data
        if self._error is not None:
            raise httpcore.ReadError(str(self._error)) from self._error
        return b""

    async def send(self, data: bytes, timeout: float | None) -> None:
        if self._ended:
            raise httpcore.WriteError(str(self._error or "the server closed the connection"))
        self._transport.write(data)
        writable = self._writable
        if writable is not None:
            with anyio.move_on_after(timeout):
                await writable
            if not writable.done() or writable.cancelled():
                raise httpcore.WriteTimeout
            if self._ended:
                raise httpcore.WriteError(str(self._error or "the server closed the connection"))

    def abort(self) -> None:
        self._close_from_anywhere()

    def close(self) -> None:
        if self._dropped:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._ended = True
        self._parts.clear()
        self._wake_reader()
        self.resume_writing()
        # asyncio's transports forget their loop when the connection is lost, and then fail to abort.
        if not self._lost.done() and not self._loop.is_closed():
            # asyncio closes in the loop's next iteration. The engine should stop now, even if the loop is blocked.
            with contextlib.suppress(OSError):
                self._raw.shutdown(socket.SHUT_RDWR)
            self._transport.abort()

    async def closed(self) -> None:
        await asyncio.wait([self._lost])

    def drop(self) -> None:
        self._ended = self._dropped = True
        self._raw.close()

    def finalize(self) -> None:
        if self._dropped:
            return
        shutdown_socket(self._raw)  # stops the engine at once, even if the loop is blocked
        self._close_soon()

    def is_readable(self) -> bool:
        return self._ended or bool(self._parts)

    def get_extra_info(self, info: str) -> Any:
        names = {"client_addr": "sockname", "server_addr": "peername"}
        if info == "is_readable":
            return self.is_readable()
        return self._transport.get_extra_info(names.get(info, info))

    def _arm(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = when
        self._timer = self._loop.call_at(when, self._tick)

    def _tick(self) -> None:
        self._timer = None
        arrival = self._arrival
        if arrival is None or arrival.done() or self._deadline == float("inf"):
            return
        if self._loop.time() >= self._deadline:
            arrival.set_exception(httpcore.ReadTimeout())
        else:
            self._arm(self._deadline)

    def _wake_reader(self) -> None:
        """Resume the reader in the loop's next iteration."""
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)
