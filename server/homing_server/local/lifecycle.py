"""Performs what the fleet decides: boots engines, cuts requests, watches the clock."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from .fleet import Fleet, Start
from .replica import Replica

logger = logging.getLogger("homing.edge")

ReplicaFactory = Callable[[str], Replica]


class Lifecycle:
    """The engines of a fleet and the requests that run on them. Lives on the edge's loop.

    ``create`` makes the engine for a replica id; ``changed`` is called after every change.
    """

    def __init__(self, fleet: Fleet, *, create: ReplicaFactory, changed: Callable[[], None]) -> None:
        self.fleet = fleet
        self._create = create
        self._changed = changed
        self._engines: dict[str, Replica] = {}
        self._tasks: dict[str, set[asyncio.Task[None]]] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._alarm: asyncio.TimerHandle | None = None
        self.failure: Exception | None = None
        """Why the latest replica that could not start did not."""

    def engine(self, replica_id: str) -> Replica:
        """Return the engine of a live replica."""
        return self._engines[replica_id]

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by replica id, of the engines that are processes."""
        found = {name: getattr(engine, "pid", None) for name, engine in self._engines.items()}
        return {name: pid for name, pid in found.items() if pid is not None}

    def advance(self) -> None:
        """Perform what is due, and come back when the clock says that more is."""
        for command in self.fleet.advance():
            if isinstance(command, Start):
                self._boot(command.replica_id)
            else:
                self._remove(command.replica_id)
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        due = self.fleet.next_due()
        if due is not None:
            self._alarm = asyncio.get_running_loop().call_at(due, self.advance)
        self._changed()

    def attach(self, replica_id: str, task: asyncio.Task[None]) -> None:
        """Let ``task`` be cancelled when the replica goes; its request was counted by ``admit``."""
        self._tasks.setdefault(replica_id, set()).add(task)

    def detach(self, replica_id: str, task: asyncio.Task[None]) -> None:
        """Count the request of ``task`` as ended."""
        self._tasks.get(replica_id, set()).discard(task)
        self.fleet.release(replica_id)
        self.advance()

    def lose(self, replica_id: str, *, replace: bool) -> None:
        """Let a replica die; with ``replace`` another is ready at once."""
        if replica_id in self._engines:
            self.fleet.kill(replica_id)
            if replace:
                self.fleet.replace()
            self.advance()

    async def stop(self) -> None:
        """Cut every request and release every engine."""
        if self._alarm is not None:
            self._alarm.cancel()
        for member in self.fleet.members:
            self.fleet.kill(member.id)
            self._remove(member.id)
        self._changed()
        while self._background:
            await asyncio.gather(*self._background, return_exceptions=True)

    def _boot(self, replica_id: str) -> None:
        engine = self._engines[replica_id] = self._create(replica_id)

        async def boot() -> None:
            try:
                await engine.start()
            except Exception as error:  # noqa: BLE001 - kept, and raised to whoever waits for it
                if replica_id in self._engines:  # else it was told to go while it started
                    logger.error("replica %s did not start: %s", replica_id, error)
                    self.failure = error
                    self.fleet.failed(replica_id)
                    self.advance()
            else:
                self.fleet.booted(replica_id)
                self.advance()

        self._run(boot())

    def _remove(self, replica_id: str) -> None:
        engine = self._engines.pop(replica_id, None)
        tasks = self._tasks.pop(replica_id, set())
        for task in tasks:
            task.cancel()

        async def release() -> None:
            if tasks:
                await asyncio.wait(tasks)
            if engine is not None:
                await engine.stop()

        self._run(release())

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
