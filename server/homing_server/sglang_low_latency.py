"""Modal's "low latency Qwen 3.5 with SGLang" example, name for name, with its faults repaired.

::

    modal deploy -m homing_server.sglang_low_latency     # or: homing deploy --variant http_server
    modal run -m homing_server.sglang_low_latency        # two prompts against a fresh replica

Same app, class, flags, volumes, regions and timeouts; docs/seed.md goes through it line by
line. ``modal.experimental.http_server`` has no authentication at the edge, so unlike the
example this asks for a Secret with an engine key and an admin key, unless the settings say
``"public": true``. For new work prefer :mod:`homing_server.server`.
"""

from __future__ import annotations

import os
import subprocess
from typing import Any

import modal
import modal.experimental

from homing_server import image as _image
from homing_server import process as _process
from homing_server.gate import API_KEY
from homing_server.lifecycle import lifecycle
from homing_server.loopback import Loopback
from homing_server.probe import probe, two_prompts
from homing_server.recipe import serving
from homing_server.resources import resources
from homing_server.settings import MINUTES, ServerSettings

__all__ = [
    "SGLang",
    "app",
    "check_running",
    "compile_deep_gemm",
    "probe",
    "test",
    "wait_ready",
    "warmup",
]

settings = ServerSettings.load(variant="http_server")

GPU_TYPE, N_GPUS = settings.gpu_type, settings.gpu_count
GPU = settings.gpu
MODEL_NAME = settings.model
MODEL_REVISION = settings.revision
HF_CACHE_PATH = settings.hf_cache_path
DG_CACHE_PATH = settings.dg_cache_path
HF_CACHE_VOL, DG_CACHE_VOL = (_image.volumes(settings)[path] for path in (HF_CACHE_PATH, DG_CACHE_PATH))
MODEL_PATH = f"{HF_CACHE_PATH}/{MODEL_NAME}"  # nothing reads it, there or here
REGION = settings.compute_region
MIN_CONTAINERS = settings.min_containers
TARGET_INPUTS = settings.target_concurrency
PORT = settings.port

speculative_config: dict[str, str | int] = {}
if settings.speculative_algorithm:
    speculative_config = {
        "speculative-algorithm": settings.speculative_algorithm,
        "speculative-num-steps": settings.speculative_num_steps,
        "speculative-eagle-topk": settings.speculative_eagle_topk,
        "speculative-num-draft-tokens": settings.speculative_num_draft_tokens,
    }


def compile_deep_gemm() -> None:
    """Compile DeepGEMM's kernels for the settings; see :func:`homing_server.image.compile_deep_gemm`."""
    _image.compile_deep_gemm(MODEL_NAME, MODEL_REVISION, N_GPUS, settings.compile_timeout)


def wait_ready(process: subprocess.Popen[Any], timeout: float = 20 * MINUTES) -> None:
    """Return when the engine answers ``/health``; see :func:`homing_server.process.wait_ready`."""
    _process.wait_ready(process, _engine(), timeout=timeout)


def check_running(p: subprocess.Popen[Any]) -> None:
    """Raise a ``CalledProcessError`` if the engine has ended; see :func:`homing_server.process.check_running`."""
    _process.check_running(p)


def warmup(process: subprocess.Popen[Any] | None = None, timeout: float = 20 * MINUTES) -> None:
    """Send the engine its first requests; see :func:`homing_server.process.warm_up`.

    With its ``process``, the wait ends when the engine does.
    """
    _process.warm_up(process, _engine(), timeout=timeout)


def _engine() -> Loopback:
    return Loopback(PORT, os.environ.get(API_KEY))


app = modal.App(name=settings.app)
_resources = resources(settings)
sglang_image: modal.Image = _resources["image"]


@app.cls(region=REGION, **_resources)
@modal.experimental.http_server(**serving(settings))  # type: ignore[attr-defined] # pyright: ignore[reportPrivateImportUsage]
@modal.concurrent(target_inputs=TARGET_INPUTS)
class SGLang(lifecycle(settings)):  # type: ignore[misc] # snapshots or not
    """One replica: a container with an SGLang engine on ``PORT``."""

    settings = settings


@app.local_entrypoint()
async def test(  # its name and arguments are the example's command line
    test_timeout: int = 10 * MINUTES,  # noqa: PT028
    prompt: str | None = None,  # noqa: PT028
    twice: bool = True,  # noqa: PT028
) -> None:
    """Start a replica and stream one reply, or two (``--no-twice``), from this machine.

    ``test_timeout`` in seconds covers the cold start too.
    """
    deployed: Any = SGLang  # the decorators make a modal.Cls of it
    urls = await deployed._experimental_get_flash_urls.aio()
    await two_prompts(urls[0] if urls else None, timeout=test_timeout, prompt=prompt, twice=twice)
