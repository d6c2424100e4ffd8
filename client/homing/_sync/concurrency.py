"""What threads wait on. Its twin for tasks has the same names and is written by hand too."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import math
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from queue import Empty, SimpleQueue
from types import FrameType
from typing import TYPE_CHECKING, TypeVar

import httpx

from ..core.call import Aborted, Call
from ..errors import ConfigurationError

if TYPE_CHECKING:
    from ..core.tool_run import Job
    from ..core.tools import Tool
    from ..stores.base import Store

    AnyStore = Store
    """What a client takes as a ``store``."""

T = TypeVar("T")

POLL = 1.0
"""Seconds after which the watchdog looks whether the deadline has moved nearer."""


class Alarm:
    """Wakes one waiting thread; may be rung before it waits, and any number of times."""

    def __init__(self) -> None:
        # A bare lock, which is free while the alarm is rung: an Event takes as long to make as a request to encode.
        self._silence = threading.Lock()
        self._silence.acquire()

    def ring(self) -> None:
        """Wake the waiter, or the next one to come."""
        with contextlib.suppress(RuntimeError):  # rung already
            self._silence.release()

    def wait(self, seconds: float) -> bool:
        """Wait until rung, at most ``seconds``; return whether it was rung."""
        return self._silence.acquire(timeout=seconds)


class Mutex:
    """One holder at a time, first come first served; any thread may release it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free = True
        self._waiters: list[threading.Event] = []

    def acquire_nowait(self) -> bool:
        """Take it if it is free."""
        with self._lock:
            taken, self._free = self._free, False
            return taken

    def acquire(self) -> None:
        """Wait until it is free, and take it."""
        with self._lock:
            if self._free:
                self._free = False
                return
            turn = threading.Event()
            self._waiters.append(turn)
        try:
            turn.wait()
        except BaseException:  # KeyboardInterrupt arrives here
            with self._lock:
                waiting = turn in self._waiters
                if waiting:
                    self._waiters.remove(turn)
            if not waiting:
                self.release()
            raise

    def release(self) -> None:
        """Hand it to the longest waiter, or free it."""
        with self._lock:
            if self._waiters:
                self._waiters.pop(0).set()
            else:
                self._free = True


def current() -> object:
    """What runs this code: two equal answers mean that waiting for the other would be for ever."""
    return threading.get_ident()


def shielded(action: Callable[[], T]) -> T:
    """Do ``action``. (Tasks need a shield against cancellation here; threads are not cancelled.)"""
    return action()


DEFERRED = (signal.SIGINT, signal.SIGTERM)
"""Signals whose handlers raise, by default or by custom: Ctrl-C, and what ends a worker."""


def to_the_end(action: Callable[[], T]) -> T:
    """Carry ``action`` through although Ctrl-C is pressed; the interrupt is delivered afterwards.

    Handlers run in the main thread only, between any two bytecodes. So while the action runs there, they are
    kept waiting.
    """
    if threading.current_thread() is not threading.main_thread():
        return action()
    handlers = {number: signal.getsignal(number) for number in DEFERRED}
    came: list[tuple[int, FrameType | None]] = []
    try:
        for number, handler in handlers.items():
            if callable(handler):  # the system's own defaults end the process whatever we do
                signal.signal(number, lambda *call: came.append(call))
        return action()
    finally:
        for number, handler in handlers.items():
            if callable(handler):
                signal.signal(number, handler)
        with contextlib.ExitStack() as late:  # each is called, although one before has raised
            for call in reversed(came):
                late.callback(handlers[signal.Signals(call[0])], *call)  # type: ignore[arg-type]


def face(store: AnyStore) -> Store:
    """Return ``store``. Raises `ConfigurationError` for what is no store."""
    from ..stores.base import Store

    if not isinstance(store, Store):
        raise ConfigurationError(
            f"store={store!r} is no store: give a Store of homing.stores (an AsyncStore goes with AsyncClient)"
        )
    return store


class Crew:
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
        self._news: SimpleQueue[tuple[Job, object, BaseException | None] | None] = SimpleQueue()
        self._stopped = False

    def work(self, jobs: Sequence[Job], *, at_once: int) -> None:
        """Run ``jobs``, at most ``at_once`` of them at a time; after `stop` some are left without a result."""
        waiting = deque(jobs)
        began: dict[Job, float] = {}
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

    def _do(self, job: Job) -> None:
        assert job.tool is not None, "only what has a function is run"
        try:
            value = job.tool.function(**job.arguments)
        except BaseException as error:  # noqa: BLE001 - handed to the waiting thread
            self._news.put((job, None, error))
        else:
            self._news.put((job, value, None))


class Guard:
    """Time limits and cancellation for connections that do not watch a `Call` themselves: those of a
    user's own ``http_client``, and httpx's for what our transport does not cover.

    A thread in a blocking read cannot be cancelled. One watchdog thread for each guarded stream
    breaks the connection under it when the deadline, which moves with every chunk, has passed.
    """

    def __init__(self, call: Call) -> None:
        self._call = call
        self._socket: socket.socket | None = None
        self._expired = False
        self._closed = threading.Event()
        self._watchdog: threading.Thread | None = None

    def attach(self, response: httpx.Response) -> None:
        """Learn which connection it is."""
        stream = response.extensions.get("network_stream")
        self._socket = stream.get_extra_info("socket") if stream is not None else None
        if self._socket is not None and self._watchdog is None:
            self._watchdog = threading.Thread(target=self._watch, name="homing-watchdog", daemon=True)
            self._watchdog.start()

    def run(self, action: Callable[[], T]) -> T:
        """Do ``action``; raise `TimeoutError` at the call's deadline, `Aborted` after `abort`."""
        if self._call.aborted:
            raise Aborted
        try:
            result = action()
        except Exception:
            if self._call.aborted:
                raise Aborted from None
            if self._expired:
                raise TimeoutError from None
            raise
        if self._call.aborted:
            raise Aborted
        if self._expired:
            raise TimeoutError
        return result

    def abort(self) -> None:
        """Break off what `run` is doing."""
        self._call.abort()
        self._break()

    def close(self) -> None:
        """Stop watching."""
        self._closed.set()
        self._socket = None

    def _watch(self) -> None:
        while True:
            deadline = self._call.deadline
            left = None if deadline is None else deadline - self._call.clock()
            if left is not None and left <= 0:
                self._expired = True
                self._break()
                return
            if self._closed.wait(POLL if left is None else min(left, POLL)):
                return

    def _break(self) -> None:
        broken = self._socket
        if broken is not None:
            # The plain method also under TLS: ssl's own would tear its state from under the reader.
            with contextlib.suppress(OSError):
                socket.socket.shutdown(broken, socket.SHUT_RDWR)
