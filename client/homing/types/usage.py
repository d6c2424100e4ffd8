"""How many tokens a request used."""

from __future__ import annotations

from typing import Annotated

from .wire import NullMeans, WireModel

_Count = Annotated[int, NullMeans(int)]


class PromptTokensDetails(WireModel):
    """Breakdown of the prompt's tokens. Fields that the server didn't report are None."""

    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    audio_tokens: int | None = None
    image_tokens: int | None = None
    text_tokens: int | None = None


class CompletionTokensDetails(WireModel):
    """Breakdown of the generated tokens. Fields that the server didn't report are None."""

    reasoning_tokens: int | None = None
    audio_tokens: int | None = None
    text_tokens: int | None = None
    accepted_prediction_tokens: int | None = None
    rejected_prediction_tokens: int | None = None


class CompletionUsage(WireModel):
    """Token counts of one request, as the server reports them."""

    prompt_tokens: _Count = 0
    completion_tokens: _Count = 0
    total_tokens: _Count = 0
    prompt_tokens_details: PromptTokensDetails | None = None
    completion_tokens_details: CompletionTokensDetails | None = None
    # SGLang's own field for it; 0.5.9 always sends 0 here, even for a reply with reasoning.
    reasoning_tokens: int | None = None

    @property
    def cached_tokens(self) -> int | None:
        """Prompt tokens that came from the prefix cache, or None if unknown.

        None doesn't mean zero. SGLang reports the number only with ``--enable-cache-report``
        (sglang#28801). Even then, versions up to 0.5.9 send ``prompt_tokens_details: null`` for zero
        cached tokens, just as with reporting off. A single response cannot distinguish the two cases,
        so this stays None; a caller that has seen a number from the same server may treat a later
        null as zero. Newer versions send an object whenever reporting is on.
        """
        details = self.prompt_tokens_details
        return None if details is None else details.cached_tokens
