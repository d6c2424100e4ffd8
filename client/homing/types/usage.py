"""How many tokens a request took."""

from __future__ import annotations

from typing import Annotated

from .wire import NullMeans, WireModel

_Count = Annotated[int, NullMeans(int)]


class PromptTokensDetails(WireModel):
    """Breakdown of the prompt's tokens. A field that was not reported is None."""

    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    audio_tokens: int | None = None
    image_tokens: int | None = None
    text_tokens: int | None = None


class CompletionTokensDetails(WireModel):
    """Breakdown of the generated tokens. A field that was not reported is None."""

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
    # SGLang's own place for it; 0.5.9 always says 0 here, even for a reply that reasoned.
    reasoning_tokens: int | None = None

    @property
    def cached_tokens(self) -> int | None:
        """Prompt tokens that came from the prefix cache, or None when that is not known.

        None is never zero. SGLang reports the number only with ``--enable-cache-report``
        (sglang#28801). Up to 0.5.9 it then sends ``prompt_tokens_details: null`` for zero
        cached tokens, which is also what it sends with reporting off, so one answer alone
        cannot tell the two apart and None it stays; a caller that has seen a number from
        the same server may read a later null as zero. Newer versions send an object
        whenever reporting is on.
        """
        details = self.prompt_tokens_details
        return None if details is None else details.cached_tokens
