"""bench/affinity.py on real SGLang: its cached shares are what the design says. Its times mean nothing here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from homing_server.local import Edge

ROOT = Path(__file__).resolve().parents[2]


def test_conversations_that_come_home_find_nearly_all_that_one_replica_would_have(edge: Edge, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, str(ROOT / "bench" / "affinity.py"), "--url", edge.url, "--engine", "sglang"),
            *("--out", str(tmp_path), "--raw", "--no-thinking", "--policies", "homing", "balanced", "prefix", "none"),
            *("--conversations", "5", "--turns", "4"),
            *("--system-tokens", "10", "--user-tokens", "60", "--reply-tokens", "8", "--think", "0", "0.01"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    turns = [json.loads(line) for line in (tmp_path / "turns.jsonl").read_text().splitlines()]
    said = {(t["policy"], t["conversation"], t["turn"]): t["prompt"] + t["completion"] for t in turns}
    for turn in turns:
        if turn["turn"] and turn["policy"] != "none":
            before = said[turn["policy"], turn["conversation"], turn["turn"] - 1]
            assert turn["cached"] >= before - 1, "all that was said, but for the very last token"
    runs = {run["policy"]: run["figures"] for run in json.loads((tmp_path / "affinity.json").read_text())["runs"]}
    for policy in ("homing", "balanced", "prefix"):
        assert runs[policy]["failed"] == 0
        # Less than the best by first turns: on each replica, and by those that begin together.
        assert 0.8 < runs[policy]["cached_share"] / runs[policy]["best_share"] <= 1
    assert runs["none"]["cached_share"] < runs["homing"]["cached_share"]
