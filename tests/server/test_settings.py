from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from homing_server.presets import PRESETS
from homing_server.settings import SETTINGS_VARIABLE, ServerSettings


def test_the_defaults_are_the_examples() -> None:
    settings = ServerSettings.of(variant="http_server")
    assert (settings.model, settings.revision) == (
        "Qwen/Qwen3.5-35B-A3B-FP8",
        "0b2752837483aa34b3db6e83e151b150c0e00e49",
    )
    assert (settings.app, settings.class_name) == ("example-sglang-low-latency", "SGLang")
    assert settings.image == "lmsysorg/sglang:v0.5.9-cu129-amd64-runtime"
    assert (settings.gpu, settings.compute_region, settings.routing_region) == ("H100!:2", "us-east", "us-east")
    assert (settings.min_containers, settings.target_concurrency, settings.port) == (0, 10, 8000)
    assert (settings.startup_timeout, settings.grace) == (1200, 15)
    assert (settings.hf_cache_volume, settings.hf_cache_path) == ("huggingface-cache", "/root/.cache/huggingface")
    assert (settings.dg_cache_volume, settings.dg_cache_path) == ("deepgemm-cache", "/root/.cache/deep_gemm")
    assert settings.scaledown_window is None
    assert settings.max_containers is None


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("variant", ["server", "http_server"])
def test_every_preset_is_pinned_sound_and_without_warnings(preset: str, variant: str) -> None:
    settings = ServerSettings.of(preset, variant=variant)
    assert len(settings.revision) == 40
    assert settings.warnings() == []


@pytest.mark.parametrize("preset", PRESETS)
def test_what_is_baked_into_the_image_gives_the_same_settings(preset: str) -> None:
    settings = ServerSettings.of(preset, speculative_algorithm="EAGLE", extra_env={"PRICE": "5$ 'each'"})
    baked = settings.dump()
    assert "$" not in baked
    assert "'" not in baked
    assert ServerSettings.load({SETTINGS_VARIABLE: baked}) == settings


def test_a_module_insists_on_its_variant() -> None:
    given = {SETTINGS_VARIABLE: json.dumps({"preset": "qwen3-4b", "variant": "server"})}
    assert ServerSettings.load(given, variant="http_server").variant == "http_server"


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"gpu_count": 3}, "gpu_count: 3 GPUs cannot share 16 attention heads; use 1, 2, 4, 8"),
        ({"variant": "http_server", "exit_grace_period": 26}, "exit_grace_period: 26 s is above Modal's cap, 25 s"),
        ({"exit_grace_period": 3601}, "cap, 3600 s for server"),
        ({"routing_region": "US_East"}, "did you mean 'us-east'"),
        ({"compute_region": "mars!"}, "regions look like 'us-east'"),
        ({"gpu_snapshot": True}, "gpu_snapshot: Modal's do not work with several GPUs; set gpu_count to 1"),
        ({"max_concurrency": 5}, "max_concurrency: 5 is below target_concurrency 10"),
        ({"min_containers": 3, "max_containers": 2}, "max_containers: 2 is below min_containers 3"),
        ({"variant": "http_server", "keys": False}, "no authentication at Modal's edge"),
        ({"public": True, "keys": True}, "a public server asks for no keys"),
        ({"engine": "stock", "keys": True}, "process table"),
        ({"extra_args": ["--api-key=secret"]}, "HOMING_API_KEY into the secret"),
        ({"extra_args": ["--admin-api", "secret"]}, "HOMING_ADMIN_KEY"),
        ({"extra_args": ["--enable-http2"]}, "without the gate"),
        ({"extra_args": ["--tokenizer-worker-num", "2"]}, "without the gate"),
        ({"target_concurency": 5}, "target_concurency"),
        ({"sglang_version": "latest"}, "sglang_version"),
    ],
)
def test_nonsense_is_refused_by_name_and_with_the_fix(overrides: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        ServerSettings.of(**overrides)  # type: ignore[arg-type]
    assert said in str(caught.value)


def test_a_secret_in_a_refused_argument_is_not_repeated() -> None:
    with pytest.raises(ValidationError) as caught:
        ServerSettings.of(extra_args=["--api-key=sk-very-secret"])
    assert "sk-very-secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"), [("{", "is not JSON"), ("[]", "must hold a JSON object"), ('{"preset": "x"}', "'x' is unknown")]
)
def test_unreadable_settings_are_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ServerSettings.load({SETTINGS_VARIABLE: text})


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"target_concurrency": 40}, "speculative_algorithm"),
        ({"gpu_type": "L4"}, "deep_gemm"),
        ({"routing_region": "xx-east"}, "routing_region"),
        ({"prefix_cache": "off"}, "prefix_cache"),
        ({"sglang_version": "0.5.23"}, "image_tag"),
        ({"image_tag": "lmsysorg/sglang:v0.5.12"}, "sglang_version"),
        ({"variant": "http_server", "public": True}, "public"),
    ],
)
def test_what_is_probably_not_meant_is_warned_of(overrides: dict[str, object], said: str) -> None:
    (warning,) = ServerSettings.of(**overrides).warnings()  # type: ignore[arg-type]
    assert warning.startswith(said)
