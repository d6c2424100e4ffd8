"""The five limits of a call: which runs out next, and what resets it."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homing.core.retry.timers import LATE_BYTES, LATE_READ, Timeout, Timers
from homing.errors import (
    APITimeoutError,
    ConfigurationError,
    DeadlineExceeded,
    FirstTokenTimeout,
    GapTimeout,
    SilenceTimeout,
)

LIMITS = Timeout(first_token=100, gap=20, silence=10)
NONE = Timeout.of(None)


def test_a_number_caps_the_whole_call_and_none_lifts_all_limits() -> None:
    assert Timeout.of(5) == Timeout(total=5)
    assert Timeout.of(LIMITS) is LIMITS
    assert all(getattr(NONE, name) is None for name in Timeout.__slots__)


@pytest.mark.parametrize("name", Timeout.__slots__)
@pytest.mark.parametrize("value", [0, -1, math.nan, "5", True, object()])
def test_a_limit_that_cannot_be(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"Timeout.{name} must be a positive number of seconds"):
        Timeout(**{name: value})


@pytest.mark.parametrize(
    ("timeout", "ends_at", "heard", "deadline", "error", "words"),
    [
        (LIMITS, None, [], 100.0, FirstTokenTimeout, "within 100 s .*Timeout.first_token"),
        (LIMITS, 50.0, [], 50.0, DeadlineExceeded, "total"),
        # Keep-alives reset silence and nothing else (anthropic-sdk-typescript#867).
        (LIMITS, None, [(8, False)], 18.0, SilenceTimeout, "for 10 s .*Timeout.silence"),
        (LIMITS, None, [(8, False), (95, False)], 100.0, FirstTokenTimeout, "first_token"),
        (LIMITS, None, [(5, True)], 15.0, SilenceTimeout, "silence"),
        (LIMITS, None, [(5, True), (12, False), (20, False)], 25.0, GapTimeout, "for 20 s: .*Timeout.gap"),
        (LIMITS, None, [(5, True), (20, True)], 30.0, SilenceTimeout, "silence"),
        (LIMITS, 22.0, [(5, True), (20, True)], 22.0, DeadlineExceeded, "total"),
        (Timeout(total=7), 7.0, [(1, True)], 7.0, DeadlineExceeded, "total of 7 s"),
        (Timeout(silence=None, gap=9), None, [(1, True)], 10.0, GapTimeout, "9 s"),
        (Timeout(gap=None, silence=9), None, [(1, True)], 10.0, SilenceTimeout, "9 s"),
    ],
)
def test_which_limit_runs_out(
    timeout: Timeout,
    ends_at: float | None,
    heard: list[tuple[float, bool]],
    deadline: float,
    error: type[APITimeoutError],
    words: str,
) -> None:
    timers = Timers(timeout, now=0.0, ends_at=ends_at)
    for now, progress in heard:
        timers.heard(now, progress=progress)
    assert timers.deadline == deadline
    expired = timers.expired(deadline)
    assert type(expired) is error
    with pytest.raises(error, match=words):
        raise expired


def test_no_limit_is_no_deadline() -> None:
    timers = Timers(NONE, now=0.0)
    assert timers.deadline == math.inf
    timers.heard(5.0, progress=True)
    assert timers.deadline == math.inf


def test_a_total_that_has_run_out_is_named_whatever_else_has() -> None:
    timers = Timers(LIMITS, now=0.0, ends_at=50.0)
    timers.heard(1.0, progress=True)
    assert type(timers.expired(60.0)) is DeadlineExceeded


@given(
    st.tuples(*[st.none() | st.floats(0.1, 50)] * 3),
    st.none() | st.floats(0.1, 500),
    st.lists(st.tuples(st.floats(0, 30), st.booleans()), max_size=20),
)
def test_the_deadline_is_the_earliest_limit(
    limits: tuple[float | None, ...], ends_at: float | None, steps: list[tuple[float, bool]]
) -> None:
    first_token, gap, silence = limits
    timers = Timers(Timeout(first_token=first_token, gap=gap, silence=silence), now=0.0, ends_at=ends_at)
    now, last_byte, last_progress = 0.0, math.inf, None
    for step, progress in steps:
        now += step
        timers.heard(now, progress=progress)
        last_byte = now
        last_progress = now if progress else last_progress
    by_progress = (first_token or math.inf) if last_progress is None else last_progress + (gap or math.inf)
    by_silence = last_byte + (silence or math.inf)
    assert timers.deadline == min(by_progress, by_silence, ends_at or math.inf)


def reads_until_told(timers: Timers, *, now: float, size: int) -> int:
    """How many reads that bring nothing new are let pass at ``now``."""
    for count in range(100_000):
        try:
            timers.heard(now, progress=False, size=size)
        except APITimeoutError:
            return count
    raise AssertionError("a flood without end")


def test_after_a_limit_no_more_is_read_than_can_have_arrived_before_it() -> None:
    flood = Timers(Timeout(first_token=10.0), now=0.0)
    for _ in range(1000):
        flood.heard(9.9, progress=False, size=65536)  # in time
    assert reads_until_told(flood, now=11.0, size=65536) == LATE_BYTES // (65536 + LATE_READ)
    trickle = Timers(Timeout(first_token=10.0), now=0.0)
    assert reads_until_told(trickle, now=11.0, size=1) == LATE_BYTES // (1 + LATE_READ)


def test_each_limit_that_passes_has_its_leeway() -> None:
    timers = Timers(Timeout(first_token=10.0, gap=10.0), now=0.0)
    once = reads_until_told(timers, now=11.0, size=0)
    timers.heard(11.0, progress=True, size=0)  # in time again
    assert reads_until_told(timers, now=22.0, size=0) == once
