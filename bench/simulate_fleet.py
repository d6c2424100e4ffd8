"""Session affinity at scale, on paper: thousands of replicas, millions of sessions, replicas that come and go.

    python bench/simulate_fleet.py                                  # 10,000 replicas, 2 million sessions: minutes
    python bench/simulate_fleet.py --replicas 200 --sessions 40000  # seconds

Sessions speak after exponential think times; their number of turns, and the tokens of a turn,
are log-normal, so a few are very long; who ends is replaced by a new one. Every ``--event``
seconds the autoscaler adds or takes a share of the replicas, and some die and are replaced, cold.
No engine is simulated: what is counted is where prefixes lie and who has to prefill what.
Writes ``fleet.json``, ``fleet.md`` and, with matplotlib, ``fleet.svg`` to ``--out``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from fleet.caches import Caches
from fleet.figures import plot, table
from fleet.policies import POLICIES, Policy
from numpy.typing import NDArray

MEDIAN_TURNS, TURNS_SIGMA = 4.0, 1.1
"""Turns of a session: median 4, mean 7, one in a hundred over 50."""
USER_TOKENS, REPLY_TOKENS, TOKENS_SIGMA = 150.0, 250.0, 0.8
"""Medians of what a turn adds; log-normal."""
CONTEXT = 32_768
"""Tokens after which a session ends, as the context window would make it."""
POOLS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Sizes of a replica's cache, in times of what its share of the sessions needs."""


@dataclass
class Run:
    """What one policy made of the load."""

    policy: str
    pool: float
    prompt: float = 0.0
    cached: float = 0.0
    turns: int = 0
    moved: list[float] = field(default_factory=list)
    ideal: list[float] = field(default_factory=list)
    sessions_p99: list[float] = field(default_factory=list)
    sessions_max: list[float] = field(default_factory=list)
    prefill: list[tuple[float, float, float]] = field(default_factory=list)
    seconds: float = 0.0

    def figures(self) -> dict[str, Any]:
        """Return it as plain data: sessions in times of the mean replica's, prefill in tokens per second."""

        def mean(values: list[float]) -> float | None:
            return round(float(np.mean(values)), 4) if values else None

        return {
            "policy": self.policy,
            "pool_tokens": round(self.pool),
            "turns": self.turns,
            "cached_share": round(self.cached / self.prompt, 4),
            "moved_per_event": mean(self.moved),
            "least_possible": mean(self.ideal),
            "sessions_p99": mean(self.sessions_p99),
            "sessions_max": mean(self.sessions_max),
            **{
                f"prefill_{name}": mean([figures[place] for figures in self.prefill])
                for place, name in enumerate(("mean", "p99", "max"))
            },
            "seconds": round(self.seconds, 1),
        }


