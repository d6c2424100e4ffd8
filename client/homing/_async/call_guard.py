"""Deadlines and cancellation for a user's own httpx client. The twin for threads is also written by hand."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio
import httpx

from .._concurrency.event_loop import on_this_run
from .._http.request_control import Aborted, Expired, RequestControl, shutdown_socket, socket_of
from ..core.retry.timers import LATE_GRACE

T = TypeVar("T")


class CallGuard:
    """Time limits and cancellation for connections that don't watch a `RequestControl` themselves.

    These are the connections of a user's own ``http_client``, and of httpx's own client, which is used where our
    transport doesn't apply.
    """

    def __init__(self, control: RequestControl) -> None:
        self._control = control
        self._cancel: Callable[[], None] | None = None
        self._socket: socket.socket | None = None

    @property
    def extensions(self) -> dict[str, Any]:
        """Extensions that a request needs. (None here; the twin needs one to learn of connections.)"""
        return {}

    def attach(self, response: httpx.Response) -> None:
        """Remember the response's connection."""
        self._socket = socket_of(response)

    async def run(self, action: Callable[[], Awaitable[T]]) -> T:
        """Run ``action``. Raises `Expired` at the call's deadline, and `Aborted` after `abort`."""
        deadline = self._control.deadline
        with anyio.CancelScope() as scope:
            if deadline is not None:
                scope.deadline = anyio.current_time() + max(LATE_GRACE, deadline - self._control.clock())
            self._cancel = on_this_run(scope.cancel)  # first: another thread may abort right now
            try:
                if self._control.aborted:
                    raise Aborted
                return await action()
            finally:
                self._cancel = None
        if self._control.aborted:
            raise Aborted
        raise Expired

    def abort(self) -> None:
        """Abort the action that `run` is running, from any thread or task."""
        self._control.abort()
        cancel = self._cancel
        if cancel is not None:
            cancel()

    def finalize(self) -> None:
        """End the connection of a response that is no longer referenced. For finalizers: takes no lock."""
        shutdown_socket(self._socket)

    def close(self) -> None:
        """Stop watching."""
        self._socket = None
