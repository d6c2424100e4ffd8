"""Many inputs, one after another, each a function of the seed and its number."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from .inputs import generate
from .kept import KEPT
from .readers import check

LONGEST = 1_000
"""Characters of a report; ``--again`` shows the input."""


@dataclass(frozen=True)
class Case:
    """An input that showed a fault. ``name`` makes it again."""

    name: str
    data: bytes
    error: Exception

    def __str__(self) -> str:
        return f"{self.name}: {type(self.error).__name__}: {self.error}"[:LONGEST]


def run(*, seed: int, numbers: range) -> Iterator[Case | None]:
    """Check the kept inputs and then those with these numbers; yield the fault in each, None where there is none."""
    for name, data in KEPT.items():
        yield tried(name, data)
    for number in numbers:
        name = f"{seed}/{number}"
        yield tried(name, generate(random.Random(name)))


def tried(name: str, data: bytes) -> Case | None:
    """Check one input."""
    try:
        check(data, random.Random(f"cuts {name}"))
    except Exception as error:  # noqa: BLE001 - whatever it is, it should not be
        return Case(name, data, error)
    return None
