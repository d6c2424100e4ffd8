"""What `scripts/release.py` refuses, without a network. tests/wheels/test_release.py runs all of it."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import homing

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
release: Any = importlib.import_module("release")

CHANGELOG = "# Changelog\n\n## [Unreleased]\n\n## [1.2.3] - 2026-01-02\n\n### Fixed\n\n- A fault.\n"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A repository with a commit that can be released as 1.2.3."""
    (tmp_path / "client" / "homing").mkdir(parents=True)
    (tmp_path / "client" / "homing" / "_version.py").write_text('__version__ = "1.2.3"\n')
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "Begin"]):
        git(tmp_path, *command)
    return tmp_path


def git(tree: Path, *command: str) -> None:
    who = ["-c", "user.name=Nobody", "-c", "user.email=nobody@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *who, *command], cwd=tree, check=True)


def refused(tree: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert release.main(arguments, tree) == 1
    return capsys.readouterr().err


def test_what_stands_here_is_of_one_version() -> None:
    assert release.version_of(ROOT) == homing.__version__


def test_the_notes_are_the_section_of_the_version() -> None:
    assert release.notes_of(CHANGELOG + "\n## [1.2.2] - 2026-01-01\n\n- Old.\n", "1.2.3") == "### Fixed\n\n- A fault."


def test_a_version_that_is_not_final_is_refused(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tree / "client" / "homing" / "_version.py").write_text('__version__ = "1.2.3.dev0"\n')
    assert "states no version of the form 1.2.3" in refused(tree, capsys)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("[1.2.3] - 2026-01-02", "[1.2.3]", "no section '## [1.2.3] - YYYY-MM-DD'"),
        ("1.2.3", "1.2.4", "no section '## [1.2.3] - YYYY-MM-DD'"),
        ("[Unreleased]\n", "[Unreleased]\n\n### Added\n\n- More.\n", "has entries under Unreleased"),
    ],
)
def test_a_changelog_of_another_version_is_refused(
    tree: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, why: str
) -> None:
    (tree / "CHANGELOG.md").write_text(CHANGELOG.replace(old, new))
    assert why in refused(tree, capsys)


def test_what_is_not_committed_is_refused(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tree / "new.py").write_text("")
    assert "the work tree is not clean" in refused(tree, capsys, "--publish")


def test_a_version_that_has_its_tag_is_refused(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    git(tree, "tag", "v1.2.3")
    assert "v1.2.3 is tagged already" in refused(tree, capsys, "--publish")


def test_a_tag_of_another_version_is_refused(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "the tag is v1.2.4, the version 1.2.3" in refused(tree, capsys, "--tag", "v1.2.4")
