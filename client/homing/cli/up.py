"""``homing up``: runs the local edge in the foreground and prints a line per request."""

from __future__ import annotations

import contextlib
import math
import os
import shlex
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import click
from pydantic import SecretStr

from homing.errors import ConfigurationError
from homing_server.local import Edge, EdgeSettings, EngineSettings, ProxyToken, Record, SGLangSettings
from homing_server.local.hosts import bare, is_loopback

from ..core.text.control_characters import one_line
from .output import say

_STAND_IN = "A development stand-in for Modal's edge, not a production router."
# One log line: wide enough for its fields, narrow enough for a terminal beside an editor.
_LINE = "{number:>5}  {status:<3}  {outcome:<9}  {replica:<4}  {key:<12}  {tokens:<24}  {seconds:>7.2f} s  {path}"
_KEY_SHOWN = 12
_EMULATED_MODEL = "homing-emulated"
# Seconds of an emulated cold start: long enough to watch, short enough to wait for.
_COLD_START = 5.0
# Open files, and thus connections, that `homing up` asks for: more than a development machine needs.
_MOST_FILES = 65_536
_PASSED_ON = (
    "host",
    "port",
    "scaledown_window",
    "target_concurrency",
    "max_concurrency",
    "exit_grace",
    "latency",
    "seed",
    "allowed_hosts",
)


def _speed(context: click.Context, parameter: click.Parameter, value: float) -> float:
    return math.inf if value == 0 else value


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8000, show_default=True, help="Port; 0 takes a free one.")
@click.option("--allow-host", "allowed_hosts", multiple=True, metavar="NAME", help="Answer to this name too.")
@click.option("--min-replicas", default=0, show_default=True, help="Replicas that are kept, once woken.")
@click.option("--max-replicas", default=3, show_default=True, help="Most replicas.")
@click.option("--replicas", type=click.IntRange(min=1), help="So many, ready at the start; sglang's default is 1.")
@click.option("--warm", is_flag=True, help="Start with --min-replicas (at least one) ready instead of cold.")
@click.option("--cold-start", type=float, help="Seconds until a new replica is ready; 5, or for sglang 0 more.")
@click.option("--scaledown-window", default=60.0, show_default=True, help="Idle seconds before one goes.")
@click.option("--target-concurrency", default=10.0, show_default=True, help="Requests per replica aimed for.")
@click.option("--max-concurrency", type=int, help="Requests per replica beyond which it answers 429.")
@click.option("--exit-grace", default=15.0, show_default=True, help="Seconds a leaving replica may finish in.")
@click.option("--latency", default=0.0, show_default=True, help="Seconds added to each request.")
@click.option("--proxy-token", envvar="HOMING_UP_PROXY_TOKEN", help="Require this token, wk-….ws-…")
@click.option("--api-key", envvar="HOMING_UP_API_KEY", help="Key that emulated engines require.")
@click.option(
    "--engine",
    type=click.Choice(["emulated", "sglang"]),
    default="emulated",
    show_default=True,
    help="What a replica is; sglang: a real process each.",
)
@click.option("--model", help="Name of the emulated model; for sglang a folder or Hugging Face repository.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", help="Of sglang replicas.")
@click.option("--mem-fraction", type=float, help="Of the GPU's memory for one sglang replica; default: 0.8 shared.")
@click.option("--max-total-tokens", type=int, help="KV cache of one sglang replica in tokens; default: what fits.")
@click.option("--context-length", type=int, help="Tokens of prompt and reply in sglang; default: the model's.")
@click.option("--reasoning-parser", help="Of sglang, such as qwen3.")
@click.option("--tool-call-parser", help="Of sglang, such as qwen25.")
@click.option("--engine-args", default="", help="More arguments for sglang, in one string.")
@click.option("--log-folder", type=click.Path(path_type=Path, file_okay=False), help="For the logs of sglang replicas.")
@click.option("--thinking", is_flag=True, help="Let the emulated model reason before it answers.")
@click.option("--prefill-rate", default=8000.0, show_default=True, callback=_speed, help="Tokens/s; 0: no delay.")
@click.option("--decode-rate", default=80.0, show_default=True, callback=_speed, help="Tokens/s; 0: no delay.")
@click.option("--seed", default=0, show_default=True, help="Seed of everything random.")
@click.option("--url", "backends", multiple=True, help="Put this OpenAI-compatible server behind the edge; repeat it.")
@click.option("--quiet", is_flag=True, help="No line per request.")
def up(**options: Any) -> None:
    """Serve a local stand-in for your Modal server, until Ctrl-C.

    It routes by affinity key over emulated SGLang replicas, or real ones (--engine sglang),
    starts cold, scales, drains and asks for credentials as Modal's edge does. Ctrl-C drains;
    a second one stops at once.
    """
    _more_files()
    edge = Edge(_settings(options), engine=_sglang(options))
    if edge.engine is not None and edge.settings.first_replicas:
        say(f"Starting {edge.settings.first_replicas} SGLang: seconds for the tiny model, minutes for big ones.")
    with edge, _Interrupts() as interrupts:
        _greet(edge, token=options["proxy_token"] is not None)
        printer = _Printer(edge, quiet=options["quiet"])
        printer.run(until=interrupts.asked)
        say(f"Draining {edge.running} running (Ctrl-C again stops at once).")
        interrupts.second_stops()
        edge.stop(grace=edge.settings.exit_grace)
        printer.flush()
    say("Stopped.")


