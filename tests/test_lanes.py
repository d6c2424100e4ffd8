"""Every test is run by `.ci/run`: `make test` leaves out only what another of its lanes is for."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ELSEWHERE = {
    "slow": "test-slow",
    "services": "test-services",
    "engine": "test-engine",
    "wheels": "test-modal",
    "litellm": "test-sdks",
    "notebooks": "docs",
}
"""The lane that runs the tests of a marker."""


def commands(target: str) -> list[list[str]]:
    """Return the arguments of every pytest command of a target of the Makefile; the first are the markers."""
    said = subprocess.run(
        ["make", "--no-print-directory", "-n", target], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found = re.findall(r"-m pytest -q -n \d+ --dist worksteal -m '(.+)'(.*)", said.stdout.replace("\\\n", " "))
    return [[markers, *(option for option in options.split() if "tests/" in option)] for markers, options in found]


def chosen(command: list[str], mark: str | None) -> bool:
    """Say whether the command runs tests that have this mark, or none."""
    markers = command[0]
    return bool(eval(markers, {name: name == mark for name in re.findall(r"\w+", markers)}))


def ran_by_ci() -> set[str]:
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    calls = [line.split()[1:] for line in lines if re.match(r"(lanes|make) [a-z]", line)]
    return {target for call in calls for target in call}


def test_what_make_test_leaves_out_has_a_lane() -> None:
    covered, others = commands("test")
    slow = commands("test-slow")[0]
    for mark in (None, "browser", "container", "anyio"):
        assert [chosen(command, mark) for command in (covered, others, slow)] == [True, True, False]
    for mark in ELSEWHERE:
        assert [chosen(command, mark) for command in (covered, others, slow)] == [False, False, mark == "slow"]
    left_out = re.findall(r"not (\w+)", covered[0])
    assert set(left_out) == set(re.findall(r"not (\w+)", others[0])) == set(ELSEWHERE)


def test_what_is_run_without_coverage_is_all_but_what_is_run_with_it() -> None:
    (_, *covered), (_, *others) = commands("test")
    assert covered
    assert others == [f"--ignore={folder}" for folder in covered]
    (_, *slow), *_ = commands("test-slow")
    assert not slow


def test_ci_runs_every_lane() -> None:
    lanes = re.findall(r"(?m)^lanes: (.*?) +##", (ROOT / "Makefile").read_text())[0].split()
    assert ran_by_ci() >= {"check", "test", *lanes, *ELSEWHERE.values()}


@pytest.mark.parametrize("mark", ELSEWHERE)
def test_a_mark_is_of_the_projects_own(mark: str, pytestconfig: pytest.Config) -> None:
    assert any(line.startswith(f"{mark}: ") for line in pytestconfig.getini("markers"))
