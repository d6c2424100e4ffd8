"""The versions that are tested are the ones that pyproject.toml promises, on the Pythons that it names."""

from __future__ import annotations

import os
import re
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
LOWEST = ROOT / "requirements" / "lowest.txt"
EXTRAS = ("", "local", "cli", "redis", "sql", "fastapi")
"""Whose dependencies the version lanes install, beside the package's own."""

NOTHING_NEWER = {"h11", "httpcore"}
"""Whose lower bound was the newest release when this was written."""

CLASSIFIER = "Programming Language :: Python :: "
PYTHONS = [
    line.removeprefix(CLASSIFIER)
    for line in metadata.metadata("homing").get_all("Classifier") or ()
    if line.startswith(CLASSIFIER)
]


def promised() -> dict[str, Requirement]:
    """Return the dependencies by name."""
    found = [Requirement(line) for line in metadata.requires("homing") or ()]
    wanted = [r for r in found if r.marker is None or any(r.marker.evaluate({"extra": extra}) for extra in EXTRAS)]
    return {requirement.name.lower(): requirement for requirement in wanted if requirement.name != "homing"}


def lower_bound(requirement: Requirement) -> Version:
    [bound] = [Version(part.version) for part in requirement.specifier if part.operator == ">="]
    return bound


def pinned(python: str) -> dict[str, Version]:
    """Return the lowest versions on a minor version of Python."""
    lines = [Requirement(line) for line in LOWEST.read_text().splitlines() if line and not line.startswith("#")]
    environment = {**default_environment(), "python_version": python}
    here = [line for line in lines if line.marker is None or line.marker.evaluate(environment)]  # type: ignore[arg-type]
    pins = {line.name: Version(str(line.specifier).removeprefix("==")) for line in here}
    assert len(pins) == len(here)
    return pins


def test_the_lowest_pins_are_the_lower_bounds() -> None:
    pins = pinned(PYTHONS[0])
    assert {name: pins.get(name) for name in promised()} == {
        name: lower_bound(requirement) for name, requirement in promised().items()
    }


@pytest.mark.parametrize("python", PYTHONS)
def test_every_python_has_its_lowest_pins(python: str) -> None:
    pins = pinned(python)
    assert all(requirement.specifier.contains(pins[name]) for name, requirement in promised().items())


@pytest.mark.parametrize("name", sorted(promised()))
def test_what_is_installed_is_what_this_lane_is_about(name: str) -> None:
    installed, requirement = Version(metadata.version(name)), promised()[name]
    assert requirement.specifier.contains(installed)
    lane, pin = os.environ.get("HOMING_TEST_VERSIONS"), pinned("{}.{}".format(*sys.version_info))[name]
    if lane == "lowest":
        assert installed == pin
    if lane == "newest":
        assert installed > pin or (installed == pin and name in NOTHING_NEWER)
    print(f"{name} {installed} on Python {sys.version.split()[0]}")


def test_the_pythons_are_the_same_everywhere() -> None:
    requires = SpecifierSet(metadata.metadata("homing")["Requires-Python"])
    assert [f"3.{minor}" for minor in range(99) if f"3.{minor}" in requires][: len(PYTHONS)] == PYTHONS
    lines = {".github/workflows/ci.yml": r"^ +python: \[(.*)\]$", "docs/policies.md": r"^\| Python \| (.*?) \("}
    for file, line in lines.items():
        [found] = re.findall(line, (ROOT / file).read_text(), re.MULTILINE)
        assert re.findall(r"\b3\.\d+\b", found) == PYTHONS, file
