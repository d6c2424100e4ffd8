"""What can be said about SGLang replicas without one: settings, errors, command lines, installation."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from homing.errors import ConfigurationError
from homing_server.local import Edge, EdgeSettings, EngineFailed, SGLangSettings, sglang_replica
from homing_server.local.engine_environment import EngineEnvironment, EngineInstallError, engine_home
from homing_server.local.sglang_replica import free_port
from homing_server.local.sglang_settings import LocatedSGLang


@pytest.fixture(autouse=True)
def any_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tested here is the same on machines that SGLang has no wheel for."""
    monkeypatch.setattr("homing_server.local.engine_environment.check_machine", lambda: None)


def located(tmp_path: Path, *, without_gpu: bool = True, **settings: object) -> LocatedSGLang:
    (tmp_path / "model.safetensors").write_bytes(b"x" * 2_000_000)
    (tmp_path / "config.json").write_text("{}")
    return LocatedSGLang(
        settings=SGLangSettings(model=str(tmp_path), **settings),  # type: ignore[arg-type]
        python=Path("/opt/python"),
        version="0.5.23",
        without_gpu=without_gpu,
        model=str(tmp_path),
        name="tiny",
    )


@pytest.mark.parametrize(
    ("model", "message"),
    [("./no-such-folder", "holds no config.json"), ("qwen", "neither a folder nor a repository")],
)
def test_a_model_that_cannot_be_is_refused_at_once(model: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=f"model: .*{message}"):
        SGLangSettings(model=model)


def test_without_sglang_the_error_names_the_command(tmp_path: Path) -> None:
    nowhere = EngineEnvironment(tmp_path)
    with pytest.raises(ConfigurationError, match="homing engine install"):
        SGLangSettings(device="cpu").located(nowhere)
    with pytest.raises(ConfigurationError, match="has no SGLang"):
        SGLangSettings(python=Path(sys.executable)).located(nowhere)
    with pytest.raises(ConfigurationError, match="python: .* cannot be run"):
        SGLangSettings(python=tmp_path / "python").located(nowhere)


def test_short_memory_is_named_before_anything_starts(tmp_path: Path) -> None:
    found = located(tmp_path)
    found.check_memory(1)
    with pytest.raises(ConfigurationError, match=r"need about \d+ MB of memory and \d+ MB are available"):
        found.check_memory(100_000)
    located(tmp_path, without_gpu=False).check_memory(100_000)


def test_replicas_listen_at_home_and_share_a_gpu(tmp_path: Path) -> None:
    argv = located(tmp_path, without_gpu=False).command(replica_id="r7", port=31_000, replicas=4)
    value = dict(pairwise(argv))
    assert value["--host"] == "127.0.0.1"
    assert value["--weight-version"] == "r7"
    assert value["--mem-fraction-static"] == "0.2"
    assert "--device" not in value
    fixed = located(tmp_path, without_gpu=False, mem_fraction=0.7, max_total_tokens=9).command(
        replica_id="r7", port=1, replicas=4
    )
    assert fixed[fixed.index("--mem-fraction-static") + 1] == "0.7"
    assert fixed[fixed.index("--max-total-tokens") + 1] == "9"


