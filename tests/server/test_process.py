"""The engine's life with the stand-in engine, launched the way the container launches it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError

import httpx
import pytest

import homing_server.process as process_module
from homing_server.lifecycle import engine_environ
from homing_server.loopback import Loopback
from homing_server.process import (
    Engine,
    EngineDied,
    EngineError,
    EngineHung,
    EngineNotReady,
    PrefixCacheOff,
    Watchdog,
    prefix_cache_on,
    wait_ready,
)
from homing_server.settings import ServerSettings

from .support.container import STAND_IN, alive, free_port, until

Start = Callable[..., Engine]


class Bench:
    """Starts scripted engines and knows what became of them."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.diary = folder / "stand-in.jsonl"
        self.engines: list[Engine] = []

    def engine(
        self,
        script: dict[str, Any] | None = None,
        *,
        late_after: str = "",
        say: Callable[[str], None] | None = None,
        **environ: str,
    ) -> Engine:
        """`late_after`: no time passes for the engine's supervisor until this is in the diary, and then too much."""
        env = engine_environ(
            ServerSettings.of(),
            {
                **os.environ,
                "PYTHONPATH": str(STAND_IN),
                "STAND_IN": json.dumps(script or {}),
                "STAND_IN_LOG": str(self.diary),
                **environ,
            },
        )
        argv = [sys.executable, "-m", "homing_server.launcher", "--port", str(self.port)]
        clock = (lambda: 1e6 if late_after in self.events() else 0.0) if late_after else time.monotonic
        engine = Engine(argv, port=self.port, environ=env, clock=clock, say=say)
        self.engines.append(engine)
        return engine

    def events(self) -> list[str]:
        return [entry["event"] for entry in self.log] if self.diary.exists() else []

    @property
    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.diary.read_text().splitlines()]

    def pids(self) -> list[int]:
        return [
            pid for entry in self.log if entry["event"] == "start" for pid in (entry["pid"], entry["worker"]) if pid
        ]

    def nothing_left(self) -> bool:
        return not any(alive(pid) for pid in self.pids())


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    for engine in bench.engines:
        engine.kill()


def test_start_waits_warms_up_and_checks(bench: Bench) -> None:
    engine = bench.engine({"boot": 0.3})
    engine.start(timeout=30)
    assert [entry["event"] for entry in bench.log].count("chat") == 3
    assert [entry["seconds"] for entry in bench.log if entry["event"] == "keep-alive"] == [300]
    engine.stop(grace=10)
    until(bench.nothing_left)


def test_no_secret_reaches_the_engine_or_the_process_table(bench: Bench) -> None:
    engine = bench.engine({"child": True}, HOMING_API_KEY="sk-caller", HOMING_ADMIN_KEY="sk-admin")
    engine.start(timeout=30)
    (start,) = [entry for entry in bench.log if entry["event"] == "start"]
    assert not [name for name in start["environ"] if name.endswith("KEY")]
    for pid in bench.pids():
        assert "sk-" not in Path(f"/proc/{pid}/cmdline").read_text()
    worker = Path(f"/proc/{start['worker']}/environ").read_text()
    assert "sk-" not in worker
    assert "HOMING_INTERNAL_KEY" not in worker
    assert "sk-" not in repr(engine)


def test_callers_meet_the_gate(bench: Bench) -> None:
    engine = bench.engine({}, HOMING_API_KEY="sk-caller", HOMING_ADMIN_KEY="sk-admin", MODAL_TASK_ID="ta-9")
    engine.start(timeout=30)
    base = f"http://127.0.0.1:{bench.port}"
    with httpx.Client(base_url=base, trust_env=False) as http:
        body = {"messages": [], "stream": True}
        assert http.post("/v1/chat/completions", json=body).status_code == 401
        http.headers["Authorization"] = "Bearer sk-caller"
        reply = http.post("/v1/chat/completions", json=body)
        assert (reply.status_code, reply.headers["x-homing-replica"]) == (200, "ta-9")
        assert reply.text.endswith("data: [DONE]\n\n")
        for closed in ("/flush_cache", "/metrics", "/server_info", "/release_memory_occupation"):
            assert http.post(closed).status_code == 403
        http.headers["Authorization"] = "Bearer sk-admin"
        assert http.post("/flush_cache").status_code == 200
    engine.rename({"MODAL_TASK_ID": "ta-10"})
    assert httpx.get(base + "/health", trust_env=False).headers["x-homing-replica"] == "ta-10"


