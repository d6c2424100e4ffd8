"""Turns the turns of an affinity benchmark into figures, a table and a plot. Pure, but for the plot's file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any


@dataclass(slots=True)
class Measured:
    """One turn. Times in seconds; tokens as the engine counted them."""

    conversation: int
    turn: int
    replica: str | None = None
    first_token: float | None = None
    duration: float | None = None
    gaps: list[float] = field(default_factory=list)
    prompt: int = 0
    cached: int = 0
    completion: int = 0
    error: str | None = None


def quantile(values: Iterable[float], share: float) -> float | None:
    """Return the value below which ``share`` of them lie (nearest rank), None of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


def milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(1_000 * seconds, 1)


def quantiles(values: Sequence[float], *shares: float) -> dict[str, float | None]:
    return {f"p{100 * share:g}": milliseconds(quantile(values, share)) for share in shares}


def summarise(turns: Sequence[Measured], *, wall: float, replicas: Sequence[str]) -> dict[str, Any]:
    """Return the figures of one run of one policy."""
    good = [turn for turn in turns if turn.error is None]
    prompt, cached = sum(t.prompt for t in good), sum(t.cached for t in good)
    served = Counter(t.replica for t in good)
    prefilled: Counter[str | None] = Counter()
    for turn in good:
        prefilled[turn.replica] += turn.prompt - turn.cached
    return {
        "turns": len(turns),
        "failed": len(turns) - len(good),
        "errors": sorted({t.error for t in turns if t.error})[:5],
        "wall_s": round(wall, 2),
        "prompt_tokens": prompt,
        "cached_tokens": cached,
        "cached_share": round(cached / prompt, 4) if prompt else 0.0,
        "best_share": best_share(good),
        "completion_tokens": sum(t.completion for t in good),
        "tokens_per_second": round(sum(t.completion for t in good) / wall, 1) if wall else 0.0,
        "ttft_ms": quantiles([t.first_token for t in good if t.first_token is not None], 0.5, 0.95, 0.99),
        "gap_ms": quantiles([gap for t in good for gap in t.gaps], 0.5, 0.95, 0.99),
        "turn_ms": quantiles([t.duration for t in good if t.duration is not None], 0.5, 0.95),
        "replicas": {r: {"turns": served[r], "prefilled": prefilled[r]} for r in replicas},
        "by_turn": [by_turn([t for t in good if t.turn == n]) | {"turn": n + 1} for n in range(depth(turns))],
    }


def depth(turns: Sequence[Measured]) -> int:
    return max((turn.turn for turn in turns), default=-1) + 1


def by_turn(turns: Sequence[Measured]) -> dict[str, Any]:
    prompt = sum(t.prompt for t in turns)
    return {
        "prompt_mean": round(mean(t.prompt for t in turns)) if turns else 0,
        "cached_share": round(sum(t.cached for t in turns) / prompt, 4) if prompt else 0.0,
        "ttft_ms": quantiles([t.first_token for t in turns if t.first_token is not None], 0.5, 0.95),
    }


def best_share(turns: Sequence[Measured]) -> float:
    """Return the cached share that one replica with boundless memory would have had.

    Every turn finds the prompt and reply of the one before, less the last token, whose KV
    is not computed; every first turn but one finds what all conversations share, which is
    the most that any first turn found.
    """
    first = [t for t in turns if t.turn == 0]
    found = max((t.cached for t in first), default=0) * max(len(first) - 1, 0)
    before = {(t.conversation, t.turn): t.prompt + t.completion - 1 for t in turns}
    found += sum(min(before.get((t.conversation, t.turn - 1), t.cached), t.prompt - 1) for t in turns if t.turn)
    prompt = sum(t.prompt for t in turns)
    return round(found / prompt, 4) if prompt else 0.0


HEADINGS = ("policy", "run", "cached", "of best", "tok/s", "TTFT p50", "p95", "gap p99", "wall s", "failed", "spread")


def table(runs: Sequence[Mapping[str, Any]]) -> str:
    """Return the runs as a Markdown table; times in ms."""
    rows = [HEADINGS]
    for run in runs:
        figures = run["figures"]
        spread = "/".join(str(load["turns"]) for load in figures["replicas"].values())
        best = figures["best_share"]
        rows.append(
            (
                run["policy"],
                str(run["repeat"] + 1),
                f"{figures['cached_share']:.1%}",
                f"{figures['cached_share'] / best:.1%}" if best else "-",
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


def shown(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def plot(result: Mapping[str, Any], path: Path) -> None:
    """Draw time to first token by turn, and what was cached. Needs ``pip install matplotlib``."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.2), width_ratios=[3, 2])
    policies = list(dict.fromkeys(run["policy"] for run in result["runs"]))
    for number, policy in enumerate(policies):
        runs = [run["figures"] for run in result["runs"] if run["policy"] == policy]
        color = f"C{number}"
        for share, style in (("p50", "-"), ("p95", "--")):
            turns = range(min(len(run["by_turn"]) for run in runs))
            points = [mean(run["by_turn"][turn]["ttft_ms"][share] or 0.0 for run in runs) for turn in turns]
            left.plot([turn + 1 for turn in turns], points, style, color=color, label=f"{policy} {share}")
        cached = [100 * run["cached_share"] for run in runs]
        low, high = mean(cached) - min(cached), max(cached) - mean(cached)
        right.bar(policy, mean(cached), yerr=[[low], [high]], color=color)
    best = mean(run["figures"]["best_share"] for run in result["runs"])
    right.axhline(100 * best, color="gray", linestyle=":", label="one boundless replica")
    left.set(xlabel="turn", ylabel="time to first token (ms)", yscale="log")
    right.set(ylabel="prompt tokens from the cache (%)", ylim=(0, 100))
    right.tick_params(axis="x", rotation=30)
    left.legend(fontsize=7, ncols=2)
    right.legend(fontsize=8)
    figure.suptitle(result["title"], fontsize=10)
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)
