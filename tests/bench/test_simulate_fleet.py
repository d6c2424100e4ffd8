"""bench/simulate_fleet.py: its short cut to rendezvous hashing against the edge's hash, its caches, its figures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def bench_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "bench"))


def race(keys: int, replicas: int, *, ranks: int = 1, seed: int = 7) -> Any:
    from fleet.race import Race

    live = np.arange(replicas, dtype=np.int32)
    return Race(keys, ranks=ranks, live=live, rng=np.random.default_rng(seed))


def hashed_moves(keys: int, before: list[str], after: list[str]) -> int:
    from homing_server.local.routing import home_of

    return sum(home_of(str(key), before) != home_of(str(key), after) for key in range(keys))


@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize(("before", "after"), [(4, 6), (6, 4), (5, 6)])
def test_the_race_moves_as_many_keys_as_the_edges_hash(before: int, after: int, ranks: int) -> None:
    keys = 4_000
    names = [f"r{number}" for number in range(max(before, after))]
    hashed = hashed_moves(keys, names[:before], names[:after])
    simulated = race(keys, before, ranks=ranks)
    home = simulated.home[0].copy()
    if after > before:
        moved = simulated.add(np.arange(before, after, dtype=np.int32))
        assert set(simulated.home[0][moved]) == set(range(before, after))  # to the new ones only
        share = (after - before) / after
    else:
        moved = simulated.remove(np.arange(after, before, dtype=np.int32))
        assert set(home[moved]) == set(range(after, before))  # only those of the lost
        assert simulated.home.max() < after
        share = (before - after) / before
    spread = 5 * (keys * share * (1 - share)) ** 0.5
    assert abs(int(moved.sum()) - keys * share) < spread
    assert abs(hashed - keys * share) < spread
    assert (simulated.home[0][~moved] == home[~moved]).all()


def test_homes_are_even_after_any_history() -> None:
    simulated = race(30_000, 10, ranks=3)
    for number in range(10, 30):
        simulated.add(np.array([number], dtype=np.int32))
        simulated.remove(np.array([number - 10], dtype=np.int32))
    for rank in simulated.home:
        counts = np.bincount(rank, minlength=30)
        assert counts[:20].sum() == 0
        assert counts[20:].min() > 3_000 - 5 * 52
        assert counts[20:].max() < 3_000 + 5 * 52


def test_a_prefix_is_found_until_its_pool_has_been_filled_by_others() -> None:
    from fleet.caches import Caches

    caches = Caches(3, 2, pool=1_000, visits=2)

    def turn(session: int, replica: int, prompt: float, total: float) -> float:
        found = caches.turn(
            np.array([session]), np.array([replica], dtype=np.int32), np.array([prompt]), np.array([total])
        )
        return float(found[0])

    assert turn(0, 0, 100, 200) == 0
    assert turn(0, 0, 250, 300) == 200
    assert turn(0, 1, 350, 400) == 0  # elsewhere
    assert turn(0, 0, 450, 500) == 300  # what it held before the detour
    assert turn(1, 0, 300, 400) == 0
    assert turn(0, 0, 550, 600) == 500
    assert turn(1, 0, 600, 700) == 0  # 600 tokens of the other, and its own 600, are more than the pool
    caches.forget(np.array([0]))
    assert turn(0, 0, 100, 200) == 0


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    out = tmp_path_factory.mktemp("fleet")
    command = [sys.executable, str(ROOT / "bench" / "simulate_fleet.py"), "--out", str(out)]
    command += ["--replicas", "40", "--sessions", "4000", "--sweep", "0", "--visits", "4", "--pool", "4"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "| rendezvous |" in (out / "fleet.md").read_text()
    runs = json.loads((out / "fleet.json").read_text())["runs"]
    return {run["policy"]: run for run in runs}


def test_every_policy_serves_the_same_load(result: dict[str, dict[str, Any]]) -> None:
    assert len({run["turns"] for run in result.values()}) == 1
    assert len(result) == 6


def test_keys_keep_the_cache_and_move_no_more_than_they_must(result: dict[str, dict[str, Any]]) -> None:
    for name in ("rendezvous", "balanced keys"):
        run = result[name]
        assert run["cached_share"] > result["random"]["cached_share"] + 0.4
        assert run["moved_per_event"] == pytest.approx(run["least_possible"], rel=0.15)
        assert run["prefill_mean"] < result["round robin"]["prefill_mean"] / 2


def test_balanced_keys_spread_sessions_better_and_shared_prefixes_worse(result: dict[str, dict[str, Any]]) -> None:
    assert result["balanced keys"]["sessions_max"] < result["rendezvous"]["sessions_max"]
    assert result["prefix keys"]["sessions_max"] > result["rendezvous"]["sessions_max"]
    assert result["random"]["sessions_max"] is None
