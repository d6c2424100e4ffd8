"""A replica that is a real SGLang process behind the edge."""

from __future__ import annotations

import asyncio
import functools
import logging
import random
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from homing.core.text.control_characters import strip_controls
from homing.errors import HomingError
from homing_server.process import Engine, EngineDied, EngineError, EngineHung

from .proxied import ProxiedEngine
from .replica import Reply, Request
from .sglang_settings import LocatedSGLang

logger = logging.getLogger("homing.edge")

# As on Modal: server settings, watchdog_timeout and watchdog_failures.
_WATCHDOG_TIMEOUT = 25.0
_WATCHDOG_FAILURES = 3

PORTS = range(20_000, 32_768)
"""Below those that Linux gives to outgoing connections, so that none takes the port while the engine
loads; and SGLang claims the port 10,000 above its own for gRPC, which must exist too (0.5.14)."""


class EngineFailed(HomingError):
    """A replica's SGLang did not start. The message has its exit code and last log lines."""

    _clean = staticmethod(strip_controls)  # lines


class SGLangReplica:
    """Starts SGLang on a free port, passes requests on to it, and ends its whole process group.

    ``died`` is called on the edge's loop when the process ends by itself. The process ends
    with this one too, however that goes.
    """

    def __init__(
        self,
        sglang: LocatedSGLang,
        *,
        replica_id: str,
        replicas: int,
        log_folder: Path,
        died: Callable[[], None],
    ) -> None:
        self._sglang = sglang
        self._died = died
        self._loop = asyncio.get_running_loop()
        self.log_path = log_folder / f"{replica_id}.log"
        self._log: TextIO | None = None
        self._lock = threading.Lock()
        self._prepare = functools.partial(_prepare, sglang, replica_id, replicas, self._write)
        self._proxied, self._engine = self._prepare()
        self._stopped = False

    def __repr__(self) -> str:
        return f"<SGLangReplica {self._proxied.base_url} {self._engine!r}>"

    @property
    def pid(self) -> int | None:
        """Process id of the engine, None until it is started."""
        process = self._engine.process
        return process.pid if process else None

    async def start(self) -> None:
        """Return when SGLang is warm and has its prefix cache on. Raises :class:`EngineFailed`."""
        self._log = self.log_path.open("w", encoding="utf-8")
        try:
            try:
                await asyncio.to_thread(self._engine.start, timeout=self._sglang.settings.start_timeout)
            except EngineHung as error:
                if self._stopped:
                    raise
                logger.warning("SGLang is started once more: %s; its stacks: %s", error, self.log_path)
                await self._proxied.stop()
                self._proxied, self._engine = self._prepare()
                await asyncio.to_thread(self._engine.start, timeout=self._sglang.settings.start_timeout)
        except EngineError as error:
            raise EngineFailed(f"{_hint(error)}{error}\n(whole log: {self.log_path})") from error
        if self._sglang.settings.watchdog:
            self._engine.watch(
                interval=self._sglang.settings.watchdog, timeout=_WATCHDOG_TIMEOUT, failures=_WATCHDOG_FAILURES
            )
        threading.Thread(target=self._wait, name="engine-wait", daemon=True).start()

    async def answer(self, request: Request, reply: Reply) -> None:
        """Pass one request on; leaving it aborts it in SGLang."""
        await self._proxied.answer(request, reply)

    async def stop(self) -> None:
        """End the process group. Its requests have ended before, so there is nothing to wait for."""
        self._stopped = True
        await self._proxied.stop()
        await asyncio.to_thread(self._engine.kill)
        with self._lock:
            if self._log is not None:
                self._log.close()
                self._log = None

    def _wait(self) -> None:
        process = self._engine.process
        assert process is not None
        code = process.wait()
        if not self._engine.stopping:
            logger.error("SGLang (pid %d) ended with code %d; its log: %s", process.pid, code, self.log_path)
        try:
            self._loop.call_soon_threadsafe(self._died)
        except RuntimeError:  # the edge is gone
            pass

    def _write(self, line: str) -> None:
        with self._lock:
            if self._log is not None:
                self._log.write(line + "\n")
                self._log.flush()


def _prepare(
    sglang: LocatedSGLang, replica_id: str, replicas: int, say: Callable[[str], None]
) -> tuple[ProxiedEngine, Engine]:
    """Return the way to an engine on a free port, and the engine, which is not started."""
    port = free_port()
    engine = Engine(
        sglang.command(replica_id=replica_id, port=port, replicas=replicas),
        port=port,
        environ=sglang.environ(replicas=replicas),
        gated=False,
        say=say,
    )
    return ProxiedEngine(f"http://127.0.0.1:{port}"), engine


def free_port() -> int:
    """Return a port for an engine that takes a while to bind it."""
    while True:
        port = random.choice(PORTS)  # not a secret
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def _hint(error: EngineError) -> str:
    """Say what an engine's last lines mean, where that is known."""
    if not isinstance(error, EngineDied):
        return ""
    said = "\n".join(error.tail).lower()
    if "out of memory" in said or "not enough memory" in said:
        return "Not enough GPU memory: lower `mem_fraction` or `max_total_tokens`, or run fewer replicas.\n"
    if "address already in use" in said:
        return "Another program took the replica's port: start again.\n"
    if "huggingface.co" in said or "offline" in said or "is not a local folder" in said:
        return "The model cannot be downloaded: check its name, the network, and HF_TOKEN if it is gated.\n"
    if error.returncode == -9:
        return "The engine was killed, as the kernel does where memory is short: run fewer replicas.\n"
    return ""
