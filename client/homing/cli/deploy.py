"""``homing deploy``: deploys an SGLang server to Modal through Modal's own command."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click
from pydantic import ValidationError

from homing.errors import ConfigurationError
from homing_server.engine import command, environment
from homing_server.gate import ADMIN_KEY, API_KEY
from homing_server.presets import DEFAULT_PRESET, PRESETS
from homing_server.pricing import PRICED_ON, gpu_price, hourly, region_multiplier
from homing_server.recipe import scaling, serving, steps
from homing_server.settings import SETTINGS_VARIABLE, ServerSettings

from .changes import parse_changes
from .output import say

_MODULES = {"server": "homing_server.server", "http_server": "homing_server.sglang_low_latency"}


@click.command()
@click.option("--preset", type=click.Choice(list(PRESETS)), default=DEFAULT_PRESET, show_default=True)
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change a setting; repeat it.")
@click.option(
    "--variant",
    type=click.Choice(list(_MODULES)),
    default="server",
    show_default=True,
    help="Modal's Server with proxy auth, or the example's http_server with an engine key.",
)
@click.option("--name", "app_name", help="Name of the Modal App.  [default: homing]")
@click.option("-e", "--env", "modal_environment", help="Modal environment.")
@click.option("--public", is_flag=True, help="http_server only: no keys; anyone may use the GPUs.")
@click.option("--gpu-price", type=float, metavar="USD", help="Your price of one GPU for an hour.")
@click.option("--dry-run", is_flag=True, help="Show the image, the command line and Modal's settings only.")
def deploy(
    preset: str,
    changes: tuple[str, ...],
    variant: str,
    app_name: str | None,
    modal_environment: str | None,
    public: bool,
    gpu_price: float | None,
    dry_run: bool,
) -> None:
    """Deploy an SGLang server to Modal and say how to use it.

    The settings and their defaults are described in docs/configure.md; for example
    `homing deploy --preset qwen3-4b --set min_containers=1`.
    """
    overrides: dict[str, Any] = {"variant": variant, **parse_changes(changes)}
    if app_name:
        overrides["app_name"] = app_name
    if public:
        overrides["public"] = True
    settings = read_settings(preset, overrides)
    for warning in settings.warnings():
        say(f"Warning: {warning}", fg="yellow", err=True)
    if dry_run:
        _echo(plan(settings))
        _echo(costs(settings, gpu_price))
        return
    require_modal()
    arguments = ["deploy", "-m", _MODULES[settings.variant], *environment_option(modal_environment)]
    code = run_modal(arguments, {SETTINGS_VARIABLE: settings.dump()})
    if code != 0:
        if settings.asks_keys:
            _echo(["", f"If the Secret {settings.secret_name!r} is what is missing, create it:", _secret(settings)])
        raise click.exceptions.Exit(code)
    from homing.integrations.modal import server_url

    url = server_url(settings.app, settings.class_name, environment=modal_environment)
    _echo(["", *usage(settings, url), "", *costs(settings, gpu_price)])


def read_settings(preset: str, overrides: dict[str, Any]) -> ServerSettings:
    """Return the settings. Raises a `ConfigurationError` that names each invalid one. Pure."""
    try:
        return ServerSettings.of(preset, **overrides)
    except ValidationError as error:
        problems = []
        for problem in error.errors(include_input=False, include_url=False):
            where = ".".join(map(str, problem["loc"]))
            said = problem["msg"].removeprefix("Value error, ")
            if problem["type"] == "extra_forbidden":
                said = "there is no such setting (docs/configure.md lists them)"
            problems.append(f"{where}: {said}" if where else said)
        raise ConfigurationError("; ".join(problems)) from None


def plan(settings: ServerSettings) -> list[str]:
    """Return lines that describe what would be built and run. Pure."""
    secrets = [f"  {settings.secret_name}: {API_KEY}, {ADMIN_KEY}"] if settings.asks_keys else []
    secrets += [f"  {settings.hf_secret}: HF_TOKEN (while building)"] if settings.hf_secret else []
    modal = {**scaling(settings), **serving(settings)}
    if settings.variant == "http_server":
        modal |= {"region": settings.compute_region, "target_inputs": settings.target_concurrency}
    return [
        "Image",
        *(f"  {step}" for step in steps(settings)),
        "",
        "Engine",
        *(f"  {name}={value}" for name, value in environment(settings).items()),
        "  " + " ".join(command(settings)),
        "",
        f"Modal: App {settings.app!r}, {settings.class_name} as {settings.variant}",
        *(f"  {name} = {value!r}" for name, value in modal.items() if value is not None),
        f"  volume {settings.hf_cache_volume} at {settings.hf_cache_path}",
        f"  volume {settings.dg_cache_volume} at {settings.dg_cache_path}",
        "",
        "Secrets",
        *(secrets or ["  none"]),
        "",
    ]


def usage(settings: ServerSettings, url: str) -> list[str]:
    """Return lines with the URL, how to authenticate, and working code. Pure."""
    if settings.variant == "server":
        auth = [
            "Callers need a Modal proxy token (modal workspace proxy-tokens create):",
            "  export MODAL_PROXY_TOKEN_ID=wk-… MODAL_PROXY_TOKEN_SECRET=ws-…",
        ]
    else:
        auth = [] if settings.asks_keys else ["Anyone who knows the URL can use it."]
    if settings.asks_keys:
        auth += [f"Callers need the engine key of the Secret {settings.secret_name!r}:", f"  export {API_KEY}=…"]
    return [
        f"URL: {url}",
        *auth,
        "",
        "  from homing import Client",
        "",
        f'  client = Client(base_url="{url}")',
        "  chat = client.conversation()",
        '  print(chat.send("Hello!").text)',
        "",
        "The first request after an idle time waits for a cold start: seconds for the container, then loading",
        "weights (1 to 2 GB/s from the volume) and capturing CUDA graphs, minutes for a large model. Homing",
        "waits up to 20 minutes and says so; `--set min_containers=1` keeps one replica ready.",
    ]


def costs(settings: ServerSettings, price: float | None = None) -> list[str]:
    """Return lines with the cost per hour and the source of the price. Pure."""
    source = "your price"
    if price is None:
        price, source = gpu_price(settings), f"Modal's list price on {PRICED_ON}"
    multiplier = region_multiplier(settings.compute_region)
    formula = f"{settings.gpu_count} x {settings.gpu_type} x {multiplier:g} for {settings.compute_region}"
    if price is None:
        return [f"Cost of a running replica: {formula} x Modal's price (modal.com/pricing; pass --gpu-price)."]
    each = hourly(settings, price)
    always = settings.min_containers * each
    return [
        f"GPUs of a running replica: ${each:.2f} an hour ({formula} x ${price:g}, {source}; CPU and memory extra).",
        f"While idle: ${always:.2f} an hour, min_containers is {settings.min_containers}.",
    ]


def require_modal() -> None:
    """Raise `ConfigurationError` if modal is missing or the user isn't logged in."""
    if importlib.util.find_spec("modal") is None:
        raise ConfigurationError("this needs modal: pip install 'homing[server]'")
    from modal.config import config

    if not (config.get("token_id") and config.get("token_secret")):
        raise ConfigurationError("not logged in to Modal: run `modal setup` (or set MODAL_TOKEN_ID and _SECRET)")


def environment_option(modal_environment: str | None) -> list[str]:
    """Return the command-line option that selects the Modal environment."""
    return ["--env", modal_environment] if modal_environment else []


def run_modal(arguments: Sequence[str], variables: dict[str, str] | None = None) -> int:
    """Run this Python's ``modal`` command on the same terminal and return its exit code."""
    sys.stdout.flush()
    return subprocess.run(
        [sys.executable, "-m", "modal", *arguments], env={**os.environ, **(variables or {})}
    ).returncode


def _secret(settings: ServerSettings) -> str:
    new_key = "$(openssl rand -hex 32)"
    return f"  modal secret create {settings.secret_name} {API_KEY}={new_key} {ADMIN_KEY}={new_key}"


def _echo(lines: Iterable[str]) -> None:
    for line in lines:
        say(line)
