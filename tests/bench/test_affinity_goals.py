"""bench/affinity_goals.py on made-up results: each goal can be met, and missed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
MADE_UP: dict[str, Any] = {"title": "made up", "date": "2026-01-01", "machine": "none"}


def runs(policy: str, *, p95: list[float], share: float, speed: float = 100, gap: float = 100) -> list[dict[str, Any]]:
    figures = {"failed": 0, "turns": 8, "cached_share": share, "best_share": 0.8, "tokens_per_second": speed}
    return [
        {"policy": policy, "figures": {**figures, "ttft_ms": {"p95": each}, "gap_ms": {"p99": gap}}} for each in p95
    ]


def roomy() -> dict[str, Any]:
    ours = runs("homing", p95=[99, 100, 9_000], share=0.8, speed=171)  # a median does not mind one bad repeat
    random = runs("none", p95=[231, 231, 231], share=0.4, gap=351)
    return {**MADE_UP, "runs": ours + random + runs("constant", p95=[5], share=0.8)}


def overflowing() -> dict[str, Any]:
    ours = runs("homing", p95=[9, 9, 9], share=0.6) + runs("balanced", p95=[6, 6, 6], share=0.58)
    return {**MADE_UP, "runs": ours + runs("round-robin", p95=[7, 7, 7], share=0.2)}


def check(tmp_path: Path, **results: dict[str, Any]) -> tuple[int, list[str]]:
    options = []
    for name, result in results.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(result))
        options += [f"--{name}", str(tmp_path / f"{name}.json")]
    command = [sys.executable, str(ROOT / "bench" / "affinity_goals.py"), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, [line for line in done.stdout.splitlines() if line.startswith("MISSED")]


def test_all_met(tmp_path: Path) -> None:
    assert check(tmp_path, roomy=roomy(), overflowing=overflowing()) == (0, [])


def test_nothing_to_hold_is_no_success(tmp_path: Path) -> None:
    assert check(tmp_path)[0] == 2


@pytest.mark.parametrize(
    ("policy", "changed", "name"),
    [
        ("homing", {"cached_share": 0.79}, "cached, of one boundless"),
        ("homing", {"tokens_per_second": 169}, "output tokens/s"),
        ("homing", {"ttft_ms": {"p95": 101}}, "time to first token p95"),
        ("homing", {"gap_ms": {"p99": 101}}, "inter-token p99"),
        ("constant", {"failed": 1}, "failed turns"),
    ],
)
def test_a_roomy_goal_is_missed(tmp_path: Path, policy: str, changed: dict[str, Any], name: str) -> None:
    result = roomy()
    for run in result["runs"]:
        if run["policy"] == policy:
            run["figures"] |= changed
    code, missed = check(tmp_path, roomy=result, overflowing=overflowing())
    assert code == 1
    assert len(missed) == 1
    assert name in missed[0]


@pytest.mark.parametrize(
    ("changed", "name"),
    [({"cached_share": 0.56}, "balanced / homing"), ({"ttft_ms": {"p95": 7}}, "below round robin's 7")],
)
def test_an_overflowing_goal_is_missed(tmp_path: Path, changed: dict[str, Any], name: str) -> None:
    result = overflowing()
    for run in result["runs"][3:6]:
        run["figures"] |= changed
    code, missed = check(tmp_path, roomy=roomy(), overflowing=result)
    assert code == 1
    assert len(missed) == 1
    assert name in missed[0]


def test_two_repeats_are_too_few_and_the_constant_key_must_be_shown(tmp_path: Path) -> None:
    result = roomy()
    assert check(tmp_path, roomy={**result, "runs": result["runs"][1:]})[0] == 1
    assert check(tmp_path, roomy={**result, "runs": result["runs"][:-1]})[0] == 1
