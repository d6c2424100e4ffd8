"""The asyncio event loop or trio run that the current code belongs to."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from typing import Any


def current_run() -> object:
    """Return what connections made here are bound to: asyncio's event loop or trio's run."""
    trio = running_trio()
    return asyncio.get_running_loop() if trio is None else trio.lowlevel.current_trio_token()


def is_over(run: Any) -> bool:
    """Return whether ``run`` has ended for good."""
    if isinstance(run, asyncio.AbstractEventLoop):
        return run.is_closed()
    try:
        run.run_sync_soon(bool)
    except sys.modules["trio"].RunFinishedError:
        return True
    return False


def on_this_run(action: Callable[[], Any]) -> Callable[[], None]:
    """Return a function that calls ``action`` on the current run, whichever thread calls it."""
    home = threading.get_ident()
    run: Any = current_run()

    def call() -> None:
        if threading.get_ident() == home:
            action()
            return
        schedule = run.call_soon_threadsafe if isinstance(run, asyncio.AbstractEventLoop) else run.run_sync_soon
        try:
            schedule(action)
        except RuntimeError:  # the run has ended, with all its tasks; trio's RunFinishedError is a RuntimeError too
            pass

    return call


def soon_on_this_run(action: Callable[[], Any]) -> Callable[[], None]:
    """Return a function that schedules ``action`` on the current run. Any thread or finalizer may call it."""
    run: Any = current_run()
    schedule = run.call_soon_threadsafe if isinstance(run, asyncio.AbstractEventLoop) else run.run_sync_soon

    def call() -> None:
        try:
            schedule(action)
        except RuntimeError:  # the run has ended, with all its tasks; trio's RunFinishedError is a RuntimeError too
            pass

    return call


def running_trio() -> Any:
    """Return the trio module in a trio task, else None. (Trio may run as a guest of asyncio.)"""
    trio = sys.modules.get("trio")
    return trio if trio is not None and trio.lowlevel.in_trio_task() else None
