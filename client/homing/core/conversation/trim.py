"""Which turns a prompt leaves out when a conversation outgrows the model's context.

A window that slides by one turn each turn changes the beginning of every prompt, which invalidates everything
that the replica has cached (kern-ai#295, nanobot#4568). With two watermarks, many turns go at once, but rarely: a
prompt above ``high`` is cut down to ``low``, then grows on an unchanged prefix until it is above ``high`` again.

Only whole turns go, oldest first, so a tool call never loses its result (Cogtrix#130). The system prompt stays.
Only the prompt is trimmed; the history keeps everything.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ...errors import ConfigurationError, ContextWindowExceeded
from .prompt_size import BYTES_PER_TOKEN
from .transcript import Transcript

LOW_SHARE: Final = 0.5
"""``low`` as a share of ``high``. Each trim costs one prefill of ``low`` tokens on a cold cache. At one half, this
happens once per ``high / 2`` tokens of conversation, while the prompts in between add up to many times that. A
lower mark would forget more for little gain; a higher one would trim more often."""

# "… longer than the model's context length (512 tokens)", "maximum context length of 512 tokens" (SGLang),
# "maximum context length is 8192 tokens" (OpenAI, vLLM).
_LIMIT: Final = re.compile(r"context length(?: is| of)?\s*\(?(\d+)", re.IGNORECASE)
# "The input (6011 tokens)", "300 tokens from the input messages" (SGLang), "resulted in 9000 tokens",
# "(8000 in the messages, …)" (OpenAI).
_PROMPT: Final = re.compile(
    r"input \((\d+) tokens\)|(\d+) tokens from the input|resulted in (\d+) tokens|\((\d+) in the messages",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trim:
    """Keep prompts within ``high`` tokens by occasionally leaving out the oldest turns.

    A prompt that exceeds ``high`` is cut down to ``low``. A prompt that the server rejects as too long is trimmed
    and sent once more. Tokens are estimated from the server's own count for the turn before, so no tokenizer is
    needed.

    Args:
        high: The most tokens for a prompt. It should leave room for the reply: the model's context length less
            ``max_tokens``. If None, nothing is trimmed until the server rejects a prompt.
        low: The tokens to cut a prompt down to. Half of ``high`` by default.

    Raises:
        ConfigurationError: A value is not a positive integer, or ``low`` is given without a larger ``high``.
    """

    high: int | None = None
    low: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("high", self.high), ("low", self.low)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ConfigurationError(f"Trim's {name} must be a number of tokens, at least 1, got {value!r}")
        if self.low is not None and (self.high is None or self.low >= self.high):
            raise ConfigurationError(
                f"Trim(high={self.high}, low={self.low}): low goes with a high above it, such as its half"
            )

    def start(self, transcript: Transcript, new: int, *, upto: int | None, start: int) -> int:
        """Return the index of the first turn that the next prompt should include.

        Args:
            transcript: The conversation so far.
            new: The weight of the prompt's new messages.
            upto: The index of the turn that the new one replaces; None to append.
            start: The index of the first turn in the prompt before.
        """
        if self.high is None:
            return start
        prompt = _Prompt(transcript, new, upto, _bytes_per_token(transcript, upto))
        if prompt.tokens(start) <= self.high:
            return start
        low = self.low or max(1, int(self.high * LOW_SHARE))
        return prompt.cut(start, low, enough=self.high)

    def start_after(
        self,
        refusal: ContextWindowExceeded,
        transcript: Transcript,
        new: int,
        *,
        upto: int | None,
        start: int,
        params: Mapping[str, Any],
    ) -> int | None:
        """Return the first turn to include in a retry after ``refusal``, or None if trimming can't help.

        Args:
            refusal: The server's error, whose message may state the prompt's size and the limit in tokens.
            transcript: The conversation so far.
            new: The weight of the prompt's new messages.
            upto: The index of the turn that the new one replaces; None to append.
            start: The index of the first turn in the rejected prompt.
            params: The request's parameters. Their token limit is reserved for the reply.
        """
        said = str(refusal)
        counted, limit = _PROMPT.search(said), _LIMIT.search(said)
        prompt = _Prompt(transcript, new, upto, _bytes_per_token(transcript, upto))
        if counted:
            tokens = int(counted[counted.lastindex or 1])
            prompt = _Prompt(transcript, new, upto, prompt.weight(start) / max(1, tokens))
        room: float = prompt.tokens(start) - 1
        if limit:
            reserved = params.get("max_completion_tokens") or params.get("max_tokens") or 0
            room = int(limit[1]) - reserved - 1
        low = min(room * LOW_SHARE, self.low or math.inf)
        cut = prompt.cut(start, low, enough=room)
        return cut if cut > start and prompt.tokens(cut) <= room else None


class _Prompt:
    """The size of the next prompt, by the turn that it begins with."""

    def __init__(self, transcript: Transcript, new: int, upto: int | None, bytes_per_token: float) -> None:
        self._turns: Sequence[int] = [turn.weight for turn in transcript.turns[:upto]]
        self._rest = transcript.head_weight + new
        self._bytes_per_token = bytes_per_token

    def weight(self, start: int) -> int:
        return self._rest + sum(self._turns[start:])

    def tokens(self, start: int) -> float:
        return self.weight(start) / self._bytes_per_token

    def cut(self, start: int, low: float, *, enough: float) -> int:
        """Return the first turn with which the prompt fits ``low``. The last turn stays if it fits ``enough``."""
        last = len(self._turns) - 1
        while start <= last and self.tokens(start) > low and not (start == last and self.tokens(start) <= enough):
            start += 1
        return start


def _bytes_per_token(transcript: Transcript, upto: int | None) -> float:
    """Return the bytes per token in the latest prompt that the server counted."""
    turns = transcript.turns[:upto]
    for number in range(len(turns) - 1, -1, -1):
        turn = turns[number]
        if turn.telemetry.prompt_tokens:
            weight = transcript.head_weight + sum(before.weight for before in turns[turn.start : number])
            return (weight + turn.asked_weight) / turn.telemetry.prompt_tokens
    return BYTES_PER_TOKEN
