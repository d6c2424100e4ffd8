"""A turn before it is sent: its messages, and its place in the conversation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ...errors import ConfigurationError, ContextWindowExceeded
from ..telemetry.measurements import PreviousTurn, Telemetry
from .transcript import Transcript, Turn, encode_and_weigh
from .trim import Trim


@dataclass(frozen=True, slots=True)
class PendingTurn:
    """What a turn will send. Its place is decided once it holds the turn lock."""

    new: Sequence[Mapping[str, Any]] | None = None
    """Its messages; None to repeat the request of the turn that it replaces."""
    at: int | Turn | None = None
    """The turn to replace, along with all later turns; None to append after the last."""
    record: bool = True

    def place(self, transcript: Transcript, trim: Trim | None) -> PromptPlan:
        """Decide on the prompt. Raises `ConfigurationError` if the turn to replace doesn't exist."""
        upto, start, asked = None, transcript.start(), list[dict[str, Any]]()
        if self.at is not None:
            upto = turn_number(transcript.turns, self.at)
            again = transcript.turns[upto]
            start, asked = again.start, again.asked  # the cache holds the beginning of its own prompt
        new = asked if self.new is None else [dict(message) for message in self.new]
        encoded, weights = encode_and_weigh(new)
        weight = sum(weights)
        if trim is not None:
            start = trim.start(transcript, weight, upto=upto, start=start)
        edited = upto is not None and self.new is not None
        return PromptPlan(transcript, new, encoded, weight, upto, start, trim, edited)


@dataclass(frozen=True, slots=True)
class PromptPlan:
    """Where a turn goes: after which turns, and which of them its prompt includes."""

    transcript: Transcript = field(repr=False)
    new: list[dict[str, Any]]
    encoded: tuple[bytes, ...] = field(repr=False)
    weight: int
    upto: int | None
    start: int
    trim: Trim | None
    edited: bool
    before: PreviousTurn | None = None
    """What an earlier request of the same turn left in the cache."""
    repairs: tuple[dict[str, Any], ...] = ()
    """Messages after ``new`` that the history does not keep."""

    def prompt(self) -> list[bytes]:
        """Return the prompt's encoded messages."""
        return [*self.transcript.prompt(upto=self.upto, start=self.start), *self.encoded]

    def previous(self) -> PreviousTurn | None:
        """Return what the cache should still hold. For a turn that is repeated, this is its own prompt."""
        if self.before is not None:
            return self.before
        if self.upto is not None and not self.edited:
            return self.transcript.previous(self.upto + 1, start=self.start)
        return self.transcript.previous(self.upto, start=self.start, edited=self.edited)

    def prefix(self, first: Telemetry) -> int | None:
        """Return how many tokens of the turn's last prompt the next one begins with, None for all of them.

        Later prompts leave out repairs, and the model's reasoning between two calls. ``first`` is the telemetry of
        the turn's first request.
        """
        if not self.repairs and not any(message.get("reasoning_content") for message in self.new):
            return None
        if self.upto is not None:  # results from the caller: the turn had begun before
            return self.transcript.turns[self.upto].telemetry.lasting_tokens
        return first.prompt_tokens

    def after(self, messages: Sequence[Mapping[str, Any]], telemetry: Telemetry, *, keeps: bool = True) -> PromptPlan:
        """Return the plan for the turn's next request, after the last one added ``messages``."""
        more = [dict(message) for message in messages]
        encoded, weights = encode_and_weigh(more)
        return replace(
            self,
            new=[*self.new, *more] if keeps else self.new,
            repairs=self.repairs if keeps else (*self.repairs, *more),
            encoded=self.encoded + encoded,
            weight=self.weight + sum(weights),
            before=PreviousTurn(telemetry.prompt_tokens, telemetry.replica),
        )

    def shortened(self, refusal: ContextWindowExceeded, params: Mapping[str, Any]) -> PromptPlan | None:
        """Return the plan with a shorter prompt, or None if it may not be trimmed or trimming can't help."""
        if self.trim is None:
            return None
        start = self.trim.start_after(
            refusal, self.transcript, self.weight, upto=self.upto, start=self.start, params=params
        )
        return None if start is None else replace(self, start=start)


def turn_number(turns: Sequence[Turn], wanted: int | Turn) -> int:
    """Return a turn's index. A negative ``wanted`` counts from the end. Raises `ConfigurationError`."""
    if isinstance(wanted, Turn):
        for number, turn in enumerate(turns):
            if turn is wanted or turn == wanted:
                return number
        raise ConfigurationError("this turn is not, or no longer, in the conversation: look at its turns")
    if isinstance(wanted, bool) or not isinstance(wanted, int):
        raise ConfigurationError(f"turn must be a number or one of the conversation's turns, got {wanted!r}")
    if not -len(turns) <= wanted < len(turns):
        raise ConfigurationError(
            f"there is no turn {wanted}: the conversation has {len(turns)}, counted from 0"
            if turns
            else "the conversation has no turns yet: send something first"
        )
    return wanted % len(turns)


def check_undo(turns: Sequence[Turn], n: int) -> tuple[list[Turn], tuple[Turn, ...]]:
    """Return the turns that stay and the ``n`` that go. Raises `ConfigurationError` if ``n`` is out of range."""
    if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= len(turns):
        raise ConfigurationError(
            f"undo(n={n!r}): n must be 1 to {len(turns)}, the number of turns"
            if turns
            else "there is nothing to undo: the conversation has no turns yet"
        )
    return list(turns[:-n]), tuple(turns[-n:])
