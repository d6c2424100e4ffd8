"""CHANGELOG.md has the form of Keep a Changelog 1.1.0, which people and tools read."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

from packaging.version import Version

import homing

CHANGELOG = (Path(__file__).resolve().parents[2] / "CHANGELOG.md").read_text()
KINDS = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"]
HEADINGS = re.findall(r"^## (.+)$", CHANGELOG, re.MULTILINE)
RELEASES = [re.fullmatch(r"\[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)", heading) for heading in HEADINGS[1:]]


def test_unreleased_comes_first_and_then_dated_versions() -> None:
    assert HEADINGS[0] == "[Unreleased]"
    assert None not in RELEASES, HEADINGS


def test_versions_and_dates_descend() -> None:
    versions = [Version(release[1]) for release in RELEASES if release]
    dates = [date.fromisoformat(release[2]) for release in RELEASES if release]
    assert versions == sorted(set(versions), reverse=True)
    assert dates == sorted(dates, reverse=True)


def test_the_version_of_the_code_has_its_section() -> None:
    assert homing.__version__ in {release[1] for release in RELEASES if release}


def test_each_release_sorts_its_changes_by_kind() -> None:
    for section in re.split(r"^## ", CHANGELOG, flags=re.MULTILINE)[1:]:
        kinds = re.findall(r"^### (.+)$", section, re.MULTILINE)
        assert kinds == [kind for kind in KINDS if kind in kinds], kinds
        assert kinds or section.startswith("[Unreleased]")
        assert all("\n- " in part for part in section.split("\n### ")[1:]), "a kind without entries"
