"""A client process: some lanes on threads, some on tasks, one database. It may be killed at any moment.

Reads its orders from standard input, as JSON, and writes its journal to standard output.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import threading
import traceback
import warnings
from typing import Any

import tenacity

import homing
from homing.stores import SQLiteStore

from . import tasks, threads
from .journal import Journal, to_pipe
from .lane import KINDS, TASK_KINDS, Lane, Progress
from .leftovers import Holdings, left_over, tasks_left

COLD_START = 120.0
PAUSE = 0.05
"""Seconds, at most, before a retry: the storm is to be met, not waited out."""


def settings(patience: float) -> dict[str, Any]:
    """Return the clients' settings; ``patience`` is the seconds without progress after which a replica is left.

    A machine that is busy for so long costs a turn that fails, and the audit does not mind.
    """
    return {
        "timeout": homing.Timeout(first_token=2 * patience, gap=patience),
        "cold_start_timeout": COLD_START,
        "retry": homing.RetryPolicy(wait=tenacity.wait_random(0, PAUSE)),
    }


def watch(journal: Journal) -> None:
    """Take down every exception that nobody caught."""

    def stray(kind: object, error: BaseException | None, place: object) -> None:
        trace = "".join(traceback.format_exception(error))[-1500:] if error else ""
        journal.note("stray", error=f"{kind} {place} {trace}")

    warnings.simplefilter("error", ResourceWarning)  # raised in a destructor, they come to the hook
    sys.unraisablehook = lambda u: stray(u.exc_type, u.exc_value, u.object)
    threading.excepthook = lambda a: stray(a.exc_type, a.exc_value, a.thread)


async def on_tasks(
    orders: dict[str, Any], store: SQLiteStore, lanes: list[Lane], journal: Journal
) -> list[str]:
    """Hold the lanes on tasks; return what is left of them."""

    def unhandled(loop: object, context: dict[str, Any]) -> None:
        journal.note("stray", error=repr(context)[:1500])

    asyncio.get_running_loop().set_exception_handler(unhandled)
    async with homing.AsyncClient(orders["url"], **settings(orders["patience"])) as client:
        await asyncio.gather(*(tasks.hold(lane, client, store, journal) for lane in lanes))
        busy = connections_in_use(client)
    return busy + tasks_left()


def connections_in_use(client: Any) -> list[str]:
    """Return the connections of a client that somebody still holds."""
    return ["connection in use"] * client._channel.http._transport.pool.in_use


def work(orders: dict[str, Any], journal: Journal) -> list[str]:
    """Do what is ordered; return what is left over."""
    lanes = [
        Lane(
            writer,
            orders["seed"],
            orders["target"],
            {name: Progress(*progress) for name, progress in conversations.items()},
            TASK_KINDS if "a" in writer else KINDS,
        )
        for writer, conversations in orders["lanes"].items()
    ]
    before = Holdings.now()
    sync_client = homing.Client(orders["url"], **settings(orders["patience"]))
    with SQLiteStore(orders["path"]) as store, sync_client as client:
        running = [
            threading.Thread(target=threads.hold, args=(lane, client, store, journal), name=lane.writer)
            for lane in lanes
            if lane.kinds is KINDS
        ]
        for thread in running:
            thread.start()
        left = asyncio.run(on_tasks(orders, store, [lane for lane in lanes if lane.kinds is TASK_KINDS], journal))
        for thread in running:
            thread.join()
        left += connections_in_use(client)
    return left + left_over(before)


def main() -> None:
    """Work until all is said, and say what is left over."""
    logging.getLogger("homing").setLevel(logging.ERROR)  # each retry is a warning
    journal = Journal(to_pipe(1))
    watch(journal)
    orders = json.loads(sys.stdin.readline())
    journal.note("end", leaks=[left[:300] for left in work(orders, journal)[:8]])


if __name__ == "__main__":
    main()
