"""The workflows run what .ci/run runs, and may do no more than read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
CI = (ROOT / ".github" / "workflows" / "ci.yml").read_text()


def matrix(name: str) -> list[str]:
    """Return the values of a matrix's row."""
    [row] = re.findall(rf"^ +{name}: \[(.*)\]$", CI, re.MULTILINE)
    return [value.strip(' "') for value in row.split(",")]


def test_ci_makes_every_target_of_the_script() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    lines = re.findall(r"^(?:lanes|make) ([\w -]+)$", script, re.MULTILINE)
    wanted = {target for line in lines for target in line.split()}
    assert {"check", "test", "test-lowest"} <= wanted
    versions = {f"test-{version}" for version in matrix("versions")}
    assert {*matrix("target"), *matrix("lane"), *versions} == wanted
    assert set(re.findall(r"^(\S+):", (ROOT / "Makefile").read_text(), re.MULTILINE)) > wanted


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_read_only_and_hold_no_secret(workflow: Path) -> None:
    text = workflow.read_text()
    assert "\npermissions:\n  contents: read\n" in text
    assert set(re.findall(r"^ +[\w-]+: write$", text, re.MULTILINE)) <= {"      id-token: write"}
    assert ("id-token" in text) == (workflow.name == "release.yml")
    assert "secrets." not in text
    assert "pull_request_target" not in text
    uses = re.findall(r"uses: (\S+)", text)
    assert uses
    assert all(re.search(r"@(v\d|release/v\d|[0-9a-f]{40})", action) for action in uses), uses
    assert text.count("actions/checkout@") == text.count("persist-credentials: false")
