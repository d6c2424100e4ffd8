"""Sockets for threads. The twin for async tasks has the same names and is also written by hand.

The sockets are non-blocking: one system call takes whatever has arrived. Only if nothing has does
the thread wait, in ``poll``, where `Socket.abort` can interrupt it from another thread.
Errors are httpcore's, which the transport translates into httpx's.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any

import httpcore
import httpx

from ..request_control import Aborted, RequestControl, shutdown_socket
from ...core.process.interrupts import raise_interrupt
from ...core.process.fork import renew_after_fork
from ..policy import READ_SIZE, SOCKET_OPTIONS, numeric

BodyStream = httpx.SyncByteStream


def body_stream_of(library: Any) -> type[BodyStream]:
    """Return the `BodyStream` of ``library``, httpx or httpx2: each accepts only its own."""
    kind: type[BodyStream] = library.SyncByteStream
    return kind


_IN_PROGRESS = {errno.EINPROGRESS, errno.EWOULDBLOCK, getattr(errno, "WSAEWOULDBLOCK", errno.EWOULDBLOCK)}


def breathe() -> None:
    """Do nothing: other threads run anyway."""


class Waiter:
    """Wakes one thread, which may wait only once."""

    def __init__(self) -> None:
        # Not an Event: a thread interrupted while waiting for one may leave it locked, and so block the waker.
        self._unset = threading.Lock()
        self._unset.acquire()

    def set(self) -> None:
        """Wake the waiter."""
        try:
            self._unset.release()
        except RuntimeError as error:  # set already
            raise_interrupt(error)

    def wait(self, timeout: float | None) -> bool:
        """Wait until set. Return False on timeout."""
        return self._unset.acquire(timeout=-1 if timeout is None else min(timeout, threading.TIMEOUT_MAX))


def current_run() -> object:
    """Return what connections made here are bound to: nothing, because any thread may use them."""
    return None


def is_over(run: object) -> bool:
    """Return whether ``run`` has ended for good: never, because only event loops end."""
    return False


class Socket:
    """A connected byte stream, including TLS. Timeouts are in seconds, None for no limit."""

    def __init__(self, raw: socket.socket) -> None:
        self._raw = raw
        # Under TLS, data may already be in the library's buffer, where no wait would notice it.
        self._plain = not isinstance(raw, ssl.SSLSocket)
        self._arrives = _reading(raw)
        self._empty = False
        """Whether probably nothing has arrived. Then `recv` waits first, which saves a system call."""
        renew_after_fork(self)

    def _after_fork(self) -> None:
        self.drop()

    def recv(self, timeout: float | None) -> bytes:
        """Return what has arrived, waiting for data if necessary; ``b""`` at the end of the connection.

        Raises `httpcore.ReadTimeout` and `httpcore.ReadError`.
        """
        raw = self._raw
        deadline = None
        writing = False
        try:
            while True:
                if not self._empty:
                    try:
                        data = raw.recv(READ_SIZE)
                        self._empty = self._plain and len(data) < READ_SIZE
                        return data
                    except (BlockingIOError, ssl.SSLWantReadError):
                        writing = False
                    except ssl.SSLWantWriteError:
                        writing = True
                self._empty = False
                if timeout is not None:
                    if deadline is None:
                        deadline = time.monotonic() + timeout
                    else:  # TLS may need several rounds for one byte of content, and some rounds bring none
                        timeout = deadline - time.monotonic()
                        if timeout <= 0:
                            raise httpcore.ReadTimeout
                if not (_wait(raw, timeout, writing=True) if writing else self._arrives(timeout)):
                    raise httpcore.ReadTimeout
        except (OSError, ValueError) as error:  # ValueError: closed meanwhile, so there is nothing to wait for
            raise_interrupt(error)
            raise httpcore.ReadError(str(error)) from error

    def send(self, data: bytes, timeout: float | None) -> None:
        """Hand ``data`` to the network. Raises `httpcore.WriteTimeout` and `httpcore.WriteError`.

        As in httpcore, the timeout applies to each step, not to a large body as a whole.
        """
        raw = self._raw
        self._empty = self._plain
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[raw.send(rest) :]
                continue
            except (BlockingIOError, ssl.SSLWantWriteError):
                writing = True
            except ssl.SSLWantReadError:
                writing = False
            except OSError as error:
                raise_interrupt(error)
                raise httpcore.WriteError(str(error)) from error
            if not _wait(raw, timeout, writing=writing):
                raise httpcore.WriteTimeout

    def abort(self) -> None:
        """End the connection and wake whatever blocks on it. Any thread may call this."""
        shutdown_socket(self._raw)

    def close(self) -> None:
        """Close at once, without notifying the peer."""
        self._empty = False  # else a reader would wait for a descriptor that may have been reused by then
        self._raw.close()

    def closed(self) -> None:
        """Wait until the file descriptor is free after `close`. (It already is.)"""

    def drop(self) -> None:
        """Free the file descriptor of a connection that belongs to another process."""
        self._raw.close()

    def finalize(self) -> None:
        """End a connection that is no longer referenced. For finalizers: works in any thread and takes no lock."""
        shutdown_socket(self._raw)
        self._raw.close()

    def is_readable(self) -> bool:
        """Return whether `recv` would return at once. If so, an idle connection is unusable."""
        return self._raw.fileno() < 0 or self._arrives(0.0)

    def get_extra_info(self, info: str) -> Any:
        """Return ``socket``, ``ssl_object``, ``client_addr``, ``server_addr`` or ``is_readable``, as in httpcore."""
        raw = self._raw
        if info == "socket":
            return raw
        if info == "ssl_object":
            return raw if isinstance(raw, ssl.SSLSocket) else None
        if info == "client_addr":
            return raw.getsockname()
        if info == "server_addr":
            return raw.getpeername()
        return self.is_readable() if info == "is_readable" else None


def connect(
    host: str,
    port: int,
    *,
    ssl_context: ssl.SSLContext | None,
    server_hostname: str | None,
    timeout: float | None,
    control: RequestControl,
) -> Socket:
    """Open a connection to the first of the host's addresses, tried in order, that accepts one.

    Raises `httpcore.ConnectTimeout`, `httpcore.ConnectError` and `Aborted`. An abort takes effect
    at once, except during a name lookup, which nothing can interrupt.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    try:
        addresses = numeric(host, port) or socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        raw = _connect_first(addresses, deadline, control)
        try:
            if ssl_context is not None:
                raw = _start_tls(raw, ssl_context, server_hostname, deadline, control)
        except BaseException:
            raw.close()
            raise
        return Socket(raw)
    except TimeoutError as error:
        raise_interrupt(error)
        raise httpcore.ConnectTimeout(str(error)) from error
    except OSError as error:  # includes ssl.SSLError and socket.gaierror
        raise_interrupt(error)
        raise httpcore.ConnectError(str(error)) from error


