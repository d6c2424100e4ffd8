"""Token counts of a turn that took several requests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ...types.completion import ChatCompletion
from ...types.usage import CompletionTokensDetails, CompletionUsage, PromptTokensDetails


def sum_usage(usages: Iterable[CompletionUsage | None]) -> CompletionUsage | None:
    """Return the sum. A count that one request left unknown is unknown in the sum too, never zero."""
    known = list(usages)
    counts = [usage for usage in known if usage is not None]
    if not counts or len(counts) < len(known):
        return None
    cached = _sum([usage.cached_tokens for usage in counts])
    reasoning = _sum(
        [
            usage.reasoning_tokens if usage.completion_tokens_details is None
            else usage.completion_tokens_details.reasoning_tokens
            for usage in counts
        ]
    )  # fmt: skip
    return CompletionUsage(
        prompt_tokens=sum(usage.prompt_tokens for usage in counts),
        completion_tokens=sum(usage.completion_tokens for usage in counts),
        total_tokens=sum(usage.total_tokens for usage in counts),
        prompt_tokens_details=None if cached is None else PromptTokensDetails(cached_tokens=cached),
        completion_tokens_details=None if reasoning is None else CompletionTokensDetails(reasoning_tokens=reasoning),
    )


def with_total_usage(completion: ChatCompletion, rounds: Iterable[CompletionUsage | None]) -> ChatCompletion:
    """Return the last reply of a turn with the total usage of all its requests."""
    return completion.model_copy(update={"usage": sum_usage(rounds)})


def _sum(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None
