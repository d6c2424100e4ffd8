"""A client process: some lanes on threads, some on tasks, one database. It may be killed at any moment.

Reads its orders from standard input, as JSON, and writes its journal to standard output.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import gc
import importlib
import json
import logging
import os
import pkgutil
import sys
import threading
import traceback
import warnings
from collections.abc import Container
from typing import Any

import tenacity

import homing
from homing._async.dropped import close_dropped as settle_dropped_async
from homing._sync.dropped import close_dropped
from homing.stores import SQLiteStore

from . import tasks, threads
from .balancer import PROCESS, goes_through
from .disturb import Alarmed, Collector, Forks, Signals
from .journal import Journal, to_pipe
from .lane import DROPS, KINDS, TASK_KINDS, Lane, Progress
from .leftovers import Holdings, left_over, tasks_left
from .watchdog import Watched

COLD_START = 120.0
MODEL = "m"
"""Given, so that nothing is asked about it: whatever is sent belongs to a turn."""
PAUSE = 0.05
"""Seconds, at most, before a retry: the storm is to be met, not waited out."""


def settings(orders: dict[str, Any]) -> dict[str, Any]:
    """Return the clients' settings: ``patience`` is the seconds without progress after which a replica is left,
    ``limit`` those that a turn may take.

    A machine that is busy for so long costs a turn that fails, and the audit does not mind.
    """
    patience = orders["patience"]
    return {
        "timeout": homing.Timeout(first_token=2 * patience, gap=patience, total=orders["limit"]),
        "model": MODEL,
        "default_headers": {PROCESS: str(os.getpid())},
        "cold_start_timeout": COLD_START,
        "retry": homing.RetryPolicy(wait=tenacity.wait_random(0, PAUSE)),
    }


def watch(journal: Journal, strikes: Container[str]) -> None:
    """Take down every exception that nobody caught."""

    def stray(kind: object, error: BaseException | None, place: object) -> None:
        trace = "".join(traceback.format_exception(error))[-1500:] if error else ""
        journal.note("stray", error=f"{kind} {place} {trace}")

    warnings.filterwarnings("ignore", "This process .* is multi-threaded, use of fork", DeprecationWarning)
    if "signals" not in strikes:
        # Raised in a destructor, they come to the hook. A signal may strike between a socket's making and its first
        # owner, and it is left to the collector to close it; what stays open is found at the end.
        warnings.simplefilter("error", ResourceWarning)

    def unraisable(found: sys.UnraisableHookArgs) -> None:
        # A signal that comes within a finalizer can be raised to nobody.
        if not isinstance(found.exc_value, (KeyboardInterrupt, Alarmed)):
            stray(found.exc_type, found.exc_value, found.object)

    sys.unraisablehook = unraisable
    threading.excepthook = lambda a: stray(a.exc_type, a.exc_value, a.thread)


async def on_tasks(orders: dict[str, Any], store: SQLiteStore, lanes: list[Lane], journal: Watched) -> list[str]:
    """Hold the lanes on tasks; return what is left of them."""

    def unhandled(loop: object, context: dict[str, Any]) -> None:
        journal.note("stray", error=repr(context)[:1500])

    journal.loop = asyncio.get_running_loop()
    journal.loop.set_exception_handler(unhandled)
    straight = homing.AsyncClient(orders["url"], **settings(orders))
    balanced = homing.AsyncClient(orders["balancer"] or orders["url"], **settings(orders))
    async with straight, balanced:

        def client(name: str) -> homing.AsyncClient:
            return balanced if goes_through(name) else straight

        await asyncio.gather(*(tasks.hold(lane, client, store, journal) for lane in lanes))
        gc.collect()
        for used in (straight, balanced):
            await settle_dropped_async(used._options.server_state.dropped)
        busy = connections_in_use(straight) + connections_in_use(balanced)
    journal.loop = None
    return busy + tasks_left()


def connections_in_use(client: Any) -> list[str]:
    """Return the connections of a client that somebody still holds.

    What the last turn of all has dropped is closed before, as the next turn would.
    """
    return ["connection in use"] * client._endpoint.http.pool.in_use


def work(orders: dict[str, Any], journal: Journal) -> list[str]:
    """Do what is ordered; return what is left over."""
    strikes = orders["strikes"]
    more = DROPS if "drops" in strikes else {}
    lanes = [
        Lane(
            writer,
            orders["seed"],
            orders["target"],
            {name: Progress(*progress) for name, progress in conversations.items()},
            {**(TASK_KINDS if "a" in writer else KINDS), **more},
        )
        for writer, conversations in orders["lanes"].items()
    ]
    on_threads = [lane for lane in lanes if "t" in lane.writer]
    before = Holdings.now()
    straight = homing.Client(orders["url"], **settings(orders))
    balanced = homing.Client(orders["balancer"] or orders["url"], **settings(orders))
    left: list[str] = []

    def client(name: str) -> homing.Client:
        return balanced if goes_through(name) else straight

    def hold_tasks() -> None:
        left.extend(asyncio.run(on_tasks(orders, store, [lane for lane in lanes if "a" in lane.writer], watched)))

    with contextlib.ExitStack() as stack:
        watched = stack.enter_context(Watched(journal, orders["limit"]))
        store = stack.enter_context(SQLiteStore(orders["path"]))
        stack.enter_context(straight)
        stack.enter_context(balanced)
        seed = f"{orders['seed']} {on_threads[0].writer} {os.getpid()}"
        if "collector" in strikes:
            stack.enter_context(Collector(seed))
        if "forks" in strikes:
            stack.enter_context(Forks(seed, straight, journal, orders["limit"]))
        running = [threading.Thread(target=hold_tasks, name="tasks")]
        running += [
            threading.Thread(target=threads.hold, args=(lane, client, store, watched), name=lane.writer)
            for lane in on_threads[1:]
        ]
        for thread in running:
            thread.start()
        # Signals are delivered here, to the main thread.
        on_threads[0].struck = "signals" in strikes
        threads.hold(on_threads[0], client, store, watched, Signals(seed))
        for thread in running:
            thread.join()
        gc.collect()
        for used in (straight, balanced):
            close_dropped(used._options.server_state.dropped)
        left += connections_in_use(straight) + connections_in_use(balanced)
    return left + left_over(before)


def import_all() -> None:
    """Import what turns would import on their way.

    In a child that is forked while another thread imports a module, CPython leaves that module locked for ever.
    """
    for package in ("homing.core", "homing._sync", "homing._async", "homing.types"):
        for found in pkgutil.iter_modules(importlib.import_module(package).__path__, f"{package}."):
            importlib.import_module(found.name)
    importlib.import_module("docstring_parser")


def main() -> None:
    """Work until all is said, and say what is left over."""
    import_all()
    faulthandler.enable()  # SIGABRT: the last word of a process that the watchdog itself cannot run in
    logging.getLogger("homing").setLevel(logging.ERROR)  # each retry is a warning
    journal = Journal(to_pipe(1))
    orders = json.loads(sys.stdin.readline())
    watch(journal, orders["strikes"])
    journal.note("end", leaks=[left[:300] for left in work(orders, journal)[:8]])


if __name__ == "__main__":
    main()
