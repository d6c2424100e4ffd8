"""Waiting, and shielding from signals, for threads. `tasks` has the same names."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from ..core.process.interrupts import DeferredSignals, raise_interrupt

T = TypeVar("T")


class WakeEvent:
    """Wakes one waiting thread. It may be set even before the thread waits, and any number of times."""

    def __init__(self) -> None:
        # A bare lock, free while the event is set: creating a threading.Event takes as long as encoding a request.
        self._silence = threading.Lock()
        self._silence.acquire()

    def set(self) -> None:
        """Wake the waiter, or the next one if none is waiting yet."""
        try:
            self._silence.release()
        except RuntimeError as error:  # already set
            raise_interrupt(error)

    def wait(self, seconds: float) -> bool:
        """Wait until set, for at most ``seconds``. Return whether it was set."""
        return self._silence.acquire(timeout=seconds)


def current_runner() -> object:
    """Identify the thread that runs this code. Waiting for one with an equal value would deadlock."""
    return threading.get_ident()


def is_this_thread(ident: int) -> bool:
    """Return whether a thread would wait for itself, as in a signal handler that interrupted what it waits for."""
    return ident == threading.get_ident()


def shielded(action: Callable[[], T]) -> T:
    """Run ``action``. (Tasks need a shield from cancellation here; threads are not cancelled.)"""
    return action()


def run_to_completion(action: Callable[[], T]) -> T:
    """Run ``action`` to completion whatever signals arrive, and call their handlers afterwards.

    Handlers run only in the main thread, between any two bytecodes. They are deferred while the action runs there.
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
    """Run ``action`` like `run_to_completion`. (Tasks don't need it: a handler that raises ends their event loop.)"""
    return run_to_completion(action)
