"""The versions that are tested are the ones that pyproject.toml promises."""

from __future__ import annotations

import os
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

LOWEST = Path(__file__).resolve().parent.parent / "requirements" / "lowest.txt"
EXTRAS = ("", "local", "cli", "redis", "sql")
"""Whose dependencies the version lanes install, beside the package's own."""


def promised() -> dict[str, Requirement]:
    """Return the dependencies by name."""
    found = [Requirement(line) for line in metadata.requires("homing") or ()]
    wanted = [r for r in found if r.marker is None or any(r.marker.evaluate({"extra": extra}) for extra in EXTRAS)]
    return {requirement.name.lower(): requirement for requirement in wanted if requirement.name != "homing"}


def lower_bound(requirement: Requirement) -> Version:
    [bound] = [Version(part.version) for part in requirement.specifier if part.operator == ">="]
    return bound


def pinned() -> dict[str, Version]:
    lines = [line for line in LOWEST.read_text().splitlines() if line and not line.startswith("#")]
    return {name: Version(version) for name, _, version in (line.partition("==") for line in lines)}


def test_the_lowest_pins_are_the_lower_bounds() -> None:
    pins = pinned()
    assert {name: pins.get(name) for name in promised()} == {
        name: lower_bound(requirement) for name, requirement in promised().items()
    }


@pytest.mark.parametrize("name", sorted(promised()))
def test_what_is_installed_is_what_this_lane_is_about(name: str) -> None:
    installed, requirement = Version(metadata.version(name)), promised()[name]
    assert requirement.specifier.contains(installed)
    lane = os.environ.get("HOMING_TEST_VERSIONS")
    if lane == "lowest":
        assert installed == pinned()[name]
    if lane == "newest":
        assert installed > pinned()[name]
    print(f"{name} {installed} on Python {sys.version.split()[0]}")
