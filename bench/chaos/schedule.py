"""Which fault strikes which request: a function of the seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from homing.testing import Fault

Dice = random.Random

STORM = "503 in storm "
"""How the log calls the faults of a storm, which count as one; its number follows."""
STORM_LENGTH = (10, 25)
"""503s in a row, shortest and longest storm."""


def _at(dice: Dice) -> int:
    return dice.randint(0, 10)  # chunks; a reply has about twenty


FAULTS: dict[str, tuple[int, Callable[[Dice, str], Fault]]] = {
    "kill": (8, lambda dice, name: Fault.kill(after_chunks=_at(dice), name=name)),
    "churn": (8, lambda dice, name: Fault.churn(after_chunks=_at(dice), name=name)),
    "TCP reset": (9, lambda dice, name: Fault.reset(after_chunks=_at(dice), name=name)),
    "truncated body": (8, lambda dice, name: Fault.truncate(after_chunks=_at(dice), name=name)),
    "cut in an event": (6, lambda dice, name: Fault.truncate(after_chunks=_at(dice), inside="event", name=name)),
    "cut in a character": (6, lambda dice, name: Fault.truncate(inside="character", name=name)),
    "cut in arguments": (5, lambda dice, name: Fault.truncate(inside="arguments", name=name)),
    "clean EOF": (8, lambda dice, name: Fault.eof(after_chunks=_at(dice), name=name)),
    "hang": (4, lambda dice, name: Fault.hang(after_chunks=_at(dice), name=name)),
    "hang before headers": (2, lambda dice, name: Fault.hang(before_headers=True, name=name)),
    "429": (7, lambda dice, name: Fault.rate_limited(retry_after=dice.choice([None, 0.01]), name=name)),
    "503": (7, lambda dice, name: Fault.overloaded(name=name)),
    "500": (4, lambda dice, name: Fault.answer(500, "Internal Server Error", name=name)),
    "HTML": (3, lambda dice, name: Fault.html(name=name)),
    "error with 200": (3, lambda dice, name: Fault.error_body(name=name)),
    "error in stream": (5, lambda dice, name: Fault.error_in_stream(after_chunks=_at(dice), name=name)),
    "error event": (4, lambda dice, name: Fault.error_event(after_chunks=_at(dice), name=name)),
    "malformed event": (5, lambda dice, name: Fault.malformed(after_chunks=_at(dice), name=name)),
    "NaN": (3, lambda dice, name: Fault.nan(after_chunks=_at(dice), name=name)),
    "slow": (5, lambda dice, name: Fault.slow(0.02, after_chunks=_at(dice), name=name)),
    "keep-alives only": (3, lambda dice, name: Fault.insert(b": ping\n\n", repeat=9, delay=0.02, name=name)),
    "byte order mark": (2, lambda dice, name: Fault.reframe("bom", name=name)),
    "CRLF": (2, lambda dice, name: Fault.reframe("crlf", name=name)),
    "CR": (2, lambda dice, name: Fault.reframe("cr", name=name)),
    "byte by byte": (2, lambda dice, name: Fault.reframe("bytewise", name=name)),
}
"""By name: how often, and how."""


def schedule(*, seed: int, faults: int, storms: int, requests: int) -> Iterator[Fault]:
    """Yield the faults to arm, in order: each strikes one of the first ``requests`` requests, no request meets two.

    A fault does not count the requests that those before it strike, so its ``nth`` is its place less their number.
    The rows of a storm come in one place, one behind the other, and move what follows.
    """
    dice = random.Random(f"faults {seed}")
    names, weights = list(FAULTS), [weight for weight, _ in FAULTS.values()]
    plan: list[list[str]] = [[name] for name in dice.choices(names, weights, k=faults)]
    plan += [[f"{STORM}{number}"] * dice.randint(*STORM_LENGTH) for number in range(storms)]
    dice.shuffle(plan)
    places = sorted(dice.sample(range(1, requests + 1), len(plan)))
    for before, (place, group) in enumerate(zip(places, plan, strict=True)):
        for name in group:
            nth = place - before
            if name.startswith(STORM):
                yield Fault.overloaded(name=name).model_copy(update={"nth": nth})
            else:
                yield FAULTS[name][1](dice, name).model_copy(update={"nth": nth})
