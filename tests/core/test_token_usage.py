"""Token counts of several requests."""

from __future__ import annotations

from typing import Any

from homing.core.telemetry.token_usage import sum_usage, with_total_usage
from homing.types import ChatCompletion, CompletionUsage


def usage(**counts: Any) -> CompletionUsage:
    return CompletionUsage.model_validate({"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7, **counts})


def test_sums() -> None:
    full = usage(prompt_tokens_details={"cached_tokens": 4}, completion_tokens_details={"reasoning_tokens": 1})
    total = sum_usage([full, full])
    assert total is not None
    assert (total.prompt_tokens, total.completion_tokens, total.total_tokens, total.cached_tokens) == (10, 4, 14, 8)
    assert total.completion_tokens_details is not None
    assert total.completion_tokens_details.reasoning_tokens == 2


def test_unknown_is_not_zero() -> None:
    # sglang#28801
    total = sum_usage([usage(prompt_tokens_details={"cached_tokens": 4}, reasoning_tokens=3), usage()])
    assert total is not None
    assert (total.cached_tokens, total.completion_tokens_details) == (None, None)
    assert sum_usage([usage(), None]) is None
    assert sum_usage([]) is None


def test_a_reply_with_the_counts_of_all() -> None:
    whole = with_total_usage(ChatCompletion(choices=[], usage=usage()), [usage(), usage()])
    assert whole.usage is not None
    assert whole.usage.total_tokens == 14
