"""Runs a round's tools concurrently. The twin for threads is also written by hand."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from .._concurrency.event_loop import on_this_run

if TYPE_CHECKING:
    from ..core.rounds.tool_run import ToolInvocation
    from ..core.tools.definitions import Tool


class ToolRunner:
    """Runs the tools of a round concurrently, each within its own time limit.

    A coroutine function runs as a task, which is cancelled when its time is up. Any other function runs on a worker
    thread, which cannot be stopped: it is abandoned, and its result is discarded.
    """

    def __init__(self, tools: Iterable[Tool] = ()) -> None:
        """Ignore ``tools``. The twin checks them, because it cannot run coroutine functions."""
        self._stop: Callable[[], None] | None = None
        self._stopped = False

    async def work(self, jobs: Sequence[ToolInvocation], *, at_once: int) -> None:
        """Run ``jobs``, at most ``at_once`` at a time. After `stop`, some may have no result."""
        with anyio.CancelScope() as scope:
            self._stop = on_this_run(scope.cancel)
            if not self._stopped:
                slots = anyio.CapacityLimiter(at_once)
                async with anyio.create_task_group() as group:
                    for job in jobs:  # in this order, even if tasks start in any order
                        await slots.acquire_on_behalf_of(job)
                        group.start_soon(self._do, job, slots)
        self._stop = None

    def stop(self) -> None:
        """Make `work` return immediately, from any thread or task."""
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
                    # A separate limiter: threads that never end must not block other threads of the program.
                    # In a list, because trio doesn't let a thread return an awaitable.
                    [value] = await anyio.to_thread.run_sync(
                        lambda: [function()], abandon_on_cancel=True, limiter=anyio.CapacityLimiter(1)
                    )
                    if inspect.isawaitable(value):
                        value = await value
                job.succeed(value, anyio.current_time() - began)
        except Exception as error:  # noqa: BLE001 - reported to the model, or raised by the run
            job.fail(error, anyio.current_time() - began)
        else:
            if scope.cancelled_caught:
                job.expire()
        finally:
            slots.release_on_behalf_of(job)
