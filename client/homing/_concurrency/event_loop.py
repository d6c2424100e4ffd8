"""The event loop, or the run of trio, that this code is part of."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from typing import Any


def current_run() -> object:
    """Return what connections made here are bound to: the event loop, or trio's run."""
    trio = running_trio()
    return asyncio.get_running_loop() if trio is None else trio.lowlevel.current_trio_token()


def is_over(run: Any) -> bool:
    """Tell whether nothing will ever run there again."""
    if isinstance(run, asyncio.AbstractEventLoop):
        return run.is_closed()
    try:
        run.run_sync_soon(bool)
    except sys.modules["trio"].RunFinishedError:
        return True
    return False


def on_this_run(action: Callable[[], Any]) -> Callable[[], None]:
    """Return a function that does ``action`` here, whichever thread calls it."""
    home = threading.get_ident()
    run: Any = current_run()

    def call() -> None:
        if threading.get_ident() == home:
            action()
            return
        schedule = run.call_soon_threadsafe if isinstance(run, asyncio.AbstractEventLoop) else run.run_sync_soon
        try:
            schedule(action)
        except RuntimeError:  # it has ended, and everything in it; trio's RunFinishedError is one too
            pass

    return call


def soon_on_this_run(action: Callable[[], Any]) -> Callable[[], None]:
    """Return a function that lets ``action`` be done here, soon, whichever thread calls it: also a finalizer,
    in the middle of anything."""
    run: Any = current_run()
    schedule = run.call_soon_threadsafe if isinstance(run, asyncio.AbstractEventLoop) else run.run_sync_soon

    def call() -> None:
        try:
            schedule(action)
        except RuntimeError:  # it has ended, and everything in it; trio's RunFinishedError is one too
            pass

    return call


def running_trio() -> Any:
    """Return the trio module when this is a trio task, else None. (asyncio may be its host.)"""
    trio = sys.modules.get("trio")
    return trio if trio is not None and trio.lowlevel.in_trio_task() else None
