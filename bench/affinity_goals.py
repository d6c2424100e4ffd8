"""Holds what bench/affinity.py measured on a GPU against what affinity is to be worth there.

    python bench/affinity_goals.py --roomy roomy/affinity.json --overflowing overflowing/affinity.json

Every figure is the median over the repeats. Exit status 1 when a goal is missed, or a policy that
is needed for one was not run often enough.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

REPEATS = 3
"""Fewer say nothing about the spread of a tail."""
SHARE_OF_BEST = 0.99
"""Cached share against that of one replica with boundless memory."""
THROUGHPUT = 1.7
"""Output tokens per second, times those of random routing."""
FIRST_TOKEN = 2.3
"""Random routing's time to first token p95, times ours."""
GAP = 3.5
"""Random routing's inter-token p99, times ours."""
BALANCED_SHARE = 0.95
"""Cached share of balanced placement against plain hashing, where pools overflow."""

Figures = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Goal:
    """One criterion with what was measured; None where there was nothing to measure it by."""

    name: str
    wanted: str
    measured: str
    met: bool

    def __str__(self) -> str:
        return f"{'met   ' if self.met else 'MISSED'}  {self.name}: {self.measured} (wanted: {self.wanted})"


def share(run: Figures) -> float:
    return float(run["cached_share"])


def share_of_best(run: Figures) -> float:
    return run["cached_share"] / run["best_share"] if run["best_share"] else 0.0


def throughput(run: Figures) -> float:
    return float(run["tokens_per_second"])


def first_token(run: Figures) -> float:
    """p95 in ms."""
    return float(run["ttft_ms"]["p95"])


def gap(run: Figures) -> float:
    """p99 in ms."""
    return float(run["gap_ms"]["p99"])


class Runs:
    """The runs of one pool, by policy."""

    def __init__(self, result: Mapping[str, Any]) -> None:
        self.by_policy: dict[str, list[Figures]] = {}
        for run in result["runs"]:
            self.by_policy.setdefault(run["policy"], []).append(run["figures"])

    def median(self, policy: str, figure: Callable[[Figures], float]) -> float:
        return median(figure(run) for run in self.by_policy[policy])

    def repeated(self, *policies: str) -> Goal:
        counts = {policy: len(self.by_policy.get(policy, ())) for policy in policies}
        measured = ", ".join(f"{policy} {count}" for policy, count in counts.items())
        return Goal("repeats", f"at least {REPEATS} of each", measured, min(counts.values()) >= REPEATS)

    def unharmed(self) -> Goal:
        runs = [run for runs in self.by_policy.values() for run in runs]
        failed, turns = sum(run["failed"] for run in runs), sum(run["turns"] for run in runs)
        return Goal("failed turns", "none", f"{failed} of {turns}", failed == 0 < turns)

    def ratio(self, name: str, over: float, under: float, least: float) -> Goal:
        measured = over / under if under else 0.0
        return Goal(name, f"at least {least:g}", f"{measured:.2f} ({over:g} / {under:g})", measured >= least)


def roomy_goals(result: Mapping[str, Any]) -> list[Goal]:
    """Where every replica's pool holds all of its conversations."""
    runs = Runs(result)
    goals = [runs.repeated("homing", "none"), runs.unharmed()]
    if not goals[0].met:
        return goals
    best = runs.median("homing", share_of_best)
    wanted = f"at least {SHARE_OF_BEST:.0%}"
    goals.append(Goal("cached, of one boundless replica's", wanted, f"{best:.2%}", best >= SHARE_OF_BEST))
    ours, random = ((lambda figure, p=p: runs.median(p, figure)) for p in ("homing", "none"))
    goals += [
        runs.ratio("output tokens/s, homing / none", ours(throughput), random(throughput), THROUGHPUT),
        runs.ratio("time to first token p95 (ms), none / homing", random(first_token), ours(first_token), FIRST_TOKEN),
        runs.ratio("inter-token p99 (ms), none / homing", random(gap), ours(gap), GAP),
    ]
    shown = len(runs.by_policy.get("constant", ()))
    goals.append(Goal("runs with one constant key, to be shown", "at least 1", str(shown), shown > 0))
    return goals


def overflowing_goals(result: Mapping[str, Any]) -> list[Goal]:
    """Where the conversations of one replica are more than its pool holds."""
    runs = Runs(result)
    goals = [runs.repeated("homing", "balanced", "round-robin"), runs.unharmed()]
    if not goals[0].met:
        return goals
    kept = (runs.median(policy, share) for policy in ("balanced", "homing"))
    goals.append(runs.ratio("cached share, balanced / homing", *kept, BALANCED_SHARE))
    ours, theirs = (runs.median(policy, first_token) for policy in ("balanced", "round-robin"))
    name, wanted = "time to first token p95 (ms), balanced", f"below round robin's {theirs:g}"
    goals.append(Goal(name, wanted, f"{ours:g}", ours < theirs))
    return goals


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--roomy", type=Path, help="affinity.json of pools that hold everything")
    parser.add_argument("--overflowing", type=Path, help="affinity.json of pools that do not")
    given = parser.parse_args(argv)
    if not (given.roomy or given.overflowing):
        parser.error("name --roomy, --overflowing or both")
    missed = False
    for path, goals_of in ((given.roomy, roomy_goals), (given.overflowing, overflowing_goals)):
        if path is None:
            continue
        result = json.loads(path.read_text())
        print(f"{path}: {result['title']}\n{result['date']}, {result['machine']}")
        goals = goals_of(result)
        print(*goals, "", sep="\n")
        missed |= not all(goal.met for goal in goals)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
