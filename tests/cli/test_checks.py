"""The doctor's conclusions."""

from __future__ import annotations

import pytest

from homing.cli.checks import (
    Check,
    Verdict,
    judge_affinity,
    judge_cache,
    judge_certificate,
    judge_clock,
    judge_model,
    judge_stream,
    judge_usage,
    worst,
)


@pytest.mark.parametrize(
    ("pieces", "verdict"),
    [
        ([], "fail"),
        ([1.0, 1.1], "unknown"),
        ([0.01, 0.02, 0.03, 0.04, 0.05], "unknown"),
        ([0.2, 0.4, 0.6, 0.8, 1.0], "ok"),
        ([1.0, 1.0, 1.01, 1.01, 1.02], "fail"),
    ],
)
def test_streaming(pieces: list[float], verdict: Verdict) -> None:
    assert judge_stream(pieces, sent=0.0).verdict == verdict


def test_usage_and_cache() -> None:
    # sglang#28801: zero and unknown look alike
    assert (judge_usage(None).verdict, judge_usage(3).verdict) == ("warn", "ok")
    assert judge_cache([None], [None, None]).verdict == "warn"
    assert judge_cache([0], [0, 0]).verdict == "fail"
    assert judge_cache([0], [None, 12, 0]).found.startswith("50%")


def test_affinity() -> None:
    assert judge_affinity({"a": ["r1", "r1"], "b": ["r2", "r2"]}, ["r1"]).verdict == "ok"
    assert judge_affinity({"a": ["r1", "r2"], "b": ["r2", "r2"]}, ["r1"]).verdict == "fail"
    assert judge_affinity({"a": ["r1", "r1"]}, ["r1"]).verdict == "unknown"
    assert judge_affinity({"a": ["r1", "r1"]}, ["r2"]).verdict == "ok"
    assert judge_affinity({"a": ["r1", None]}, ["r2"]).verdict == "unknown"


def test_the_rest() -> None:
    assert judge_clock(None).verdict == "unknown"
    assert "ahead of" in judge_clock(30).found
    assert "behind" in judge_clock(-30).found
    assert judge_clock(2).verdict == "ok"
    assert judge_certificate(None, loopback=True).verdict == "ok"
    assert judge_certificate(None, loopback=False).verdict == "warn"
    assert judge_certificate(3, loopback=False).verdict == "warn"
    assert judge_certificate(80, loopback=False).verdict == "ok"
    assert judge_model(None, []).verdict == "fail"
    assert judge_model("m", ["other"]).verdict == "warn"
    assert judge_model(None, ["m"]).found == judge_model("m", ["m"]).found == "m"


def test_the_worst_finding_counts() -> None:
    found = [Check(verdict, verdict, "") for verdict in ("ok", "unknown", "warn", "fail")]
    assert [worst(found[: end + 1]) for end in range(4)] == ["ok", "unknown", "warn", "fail"]
    assert worst([]) == "ok"
