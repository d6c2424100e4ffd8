"""CPU per streamed event, one stream at a time."""

from __future__ import annotations

from typing import Any

from ..bench import Bench
from ..environments import PEERS

PEERS_HERE = [
    "homing", "homing, text", "homing, events", "floor", "aiohttp", "httpx", "httpx2", "openai3", "openai2", "litellm",
]  # fmt: skip
SLOW = {"litellm", "openai2", "openai3"}


def run(bench: Bench) -> None:
    """Flat out in big reads, flat out with a write for each event, and at 1,000 events a second."""
    scale = 1 if bench.quick else 4
    for name, path, times in (
        ("flat", "burst-1000", scale),
        ("each", "each-1000", scale),
        ("paced", f"paced-{125 * scale}-1000", 1),
    ):
        for mode, measure in (("sync", "streams"), ("async", "astreams")):
            peers = [peer for peer in PEERS_HERE if mode == "async" or PEERS[peer].sync]
            if name == "each":
                peers = [peer for peer in peers if peer not in SLOW]  # what they spend does not depend on it
            if name == "paced":
                few = ("homing", "floor", "aiohttp", "openai3")
                peers = [peer for peer in peers if peer in few or not (bench.quick or peer in ("litellm", "openai2"))]
            with bench.workers() as workers:
                bench.interleave(
                    workers,
                    f"events, {name}, {mode}",
                    peers,
                    {"what": measure, "path": path, "times": times},
                    {f"event.{mode}.{name}": microseconds},
                    warm_up={"path": "burst-500", "times": 1},
                )


def microseconds(answer: Any) -> float:
    return float(answer["cpu"] / answer["texts"] * 1e6)
