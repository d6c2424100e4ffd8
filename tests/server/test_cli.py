"""`homing deploy` and `homing server`, through the real modal command."""

from __future__ import annotations

import shlex
import subprocess
import sys
from typing import Any

import pytest
from click.testing import CliRunner, Result

from homing.cli.app import homing
from homing.cli.changes import parse_changes
from homing.cli.deploy import costs, usage
from homing.core.request.environment import COLD_START_TIMEOUT
from homing_server.engine import command
from homing_server.local import Edge
from homing_server.settings import ServerSettings

from ..cli import screens
from .support.container import free_port
from .support.control_plane import ControlPlane
from .support.modal_cli import HTTP_SERVER, Deployed, deploy, environment, python, run

COMMAND = "from homing.cli import main; main()"


def dry(*arguments: str) -> Result:
    return CliRunner().invoke(homing, ["deploy", "--dry-run", *arguments])


def homing_command(plane: ControlPlane, *arguments: str, **env: str) -> Deployed:
    return run(plane, "tests.server.support.homing_command", *arguments, env=env)


def test_dry_run_shows_what_deploy_sends() -> None:
    shown = dry("--preset", "qwen3-4b", "--set", "target_concurrency=3", "--set", "scaledown_window=900").output
    settings = ServerSettings.of("qwen3-4b", target_concurrency=3, scaledown_window=900)
    assert " ".join(command(settings)) in shown
    sent = deploy("homing_server.server", settings.dump())
    sets = [shlex.split(line)[1] for line in sent.dockerfile if line.startswith("ENV ")]
    shown_sets = [line.split(" ", 3)[3] for line in shown.splitlines() if line.startswith("  ENV ")]
    assert ", ".join(sets) == ", ".join(shown_sets)
    assert sent.dockerfile[0] in shown
    assert "RUN download_weights(model=Qwen/Qwen3-4B-Thinking-2507-FP8" in shown
    assert "compile_deep_gemm" not in shown
    for line in ("gpu = 'L4:1'", "scaledown_window = 900", "startup_timeout = 1200", "exit_grace_period = 300"):
        assert line in shown
    assert "max_containers" not in shown.partition("Modal:")[2]  # left to Modal


def test_dry_run_needs_neither_modal_nor_a_login() -> None:
    program = f"import sys; sys.modules['modal'] = None; {COMMAND}"
    done = subprocess.run(
        [sys.executable, "-c", program, "deploy", "--dry-run"],
        env=environment("http://127.0.0.1:9"), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "RUN compile_deep_gemm" in done.stdout
    assert "on H100!:2, at most 2400 s" in done.stdout


def test_dry_run_of_the_example() -> None:
    shown = dry("--variant", "http_server").output
    for line in (
        "App 'example-sglang-low-latency', SGLang as http_server",
        "exit_grace_period = 15",
        "region = 'us-east'",
    ):
        assert line in shown
    assert "homing-engine: HOMING_API_KEY, HOMING_ADMIN_KEY" in shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "$13.82 an hour (2 x H100! x 1.75 for us-east x $3.9492, Modal's list price on 7 May 2026"),
        (["--set", "min_containers=2", "--gpu-price", "1"], "While idle: $7.00 an hour, min_containers is 2."),
        (["--set", "compute_region=us", "--gpu-price", "1"], "$3.00 an hour (2 x H100! x 1.5 for us x $1, your price"),
        (
            ["--set", "gpu_type=B200"],
            "2 x B200 x 1.75 for us-east x Modal's price (modal.com/pricing; pass --gpu-price)",
        ),
    ],
)
def test_costs_are_computed_from_dated_or_given_prices(arguments: list[str], said: str) -> None:
    assert said in dry(*arguments).output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--set", "gpu_count=3"], "gpu_count: 3 GPUs cannot share 16 attention heads; use 1, 2, 4, 8"),
        (["--set", "gpu_cont=3"], "gpu_cont: there is no such setting"),
        (["--set", "port=x"], "port: Input should be a valid integer"),
        (["--set", "nonsense"], "--set wants KEY=VALUE, got 'nonsense'"),
        (["--set", "routing_region=Us-East"], "did you mean 'us-east'"),
        (["--preset", "gpt"], "qwen3.5-35b"),
    ],
)
def test_wrong_settings_are_named(arguments: list[str], said: str) -> None:
    result = dry(*arguments)
    assert result.exit_code != 0
    assert said in result.output


def test_a_secret_given_by_mistake_is_not_repeated() -> None:
    result = dry("--set", 'extra_args=["--api-key=sk-oops"]')
    assert result.exit_code != 0
    assert "sk-oops" not in result.output
    assert "process table" in result.output


def test_warnings_are_shown_and_do_not_stop() -> None:
    result = dry("--set", "target_concurrency=40")
    assert result.exit_code == 0
    assert "Warning: speculative_algorithm" in result.output


