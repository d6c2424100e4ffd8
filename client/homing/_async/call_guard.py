"""Deadlines and cancellation for a user's own httpx client. The twin for threads is written by hand too."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio
import httpx

from .._http.request_control import Aborted, Expired, RequestControl, shutdown_socket, socket_of
from ..core.retry.timers import LATE_GRACE

T = TypeVar("T")


class CallGuard:
    """Time limits and cancellation for connections that do not watch a `RequestControl` themselves: those of a
    user's own ``http_client``, and httpx's for what our transport does not cover."""

    def __init__(self, control: RequestControl) -> None:
        self._control = control
        self._scope: anyio.CancelScope | None = None
        self._socket: socket.socket | None = None

    @property
    def extensions(self) -> dict[str, Any]:
        """What a request needs for it. (Nothing; the twin has to be told of connections.)"""
        return {}

    def attach(self, response: httpx.Response) -> None:
        """Learn which connection it is."""
        self._socket = socket_of(response)

    async def run(self, action: Callable[[], Awaitable[T]]) -> T:
        """Do ``action``; raise `Expired` at the call's deadline, `Aborted` after `abort`."""
        if self._control.aborted:
            raise Aborted
        deadline = self._control.deadline
        with anyio.CancelScope() as scope:
            if deadline is not None:
                scope.deadline = anyio.current_time() + max(LATE_GRACE, deadline - self._control.clock())
            self._scope = scope
            try:
                return await action()
            finally:
                self._scope = None
        if self._control.aborted:
            raise Aborted
        raise Expired

    def abort(self) -> None:
        """Break off what `run` is doing."""
        self._control.abort()
        if self._scope is not None:
            self._scope.cancel()

    def finalize(self) -> None:
        """End the connection of a response that nobody refers to any more. For finalizers: takes no lock."""
        shutdown_socket(self._socket)

    def close(self) -> None:
        """Stop watching."""
        self._socket = None
