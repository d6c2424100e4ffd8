"""The API reference has every public name. That each of its entries is really there, the strict build checks."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from pathlib import Path
from typing import Any

import pytest

import homing.integrations
import homing_server

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs" / "reference").glob("*.md"))
ENTRIES = set(re.findall(r"^::: ([\w.]+)$", "\n".join(page.read_text() for page in PAGES), re.MULTILINE))

DECLARED = [
    "homing",
    "homing.types",
    "homing.stores",
    "homing.stores.conformance",
    "homing.testing",
    "homing_server.local",
    "homing_server.sglang_low_latency",
]
# What a module of integrations offers is shown whole; scripts/docs_site.py adds those without a heading of their own.
INTEGRATIONS = [f"homing.integrations.{module.name}" for module in pkgutil.iter_modules(homing.integrations.__path__)]
# What operators meet. The rest of the package is how it is done: docs/one-turn.md.
SERVER = ["engine", "lifecycle", "pricing", "presets", "probe", "process", "recipe", "server", "settings"]


def resolve(entry: str) -> Any:
    """What ``::: entry`` shows: a module, or something in one."""
    module, _, name = entry.rpartition(".")
    try:
        return importlib.import_module(entry)
    except ModuleNotFoundError:
        return getattr(importlib.import_module(module), name)


def shown() -> list[Any]:
    """Everything that has an entry, or whose whole module has one."""
    found = []
    for value in map(resolve, sorted(ENTRIES)):
        found.append(value)
        if inspect.ismodule(value):
            public = getattr(value, "__all__", [name for name in vars(value) if not name.startswith("_")])
            found += [getattr(value, name) for name in public]
    return found


@pytest.fixture(scope="module")
def entries() -> list[Any]:
    return shown()


@pytest.mark.parametrize("module", DECLARED)
def test_every_public_name_is_in_the_reference(module: str, entries: list[Any]) -> None:
    public = importlib.import_module(module)
    missing = [name for name in public.__all__ if not any(getattr(public, name) is value for value in entries)]
    # A module of the package's, whose classes have entries of their own.
    assert [name for name in missing if (module, name) != ("homing", "reply")] == []


def test_integrations_are_in_the_reference() -> None:
    assert {"homing.integrations.openai", "homing.integrations.otel", "homing.integrations.modal"} <= ENTRIES
    assert {entry for entry in ENTRIES if entry.startswith("homing.integrations.")} <= set(INTEGRATIONS)


@pytest.mark.parametrize("module", SERVER)
def test_the_server_s_modules_are_in_the_reference(module: str) -> None:
    assert any(entry.startswith(f"{homing_server.__name__}.{module}") for entry in ENTRIES)


def test_nothing_is_there_twice() -> None:
    entries = re.findall(r"^::: ([\w.]+)$", "\n".join(page.read_text() for page in PAGES), re.MULTILINE)
    assert len(entries) == len(set(entries))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_of_it_has_an_example(page: Path) -> None:
    assert "```python" in page.read_text()