def test_a_dead_engine_is_reported_at_once_with_its_last_words(bench: Bench) -> None:  # MODAL example: 20 minutes
    engine = bench.engine({"die_after": 0.3, "child": True})
    with pytest.raises(EngineDied) as caught:
        engine.start(timeout=600)
    assert caught.value.returncode == 3
    assert caught.value.tail[-1] == "dying words 59"
    assert len(caught.value.tail) == process_module.TAIL_LINES
    assert "exited with code 3" in str(caught.value)
    assert "dying words 59" in str(caught.value)
    until(bench.nothing_left)


def test_a_health_check_that_hangs_is_asked_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """SGLang 0.5.9 may keep /health for 20 seconds; the example had no limit, and no look at the process."""
    assert process_module.HEALTH_TIMEOUT < 20
    monkeypatch.setattr(process_module, "HEALTH_TIMEOUT", 0.3)
    engine = bench.engine({"deaf": 2})
    engine.start(timeout=30)
    assert [entry["event"] for entry in bench.log].count("chat") == 3


class Starting:
    """An engine that is ready at the third look, and its process, which notes how long it was waited for."""

    args = ("engine",)

    def __init__(self) -> None:
        self.pauses: list[float] = []
        self.looks = 0

    def poll(self) -> Any: ...

    def wait(self, seconds: float) -> None:
        self.pauses.append(seconds)
        raise subprocess.TimeoutExpired("engine", seconds)

    def request(self, path: str, *, timeout: float) -> tuple[int, bytes, dict[str, str]]:
        self.looks += 1
        return (200 if self.looks == 3 else 503), b"", {}


def test_a_ready_engine_is_noticed_at_the_next_look() -> None:
    starting: Any = Starting()
    wait_ready(starting, starting, timeout=600)
    assert starting.pauses == [process_module.POLL] * 2
    assert process_module.POLL <= 1  # the example's 5 were up to 5 seconds of each cold start


class Dying(Starting):
    """An engine that has ended after the first look, and would be looked at again for ever."""

    def poll(self) -> Any:
        return 3 if self.looks else None

    def request(self, path: str, *, timeout: float) -> tuple[int, bytes, dict[str, str]]:
        self.looks += 1
        assert self.looks == 1, "a dead engine was asked"
        raise ConnectionRefusedError


def test_a_dead_engine_is_not_asked_again() -> None:
    """The example swallowed what its own `check_running` said."""
    dying: Any = Dying()
    with pytest.raises(EngineDied, match="exited with code 3"):
        wait_ready(dying, dying, timeout=600, clock=lambda: 0.0)


class Silent(Starting):
    """An engine that takes connections and never answers; each look lasts as long as it may."""

    now = 0.0

    def request(self, path: str, *, timeout: float) -> tuple[int, bytes, dict[str, str]]:
        self.looks += 1
        self.now += timeout
        if self.looks in self.answers:
            return 503, b"", {}
        raise TimeoutError("timed out") if self.looks % 2 else URLError(TimeoutError("timed out"))

    answers: frozenset[int] = frozenset()


def test_a_hung_engine_is_not_waited_for_to_the_end() -> None:
    silent: Any = Silent()
    with pytest.raises(EngineHung, match=r"not answered for 90 seconds \(/health: .*timed out"):
        wait_ready(silent, silent, timeout=600, clock=lambda: silent.now)
    assert silent.now == process_module.HUNG


def test_an_engine_that_answers_now_and_then_is_no_hung_one() -> None:
    silent: Any = Silent()
    silent.answers = frozenset(range(0, 1000, 10))
    with pytest.raises(EngineNotReady, match="not ready within 600 seconds") as raised:
        wait_ready(silent, silent, timeout=600, clock=lambda: silent.now)
    assert not isinstance(raised.value, EngineHung)


def test_an_engine_that_is_never_ready_says_where_it_stands(bench: Bench) -> None:
    said: list[str] = []
    engine = bench.engine({"boot": 600}, late_after="first-look", say=said.append)
    with pytest.raises(EngineNotReady):
        engine.start(timeout=600)
    assert "Fatal Python error: Aborted" in said
    assert any("stand_in" in line for line in said)  # the file that it was in
    until(bench.nothing_left)


def test_a_slow_first_answer_is_waited_for(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_module, "WARMUP_TIMEOUT", 0.2)  # the first request outlasts several tries
    bench.engine({"first": 1.0}).start(timeout=30)


def test_an_engine_that_cannot_chat_does_not_start(bench: Bench) -> None:
    with pytest.raises(EngineError, match=r"refused a warm-up request with 400: .*no chat template"):
        bench.engine({"refuse": 400, "child": True}).start(timeout=30)
    until(bench.nothing_left)


def test_an_engine_that_stays_busy_runs_out_of_time(bench: Bench) -> None:
    with pytest.raises(EngineNotReady, match="0 of 3 warm-up requests"):
        bench.engine({"refuse": 503}, late_after="chat").start(timeout=600)
    until(bench.nothing_left)


