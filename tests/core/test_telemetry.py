"""What a reply cost and what the cache gave it: measured, or unknown, never guessed."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homing.core.telemetry.measurements import (
    WARM_SHARE,
    PreviousTurn,
    Stopwatch,
    Telemetry,
    Totals,
    judge,
    note_usage,
    sum_rounds,
)
from homing.types import CompletionUsage


@pytest.mark.parametrize(
    ("now", "before", "verdict"),
    [
        ({"cached_tokens": 90}, None, "first"),
        ({"cached_tokens": 90}, PreviousTurn(100, "a", prefix_changed=True), "prefix_changed"),
        ({"cached_tokens": None}, PreviousTurn(100), "unknown"),  # sglang#28801: not reported is not zero
        ({"cached_tokens": 0}, PreviousTurn(None), "unknown"),
        ({"cached_tokens": 0}, PreviousTurn(0), "unknown"),
        ({"cached_tokens": 100 * WARM_SHARE}, PreviousTurn(100), "warm"),
        ({"cached_tokens": 500}, PreviousTurn(100), "warm"),
        ({"cached_tokens": 90, "replica": "b"}, PreviousTurn(100, "a"), "warm"),  # moved, but it was warm there too
        ({"cached_tokens": 79, "replica": "b"}, PreviousTurn(100, "a"), "moved"),
        ({"cached_tokens": None, "replica": "b"}, PreviousTurn(100, "a"), "moved"),  # that much is known
        ({"cached_tokens": None, "replica": "a"}, PreviousTurn(100, "a"), "unknown"),
        ({"cached_tokens": None, "replica": "b"}, PreviousTurn(None, "a"), "unknown"),
        ({"cached_tokens": 0, "replica": "a"}, PreviousTurn(100, "a"), "cold"),
        ({"cached_tokens": 0, "replica": "a"}, PreviousTurn(100, None), "cold"),
        ({"cached_tokens": 0}, PreviousTurn(100, "a"), "cold"),
    ],
)
def test_verdicts(now: dict[str, Any], before: PreviousTurn | None, verdict: str) -> None:
    assert judge(Telemetry(**now), before) == verdict


@given(st.integers(0, 10**6), st.integers(1, 10**6))
def test_reuse_is_a_share_of_what_could_be_reused(cached: int, reusable: int) -> None:
    reuse = Telemetry(cached_tokens=cached, reusable_tokens=reusable).reuse
    assert reuse is not None
    assert 0 <= reuse <= 1
    assert (reuse == 1) is (cached >= reusable)


@pytest.mark.parametrize(("cached", "reusable"), [(None, 5), (5, None), (5, 0)])
def test_reuse_may_be_unknown(cached: int | None, reusable: int | None) -> None:
    assert Telemetry(cached_tokens=cached, reusable_tokens=reusable).reuse is None


@pytest.mark.parametrize(
    ("completion", "first", "duration", "speed"),
    [
        (11, 1.0, 3.0, 5.0),
        (1, 1.0, 3.0, None),  # the first token's time is the prefill's
        (0, 1.0, 3.0, None),
        (11, 3.0, 3.0, None),
        (None, 1.0, 3.0, None),
        (11, None, 3.0, None),
        (11, 1.0, None, None),
    ],
)
def test_speed(completion: int | None, first: float | None, duration: float | None, speed: float | None) -> None:
    telemetry = Telemetry(completion_tokens=completion, time_to_first_token=first, duration=duration)
    assert telemetry.tokens_per_second == speed


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_it_can_be_pickled(protocol: int) -> None:
    telemetry = Telemetry()
    assert pickle.loads(pickle.dumps(telemetry, protocol)) == telemetry


@given(
    st.builds(
        Telemetry,
        cached_tokens=st.none() | st.integers(),
        replica=st.none() | st.text(),
        duration=st.none() | st.floats(allow_nan=False, allow_infinity=False),
        retries=st.integers(0),
    )
)
def test_saved_and_read_back(telemetry: Telemetry) -> None:
    saved = telemetry.to_dict()
    assert None not in saved.values()
    assert Telemetry.from_dict({**json.loads(json.dumps(saved)), "novelty": 1}) == telemetry


@given(st.lists(st.floats(0, 100), max_size=60), st.floats(0, 100))
def test_the_stopwatch(steps: list[float], rest: float) -> None:
    now = started = 5.0
    watch = Stopwatch(started)
    for step in steps:
        now += step
        watch.piece(now)
    telemetry = Telemetry()
    watch.fill(telemetry, now + rest)
    assert telemetry.duration == pytest.approx(sum(steps) + rest)
    assert telemetry.time_to_first_token == (pytest.approx(steps[0]) if steps else None)
    gaps = sorted(steps[1:])
    if not gaps:
        assert telemetry.gap_p50 is telemetry.gap_p99 is None
        return
    assert telemetry.gap_p50 is not None
    assert telemetry.gap_p99 is not None
    assert gaps[0] - 1e-6 <= telemetry.gap_p50 <= telemetry.gap_p99 <= gaps[-1] + 1e-6
    below = sum(gap < telemetry.gap_p50 - 1e-6 for gap in gaps)
    assert below <= len(gaps) / 2
    assert telemetry.gap_p99 >= gaps[len(gaps) * 9 // 10 - 1] - 1e-6


def test_usage() -> None:
    telemetry = Telemetry()
    note_usage(telemetry, None)
    assert telemetry == Telemetry()
    counted = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}
    note_usage(telemetry, CompletionUsage.model_validate(counted))
    assert (telemetry.prompt_tokens, telemetry.completion_tokens, telemetry.cached_tokens) == (9, 2, None)
    note_usage(telemetry, CompletionUsage.model_validate({**counted, "prompt_tokens_details": {"cached_tokens": 7}}))
    assert telemetry.cached_tokens == 7


def test_totals_take_the_share_over_what_was_reported() -> None:
    totals = Totals()
    assert totals.cached_share is None
    totals.add(Telemetry(prompt_tokens=1000, waited=1.5, retries=1))
    assert totals.cached_share is None
    totals.add(Telemetry("warm", prompt_tokens=100, completion_tokens=3, cached_tokens=80, waited=0.5))
    totals.add(Telemetry("warm", cached_tokens=0, resumes=2))
    assert totals.cached_share == 0.8
    assert (totals.replies, totals.reported, totals.prompt_tokens, totals.completion_tokens) == (3, 2, 1100, 3)
    assert (totals.waited, totals.retries, totals.resumes) == (2.0, 1, 2)
    assert totals.verdicts == {"unknown": 1, "warm": 2}


def test_a_turn_of_several_requests() -> None:
    first = Telemetry(verdict="moved", prompt_tokens=5, waited=1.0, attempts=2, retries=1, resumes=1, replica="r1")
    last = Telemetry(verdict="warm", prompt_tokens=9, cached_tokens=5, waited=0.5, replica="r2")
    whole = sum_rounds([first, last], prefix_tokens=4)
    assert (whole.verdict, whole.waited, whole.attempts, whole.retries, whole.resumes) == ("moved", 1.5, 3, 1, 1)
    assert (whole.prompt_tokens, whole.cached_tokens, whole.replica) == (9, 5, "r2")
    assert (whole.prefix_tokens, whole.lasting_tokens) == (4, 4)
    assert sum_rounds([last]) == last
    assert last.lasting_tokens == 9
    assert Telemetry.from_dict(whole.to_dict()) == whole