def _connect_first(addresses: list[Any], deadline: float | None, control: RequestControl) -> socket.socket:
    todo = list(addresses)
    failure: OSError = OSError("the name has no address")
    while todo:
        # An unresponsive address must leave time for the next: dead IPv6 routes are common.
        share = None if deadline is None else (deadline - time.monotonic()) / len(todo)
        family, kind, protocol, _, address = todo.pop(0)
        candidate = socket.socket(family, kind, protocol)
        try:
            candidate.setblocking(False)
            for option in SOCKET_OPTIONS:
                candidate.setsockopt(*option)
            status = candidate.connect_ex(address)
            if status in _IN_PROGRESS:
                # Linux wakes the waiter when a connecting socket is shut down. Elsewhere the abort
                # only takes effect when the connect ends, by its timeout at the latest.
                with _breakable(Socket(candidate), control):
                    if not _wait(candidate, share, writing=True):
                        raise TimeoutError("timed out")
                status = candidate.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if status:
                raise OSError(status, os.strerror(status))
            return candidate
        except OSError as error:  # includes TimeoutError
            candidate.close()
            raise_interrupt(error)
            failure = error
        except BaseException:
            candidate.close()
            raise
    raise failure


def _start_tls(
    raw: socket.socket,
    context: ssl.SSLContext,
    server_hostname: str | None,
    deadline: float | None,
    control: RequestControl,
) -> ssl.SSLSocket:
    wrapped = context.wrap_socket(raw, server_hostname=server_hostname, do_handshake_on_connect=False)
    try:
        with _breakable(Socket(wrapped), control):
            while True:
                try:
                    wrapped.do_handshake()
                    return wrapped
                except ssl.SSLWantReadError:
                    writing = False
                except ssl.SSLWantWriteError:
                    writing = True
                left = None if deadline is None else deadline - time.monotonic()
                if (left is not None and left <= 0) or not _wait(wrapped, left, writing=writing):
                    raise TimeoutError("the TLS handshake timed out")
    except BaseException:
        wrapped.close()
        raise


@contextlib.contextmanager
def _breakable(stream: Socket, control: RequestControl) -> Any:
    control.attach(stream.abort)
    try:
        yield
    except OSError:
        if control.aborted:
            raise Aborted from None
        raise
    finally:
        control.detach()
    if control.aborted:
        raise Aborted


def _reading_with_poll(raw: socket.socket) -> Callable[[float | None], bool]:
    poll = select.poll()
    poll.register(raw, select.POLLIN)
    return lambda timeout: bool(poll.poll(None if timeout is None else max(0.0, timeout * 1000)))


def _reading_with_select(raw: socket.socket) -> Callable[[float | None], bool]:
    return lambda timeout: _wait_with_select(raw, timeout, writing=False)


def _wait_with_poll(raw: socket.socket, timeout: float | None, *, writing: bool) -> bool:
    poll = select.poll()
    poll.register(raw, select.POLLOUT if writing else select.POLLIN)
    # In milliseconds; a negative number would mean no limit.
    return bool(poll.poll(None if timeout is None else max(0.0, timeout * 1000)))


def _wait_with_select(raw: socket.socket, timeout: float | None, *, writing: bool) -> bool:
    # On Windows, a failed connect is reported as an exceptional condition, not as writable.
    waiting = [raw]
    ready = select.select([] if writing else waiting, waiting if writing else [], waiting, timeout)
    return any(ready)


# select() can't watch descriptors above 1023, but Windows has nothing else.
_wait: Callable[..., bool] = _wait_with_poll if hasattr(select, "poll") else _wait_with_select
_reading = _reading_with_poll if hasattr(select, "poll") else _reading_with_select
"""Returns a function that waits until a socket is readable. Prepared once per socket, because it runs per token."""
