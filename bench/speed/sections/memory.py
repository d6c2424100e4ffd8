"""What an open stream takes, and what an idle conversation takes."""

from __future__ import annotations

from ..bench import Bench
from ..workers import own

FIELD = ["homing", "aiohttp", "httpx", "httpx2", "openai3", "litellm"]


def run(bench: Bench) -> None:
    """Fresh processes each round: what a process has once had, it keeps."""
    for _ in range(1 if bench.quick else 3):
        with bench.workers() as workers:
            bench.interleave(
                workers,
                "memory of open streams",
                FIELD,
                {"what": "held", "path": "hold-5", "count": 300},
                {"memory.stream": lambda answer: answer["bytes"] / 1024},
                rounds=1,
                warm_up={"count": 1},
            )
    if bench.chosen(["homing"]):
        for _ in range(1 if bench.quick else 3):
            idle = own("idle", "1000" if bench.quick else "10000")
            bench.results.add("memory.idle", "homing", idle["bytes"] / idle["text"])
            bench.results.add("memory.conversation", "homing", idle["bytes"] / idle["conversations"] / 1024)
