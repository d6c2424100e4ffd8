"""What was deployed, booted by Modal's own container entry point around the stand-in engine."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from .support.container import KEYS, TASK_ID, Container, alive, booted, until

pytestmark = [pytest.mark.container, pytest.mark.slow]

VARIANTS = ["server", "http_server"]
AUTHORIZED = {"Authorization": "Bearer sk-caller"}
Boot = Callable[..., Container]

# Seconds that the example gives a warm-up request before it throws the replica away.
EXAMPLES_WARM_UP = 10
# Seconds from an engine's death to Modal having the reason.
REPORTED_WITHIN = 2


@pytest.fixture
def boot(tmp_path: Path) -> Iterator[Boot]:
    with ExitStack() as stack:
        yield lambda *args, **kwargs: stack.enter_context(booted(tmp_path, *args, **kwargs))


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Container]]:
    """Both apps around engines that are slow to warm up. The other tests run while they wait."""
    script = {"first": EXAMPLES_WARM_UP + 1}
    with ExitStack() as stack:
        yield {
            variant: stack.enter_context(booted(tmp_path_factory.mktemp(variant), variant, script=script))
            for variant in VARIANTS
        }


@pytest.fixture(autouse=True)
def slow_ones_have_begun(slow: dict[str, Container]) -> None: ...


def nothing_left(container: Container) -> bool:
    return bool(container.engines()) and not any(alive(pid) for pid in container.engines())


def failure(container: Container) -> str:
    """What Modal was told of a start that failed."""
    assert container.wait() == 0  # Modal's entry point reports the failure and ends
    (result,) = container.plane.requests("TaskResult")
    return str(result.result.exception)


def ask(container: Container, *, path: str = "/v1/chat/completions", key: str | None = "sk-caller") -> httpx.Response:
    url = f"http://127.0.0.1:{container.port}{path}"
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx.post(url, json={"messages": [], "stream": True}, headers=headers, trust_env=False, timeout=30)


@pytest.mark.parametrize("variant", VARIANTS)
def test_ready_means_answering_and_warm(boot: Boot, variant: str) -> None:
    container = boot(variant, script={"boot": 0.2}, preset="qwen3-4b", target_concurrency=3)
    container.wait_ready()
    (start,) = [entry for entry in container.log if entry["event"] == "start"]
    argv = start["argv"]
    assert argv[argv.index("--cuda-graph-max-bs") + 1] == "6"
    assert argv[argv.index("--model-path") + 1] == "Qwen/Qwen3-4B-Thinking-2507-FP8"
    assert container.events("chat") == ["chat"] * 3  # before Modal was told
    reply = ask(container)
    assert (reply.status_code, reply.headers["x-homing-replica"]) == (200, TASK_ID)
    assert reply.text.endswith("data: [DONE]\n\n")
    assert ask(container, path="/flush_cache").status_code == 403
    assert ask(container, path="/metrics").status_code == 403


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_key_is_in_the_log_the_process_table_or_a_worker(boot: Boot, variant: str) -> None:
    container = boot(variant, env=KEYS, script={"child": True}, keys=True, exit_grace_period=1)
    container.wait_ready()
    assert ask(container, key=None).status_code == 401
    assert ask(container, path="/flush_cache", key="sk-admin").status_code == 200
    own, engine, worker = container.processes()
    for pid in (own, engine, worker):
        assert "sk-" not in Path(f"/proc/{pid}/cmdline").read_text()
    inherited = Path(f"/proc/{worker}/environ").read_text()
    assert "HOMING_REPLICA_ID" in inherited
    assert "_KEY=" not in inherited
    assert "sk-" not in inherited
    container.end()
    container.wait()
    assert "sk-" not in container.text


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"HOMING_ADMIN_KEY": "sk-admin"}, "HOMING_API_KEY is missing or empty"),
        ({"HOMING_API_KEY": "sk-caller", "HOMING_ADMIN_KEY": " "}, "HOMING_ADMIN_KEY is missing or empty"),
        ({"HOMING_API_KEY": "sk-same", "HOMING_ADMIN_KEY": "sk-same"}, "every caller would be the operator"),
    ],
)
def test_without_proper_keys_no_engine_is_started(boot: Boot, env: dict[str, str], said: str) -> None:
    container = boot("http_server", env=env)
    assert said in failure(container)
    assert not container.log
    assert "sk-" not in container.text


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_dying_engine_ends_the_start_with_its_last_words(boot: Boot, variant: str) -> None:
    """At once, not after the example's 20 minutes."""
    container = boot(variant, script={"die_after": 0.2, "child": True})
    said = failure(container)
    assert "exited with code 3" in said
    assert "dying words 59" in said
    (died,) = [entry["at"] for entry in container.log if entry["event"] == "die"]
    assert container.plane.first["TaskResult"] - died < REPORTED_WITHIN
    until(lambda: nothing_left(container))


