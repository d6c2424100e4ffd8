"""Sockets for trio tasks, on httpcore's own stream."""

from __future__ import annotations

import os
import ssl
from typing import Any, cast

import anyio
import httpcore

from ..._concurrency.event_loop import soon_on_this_run
from ...core.retry.timers import LATE_GRACE
from ..policy import READ_SIZE, SOCKET_OPTIONS
from ..request_control import shutdown_socket
from .base import AsyncSocket


async def connect(
    host: str, port: int, context: ssl.SSLContext | None, server_hostname: str | None, timeout: float | None
) -> AsyncSocket:
    backend = cast(httpcore.AsyncNetworkBackend, httpcore.TrioBackend())
    with anyio.fail_after(timeout):
        stream = await backend.connect_tcp(host, port, socket_options=SOCKET_OPTIONS)
        if context is not None:
            raw = stream.get_extra_info("socket")
            try:
                stream = await stream.start_tls(context, server_hostname)
            except BaseException as error:
                raw.close()
                if isinstance(error, httpcore.ConnectError):
                    raise httpcore.ConnectError(_reason(error)) from error
                raise
        return TrioSocket(stream)
    raise AssertionError("unreachable: the scope raises")


def _reason(error: BaseException) -> str:
    """Return what went wrong: trio's own error has no message, but OpenSSL's, its cause, does."""
    while not str(error) and error.__cause__ is not None:
        error = error.__cause__
    return str(error)


class TrioSocket(AsyncSocket):
    """httpcore's stream for trio."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        super().__init__()
        self._stream = stream
        self._raw = stream.get_extra_info("socket")
        self._close_soon = soon_on_this_run(self._raw.close)

    async def recv(self, timeout: float | None) -> bytes:
        if timeout is not None and timeout < LATE_GRACE:
            timeout = LATE_GRACE
        return await self._stream.read(READ_SIZE, timeout)

    async def send(self, data: bytes, timeout: float | None) -> None:
        await self._stream.write(data, timeout)

    def abort(self) -> None:
        shutdown_socket(self._raw)

    def close(self) -> None:
        self._raw.close()

    async def closed(self) -> None:
        """Return at once: trio closes immediately."""

    def drop(self) -> None:
        descriptor = self._raw.detach()  # its close() would notify trio
        if descriptor >= 0:
            os.close(descriptor)

    def finalize(self) -> None:
        if self._raw.fileno() < 0:
            return
        shutdown_socket(self._raw)
        self._close_soon()

    def is_readable(self) -> bool:
        return bool(self._stream.get_extra_info("is_readable"))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
