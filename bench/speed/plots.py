"""A run's results as plots. Needs matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .results import Results

OURS, THEIRS = "#1b7f5a", "#b8bec4"


def draw(results: Results, folder: Path) -> list[Path]:
    """Write the plots there is data for as SVG; return their paths."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "homing"  # the same run gives the same bytes
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for name, title, figure, unit in (
        ("event", "CPU per streamed event, async, flat out", "event.async.flat", "µs (log)"),
        ("streams", "CPU for 300 streams × 50 events/s", "streams.300.each", "µs an event"),
        ("concurrency", "64 requests at once", "concurrency.per_cpu", "requests per CPU second"),
        ("request", "CPU of one request, sync", "request.sync", "µs"),
        ("cold", "Requests of 200 waiters in a real cold start", "cold.real.requests", "requests (log)"),
    ):
        if results.peers(figure):
            made.append(_bars(results, figure, title, unit, folder / f"{name}.svg"))
    if results.peers("history.1000"):
        made.append(_history(results, folder / "history.svg"))
    return made


def _bars(results: Results, figure: str, title: str, unit: str, file: Path) -> Path:
    import matplotlib.pyplot as plt

    medians = {peer: results.median(figure, peer) or 0.0 for peer in results.peers(figure)}
    peers = sorted(medians, key=lambda peer: medians[peer])
    drawing, axes = plt.subplots(figsize=(7, 0.6 + 0.34 * len(peers)))
    colours = [OURS if peer.startswith("homing") else THEIRS for peer in peers]
    bars = axes.barh(peers, [medians[peer] for peer in peers], color=colours)
    axes.bar_label(bars, fmt=lambda value: f"{value:,.3g}", padding=3, fontsize=8)
    if "log" in unit:
        axes.set_xscale("log")
    axes.margins(x=0.15)
    axes.invert_yaxis()
    _finish(axes, title, unit)
    return _save(drawing, file)


def _history(results: Results, file: Path) -> Path:
    import matplotlib.pyplot as plt

    drawing, axes = plt.subplots(figsize=(7, 3.6))
    sizes = (10, 100, 1000)
    for peer in results.peers("history.1000"):
        times = [results.median(f"history.{size}", peer) for size in sizes]
        ours = peer.startswith("homing")
        axes.plot(sizes, times, marker="o", label=peer, color=OURS if ours else None, linewidth=2.2 if ours else 1.2)
    axes.set(xscale="log", yscale="log", xlabel="messages of 1,000 characters in the request")
    axes.legend(fontsize=8, frameon=False)
    _finish(axes, "CPU of the next turn", "ms")
    axes.set_ylabel("ms")
    axes.set_xlabel("messages of 1,000 characters in the request")
    return _save(drawing, file)


def _finish(axes: Any, title: str, unit: str) -> None:
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlabel(unit, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def _save(drawing: Any, file: Path) -> Path:
    import matplotlib.pyplot as plt

    drawing.tight_layout()
    drawing.savefig(file, metadata={"Date": None})
    plt.close(drawing)
    # matplotlib leaves blanks at line ends, which git complains of.
    file.write_text("\n".join(line.rstrip() for line in file.read_text().splitlines()) + "\n")
    return file
