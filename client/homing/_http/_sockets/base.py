"""What a socket for tasks can do, and where it lives.

Errors are httpcore's, so that its HTTP/1.1 connection treats them as its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from ...core.process.fork import renew_after_fork


class AsyncSocket(ABC):
    """A connected byte stream, TLS included. Timeouts in seconds, None for no limit."""

    def __init__(self) -> None:
        renew_after_fork(self)

    def _after_fork(self) -> None:
        self.drop()

    @abstractmethod
    async def recv(self, timeout: float | None) -> bytes:
        """Return what has come, waiting for it if nothing has; ``b""`` at the end of the connection.

        Raises `httpcore.ReadTimeout`, `httpcore.ReadError`.
        """

    @abstractmethod
    async def send(self, data: bytes, timeout: float | None) -> None:
        """Hand ``data`` to the network. Raises `httpcore.WriteTimeout`, `httpcore.WriteError`."""

    @abstractmethod
    def abort(self) -> None:
        """End the connection, and with it whatever blocks on it. From any thread."""

    @abstractmethod
    def close(self) -> None:
        """Close at once, with no word to the other side."""

    @abstractmethod
    async def closed(self) -> None:
        """Wait until the file descriptor is free, after `close`."""

    @abstractmethod
    def drop(self) -> None:
        """Free the file descriptor of a connection whose event loop is no more, or another process's.

        Touches nothing but the descriptor: after a fork the loop and its selector are the parent's too.
        """

    @abstractmethod
    def finalize(self) -> None:
        """End the connection that nobody refers to any more. For finalizers: in any thread, takes no lock."""

    @abstractmethod
    def is_readable(self) -> bool:
        """Tell whether `recv` would return at once. On an idle connection that means: it is of no use."""

    @abstractmethod
    def get_extra_info(self, info: str) -> Any:
        """As in httpcore: ``socket``, ``ssl_object``, ``client_addr``, ``server_addr``, ``is_readable``."""
