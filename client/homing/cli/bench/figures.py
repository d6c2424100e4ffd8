"""Summarises the turns of a load in figures and tables. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean
from typing import Any


@dataclass(slots=True)
class Measured:
    """One turn. Times are in seconds, tokens as counted by the engine."""

    conversation: int
    turn: int
    replica: str | None = None
    first_token: float | None = None
    duration: float | None = None
    gaps: list[float] = field(default_factory=list)
    prompt: int = 0
    cached: int | None = None
    """None if the server didn't report it."""
    completion: int = 0
    error: str | None = None


def quantile(values: Iterable[float], share: float) -> float | None:
    """Return the value below which ``share`` of ``values`` lie (nearest rank), or None if there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


def milliseconds(seconds: float | None) -> float | None:
    """Convert seconds to milliseconds, rounded to a tenth."""
    return None if seconds is None else round(1_000 * seconds, 1)


def quantiles(values: Sequence[float], *shares: float) -> dict[str, float | None]:
    """Return quantiles in milliseconds by name, such as ``p50``."""
    return {f"p{100 * share:g}": milliseconds(quantile(values, share)) for share in shares}


def reports_cache(turns: Iterable[Measured]) -> bool:
    """Return whether the server counts cached tokens.

    A server that did so for any turn does so for all: SGLang 0.5.9 and vLLM omit the count if it is zero.
    """
    return any(turn.cached is not None for turn in turns)


def summarise(
    turns: Sequence[Measured], *, wall: float, replicas: Sequence[str] | None = None, reported: bool | None = None
) -> dict[str, Any]:
    """Return the figures of one run of one policy, or of several runs together.

    Args:
        turns: The measured turns.
        wall: Seconds that they took altogether.
        replicas: All replicas, including those that served nothing; None for those in ``turns``.
        reported: Whether the server counts cached tokens; None to find out from ``turns``. If it doesn't,
            the figures that depend on the count are None, because unknown is not zero.
    """
    good = [turn for turn in turns if turn.error is None]
    reported = reports_cache(good) if reported is None else reported
    prompt, cached = sum(t.prompt for t in good), sum(t.cached or 0 for t in good)
    if replicas is None:
        replicas = sorted({turn.replica for turn in good if turn.replica is not None})
    served = Counter(t.replica for t in good)
    prefilled: Counter[str | None] = Counter()
    for turn in good:
        prefilled[turn.replica] += turn.prompt - (turn.cached or 0)
    return {
        "turns": len(turns),
        "failed": len(turns) - len(good),
        "errors": sorted({t.error for t in turns if t.error})[:5],
        "wall_s": round(wall, 2),
        "prompt_tokens": prompt,
        "cached_tokens": cached if reported else None,
        "cached_share": share(cached, prompt) if reported else None,
        "best_share": best_share(good) if reported else None,
        "completion_tokens": sum(t.completion for t in good),
        "tokens_per_second": round(sum(t.completion for t in good) / wall, 1) if wall else 0.0,
        "ttft_ms": quantiles([t.first_token for t in good if t.first_token is not None], 0.5, 0.95, 0.99),
        "gap_ms": quantiles([gap for t in good for gap in t.gaps], 0.5, 0.95, 0.99),
        "turn_ms": quantiles([t.duration for t in good if t.duration is not None], 0.5, 0.95),
        "replicas": {r: {"turns": served[r], "prefilled": prefilled[r] if reported else None} for r in replicas},
        "by_turn": [
            by_turn([t for t in good if t.turn == n], reported=reported) | {"turn": n + 1} for n in range(depth(turns))
        ],
    }


def share(part: int, whole: int) -> float:
    """Return ``part`` as a share of ``whole``, or 0 if that is zero."""
    return round(part / whole, 4) if whole else 0.0


def depth(turns: Sequence[Measured]) -> int:
    """Return the number of turns in the longest conversation."""
    return max((turn.turn for turn in turns), default=-1) + 1


def by_turn(turns: Sequence[Measured], *, reported: bool) -> dict[str, Any]:
    """Return the figures of the same turn of all conversations."""
    cached, prompt = sum(t.cached or 0 for t in turns), sum(t.prompt for t in turns)
    return {
        "prompt_mean": round(mean(t.prompt for t in turns)) if turns else 0,
        "cached_share": share(cached, prompt) if reported else None,
        "ttft_ms": quantiles([t.first_token for t in turns if t.first_token is not None], 0.5, 0.95),
    }


def best_share(turns: Sequence[Measured]) -> float:
    """Return the cached share that a single replica with unlimited memory would reach.

    Every later turn finds the prompt and reply of the previous turn, except the last token, whose
    KV isn't computed. Every first turn but one finds what all conversations share: the most
    that any first turn found.
    """
    first = [t for t in turns if t.turn == 0]
    found = max((t.cached or 0 for t in first), default=0) * max(len(first) - 1, 0)
    before = {(t.conversation, t.turn): t.prompt + t.completion - 1 for t in turns}
    found += sum(min(before.get((t.conversation, t.turn - 1), t.cached or 0), t.prompt - 1) for t in turns if t.turn)
    prompt = sum(t.prompt for t in turns)
    return share(found, prompt)


HEADINGS = ("policy", "run", "cached", "of best", "tok/s", "TTFT p50", "p95", "gap p99", "wall s", "failed", "spread")


def table(runs: Sequence[Mapping[str, Any]]) -> str:
    """Return the runs as a Markdown table, with times in ms."""
    rows: list[tuple[str, ...]] = [HEADINGS]
    for run in runs:
        figures = run["figures"]
        spread = "/".join(str(load["turns"]) for load in figures["replicas"].values())
        best = figures["best_share"]
        rows.append(
            (
                run["policy"],
                str(run["repeat"] + 1),
                percent(figures["cached_share"]),
                percent(figures["cached_share"] / best) if best else "-",
                f"{figures['tokens_per_second']:g}",
                *(shown(figures["ttft_ms"][p]) for p in ("p50", "p95")),
                shown(figures["gap_ms"]["p99"]),
                f"{figures['wall_s']:g}",
                str(figures["failed"]),
                spread,
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    padded = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]
    lines = [f"| {' | '.join(row)} |" for row in padded]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def percent(value: float | None) -> str:
    """Format a share for a table."""
    return "-" if value is None else f"{value:.1%}"


def shown(value: float | None) -> str:
    """Format a number for a table."""
    return "-" if value is None else f"{value:g}"
