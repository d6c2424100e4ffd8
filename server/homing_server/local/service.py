"""The edge's side of the thread: one event loop with the listener, the fleet and its engines."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from .answers import Script
from .emulated import EmulatedEngine
from .faults import Faults
from .fleet import Fleet
from .gateway import Gateway
from .lifecycle import Lifecycle
from .listener import Listener
from .proxied import ProxiedEngine
from .records import Log
from .replica import Replica
from .settings import EdgeSettings
from .sglang_replica import SGLangReplica
from .sglang_settings import LocatedSGLang


class Service:
    """Everything that lives on the edge's event loop. Made and run on its thread.

    ``changed`` is called after every change of log or fleet. With ``sglang`` the replicas are
    its processes.
    """

    def __init__(
        self,
        settings: EdgeSettings,
        *,
        script: Script,
        faults: Faults,
        log: Log,
        changed: Callable[[], None],
        sglang: LocatedSGLang | None = None,
    ) -> None:
        self._settings = settings
        self._sglang = sglang
        self._script = script
        self._changed = changed
        self._progress = asyncio.Event()
        self._grace = 0.0
        self.log_folder: Path | None = None
        self.loop = asyncio.get_running_loop()
        self.fleet = Fleet(settings, clock=self.loop.time)
        self.lifecycle = Lifecycle(self.fleet, create=self._engine, changed=self._notify)
        gateway = Gateway(settings, lifecycle=self.lifecycle, faults=faults, log=log)
        self._listener = Listener(gateway, on_exit=self._exit)

    async def run(self, sock: socket.socket, *, up: threading.Event) -> None:
        """Serve until ``stop``; ``up`` is set once connections are accepted."""
        self.lifecycle.advance()
        watcher = asyncio.ensure_future(self._listener.up.wait())
        watcher.add_done_callback(lambda _: up.set())
        await self._listener.serve(sockets=[sock])

    def stop(self, grace: float) -> None:
        """Begin to end: requests may run for ``grace`` more seconds. From any thread."""

        def begin() -> None:
            self._grace = grace
            self._listener.stop()

        self.loop.call_soon_threadsafe(begin)

    async def _exit(self) -> None:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._idle(), self._grace)
        await self.lifecycle.stop()

    async def _idle(self) -> None:
        while self.fleet.running:
            self._progress.clear()
            await self._progress.wait()

    def _notify(self) -> None:
        self._progress.set()
        self._changed()

    def _engine(self, replica_id: str) -> Replica:
        settings = self._settings
        if self._sglang is not None:
            return SGLangReplica(
                self._sglang,
                replica_id=replica_id,
                replicas=settings.max_replicas,
                log_folder=self._log_folder(self._sglang),
                died=lambda: self.lifecycle.lose(replica_id, replace=False),
            )
        if settings.backends:
            number = int(replica_id.removeprefix("r")) - 1
            return ProxiedEngine(settings.backends[number % len(settings.backends)])
        return EmulatedEngine(settings.engine, replica_id=replica_id, script=self._script, seed=settings.seed)

    def _log_folder(self, sglang: LocatedSGLang) -> Path:
        if self.log_folder is None:
            self.log_folder = sglang.settings.log_folder or Path(tempfile.mkdtemp(prefix="homing-engine-"))
            self.log_folder.mkdir(parents=True, exist_ok=True)
        return self.log_folder
