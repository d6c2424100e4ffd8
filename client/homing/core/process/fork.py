"""Resetting state that a forked process must not keep using.

A child has its parent's memory as of one instant, and one of its threads. A lock that another thread held is never
released there, and the leader of a cold start never reports back. Each socket is shared with the parent: a byte
that the child reads is lost to the parent, and shutting the socket down ends the parent's call.

Objects with such state are registered here, weakly, and reset in the child before anything else runs there. Calls
have nothing to look up or compare.
"""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Renewable(Protocol):
    """An object that is reset in a forked child."""

    def _after_fork(self) -> None:
        """Drop what belongs to the parent. Takes no lock and waits for nothing: there is no other thread."""


_kept: WeakSet[Renewable] = WeakSet()


def renew_after_fork(owner: Renewable) -> None:
    """Reset ``owner`` in each child that this process forks."""
    _kept.add(owner)


def _renew() -> None:
    for owner in list(_kept):
        owner._after_fork()


if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows has no fork
    os.register_at_fork(after_in_child=_renew)
