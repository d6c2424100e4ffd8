"""64 tasks that ask for 2 KB answers as fast as they can."""

from __future__ import annotations

from ..bench import Bench

FIELD = ["homing", "homing, uvloop", "floor", "aiohttp", "httpx", "httpx2", "openai3", "litellm"]


def run(bench: Bench) -> None:
    """Requests for each second of CPU (on a shared machine steadier than on the clock), and their times."""
    with bench.workers() as workers:
        bench.interleave(
            workers,
            "64 requests at once",
            FIELD,
            {"what": "concurrent", "path": "json-2000", "tasks": 64, "requests": 640 if bench.quick else 1280},
            {
                "concurrency.rate": lambda answer: answer["rate"],
                "concurrency.per_cpu": lambda answer: answer["rate"] * answer["wall"] / answer["cpu"],
                "concurrency.p50": lambda answer: answer["p50"] * 1e3,
                "concurrency.p99": lambda answer: answer["p99"] * 1e3,
                "concurrency.tail": lambda answer: answer["p99"] / answer["p50"],
            },
            warm_up={"requests": 128},
        )
