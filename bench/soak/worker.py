"""The client process: many conversations at once, in rounds. Each is begun, talks, and is deleted.

Reads its orders from standard input, as JSON; writes a sample behind each round, and how it ended.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import sys
import threading
import time
import tracemalloc
from collections import Counter
from dataclasses import asdict
from typing import Any

from chaos import tasks, threads
from chaos.journal import Entry, Journal, to_pipe
from chaos.lane import KINDS, TASK_KINDS, Kind, Lane, Progress, system_prompt
from chaos.leftovers import Holdings, left_over
from chaos.worker import settings, watch

import homing
from homing.stores import SQLiteStore

from .sample import take

ON_THREADS = 5
"""One conversation in so many has a thread, the others are tasks."""


class Soak:
    """All rounds of one run."""

    def __init__(self, orders: dict[str, Any], say: Journal) -> None:
        self._orders = orders
        self._say = say
        self._counted: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._journal = Journal(self._count)

    async def run(self) -> None:
        """Go on until the time is up, or the rounds are done."""
        orders, limits = self._orders, settings({"limit": None, **self._orders})
        ends, rounds = time.monotonic() + orders["seconds"], 0
        with SQLiteStore(orders["path"]) as store, homing.Client(orders["url"], **limits) as client:
            async with homing.AsyncClient(orders["url"], **limits) as async_client:
                while rounds < orders["rounds"] or time.monotonic() < ends:
                    await self._round(rounds, client, async_client, store)
                    rounds += 1
                    sample = take(self._counted["acked"], client, async_client, database=orders["path"])
                    self._say.note("sample", **asdict(sample))
        self._say.note("turns", **self._counted)

    async def _round(
        self, number: int, client: homing.Client, async_client: homing.AsyncClient, store: SQLiteStore
    ) -> None:
        names = [f"c{place}-{number}" for place in range(self._orders["conversations"])]
        running = [
            threading.Thread(target=self._on_thread, args=(name, client, store), name=name)
            for name in names[::ON_THREADS]
        ]
        for thread in running:
            thread.start()
        others = [name for place, name in enumerate(names) if place % ON_THREADS]
        await asyncio.gather(*(self._on_task(name, async_client, store) for name in others))
        for thread in running:
            await asyncio.to_thread(thread.join)

    def _on_thread(self, name: str, client: homing.Client, store: SQLiteStore) -> None:
        chat = client.conversation(name, system=system_prompt(name), store=store)
        lane, dice = self._lane(name, KINDS), random.Random(name)
        for _, line in lane.lines():
            time.sleep(self._pause(dice))
            if threads.say(chat, line, self._journal):
                lane.acknowledged(name)
        store.delete(name)

    async def _on_task(self, name: str, client: homing.AsyncClient, store: SQLiteStore) -> None:
        chat = client.conversation(name, system=system_prompt(name), store=store)
        lane, dice = self._lane(name, TASK_KINDS), random.Random(name)
        for _, line in lane.lines():
            await asyncio.sleep(self._pause(dice))
            if await tasks.say(chat, line, self._journal):
                lane.acknowledged(name)
        await asyncio.to_thread(store.delete, name)

    def _lane(self, name: str, kinds: dict[Kind, int]) -> Lane:
        orders = self._orders
        return Lane("w", orders["seed"], orders["turns"], {name: Progress()}, kinds)

    def _pause(self, dice: random.Random) -> float:
        pause: float = self._orders["pause"]
        return dice.random() * 2 * pause

    def _count(self, entry: Entry) -> None:
        with self._lock:
            self._counted[entry["what"]] += 1


def main() -> None:
    """Soak, and say what is left over."""
    logging.getLogger("homing").setLevel(logging.ERROR)
    say = Journal(to_pipe(1))
    watch(say, frozenset())
    orders = json.loads(sys.stdin.readline())
    before = Holdings.now()
    if orders["trace"]:
        tracemalloc.start()
    asyncio.run(Soak(orders, say).run())
    say.note("end", leaks=[left[:300] for left in left_over(before)[:8]])


if __name__ == "__main__":
    main()
