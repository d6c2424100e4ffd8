"""Modal's example, name for name: docs/seed.md is the table, this file its proof.

The values on the right are the document's ("Low latency Qwen 3.5 with SGLang and Modal", April 2026).
"""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest

from homing_server.engine import command
from homing_server.settings import ServerSettings

from .support.modal_cli import HTTP_SERVER, python

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "seed.md").read_text()

VALUES: dict[str, Any] = {
    "MINUTES": 60,
    "GPU_TYPE": "H100!",
    "N_GPUS": 2,
    "GPU": "H100!:2",
    "MODEL_NAME": "Qwen/Qwen3.5-35B-A3B-FP8",
    "MODEL_REVISION": "0b2752837483aa34b3db6e83e151b150c0e00e49",
    "HF_CACHE_PATH": "/root/.cache/huggingface",
    "MODEL_PATH": "/root/.cache/huggingface/Qwen/Qwen3.5-35B-A3B-FP8",
    "DG_CACHE_PATH": "/root/.cache/deep_gemm",
    "REGION": "us-east",
    "MIN_CONTAINERS": 0,
    "TARGET_INPUTS": 10,
    "PORT": 8000,
    "speculative_config": {
        "speculative-algorithm": "EAGLE",
        "speculative-num-steps": 3,
        "speculative-eagle-topk": 1,
        "speculative-num-draft-tokens": 4,
    },
}
OBJECTS = {
    "sglang_image": "Image",
    "HF_CACHE_VOL": "Volume",
    "DG_CACHE_VOL": "Volume",
    "app": "App",
    "SGLang": "Cls",
    "test": "LocalEntrypoint",
}
# Each parameter of the document's functions and its default; None: it has none.
FUNCTIONS: dict[str, dict[str, Any]] = {
    "compile_deep_gemm": {},
    "wait_ready": {"process": "required", "timeout": 1200},
    "check_running": {"p": "required"},
    "warmup": {},
    "probe": {"url": "required", "messages": None, "timeout": 300},
    "test": {"test_timeout": 600, "prompt": None, "twice": True},
    "SGLang.startup": {},
    "SGLang.stop": {},
}
# The document's flags; two of them were abbreviations, and are spelled out here.
FLAGS = {
    "--model-path": "Qwen/Qwen3.5-35B-A3B-FP8",
    "--revision": "0b2752837483aa34b3db6e83e151b150c0e00e49",
    "--served-model-name": "Qwen/Qwen3.5-35B-A3B-FP8",
    "--host": "0.0.0.0",
    "--port": "8000",
    "--tp-size": "2",
    "--cuda-graph-max-bs": "20",
    "--enable-metrics": None,
    "--decode-log-interval": "100",
    "--mem-fraction-static": "0.8",
    "--speculative-algorithm": "EAGLE",
    "--speculative-num-steps": "3",
    "--speculative-eagle-topk": "1",
    "--speculative-num-draft-tokens": "4",
}
# What the document asks of Modal (test_deploy.py compares what arrives) and of its image.
DEPLOYED = [
    "example-sglang-low-latency", "lmsysorg/sglang:v0.5.9-cu129-amd64-runtime", "huggingface-cache", "deepgemm-cache",
    "HF_HUB_CACHE", "HF_XET_HIGH_PERFORMANCE", "SGLANG_ENABLE_JIT_DEEPGEMM", "proxy_regions", "exit_grace_period",
    "startup_timeout", "target_inputs", "min_containers", "entrypoint", "Modal-Session-ID",
]  # fmt: skip

PROGRAM = f"""
import inspect, json
import {HTTP_SERVER} as module

def parameters(name):
    owner, _, method = name.partition(".")
    found = getattr(module, owner)
    if method:
        found = getattr(found._get_user_cls()(), method)  # as Modal's container does it
    elif owner == "test":
        found = found.info.raw_f
    return {{
        one.name: "required" if one.default is inspect.Parameter.empty else one.default
        for one in inspect.signature(found).parameters.values()
    }}

print(json.dumps({{
    "values": {{name: getattr(module, name) for name in {list(VALUES)!r}}},
    "objects": {{name: type(getattr(module, name)).__name__ for name in {list(OBJECTS)!r}}},
    "functions": {{name: parameters(name) for name in {list(FUNCTIONS)!r}}},
}}))
"""


@pytest.fixture(scope="module")
def ours() -> dict[str, Any]:
    done = python("http://127.0.0.1:9", "-c", PROGRAM)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_every_constant_has_the_examples_value(ours: dict[str, Any]) -> None:
    assert ours["values"] == VALUES


def test_every_object_is_there_and_of_the_examples_kind(ours: dict[str, Any]) -> None:
    assert ours["objects"] == OBJECTS


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_takes_the_examples_arguments(ours: dict[str, Any], name: str) -> None:
    """With the example's defaults. Ours may take more, with defaults of their own."""
    theirs, found = list(FUNCTIONS[name].items()), list(ours["functions"][name].items())
    for (their_name, default), (our_name, our_default) in zip(theirs, found, strict=False):
        assert (our_name, our_default) == (their_name, default)
    assert len(found) >= len(theirs)
    assert "required" not in [default for _, default in found[len(theirs) :]]


def test_every_flag_is_passed_with_the_examples_value() -> None:
    argv = command(ServerSettings.of(variant="http_server"))
    for flag, value in FLAGS.items():
        at = argv.index(flag)
        assert value is None or argv[at + 1] == value


@pytest.mark.parametrize("name", [*VALUES, *OBJECTS, *FUNCTIONS, *FLAGS, *DEPLOYED])
def test_the_page_has_a_line_for_it(name: str) -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("|")]
    word = name.rpartition(".")[2]
    assert [row for row in rows if re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", row)]


def test_the_page_names_all_seventeen_faults_and_tests_that_exist() -> None:
    numbers = [int(number) for number in re.findall(r"^\| (\d+) \|", PAGE, flags=re.MULTILINE)]
    assert numbers == list(range(1, 18))
    defined = {
        node.name
        for file in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    assert len(named) >= 17
    assert named <= defined
