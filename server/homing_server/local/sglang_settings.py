"""Real SGLang processes as replicas: what they serve, where SGLang is, and how much they may take."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from homing.errors import ConfigurationError
from homing_server.engine import command, environment
from homing_server.settings import ServerSettings

from .engine_environment import ENGINE_SIDE, HOME_VARIABLE, TINY_MODEL, WITHOUT_GPU, EngineEnvironment
from .settings import Positive, Seconds, Settings

INSTALL_HINT = "run `homing engine install` (SGLang for the CPU, 1.6 GB), or beside a GPU pip install 'homing[sglang]'"

# Memory of one replica on the CPU without its weights: three processes (1.45 GB measured with
# 0.5.23), and something left for the machine.
CPU_REPLICA_MB = 1_800
# On a CPU the KV cache is ordinary memory and is taken at the start; the tiny model's is 512 bytes a token.
CPU_CACHE_TOKENS = 65_536
# Memory fraction that SGLang insists on having; with max_total_tokens given it decides nothing on a CPU.
CPU_MEM_FRACTION = 0.1

# What a CPU build needs said; the last one because a random model would write spaces for ever.
CPU_ARGS = (
    "--device", "cpu",
    "--attention-backend", "torch_native",
    "--sampling-backend", "pytorch",
    "--constrained-json-disable-any-whitespace",
)  # fmt: skip


class SGLangSettings(Settings):
    """How the edge runs SGLang. Each replica is a ``sglang.launch_server`` on a free port of 127.0.0.1.

    Raises ``ConfigurationError`` for what cannot work, with the fix.
    """

    model: str | None = None
    """Folder or Hugging Face repository. None: the tiny random model of ``homing engine install``."""
    served_model_name: str | None = None
    """Name in ``/v1/models``. None: the model's own."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """``auto``: the GPU where ``nvidia-smi`` is found and SGLang is installed beside Homing, else the CPU."""
    python: Path | None = None
    """Interpreter that has SGLang. None: this one if it has, else the private environment's."""
    context_length: Positive | None = None
    """Tokens of prompt plus reply. None: the model's own."""
    mem_fraction: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Of the GPU's memory, for one replica's weights and cache. None: 0.8 shared by all replicas on the GPU."""
    max_total_tokens: Positive | None = None
    """Capacity of a replica's KV cache in tokens. None: what the memory holds, on a CPU 65,536."""
    max_running: Positive = 16
    """Requests generated at once; more of them queue."""
    max_queued: Annotated[int, Field(ge=0)] = 64
    """Queue bound; a request beyond it gets 503."""
    reasoning_parser: str | None = None
    tool_call_parser: str | None = None
    start_timeout: Annotated[float, Field(gt=0)] = 600.0
    """Seconds until a replica must answer. Weights that have to be downloaded first take longer."""
    watchdog: Seconds = 15.0
    """Seconds between looks whether a replica still generates; three failures end it. 0: never look."""
    log_folder: Path | None = None
    """Where each replica's output goes. None: a new temporary folder."""
    extra_args: tuple[str, ...] = ()
    """Appended to SGLang's command line."""
    extra_env: Mapping[str, str] = Field(default={}, repr=False)
    """Added to its environment."""

    @model_validator(mode="after")
    def _model_is_there(self) -> SGLangSettings:
        model = self.model
        if model is None:
            return self
        looks_like_path = model.startswith((".", "/", "~")) or Path(model).exists()
        if looks_like_path and not (Path(model).expanduser() / "config.json").is_file():
            raise ValueError(f"model: {model!r} holds no config.json, so there is no model in it")
        if not looks_like_path and model.count("/") != 1:
            raise ValueError(f"model: {model!r} is neither a folder nor a repository such as 'Qwen/Qwen3-0.6B'")
        return self

    def located(self, environment: EngineEnvironment | None = None) -> LocatedSGLang:
        """Find SGLang and the model; ``ConfigurationError`` where one is missing."""
        private = environment or EngineEnvironment()
        python = self.python
        if python is None:
            if _has_sglang(Path(sys.executable)) and self.device != "cpu":
                python = Path(sys.executable)
            elif private.ready:
                python = private.python
            else:
                raise ConfigurationError(f"engine: there is no SGLang here: {INSTALL_HINT}")
        version = _version(python)
        device = self.device
        if device == "auto":
            device = "cuda" if python != private.python and shutil.which("nvidia-smi") else "cpu"
        if device == "cpu" and python != private.python and self.python is None:
            raise ConfigurationError(f"engine: there is no GPU here, so {INSTALL_HINT}")
        if self.model is None:
            if not private.tiny_model.is_dir():
                raise ConfigurationError(
                    f"model: none is given and the tiny random one is not in {private.home} "
                    f"({HOME_VARIABLE}): run `homing engine install`, or name one"
                )
            model, name = str(private.tiny_model), TINY_MODEL
        elif (folder := Path(self.model).expanduser()).is_dir():
            model, name = str(folder.resolve()), folder.resolve().name
        else:
            model = name = self.model
        return LocatedSGLang(
            settings=self,
            python=python,
            version=version,
            without_gpu=device == "cpu",
            model=model,
            name=self.served_model_name or name,
        )


