"""Every knob of the server, in one typed place that deployer and container share.

The deployer reads them from ``HOMING_SERVER_SETTINGS`` (a JSON object: a ``preset`` and
what differs from it) and bakes the result into the image under the same name, because
Modal's container imports the module again and must come to the same numbers.

Defaults are those of Modal's "low latency Qwen 3.5 with SGLang" example, which this
server grew out of; docs/seed.md compares them line by line.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from homing_server.presets import DEFAULT_PRESET, PRESETS

SETTINGS_VARIABLE = "HOMING_SERVER_SETTINGS"
MINUTES = 60  # seconds

Variant = Literal["server", "http_server"]

# modal 1.6, _partial_function.py and _server.py: 25 s for an http_server, an hour for a Server.
EXIT_GRACE_CAP = {"server": 3600, "http_server": 25}
# Seconds. The example's 15; on a Server the edge itself drains, so minutes cost nothing but patience.
EXIT_GRACE_DEFAULT = {"server": 300, "http_server": 15}
# Seconds that @modal.exit methods have, an http_server's grace period included (30:
# modal.com/docs/guide/lifecycle-functions), less 5 for the kill itself.
EXIT_BUDGET = 25
# The example's version, whose image for CUDA 12.9 is known to exist.
EXAMPLES_SGLANG = "0.5.9"
APP_NAME = {"server": "homing", "http_server": "example-sglang-low-latency"}

# https://modal.com/docs/guide/region-selection and the servers guide, as of Nov 2026.
KNOWN_REGIONS = (
    "us", "us-east", "us-central", "us-south", "us-west", "ca", "ca-central",
    "eu", "eu-north", "eu-south", "eu-west", "uk", "jp",
    "ap", "ap-south", "ap-southeast", "ap-southeast-2", "ap-northeast", "au", "sa", "me", "mx", "af",
)  # fmt: skip
_REGION = re.compile(r"[a-z]{2}(-[a-z]+(-\d+)?)?")

# Above this many requests at once speculative decoding costs more arithmetic than it saves:
# the example says "on the scale of dozens to hundreds".
SPECULATION_PAYS_UP_TO = 32

# The tensor-core generations that DeepGEMM has kernels for (its README: SM90 and SM100).
DEEP_GEMM_GPUS = ("H100", "H200", "B200", "B300", "GB200")

# Flags that would switch off the gate, show a secret in the process table, or fight with a setting.
REFUSED_ARGS = {
    "--api-key": "the process table would show it; set `keys` and put HOMING_API_KEY into the secret",
    "--admin-api-key": "the process table would show it; put HOMING_ADMIN_KEY into the secret",
    "--host": "Modal connects from outside the process; it stays 0.0.0.0",
    "--port": "use the setting `port`",
    "--tokenizer-worker-num": "uvicorn's worker processes would serve without the gate",
    "--enable-http2": "Granian would serve without the gate; Modal's edge speaks HTTP/1.1 to the container",
    "--disable-radix-cache": 'it defeats session affinity; if you mean it, set `prefix_cache` to "off"',
}


class ServerSettings(BaseModel):
    """How one server is built and run. Times in seconds, sizes in tokens unless said otherwise.

    Raises ``pydantic.ValidationError``, which names the field and the fix.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        protected_namespaces=(),
        hide_input_in_errors=True,  # a secret in a refused argument must not be repeated
    )

    preset: str = Field(DEFAULT_PRESET, description="where the other defaults came from")
    variant: Variant = Field("server", description="`server`: @app.server; `http_server`: as the example")
    app_name: str = Field("", description="Modal App; empty: `homing`, or the example's own name")

    # What is served
    model: str = Field(description="Hugging Face repository")
    revision: str = Field(description="commit of it: a moving branch would change answers between replicas")
    served_model_name: str = Field("", description="name in /v1/models; empty: the repository's")
    sglang_version: str = Field(EXAMPLES_SGLANG, pattern=r"^\d+\.\d+\.\d+")
    image_tag: str = Field("", description="container image; empty: SGLang's runtime for CUDA 12.9")
    attention_heads: int | None = Field(None, gt=0, description="of the model; gpu_count must divide them")
    hybrid: bool = Field(False, description="linear-attention layers; prefix cache needs buffers")
    context_length: int | None = Field(None, gt=0, description="tokens; None: the model's own")
    reasoning_parser: str | None = None
    tool_call_parser: str | None = None

    # Where it runs
    gpu_type: str = "H100!"
    gpu_count: int = Field(2, ge=1, le=8)
    cpu: float | None = Field(None, gt=0, description="physical cores to reserve; None: Modal's default")
    memory: int | None = Field(None, gt=0, description="MiB to reserve; None: Modal's default")
    compute_region: str = Field("us-east", description="of the GPUs; narrow ones cost 1.75x, broad ones 1.5x")
    routing_region: str = Field("us-east", description="of Modal's proxies; near the callers and the GPUs")

    # How many
    min_containers: int = Field(0, ge=0, description="replicas that never sleep (and are always billed)")
    max_containers: int | None = Field(None, ge=1)
    buffer_containers: int | None = Field(None, ge=0, description="spare replicas while there is traffic")
    scaledown_window: int | None = Field(None, ge=2, description="idle seconds before scaling down; None: 60")
    target_concurrency: int = Field(10, ge=1, description="per replica, the autoscaler's aim")
    max_concurrency: int = Field(40, ge=1, description="per replica, enforced by the edge (server only)")
    max_running_requests: int = Field(40, ge=1, description="requests decoded together")
    max_queued_requests: int = Field(20, ge=0, description="waiting inside a replica; more are answered 503")

    # Speed
    mem_fraction_static: float = Field(0.8, gt=0, lt=1, description="of GPU memory for weights and KV cache")
    cuda_graph_max_bs: int | None = Field(None, ge=1, description="largest with a CUDA graph; None: 2 x target")
    speculative_algorithm: str | None = "EAGLE"
    speculative_num_steps: int = 3
    speculative_eagle_topk: int = 1
    speculative_num_draft_tokens: int = 4
    schedule_policy: str = Field("lpm", description="longest prefix match first: cached turns go ahead")
    deep_gemm: bool = Field(True, description="compile DeepGEMM's kernels into the image's volume")
    gpu_snapshot: bool = Field(False, description="start from a snapshot of GPU memory (alpha, one GPU only)")

    # The promise to clients
    prefix_cache: Literal["require", "warn", "off"] = Field(
        "require", description="fail the start, or log, if the engine has it off"
    )
    engine: Literal["gated", "stock"] = Field("gated", description="`stock`: no gate, no replica header")
    keep_alive: int = Field(300, ge=5, description="longer than the edge's, so that the edge closes first")
    enable_metrics: bool = Field(True, description="Prometheus at /metrics, behind the admin key")
    decode_log_interval: int = Field(100, ge=1, description="decode batches between log lines")

    # Life of a replica
    startup_timeout: int = Field(20 * MINUTES, ge=1)
    exit_grace_period: int | None = Field(None, ge=0, description="None: 15 (http_server) or 300 (server)")
    drain_timeout: float | None = Field(
        None, ge=0, description="for the engine after SIGTERM; None: 25, on http_server less the grace period"
    )
    watchdog_interval: float = Field(15.0, gt=0, description="between health checks of a running engine")
    watchdog_timeout: float = Field(25.0, gt=0, description="per check; SGLang itself gives up after 20")
    watchdog_failures: int = Field(3, ge=0, description="in a row, then the engine is killed; 0: never")
    port: int = Field(8000, ge=1, le=65535)

    # Who may come in
    public: bool = Field(False, description="http_server only: deploy without keys, open to the internet")
    keys: bool | None = Field(None, description="ask for an engine key; None: on http_server unless public")
    secret_name: str = Field("homing-engine", description="Modal Secret: HOMING_API_KEY and HOMING_ADMIN_KEY")
    hf_secret: str | None = Field(None, description="Modal Secret with HF_TOKEN, for gated models")

    # Storage
    hf_cache_volume: str = "huggingface-cache"
    hf_cache_path: str = "/root/.cache/huggingface"
    dg_cache_volume: str = "deepgemm-cache"
    dg_cache_path: str = "/root/.cache/deep_gemm"
    download_timeout: int = Field(4 * 60 * MINUTES, ge=1, description="for the weights, without a GPU")
    compile_timeout: int = Field(30 * MINUTES, ge=1, description="for DeepGEMM, on billed GPUs")

    extra_args: tuple[str, ...] = Field((), description="appended to SGLang's command line")
    extra_env: dict[str, str] = Field({}, description="of the engine; no secrets, they would be in the image")

    @classmethod
    def of(cls, preset: str = DEFAULT_PRESET, **overrides: Any) -> ServerSettings:
        """Return a preset with some settings replaced."""
        if preset not in PRESETS:
            raise ValueError(f"preset: {preset!r} is unknown; there are {', '.join(PRESETS)}")
        return cls(**{**PRESETS[preset], "preset": preset, **overrides})

    @classmethod
    def load(cls, environ: Mapping[str, str] = os.environ, **overrides: Any) -> ServerSettings:
        """Read ``HOMING_SERVER_SETTINGS``; without it, the default preset.

        ``overrides`` are what a module insists on: the example's app is always an http_server.
        """
        text = environ.get(SETTINGS_VARIABLE) or "{}"
        try:
            given = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"{SETTINGS_VARIABLE} is not JSON: {error}") from None
        if not isinstance(given, dict):
            raise ValueError(f'{SETTINGS_VARIABLE} must hold a JSON object, such as {{"preset": "qwen3-4b"}}')
        return cls.of(**{**given, **overrides})

    def dump(self) -> str:
        """Return the JSON that :meth:`load` reads; an image's ENV line must not find anything to expand."""
        text = json.dumps(self.model_dump(mode="json"), separators=(",", ":"))
        return text.replace("$", "\\u0024").replace("'", "\\u0027")

    @field_validator("compute_region", "routing_region")
    @classmethod
    def _region_spelling(cls, value: str) -> str:
        if not _REGION.fullmatch(value):
            near = difflib.get_close_matches(value.lower().replace("_", "-"), KNOWN_REGIONS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else "; regions look like 'us-east' or 'eu'"
            raise ValueError(f"{value!r} is not how Modal spells a region{hint}")
        return value

    @field_validator("extra_args")
    @classmethod
    def _args_allowed(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for arg in value:
            flag = arg.partition("=")[0]
            # argparse accepts any unambiguous beginning, so "--api-k" must not slip through.
            for refused, why in REFUSED_ARGS.items():
                if flag.startswith("--") and len(flag) > len("--h") and refused.startswith(flag):
                    raise ValueError(f"{flag} cannot be passed: {why}")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> ServerSettings:
        grace, cap = self.grace, EXIT_GRACE_CAP[self.variant]
        if grace > cap:
            raise ValueError(f"exit_grace_period: {grace} s is above Modal's cap, {cap} s for {self.variant}")
        if self.attention_heads and self.attention_heads % self.gpu_count:
            raise ValueError(
                f"gpu_count: {self.gpu_count} GPUs cannot share {self.attention_heads} attention heads; "
                f"use {', '.join(str(n) for n in range(1, 9) if self.attention_heads % n == 0)}"
            )
        if self.gpu_snapshot and self.gpu_count > 1:
            raise ValueError("gpu_snapshot: Modal's do not work with several GPUs; set gpu_count to 1")
        if self.public and self.keys:
            raise ValueError("public: a public server asks for no keys; drop `public` or set `keys` to false")
        if self.engine == "stock" and self.asks_keys:
            raise ValueError(
                "engine: a stock SGLang takes keys only on its command line, where the process table shows "
                'them; keep `engine` at "gated"'
            )
        if self.variant == "http_server" and not self.asks_keys and not self.public:
            raise ValueError(
                "keys: an http_server has no authentication at Modal's edge; without keys anyone could use "
                "the GPUs. Leave `keys` unset, or say `public` if the server is meant for all"
            )
        if self.max_containers is not None and self.max_containers < self.min_containers:
            raise ValueError(f"max_containers: {self.max_containers} is below min_containers {self.min_containers}")
        if self.max_concurrency < self.target_concurrency:
            raise ValueError(
                f"max_concurrency: {self.max_concurrency} is below target_concurrency "
                f"{self.target_concurrency}: the edge would refuse instead of adding a replica"
            )
        return self

    @property
    def app(self) -> str:
        """Name of the Modal App."""
        return self.app_name or APP_NAME[self.variant]

    @property
    def class_name(self) -> str:
        """Name of the Modal class or Server."""
        return "SGLangServer" if self.variant == "server" else "SGLang"

    @property
    def asks_keys(self) -> bool:
        """Whether callers need an engine key, so that the secret must exist."""
        return self.keys if self.keys is not None else self.variant == "http_server" and not self.public

    @property
    def grace(self) -> int:
        """``exit_grace_period`` with its default filled in."""
        return EXIT_GRACE_DEFAULT[self.variant] if self.exit_grace_period is None else self.exit_grace_period

    @property
    def drain(self) -> float:
        """``drain_timeout`` with its default filled in."""
        if self.drain_timeout is not None:
            return self.drain_timeout
        return EXIT_BUDGET - (self.grace if self.variant == "http_server" else 0)

    @property
    def gpu(self) -> str:
        """The GPU as Modal spells it."""
        return f"{self.gpu_type}:{self.gpu_count}"

    @property
    def image(self) -> str:
        """The container image to start from."""
        return self.image_tag or f"lmsysorg/sglang:v{self.sglang_version}-cu129-amd64-runtime"

    @property
    def model_name(self) -> str:
        """The name clients may send as ``model``."""
        return self.served_model_name or self.model

    def warnings(self) -> list[str]:
        """Return what is allowed but probably not meant, each with its reason."""
        found = []
        for name in ("compute_region", "routing_region"):
            region = getattr(self, name)
            if region not in KNOWN_REGIONS:
                found.append(f"{name}: {region!r} is not a region known in Nov 2026; Modal will decide")
        if self.speculative_algorithm and self.target_concurrency > SPECULATION_PAYS_UP_TO:
            found.append(
                f"speculative_algorithm: above some {SPECULATION_PAYS_UP_TO} requests at once arithmetic is "
                f"the limit, and speculation spends it; target_concurrency is {self.target_concurrency}"
            )
        if self.deep_gemm and self.gpu_type.rstrip("!+") not in DEEP_GEMM_GPUS:
            found.append(f"deep_gemm: there are no DeepGEMM kernels for {self.gpu_type}; set it to false")
        if self.image_tag and self.sglang_version not in self.image_tag:
            found.append(
                f"sglang_version: the flags are for {self.sglang_version}, but image_tag {self.image_tag!r} does not "
                "name it; set both"
            )
        if not self.image_tag and self.sglang_version != EXAMPLES_SGLANG:
            found.append(
                f"image_tag: it is not known whether {self.image!r} exists; set it to one of "
                "hub.docker.com/r/lmsysorg/sglang/tags"
            )
        if self.public:
            found.append("public: anyone who knows the URL can use, and thereby bill, the GPUs")
        if self.prefix_cache == "off":
            found.append("prefix_cache: every turn will be prefilled from its first token")
        return found
