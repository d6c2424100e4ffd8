"""A release, but for its publishing, of the files that lie here: `make test-modal` runs this."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import homing

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.wheels


def git(*command: str, cwd: Path) -> str:
    who = ["-c", "user.name=Nobody", "-c", "user.email=nobody@example.org", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", *who, *command], cwd=cwd, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A repository with one commit: what lies here, committed or not, with a changelog that is ready."""
    for name in git("ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT).splitlines():
        if (ROOT / name).is_file():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tmp_path / name)
    changelog = tmp_path / "CHANGELOG.md"
    before, _, after = changelog.read_text().partition("## [Unreleased]\n")
    _, _, after = after.partition("\n## ")  # what is not released yet is no hindrance here
    changelog.write_text(f"{before}## [Unreleased]\n\n## [{homing.__version__}] - 2026-01-01\n\n- All.\n\n## {after}")
    git("init", "-q", cwd=tmp_path)
    git("add", ".", cwd=tmp_path)
    git("commit", "-q", "-m", "Release", cwd=tmp_path)
    return tmp_path


def test_everything_but_publishing(tree: Path) -> None:
    command = [sys.executable, "scripts/release.py", "--dry-run"]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    version = homing.__version__
    names = {f"homing-{version}.tar.gz", f"homing-{version}-py3-none-any.whl"}
    assert {path.name for path in (tree / "dist").iterdir()} == names
    assert "imported it" in done.stdout
    assert f"git push origin 'v{version}'" in done.stdout
    assert git("tag", "--list", cwd=tree) == ""
    assert git("status", "--porcelain", cwd=tree) == ""
