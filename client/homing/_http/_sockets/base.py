"""The interface of sockets for async tasks.

Errors are httpcore's, which the transport translates into httpx's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from ...core.process.fork import renew_after_fork


class AsyncSocket(ABC):
    """A connected byte stream, including TLS. Timeouts are in seconds, None for no limit."""

    def __init__(self) -> None:
        renew_after_fork(self)

    def _after_fork(self) -> None:
        self.drop()

    @abstractmethod
    async def recv(self, timeout: float | None) -> bytes:
        """Return what has arrived, waiting for data if necessary; ``b""`` at the end of the connection.

        Raises `httpcore.ReadTimeout` and `httpcore.ReadError`.
        """

    @abstractmethod
    async def send(self, data: bytes, timeout: float | None) -> None:
        """Hand ``data`` to the network. Raises `httpcore.WriteTimeout` and `httpcore.WriteError`."""

    @abstractmethod
    def abort(self) -> None:
        """End the connection and wake whatever blocks on it. Any thread may call this."""

    @abstractmethod
    def close(self) -> None:
        """Close at once, without notifying the peer."""

    @abstractmethod
    async def closed(self) -> None:
        """Wait until the file descriptor is free after `close`."""

    @abstractmethod
    def drop(self) -> None:
        """Free the file descriptor of a connection whose event loop has ended or which belongs to another process.

        Touches only the descriptor: after a fork, the loop and its selector are shared with the parent.
        """

    @abstractmethod
    def finalize(self) -> None:
        """End a connection that is no longer referenced. For finalizers: works in any thread and takes no lock."""

    @abstractmethod
    def is_readable(self) -> bool:
        """Return whether `recv` would return at once. If so, an idle connection is unusable."""

    @abstractmethod
    def get_extra_info(self, info: str) -> Any:
        """Return ``socket``, ``ssl_object``, ``client_addr``, ``server_addr`` or ``is_readable``, as in httpcore."""
