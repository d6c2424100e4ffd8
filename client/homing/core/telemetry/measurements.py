"""What a reply cost and what it got from the cache. Informational only: no decision depends on it.

A single cold reading proves nothing (lossless-claw#358), so a verdict comes with its reason, and
what the server did not report stays unknown instead of zero (sglang#28801).
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

from ..text.control_characters import one_line

if TYPE_CHECKING:
    from ...types import CompletionUsage

REPLICA_HEADER = "x-homing-replica"
"""Set by Homing's server and edge on every reply, streams included."""

WARM_SHARE = 0.8
"""Share of the reusable prefix that must come from the cache for a turn to count as warm. Templates
re-render the end of the previous reply and engines cache whole pages, so 1.0 is never quite reached."""

Verdict = Literal["first", "warm", "cold", "moved", "prefix_changed", "unknown"]


@dataclass(slots=True)
class Telemetry:
    """The measurements of one reply. Times are in seconds; None means unknown, never zero."""

    verdict: Verdict = "unknown"
    """``first``: the first turn; ``warm``: the cache held the conversation; ``moved``: another replica
    answered, and its cache is not known to have been warm; ``cold``: the same (or an unknown) replica had
    lost it; ``prefix_changed``: edited or trimmed; ``unknown``: the server did not report it."""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    """Prompt tokens that came from the replica's cache; None if the server does not report it."""
    reusable_tokens: int | None = None
    """The most that could have come from the cache: the prompt of the previous turn. None after a trim."""
    replica: str | None = None
    """Which replica answered, if the server reports it."""
    time_to_first_token: float | None = None
    """From sending the successful attempt to its first content, reasoning or tool argument."""
    duration: float | None = None
    """From sending the successful attempt to the end of the reply."""
    gap_p50: float | None = None
    gap_p99: float | None = None
    """Median and 99th percentile of the times between two pieces of the reply."""
    waited: float = 0.0
    """Time spent waiting for a cold server."""
    attempts: int = 1
    retries: int = 0
    resumes: int = 0
    """How often the reply broke and was resumed. The token counts above then cover the turn's own prompt and
    the whole reply, if the server could count them."""
    prefix_tokens: int | None = None
    """How many prompt tokens the next prompt begins with, if not all of them: after a run of tools with
    reasoning in between, which later prompts leave out, or after a repaired answer."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Pickle's oldest protocols don't support slots, and an error may hold a reply.
        return type(self), tuple(getattr(self, one.name) for one in fields(self))

    @property
    def reuse(self) -> float | None:
        """``cached_tokens`` as a share of ``reusable_tokens``, at most 1; None if that is unknown."""
        if self.cached_tokens is None or not self.reusable_tokens:
            return None
        return min(1.0, self.cached_tokens / self.reusable_tokens)

    @property
    def lasting_tokens(self) -> int | None:
        """Prompt tokens that the next prompt begins with."""
        return self.prompt_tokens if self.prefix_tokens is None else self.prefix_tokens

    @property
    def tokens_per_second(self) -> float | None:
        """Generation speed after the first token."""
        if self.completion_tokens is None or self.duration is None or self.time_to_first_token is None:
            return None
        seconds = self.duration - self.time_to_first_token
        return (self.completion_tokens - 1) / seconds if seconds > 0 and self.completion_tokens > 1 else None

    def to_dict(self) -> dict[str, Any]:
        """Return the known fields as plain data."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Telemetry:
        """Read the result of `to_dict`. Fields of later versions are ignored."""
        return cls(**{name: data[name] for name in cls.__slots__ if name in data})


def replica_of(headers: Mapping[str, str]) -> str | None:
    """Return the name of the replica that answered, safe to display; None if the server doesn't send it."""
    name = headers.get(REPLICA_HEADER)
    return None if name is None else one_line(name)


