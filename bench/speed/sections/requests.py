"""CPU of one request on a warm connection, and of one with a long history."""

from __future__ import annotations

from typing import Any

from ..bench import Bench
from ..environments import PEERS

FIELD = ["homing", "floor", "aiohttp", "httpx", "httpx2", "openai3", "openai2", "litellm"]
HISTORY = ["homing", "homing, conversation", "floor", "httpx", "httpx2", "openai3", "litellm"]
SIZES = (10, 100, 1000)
CHARACTERS = 1000


def run(bench: Bench) -> None:
    """2 KB answers; then the next turn of conversations of 10 to 1,000 messages of 1,000 characters."""
    for mode, measure in (("sync", "requests"), ("async", "arequests")):
        with bench.workers() as workers:
            bench.interleave(
                workers,
                f"one request, {mode}",
                [peer for peer in FIELD if mode == "async" or PEERS[peer].sync],
                {"what": measure, "path": "json-2000", "times": 25 if bench.quick else 100},
                {f"request.{mode}": microseconds},
                warm_up={"times": 10},
            )
    with bench.workers() as workers:
        for count in SIZES:
            answers: dict[str, Any] = {"what": "turns", "times": 3, "count": count, "characters": CHARACTERS}
            name = f"history.{count}"
            for peers, path in ((["homing, conversation"], "burst-1"), (HISTORY, "json-200")):
                bench.interleave(
                    workers,
                    f"history of {count} messages",
                    [peer for peer in peers if (peer == "homing, conversation") == (path == "burst-1")],
                    {**answers, "path": path},
                    {name: lambda answer: answer["cpu"] / 3 * 1e3},
                    warm_up={"times": 1},
                )


def microseconds(answer: Any) -> float:
    times = answer["times"]
    return float(answer["cpu"] / times * 1e6)
