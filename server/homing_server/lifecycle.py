"""What Modal calls in a replica's life, the same for both ways of serving it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import modal

from homing_server.engine import command, environment
from homing_server.gate import ADMIN_KEY, API_KEY
from homing_server.process import Engine, EngineError
from homing_server.settings import ServerSettings

# Of startup_timeout, what the engine may use: the rest is for our error to reach the log
# before Modal ends the container without one.
START_SHARE = 0.95
# Seconds of the grace period kept free, so that we and not Modal end the engine.
EXIT_MARGIN = 1
# Seconds for memory to be moved between GPU and host around a snapshot.
SNAPSHOT_TIMEOUT = 300.0


def engine_environ(settings: ServerSettings, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the engine's whole environment: the container's, ours on top, and our package in reach."""
    here = str(Path(__file__).resolve().parent.parent)
    paths = [here, *filter(None, [environ.get("PYTHONPATH")])]
    return {**environ, **environment(settings), "PYTHONPATH": os.pathsep.join(paths)}


def check_keys(settings: ServerSettings, environ: Mapping[str, str]) -> None:
    """Raise :class:`homing_server.process.EngineError` unless both keys are there and differ.

    Modal checks when deploying that the Secret has both names, not that they hold anything,
    and it may be edited later. An empty key would open the door instead of locking it.
    """
    if not settings.asks_keys:
        return
    secret = f"the Modal Secret {settings.secret_name!r}"
    for name in (API_KEY, ADMIN_KEY):
        if not environ.get(name, "").strip():
            raise EngineError(f"{name} is missing or empty in {secret}: without it anyone could come in")
    if environ[API_KEY] == environ[ADMIN_KEY]:
        raise EngineError(f"{API_KEY} and {ADMIN_KEY} are the same in {secret}: every caller would be the operator")


def start_engine(settings: ServerSettings, environ: Mapping[str, str]) -> Engine:
    """Start the engine and return it ready, warm and checked.

    Raises :class:`homing_server.process.EngineError`; then no process is left.
    """
    check_keys(settings, environ)
    engine = Engine(
        command(settings, environ=environ),
        port=settings.port,
        environ=engine_environ(settings, environ),
        gated=settings.engine == "gated",
    )
    engine.start(timeout=START_SHARE * settings.startup_timeout, prefix_cache=settings.prefix_cache)
    return engine


def watch_engine(engine: Engine, settings: ServerSettings) -> None:
    """Start the watchdog with the settings' numbers."""
    engine.watch(
        interval=settings.watchdog_interval,
        timeout=settings.watchdog_timeout,
        failures=settings.watchdog_failures,
    )


def stop_engine(engine: Engine, settings: ServerSettings) -> None:
    """Drain and stop, within what Modal allows the variant.

    On a Server the edge has drained before Modal calls us. On an http_server the replica
    has only been taken out of routing: Modal calls us first and then sleeps through the
    whole grace period with the connections still open, so the engine may go on using it.
    """
    linger = settings.grace - EXIT_MARGIN if settings.variant == "http_server" else 0
    engine.stop(grace=settings.drain, linger=max(0, linger))


class Replica:
    """What both ways to live share.

    Modal looks for the methods of each phase through all base classes, one phase at a time: a
    ``startup`` that a subclass overrides for another phase is called as well. So each phase's
    method stands in one class of a family, and nothing here is overridden.
    """

    settings: ClassVar[ServerSettings]
    engine: Engine

    @modal.exit()
    def stop(self) -> None:
        """Let running replies finish, then end the engine for certain."""
        stop_engine(self.engine, self.settings)


class Lifecycle(Replica):
    """Mixin: an engine that starts with its container and ends with it."""

    @modal.enter()
    def startup(self) -> None:
        """Start the engine, block until it answers and is warm, and keep an eye on it."""
        self.engine = start_engine(self.settings, os.environ)
        watch_engine(self.engine, self.settings)


class SnapshotLifecycle(Replica):
    """Mixin: the warm engine goes into a snapshot of GPU memory, and replicas begin at ``resume``.

    The engine lets go of its GPU memory around the snapshot, as in Modal's examples. Modal
    calls this alpha, and single-GPU (modal.com/docs/guide/memory-snapshot).
    """

    @modal.enter(snap=True)
    def startup(self) -> None:
        """Start the engine, block until it answers and is warm, and release GPU memory."""
        self.engine = start_engine(self.settings, os.environ)
        self._post("/release_memory_occupation")

    @modal.enter(snap=False)
    def resume(self) -> None:
        """Take GPU memory back under this container's own name, and keep an eye on the engine."""
        self._post("/resume_memory_occupation")
        self.engine.rename(os.environ)
        watch_engine(self.engine, self.settings)

    def _post(self, path: str) -> None:
        try:
            self.engine.post(path, timeout=SNAPSHOT_TIMEOUT)
        except BaseException:
            self.engine.kill()  # Modal does not call stop() when startup() or resume() raises
            raise


def lifecycle(settings: ServerSettings) -> type[Replica]:
    """Return the mixin for ``settings``: Modal allows ``snap=True`` only where snapshots are on."""
    return SnapshotLifecycle if settings.gpu_snapshot else Lifecycle
