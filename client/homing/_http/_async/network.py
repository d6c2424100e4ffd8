"""Sockets for async tasks, on asyncio and trio. The twin for threads has the same names and is also written by hand."""

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
    """Return the `AsyncBodyStream` of ``library``, httpx or httpx2: each accepts only its own."""
    kind: type[AsyncBodyStream] = library.AsyncByteStream
    return kind


breathe = anyio.lowlevel.checkpoint
"""Lets other tasks run when a flood of data would keep this one busy. A cancellation takes effect here."""


class AsyncWaiter:
    """Wakes one task, which may wait only once."""

    def __init__(self) -> None:
        self._event = anyio.Event()
        self.set = on_this_run(self._event.set)

    async def wait(self, timeout: float | None) -> bool:
        """Wait until set. Return False on timeout."""
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
    """Open a connection to the first of the host's addresses, tried in order, that accepts one.

    Raises `httpcore.ConnectTimeout`, `httpcore.ConnectError` and `Aborted`.
    """
    opener = connect_asyncio if running_trio() is None else connect_trio
    with anyio.CancelScope() as scope:
        control.attach(on_this_run(scope.cancel))
        try:
            return await opener(host, port, ssl_context, server_hostname, timeout)
        except (TimeoutError, asyncio.TimeoutError) as error:
            raise httpcore.ConnectTimeout(str(error)) from error
        except OSError as error:  # includes ssl.SSLError and socket.gaierror
            raise httpcore.ConnectError(str(error)) from error
        finally:
            control.detach()
    raise Aborted
