"""bench/affinity.py on emulated replicas, whose caches are exact: the figures must be what they are by design."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("bench")
    done = subprocess.run(
        [
            *(sys.executable, str(ROOT / "bench" / "affinity.py"), "--out", str(out), "--raw"),
            *("--replicas", "3", "--conversations", "7", "--turns", "4", "--reply-tokens", "4"),
            *("--think", "0", "0", "--ramp", "0"),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len((out / "turns.jsonl").read_text().splitlines()) == 6 * 28
    assert "| round-robin" in (out / "affinity.md").read_text()
    read: dict[str, Any] = json.loads((out / "affinity.json").read_text())
    return read


def figures(result: dict[str, Any], policy: str) -> dict[str, Any]:
    (run,) = [run["figures"] for run in result["runs"] if run["policy"] == policy]
    assert (run["turns"], run["failed"]) == (28, 0)
    assert len(run["by_turn"]) == 4
    return dict(run)


def test_one_key_each_finds_nearly_all_that_can_be_found(result: dict[str, Any]) -> None:
    for policy in ("homing", "balanced", "prefix", "constant"):
        run = figures(result, policy)
        # Missing: the system prompt, once more on each replica but the first.
        assert 0.9 < run["cached_share"] / run["best_share"] <= 1.0
        assert all(later["cached_share"] > 0.5 for later in run["by_turn"][1:])


def test_wandering_conversations_find_less(result: dict[str, Any]) -> None:
    kept = figures(result, "homing")["cached_share"]
    assert figures(result, "none")["cached_share"] < 0.85 * kept
    # Seven conversations on three replicas in turn: hardly a turn meets the replica of the one before.
    assert figures(result, "round-robin")["cached_share"] < 0.85 * kept


def test_loads_are_spread_as_the_policies_say(result: dict[str, Any]) -> None:
    def turns(policy: str) -> list[int]:
        return sorted(load["turns"] for load in figures(result, policy)["replicas"].values())

    assert turns("constant") == [0, 0, 28]
    assert turns("round-robin") == [9, 9, 10]
    for policy in ("homing", "balanced"):
        assert all(count % 4 == 0 for count in turns(policy)), "a conversation is never divided"
    assert turns("balanced") == [8, 8, 12], "seven on three"


def test_the_simulation_of_placements_runs() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / "placement.py"), "--seeds", "1"],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines()[2:]]
    shares = {(scene, policy): float(share.rstrip("%")) for scene, policy, share, *_ in rows}
    roomy = rows[0][0]
    # What 40 conversations of 8 turns find by design where nothing is ever lost: 82.3 %.
    assert shares[roomy, "hash"] == pytest.approx(82.3, abs=0.2)
    assert shares[roomy, "balanced"] == pytest.approx(82.3, abs=0.2)
    assert shares[roomy, "round robin"] < 60
