"""Runs a round's tools concurrently. The twin for tasks is also written by hand."""

from __future__ import annotations

import contextvars
import functools
import math
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from ..errors import ConfigurationError

if TYPE_CHECKING:
    from ..core.tools.definitions import Tool
    from ..core.rounds.tool_run import ToolInvocation


class ToolRunner:
    """Runs the tools of a round concurrently, each within its own time limit.

    Each runs on a thread of its own, with the caller's context variables. A thread cannot be stopped: when its
    time is up, it is abandoned, and its result is discarded.
    """

    def __init__(self, tools: Iterable[Tool] = ()) -> None:
        """Check ``tools``. Raises `ConfigurationError` for coroutine functions, which need an event loop."""
        for tool in tools:
            if tool.is_async:
                raise ConfigurationError(
                    f"the tool {tool.name} is an async function: give it to AsyncClient, or make it a plain one"
                )
        self._news: SimpleQueue[tuple[ToolInvocation, object, BaseException | None] | None] = SimpleQueue()
        self._stopped = False

    def work(self, jobs: Sequence[ToolInvocation], *, at_once: int) -> None:
        """Run ``jobs``, at most ``at_once`` at a time. After `stop`, some may have no result."""
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
        """Make `work` return immediately, from any thread."""
        self._stopped = True
        self._news.put(None)

    def _do(self, job: ToolInvocation) -> None:
        assert job.tool is not None, "only what has a function is run"
        try:
            value = job.tool.function(**job.arguments)
        except BaseException as error:  # noqa: BLE001 - passed to the waiting thread
            self._news.put((job, None, error))
        else:
            self._news.put((job, value, None))

