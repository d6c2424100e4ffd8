"""The command line and environment of SGLang for given settings. Pure.

Flag names are spelled out: ``--mem-fraction`` and ``--tp`` of the example are argparse
abbreviations, which break as soon as SGLang adds a flag with the same beginning
(``--cuda-graph-max-bs`` did so in 0.5.20). What differs between versions is in
:data:`DIALECTS` and nowhere else; ``make test-modal`` has the real parsers of both
versions parse them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from homing_server.gate import replica_id
from homing_server.launcher import KEEP_ALIVE
from homing_server.settings import ServerSettings

LAUNCHER = "homing_server.launcher"
STOCK = "sglang.launch_server"


@dataclass(frozen=True)
class Dialect:
    """Names that changed, as of SGLang version ``since``."""

    since: tuple[int, ...]
    cuda_graph_max_bs: str
    mamba_strategy: str
    environment: Mapping[str, str] = field(default_factory=dict)


DIALECTS = (
    Dialect(
        since=(0, 0, 0),
        cuda_graph_max_bs="--cuda-graph-max-bs",
        mamba_strategy="--mamba-scheduler-strategy",
        # Overlapped scheduling together with EAGLE; on by default later (sglang#22908).
        environment={"SGLANG_ENABLE_SPEC_V2": "1"},
    ),
    # Both names exist in 0.5.15 to 0.5.18, only these after (sglang#27418).
    Dialect(
        since=(0, 5, 15),
        cuda_graph_max_bs="--cuda-graph-max-bs-decode",
        mamba_strategy="--mamba-radix-cache-strategy",
    ),
)


def dialect(version: str) -> Dialect:
    """Return the names that SGLang ``version`` understands."""
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
    return max((one for one in DIALECTS if one.since <= numbers), key=lambda one: one.since)


def command(
    settings: ServerSettings,
    *,
    environ: Mapping[str, str] | None = None,
    program: Sequence[str] = (),
    host: str = "0.0.0.0",  # noqa: S104 - Modal connects from outside the process
) -> list[str]:
    """Return the argv that starts the engine. It holds no secret.

    ``environ`` names the replica for a stock engine, which has no header to show it in.
    ``program`` and ``host`` are for replicas outside Modal: what takes SGLang's arguments
    there (default: Python with our launcher, or SGLang's own), and where it listens.
    """
    s, names = settings, dialect(settings.sglang_version)
    argv = [
        *(program or ("python", "-m", LAUNCHER if s.engine == "gated" else STOCK)),
        "--model-path", s.model,
        "--revision", s.revision,
        "--served-model-name", s.model_name,
        "--host", host,
        "--port", str(s.port),
        "--tp-size", str(s.gpu_count),
        names.cuda_graph_max_bs, str(s.cuda_graph_max_bs or 2 * s.target_concurrency),
        "--decode-log-interval", str(s.decode_log_interval),
        "--mem-fraction-static", str(s.mem_fraction_static),
        "--max-running-requests", str(s.max_running_requests),
        # Without a bound the queue is endless and a caller waits instead of hearing "full".
        "--max-queued-requests", str(s.max_queued_requests),
        "--schedule-policy", s.schedule_policy,
        # Without it usage.prompt_tokens_details is missing and nobody can see what affinity saved.
        "--enable-cache-report",
    ]  # fmt: skip
    if s.enable_metrics:
        argv.append("--enable-metrics")
    if s.context_length:
        argv += ["--context-length", str(s.context_length)]
    if s.reasoning_parser:
        argv += ["--reasoning-parser", s.reasoning_parser]
    if s.tool_call_parser:
        argv += ["--tool-call-parser", s.tool_call_parser]
    if s.prefix_cache == "off":
        argv.append("--disable-radix-cache")
    elif s.hybrid:
        # 0.5.9 otherwise turns the prefix cache off for hybrid models with speculation, with one
        # log line (server_args.py, _handle_mamba_radix_cache; sglang#19391).
        argv += [names.mamba_strategy, "extra_buffer"]
    if s.speculative_algorithm:
        argv += [
            "--speculative-algorithm", s.speculative_algorithm,
            "--speculative-num-steps", str(s.speculative_num_steps),
            "--speculative-eagle-topk", str(s.speculative_eagle_topk),
            "--speculative-num-draft-tokens", str(s.speculative_num_draft_tokens),
        ]  # fmt: skip
    if s.gpu_snapshot:
        # Modal's snapshot examples: GPU memory is released before the snapshot and restored from CPU copies.
        argv += ["--enable-memory-saver", "--enable-weights-cpu-backup"]
    if s.engine == "gated":
        # SGLang's own warm-up calls itself without a key and ends the engine when it is refused, as
        # it is wherever the container has a key. Ours follows, and has the supervisor's.
        argv.append("--skip-server-warmup")
    if s.engine == "stock":
        # The one thing a stock engine repeats to clients: metadata.weight_version of whole replies.
        argv += ["--weight-version", replica_id(environ or {})]
    return [*argv, *s.extra_args]


def environment(settings: ServerSettings) -> dict[str, str]:
    """Return what the engine needs in its environment. It holds no secret."""
    env = dict(dialect(settings.sglang_version).environment)
    env |= {
        KEEP_ALIVE: str(settings.keep_alive),
        # Then /health says "starting" or "draining" at once, instead of generating a token for at
        # least one second (http_server.py, health_generate); /health_generate still does.
        "SGLANG_ENABLE_HEALTH_ENDPOINT_GENERATION": "0",
    }
    if settings.gpu_snapshot:
        # Modal's snapshot examples: a pool of compiler processes cannot be restored.
        env["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
    return env | settings.extra_env


def compile_command(*, model: str, revision: str, gpu_count: int, timeout: int) -> list[str]:
    """Return the argv that compiles DeepGEMM's kernels, giving up after ``timeout`` seconds."""
    return [
        "python", "-m", "sglang.compile_deep_gemm",
        "--model-path", model,
        "--revision", revision,
        "--tp-size", str(gpu_count),
        "--timeout", str(timeout),
    ]  # fmt: skip
