"""The results of two routing policies under the same load, side by side. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .figures import percent

NAMES: Mapping[str, str] = {"affinity": "with affinity", "none": "without"}
Figures = Mapping[str, Any]


def side_by_side(sides: Mapping[str, Figures]) -> list[tuple[str, ...]]:
    """Return a table with a column per side and a row per measurement."""
    figures = list(sides.values())
    rows: list[tuple[str, ...]] = [("", "", *(NAMES.get(name, name) for name in sides))]
    rows.append(("turns", "", *(str(one["turns"]) for one in figures)))
    rows.append(("  failed", "", *(str(one["failed"]) for one in figures)))
    for title, key, shares in (
        ("time to first token", "ttft_ms", ("p50", "p95", "p99")),
        ("between tokens", "gap_ms", ("p50", "p95", "p99")),
        ("whole turn", "turn_ms", ("p50", "p95")),
    ):
        for number, share in enumerate(shares):
            rows.append((title if number == 0 else "", share, *(_milliseconds(one[key][share]) for one in figures)))
    rows.append(("throughput", "", *(f"{one['tokens_per_second']:.1f} tokens/s" for one in figures)))
    rows.append(("prompt tokens cached", "", *(_share(one["cached_share"]) for one in figures)))
    rows.append(("  at best", "", *(_share(one["best_share"]) for one in figures)))
    replicas = sorted({replica for one in figures for replica in one["replicas"]})
    return rows + [(f"turns on {r}", "", *(_turns(one["replicas"].get(r)) for one in figures)) for r in replicas]


def conclusion(sides: Mapping[str, Figures]) -> list[str]:
    """Return sentences that sum up the comparison, or none if only one side was run."""
    if not {"affinity", "none"} <= sides.keys():
        return []
    kept, lost = sides["affinity"], sides["none"]
    said = []
    if kept["cached_share"] is None or lost["cached_share"] is None:
        said.append(
            "The server counts no cached tokens, so what its caches gave is unknown "
            "(SGLang: --enable-cache-report, vLLM: --enable-prompt-tokens-details)."
        )
    else:
        shares = f"{percent(kept['cached_share'])} of the prompt tokens came from a cache"
        said.append(f"With affinity {shares}, without it {percent(lost['cached_share'])}.")
    if not kept["replicas"]:
        said.append("Replies do not say which replica they are from.")
    ratios = [
        f"{_ratio(kept['tokens_per_second'], lost['tokens_per_second'])} the throughput",
        *(f"{_ratio(kept['ttft_ms'][p], lost['ttft_ms'][p])} the time to first token at {p}" for p in ("p50", "p95")),
    ]
    said.append(f"With affinity to without: {', '.join(ratios)}.")
    return said


def mistakes(sides: Iterable[Figures]) -> list[str]:
    """Return the distinct errors that turns ended with."""
    return sorted({error for one in sides for error in one["errors"]})


def _milliseconds(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1f} ms"


def _share(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1%}"


def _turns(load: Mapping[str, Any] | None) -> str:
    return str(load["turns"] if load else 0)


def _ratio(one: float | None, other: float | None) -> str:
    return f"{one / other:.2f}×" if one and other else "unknown ×"
