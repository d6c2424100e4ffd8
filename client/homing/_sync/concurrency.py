"""What threads wait on. Its twin for tasks has the same names and is written by hand too."""

from __future__ import annotations

import contextvars
import functools
import math
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

import httpx

from .._http.request_control import Aborted, RequestControl, Expired, shutdown_socket
from ..core.retry.timers import LATE_GRACE
from ..core.process.interrupts import DeferredSignals, raise_interrupt
from ..errors import ConfigurationError

if TYPE_CHECKING:
    from ..core.tools.run import ToolInvocation
    from ..core.tools.definitions import Tool
    from ..stores.base import Store

    AnyStore = Store
    """What a client takes as a ``store``."""

T = TypeVar("T")

POLL = 1.0
"""Seconds after which the watchdog looks whether the deadline has moved nearer."""

UNREAD = 64 << 20
"""Bytes that are thrown away of a connection that is broken off: several times what systems buffer."""

LATE_POLL = 0.05
"""Seconds after which it looks again whether somebody waits for a server whose time is over."""


class WakeEvent:
    """Wakes one waiting thread; may be rung before it waits, and any number of times."""

    def __init__(self) -> None:
        # A bare lock, which is free while the alarm is rung: an Event takes as long to make as a request to encode.
        self._silence = threading.Lock()
        self._silence.acquire()

    def set(self) -> None:
        """Wake the waiter, or the next one to come."""
        try:
            self._silence.release()
        except RuntimeError as error:  # rung already
            raise_interrupt(error)

    def wait(self, seconds: float) -> bool:
        """Wait until rung, at most ``seconds``; return whether it was rung."""
        return self._silence.acquire(timeout=seconds)


def current_runner() -> object:
    """Return what runs this code. Where two values are equal, waiting for the other would be a deadlock."""
    return threading.get_ident()


def is_this_thread(ident: int) -> bool:
    """Whether a thread waits for itself: what runs here is a signal handler, in the middle of what it would wait for."""
    return ident == threading.get_ident()


def shielded(action: Callable[[], T]) -> T:
    """Do ``action``. (Tasks need a shield against cancellation here; threads are not cancelled.)"""
    return action()


def run_to_completion(action: Callable[[], T]) -> T:
    """Carry ``action`` through whatever signals come; their handlers are called afterwards.

    Handlers run in the main thread only, between any two bytecodes. So while the action runs there, they are
    kept waiting.
    """
    if threading.current_thread() is not threading.main_thread():
        return action()
    deferral = DeferredSignals()
    try:
        deferral.begin()
        return action()
    finally:
        deferral.end()


def defer_signals(action: Callable[[], T]) -> T:
    """Do ``action`` as `run_to_completion` does. (Tasks have no need: what a handler raises there ends the event loop.)"""
    return run_to_completion(action)


def store_for_client(store: AnyStore) -> Store:
    """Return ``store``. Raises `ConfigurationError` for what is no store."""
    from ..stores.base import Store

    if not isinstance(store, Store):
        raise ConfigurationError(
            f"store={store!r} is no store: give a Store of homing.stores (an AsyncStore goes with AsyncClient)"
        )
    return store


class ToolRunner:
    """Runs the tools of a round at the same time, each within its own time limit.

    Each runs on a thread of its own, with the caller's context variables. A thread cannot be stopped: when its
    time is up it is left to itself, and what it returns goes nowhere.
    """

    def __init__(self, tools: Iterable[Tool] = ()) -> None:
        """Raises `ConfigurationError` for coroutine functions, which need an event loop."""
        for tool in tools:
            if tool.is_async:
                raise ConfigurationError(
                    f"the tool {tool.name} is an async function: give it to AsyncClient, or make it a plain one"
                )
        self._news: SimpleQueue[tuple[ToolInvocation, object, BaseException | None] | None] = SimpleQueue()
        self._stopped = False

    def work(self, jobs: Sequence[ToolInvocation], *, at_once: int) -> None:
        """Run ``jobs``, at most ``at_once`` of them at a time; after `stop` some are left without a result."""
        waiting = deque(jobs)
        began: dict[ToolInvocation, float] = {}
        while (waiting or began) and not self._stopped:
            while waiting and len(began) < at_once:
                job = waiting.popleft()
                began[job] = time.monotonic()
                run = functools.partial(contextvars.copy_context().run, self._do, job)
                threading.Thread(target=run, name=f"homing-tool-{job.name}", daemon=True).start()
            ends = {job: start + job.timeout for job, start in began.items() if job.timeout is not None}
            try:
                news = self._news.get(timeout=max(0.0, min(ends.values()) - time.monotonic()) if ends else None)
            except Empty:
                news = None
            if news is not None and news[0] in began:
                job, value, error = news
                seconds = time.monotonic() - began.pop(job)
                if error is None:
                    job.succeed(value, seconds)
                else:
                    job.fail(error, seconds)
            now = time.monotonic()
            for job in [job for job in began if now >= ends.get(job, math.inf)]:
                del began[job]
                job.expire()

    def stop(self) -> None:
        """Let `work` return at once, from any thread."""
        self._stopped = True
        self._news.put(None)

    def _do(self, job: ToolInvocation) -> None:
        assert job.tool is not None, "only what has a function is run"
        try:
            value = job.tool.function(**job.arguments)
        except BaseException as error:  # noqa: BLE001 - handed to the waiting thread
            self._news.put((job, None, error))
        else:
            self._news.put((job, value, None))


