"""Stands in for flashinfer, some names of which SGLang 0.5.14 imports on CUDA whatever it then uses.

Nothing here computes. Goes with ``SGLANG_IS_FLASHINFER_AVAILABLE=false`` and the Triton backend.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
import types
from collections.abc import Sequence
from typing import Any

__version__ = "0.6.12"


class Absent(types.ModuleType):
    """A module whose every name is a class that refuses to be made."""

    __path__: list[str] = []  # noqa: RUF012 - a package to the import system

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def refuse(self: object, *args: object, **kwargs: object) -> None:
            raise NotImplementedError(f"{name} of flashinfer is not here")

        return type(name, (), {"__init__": refuse})


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds every ``flashinfer.…`` but the one that SGLang's kernels can do without."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname == "flashinfer.norm":
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)
        if fullname.startswith("flashinfer."):
            return importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return Absent(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing to run."""


sys.meta_path.append(Finder())


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    return getattr(Absent("flashinfer"), name)
