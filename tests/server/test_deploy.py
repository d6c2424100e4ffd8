"""What the real `modal deploy` asks Modal for, captured on a loopback control plane."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from homing_server.image import compile_deep_gemm
from homing_server.presets import PRESETS
from homing_server.settings import SETTINGS_VARIABLE, ServerSettings

from .support.control_plane import ControlPlane, serving
from .support.modal_cli import HTTP_SERVER, SERVER, Deployed, deploy, python, run

SERVER_TAG, HTTP_SERVER_TAG = "SGLangServer", "SGLang.*"


@pytest.fixture(scope="module")
def server() -> Deployed:
    return ok(deploy(SERVER, fresh=True))


@pytest.fixture(scope="module")
def http_server() -> Deployed:
    return ok(deploy(HTTP_SERVER, fresh=True))


def ok(done: Deployed) -> Deployed:
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def mounts(done: Deployed, tag: str) -> dict[str, str]:
    return {one.mount_path: done.plane.volumes[one.volume_id] for one in done.function(tag).volume_mounts}


VOLUMES = {"/root/.cache/huggingface": "huggingface-cache", "/root/.cache/deep_gemm": "deepgemm-cache"}


def test_the_examples_app_as_the_document_has_it(http_server: Deployed) -> None:
    function = http_server.function(HTTP_SERVER_TAG)
    assert http_server.plane.app_name == "example-sglang-low-latency"
    assert (function.resources.gpu_config.gpu_type, function.resources.gpu_config.count) == ("H100!", 2)
    assert (function.http_config.port, list(function.http_config.proxy_regions)) == (8000, ["us-east"])
    assert function.http_config.exit_grace_period == 15
    assert list(function.scheduler_placement.regions) == ["us-east"]
    assert (function.startup_timeout_secs, function.target_concurrent_inputs) == (1200, 10)
    assert function.max_concurrent_inputs == 0
    assert function.autoscaler_settings.min_containers == 0
    assert not function.autoscaler_settings.HasField("scaledown_window")
    assert function.is_class
    assert mounts(http_server, HTTP_SERVER_TAG) == VOLUMES


def test_our_server(server: Deployed) -> None:
    function = server.function(SERVER_TAG)
    assert server.plane.app_name == "homing"
    assert function.is_server
    assert not function.http_config.unauthenticated  # a proxy token is needed
    assert (function.resources.gpu_config.gpu_type, function.resources.gpu_config.count) == ("H100!", 2)
    assert (function.http_config.port, list(function.http_config.proxy_regions)) == (8000, ["us-east"])
    assert (function.http_config.startup_timeout, function.http_config.exit_grace_period) == (1200, 300)
    assert list(function.scheduler_placement.regions) == ["us-east"]
    assert (function.startup_timeout_secs, function.max_concurrent_inputs) == (1200, 40)
    assert function.autoscaler_settings.target_concurrency_float == 10
    assert mounts(server, SERVER_TAG) == VOLUMES


@pytest.mark.parametrize("app", ["server", "http_server"])
def test_nothing_is_deprecated_and_the_url_is_shown(app: str, request: pytest.FixtureRequest) -> None:
    done: Deployed = request.getfixturevalue(app)
    assert "Deprecat" not in done.stderr
    assert "Warning" not in done.stderr
    assert ".us-east.modal.direct" in done.stdout


@pytest.mark.parametrize("app", ["server", "http_server"])
def test_the_image_is_built_in_the_order_that_caches(app: str, request: pytest.FixtureRequest) -> None:
    done: Deployed = request.getfixturevalue(app)
    lines = [line for line in done.dockerfile if line != "FROM base"]
    assert lines[:6] == [
        "FROM lmsysorg/sglang:v0.5.9-cu129-amd64-runtime",
        "ENTRYPOINT []",
        "ENV HF_HUB_CACHE=/root/.cache/huggingface",
        "ENV HF_XET_HIGH_PERFORMANCE=1",
        "ENV SGLANG_ENABLE_JIT_DEEPGEMM=1",
        "ENV SGLANG_DG_CACHE_DIR=/root/.cache/deep_gemm",
    ]
    assert [line.partition("=")[0] for line in lines[6:]] == [f"ENV {SETTINGS_VARIABLE}"]


def test_weights_are_fetched_without_a_gpu_and_kernels_compiled_with_limits(server: Deployed) -> None:
    weights, kernels = server.function("download_weights"), server.function("compile_deep_gemm")
    assert weights.is_builder_function
    assert kernels.is_builder_function
    assert weights.resources.gpu_config.count == 0
    assert weights.timeout_secs == 4 * 3600
    assert mounts(server, "download_weights") == {"/root/.cache/huggingface": "huggingface-cache"}
    assert (kernels.resources.gpu_config.gpu_type, kernels.resources.gpu_config.count) == ("H100!", 2)
    assert kernels.timeout_secs == 40 * 60  # SGLang's own 30 minutes first
    assert mounts(server, "compile_deep_gemm") == VOLUMES


def test_a_failed_compile_step_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Modal keeps the layer of a build function that returns; the example's returned whatever had happened."""
    compiler = tmp_path / "python"
    compiler.write_text(f"#!/bin/sh\nfor word; do echo $word; done > {tmp_path}/argv\nexit 3\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(subprocess.CalledProcessError) as caught:
        compile_deep_gemm("m; rm -rf /", "r", 2, 60)
    assert caught.value.returncode == 3
    assert (tmp_path / "argv").read_text().splitlines()[:4] == [
        "-m", "sglang.compile_deep_gemm", "--model-path", "m; rm -rf /",
    ]  # fmt: skip
    monkeypatch.setenv("SGLANG_ENABLE_JIT_DEEPGEMM", "0")
    compile_deep_gemm("m", "r", 2, 60)  # nothing to compile


def layers(settings: dict[str, Any]) -> list[bytes]:
    done = ok(deploy(SERVER, json.dumps(settings)))
    images = done.plane.requests("ImageGetOrCreate")
    return [
        one.image.build_function.SerializeToString(deterministic=True)
        for one in images
        if one.image.HasField("build_function")
    ]


def test_only_what_a_build_step_uses_rebuilds_it() -> None:
    plain = layers({})
    assert layers({"target_concurrency": 12, "min_containers": 1, "reasoning_parser": None}) == plain
    other = layers({"revision": "f" * 40})
    assert [ours != theirs for ours, theirs in zip(plain, other, strict=True)] == [True, True]


@pytest.mark.parametrize(
    ("preset", "module", "tag"),
    [
        *((preset, SERVER, SERVER_TAG) for preset in PRESETS if preset != "qwen3.5-35b"),
        ("qwen3-8b-snapshot", HTTP_SERVER, HTTP_SERVER_TAG),
    ],
)
def test_every_preset_deploys_both_ways(preset: str, module: str, tag: str) -> None:
    done = ok(deploy(module, json.dumps({"preset": preset, "min_containers": 1, "scaledown_window": 600, "cpu": 4})))
    settings = ServerSettings.of(preset)
    function = done.function(tag)
    gpu = function.resources.gpu_config
    assert (gpu.gpu_type, gpu.count) == (settings.gpu_type, settings.gpu_count)
    assert function.autoscaler_settings.min_containers == 1
    assert function.autoscaler_settings.scaledown_window == 600
    assert function.resources.milli_cpu == 4000
    builders = {one.function.function_name for one in done.plane.requests("FunctionCreate")} - {tag}
    assert builders == {"download_weights"} | ({"compile_deep_gemm"} if settings.deep_gemm else set())
    assert function.checkpointing_enabled == settings.gpu_snapshot
    assert ("enable_gpu_snapshot" in function.experimental_options) == settings.gpu_snapshot


def test_http_server_asks_for_a_secret_with_both_keys(http_server: Deployed) -> None:
    (secret,) = http_server.plane.requests("SecretGetOrCreate")
    assert secret.deployment_name == "homing-engine"
    assert list(secret.required_keys) == ["HOMING_API_KEY", "HOMING_ADMIN_KEY"]
    assert http_server.function(HTTP_SERVER_TAG).secret_ids


def test_http_server_is_not_deployed_without_its_secret() -> None:
    plane = ControlPlane()
    plane.missing_secrets = True
    done = deploy(HTTP_SERVER, plane=plane)
    assert done.returncode != 0
    assert "homing-engine" in done.stdout + done.stderr
    assert not plane.requests("AppPublish")


def test_http_server_may_be_public_only_when_told() -> None:
    done = ok(deploy(HTTP_SERVER, '{"public": true}'))
    assert not done.plane.requests("SecretGetOrCreate")
    refused = deploy(HTTP_SERVER, '{"keys": false}')
    assert refused.returncode != 0
    assert not refused.plane.calls


def test_server_needs_no_secret_unless_it_asks_for_keys(server: Deployed) -> None:
    assert not server.plane.requests("SecretGetOrCreate")
    keyed = ok(deploy(SERVER, '{"keys": true}'))
    assert [one.deployment_name for one in keyed.plane.requests("SecretGetOrCreate")] == ["homing-engine"]


def test_no_key_of_the_deployer_reaches_modal() -> None:
    """Whatever lies in the deployer's environment: keys travel as a Modal Secret's name only."""
    env = {"HOMING_API_KEY": "sk-caller", "HOMING_ADMIN_KEY": "sk-admin", "HF_TOKEN": "hf-token"}
    done = ok(run(ControlPlane(), "modal", "deploy", "-m", HTTP_SERVER, env=env))
    sent = b"".join(request.SerializeToString() for _, request in done.plane.calls)
    for secret in env.values():
        assert secret.encode() not in sent
        assert secret not in done.stdout + done.stderr


def test_the_container_is_given_the_deployers_settings() -> None:
    given = {"preset": "qwen3-4b", "target_concurrency": 3, "extra_env": {"NOTE": "it's $5"}}
    done = ok(deploy(SERVER, json.dumps(given)))
    (line,) = [line for line in done.dockerfile if SETTINGS_VARIABLE in line]
    baked = shlex.split(line.removeprefix("ENV "))[0].partition("=")[2]
    assert ServerSettings.load({SETTINGS_VARIABLE: baked}) == ServerSettings.load(
        {SETTINGS_VARIABLE: json.dumps(given)}
    )


def test_our_package_travels_whole_and_alone(server: Deployed) -> None:
    """Dependencies are not shipped, so the container's modules must live without them."""
    mounted = {
        file.filename
        for one in server.plane.requests("MountGetOrCreate")
        for file in one.files
        if "homing" in file.filename
    }
    assert "/root/homing_server/launcher.py" in mounted
    assert all(name.startswith("/root/homing_server/") for name in mounted)


@pytest.mark.parametrize(("module", "tag"), [(SERVER, SERVER_TAG), (HTTP_SERVER, HTTP_SERVER_TAG)])
def test_deploying_from_python(module: str, tag: str) -> None:
    """`App.deploy()`, in a process of its own: modal keeps its connection until the end."""
    plane = ControlPlane()
    program = f"import {module} as module; print(module.app.deploy().app_id)"
    with serving(plane) as url:
        done = python(url, "-c", program)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ap-")
    assert tag in [one.function.function_name for one in plane.requests("FunctionCreate")]
    assert plane.requests("AppPublish")


def test_deploying_needs_only_modal_and_pydantic() -> None:
    """`pip install homing[server]` and a container have nothing else of ours."""
    program = f"""
import importlib, importlib.abc, sys
SHARED = set(sys.stdlib_module_names) | {{"modal", "modal_proto", "modal_version", "pydantic", "homing_server"}}
ours = []
class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        frame, top = sys._getframe(1), name.partition(".")[0]
        while frame and frame.f_globals.get("__name__", "").startswith(("importlib", "_frozen")):
            frame = frame.f_back
        asker = frame.f_globals.get("__name__", "") if frame else ""
        if asker.startswith("homing_server") and top not in SHARED:
            raise ImportError(f"{{asker}} imports {{name}}")
        if top in ("homing", "sglang", "starlette", "uvicorn", "httpx", "anyio", "click"):
            raise ImportError(f"{{name}} was imported by {{asker}}")
sys.meta_path.insert(0, Refuse())
for name in {MODULES!r}:
    importlib.import_module("homing_server." + name)
"""
    subprocess.run([sys.executable, "-c", program], check=True, env={"PATH": "/usr/bin:/bin"}, timeout=60)


MODULES = [
    "engine", "gate", "image", "launcher", "lifecycle", "presets", "probe", "process", "resources", "server",
    "settings", "sglang_low_latency",
]  # fmt: skip


@pytest.mark.parametrize("name", ["gate", "launcher", "process"])
def test_what_the_engine_process_imports_is_standard_library_only(name: str) -> None:
    """SGLang's workers import the launcher again, and their image need not have modal."""
    program = f"import sys, homing_server.{name}; print(sorted(n for n in sys.modules if '.' not in n))"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
    bare = subprocess.run(
        [sys.executable, "-c", "import sys; print(sorted(n for n in sys.modules if '.' not in n))"],
        check=True, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    extra = set(eval(done.stdout)) - set(eval(bare.stdout)) - set(sys.stdlib_module_names)
    assert extra == {"homing_server"}
