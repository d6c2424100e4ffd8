"""Waiting, and shielding from cancellation, for tasks. `threads` has the same names."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio
import anyio.lowlevel

from .event_loop import on_this_run, running_trio

T = TypeVar("T")


class WakeEvent:
    """Wakes one waiting task. Any thread may set it, even before the task waits, and any number of times."""

    def __init__(self) -> None:
        self._wake: Callable[[], None] | None = None
        self._rung = False

    def set(self) -> None:
        """Wake the waiter, or the next one if none is waiting yet."""
        self._rung = True
        wake = self._wake
        if wake is not None:
            wake()

    async def wait(self, seconds: float) -> bool:
        """Wait until set, for at most ``seconds``. Return whether it was set."""
        if not self._rung:
            event = anyio.Event()
            self._wake = on_this_run(event.set)  # before the check: another thread may call set() right now
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
    """Identify the task that runs this code. Waiting for one with an equal value would deadlock."""
    return (threading.get_ident(), anyio.get_current_task().id)


def is_this_thread(ident: int) -> bool:
    """Return whether the caller interrupted what it would wait for. Tasks never do: they wait for each other."""
    return False


async def shielded(action: Callable[[], Awaitable[T]]) -> T:
    """Run ``action`` to completion even if the task is being cancelled: connections must not leak."""
    with anyio.CancelScope(shield=True):
        return await action()
    raise AssertionError("a shield is never cancelled")  # pragma: no cover


async def run_to_completion(action: Callable[[], Awaitable[T]]) -> T:
    """Run ``action`` to completion even if the task is being cancelled, and deliver the cancellation afterwards.

    A shield protects from anyio's and trio's cancel scopes, but not from asyncio's own ``task.cancel()``
    (``asyncio.timeout``, ``TaskGroup``). On asyncio, the action therefore becomes a task of its own.
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
        task.exception()  # mark it as retrieved: the cancellation takes precedence
    raise cancelled


async def defer_signals(action: Callable[[], Awaitable[T]]) -> T:
    """Run ``action``. (The version for threads defers signals whose handlers would raise in the middle of it.)"""
    return await action()
