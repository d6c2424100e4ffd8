from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from homing_server.engine import command, compile_command, environment
from homing_server.presets import PRESETS
from homing_server.settings import ServerSettings

# What SGLang's own parsers say; `make test-modal` runs them again and compares.
SGLANG: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / "sglang_options.json").read_text())


class Refused(Exception):
    pass


class Parser(argparse.ArgumentParser):
    """SGLang's own command line as it was read: its options and choices, abbreviations allowed as there."""

    def __init__(self, version: str, *parts: str) -> None:
        super().__init__(add_help=False)
        for part in ("options", *parts):
            for name, how in SGLANG[version][part].items():
                if how["nargs"] == 0:
                    self.add_argument(name, action="store_true")
                else:
                    self.add_argument(name, nargs=how["nargs"], choices=how["choices"])

    def error(self, message: str) -> Any:
        raise Refused(message)


VARIATIONS: list[dict[str, Any]] = [
    {},
    {"variant": "http_server"},
    {"variant": "http_server", "public": True, "enable_metrics": False},
    {"prefix_cache": "off"},
    {"engine": "stock"},
    {"context_length": 4096, "cuda_graph_max_bs": 7},
]


@pytest.mark.parametrize("version", SGLANG)
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("variation", VARIATIONS, ids=str)
def test_every_flag_exists_in_full_in_both_versions(version: str, preset: str, variation: dict[str, Any]) -> None:
    settings = ServerSettings.of(preset, sglang_version=version, **variation)
    argv = command(settings)
    assert argv[:2] == ["python", "-m"]
    for word in argv[3:]:
        if word.startswith("--"):
            assert word in SGLANG[version]["options"]
    parsed = Parser(version).parse_args(argv[3:])
    assert (parsed.model_path, parsed.revision) == (settings.model, settings.revision)
    assert (parsed.host, parsed.port) == ("0.0.0.0", "8000")
    assert parsed.tp_size == str(settings.gpu_count)
    assert parsed.enable_cache_report
    assert parsed.reasoning_parser
    assert parsed.tool_call_parser


@pytest.mark.parametrize("version", SGLANG)
def test_the_kernel_compiler_takes_its_flags(version: str) -> None:
    argv = compile_command(model="m", revision="r", gpu_count=2, timeout=60)
    parsed = Parser(version, "compile_options").parse_args(argv[3:])
    assert (parsed.timeout, parsed.tp_size) == ("60", "2")


def test_the_examples_own_flags_no_longer_start_a_new_sglang() -> None:
    """Why names are spelled out and differ by version."""
    with pytest.raises(Refused, match="ambiguous"):
        Parser("0.5.23").parse_args(["--cuda-graph-max-bs", "20"])


def test_the_examples_values_are_kept() -> None:
    parsed = Parser("0.5.9").parse_args(command(ServerSettings.of(variant="http_server"))[3:])
    assert parsed.served_model_name == "Qwen/Qwen3.5-35B-A3B-FP8"
    assert (parsed.cuda_graph_max_bs, parsed.decode_log_interval, parsed.mem_fraction_static) == ("20", "100", "0.8")
    assert parsed.enable_metrics
    speculation = (parsed.speculative_num_steps, parsed.speculative_eagle_topk, parsed.speculative_num_draft_tokens)
    assert (parsed.speculative_algorithm, *speculation) == ("EAGLE", "3", "1", "4")


def test_the_prefix_cache_of_a_hybrid_model_stays_on() -> None:  # sglang#19391
    old, new = (command(ServerSettings.of(sglang_version=version)) for version in ("0.5.9", "0.5.23"))
    assert old[old.index("--mamba-scheduler-strategy") + 1] == "extra_buffer"
    assert new[new.index("--mamba-radix-cache-strategy") + 1] == "extra_buffer"
    assert environment(ServerSettings.of())["SGLANG_ENABLE_SPEC_V2"] == "1"
    assert "SGLANG_ENABLE_SPEC_V2" not in environment(ServerSettings.of(sglang_version="0.5.23"))
    assert not [word for word in command(ServerSettings.of("qwen3-4b")) if "mamba" in word]


@pytest.mark.parametrize(
    ("version", "name"),
    [
        ("0.5.14", "--cuda-graph-max-bs"),
        ("0.5.15.post1", "--cuda-graph-max-bs-decode"),
        ("0.6.0", "--cuda-graph-max-bs-decode"),
    ],
)
def test_versions_between_use_the_names_they_have(version: str, name: str) -> None:
    assert name in command(ServerSettings.of(sglang_version=version))


def test_requests_are_capped_and_idle_connections_outlive_the_edges() -> None:
    parsed = Parser("0.5.9").parse_args(command(ServerSettings.of(max_running_requests=7, max_queued_requests=3))[3:])
    assert (parsed.max_running_requests, parsed.max_queued_requests) == ("7", "3")
    assert environment(ServerSettings.of(keep_alive=77))["SGLANG_TIMEOUT_KEEP_ALIVE"] == "77"


def test_a_stock_engine_names_its_replica_the_only_way_it_can() -> None:
    argv = command(ServerSettings.of(engine="stock"), environ={"MODAL_TASK_ID": "ta-7"})
    assert argv[2] == "sglang.launch_server"
    assert argv[argv.index("--weight-version") + 1] == "ta-7"
    assert "--weight-version" not in command(ServerSettings.of())


def test_sglang_warms_itself_up_only_where_no_gate_can_refuse_it() -> None:
    for variant in ("server", "http_server"):
        assert "--skip-server-warmup" in command(ServerSettings.of(variant=variant))
    assert "--skip-server-warmup" not in command(ServerSettings.of(engine="stock"))


def test_only_the_snapshot_preset_lets_go_of_its_memory() -> None:
    """As in Modal's snapshot examples: memory is released and restored, and no compiler processes are in the way."""
    snapshot, plain = ServerSettings.of("qwen3-8b-snapshot"), ServerSettings.of("qwen3-4b")
    assert {"--enable-memory-saver", "--enable-weights-cpu-backup"} <= set(command(snapshot))
    assert environment(snapshot)["TORCHINDUCTOR_COMPILE_THREADS"] == "1"
    assert "--enable-memory-saver" not in command(plain)
    assert "TORCHINDUCTOR_COMPILE_THREADS" not in environment(plain)


def test_extra_arguments_and_environment_come_last() -> None:
    settings = ServerSettings.of(extra_args=("--log-level", "warning"), extra_env={"SGLANG_ENABLE_SPEC_V2": "0"})
    assert command(settings)[-2:] == ["--log-level", "warning"]
    assert environment(settings)["SGLANG_ENABLE_SPEC_V2"] == "0"
