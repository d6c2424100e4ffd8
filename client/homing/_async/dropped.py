"""Streams whose readers have left without closing them, and which the collector has found.

A finalizer runs in whatever thread, between any two steps of anything, perhaps within the very lock it would
want. So it only ends the connection and puts the stream into a queue. Whoever uses the client next does the rest.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from ..core.process.interrupts import raise_interrupt
from ..core.telemetry.hooks import logger

if TYPE_CHECKING:
    from .stream import AsyncItemStream


async def close_dropped(dropped: deque[AsyncItemStream[Any]]) -> None:
    """Close what lies in the queue. Never raises for what one of the streams has to say."""
    while dropped:
        try:
            stream = dropped.popleft()
        except IndexError:  # another thread was faster
            return
        logger.debug("a stream was dropped without being closed")
        try:
            await stream._settle_dropped()
        except Exception as error:  # noqa: BLE001 - it is another call's
            raise_interrupt(error)
            logger.warning("a stream that was dropped could not be closed: %s", error)
