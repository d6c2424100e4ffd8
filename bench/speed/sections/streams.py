"""Many streams in one process: CPU share and added delay at a fixed pace, and events a second flat out."""

from __future__ import annotations

from ..bench import Bench

FIELD = ["homing", "homing, uvloop", "floor", "aiohttp", "aiohttp, uvloop"]
SATURATED = ["httpx", "openai3"]
FLOOD = ["homing", "homing, uvloop", "floor", "aiohttp", "httpx", "httpx2", "openai3"]
ENDLESS = 1_000_000_000


def run(bench: Bench) -> None:
    """300 and 500 streams of 50 events a second, and 100 that come as fast as they can."""
    few = 1 if bench.quick else 3
    for count, rounds in [(300, 1)] if bench.quick else [(300, bench.rounds), (500, few)]:
        window = 1.0 if bench.quick else 2.0
        order = {"what": "paced", "path": f"paced-{ENDLESS}-50", "count": count, "warm_up": 1.2, "window": window}
        name = f"streams.{count}"
        figures = {
            f"{name}.share": lambda answer: answer["share"],
            f"{name}.each": lambda answer: answer["each"] * 1e6,
            f"{name}.p50": lambda answer: answer["p50"],
            f"{name}.p99": lambda answer: answer["p99"],
            f"{name}.handled": lambda answer, count=count: answer["rate"] / (count * 50),
        }
        small = {"count": 20, "warm_up": 0.5, "window": 0.5}
        with bench.workers() as workers:
            bench.interleave(workers, f"{count} streams", FIELD, order, figures, rounds=rounds, warm_up=small)
        with bench.workers() as workers:
            bench.interleave(
                workers, f"{count} streams, saturated", SATURATED, order, figures, rounds=few, warm_up=small
            )
    with bench.workers() as workers:
        whole = "burst-100" if bench.quick else "burst-500"  # as many tokens as answers have
        for peers, path, times in ((FLOOD, whole, 2 * few), (["litellm"], "burst-100", 1)):
            bench.interleave(
                workers,
                "100 streams flat out",
                peers,
                {"what": "flood", "path": path, "count": 100},
                {"streams.flood.rate": lambda answer: answer["texts"] / answer["cpu"]},
                rounds=times,
                warm_up={"path": "burst-10"},
            )