@pytest.mark.parametrize("variant", VARIANTS)
def test_ending_lets_a_running_stream_finish(boot: Boot, variant: str) -> None:
    container = boot(variant, script={"pace": 0.05, "child": True}, exit_grace_period=1)
    container.wait_ready()
    texts: list[str] = []
    started = threading.Event()

    def read() -> None:
        url = f"http://127.0.0.1:{container.port}/v1/chat/completions"
        body = {"messages": [], "stream": True, "max_tokens": 30}
        with httpx.stream("POST", url, json=body, headers=AUTHORIZED, trust_env=False, timeout=30) as reply:
            for line in reply.iter_lines():
                texts.append(line)
                started.set()

    thread = threading.Thread(target=read)
    thread.start()
    assert started.wait(20)
    container.end()
    thread.join(30)
    assert texts[-2:] == ["data: [DONE]", ""]
    assert sum(line.startswith("data: {") for line in texts) == 30
    container.wait()
    assert container.events("sigterm", "stream-done", "drained") == ["sigterm", "stream-done", "drained"]
    until(lambda: nothing_left(container))


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_engine_that_ignores_sigterm_does_not_survive(boot: Boot, variant: str) -> None:
    container = boot(variant, script={"term": "ignore", "child": True}, exit_grace_period=1, drain_timeout=0.3)
    container.wait_ready()
    container.end()
    container.wait(60)
    assert container.events("sigterm") == ["sigterm"]
    until(lambda: nothing_left(container))


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_hung_engine_loses_its_port(boot: Boot, variant: str) -> None:
    """Modal watches the port, and replaces a replica whose port is closed."""
    quick = {"watchdog_interval": 0.1, "watchdog_timeout": 0.3, "watchdog_failures": 2}
    container = boot(variant, script={"hang_after": 3, "child": True}, **quick)
    container.wait_ready()
    until(lambda: nothing_left(container))
    with pytest.raises(httpx.ConnectError):
        ask(container)
    until(lambda: "failed 2 health checks in a row: killing it" in container.text)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_start_that_fails_leaves_nothing_behind(boot: Boot, variant: str) -> None:
    """Modal does not call @modal.exit when @modal.enter raises."""
    off = {"server_info": {"disable_radix_cache": True}, "child": True}
    container = boot(variant, script=off)
    assert "prefix cache is off" in failure(container)
    until(lambda: nothing_left(container))


def moved(container: Container) -> list[str]:
    return [entry["path"] for entry in container.log if entry["event"] == "request"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_replica_restored_from_a_snapshot_has_a_name_of_its_own(boot: Boot, variant: str) -> None:
    snapshots = {"MODAL_ENABLE_SNAP_RESTORE": "1", **KEYS}  # the worker says so to tasks that make or use one
    container = boot(variant, env=snapshots, preset="qwen3-8b-snapshot")
    container.restore("ta-restored")
    container.wait_ready()
    assert moved(container) == ["/release_memory_occupation", "/resume_memory_occupation"]
    assert ask(container).headers["x-homing-replica"] == "ta-restored"


def test_without_snapshots_the_snapshot_preset_starts_like_any_other(boot: Boot) -> None:
    container = boot("server", preset="qwen3-8b-snapshot")
    container.wait_ready()
    assert moved(container) == ["/release_memory_occupation", "/resume_memory_occupation"]
    container.end()
    container.wait()
    until(lambda: nothing_left(container))


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_slow_warm_up_does_not_cost_the_replica(slow: dict[str, Container], variant: str) -> None:
    """The last test of this file, so that it finds them ready."""
    container = slow[variant]
    container.wait_ready()
    assert container.events("chat") == ["chat"] * 3
    first, second = [entry["at"] for entry in container.log if entry["event"] == "chat"][:2]
    assert second - first > EXAMPLES_WARM_UP
