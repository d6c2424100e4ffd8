"""What one writer says, and how: a function of the seed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

Kind = Literal["send", "stream", "events", "run", "run_stream", "stop", "drop", "cancel", "cancel_send"]

KINDS: dict[Kind, int] = {"send": 28, "stream": 38, "events": 8, "run": 8, "run_stream": 6, "stop": 6}
TASK_KINDS: dict[Kind, int] = {**KINDS, "cancel": 4, "cancel_send": 4}
"""How often of what: tasks can be cancelled, threads cannot."""
DROPS: dict[Kind, int] = {"drop": 5}
"""Readers that leave a stream without closing it while another turn of the conversation waits for them."""
IN_CYCLES = 0.5
"""Share of dropped streams that only the collector can free."""
ARMED = 0.5
"""Share of the turns on a main thread into which a signal is sent. Some turns are over before it comes."""

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
    signal: Literal["SIGINT", "SIGALRM"] | None = None
    """What strikes it, on a main thread."""
    in_cycle: bool = False
    """Whether a stream that is dropped sits in a reference cycle."""
    waiter: Line | None = None
    """What waits for the floor while a stream is dropped."""


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
    struck: bool = False
    """Whether signals come: on the main thread."""

    def lines(self) -> Iterator[tuple[str, Line]]:
        """Yield conversations and what to say in them, until in each the target is acknowledged."""
        order = random.Random(f"{self.seed} {self.writer}")
        while left := [name for name, progress in self.progress.items() if progress.acknowledged < self.target]:
            name = order.choice(left)
            progress = self.progress[name]
            line = self._line(name, progress.number)
            progress.number += 1 if line.waiter is None else 2
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
        line = Line(turn, kind, f"{turn} {words}", dice.randint(1, 12), dice.random() * 0.3)
        if kind == "drop":
            after = f"{conversation}.{self.writer}.{number + 1}"
            waiter = Line(after, "send", f"{after} and?", 0, 0.0)
            return replace(line, in_cycle=dice.random() < IN_CYCLES, waiter=waiter)
        if self.struck and dice.random() < ARMED:
            return replace(line, signal=dice.choice(["SIGINT", "SIGALRM"]))
        return line
