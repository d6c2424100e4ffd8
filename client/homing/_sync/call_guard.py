"""Deadlines and cancellation for a user's own httpx client. The twin for tasks is also written by hand."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import httpx

from .._concurrency.threads import WakeEvent
from .._http.request_control import Aborted, Expired, RequestControl, shutdown_socket
from ..core.process.interrupts import raise_interrupt
from ..core.retry.timers import LATE_GRACE

T = TypeVar("T")


POLL = 1.0
"""Seconds between the watchdog's checks whether the deadline has moved closer."""


UNREAD = 64 << 20
"""Bytes to discard from an aborted connection: several times what systems buffer."""


LATE_POLL = 0.05
"""Seconds between checks, after the deadline, whether a caller is still waiting for the server."""


class CallGuard:
    """Time limits and cancellation for connections that don't watch a `RequestControl` themselves.

    These are the connections of a user's own ``http_client``, and of httpx's own client, which is used where our
    transport doesn't apply.

    A thread in a blocking read cannot be cancelled. So each guarded stream has a watchdog thread, which breaks
    the connection when the deadline, which moves with every chunk, has passed.
    """

    def __init__(self, control: RequestControl) -> None:
        self._control = control
        self._socket: socket.socket | None = None
        self._expired = False
        self._closed = WakeEvent()  # not an Event: an interrupt could leave that locked, and the watchdog waiting
        self._began: float | None = None
        """When the action of `run` began; None while there is none, and no caller waits for the server."""
        self._watchdog: threading.Thread | None = None

    def attach(self, response: httpx.Response) -> None:
        """Remember the response's connection."""
        self._attach(response.extensions.get("network_stream"))

    @property
    def extensions(self) -> dict[str, Any]:
        """Extensions that a request needs."""
        return {"trace": self._trace}

    def _trace(self, event: str, info: Mapping[str, Any]) -> None:
        # Learn of a new connection from httpcore before the first response, whose head may never end.
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            self._attach(info["return_value"])

    def _attach(self, stream: Any) -> None:
        self._socket = stream.get_extra_info("socket") if stream is not None else None
        if self._socket is not None and self._watchdog is None:
            self._watchdog = threading.Thread(target=self._watch, name="homing-watchdog", daemon=True)
            self._watchdog.start()

    def run(self, action: Callable[[], T]) -> T:
        """Run ``action``. Raises `Expired` at the call's deadline, and `Aborted` after `abort`."""
        if self._control.aborted:
            raise Aborted
        self._began = self._control.clock()
        try:
            result = action()
        except Exception:
            if self._control.aborted:
                raise Aborted from None
            if self._expired:
                raise Expired from None
            raise
        finally:
            self._began = None
        if self._control.aborted:
            raise Aborted
        if self._expired:
            raise Expired
        return result

    def abort(self) -> None:
        """Abort the action that `run` is running."""
        self._control.abort()
        self._break()

    def finalize(self) -> None:
        """End the connection of a response that is no longer referenced. For finalizers: takes no lock."""
        self._closed.set()
        shutdown_socket(self._socket)

    def close(self) -> None:
        """Stop watching."""
        self._closed.set()
        self._socket = None

    def _watch(self) -> None:
        while True:
            deadline = self._control.deadline
            left = None if deadline is None else deadline - self._control.clock()
            if left is not None and left <= 0:
                began = self._began
                if began is not None and self._control.clock() - began >= LATE_GRACE:
                    self._expired = True
                    self._break()
                    return
                left = LATE_POLL
            if self._closed.wait(POLL if left is None else min(left, POLL)):
                return

    def _break(self) -> None:
        broken = self._socket
        if broken is None:
            return
        shutdown_socket(broken)
        try:
            # Data that a flood left in the kernel would keep the reader busy for seconds. (Raw bytes, even under TLS.)
            for _ in range(UNREAD // (1 << 20)):
                if not socket.socket.recv(broken, 1 << 20):
                    break
        except OSError as error:
            raise_interrupt(error)

