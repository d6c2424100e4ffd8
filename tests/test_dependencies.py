"""What the packages import is declared where it is needed, bounded, and public."""

from __future__ import annotations

import ast
import re
import sys
from functools import cache
from importlib import metadata
from pathlib import Path, PurePosixPath

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted(path for package in ("client/homing", "server/homing_server") for path in (ROOT / package).rglob("*.py"))

AREAS = {
    "client/homing": ("httpx2",),
    "client/homing/cli": ("cli",),
    "client/homing/cli/bench/plots.py": ("plot",),
    "client/homing/cli/deploy.py": ("cli", "server"),
    "client/homing/integrations/fastapi.py": ("fastapi",),
    "client/homing/integrations/modal.py": ("server",),
    "client/homing/integrations/otel.py": ("otel",),
    "client/homing/stores/redis.py": ("redis",),
    "client/homing/stores/sqlalchemy.py": ("sql",),
    "server/homing_server": ("server",),
    "server/homing_server/local": ("local",),
}
"""The extras whose packages are at home in a folder or file, beside the dependencies. The nearest row counts."""

BROUGHT = {
    ("client/homing/testing/plugin.py", "pytest"): "pytest itself loads the plugin",
    ("server/homing_server/image.py", "huggingface_hub"): "a build step: it runs in SGLang's image",
    ("server/homing_server/launcher.py", "uvicorn"): "SGLang's own, in its container, is the one that is guarded",
    ("server/homing_server/local/engine_side", "tokenizers"): "in the engine's environment, which has its own pins",
    ("server/homing_server/local/engine_side", "torch"): "likewise",
    ("server/homing_server/local/engine_side", "transformers"): "likewise",
}
"""Packages that somebody else brings to where the code runs."""

BY_NAME = {
    "fastapi": "what people use; the integration needs no more of it than Starlette",
    "httpx2": "homing.integrations.openai imports it by its name",
    "ipython": "homing.integrations.notebook imports it by its name",
    "openai": "homing.integrations.openai works below it, and imports nothing of it",
    "sglang": "runs as a program",
}
"""Declared packages that no import statement names."""

DISTRIBUTIONS = {"markdown_it": "markdown-it-py", "opentelemetry": "opentelemetry-api"}
"""The distributions that are not called like their packages."""

INCLUDED = {"cli": ("local",)}
"""Extras that bring another."""

OURS = {*sys.stdlib_module_names, "homing", "homing_server", "without_gpu"}
"""What nobody else has to bring; the last is a file beside the program that imports it."""


@cache
def declared() -> dict[str, dict[str, Requirement]]:
    """Return the requirements by extra, ``""`` for the dependencies, and by the distribution's name."""
    found: dict[str, dict[str, Requirement]] = {"": {}}
    for line in metadata.requires("homing") or ():
        requirement = Requirement(line)
        extra = re.search(r"extra == ['\"](\w+)", str(requirement.marker))
        if requirement.name != "homing":
            found.setdefault(extra[1] if extra else "", {})[requirement.name.lower()] = requirement
    return found


@cache
def third_party(file: Path) -> frozenset[str]:
    """Return the dotted names that a file imports from others, and the attributes of these modules that it names."""
    found: set[str] = set()
    modules: dict[str, str] = {}
    nodes = list(ast.walk(ast.parse(file.read_text())))
    for node in nodes:
        if isinstance(node, ast.Import):
            theirs = [alias for alias in node.names if alias.name.partition(".")[0] not in OURS]
            found |= {alias.name for alias in theirs}
            for alias in theirs:
                top = alias.name.partition(".")[0]
                modules[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").partition(".")[0] not in OURS:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    for node in nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            found.add(f"{modules[node.value.id]}.{node.attr}")
    return frozenset(found)


def distribution(name: str) -> str:
    top = name.partition(".")[0]
    return DISTRIBUTIONS.get(top, top.replace("_", "-").lower())


def place(file: Path) -> PurePosixPath:
    return PurePosixPath(file.relative_to(ROOT).as_posix())


def area(file: Path) -> str:
    return max((row for row in AREAS if place(file).is_relative_to(row)), key=len)


def brought(file: Path) -> dict[str, str]:
    """Return what others bring to this file, with the row that says so."""
    return {package: row for row, package in BROUGHT if place(file).is_relative_to(row)}


def tops(file: Path) -> set[str]:
    return {name.partition(".")[0] for name in third_party(file)}


def test_there_are_imports_to_look_at() -> None:
    assert len(FILES) > 150
    assert {"h11", "httpcore", "httpx", "pydantic", "uvicorn"} <= {top for file in FILES for top in tops(file)}


def test_what_is_imported_is_declared() -> None:
    for file in FILES:
        here = {name for extra in ("", *AREAS[area(file)]) for name in declared()[extra]}
        missing = {top for top in tops(file) - brought(file).keys() if distribution(top) not in here}
        assert not missing, f"{place(file)}: neither a dependency nor an extra of {area(file)} declares {missing}"


@pytest.mark.parametrize("extra", sorted({*declared()} - {"all"}), ids=lambda extra: extra or "none")
def test_what_is_declared_is_imported(extra: str) -> None:
    wanted = {extra, *INCLUDED.get(extra, ())}
    files = [file for file in FILES if not extra or wanted.intersection(AREAS[area(file)])]
    assert {*declared()[extra]} - {distribution(top) for file in files for top in tops(file)} <= BY_NAME.keys()


def test_every_row_is_needed() -> None:
    assert {area(file) for file in FILES} == AREAS.keys()
    assert {(row, top) for file in FILES for top, row in brought(file).items() if top in tops(file)} == BROUGHT.keys()
    assert {name for requirements in declared().values() for name in requirements} >= BY_NAME.keys()


def test_every_requirement_has_a_lower_bound() -> None:
    for extra, requirements in declared().items():
        for name, requirement in requirements.items():
            assert any(part.operator == ">=" for part in requirement.specifier), (extra, name)


def test_nothing_private_of_others_is_used() -> None:
    for file in FILES:
        private = {name for name in third_party(file) if re.search(r"(^|\.)_(?!_)", name)}
        assert not private, f"{place(file)} leans on {private}, which may go at any time"


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("import httpx_sse._decoders", {"httpx_sse._decoders"}),
        ("from httpx_sse._decoders import SSEDecoder", {"httpx_sse._decoders.SSEDecoder"}),
        ("def f():\n    from httpx import _client", {"httpx._client"}),
        ("import httpx as h\nh._main", {"httpx", "httpx._main"}),
        ("import os\nos._exit\nfrom . import _x\nfrom homing import _version", set()),
    ],
)
def test_imports_are_seen_wherever_they_stand(code: str, names: set[str], tmp_path: Path) -> None:
    """Of this file itself."""
    (tmp_path / "module.py").write_text(code)
    assert set(third_party(tmp_path / "module.py")) == names
