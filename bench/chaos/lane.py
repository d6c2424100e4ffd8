"""What one writer says, and how: a function of the seed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["send", "stream", "events", "run", "run_stream", "stop", "cancel", "cancel_send"]

KINDS: dict[Kind, int] = {"send": 28, "stream": 38, "events": 8, "run": 8, "run_stream": 6, "stop": 6}
TASK_KINDS: dict[Kind, int] = {**KINDS, "cancel": 4, "cancel_send": 4}
"""How often of what: tasks can be cancelled, threads cannot."""

WORDS = ("homing", "Málaga", "鳩", "tide", "🕊️", "slate", "naïve", "rain", "神戸", "bell")


def system_prompt(conversation: str) -> str:
    """Return the system prompt, which makes the digests of a conversation its own."""
    return f"This is {conversation}."


@dataclass(frozen=True)
class Line:
    """One turn to come. Its id begins the question, and no other turn has it."""

    id: str
    kind: Kind
    question: str
    breaks_after: int
    """Texts after which the reader has enough, where ``kind`` says that it does."""
    patience: float
    """Seconds after which a ``cancel_send`` is cancelled."""


@dataclass
class Progress:
    """How far one writer has come in one conversation."""

    acknowledged: int = 0
    number: int = 0
    """Of the next turn. A turn that failed keeps its number; the next try is another turn."""


@dataclass
class Lane:
    """One thread or task: ``writer`` says ``target`` turns in each of its conversations."""

    writer: str
    seed: int
    target: int
    progress: dict[str, Progress]
    kinds: dict[Kind, int]

    def lines(self) -> Iterator[tuple[str, Line]]:
        """Yield conversations and what to say in them, until in each the target is acknowledged."""
        order = random.Random(f"{self.seed} {self.writer}")
        while left := [name for name, progress in self.progress.items() if progress.acknowledged < self.target]:
            name = order.choice(left)
            progress = self.progress[name]
            line = self._line(name, progress.number)
            progress.number += 1
            yield name, line

    def acknowledged(self, conversation: str) -> None:
        """Count a turn that was acknowledged."""
        self.progress[conversation].acknowledged += 1

    def _line(self, conversation: str, number: int) -> Line:
        turn = f"{conversation}.{self.writer}.{number}"
        dice = random.Random(f"{self.seed} {turn}")
        kind = dice.choices(list(self.kinds), list(self.kinds.values()))[0]
        words = " ".join(dice.sample(WORDS, dice.randint(1, 4)))
        if kind in ("run", "run_stream"):
            words = f"note {dice.randint(1, 3)} of {words}"
        return Line(turn, kind, f"{turn} {words}", dice.randint(1, 12), dice.random() * 0.3)
