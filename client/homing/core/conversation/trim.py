"""Which turns a prompt leaves out when a conversation outgrows the model's context.

A window that slides by one turn a turn changes the beginning of every prompt, and with it
the whole of what the replica has cached (kern-ai#295, nanobot#4568). With two water marks
many turns go at once, seldom: above ``high`` the prompt is cut down to ``low``, and then grows
on an unchanged prefix until it is above ``high`` again.

Only whole turns go, oldest first, so a tool call never loses its answer (Cogtrix#130), and
the system prompt stays. Nothing goes from the history: what is trimmed is the prompt.
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
"""``low`` as a share of ``high``. Each trim costs one prefill of ``low`` tokens on a cold cache. At a half
it is paid once for every ``high / 2`` tokens that are said, while the prompts in between add up to many times that;
a lower mark would forget more for little gain, a higher one would trim more often."""

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
    """Keep prompts below ``high`` tokens by leaving out the oldest turns, down to ``low``, once in a while.

    ``high`` should leave room for the reply: the model's context length less ``max_tokens``. ``low``
    is half of it by default. Without ``high`` nothing is trimmed until the server refuses a prompt as
    too long. Either way a refused prompt is trimmed and sent once more.

    Tokens are estimated from the server's own count for the turn before, so no tokenizer is needed.
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
        """Return the number of the first turn that the next prompt should hold.

        ``new`` is the weight of its new messages, ``start`` the number that the turn before had.
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
        """Return the first turn for another try after the server's ``refusal``, None if it would be in vain."""
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
    """The size of the next prompt, for each turn that it may begin with."""

    def __init__(self, transcript: Transcript, new: int, upto: int | None, bytes_per_token: float) -> None:
        self._turns: Sequence[int] = [turn.weight for turn in transcript.turns[:upto]]
        self._rest = transcript.head_weight + new
        self._bytes_per_token = bytes_per_token

    def weight(self, start: int) -> int:
        return self._rest + sum(self._turns[start:])

    def tokens(self, start: int) -> float:
        return self.weight(start) / self._bytes_per_token

    def cut(self, start: int, low: float, *, enough: float) -> int:
        """Return the first turn with which it is down to ``low``; the last turn stays if that is ``enough``."""
        last = len(self._turns) - 1
        while start <= last and self.tokens(start) > low and not (start == last and self.tokens(start) <= enough):
            start += 1
        return start


def _bytes_per_token(transcript: Transcript, upto: int | None) -> float:
    """Return how many bytes a token had in the latest prompt that the server has counted."""
    turns = transcript.turns[:upto]
    for number in range(len(turns) - 1, -1, -1):
        turn = turns[number]
        if turn.telemetry.prompt_tokens:
            weight = transcript.head_weight + sum(before.weight for before in turns[turn.start : number])
            return (weight + turn.asked_weight) / turn.telemetry.prompt_tokens
    return BYTES_PER_TOKEN