def test_an_engine_that_never_gets_ready_runs_out_of_time(bench: Bench) -> None:
    with pytest.raises(EngineNotReady, match=r"not ready within .* \(/health answered 503\)"):
        bench.engine({"boot": 600}, late_after="first-look").start(timeout=600)
    until(bench.nothing_left)


def test_a_prefix_cache_that_is_off_stops_the_start(bench: Bench) -> None:
    with pytest.raises(PrefixCacheOff, match="session affinity would gain nothing"):
        bench.engine({"server_info": {"disable_radix_cache": True}}).start(timeout=30)
    until(bench.nothing_left)


@pytest.mark.parametrize(("wanted", "said"), [("warn", "WARNING: the engine's prefix cache is off"), ("off", "")])
def test_a_prefix_cache_that_is_off_may_be_allowed(
    bench: Bench, wanted: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    info = {"disable_radix_cache": True, "api_key": "sk-from-server-info"}
    bench.engine({"server_info": info}).start(timeout=30, prefix_cache=wanted)
    out = capsys.readouterr().out
    assert said in out
    assert ("WARNING" in out) == bool(said)
    assert "sk-from-server-info" not in out


def test_server_info_tells_whether_the_prefix_cache_is_on() -> None:
    """Both 0.5.9 and 0.5.23 list `disable_radix_cache` among the resolved arguments."""
    assert prefix_cache_on({"disable_radix_cache": False}) is True
    assert prefix_cache_on({"disable_radix_cache": True}) is False
    assert prefix_cache_on({"version": "0.9"}) is None


def test_an_engine_outside_the_gate_is_refused(bench: Bench) -> None:
    argv = [sys.executable, "-m", "sglang.launch_server", "--port", str(bench.port)]
    env = {**os.environ, "PYTHONPATH": str(STAND_IN), "STAND_IN_LOG": str(bench.diary)}
    engine = Engine(argv, port=bench.port, environ=env)
    bench.engines.append(engine)
    with pytest.raises(EngineError, match="admin routes are open"):
        engine.start(timeout=30)
    until(bench.nothing_left)


def test_stop_lets_a_running_stream_finish(bench: Bench) -> None:
    engine = bench.engine({"pace": 0.05, "child": True})
    engine.start(timeout=30)
    url = f"http://127.0.0.1:{bench.port}/v1/chat/completions"
    with httpx.stream("POST", url, json={"stream": True, "max_tokens": 20}, trust_env=False) as reply:
        lines = reply.iter_lines()
        assert next(lines).startswith("data: ")
        engine.stop(grace=0, linger=20)  # returns at once; the engine goes on in the background
        assert list(lines)[-2:] == ["data: [DONE]", ""]
    until(bench.nothing_left)
    assert [entry["event"] for entry in bench.log][-3:] == ["sigterm", "stream-done", "drained"]


def test_stop_kills_an_engine_that_ignores_sigterm(bench: Bench) -> None:
    engine = bench.engine({"term": "ignore", "child": True})
    engine.start(timeout=30)
    engine.stop(grace=0.2)
    until(bench.nothing_left)


def test_a_hung_engine_is_killed_so_that_its_port_closes(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    engine = bench.engine({"hang_after": 3, "child": True})
    engine.start(timeout=30)
    engine.watch(interval=0.05, timeout=0.2, failures=2)
    until(bench.nothing_left)
    until(lambda: "failed 2 health checks in a row: killing it" in capsys.readouterr().out or not engine_alive(engine))


def engine_alive(engine: Engine) -> bool:
    assert engine.process is not None
    return engine.process.poll() is None


def test_the_workers_of_an_engine_that_dies_later_do_not_outlive_it(bench: Bench) -> None:
    engine = bench.engine({"child": True})
    engine.start(timeout=30)
    engine.watch(interval=0.05, timeout=5, failures=3)
    os.kill(bench.pids()[0], 9)
    until(bench.nothing_left)


def test_the_watchdog_counts_failures_in_a_row() -> None:
    watchdog = Watchdog(2)
    assert [watchdog.observe(healthy=state) for state in (False, True, False, False)] == [False, False, False, True]
    assert not any(Watchdog(0).observe(healthy=False) for _ in range(9))


def test_waiting_is_by_the_clock_that_is_given() -> None:
    """No second passes: each look at the clock is ten minutes later."""
    now = iter(range(0, 100_000, 600))
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        with pytest.raises(EngineNotReady, match="within 1140 seconds"):
            wait_ready(process, Loopback(free_port()), timeout=1140, clock=lambda: float(next(now)))
    finally:
        process.kill()
        process.communicate()