class CallGuard:
    """Time limits and cancellation for connections that do not watch a `RequestControl` themselves: those of a
    user's own ``http_client``, and httpx's for what our transport does not cover.

    A thread in a blocking read cannot be cancelled. One watchdog thread for each guarded stream
    breaks the connection under it when the deadline, which moves with every chunk, has passed.
    """

    def __init__(self, control: RequestControl) -> None:
        self._control = control
        self._socket: socket.socket | None = None
        self._expired = False
        self._closed = WakeEvent()  # not an Event: an interrupt can leave that locked, and the watchdog waiting
        self._began: float | None = None
        """When what `run` is doing has begun; None while it does nothing, and nobody waits for the server."""
        self._watchdog: threading.Thread | None = None

    def attach(self, response: httpx.Response) -> None:
        """Learn which connection it is."""
        self._attach(response.extensions.get("network_stream"))

    @property
    def extensions(self) -> dict[str, Any]:
        """What a request needs for it."""
        return {"trace": self._trace}

    def _trace(self, event: str, info: Mapping[str, Any]) -> None:
        # A new connection, known before its first answer, whose head may never end. (httpcore tells it.)
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            self._attach(info["return_value"])

    def _attach(self, stream: Any) -> None:
        self._socket = stream.get_extra_info("socket") if stream is not None else None
        if self._socket is not None and self._watchdog is None:
            self._watchdog = threading.Thread(target=self._watch, name="homing-watchdog", daemon=True)
            self._watchdog.start()

    def run(self, action: Callable[[], T]) -> T:
        """Do ``action``; raise `Expired` at the call's deadline, `Aborted` after `abort`."""
        if self._control.aborted:
            raise Aborted
        self._began = self._control.clock()
        try:
            result = action()
        except Exception:
            if self._control.aborted:
                raise Aborted from None
            if self._expired:
                raise Expired from None
            raise
        finally:
            self._began = None
        if self._control.aborted:
            raise Aborted
        if self._expired:
            raise Expired
        return result

    def abort(self) -> None:
        """Break off what `run` is doing."""
        self._control.abort()
        self._break()

    def finalize(self) -> None:
        """End the connection of a response that nobody refers to any more. For finalizers: takes no lock."""
        self._closed.set()
        shutdown_socket(self._socket)

    def close(self) -> None:
        """Stop watching."""
        self._closed.set()
        self._socket = None

    def _watch(self) -> None:
        while True:
            deadline = self._control.deadline
            left = None if deadline is None else deadline - self._control.clock()
            if left is not None and left <= 0:
                began = self._began
                if began is not None and self._control.clock() - began >= LATE_GRACE:
                    self._expired = True
                    self._break()
                    return
                left = LATE_POLL
            if self._closed.wait(POLL if left is None else min(left, POLL)):
                return

    def _break(self) -> None:
        broken = self._socket
        if broken is None:
            return
        shutdown_socket(broken)
        try:
            # What a flood has left in the kernel would keep the reader busy for seconds. (Plain, also under TLS.)
            for _ in range(UNREAD // (1 << 20)):
                if not socket.socket.recv(broken, 1 << 20):
                    break
        except OSError as error:
            raise_interrupt(error)
