"""The simulation's table and plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

COLUMNS = {
    "cached_share": ("cached share of prompt tokens", "{:.1%}"),
    "moved_per_event": ("sessions moved by a change", "{:.2%}"),
    "least_possible": ("least possible", "{:.2%}"),
    "sessions_p99": ("sessions on a replica, p99 / mean", "{:.2f}"),
    "sessions_max": ("max / mean", "{:.2f}"),
    "prefill_mean": ("prefill of a replica, tokens/s: mean", "{:,.0f}"),
    "prefill_p99": ("p99", "{:,.0f}"),
    "prefill_max": ("max", "{:,.0f}"),
}


def table(runs: Sequence[Mapping[str, Any]]) -> str:
    """Return the runs as a Markdown table."""
    lines = [
        "| policy | " + " | ".join(title for title, _ in COLUMNS.values()) + " |",
        "|---|" + "---|" * len(COLUMNS),
    ]
    for run in runs:
        cells = ["–" if run[name] is None else form.format(run[name]) for name, (_, form) in COLUMNS.items()]
        lines.append(f"| {run['policy']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def plot(result: Mapping[str, Any], path: Path) -> bool:
    """Draw shares over cache sizes, and the imbalance; return False without matplotlib."""
    try:
        import matplotlib as mpl
    except ModuleNotFoundError:
        return False
    mpl.use("Agg")
    mpl.rcParams["svg.fonttype"] = "none"
    mpl.rcParams["svg.hashsalt"] = "homing"  # the same picture for the same figures
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4))
    for place, name in enumerate(dict.fromkeys(run["policy"] for run in result["sweep"])):
        runs = [run for run in result["sweep"] if run["policy"] == name]
        style = {"marker": "os^vDx"[place % 6], "linestyle": ("-", "--", ":")[place % 3], "label": name}
        left.plot([run["pool"] for run in runs], [100 * run["cached_share"] for run in runs], **style)
    left.set_xscale("log", base=2)
    left.xaxis.set_major_formatter("{x:g}")
    left.set_xlabel("a replica's cache, times what its sessions need")
    left.set_ylabel("% of prompt tokens from a cache")
    left.set_ylim(0, 100)
    left.legend(fontsize=8)
    names = [run["policy"] for run in result["runs"]]
    for shift, name in ((-0.27, "mean"), (0.0, "p99"), (0.27, "max")):
        values = [run[f"prefill_{name}"] / 1_000 for run in result["runs"]]
        right.barh([place + shift for place in range(len(names))], values, 0.27, label=name)
    right.set_yticks(range(len(names)), names)
    right.invert_yaxis()
    right.set_xscale("log")
    right.xaxis.set_major_formatter("{x:g}")
    right.set_xlabel("prefill of a replica, thousand tokens a second")
    right.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    return True
