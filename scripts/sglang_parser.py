"""SGLang's own argument parser, run from the sources of a wheel, without SGLang's dependencies.

    python -I scripts/sglang_parser.py FOLDER < {"parse": [[…]], "compile": [[…]], "resolve": [[…]]}

FOLDER holds the unpacked wheel. Everything that is neither SGLang nor the standard library
nor msgspec (from which 0.5.23 derives its options) is absent: a module of that name stands in,
whose contents do nothing. So the real `ServerArgs.add_cli_args` runs in half a second where
an installed SGLang needs gigabytes of CUDA. Answers with one JSON object:

    options   name -> nargs, choices, for each option of `sglang.launch_server`
    compile_options   the same of `sglang.compile_deep_gemm`
    parsed, compiled  for each command line: its values, or {"error": why}
    resolved          0.5.9 only: whether SGLang's own rule for hybrid models then has the prefix cache on
"""

from __future__ import annotations

import abc
import argparse
import importlib
import importlib.abc
import importlib.machinery
import json
import sys
import types
from typing import Any

# Of SGLang, what needs a GPU's libraries to be imported and holds no option.
HEAVY = tuple(
    f"sglang.{name}"
    for name in (
        "jit_kernel", "kernels", "srt.configs", "srt.disaggregation", "srt.distributed", "srt.entrypoints",
        "srt.layers", "srt.managers",
    )
)  # fmt: skip
REAL = {"msgspec", "typing_extensions"}


class Nothing(abc.ABCMeta):
    """A class whose every attribute, call and result is again nothing. Can be subclassed."""

    def register(cls, *args: Any, **kwargs: Any) -> Any:
        return Absent

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return Absent if cls is Absent else super().__call__(*args, **kwargs)

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        return Absent

    def _nothing(cls, *args: Any) -> Any:
        return Absent

    def _no(cls, *args: Any) -> bool:
        return False

    __getitem__ = __or__ = __ror__ = __add__ = __sub__ = __mul__ = __rmul__ = __truediv__ = __enter__ = _nothing
    __lt__ = __gt__ = __le__ = __ge__ = __bool__ = __exit__ = _no

    def __iter__(cls) -> Any:
        return iter(())


class Absent(metaclass=Nothing):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.__dict__.update(kwargs)

    def __init_subclass__(cls, **kwargs: Any) -> None: ...


class AbsentModule(types.ModuleType):
    __path__: list[str] = []  # noqa: RUF012
    __version__ = "0"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        return Absent


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        top = name.partition(".")[0]
        if top in sys.stdlib_module_names or top in REAL or (top == "sglang" and not name.startswith(HEAVY)):
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return AbsentModule(spec.name)

    def exec_module(self, module: types.ModuleType) -> None: ...


class Refused(Exception):
    pass


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        raise Refused(message)


def options(parser: argparse.ArgumentParser) -> dict[str, Any]:
    return {
        name: {"nargs": action.nargs, "choices": sorted(map(str, action.choices)) if action.choices else None}
        for action in parser._actions
        for name in action.option_strings
        if name.startswith("--") and name != "--help"
    }


def parsed(parser: argparse.ArgumentParser, argv: list[str]) -> dict[str, Any]:
    try:
        return vars(parser.parse_args(argv))
    except Refused as refused:
        return {"error": str(refused)}


def resolved(module: Any, argv: list[str], parser: argparse.ArgumentParser) -> dict[str, Any]:
    """Let 0.5.9 decide, as it does for Qwen3.5 on a GPU that it supports."""
    args = parser.parse_args(argv)
    if args.mamba_scheduler_strategy == "auto":  # ServerArgs._handle_model_specific_adjustments does so first
        args.mamba_scheduler_strategy = "no_buffer"
    module.is_cuda, module.is_sm100_supported, module.FLA_CHUNK_SIZE = lambda: True, lambda: False, 64
    args.enable_mamba_extra_buffer = types.MethodType(module.ServerArgs.enable_mamba_extra_buffer, args)
    module.ServerArgs._handle_mamba_radix_cache(args, "Qwen3_5MoeForConditionalGeneration")
    return {"prefix_cache": not args.disable_radix_cache}


def main() -> None:
    folder = sys.argv[1]
    sys.path.insert(0, folder)
    package = types.ModuleType("sglang")  # without running its __init__, which patches its dependencies
    package.__path__ = [f"{folder}/sglang"]
    sys.modules["sglang"] = package
    for name in REAL:
        importlib.import_module(name)
    sys.meta_path.insert(0, Finder())
    server_args = importlib.import_module("sglang.srt.server_args")
    compiler = importlib.import_module("sglang.compile_deep_gemm")

    launch, compile_ = Parser(), Parser()
    server_args.ServerArgs.add_cli_args(launch)
    server_args.ServerArgs.add_cli_args(compile_)
    compiler.CompileArgs.add_cli_args(compile_)
    wanted = json.load(sys.stdin)
    answer = {
        "options": options(launch),
        "compile_options": options(compile_),
        "parsed": [parsed(launch, argv) for argv in wanted.get("parse", ())],
        "compiled": [parsed(compile_, argv) for argv in wanted.get("compile", ())],
        "resolved": [resolved(server_args, argv, launch) for argv in wanted.get("resolve", ())],
    }
    json.dump(answer, sys.stdout, default=str)


if __name__ == "__main__":
    main()
