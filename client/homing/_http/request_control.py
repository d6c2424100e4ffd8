"""The state that one running HTTP exchange shares with the code above it.

httpx's timeouts are fixed before a request, and any byte resets them. A streamed reply has
limits that move with every chunk, and its caller may leave at any moment, from any thread.
"""

from __future__ import annotations

import math
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx

from ..core.process.fork import renew_after_fork
from ..core.process.interrupts import raise_interrupt

EXTENSION = "homing.call"
"""Key of the `RequestControl` in ``httpx.Request.extensions``."""


class Aborted(httpx.TransportError):
    """`RequestControl.abort` ended the exchange."""

    def __init__(self, message: str = "the call was aborted") -> None:
        super().__init__(message)


class Expired(Exception):
    """A deadline that this package watches has passed. Not `TimeoutError`, which signal handlers raise too."""


def socket_of(response: httpx.Response) -> socket.socket | None:
    """Return the socket that ``response`` arrives on, None if its transport doesn't expose it."""
    stream = response.extensions.get("network_stream")
    found: socket.socket | None = stream.get_extra_info("socket") if stream is not None else None
    return found


def shutdown_socket(connected: Any) -> None:
    """End a connection, from any thread or a finalizer. A pending read then finds it closed."""
    if connected is None:
        return
    try:
        if isinstance(connected, socket.socket):
            # The plain method, even under TLS: ssl's own would destroy state that the reader is using.
            socket.socket.shutdown(connected, socket.SHUT_RDWR)
        else:  # an event loop's wrapper
            connected.shutdown(socket.SHUT_RDWR)
    except OSError as error:  # already ended
        raise_interrupt(error)


class RequestControl:
    """Controls one exchange from both sides of the transport.

    Put it into ``request.extensions["homing.call"]``; without one, the transport makes its own.
    It serves one request at a time and may be reused for the next attempt.

    ``deadline`` (``clock`` time, None or infinite for no limit) is checked before every operation
    that would block, so moving it costs one store. Once it has passed, a read raises
    `httpx.ReadTimeout`; a write or a connect raises its own timeout. Body bytes that have already
    arrived are still delivered: a slow consumer is not the server's fault. The reader decides how
    many (`homing.core.retry.timers.LATE_BYTES`). For reads, the deadline replaces httpx's
    ``timeout``, whose connect, write and pool limits still apply.

    ``sent_at`` and ``first_byte_at`` (``clock`` time) are when the whole request had been handed to
    the network, and when the first byte of a response came; None until then.
    """

    __slots__ = ("__weakref__", "_breaker", "_lock", "aborted", "clock", "deadline", "first_byte_at", "sent_at")

    def __init__(self, *, deadline: float | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.deadline = deadline
        self.clock = clock
        self.sent_at: float | None = None
        self.first_byte_at: float | None = None
        self.aborted = False
        self._breaker: Callable[[], None] | None = None
        self._lock = threading.RLock()  # a signal handler may abort the call while this thread holds it
        renew_after_fork(self)

    def _after_fork(self) -> None:
        self._lock = threading.RLock()
        self._breaker = None
        self.aborted = True  # in the child; the parent continues the exchange

    def abort(self) -> None:
        """Interrupt any blocked operation, from any thread or task. Everything after that raises `Aborted`.

        The connection is closed, which is how an engine learns to stop generating.
        """
        # Under the lock, so that the breaker never reaches a socket that has meanwhile been
        # closed (its number may have been reused) or serves the next request.
        with self._lock:
            self.aborted = True
            if self._breaker is not None:
                self._breaker()

    def attach(self, breaker: Callable[[], None]) -> None:
        """For transports: register ``breaker``, which ends the operation about to block. It must not block.

        Raises `Aborted` if the exchange has already been aborted.
        """
        with self._lock:
            self._breaker = breaker
            if self.aborted:
                self._breaker = None
                raise Aborted

    def detach(self) -> None:
        """For transports: forget the breaker. Once this returns, it isn't running and never will."""
        with self._lock:
            self._breaker = None

    def allowance(self, timeout: float | None) -> float | None:
        """Return the seconds that the next operation may block: ``timeout`` or the time left, if less."""
        if self.deadline is None or self.deadline == math.inf:
            return timeout
        left = self.deadline - self.clock()
        if timeout is not None and timeout < left:
            return timeout
        return max(0.0, left)

    def is_late(self) -> bool:
        """Return whether the deadline has passed."""
        return self.deadline is not None and self.clock() >= self.deadline

    def restart(self) -> None:
        """For transports: forget the measurements of an earlier attempt."""
        self.sent_at = None
        self.first_byte_at = None

    def __repr__(self) -> str:
        return f"<Call deadline={self.deadline} sent_at={self.sent_at} aborted={self.aborted}>"
