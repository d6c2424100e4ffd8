# Generated from client/homing/_async/dropped.py by scripts/unasync.py: edit that file, not this one.
"""Streams that were garbage-collected before their readers closed them.

A finalizer can run in any thread, between any two steps, perhaps inside the very lock that it would
need. So it only ends the connection and puts the stream into a queue. The client's next user does the rest.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from ..core.process.interrupts import raise_interrupt
from ..core.telemetry.hooks import logger

if TYPE_CHECKING:
    from .stream import ItemStream


def close_dropped(dropped: deque[ItemStream[Any]]) -> None:
    """Close the streams in the queue. Never raises an error of one of the streams."""
    while dropped:
        try:
            stream = dropped.popleft()
        except IndexError:  # another thread was faster
            return
        logger.debug("a stream was dropped without being closed")
        try:
            stream._settle_dropped()
        except Exception as error:  # noqa: BLE001 - it belongs to another call
            raise_interrupt(error)
            logger.warning("a stream that was dropped could not be closed: %s", error)
