"""Plots of a load's results. Needs ``pip install 'homing[plot]'``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import mean
from typing import Any

from homing.errors import ConfigurationError

FORMATS = (".png", ".svg")


def check_plot(path: Path) -> None:
    """Raise `ConfigurationError` if the plot can't be drawn: before the load runs, not after."""
    if path.suffix not in FORMATS:
        raise ConfigurationError(f"--plot {path}: the name must end with {' or '.join(FORMATS)}")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ConfigurationError("plots need matplotlib: pip install 'homing[plot]'") from None


def plot(result: Mapping[str, Any], path: Path) -> None:
    """Plot time to first token by turn and, if the server reports it, the cached share, as PNG or SVG.

    Raises `ConfigurationError` for any other suffix, or if matplotlib is missing.
    """
    check_plot(path)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2))
    left, right = figure.subplots(1, 2, width_ratios=[3, 2])
    policies = list(dict.fromkeys(run["policy"] for run in result["runs"]))
    for number, policy in enumerate(policies):
        runs = [run["figures"] for run in result["runs"] if run["policy"] == policy]
        color = f"C{number}"
        for share, style in (("p50", "-"), ("p95", "--")):
            turns = range(min(len(run["by_turn"]) for run in runs))
            points = [mean(run["by_turn"][turn]["ttft_ms"][share] or 0.0 for run in runs) for turn in turns]
            left.plot([turn + 1 for turn in turns], points, style, color=color, label=f"{policy} {share}")
        cached = [100 * run["cached_share"] for run in runs if run["cached_share"] is not None]
        if cached:
            low, high = mean(cached) - min(cached), max(cached) - mean(cached)
            right.bar(policy, mean(cached), yerr=[[low], [high]], color=color)
    best = [run["figures"]["best_share"] for run in result["runs"] if run["figures"]["best_share"] is not None]
    if best:
        right.axhline(100 * mean(best), color="gray", linestyle=":", label="one boundless replica")
        right.legend(fontsize=8)
    left.set(xlabel="turn", ylabel="time to first token (ms)", yscale="log")
    counted = "prompt tokens from the cache (%)" if best else "the server counts no cached tokens"
    right.set(ylabel=counted, ylim=(0, 100))
    right.tick_params(axis="x", rotation=30)
    left.legend(fontsize=7, ncols=2)
    figure.suptitle(result["title"], fontsize=10)
    figure.tight_layout()
    figure.savefig(path)
