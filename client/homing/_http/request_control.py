"""What one HTTP exchange and the code above it tell each other while it runs.

httpx's timeouts are fixed before a request and count any byte as life. A streamed reply has
limits that move with every chunk, and a caller who may leave at any moment, from any thread.
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
    """The exchange was broken off by `RequestControl.abort`."""

    def __init__(self, message: str = "the call was aborted") -> None:
        super().__init__(message)


class Expired(Exception):
    """A deadline that this package watches has passed. Not `TimeoutError`, which signal handlers raise too."""


def socket_of(response: httpx.Response) -> socket.socket | None:
    """Return the socket that ``response`` comes over, None where its transport does not tell."""
    stream = response.extensions.get("network_stream")
    found: socket.socket | None = stream.get_extra_info("socket") if stream is not None else None
    return found


def shutdown_socket(connected: Any) -> None:
    """End a connection, from any thread and also from a finalizer: whoever reads from it finds it ended."""
    if connected is None:
        return
    try:
        if isinstance(connected, socket.socket):
            # The plain method also under TLS: ssl's own would tear its state from under the reader.
            socket.socket.shutdown(connected, socket.SHUT_RDWR)
        else:  # an event loop's view of one
            connected.shutdown(socket.SHUT_RDWR)
    except OSError as error:  # ended already
        raise_interrupt(error)


class RequestControl:
    """One exchange, seen from both sides of the transport.

    Put it into ``request.extensions["homing.call"]``; the transport makes its own without one.
    It serves one request at a time and may be used again for the next attempt.

    ``deadline`` (``clock`` time, None or infinite for no limit) is looked at before every
    operation that would block, so moving it costs one store. When it has passed, a read raises
    `httpx.ReadTimeout`, a write or a connect theirs. Bytes of a body that have already arrived are
    delivered even then: a slow consumer is no fault of the server. How much that may be is for the
    reader to say (`homing.core.retry.timers.LATE_BYTES`). For reads it takes the place of httpx's
    ``timeout``, of which connect, write and pool hold besides it.

    ``sent_at`` and ``first_byte_at`` (``clock`` time) are when the request had been handed to
    the network as a whole, and when the first byte of an answer came; None until then.
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
        self.aborted = True  # here; the parent goes on with it

    def abort(self) -> None:
        """Break off whatever blocks, from any thread or task; everything after raises `Aborted`.

        The connection is closed, which is how an engine learns to stop generating.
        """
        # Under the lock, so that the breaker never reaches a socket that has meanwhile been
        # closed (its number may be another's by now) or serves the next request.
        with self._lock:
            self.aborted = True
            if self._breaker is not None:
                self._breaker()

    def attach(self, breaker: Callable[[], None]) -> None:
        """For transports: ``breaker`` ends the operation that is about to block. It must not block.

        Raises `Aborted` when it is too late for that.
        """
        with self._lock:
            self._breaker = breaker
            if self.aborted:
                self._breaker = None
                raise Aborted

    def detach(self) -> None:
        """For transports: forget the breaker. Once this returns it is not running, nor will it."""
        with self._lock:
            self._breaker = None

    def allowance(self, timeout: float | None) -> float | None:
        """Return the seconds the next operation may block: ``timeout`` or the time left, if that is less."""
        if self.deadline is None or self.deadline == math.inf:
            return timeout
        left = self.deadline - self.clock()
        if timeout is not None and timeout < left:
            return timeout
        return max(0.0, left)

    def is_late(self) -> bool:
        """Tell whether the deadline has passed."""
        return self.deadline is not None and self.clock() >= self.deadline

    def restart(self) -> None:
        """For transports: forget what an earlier attempt has measured."""
        self.sent_at = None
        self.first_byte_at = None

    def __repr__(self) -> str:
        return f"<Call deadline={self.deadline} sent_at={self.sent_at} aborted={self.aborted}>"
