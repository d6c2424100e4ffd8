"""Servers killed in the middle of the work, and callers interrupted in it: what was acknowledged is there."""

from __future__ import annotations

import contextlib
import importlib.util
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from homing.errors import StoreError, VersionConflict
from homing.stores import SQLStore, Store

from ..striking import Alarm, strikes

pytestmark = pytest.mark.services

GUARD = 120.0
"""Seconds after which something hangs: a killed MariaDB takes ten to come back."""

KILLS, WRITERS = 3, 4


def _services() -> Any:
    path = Path(__file__).parents[2] / "scripts" / "services.py"
    spec = importlib.util.spec_from_file_location("homing_services", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


services = _services()


class Server:
    """A server of our own, which can be killed and started again over its data."""

    def __init__(self, service: Any, home: Path) -> None:
        self._service, self._log = service, home / "log"
        self._account = services.unprivileged()
        self._data = home / "data"
        self._data.mkdir(mode=0o700)
        if self._account is not None:
            services.os.chown(self._data, self._account.uid, self._account.gid)
        if service.prepare is not None:
            prepared = services.launch(service.prepare(self._data), account=self._account, log=self._log)
            assert prepared.wait(GUARD) == 0
        self._port = services.free_port()
        self.url = service.url.format(port=self._port)
        self.start()

    def start(self) -> None:
        command = self._service.start(self._data, self._port)
        self._process = services.launch(command, account=self._account, log=self._log)
        services.wait_for(self._process, self._port, self._service.name, self._log)

    def kill(self) -> None:
        services.os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        services.stop(self._process)


@pytest.fixture(params=[service.name for service in services.SERVICES if service.start is not None])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    (service,) = (service for service in services.SERVICES if service.name == request.param)
    with tempfile.TemporaryDirectory(prefix="homing-killed-") as directory:
        home = Path(directory)
        home.chmod(0o711)
        running = Server(service, home)
        try:
            yield running
        finally:
            running.stop()


def opened(url: str) -> Store:
    if url.startswith("redis"):
        from homing.stores import RedisStore

        return RedisStore(url)
    return SQLStore(url)


def again_and_again(call: Callable[[], Any]) -> Any:
    """Call until the server is back."""
    waiting = threading.Event()
    for _ in range(int(GUARD * 10)):
        with contextlib.suppress(StoreError):
            return call()
        waiting.wait(0.1)
    raise AssertionError("the store does not come back")


def test_killed_in_the_middle_of_the_work(server: Server) -> None:
    stop = threading.Event()
    acknowledged: list[list[int]] = [[] for _ in range(WRITERS)]
    with opened(server.url) as store, ThreadPoolExecutor(WRITERS) as pool:

        def write(writer: int) -> None:
            number = 0
            while not stop.is_set():
                try:
                    found = store.load(f"c{writer}")
                    store.commit(f"c{writer}", expected_version=found.version if found else 0, turns=[{"n": number}])
                except (StoreError, VersionConflict):
                    number += 1  # it may be there or not; its number is not used again
                else:
                    acknowledged[writer].append(number)
                    number += 1

        writing = [pool.submit(write, writer) for writer in range(WRITERS)]
        try:
            for _ in range(KILLS):
                before = [len(numbers) for numbers in acknowledged]
                for _ in range(int(GUARD * 10)):
                    if all(len(now) > then + 20 for now, then in zip(acknowledged, before, strict=True)):
                        break
                    stop.wait(0.1)
                else:
                    raise AssertionError("the store does not come back")
                server.kill()
                server.start()
        finally:
            stop.set()
            for each in writing:
                each.result(GUARD)
        for writer, numbers in enumerate(acknowledged):
            found = again_and_again(partial(store.load, f"c{writer}"))
            kept = [turn["n"] for turn in found.turns]
            assert kept == sorted(set(kept))
            assert set(numbers) <= set(kept)


def test_an_exception_at_any_point_of_a_call(server: Server) -> None:
    with opened(server.url) as store, ThreadPoolExecutor(1) as pool:
        for operation in ("load", "list", "commit"):
            for strike in strikes():
                store.delete("c")
                version = store.commit("c", expected_version=0, header={"n": 0})
                calls: dict[str, Callable[[], object]] = {
                    "load": partial(store.load, "c"),
                    "list": store.list,
                    "commit": partial(store.commit, "c", expected_version=version, turns=[{"n": 1}]),
                }
                with contextlib.suppress(Alarm):
                    strike.run(calls[operation])
                found = pool.submit(store.load, "c").result(GUARD)
                assert found is not None
                assert found.version - version == len(found.turns) <= 1, strike.struck
                assert pool.submit(store.list).result(GUARD).items[0].id == "c"
