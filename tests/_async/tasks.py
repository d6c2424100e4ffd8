"""Doing several things at once, written by hand for tasks and for threads."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.to_thread


async def gather(*actions: Callable[..., Awaitable[Any]]) -> list[Any]:
    """Run all actions at once (those that want an argument get a question) and return their results."""
    results: list[Any] = [None] * len(actions)

    async def run(place: int, action: Callable[..., Awaitable[Any]]) -> None:
        results[place] = await (action() if action.__name__ == "wake" else action("Hello"))

    async with anyio.create_task_group() as group:
        for place, action in enumerate(actions):
            group.start_soon(run, place, action)
    return results


class Hanging:
    """A tool that never returns by itself."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.cancelled = False

    async def __call__(self) -> None:
        self.began.set()
        try:
            await anyio.sleep_forever()
        finally:
            self.cancelled = True

    async def has_begun(self) -> None:
        """Wait until it runs."""
        await anyio.to_thread.run_sync(self.began.wait, 30)


@asynccontextmanager
async def hangs_until_cancelled() -> AsyncIterator[Hanging]:
    """Make such a tool, and see afterwards that it was cancelled."""
    hanging = Hanging()
    yield hanging
    assert hanging.cancelled
