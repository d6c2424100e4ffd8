"""What a process that was forked must not go on with.

A child has its parent's memory as it was in one instant, and one of its threads. A lock that another
thread held is never released there, a leader of a cold start never answers, and each socket is the
parent's too: a byte read from it is lost to the parent, and shutting it down ends the parent's call.

What holds any of these is kept here, weakly, and begins anew in the child before anything else runs
there. Nothing is looked up or compared while a call runs.
"""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Renewable(Protocol):
    """What begins anew in a forked child."""

    def _after_fork(self) -> None:
        """Let go of what is the parent's. Takes no lock and waits for nothing: no other thread is there."""


_kept: WeakSet[Renewable] = WeakSet()


def renew_after_fork(owner: Renewable) -> None:
    """Let ``owner`` begin anew in each child that this process forks."""
    _kept.add(owner)


def _renew() -> None:
    for owner in list(_kept):
        owner._after_fork()


if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows has no fork
    os.register_at_fork(after_in_child=_renew)
