"""What a process holds: file handles, threads, tasks."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

SETTLES = 5.0
"""Seconds that threads and sockets which are about to end are given for it."""


@dataclass(frozen=True)
class Holdings:
    """What a process held at one moment."""

    files: Counter[str] = field(default_factory=Counter)
    threads: Counter[str] = field(default_factory=Counter)

    @classmethod
    def now(cls) -> Holdings:
        """Look."""
        gc.collect()
        return cls(Counter(open_files()), Counter(thread.name for thread in threading.enumerate()))

    def more_than(self, before: Holdings) -> list[str]:
        """Return what there is beyond ``before``."""
        files = (self.files - before.files).elements()
        threads = (self.threads - before.threads).elements()
        return [f"file handle {name}" for name in files] + [f"thread {name}" for name in threads]


def open_files() -> list[str]:
    """Return what the open file handles point to; sockets and pipes by their kind."""
    names = []
    for number in os.listdir("/dev/fd"):
        with contextlib.suppress(OSError):  # the listing's own is closed again
            names.append(os.readlink(f"/dev/fd/{number}").partition(":[")[0])
    return names


def left_over(before: Holdings) -> list[str]:
    """Return what is still there beyond ``before``, when all that was about to end has had its time."""
    end = time.monotonic() + SETTLES
    while (more := Holdings.now().more_than(before)) and time.monotonic() < end:
        time.sleep(0.01)
    return more


def tasks_left() -> list[str]:
    """Return the other tasks of the running loop."""
    return [f"task {task!r}"[:300] for task in asyncio.all_tasks() if task is not asyncio.current_task()]