def _more_files() -> None:
    """Raise the limit of open files, up to `_MOST_FILES`: each connection needs one, and shells' default is low."""
    with contextlib.suppress(ImportError, OSError, ValueError):  # Windows; macOS allows less than it claims
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _settings(options: dict[str, Any]) -> EdgeSettings:
    token = options["proxy_token"]
    backends = tuple(options["backends"])
    real = options["engine"] == "sglang"
    if backends and real:
        raise click.UsageError("--url brings its own engines: leave --engine out")
    if options["api_key"] and (backends or real):
        # If it were ignored silently, everyone whom it was meant to keep out would get in.
        raise click.UsageError("--api-key is for emulated engines: protect this edge with --proxy-token")
    fixed = options["replicas"] or (1 if real and not options["min_replicas"] else None)
    minimum, maximum = (fixed, fixed) if fixed else (options["min_replicas"], options["max_replicas"])
    maximum = min(maximum, len(backends)) if backends else maximum
    first = max(minimum, 1) if options["warm"] or fixed else 0
    cold_start = options["cold_start"]
    return EdgeSettings(
        **{name: options[name] for name in _PASSED_ON},
        min_replicas=min(minimum, maximum) if backends else minimum,
        max_replicas=maximum,
        # A real engine has its own cold start.
        cold_start=cold_start if cold_start is not None else 0.0 if real else _COLD_START,
        # External backends are already running, so there is nothing to wake.
        initial_replicas=maximum if backends else first,
        proxy_token=_token(token) if token else None,
        backends=backends,
        engine=EngineSettings(
            model=options["model"] or _EMULATED_MODEL,
            thinking=options["thinking"],
            prefill_rate=options["prefill_rate"],
            decode_rate=options["decode_rate"],
            api_key=SecretStr(options["api_key"]) if options["api_key"] else None,
        ),
    )


def _sglang(options: dict[str, Any]) -> SGLangSettings | None:
    if options["engine"] != "sglang":
        return None
    return SGLangSettings(
        model=options["model"],
        device=options["device"],
        mem_fraction=options["mem_fraction"],
        max_total_tokens=options["max_total_tokens"],
        context_length=options["context_length"],
        reasoning_parser=options["reasoning_parser"],
        tool_call_parser=options["tool_call_parser"],
        log_folder=options["log_folder"],
        extra_args=tuple(shlex.split(options["engine_args"])),
    )


def _token(joined: str) -> ProxyToken:
    try:
        return ProxyToken.parse(joined)
    except ConfigurationError:
        raise click.BadParameter("must look like wk-….ws-… (id, dot, secret)", param_hint="--proxy-token") from None


def _greet(edge: Edge, *, token: bool) -> None:
    settings = edge.settings
    say(f"{edge.url}    {_STAND_IN}")
    say(f"  export HOMING_BASE_URL={edge.url}")
    if token:
        say("  export MODAL_PROXY_TOKEN_ID=… MODAL_PROXY_TOKEN_SECRET=…   (the token you gave)")
    if not is_loopback(bare(settings.host)):
        guard = "those who have the token" if token else "everybody who reaches this address"
        say(f"  open to the network: {guard} can use it, read its log and steer it", fg="yellow")
    kind = "SGLang" if edge.engine else "proxied" if settings.backends else "emulated"
    cold = f"cold: the first request starts it ({settings.cold_start:g} s)"
    ready = f"{len(edge.ready)} ready" if edge.ready else cold
    say(f"  {settings.min_replicas} to {settings.max_replicas} {kind} replicas, {ready}")
    if edge.log_folder:
        say(f"  logs of the replicas: {edge.log_folder}")
    say(f"  state, log, metrics and faults: {edge.url}/_edge/state")
    say("  Ctrl-C drains and stops.")


class _Interrupts:
    """Turns Ctrl-C and SIGTERM into an event, so that the edge can drain instead of stopping abruptly."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> _Interrupts:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def second_stops(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._exit)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked.set()

    def _exit(self, number: int, frame: FrameType | None) -> None:
        os._exit(128 + number)


class _Printer:
    """Prints each request once, after it has ended."""

    # Seconds until Ctrl-C and finished requests are noticed.
    _POLL = 0.2

    def __init__(self, edge: Edge, *, quiet: bool) -> None:
        self._edge = edge
        self._quiet = quiet
        self._printed: set[int] = set()
        self._replicas: dict[str, str] = {}

    def run(self, *, until: threading.Event) -> None:
        while not until.wait(self._POLL):
            self._show_fleet()
            self.flush()

    def flush(self) -> None:
        """Print the requests that have ended since the last call."""
        if self._quiet:
            return
        records = self._edge.log
        self._printed &= {record.number for record in records}
        for record in records:
            if record.outcome != "running" and record.number not in self._printed:
                self._printed.add(record.number)
                say(one_line(_line(record)))

    def _show_fleet(self) -> None:
        replicas = self._edge.replicas
        if replicas != self._replicas:
            self._replicas = replicas
            say("replicas: " + (", ".join(f"{k} {v}" for k, v in replicas.items()) or "none"))


def _line(record: Record) -> str:
    used = record.tokens
    tokens = ""
    if used.prompt is not None:
        cached = "?" if used.cached is None else used.cached
        tokens = f"{cached}/{used.prompt} cached +{used.completion or 0}"
    return _LINE.format(
        number=record.number,
        status=record.status or "-",
        outcome=record.outcome,
        replica=record.replica or "-",
        key=(record.key or "-")[-_KEY_SHOWN:],
        tokens=tokens,
        seconds=record.seconds or 0.0,
        path=record.path,
    )
