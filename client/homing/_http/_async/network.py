"""Sockets for tasks, on asyncio and on trio. Its twin for threads has the same names and is written
by hand too.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import anyio
import anyio.lowlevel
import httpcore
import httpx

from ..._concurrency.event_loop import current_run, is_over, on_this_run, running_trio
from .._sockets.asyncio import connect as connect_asyncio
from .._sockets.base import AsyncSocket
from .._sockets.trio import connect as connect_trio
from ..request_control import Aborted, RequestControl

__all__ = [
    "AsyncBodyStream",
    "AsyncSocket",
    "AsyncWaiter",
    "body_stream_of",
    "breathe",
    "connect",
    "current_run",
    "is_over",
]

AsyncBodyStream = httpx.AsyncByteStream


def body_stream_of(library: Any) -> type[AsyncBodyStream]:
    """Return `AsyncBodyStream` of ``library``, httpx or httpx2: each takes its own only."""
    kind: type[AsyncBodyStream] = library.AsyncByteStream
    return kind


breathe = anyio.lowlevel.checkpoint
"""Lets other tasks run, where a flood would keep this one busy; cancellation strikes there."""


class AsyncWaiter:
    """Wakes one task, which waits once."""

    def __init__(self) -> None:
        self._event = anyio.Event()
        self.set = on_this_run(self._event.set)

    async def wait(self, timeout: float | None) -> bool:
        """Wait until set, and return whether it was in time."""
        with anyio.move_on_after(timeout):
            await self._event.wait()
        return self._event.is_set()


async def connect(
    host: str,
    port: int,
    *,
    ssl_context: ssl.SSLContext | None,
    server_hostname: str | None,
    timeout: float | None,
    control: RequestControl,
) -> AsyncSocket:
    """Open a connection, over whichever of the host's addresses answers first in their order.

    Raises `httpcore.ConnectTimeout`, `httpcore.ConnectError`, and `Aborted`.
    """
    opener = connect_asyncio if running_trio() is None else connect_trio
    with anyio.CancelScope() as scope:
        control.attach(on_this_run(scope.cancel))
        try:
            return await opener(host, port, ssl_context, server_hostname, timeout)
        except (TimeoutError, asyncio.TimeoutError) as error:
            raise httpcore.ConnectTimeout(str(error)) from error
        except OSError as error:  # ssl.SSLError and socket.gaierror are
            raise httpcore.ConnectError(str(error)) from error
        finally:
            control.detach()
    raise Aborted