def test_deploy_says_how_to_use_the_server() -> None:
    plane = ControlPlane()
    done = homing_command(plane, "deploy", "--preset", "qwen3-4b", "--name", "small")
    assert done.returncode == 0, done.stdout + done.stderr
    url = "https://workspace--small-sglangserver.us-east.modal.direct"
    assert f"URL: {url}" in done.stdout
    assert f'client = Client(base_url="{url}")' in done.stdout
    assert "MODAL_PROXY_TOKEN_ID" in done.stdout
    assert "HOMING_API_KEY" not in done.stdout
    assert "While idle: $0.00 an hour" in done.stdout
    assert done.function("SGLangServer").resources.gpu_config.gpu_type == "L4"


@pytest.mark.parametrize("variant", ["server", "http_server"])
def test_what_is_printed_after_a_deploy_is_all_that_a_caller_needs(variant: str) -> None:
    """URL, how to be let in, code, cost, what to expect: and the code runs."""
    settings = ServerSettings.of("qwen3-4b", variant=variant, min_containers=1)
    lines = usage(settings, "https://x.modal.direct") + costs(settings)
    said = "\n".join(lines)
    assert lines[0] == "URL: https://x.modal.direct"
    assert ("MODAL_PROXY_TOKEN_SECRET" in said) == (variant == "server")
    assert ("export HOMING_API_KEY" in said) == (variant == "http_server")
    assert "waits for a cold start" in said
    assert "waits up to 20 minutes" in said
    assert COLD_START_TIMEOUT == 20 * 60
    assert "While idle: $1.40 an hour, min_containers is 1." in said
    snippet = "\n".join(line[2:] for line in lines if line.startswith("  ") and "export" not in line)
    scope: dict[str, Any] = {}
    with Edge() as edge:
        exec(snippet.replace("https://x.modal.direct", edge.url), scope)
        scope["client"].close()


def test_deploy_of_the_example_asks_for_the_engine_key() -> None:
    done = homing_command(ControlPlane(), "deploy", "--variant", "http_server")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "example-sglang-low-latency-sglang.us-east.modal.direct" in done.stdout
    assert "export HOMING_API_KEY=…" in done.stdout


def test_deploy_without_the_secret_says_how_to_make_it() -> None:
    plane = ControlPlane()
    plane.missing_secrets = True
    done = homing_command(plane, "deploy", "--variant", "http_server")
    assert done.returncode != 0
    assert "modal secret create homing-engine HOMING_API_KEY=$(openssl rand -hex 32)" in done.stdout


def test_public_deploys_without_it() -> None:
    plane = ControlPlane()
    plane.missing_secrets = True
    done = homing_command(plane, "deploy", "--variant", "http_server", "--public")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Anyone who knows the URL can use it." in done.stdout
    assert "Warning: public" in done.stderr


def test_status_logs_and_stop_go_through_modal() -> None:
    plane = ControlPlane()
    assert homing_command(plane, "deploy", "--preset", "qwen3-4b").returncode == 0
    status = homing_command(plane, "server", "status")
    assert "URL: https://workspace--homing-sglangserver.us-east.modal.direct" in status.stdout
    screens.check("server", "$ homing server status\n" + status.stdout.strip())
    before = len(plane.calls)
    homing_command(plane, "server", "logs")
    assert [name for name, _ in plane.calls[before:] if "Log" in name]
    homing_command(plane, "server", "stop", "--yes")
    (stop,) = plane.requests("AppStop")
    assert stop.app_id == plane.requests("AppPublish")[-1].app_id


def test_status_of_the_examples_app() -> None:
    plane = deploy(HTTP_SERVER, '{"public": true}').plane
    named = ["--app", "example-sglang-low-latency", "--name", "SGLang"]
    status = homing_command(plane, "server", "status", *named)
    assert "URL: https://workspace--example-sglang-low-latency-sglang.us-east.modal.direct" in status.stdout
    missing = homing_command(ControlPlane(), "server", "status")
    assert missing.returncode == 1
    assert "deploy one with `homing deploy`" in missing.stderr


@pytest.mark.parametrize("arguments", [["deploy"], ["server", "status"], ["server", "logs"], ["server", "stop"]])
def test_without_modal_or_login_the_way_out_is_named(arguments: list[str]) -> None:
    nobody = {"MODAL_TOKEN_ID": "", "MODAL_TOKEN_SECRET": ""}
    out = python(f"http://127.0.0.1:{free_port()}", "-c", COMMAND, *arguments, env=nobody)
    assert out.returncode == 1
    assert "not logged in to Modal: run `modal setup`" in out.stderr
    find = "lambda name, *rest: None if name == 'modal' else found(name, *rest)"
    hidden = f"import importlib.util as u; found = u.find_spec; u.find_spec = {find}; {COMMAND}"
    out = python(f"http://127.0.0.1:{free_port()}", "-c", hidden, *arguments)
    assert out.returncode == 1
    assert "pip install 'homing[server]'" in out.stderr


def test_values_are_json_or_text() -> None:
    given = ["a=1", "b=us-east", "c=null", 'd=["--x", "y"]', "e=a=b"]
    assert parse_changes(given) == {"a": 1, "b": "us-east", "c": None, "d": ["--x", "y"], "e": "a=b"}
