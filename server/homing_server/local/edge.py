"""The local edge as an object: start it, point a client at ``url``, steer it, look at its log."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import anyio
import anyio.to_thread

from homing.errors import ConfigurationError, HomingError

from .answers import Script, Scripted
from .faults import Fault, Faults
from .listener import bind
from .records import Log, Record
from .service import Service
from .settings import EdgeSettings
from .sglang_settings import LocatedSGLang, SGLangSettings

Result = TypeVar("Result")

# Waiting in a test that went wrong must end, and say so, long before the test runner's own limit.
_WAIT_TIMEOUT = 10.0
_NOT_STARTED = "The edge has not been started: use it in a `with` block, or call start()."


class Edge:
    """A local stand-in for Modal's edge with its replicas, in a thread of its own.

    Use it as a context manager, sync or async, or call ``start`` and ``stop``. Every method
    may be called from any thread. Without settings: one emulated replica that scales to
    three, at a realistic speed; ``EdgeSettings.instant()`` is made for tests. With
    ``engine`` the replicas are real SGLang processes; give them ``cold_start=0``, since they
    have a real one.

    Raises ``ConfigurationError`` when the port is taken, SGLang or its model is missing, or
    memory is short; ``EngineFailed`` when SGLang does not start. It is a development stand-in: it
    has one process, no TLS and no limits against abuse.
    """

    def __init__(self, settings: EdgeSettings | None = None, *, engine: SGLangSettings | None = None) -> None:
        self.settings = settings or EdgeSettings()
        self.engine = engine
        self._sglang: LocatedSGLang | None = None
        self._script = Script()
        self._faults = Faults()
        self._log = Log(size=self.settings.log_size)
        self._changes = threading.Condition()
        self._thread: threading.Thread | None = None
        self._service: Service | None = None
        self._url: str | None = None

    def __repr__(self) -> str:
        return f"<Edge {self._url or 'not started'}>"

    # Life

    def start(self) -> Edge:
        """Listen, with the initial replicas ready, and return self."""
        if self._thread is not None:
            raise HomingError("This edge is already running.")
        settings = self.settings
        if self.engine is not None:
            self._sglang = self.engine.located()
            self._sglang.check_memory(settings.max_replicas)
        try:
            sock = bind(settings.host, settings.port)
        except OSError as error:
            raise ConfigurationError(
                f"port: cannot listen on {settings.host}:{settings.port} ({error.strerror}). "
                "Use another port, or 0 for a free one."
            ) from error
        host, port = sock.getsockname()[:2]
        self._url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        up = threading.Event()
        self._service = None
        self._thread = threading.Thread(target=self._serve, args=(sock, up), name="homing-edge", daemon=True)
        self._thread.start()
        up.wait()
        self._wait_for_first()
        return self

    def _wait_for_first(self) -> None:
        """Wait for the initial replicas; those that cannot start end the edge too."""
        first, started = self.settings.first_replicas, self._started
        limit = _WAIT_TIMEOUT if self.engine is None else self.engine.start_timeout + _WAIT_TIMEOUT
        try:
            self.wait_for(lambda edge: len(edge.ready) >= first or started.lifecycle.failure, timeout=limit)
            if (failure := started.lifecycle.failure) is not None and len(self.ready) < first:
                raise failure
        except BaseException:  # Ctrl-C too: no process may be left
            self.stop()
            raise

    def stop(self, *, grace: float = 0.0) -> None:
        """Stop listening, let running requests finish for ``grace`` seconds, cut the rest."""
        if self._thread is None:
            return
        self._started.stop(grace)
        self._thread.join()
        self._thread = None

    def __enter__(self) -> Edge:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Edge:
        return await anyio.to_thread.run_sync(self.start)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self.stop)

    # What it shows

    @property
    def url(self) -> str:
        """Where it listens, without a trailing slash and without ``/v1``."""
        if self._url is None:
            raise HomingError(_NOT_STARTED)
        return self._url

    @property
    def log(self) -> tuple[Record, ...]:
        """The latest requests, oldest first. Those still running are among them."""
        return self._log.records

    @property
    def running(self) -> int:
        """Requests in flight on replicas."""
        return self._started.fleet.running

    @property
    def ready(self) -> list[str]:
        """Ids of the replicas that take requests."""
        return self._started.fleet.ready

    @property
    def replicas(self) -> dict[str, str]:
        """State (starting, ready, draining) by replica id."""
        return {member.id: member.state.value for member in self._started.fleet.members}

    def wait_for(self, predicate: Callable[[Edge], object], *, timeout: float = _WAIT_TIMEOUT) -> None:
        """Return when ``predicate(edge)`` is true; it is asked again at every change of log or fleet.

        Raises ``TimeoutError`` after ``timeout`` seconds.
        """
        with self._changes:
            if not self._changes.wait_for(lambda: predicate(self), timeout):
                raise TimeoutError(
                    f"not so within {timeout:g} s: replicas {self.replicas}, {self.running} running, "
                    f"{len(self.log)} requests in the log"
                )

    @property
    def pids(self) -> dict[str, int]:
        """Process id of the engine by replica id, where replicas are SGLang processes."""
        return self._started.lifecycle.pids

    @property
    def log_folder(self) -> Path | None:
        """Where SGLang processes write their logs; None where replicas are none."""
        return self._started.log_folder

    # Steering

    def answer_with(self, answer: Scripted | None) -> None:
        """Use this answer for every reply from now on; None returns to the engine's own text.

        A string, an ``Answer``, or a function of the request's JSON that returns one.
        """
        self._do(lambda: self._script.always(answer))

    def answer_next(self, *answers: Scripted) -> None:
        """Use each of these once, in order, before anything else."""
        self._do(lambda: self._script.once(answers))

    def inject(self, fault: Fault) -> None:
        """Arm a fault."""
        self._do(lambda: self._faults.arm(fault))

    def clear_faults(self) -> None:
        """Disarm every fault that is not spent."""
        self._do(self._faults.clear)

    def hold_cold(self) -> None:
        """Kill every replica and let none become ready until ``become_ready``."""
        self._do(self._started.fleet.hold_cold)

    def become_ready(self, count: int | None = None) -> None:
        """End the cold start of ``count`` starting replicas (None: all; starts some if none is).

        Returns when they are ready.
        """
        released = self._do(lambda: self._started.fleet.release_cold(count))
        self.wait_for(lambda edge: not any(edge.replicas.get(name) == "starting" for name in released))

    def scale(self, count: int) -> None:
        """Fix the number of replicas and return when it is so; new ones skip the cold start.

        0 sends the edge to sleep: the next request starts it as it was set up.
        """
        self._do(lambda: self._started.fleet.scale(count))
        self.wait_for(lambda edge: edge._started.fleet.held or len(edge.ready) == count)

    def drain(self, replica_id: str) -> None:
        """Route nothing new to a replica and let it finish within ``exit_grace``."""
        self._check(replica_id)
        self._do(lambda: self._started.fleet.drain(replica_id))

    def kill(self, replica_id: str) -> None:
        """Let a replica die at once; its connections break."""
        self._check(replica_id)
        self._do(lambda: self._started.fleet.kill(replica_id))

    def reset(self) -> None:
        """Between tests: fresh replicas as at the start, no faults, no answers, an empty log."""

        def fresh() -> None:
            self._faults.clear()
            self._script.clear()
            self._started.fleet.restart()

        self._do(fresh)
        first = self.settings.first_replicas
        self.wait_for(lambda edge: edge.running == 0 and len(edge.ready) >= first)
        self._do(self._log.clear)

    def _check(self, replica_id: str) -> None:
        if replica_id not in self.replicas:
            there_are = ", ".join(self.replicas) or "none"
            raise ConfigurationError(f"replica_id: there is no {replica_id!r}; there are: {there_are}")

    # The edge's own thread

    @property
    def _started(self) -> Service:
        if self._service is None:
            raise HomingError(_NOT_STARTED)
        return self._service

    def _do(self, work: Callable[[], Result]) -> Result:
        """Run ``work`` on the edge's thread, then let the fleet act on it."""
        service = self._started
        if threading.current_thread() is self._thread:
            raise HomingError("Steering the edge from one of its own callbacks would wait for itself.")
        if self._thread is None:
            raise HomingError("The edge has been stopped.")

        async def on_loop() -> Result:
            result = work()
            service.lifecycle.advance()
            return result

        return asyncio.run_coroutine_threadsafe(on_loop(), service.loop).result()

    def _serve(self, sock: socket.socket, up: threading.Event) -> None:
        async def serve() -> None:
            self._service = Service(
                self.settings,
                script=self._script,
                faults=self._faults,
                log=self._log,
                changed=self._notify,
                sglang=self._sglang,
            )
            await self._service.run(sock, up=up)

        try:
            asyncio.run(serve())
        finally:
            up.set()  # also where it failed, so that start() does not wait for nothing

    def _notify(self) -> None:
        with self._changes:
            self._changes.notify_all()
