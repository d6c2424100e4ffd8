"""An exception at each point of a call at which a signal handler could raise one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import FrameType

MOST_POINTS = 20_000
"""A call that has more of them does not end."""

ENOUGH = 3
"""Strikes in a row that find no point of their number: a call has a few more at one time than at another."""


class Alarm(TimeoutError):
    """What the handler raises: an OSError, as a time limit by SIGALRM does, and easily taken for the store's own."""


class Strike:
    """Raises at the point of this number, once.

    CPython runs the handlers of signals on the main thread when a function is entered, and after a call (of Python
    functions: up to 3.10), and in calls that wait. The profiler is told of the same points, and an exception that it
    raises looks the same to the code.
    """

    def __init__(self, number: int) -> None:
        self._left = number
        self.struck = ""

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        name = getattr(argument, "__name__", "")
        if event == "c_exception" or (event == "c_call" and name not in ("acquire", "get", "wait", "sleep", "join")):
            return
        code = frame.f_code
        if collecting(frame):
            return
        self._left -= 1
        if self._left == 0:
            self.struck = f"{event} {name} in {code.co_name}, line {frame.f_lineno} of {code.co_filename}"
            sys.setprofile(None)
            raise Alarm

    def run(self, call: Callable[[], object]) -> None:
        """Make the call, which is struck or is not."""
        before = sys.getprofile()
        sys.setprofile(self)
        try:
            call()
        finally:
            sys.setprofile(before)


def collecting(frame: FrameType | None) -> bool:
    """Whether this is called by the collector, which can pass no exception on: Python reports it and drops it."""
    while frame is not None:
        if frame.f_code.co_name in ("_remove", "_collection_gced") or is_finalizer(frame):
            return True
        frame = frame.f_back
    return False


def is_finalizer(frame: FrameType) -> bool:
    """Whether it is `weakref.finalize`."""
    return frame.f_code.co_name == "__call__" and frame.f_code.co_filename.endswith("weakref.py")


def strikes() -> Iterator[Strike]:
    """Yield one after the other, until the numbers are higher than the call has points."""
    missed = 0
    for number in range(1, MOST_POINTS):
        strike = Strike(number)
        yield strike
        missed = 0 if strike.struck else missed + 1
        if missed == ENOUGH:
            return
    raise AssertionError("the call does not end")
