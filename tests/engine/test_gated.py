"""A replica as Modal's container runs it: real SGLang behind our launcher and gate, under our supervisor."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from homing_server.lifecycle import engine_environ
from homing_server.local import SGLangSettings
from homing_server.local.engine_environment import ENGINE_SIDE, EngineEnvironment
from homing_server.process import Engine
from homing_server.settings import ServerSettings
from tests.server.support.container import alive, free_port, until

KEYS = {"HOMING_API_KEY": "sk-caller", "HOMING_ADMIN_KEY": "sk-admin", "MODAL_TASK_ID": "ta-real"}
START_TIMEOUT = 240.0


class Replica:
    def __init__(self, folder: Path) -> None:
        located = SGLangSettings(device="cpu", max_running=4, max_queued=2).located()
        self.port = free_port()
        # On a machine without GPU each of SGLang's processes has to be told before it imports SGLang.
        (folder / "sitecustomize.py").write_text("import without_gpu\nwithout_gpu.prepare()\n")
        _, _, *arguments = located.command(replica_id="unused", port=self.port, replicas=1)
        environ = engine_environ(ServerSettings.of(), {**located.environ(replicas=1), **KEYS})
        environ["PYTHONPATH"] = os.pathsep.join([environ["PYTHONPATH"], str(folder), str(ENGINE_SIDE / "cpu")])
        self.lines: list[str] = []
        self.engine = Engine(
            [str(located.python), "-m", "homing_server.launcher", *arguments, "--skip-server-warmup"],
            port=self.port,
            environ=environ,
            say=self.lines.append,
        )
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", trust_env=False, timeout=60)

    def group(self) -> list[int]:
        """Every process of the engine, its workers included."""
        assert self.engine.process
        return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if self._has(pid)]

    def _has(self, pid: int) -> bool:
        assert self.engine.process
        try:
            return os.getpgid(pid) == self.engine.process.pid and alive(pid)
        except ProcessLookupError:
            return False


@pytest.fixture(scope="module")
def replica(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    assert EngineEnvironment().ready
    replica = Replica(tmp_path_factory.mktemp("gated"))
    try:
        replica.engine.start(timeout=START_TIMEOUT, prefix_cache="require")
        yield replica
    finally:
        replica.engine.kill()
        replica.http.close()


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def chat(**extra: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "Hello, how are you?"}], "max_tokens": 8, **extra}


def test_the_real_engine_passes_the_supervisors_checks(replica: Replica) -> None:
    """Warm-up, gate and prefix cache, by SGLang's own /server_info: `start` raises otherwise."""
    assert not [line for line in replica.lines if line.startswith("WARNING: the engine")]
    titles = [Path(f"/proc/{pid}/cmdline").read_text() for pid in replica.group()]
    assert [title for title in titles if "scheduler" in title], titles


@pytest.mark.parametrize("stream", [False, True])
def test_callers_need_the_key_and_see_the_replica(replica: Replica, stream: bool) -> None:
    assert replica.http.post("/v1/chat/completions", json=chat(stream=stream)).status_code == 401
    reply = replica.http.post("/v1/chat/completions", json=chat(stream=stream), headers=bearer("sk-caller"))
    assert (reply.status_code, reply.headers["x-homing-replica"]) == (200, "ta-real")
    assert ("[DONE]" in reply.text) == stream


@pytest.mark.parametrize("path", ["/flush_cache", "/metrics", "/server_info", "/get_internal_state", "/start_profile"])
def test_the_operators_routes_are_shut(replica: Replica, path: str) -> None:
    assert replica.http.get(path).status_code == 403
    assert replica.http.get(path, headers=bearer("sk-caller")).status_code == 403


def test_every_route_that_the_real_app_describes_is_decided_and_guarded(replica: Replica) -> None:
    """By its own OpenAPI document, which leaves some out; tests/attack/test_gate.py has all, from the sources."""
    policy = (Path(__file__).parents[1] / "server" / "gate_policy.txt").read_text().replace(":path}", "}")
    who = {route: by for by, route in (line.split(maxsplit=1) for line in policy.splitlines() if line[:1] in "co")}
    described = replica.http.get("/openapi.json", headers=bearer("sk-caller")).json()["paths"]
    assert len(described) > 50
    for path, methods in described.items():
        for method in methods:
            route = f"{method.upper()} {path}"
            assert route in who, f"decide in gate_policy.txt: {route}"
            refused = {401, 403} if who[route] == "caller" else {403}
            assert replica.http.request(method, path).status_code in refused, route
            if who[route] == "operator":
                assert replica.http.request(method, path, headers=bearer("sk-caller")).status_code == 403, route


def test_the_metrics_are_shown_by_no_method_without_the_operators_key(replica: Replica) -> None:
    for method in ("GET", "HEAD", "POST", "OPTIONS", "TRACE", "PROPFIND"):
        for headers in ({}, bearer("sk-caller")):
            reply = replica.http.request(method, "/metrics", headers=headers)
            assert reply.status_code in (400, 403)
            assert "sglang" not in reply.text


def test_the_operator_comes_in_and_finds_no_key(replica: Replica) -> None:
    """SGLang itself would show its own keys here."""
    told = replica.http.get("/server_info", headers=bearer("sk-admin"))
    assert told.status_code == 200
    assert told.json()["disable_radix_cache"] is False
    assert "sk-" not in told.text
    assert replica.http.post("/flush_cache", headers=bearer("sk-admin")).status_code == 200


def test_no_key_is_in_the_log_the_process_table_or_a_worker(replica: Replica) -> None:
    assert replica.engine.process
    assert "sk-" not in "\n".join(replica.lines)
    for pid in replica.group():
        assert "sk-" not in Path(f"/proc/{pid}/cmdline").read_text()
        if pid != replica.engine.process.pid:
            assert "sk-" not in Path(f"/proc/{pid}/environ").read_text()


def test_ending_lets_a_running_stream_finish_and_leaves_nothing(replica: Replica) -> None:
    body, group = chat(stream=True, max_tokens=64, ignore_eos=True), replica.group()
    with replica.http.stream("POST", "/v1/chat/completions", json=body, headers=bearer("sk-caller")) as reply:
        lines = reply.iter_lines()
        assert next(lines).startswith("data: {")
        stopping = threading.Thread(target=replica.engine.stop, kwargs={"grace": 120.0})
        stopping.start()
        text = "\n".join(lines)
    assert text.rstrip().endswith("data: [DONE]")
    assert '"finish_reason":"length"' in text
    stopping.join()
    until(lambda: not any(alive(pid) for pid in group))
