"""Every flag we pass, parsed by the real `ServerArgs` of both SGLang versions that we support.

`make test-modal` runs this; it fetches SGLang's wheels, without their dependencies.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

from homing_server.engine import command, compile_command
from homing_server.presets import PRESETS
from homing_server.settings import ServerSettings

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
sglang = importlib.import_module("sglang_options")
routes = importlib.import_module("sglang_routes")

pytestmark = pytest.mark.wheels

VARIATIONS: list[dict[str, Any]] = [
    {},
    {"variant": "http_server"},
    {"variant": "http_server", "public": True, "enable_metrics": False},
    {"prefix_cache": "off"},
    {"engine": "stock"},
    {"context_length": 4096, "cuda_graph_max_bs": 7},
]

# The command of Modal's example, as the document has it.
EXAMPLE = [
    "--model-path", "Qwen/Qwen3.5-35B-A3B-FP8",
    "--revision", "0b2752837483aa34b3db6e83e151b150c0e00e49",
    "--served-model-name", "Qwen/Qwen3.5-35B-A3B-FP8",
    "--host", "0.0.0.0", "--port", "8000", "--tp", "2",
    "--cuda-graph-max-bs", "20", "--enable-metrics", "--decode-log-interval", "100", "--mem-fraction", "0.8",
    "--speculative-algorithm", "EAGLE", "--speculative-num-steps", "3",
    "--speculative-eagle-topk", "1", "--speculative-num-draft-tokens", "4",
]  # fmt: skip


def settings(version: str) -> list[ServerSettings]:
    return [
        ServerSettings.of(preset, sglang_version=version, **variation) for preset in PRESETS for variation in VARIATIONS
    ]


@pytest.mark.parametrize("version", sglang.VERSIONS)
def test_every_command_line_parses_and_means_what_was_set(version: str) -> None:
    wanted = settings(version)
    parsed = sglang.ask(version, parse=[command(one)[3:] for one in wanted])["parsed"]
    assert len(parsed) == len(PRESETS) * len(VARIATIONS)
    for one, got in zip(wanted, parsed, strict=True):
        assert "error" not in got, got
        # argparse names a value after its option's first spelling, which differs between versions.
        size = got.get("tp_size", got.get("tensor_parallel_size"))
        assert (got["model_path"], got["revision"], got["port"], size) == (
            one.model, one.revision, one.port, one.gpu_count,
        )  # fmt: skip
        assert (got["mem_fraction_static"], got["max_running_requests"], got["max_queued_requests"]) == (
            one.mem_fraction_static, one.max_running_requests, one.max_queued_requests,
        )  # fmt: skip
        assert (got["reasoning_parser"], got["tool_call_parser"]) == (one.reasoning_parser, one.tool_call_parser)
        assert (got["speculative_algorithm"], got["schedule_policy"]) == (one.speculative_algorithm, "lpm")
        assert got["enable_cache_report"]
        assert bool(got["enable_metrics"]) == one.enable_metrics
        assert bool(got["disable_radix_cache"]) == (one.prefix_cache == "off")


@pytest.mark.parametrize("version", sglang.VERSIONS)
def test_the_kernel_compiler_takes_its_flags(version: str) -> None:
    argv = compile_command(model="m", revision="r", gpu_count=2, timeout=60)
    assert argv[:3] == ["python", "-m", "sglang.compile_deep_gemm"]
    (compiled,) = sglang.ask(version, compile=[argv[3:]])["compiled"]
    assert (compiled["timeout"], compiled["model_path"], compiled["revision"]) == (60, "m", "r")


def test_a_wrong_flag_and_a_wrong_value_are_seen() -> None:
    """Of this test itself: the parser that runs here refuses what SGLang refuses."""
    lines = [["--model-path", "m", "--no-such-flag"], ["--model-path", "m", "--schedule-policy", "no-such-policy"]]
    for version in sglang.VERSIONS:
        first, second = sglang.ask(version, parse=lines)["parsed"]
        assert "unrecognized arguments: --no-such-flag" in first["error"]
        assert "invalid choice: 'no-such-policy'" in second["error"]


def test_the_examples_own_command_no_longer_starts_a_new_sglang() -> None:
    (old,) = sglang.ask("0.5.9", parse=[EXAMPLE])["parsed"]
    (new,) = sglang.ask("0.5.23", parse=[EXAMPLE])["parsed"]
    assert old["mem_fraction_static"] == 0.8
    assert "ambiguous option: --cuda-graph-max-bs" in new["error"]


def test_the_examples_flags_switch_the_prefix_cache_off_and_ours_do_not() -> None:  # sglang#19391
    """By 0.5.9's own rule for the example's model, on a GPU that it supports."""
    ours = command(ServerSettings.of(sglang_version="0.5.9"))[3:]
    example, mended = sglang.ask("0.5.9", resolve=[EXAMPLE, ours])["resolved"]
    assert (example, mended) == ({"prefix_cache": False}, {"prefix_cache": True})


@pytest.mark.parametrize("version", sglang.VERSIONS)
def test_the_app_is_served_where_the_gate_can_be_put_around_it(version: str) -> None:
    assert "app" in sglang.served(version)


def test_what_make_test_reads_is_what_the_wheels_say() -> None:
    assert sglang.FIXTURE.read_text() == sglang.text(), "run scripts/sglang_options.py"
    assert routes.FIXTURE.read_text() == routes.text(), "run scripts/sglang_routes.py, then decide in gate_policy.txt"


@pytest.mark.parametrize(
    "source",
    ['@app.get(f"/v1/{NAME}")\ndef f(): ...', 'app.mount("/x", y)', 'app.include_router(router, prefix="/v1")'],
)
def test_a_route_that_cannot_be_read_is_not_missed(tmp_path: Path, source: str) -> None:
    """Of the script itself: it ends rather than leaving a route out."""
    (tmp_path / "x.py").write_text(f"import fastapi\n{source}\n")
    with pytest.raises(SystemExit, match="cannot read this route"):
        routes.in_file(tmp_path / "x.py")