class LocatedSGLang(Settings):
    """SGLang as it was found on this machine: everything that a replica's command line needs."""

    settings: SGLangSettings
    python: Path
    version: str
    without_gpu: bool
    model: str
    name: str

    def check_memory(self, replicas: int) -> None:
        """Raise ``ConfigurationError`` where the CPU's memory cannot hold so many replicas."""
        if not self.without_gpu:
            return
        weights = sum(file.stat().st_size for file in Path(self.model).glob("*.safetensors")) // 1_000_000
        each = CPU_REPLICA_MB + weights
        free = _available_mb()
        if free is not None and free < replicas * each:
            raise ConfigurationError(
                f"engine: {replicas} replicas need about {replicas * each} MB of memory and {free} MB are "
                f"available; use --replicas {max(free // each, 1)}" + ("" if free >= each else ", and free some")
            )

    def command(self, *, replica_id: str, port: int, replicas: int) -> list[str]:
        """Return the argv of one replica of so many on this machine."""
        server, given = self._server(port, replicas), self.settings
        cache = given.max_total_tokens or (CPU_CACHE_TOKENS if self.without_gpu else None)
        argv = command(
            server,
            environ={"MODAL_TASK_ID": replica_id},
            program=(str(self.python), str(ENGINE_SIDE / "launch.py")),
            host="127.0.0.1",
        )
        argv += CPU_ARGS if self.without_gpu else ()
        argv += ("--max-total-tokens", str(cache)) if cache else ()
        return [*argv, *given.extra_args]

    def environ(self, *, replicas: int, base: Mapping[str, str] = os.environ) -> dict[str, str]:
        """Return the environment of one replica of so many on this machine."""
        added = environment(self._server(port=1, replicas=replicas))
        if self.without_gpu:
            threads = max((os.cpu_count() or 1) // replicas, 1)  # more would spin against each other
            added |= {**WITHOUT_GPU, "PYTHONPATH": str(ENGINE_SIDE / "cpu"), "OMP_NUM_THREADS": str(threads)}
        if Path(self.model).is_dir():  # nothing to ask the hub for
            added |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
        return {**base, **added, **self.settings.extra_env}

    def _server(self, port: int, replicas: int) -> ServerSettings:
        given = self.settings
        share = CPU_MEM_FRACTION if self.without_gpu else 0.8 / replicas
        return ServerSettings.model_validate(
            {
                "model": self.model,
                "revision": "main",
                "served_model_name": self.name,
                "sglang_version": self.version,
                "gpu_count": 1,
                "engine": "stock",
                "port": port,
                "context_length": given.context_length,
                "reasoning_parser": given.reasoning_parser,
                "tool_call_parser": given.tool_call_parser,
                "mem_fraction_static": given.mem_fraction or share,
                "max_running_requests": given.max_running,
                "max_queued_requests": given.max_queued,
                "speculative_algorithm": None,
            }
        )


def _has_sglang(python: Path) -> bool:
    return _asked(python, "import importlib.util, sys; sys.exit(not importlib.util.find_spec('sglang'))") is not None


def _version(python: Path) -> str:
    version = _asked(python, "from importlib.metadata import version; print(version('sglang'))")
    if not version:
        raise ConfigurationError(f"engine: {python} has no SGLang: {INSTALL_HINT}")
    return version


def _asked(python: Path, code: str) -> str | None:
    """Return what the interpreter prints, None where it fails."""
    try:
        done = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=False)
    except OSError as error:
        raise ConfigurationError(f"python: {python} cannot be run ({error.strerror})") from None
    return done.stdout.strip() if done.returncode == 0 else None


def _available_mb() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:  # not Linux
        return None
    sizes = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
    return sizes["MemAvailable"] * 1_024 // 1_000_000
