"""The total token usage of the requests for one reply."""

from __future__ import annotations

from ...types import CompletionUsage
from .measurements import Telemetry


class ResumedUsage:
    """Adds up the token counts of a reply that took several requests.

    A request that breaks reports no usage. What it generated is the text that the next one begins
    with, and ``begin`` receives its number of tokens. If that is unknown (None), the last report
    stands alone: measured, not guessed.
    """

    def __init__(self) -> None:
        self._begun: list[int | None] = []
        self._last: CompletionUsage | None = None

    def begin(self, tokens: int | None) -> None:
        """Record that a request continues after ``tokens`` tokens of the reply."""
        self._begun.append(tokens)

    def total(self, usage: CompletionUsage) -> CompletionUsage:
        """Return the usage of all requests together; ``usage`` is the report of the last one."""
        self._last = usage
        begun = [tokens for tokens in self._begun if tokens is not None]
        if len(begun) < len(self._begun):
            return usage
        own = usage.prompt_tokens - begun[-1]
        prompts = own * (len(begun) + 1) + sum(begun)
        completion = begun[-1] + usage.completion_tokens
        counts = {"prompt_tokens": prompts, "completion_tokens": completion, "total_tokens": prompts + completion}
        return usage.model_copy(update=counts)

    def fill(self, telemetry: Telemetry) -> None:
        """Write the token counts of the turn's own prompt and its whole reply into ``telemetry``.

        The partial reply is part of the last request's prompt. It is neither part of what the turn
        asked nor of what the next turn can expect in the cache.
        """
        begun = self._begun[-1] if self._begun else None
        if self._last is None or begun is None:
            return
        telemetry.prompt_tokens = own = self._last.prompt_tokens - begun
        telemetry.completion_tokens = begun + self._last.completion_tokens
        if telemetry.cached_tokens is not None:
            telemetry.cached_tokens = min(telemetry.cached_tokens, own)
