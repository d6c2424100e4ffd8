"""The life of a replica that is a process, with processes that only seem to be SGLang."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import homing_server.process as process_module
from homing_server.local.sglang_replica import EngineFailed, SGLangReplica

pytestmark = pytest.mark.anyio

# Hangs for its first so many starts: takes connections and answers nobody.
ENGINE = """
import http.server, json, pathlib, socket, sys, time
port, hung, diary = int(sys.argv[1]), int(sys.argv[2]), pathlib.Path(sys.argv[3])
with diary.open("a") as file:
    file.write("start\\n")
if len(diary.read_text().splitlines()) <= hung:
    listener = socket.create_server(("127.0.0.1", port))
    time.sleep(600)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = json.dumps({"disable_radix_cache": False}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_POST = do_GET
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


class Settings:
    start_timeout = 60.0
    watchdog = 0.0


class Located:
    """What a replica asks of `LocatedSGLang`."""

    settings = Settings()

    def __init__(self, folder: Path, *, hung: int) -> None:
        self.diary = folder / "diary"
        self._hung = hung

    def command(self, *, replica_id: str, port: int, replicas: int) -> list[str]:
        return [sys.executable, "-c", ENGINE, str(port), str(self._hung), str(self.diary)]

    def environ(self, *, replicas: int) -> dict[str, str]:
        return dict(os.environ)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # the edge's own


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_module, "HEALTH_TIMEOUT", 0.2)
    monkeypatch.setattr(process_module, "HUNG", 0.5)


def replica_of(located: Any, folder: Path) -> SGLangReplica:
    return SGLangReplica(located, replica_id="r1", replicas=1, log_folder=folder, died=lambda: None)


async def test_an_engine_that_hangs_at_its_start_is_started_once_more(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    located = Located(tmp_path, hung=1)
    replica = replica_of(located, tmp_path)
    with caplog.at_level(logging.WARNING):
        await replica.start()
    try:
        assert located.diary.read_text() == "start\n" * 2
        assert "SGLang is started once more" in caplog.text
        assert "Fatal Python error: Aborted" in replica.log_path.read_text()
    finally:
        await replica.stop()


async def test_an_engine_that_hangs_twice_has_failed(tmp_path: Path) -> None:
    located = Located(tmp_path, hung=2)
    replica = replica_of(located, tmp_path)
    with pytest.raises(EngineFailed, match="takes connections but has not answered"):
        await replica.start()
    await replica.stop()
    assert located.diary.read_text() == "start\n" * 2


async def test_one_that_is_told_to_stop_meanwhile_is_not_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hung, stopped = threading.Event(), threading.Event()

    def wait_for_stop(*_: Any) -> None:
        hung.set()
        assert stopped.wait(10)

    monkeypatch.setattr(process_module.Engine, "_show_stacks", wait_for_stop)
    located = Located(tmp_path, hung=1)
    replica = replica_of(located, tmp_path)
    start = asyncio.create_task(replica.start())
    assert await asyncio.to_thread(hung.wait, 10)
    await replica.stop()
    stopped.set()
    with pytest.raises(EngineFailed):
        await start
    assert located.diary.read_text() == "start\n"