class Crowd:
    """The sessions: how much each has said, and how many turns it has left."""

    def __init__(self, count: int, *, system: int, rng: np.random.Generator) -> None:
        self._rng = rng
        self._system = system
        self.length = np.zeros(count)
        self._left = np.zeros(count, dtype=np.int32)
        everybody = np.arange(count)
        self.begin(everybody)
        # In mid-life: without that all would be young at once.
        done = (rng.random(count) * self._left).astype(np.int32)
        self.length += done * (USER_TOKENS + REPLY_TOKENS) * np.exp(TOKENS_SIGMA**2 / 2)
        self.length = np.minimum(self.length, CONTEXT / 2)
        self._left -= np.minimum(done, self._left - 1)

    def begin(self, places: NDArray[np.intp]) -> None:
        """New sessions begin in these places."""
        self._left[places] = np.maximum(
            1, np.exp(self._rng.normal(np.log(MEDIAN_TURNS), TURNS_SIGMA, places.size)).astype(np.int32)
        )
        self.length[places] = self._system

    def speak(self, places: NDArray[np.intp]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Let each say its next turn; return prompt tokens, and prompt and reply together."""
        prompt = self.length[places] + self._tokens(USER_TOKENS, places.size)
        total = prompt + self._tokens(REPLY_TOKENS, places.size)
        self.length[places] = total
        self._left[places] -= 1
        return prompt, total

    def ended(self, places: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return those that have said all they had to say."""
        return places[(self._left[places] <= 0) | (self.length[places] > CONTEXT)]

    def _tokens(self, median: float, count: int) -> NDArray[np.float64]:
        return np.exp(self._rng.normal(np.log(median), TOKENS_SIGMA, count))


class Fleet:
    """The replicas that live now; ids are never used again, as containers are not."""

    def __init__(self, given: argparse.Namespace, rng: np.random.Generator) -> None:
        self._given = given
        self._rng = rng
        self.live = np.arange(given.replicas, dtype=np.int32)
        self._next = given.replicas
        self._grow = True

    @property
    def most(self) -> int:
        """More ids than there will ever be."""
        given = self._given
        events = given.minutes * 60 / given.event + 2
        return int(given.replicas * (1 + events * (given.scale + given.die + 0.01))) + 10

    def event(self, policy: Policy, run: Run) -> None:
        """Scale up and down in turn; a few die and are replaced."""
        given = self._given
        count = len(self.live)
        change = max(1, round(given.replicas * given.scale))
        dying = self._rng.choice(self.live, max(1, round(count * given.die)), replace=False)
        if self._grow:
            self._leave(policy, run, dying)
            self._splice(policy, run, dying.size + change)
        else:
            others = np.setdiff1d(self.live, dying)
            self._leave(policy, run, np.concatenate([dying, self._rng.choice(others, change, replace=False)]))
            self._splice(policy, run, dying.size)
        self._grow = not self._grow

    def _splice(self, policy: Policy, run: Run, count: int) -> None:
        new = np.arange(self._next, self._next + count, dtype=np.int32)
        self._next += count
        self.live = np.concatenate([self.live, new])
        self._note(policy, run, policy.add(new), count / len(self.live))

    def _leave(self, policy: Policy, run: Run, gone: NDArray[np.int32]) -> None:
        share = gone.size / len(self.live)
        self.live = np.setdiff1d(self.live, gone)
        self._note(policy, run, policy.remove(gone), share)

    @staticmethod
    def _note(policy: Policy, run: Run, moved: float, ideal: float) -> None:
        if policy.keyed:
            run.moved.append(moved)
            run.ideal.append(ideal)


def simulate(make: type[Policy], given: argparse.Namespace, *, pool: float) -> Run:
    """Run one policy over the load; the same seed gives the same sessions."""
    began = time.perf_counter()
    fleet = Fleet(given, np.random.default_rng(given.seed))
    crowd = Crowd(given.sessions, system=given.system, rng=np.random.default_rng(given.seed + 1))
    policy = make(given.sessions, fleet.live, np.random.default_rng(given.seed + 2))
    speaking = np.random.default_rng(given.seed + 3)
    caches = Caches(given.sessions, fleet.most, pool=pool, visits=given.visits)
    run = Run(make.name, pool)
    prefill = np.zeros(fleet.most)
    steps = round(given.minutes * 60 / given.step)
    warm, every = steps // 3, max(1, round(given.event / given.step))
    chance = 1 - np.exp(-given.step / given.think)
    for step in range(steps):
        if step and step % every == 0:
            if step > warm:
                measure(run, prefill[fleet.live] / given.event, policy.home(), fleet.live)
            prefill[:] = 0
            fleet.event(policy, run)
        places = np.flatnonzero(speaking.random(given.sessions) < chance)
        replicas = policy.route(places)
        prompt, total = crowd.speak(places)
        # What all sessions share is in every cache: the system prompt.
        cached = np.maximum(caches.turn(places, replicas, prompt, total), min(given.system, pool))
        if step >= warm:
            run.prompt += prompt.sum()
            run.cached += cached.sum()
            run.turns += places.size
        prefill += np.bincount(replicas, weights=prompt - cached, minlength=prefill.size)
        ended = crowd.ended(places)
        crowd.begin(ended)
        caches.forget(ended)
        policy.begin(ended)
    run.seconds = time.perf_counter() - began
    return run


def measure(run: Run, prefill: NDArray[np.float64], home: NDArray[np.int32] | None, live: NDArray[np.int32]) -> None:
    """Note how evenly the live replicas were loaded until now."""
    run.prefill.append((float(prefill.mean()), float(np.quantile(prefill, 0.99)), float(prefill.max())))
    if home is not None:
        sessions = np.bincount(home, minlength=int(live.max()) + 1)[live]
        run.sessions_p99.append(float(np.quantile(sessions, 0.99) / sessions.mean()))
        run.sessions_max.append(float(sessions.max() / sessions.mean()))


def need_of_one(given: argparse.Namespace) -> float:
    """Return the tokens that a replica's share of the sessions would fill."""
    crowd = Crowd(min(given.sessions, 100_000), system=given.system, rng=np.random.default_rng(given.seed))
    return float(crowd.length.mean() * given.sessions / given.replicas)


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Session affinity at scale, simulated.")
    parser.add_argument("--replicas", type=int, default=10_000)
    parser.add_argument("--sessions", type=int, default=2_000_000, help="at a time")
    parser.add_argument("--minutes", type=float, default=20, help="simulated; the first third is not counted")
    parser.add_argument("--step", type=float, default=15, help="seconds")
    parser.add_argument("--think", type=float, default=60, help="mean seconds between a session's turns")
    parser.add_argument("--event", type=float, default=120, help="seconds between two changes of the fleet")
    parser.add_argument("--scale", type=float, default=0.05, help="share of replicas added or taken")
    parser.add_argument("--die", type=float, default=0.002, help="share of replicas that die at each change")
    parser.add_argument("--system", type=int, default=500, help="tokens of the system prompt that all share")
    parser.add_argument("--pool", type=float, default=2.0, help="a replica's cache, times what its sessions need")
    parser.add_argument("--visits", type=int, default=2, help="replicas at which a session's prefixes are remembered")
    parser.add_argument("--policies", nargs="*", default=[policy.name for policy in POLICIES])
    parser.add_argument("--sweep", type=int, default=500, help="replicas of the sweep over cache sizes; 0 for none")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("bench/out/fleet"))
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run all policies, then the sweep; return the exit status."""
    given = arguments(argv)
    chosen = [policy for policy in POLICIES if policy.name in given.policies]
    need = need_of_one(given)
    print(f"{given.replicas} replicas, {given.sessions} sessions, {need:,.0f} tokens of prefix for each replica")
    runs = []
    for policy in chosen:
        runs.append(simulate(policy, given, pool=given.pool * need).figures())
        print(json.dumps(runs[-1]))
    sweep = []
    if given.sweep:
        small = argparse.Namespace(**vars(given))
        small.sessions = max(1, given.sessions * given.sweep // given.replicas)
        small.replicas = given.sweep
        for times in POOLS:
            sweep += [{**simulate(policy, small, pool=times * need).figures(), "pool": times} for policy in chosen]
    result = {
        "settings": {name: str(value) if isinstance(value, Path) else value for name, value in vars(given).items()},
        "need_tokens": round(need),
        "runs": runs,
        "sweep": sweep,
    }
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "fleet.json").write_text(json.dumps(result, indent=1) + "\n")
    (given.out / "fleet.md").write_text(table(runs) + "\n")
    print(table(runs))
    if not plot(result, given.out / "fleet.svg"):
        print("no plot: pip install matplotlib")
    return 0


if __name__ == "__main__":
    sys.exit(main())
