"""The goals, and whether a run meets them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .results import Results


@dataclass(frozen=True)
class Goal:
    """``measured`` reads a run's results; ``limit`` is the most it may be, or the least if ``at_least``."""

    number: int
    text: str
    measured: Callable[[Results], float | None]
    limit: float
    at_least: bool = False

    def verdict(self, results: Results) -> Verdict:
        """Say what became of it."""
        value = self.measured(results)
        if value is None:
            return Verdict(self, None, None)
        return Verdict(self, value, value >= self.limit if self.at_least else value <= self.limit)


@dataclass(frozen=True)
class Verdict:
    """``met`` is None where a run has not measured it."""

    goal: Goal
    value: float | None
    met: bool | None


def ratio(figure: str, peer: str, other: str) -> Callable[[Results], float | None]:
    return lambda results: results.ratio(figure, peer, other)


def median(figure: str, peer: str = "homing") -> Callable[[Results], float | None]:
    return lambda results: results.median(figure, peer)


def worst_regret(results: Results) -> float | None:
    """Return the largest share of the allowed regret (2 % of the wait and 0.3 s) that is used up."""
    shares = []
    for start in (3.0, 10.0, 37.3, 120.0, 600.0, 1200.0):
        worst = results.median(f"cold.simulated.{start}.worst", "homing")
        if worst is not None:
            shares.append(worst / (0.02 * start + 0.3))
    return max(shares, default=None)


def real_regret(results: Results) -> float | None:
    worst = results.median("cold.real.worst", "homing")
    start = results.about.get("cold_real_s")
    return None if worst is None or start is None else worst / (0.02 * start + 0.3)


def largest_growth(results: Results) -> float | None:
    growths = [results.least(figure, "homing") for figure in results.values if figure.endswith(".growth")]
    return max((growth for growth in growths if growth is not None), default=None)


def goals() -> list[Goal]:
    made = []
    for mode in ("sync", "async"):
        flat, paced = f"event.{mode}.flat", f"event.{mode}.paced"
        made += [
            Goal(1, f"an event flat out, {mode}: openai3 / Homing", ratio(flat, "openai3", "homing"), 20, True),
            Goal(1, f"an event at 1,000/s, {mode}: openai3 / Homing", ratio(paced, "openai3", "homing"), 4, True),
            Goal(1, f"an event flat out, {mode}: Homing / floor", ratio(flat, "homing", "floor"), 3),
        ]
    share, flood = "streams.300.each", "streams.flood.rate"
    made += [
        Goal(2, "300 streams × 50/s, CPU: Homing / aiohttp", ratio(share, "homing", "aiohttp"), 1.0),
        Goal(2, "the same with uvloop under Homing", ratio(share, "homing, uvloop", "aiohttp"), 0.9),
        Goal(2, "the same, added p99, ms", median("streams.300.p99"), 2.0),
        Goal(2, "500 streams × 50/s, share of the events handled", median("streams.500.handled"), 0.98, True),
        Goal(2, "100 streams flat out, events: Homing / openai3", ratio(flood, "homing", "openai3"), 18, True),
    ]
    for mode in ("sync", "async"):
        request = f"request.{mode}"
        made.append(Goal(3, f"a request, {mode}: openai3 / Homing", ratio(request, "openai3", "homing"), 5, True))
    history = "history.1000"
    made += [
        Goal(3, "1 MB of messages, a list: openai3 / Homing", ratio(history, "openai3", "homing"), 100, True),
        Goal(
            3,
            "1 MB of messages, a conversation: openai3 / Homing",
            lambda results: _over(results.median(history, "openai3"), results.median(history, "homing, conversation")),
            100,
            True,
        ),
        Goal(
            4,
            "64 requests at once, requests per CPU: Homing / openai3",
            ratio("concurrency.per_cpu", "homing", "openai3"),
            7,
            True,
        ),
        Goal(4, "64 requests at once: p99 / p50", median("concurrency.tail"), 3),
        Goal(5, "import homing, ms above bare Python", median("import.cpu"), 10),
        Goal(5, "first Client(): Homing / httpx and pydantic", ratio("first_client.cpu", "homing", "httpx"), 1.15),
        Goal(6, "an open stream's memory: Homing / openai3", ratio("memory.stream", "homing", "openai3"), 0.5),
        Goal(6, "10,000 idle conversations: memory / text", median("memory.idle"), 2),
        Goal(7, "cold starts from 3 s to 20 min: regret / (2 % + 0.3 s)", worst_regret, 1),
        Goal(7, "a real cold start: regret / (2 % + 0.3 s)", real_regret, 1),
        Goal(
            7,
            "requests of 200 waiters at 37 s: the seed / Homing",
            ratio("cold.simulated.37.3.requests", "seed: 1 s polls", "homing"),
            20,
            True,
        ),
        Goal(7, "largest share of 200 released within 10 ms", median("cold.simulated.37.3.herd"), 0.1),
        Goal(8, "time a byte at 8 times the size / at the size", largest_growth, 2),
    ]
    return made


def _over(above: float | None, below: float | None) -> float | None:
    return above / below if above is not None and below else None


def judge(results: Results) -> list[Verdict]:
    """Return the verdict on every goal."""
    return [goal.verdict(results) for goal in goals()]
