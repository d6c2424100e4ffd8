"""What tasks wait on. Its twin for threads has the same names and is written by hand too."""

from __future__ import annotations

import asyncio
import functools
import inspect
import socket
import threading
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import anyio.lowlevel
import anyio.to_thread
import httpx

from .._http._sockets.runs import on_this_run, running_trio
from .._http.request_control import Aborted, Expired, RequestControl, shutdown_socket, socket_of
from ..core.retry.timers import LATE_GRACE

if TYPE_CHECKING:
    from ..core.tools.definitions import Tool
    from ..core.tools.run import ToolInvocation
    from ..stores.base import AsyncStore, Store

    AnyStore = Store | AsyncStore
    """What a client takes as a ``store``."""

T = TypeVar("T")


class WakeEvent:
    """Wakes one waiting task; may be rung from any thread, before it waits, and any number of times."""

    def __init__(self) -> None:
        self._wake: Callable[[], None] | None = None
        self._rung = False

    def set(self) -> None:
        """Wake the waiter, or the next one to come."""
        self._rung = True
        wake = self._wake
        if wake is not None:
            wake()

    async def wait(self, seconds: float) -> bool:
        """Wait until rung, at most ``seconds``; return whether it was rung."""
        if not self._rung:
            event = anyio.Event()
            self._wake = on_this_run(event.set)  # first: another thread may ring right now
            try:
                if not self._rung:
                    with anyio.move_on_after(seconds):
                        await event.wait()
            finally:
                self._wake = None
        else:
            await anyio.lowlevel.checkpoint()
        rung, self._rung = self._rung, False
        return rung


def current_runner() -> object:
    """Return what runs this code. Where two values are equal, waiting for the other would be a deadlock."""
    return (threading.get_ident(), anyio.get_current_task().id)


def is_this_thread(ident: int) -> bool:
    """Whether what runs here interrupts what it would wait for. Tasks do not: they wait for each other."""
    return False


async def shielded(action: Callable[[], Awaitable[T]]) -> T:
    """Carry ``action`` through although the task is being cancelled: connections must not leak."""
    with anyio.CancelScope(shield=True):
        return await action()
    raise AssertionError("a shield is never cancelled")  # pragma: no cover


async def run_to_completion(action: Callable[[], Awaitable[T]]) -> T:
    """Carry ``action`` through although the task is being cancelled; the cancellation is delivered afterwards.

    A shield holds against anyio's cancel scopes and trio's, but not against asyncio's own
    ``task.cancel()`` (``asyncio.timeout``, ``TaskGroup``). There the action becomes a task of its own.
    """
    if running_trio() is not None:
        return await shielded(action)
    task = asyncio.ensure_future(action())
    cancelled: BaseException | None = None
    while not task.done():
        try:
            with anyio.CancelScope(shield=True):
                await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is None:
        return task.result()
    if not task.cancelled():
        task.exception()  # looked at: the cancellation takes precedence
    raise cancelled


async def defer_signals(action: Callable[[], Awaitable[T]]) -> T:
    """Do ``action``. (Its twin keeps signals waiting, whose handlers would raise in the middle of it.)"""
    return await action()


def store_for_client(store: AnyStore) -> AsyncStore:
    """Return the face of ``store`` that this client speaks to. Raises `ConfigurationError` for what is no store."""
    from ..stores.threaded import as_async

    return as_async(store)


class ToolRunner:
    """Runs the tools of a round at the same time, each within its own time limit.

    A coroutine function is a task, and is cancelled when its time is up. Any other function runs on a worker
    thread, which cannot be stopped: it is left to itself, and what it returns goes nowhere.
    """

    def __init__(self, tools: Iterable[Tool] = ()) -> None:
        """``tools`` are looked at by the twin, which can run no coroutine functions."""
        self._stop: Callable[[], None] | None = None
        self._stopped = False

    async def work(self, jobs: Sequence[ToolInvocation], *, at_once: int) -> None:
        """Run ``jobs``, at most ``at_once`` of them at a time; after `stop` some are left without a result."""
        with anyio.CancelScope() as scope:
            self._stop = on_this_run(scope.cancel)
            if not self._stopped:
                slots = anyio.CapacityLimiter(at_once)
                async with anyio.create_task_group() as group:
                    for job in jobs:  # in this order, also where tasks begin in any
                        await slots.acquire_on_behalf_of(job)
                        group.start_soon(self._do, job, slots)
        self._stop = None

    def stop(self) -> None:
        """Let `work` return at once, from any thread or task."""
        self._stopped = True
        stop = self._stop
        if stop is not None:
            stop()

    async def _do(self, job: ToolInvocation, slots: anyio.CapacityLimiter) -> None:
        assert job.tool is not None, "only what has a function is run"
        function = functools.partial(job.tool.function, **job.arguments)
        began = anyio.current_time()
        try:
            with anyio.move_on_after(job.timeout) as scope:
                if job.tool.is_async:
                    value = await function()
                else:
                    # A limiter of its own: threads that never end must not block the program's others.
                    # Boxed: trio lets no thread return an awaitable.
                    [value] = await anyio.to_thread.run_sync(
                        lambda: [function()], abandon_on_cancel=True, limiter=anyio.CapacityLimiter(1)
                    )
                    if inspect.isawaitable(value):
                        value = await value
                job.succeed(value, anyio.current_time() - began)
        except Exception as error:  # noqa: BLE001 - the model is told, or the run raises it
            job.fail(error, anyio.current_time() - began)
        else:
            if scope.cancelled_caught:
                job.expire()
        finally:
            slots.release_on_behalf_of(job)


class CallGuard:
    """Time limits and cancellation for connections that do not watch a `RequestControl` themselves: those of a
    user's own ``http_client``, and httpx's for what our transport does not cover."""

    def __init__(self, control: RequestControl) -> None:
        self._control = control
        self._scope: anyio.CancelScope | None = None
        self._socket: socket.socket | None = None

    @property
    def extensions(self) -> dict[str, Any]:
        """What a request needs for it. (Nothing; the twin has to be told of connections.)"""
        return {}

    def attach(self, response: httpx.Response) -> None:
        """Learn which connection it is."""
        self._socket = socket_of(response)

    async def run(self, action: Callable[[], Awaitable[T]]) -> T:
        """Do ``action``; raise `Expired` at the call's deadline, `Aborted` after `abort`."""
        if self._control.aborted:
            raise Aborted
        deadline = self._control.deadline
        with anyio.CancelScope() as scope:
            if deadline is not None:
                scope.deadline = anyio.current_time() + max(LATE_GRACE, deadline - self._control.clock())
            self._scope = scope
            try:
                return await action()
            finally:
                self._scope = None
        if self._control.aborted:
            raise Aborted
        raise Expired

    def abort(self) -> None:
        """Break off what `run` is doing."""
        self._control.abort()
        if self._scope is not None:
            self._scope.cancel()

    def finalize(self) -> None:
        """End the connection of a response that nobody refers to any more. For finalizers: takes no lock."""
        shutdown_socket(self._socket)

    def close(self) -> None:
        """Stop watching."""
        self._socket = None
