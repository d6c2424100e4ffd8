"""What threads wait on, and what is carried through against signals. `tasks` has the same names."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from ..core.process.interrupts import DeferredSignals, raise_interrupt

T = TypeVar("T")


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
    """Whether a thread would wait for itself: a signal handler runs in the middle of what it would wait for."""
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
    """Do ``action`` as `run_to_completion` does. (Tasks have no need: a raising handler ends their event loop.)"""
    return run_to_completion(action)
