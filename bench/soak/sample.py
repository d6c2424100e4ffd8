"""What a process holds at one moment, in numbers, and whether a row of such moments is flat."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import os
import subprocess
import sys
import threading
import tracemalloc
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from chaos.leftovers import open_files

from homing.core.affinity.placement import _Home

MEMORY = ("rss", "traced", "objects", "blocks")
COUNTS = ("files", "threads", "tasks", "busy")

ALLOWED = 0.05
"""Growth of memory from the first quarter behind the warm-up to the last, as a share."""
WARM_UP = 1 / 3
"""Share of the samples that are left out: what has a limit fills up to it. Slowest of all pydantic's cache of 16,384
strings, which takes some 5,000 turns, and the allocators, which find their size."""
POOLS = ("AnyIO worker thread", "asyncio_")
"""Names of threads that wait for work; at the end of a run they have to be gone too."""
FEWEST = 8
"""Samples without which nothing can be said."""


PASSING = (_Home, weakref.ReferenceType)
"""Kinds of objects that gather for a while and go: where a key leads is remembered for a minute, and Python's
sqlite3 looks after each 200 cursors of a connection which of them are gone."""


@dataclass(frozen=True)
class Sample:
    """One moment, when no turn is running. Sizes in bytes."""

    turns: int
    rss: int
    """Resident, when the allocator of C has given back what it kept for later."""
    traced: int
    """By tracemalloc; 0 where it is off."""
    objects: int
    """That the garbage collector knows of, without those that are `PASSING`."""
    blocks: int
    """That Python's allocator has given out."""
    files: int
    """Without what waits to be used again: connections in the clients' pools, and the store's for reading. There
    are as many as there were turns at one time, up to a limit."""
    threads: int
    """Without those of the event loop's pools, which come and go, and are few."""
    tasks: int
    busy: int
    """Connections that are not in the pool."""


def take(turns: int, *clients: Any, database: str) -> Sample:
    """Look at this process. In a coroutine."""
    gc.collect()
    trim()
    pools = [client._endpoint.http.pool for client in clients]
    return Sample(
        turns,
        rss(),
        tracemalloc.get_traced_memory()[0] if tracemalloc.is_tracing() else 0,
        sum(type(thing) not in PASSING for thing in gc.get_objects()),
        sys.getallocatedblocks(),
        sum(not name.startswith(database) for name in open_files()) - sum(pool.idle for pool in pools),
        sum(not thread.name.startswith(POOLS) for thread in threading.enumerate()),
        len(asyncio.all_tasks()),
        sum(pool.in_use for pool in pools),
    )


def trim() -> None:
    """Let glibc give back what is free: threads that come and go leave holes in its arenas. Elsewhere nothing."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def rss() -> int:
    """Return the resident memory of this process."""
    try:
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # no Linux
        command = ["ps", "-o", "rss=", "-p", str(os.getpid())]
        return 1024 * int(subprocess.run(command, capture_output=True, check=True).stdout)


def growth(samples: Sequence[Sample]) -> dict[str, float]:
    """Return by how much each kind of memory has grown, as a share, and each count, as a number."""
    kept = samples[int(len(samples) * WARM_UP) :]
    quarter = max(1, len(kept) // 4)
    first, last = kept[:quarter], kept[-quarter:]
    grown = {}
    for name in MEMORY:
        before, after = (median(getattr(sample, name) for sample in part) for part in (first, last))
        grown[name] = after / before - 1 if before else 0.0
    for name in COUNTS:
        before, after = (max(getattr(sample, name) for sample in part) for part in (first, last))
        grown[name] = float(after - before)
    return grown


def problems(samples: Sequence[Sample]) -> list[str]:
    """Return what is not flat, or why that cannot be said."""
    if len(samples) < FEWEST:
        return [f"{len(samples)} samples are too few: at least {FEWEST} are needed"]
    grown = growth(samples)
    return [f"{name} grew by {grown[name]:.1%}" for name in MEMORY if grown[name] > ALLOWED] + [
        f"{name}: {grown[name]:.0f} more" for name in COUNTS if grown[name] > 0
    ]
