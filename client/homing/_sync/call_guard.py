"""Deadlines and cancellation for a user's own httpx client. The twin for tasks is written by hand too."""

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
"""Seconds after which the watchdog looks whether the deadline has moved nearer."""


UNREAD = 64 << 20
"""Bytes that are thrown away of a connection that is broken off: several times what systems buffer."""


LATE_POLL = 0.05
"""Seconds after which it looks again whether somebody waits for a server whose time is over."""


class CallGuard:
    """Time limits and cancellation for connections that do not watch a `RequestControl` themselves: those of a
    user's own ``http_client``, and httpx's for what our transport does not cover.

    A thread in a blocking read cannot be cancelled. One watchdog thread for each guarded stream
    breaks the connection under it when the deadline, which moves with every chunk, has passed.
    """

    def __init__(self, control: RequestControl) -> None:
        self._control = control
        self._socket: socket.socket | None = None
        self._expired = False
        self._closed = WakeEvent()  # not an Event: an interrupt can leave that locked, and the watchdog waiting
        self._began: float | None = None
        """When what `run` is doing has begun; None while it does nothing, and nobody waits for the server."""
        self._watchdog: threading.Thread | None = None

    def attach(self, response: httpx.Response) -> None:
        """Learn which connection it is."""
        self._attach(response.extensions.get("network_stream"))

    @property
    def extensions(self) -> dict[str, Any]:
        """What a request needs for it."""
        return {"trace": self._trace}

    def _trace(self, event: str, info: Mapping[str, Any]) -> None:
        # A new connection, known before its first answer, whose head may never end. (httpcore tells it.)
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            self._attach(info["return_value"])

    def _attach(self, stream: Any) -> None:
        self._socket = stream.get_extra_info("socket") if stream is not None else None
        if self._socket is not None and self._watchdog is None:
            self._watchdog = threading.Thread(target=self._watch, name="homing-watchdog", daemon=True)
            self._watchdog.start()

    def run(self, action: Callable[[], T]) -> T:
        """Do ``action``; raise `Expired` at the call's deadline, `Aborted` after `abort`."""
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
        """Break off what `run` is doing."""
        self._control.abort()
        self._break()

    def finalize(self) -> None:
        """End the connection of a response that nobody refers to any more. For finalizers: takes no lock."""
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
            # What a flood has left in the kernel would keep the reader busy for seconds. (Plain, also under TLS.)
            for _ in range(UNREAD // (1 << 20)):
                if not socket.socket.recv(broken, 1 << 20):
                    break
        except OSError as error:
            raise_interrupt(error)