class Stopwatch:
    """Times one attempt's stream, at the cost of one append for each piece of the reply."""

    __slots__ = ("_pieces", "started")

    def __init__(self, started: float) -> None:
        self.started = started
        self._pieces = array("d")

    def piece(self, now: float) -> None:
        """Record that content, reasoning or a tool argument came."""
        self._pieces.append(now)

    def fill(self, telemetry: Telemetry, now: float) -> None:
        """Write the measurements into ``telemetry``."""
        telemetry.duration = now - self.started
        pieces = self._pieces
        if not pieces:
            return
        telemetry.time_to_first_token = pieces[0] - self.started
        gaps = sorted(later - earlier for earlier, later in pairwise(pieces))
        if gaps:
            telemetry.gap_p50 = gaps[(len(gaps) - 1) // 2]
            telemetry.gap_p99 = gaps[(len(gaps) - 1) * 99 // 100]


@dataclass(slots=True)
class PreviousTurn:
    """What the previous turn left behind, to judge the next one by."""

    prompt_tokens: int | None = None
    replica: str | None = None
    prefix_changed: bool = False


def judge(telemetry: Telemetry, previous: PreviousTurn | None) -> Verdict:
    """Determine what happened to the cache between ``previous`` and this reply."""
    if previous is None:
        return "first"
    telemetry.reusable_tokens = previous.prompt_tokens
    if previous.prefix_changed:
        return "prefix_changed"
    if not previous.prompt_tokens:
        return "unknown"
    if (telemetry.reuse or 0.0) >= WARM_SHARE:
        return "warm"
    if telemetry.replica is not None and previous.replica is not None and telemetry.replica != previous.replica:
        # Known even if the count is not: SGLang 0.5.9 reports no number for zero cached tokens.
        return "moved"
    return "unknown" if telemetry.cached_tokens is None else "cold"


def note_usage(telemetry: Telemetry, usage: CompletionUsage | None) -> None:
    """Copy the token counts that the server reported."""
    if usage is None:
        return
    telemetry.prompt_tokens = usage.prompt_tokens
    telemetry.completion_tokens = usage.completion_tokens
    telemetry.cached_tokens = usage.cached_tokens


def sum_rounds(rounds: Sequence[Telemetry], *, prefix_tokens: int | None = None) -> Telemetry:
    """Return a turn's telemetry from that of its requests.

    The verdict is that of the first request, which shows whether the turn reached its warm replica. Waits,
    attempts, retries and resumes are summed. The rest is that of the last request: what the cache holds now.
    """
    return replace(
        rounds[-1],
        verdict=rounds[0].verdict,
        waited=sum(one.waited for one in rounds),
        attempts=sum(one.attempts for one in rounds),
        retries=sum(one.retries for one in rounds),
        resumes=sum(one.resumes for one in rounds),
        prefix_tokens=prefix_tokens,
    )


@dataclass(slots=True)
class Totals:
    """Sums over many replies, of one conversation or one client."""

    replies: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reported: int = 0
    """Replies for which the server reported cached tokens; ``cached_share`` covers only these."""
    reported_prompt_tokens: int = 0
    waited: float = 0.0
    retries: int = 0
    resumes: int = 0
    verdicts: dict[str, int] = field(default_factory=dict)

    @property
    def cached_share(self) -> float | None:
        """Cached tokens as a share of prompt tokens, or None if no server reported any."""
        return self.cached_tokens / self.reported_prompt_tokens if self.reported_prompt_tokens else None

    def add(self, telemetry: Telemetry) -> None:
        """Count one reply."""
        self.replies += 1
        self.prompt_tokens += telemetry.prompt_tokens or 0
        self.completion_tokens += telemetry.completion_tokens or 0
        if telemetry.cached_tokens is not None:
            self.reported += 1
            self.cached_tokens += telemetry.cached_tokens
            self.reported_prompt_tokens += telemetry.prompt_tokens or 0
        self.waited += telemetry.waited
        self.retries += telemetry.retries
        self.resumes += telemetry.resumes
        self.verdicts[telemetry.verdict] = self.verdicts.get(telemetry.verdict, 0) + 1
