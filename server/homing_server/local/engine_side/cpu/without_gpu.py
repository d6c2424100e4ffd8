"""Makes SGLang and torchvision importable beside a CPU build of torch, without triton.

Runs in the engine's own environment, before anything imports SGLang.
"""

from __future__ import annotations

import importlib.util
import os
import pkgutil
import sys
import types
from pathlib import Path
from typing import Any

# The model files that SGLang may import: all of them take eight seconds of every start.
KEPT_ARCHITECTURES = ("qwen2", "qwen3", "llama")


def prepare() -> None:
    """Do all of it. Spawned children need it too."""
    os.environ.setdefault("SGLANG_USE_CPU_ENGINE", "1")
    os.environ.setdefault("USE_TF", "0")
    site = _folder("sglang")
    if "SGLANG_DISABLED_MODEL_ARCHS" not in os.environ:
        names = [module.name for module in pkgutil.iter_modules([str(site / "srt" / "models")])]
        os.environ["SGLANG_DISABLED_MODEL_ARCHS"] = ",".join(n for n in names if n not in KEPT_ARCHITECTURES)
    if importlib.util.find_spec("triton") is None:
        _stub_triton(site)
    _declare_torchvision()


def _folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"{package} is not installed in {sys.prefix}")
    return Path(next(iter(spec.submodule_search_locations)))


def _stub_triton(site: Path) -> None:
    """Use the stand-ins that SGLang has for Apple's machines, which have no triton either.

    ``sglang/_platform_stubs.py`` installs them only on a Mac, so it is shown one; its patch
    of ``Tensor.to`` is for Metal and left out.
    """
    import torch  # type: ignore[import-not-found, unused-ignore]

    spec = importlib.util.spec_from_file_location("homing_platform_stubs", site / "_platform_stubs.py")
    assert spec is not None
    assert spec.loader is not None
    stubs: Any = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = stubs
    spec.loader.exec_module(stubs)
    stubs.sys = types.SimpleNamespace(platform="darwin", modules=sys.modules, meta_path=sys.meta_path)
    stubs.platform = types.SimpleNamespace(machine=lambda: "arm64")
    stubs._patch_non_blocking = lambda: None
    metal = torch.backends.mps.is_available
    torch.backends.mps.is_available = lambda: True
    try:
        stubs.install_platform_stubs()
    finally:
        torch.backends.mps.is_available = metal


_library: Any = None  # torch forgets what was declared when this is collected


def _declare_torchvision() -> None:
    """Name the two operators whose fakes torchvision registers at import.

    Its wheel on PyPI is a CUDA build, whose compiled part cannot load beside a CPU torch.
    """
    global _library
    import torch  # type: ignore[import-not-found, unused-ignore]

    _library = torch.library.Library("torchvision", "DEF")
    _library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
