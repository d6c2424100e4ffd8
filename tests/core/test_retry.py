"""What a failed attempt means for the next one, and how long to wait for it."""

from __future__ import annotations

import email.utils
from typing import Any

import httpx
import pytest
import tenacity
from hypothesis import given
from hypothesis import strategies as st

from homing.core.retry.policy import (
    FIRST_BACKOFF,
    MAX_BACKOFF,
    RETRY_AFTER_CAP,
    ErrorKind,
    RetryPolicy,
    TransientBudget,
    classify,
    deadline_exceeded,
    is_saturated,
    requested_wait,
    retry_after,
    wait_exceeded,
)
from homing.core.retry.readiness import State
from homing.errors import (
    APIConnectionError,
    APIResponseValidationError,
    APIStatusError,
    ConfigurationError,
    GapTimeout,
    ServerUnreachable,
    StreamInterrupted,
    StreamTruncated,
)

FINAL, NOT_READY, TRANSIENT = ErrorKind.FINAL, ErrorKind.NOT_READY, ErrorKind.TRANSIENT


def status(code: int, message: str = "no", **headers: str) -> APIStatusError:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return APIStatusError(message, status_code=code, response=httpx.Response(code, headers=named))


@pytest.mark.parametrize(
    ("error", "cold", "warm"),
    [
        *((status(code), FINAL, FINAL) for code in (400, 401, 403, 404, 413, 422, 501)),
        *((status(code), TRANSIENT, TRANSIENT) for code in (408, 409, 429, 500)),
        *((status(code), NOT_READY, TRANSIENT) for code in (502, 504)),
        (status(503), NOT_READY, NOT_READY),
        (status(500, "Model m is currently loading"), NOT_READY, NOT_READY),  # transformers#32665
        (status(500, "loading the tokenizer failed"), TRANSIENT, TRANSIENT),
        (status(400, "model is loading"), FINAL, FINAL),
        (status(503, "Request running timeout reached."), FINAL, FINAL),
        (status(503, "Request waiting timeout reached."), NOT_READY, NOT_READY),  # it was full
        (ServerUnreachable("refused"), NOT_READY, TRANSIENT),
        (APIConnectionError("broke"), TRANSIENT, TRANSIENT),
        (StreamInterrupted("broke"), TRANSIENT, TRANSIENT),
        (StreamTruncated("cut"), TRANSIENT, TRANSIENT),
        (GapTimeout("slow"), FINAL, FINAL),
        (APIResponseValidationError("odd"), FINAL, FINAL),
        (ConfigurationError("wrong"), FINAL, FINAL),
        (ValueError("anything"), FINAL, FINAL),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_an_error_means(error: Exception, cold: ErrorKind, warm: ErrorKind) -> None:
    states: list[tuple[State, ErrorKind]] = [("unknown", cold), ("waiting", cold), ("ready", warm)]
    for state, kind in states:
        assert classify(error, state) is kind


@pytest.mark.parametrize(("code", "full"), [(429, True), (503, True), (500, False)])
def test_what_says_that_a_replica_is_full(code: int, full: bool) -> None:
    assert is_saturated(status(code)) is full
    assert not is_saturated(ServerUnreachable("refused"))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after-ms": "-1"}, 0.0),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after-ms": "soon"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": email.utils.formatdate(1030, usegmt=True)}, 30.0),
        ({"retry-after": email.utils.formatdate(900, usegmt=True)}, 0.0),
        ({"retry-after": "Thu, 99 Jan 1970 00:00:00 GMT"}, None),
        ({"retry-after": "Thu, 01 Jan 1970 00:17:10"}, 30.0),  # RFC 9110: a date is in GMT
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, now=1000.0) == seconds


def test_a_date_is_compared_with_the_present() -> None:
    assert retry_after({"retry-after": email.utils.formatdate(0, usegmt=True)}) == 0.0


def test_only_an_answer_can_ask_for_patience() -> None:
    assert requested_wait(status(429, retry_after="7")) == 7.0
    assert requested_wait(status(429)) is None
    assert requested_wait(APIStatusError("in a stream", status_code=429)) is None
    assert requested_wait(ServerUnreachable("refused")) is None


@given(st.integers(0, 20), st.floats(0, 1e6))
def test_the_back_off_is_bounded_and_the_tries_are_counted(max_retries: int, now: float) -> None:
    budget = TransientBudget(RetryPolicy(max_retries=max_retries), started=0.0)
    for attempt in range(max_retries):
        wait = budget.next_wait(StreamInterrupted("broke"), now)
        assert wait is not None
        assert 0 <= wait <= min(MAX_BACKOFF, FIRST_BACKOFF * 2**attempt)
    assert budget.next_wait(StreamInterrupted("broke"), now) is None
    assert budget.failures == max_retries + 1


def test_the_back_off_is_jittered_over_its_whole_width() -> None:
    waits = [TransientBudget(RetryPolicy(), 0.0).next_wait(StreamInterrupted("x"), 0.0) or 0.0 for _ in range(400)]
    assert min(waits) < 0.2 * FIRST_BACKOFF
    assert max(waits) > 0.8 * FIRST_BACKOFF


@given(st.floats(0, 2 * RETRY_AFTER_CAP))
def test_a_servers_wish_is_honoured_or_the_error_is_raised(wish: float) -> None:
    wait = TransientBudget(RetryPolicy(), 0.0).next_wait(status(429, retry_after=repr(wish)), 0.0)
    if wish > RETRY_AFTER_CAP:
        assert wait is None  # openai-python#3555
    else:
        assert wait is not None
        assert wait >= wish


def test_tenacitys_objects_decide_when_they_are_given() -> None:
    seen: list[Any] = []

    def wait(state: Any) -> float:
        seen.append((state.attempt_number, state.outcome.exception(), state.seconds_since_start))
        return 2.5

    error = StreamInterrupted("broke")
    budget = TransientBudget(RetryPolicy(9, wait=wait, stop=tenacity.stop_after_attempt(2)), started=10.0)
    assert budget.next_wait(error, 14.0) == 2.5
    assert seen == [(1, error, 4.0)]
    assert budget.next_wait(error, 15.0) is None
    late = TransientBudget(RetryPolicy(9, stop=tenacity.stop_after_delay(30)), started=0.0)
    assert late.next_wait(error, 29.0) is not None
    assert late.next_wait(error, 31.0) is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"max_retries": -1}, "max_retries must be an integer of 0 or more"),
        ({"max_retries": True}, "max_retries"),
        ({"max_retries": 1.0}, "max_retries"),
        ({"wait": 3}, "wait must be callable"),
        ({"stop": 3}, "stop must be callable"),
        ({"retry_after_cap": -1}, "retry_after_cap"),
        ({"retry_after_cap": float("nan")}, "retry_after_cap"),
        ({"retry_after_cap": "60"}, "retry_after_cap"),
        ({"retry_after_cap": True}, "retry_after_cap"),
    ],
)
def test_a_policy_that_cannot_work(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        RetryPolicy(**arguments)


def test_a_total_that_ends_first_says_so() -> None:
    assert "the call's total of 5 s ends before" in str(deadline_exceeded(5.0))
    assert "the call's total ends before" in str(deadline_exceeded(None))
    assert "the call's total of 5 s ended while it waited for a turn" in str(wait_exceeded(5.0, "for a turn"))
    assert "the call's total ended while it waited for a turn" in str(wait_exceeded(None, "for a turn"))