def test_a_cpu_replica_gets_its_cpu_and_no_hub(tmp_path: Path) -> None:
    found = located(tmp_path, extra_env={"HF_HUB_OFFLINE": "0"}, extra_args=("--log-level", "debug"))
    argv = found.command(replica_id="r1", port=1, replicas=2)
    assert argv[argv.index("--device") + 1] == "cpu"
    assert argv[-2:] == ["--log-level", "debug"]
    environ = found.environ(replicas=2, base={"PATH": "/bin"})
    assert (environ["PATH"], environ["TRANSFORMERS_OFFLINE"], environ["HF_HUB_OFFLINE"]) == ("/bin", "1", "0")
    assert environ["OMP_NUM_THREADS"] == str(max((os.cpu_count() or 1) // 2, 1))


DYING = """#!/bin/sh
case "$1" in -c) echo 0.5.23; exit 0;; esac
echo "RuntimeError: Not enough memory. Please try to increase --mem-fraction-static."
exit 7
"""


def test_an_engine_that_dies_ends_the_start_with_its_last_lines(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(DYING)
    python.chmod(0o755)
    (tmp_path / "config.json").write_text("{}")
    logs = tmp_path / "logs"
    engine = SGLangSettings(model=str(tmp_path), python=python, device="cuda", log_folder=logs)
    with pytest.raises(EngineFailed, match=r"lower `mem_fraction`[\s\S]*code 7[\s\S]*Not enough memory"):
        Edge(EdgeSettings(max_replicas=1, cold_start=0), engine=engine).start()
    assert "Not enough memory" in (logs / "r1.log").read_text()


def test_the_home_of_engines(tmp_path: Path) -> None:
    assert engine_home({"HOMING_ENGINE_HOME": str(tmp_path)}) == tmp_path
    assert engine_home({"XDG_CACHE_HOME": str(tmp_path)}) == tmp_path / "homing"
    assert engine_home({}) == Path.home() / ".cache" / "homing"


def test_a_half_made_environment_is_not_ready_and_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = EngineEnvironment(tmp_path)
    ran: list[str] = []
    broken = True

    def run(self: EngineEnvironment, command: list[str], say: object, *, quiet: bool = False) -> None:
        ran.append("venv" if "venv" in command else "pip" if "pip" in command else "look")
        if ran[-1] == "venv":
            environment.python.parent.mkdir(parents=True)
            environment.python.touch()
        if broken and "--require-hashes" in command:
            raise EngineInstallError("broken off")

    monkeypatch.setattr(EngineEnvironment, "_run", run)
    monkeypatch.setattr(EngineEnvironment, "make_model", lambda self, folder: folder.mkdir(parents=True))
    said: list[str] = []
    with pytest.raises(EngineInstallError):
        environment.install(said.append)
    assert not environment.ready
    assert "290 MB to download" in said[0]
    broken = False
    environment.install(said.append)
    assert environment.ready
    assert ran == ["venv", "pip", "pip", "pip", "pip", "look"], "the environment itself is kept"
    environment.install(said.append)
    assert len(ran) == 6, "nothing is done twice"


def test_a_full_disk_is_named_before_anything_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("homing_server.local.engine_environment.DISK_NEEDED_MB", 10**9)
    with pytest.raises(EngineInstallError, match="MB free and 1000000000 are needed.*HOMING_ENGINE_HOME"):
        EngineEnvironment(tmp_path).install(lambda line: None)
    assert list(tmp_path.iterdir()) == [tmp_path / "install.lock"]


@pytest.mark.parametrize(
    ("printed", "why"),
    [
        ("ERROR: Temporary failure in name resolution", "cannot be reached"),
        ("OSError: [Errno 28] No space left on device", "disk is full"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES", "hash differs"),
    ],
)
def test_why_a_step_failed_is_said_first(tmp_path: Path, printed: str, why: str) -> None:
    with pytest.raises(EngineInstallError, match=f"(?s)^[^\n]*{why}.*again to go on"):
        EngineEnvironment(tmp_path)._run([sys.executable, "-c", f"import sys; sys.exit({printed!r})"], print)


def test_the_requirements_are_exact_and_hashed() -> None:
    torch, packages = EngineEnvironment()._requirements
    pinned = [line for line in packages.read_text().splitlines() if line and not line.startswith((" ", "#"))]
    assert "sglang==0.5.23 \\" in pinned
    assert all("==" in line and line.endswith("\\") for line in pinned)
    assert "torch==" in torch.read_text()


def test_the_engine_side_needs_nothing_of_homing() -> None:
    launch = EngineEnvironment()._requirements[0].parent / "launch.py"
    done = subprocess.run([sys.executable, "-I", str(launch)], capture_output=True, text=True, check=False)
    assert "sglang" in done.stderr, "it gets as far as SGLang itself"
    assert "homing" not in done.stderr.replace(str(launch.parent), "").replace("homing_server", "")


def test_ports_leave_room_for_the_one_that_sglang_claims_above() -> None:
    # SGLang 0.5.14 takes port + 10,000 for gRPC and does not start where that is none.
    assert max(sglang_replica.PORTS) + 10_000 < 65_536
    assert {free_port() for _ in range(50)} <= set(sglang_replica.PORTS)


def test_ports_in_use_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    free = free_port()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        monkeypatch.setattr(sglang_replica, "PORTS", [other.getsockname()[1]] * 9 + [free])
        assert free_port() == free
