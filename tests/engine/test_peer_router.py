"""SGLang Model Gateway (sglang-router) in front of the same replicas: stickiness checked by somebody else's router."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from homing import Client, HeaderAffinity, NoAffinity
from homing_server.local import Edge
from homing_server.local.engine_environment import TINY_MODEL

from ..server.support.container import free_port
from .conftest import PLAIN

# Seconds until it has looked at its workers; it takes a fraction of one.
READY = 60.0


def worker_url(pid: int) -> str:
    argv = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    return f"http://127.0.0.1:{argv[argv.index('--port') + 1]}"


@pytest.fixture(scope="module")
def gateway(edge: Edge, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-m", "sglang_router.launch_router", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--policy", "manual", "--prometheus-host", "127.0.0.1", "--prometheus-port", str(free_port())]
    command += ["--worker-urls", *map(worker_url, edge.pids.values())]
    log = tmp_path_factory.mktemp("gateway") / "log"
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            deadline = time.monotonic() + READY
            while True:
                try:
                    if httpx.get(url + "/readiness").status_code == 200:
                        break
                except httpx.TransportError:
                    pass
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
            yield url
        finally:
            process.send_signal(signal.SIGKILL)


def strayed(client: Client, kind: str) -> list[int]:
    """How many turns of each of eight conversations did not find all that had been said before.

    The gateway passes on nothing that names a replica, so the cache itself is the witness.
    """
    counts = []
    for number in range(8):
        chat = client.conversation(system=f"{kind} {number}: you have a good memory.", **PLAIN)
        turns = [chat.send(question, max_tokens=3).telemetry for question in ("One?", "Two?", "Three?", "Four?")]
        found = [later.cached_tokens or 0 for later in turns[1:]]
        said = [(turn.prompt_tokens or 0) + (turn.completion_tokens or 0) - 1 for turn in turns[:-1]]
        counts.append(sum(got < all_of_it for got, all_of_it in zip(found, said, strict=True)))
    return counts


def test_conversations_come_home_through_sglangs_own_gateway(gateway: str) -> None:
    affinity = HeaderAffinity("X-SMG-Routing-Key")
    with Client(base_url=gateway, model=TINY_MODEL, affinity=affinity) as client:
        assert strayed(client, "kept") == [0] * 8


def test_without_a_key_they_stray(gateway: str) -> None:
    with Client(base_url=gateway, model=TINY_MODEL, affinity=NoAffinity()) as client:
        assert sum(strayed(client, "lost")) > 0
