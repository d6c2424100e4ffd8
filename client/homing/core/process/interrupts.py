"""Distinguishing exceptions from the program's signal handlers from errors of a connection or a store.

A handler may raise anything, anywhere: time limits by SIGALRM raise `TimeoutError`, which is an `OSError`. On
its way up it passes code, ours and httpcore's, that takes an `OSError` for a broken connection and retries.
"""

from __future__ import annotations

import importlib
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType

SIGNALS = tuple(sorted(signal.valid_signals()))
"""All signals: any may have a handler that raises, as a time limit's SIGALRM or a worker's SIGUSR1 does."""


class DeferredSignals:
    """A signal handler that defers signals until it is `over`, and then restores the program's own handlers."""

    def __init__(self) -> None:
        self.over = False
        self.came: list[tuple[int, FrameType | None]] = []
        self.handlers: dict[int, Callable[[int, FrameType | None], object]] = {
            number: handler
            for number in SIGNALS
            if callable(handler := signal.getsignal(number))  # the system's own defaults act whatever we do
        }

    def begin(self) -> None:
        """Replace the program's handlers."""
        for number in self.handlers:
            signal.signal(number, self)

    def end(self) -> None:
        """Restore the handlers, and call them for the signals that arrived meanwhile."""
        left = list(self.handlers.items())
        self.over = True  # first: if two interrupts prevent the rest, each signal still restores its own handler
        try:
            while left:
                signal.signal(*left[-1])
                left.pop()
        finally:  # a restored handler may raise while the others are being restored
            try:
                for number, handler in left:
                    signal.signal(number, handler)
            finally:
                self._deliver()

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        if not self.over:
            self.came.append((number, frame))
            return
        handler = self.handlers[number]
        signal.signal(number, handler)
        handler(number, frame)

    def _deliver(self) -> None:
        try:
            while self.came:
                number, frame = self.came.pop(0)
                self.handlers[number](number, frame)
        finally:  # call all handlers, even if one has raised
            if self.came:
                self._deliver()


def import_uninterrupted(name: str) -> None:
    """Import a module with signals deferred: a handler that raises midway would leave the import lock held."""
    if name in sys.modules:
        return
    if threading.current_thread() is not threading.main_thread():
        importlib.import_module(name)
        return
    deferral = DeferredSignals()
    try:
        deferral.begin()
        importlib.import_module(name)
    finally:
        deferral.end()


def raise_interrupt(error: BaseException) -> None:
    """Raise an exception from a signal handler again, if it is ``error`` or one of its causes."""
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        if _is_of_a_handler(found.__traceback__):
            raise found
        seen.add(id(found))
        # Not __context__: that is whatever was being handled, perhaps the interrupt itself.
        found = found.__cause__


def _is_of_a_handler(trace: TracebackType | None) -> bool:
    """Return whether a function in ``trace`` was called as a handler: with the interrupted frame as an argument."""
    late = (DeferredSignals._deliver.__code__, DeferredSignals.__call__.__code__)
    while trace is not None and trace.tb_next is not None:
        if trace.tb_frame.f_code in late:
            return True
        inner = trace.tb_next.tb_frame
        for value in inner.f_locals.values():
            given = value if type(value) is tuple else (value,)
            if any(one is trace.tb_frame for one in given):
                return True
        trace = trace.tb_next
    return False
