"""bench/soak.py: as many turns as a minute and a half of it would bring, and that it finds what grows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"


@pytest.fixture(autouse=True)
def bench_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCH))


@pytest.mark.slow
def test_nothing_grows_with_the_turns(tmp_path: Path) -> None:
    """No times and no resident memory: what is counted is what Python itself knows of."""
    from soak.campaign import Plan, run

    plan = Plan(conversations=30, turns=4, seconds=0, rounds=10, pause=0, trace=False, patience=0.3)
    result = run(plan, tmp_path)
    assert [problem for problem in result.problems if not problem.startswith("rss")] == []
    assert result.turns["acked"] == 1200
    assert result.faults > 20
    warm, later = result.samples[2:6], result.samples[6:]
    # The fewest, for the pools hold now more and now fewer connections. A call that is kept is a dozen objects.
    grown = min(sample.objects for sample in later) - min(sample.objects for sample in warm)
    assert grown / (later[0].turns - warm[0].turns) < 1.0
    assert {sample.busy for sample in result.samples} == {0}
    assert {sample.tasks for sample in result.samples} == {1}


def samples(count: int = 20, **growth: float) -> list[Any]:
    from soak.sample import Sample

    flat = Sample(0, 100_000_000, 20_000_000, 60_000, 280_000, files=20, threads=9, tasks=1, busy=0)
    return [
        replace(flat, **{name: int(getattr(flat, name) + by * number) for name, by in growth.items()})
        for number in range(count)
    ]


@pytest.mark.parametrize(
    ("growth", "found"),
    [
        ({}, []),
        ({"rss": 100_000}, []),
        ({"rss": 500_000}, ["rss grew by"]),
        ({"traced": 100_000, "objects": 300}, ["traced grew by", "objects grew by"]),
        ({"blocks": 1500}, ["blocks grew by"]),
        ({"blocks": -1500, "files": -1}, []),
        ({"files": 0.1}, ["files: 1 more"]),
        ({"threads": 1, "tasks": 1, "busy": 1}, ["threads: ", "tasks: ", "busy: "]),
    ],
)
def test_what_grows_is_found_out(growth: dict[str, float], found: list[str]) -> None:
    from soak.sample import problems

    said = problems(samples(20, **growth))
    assert len(said) == len(found)
    assert all(line.startswith(begun) for line, begun in zip(said, found, strict=True))


def test_what_grows_before_the_caches_are_warm_does_not_count() -> None:
    from soak.sample import problems

    row = samples(40)
    assert problems([*(replace(sample, rss=1) for sample in row[:4]), *row[4:]]) == []


def test_too_few_samples_say_nothing() -> None:
    from soak.sample import FEWEST, problems

    assert "too few" in problems(samples(FEWEST - 1))[0]


def test_a_client_that_leaves_something_or_dies_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from soak import campaign

    result = campaign.Result()
    for entry, ended in (({"what": "end", "leaks": ["task x"]}, True), ({"what": "stray", "error": "KeyError"}, False)):
        assert campaign._take({**entry, "turn": ""}, result, lambda sample: None) is ended
    assert result.problems == ["left over: task x", "stray: KeyError"]
    monkeypatch.setattr(campaign, "_path", lambda: "/nowhere")
    problems = campaign.run(campaign.Plan(conversations=1, rounds=1, seconds=0), tmp_path).problems
    assert problems[0] == "the client process ended with 1"
