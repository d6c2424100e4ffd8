"""Homing on several Pythons, in turn: CPU of a streamed event and of a request, in microseconds.

    python bench/pythons.py INTERPRETER [INTERPRETER …]

Each interpreter has Homing installed, as those that `make test-lowest test-newest` leave under
.cache/environments. Which dependencies it has decides as well: they are named.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "bench"))
sys.path.insert(0, str(ROOT / "bench" / "loopback"))

from launch import pin_apart, running  # noqa: E402  # type: ignore[import-not-found]
from speed.workers import Worker  # noqa: E402  # type: ignore[import-not-found]

ROUNDS = 9
ORDERS = {
    "an event, sync": ("streams", {"path": "burst-1000", "times": 4}),
    "an event, async": ("astreams", {"path": "burst-1000", "times": 4}),
    "a request, sync": ("requests", {"path": "json-2000", "times": 100}),
    "a request, async": ("arequests", {"path": "json-2000", "times": 100}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("interpreters", nargs="+", metavar="INTERPRETER")
    interpreters = parser.parse_args().interpreters
    cpu = pin_apart()
    figures: dict[tuple[str, str], list[float]] = defaultdict(list)
    with running(cpu=cpu) as origin, ExitStack() as stack:
        workers = {}
        for interpreter in interpreters:
            workers[interpreter] = Worker("homing", origin, None, interpreter=interpreter)
            stack.callback(workers[interpreter].close)
        for turn in range(ROUNDS + 1):
            for interpreter, worker in workers.items():
                for name, (what, order) in ORDERS.items():
                    answer = worker.do(what, **order)
                    if turn:  # the first warms up
                        count = answer.get("texts") or answer["times"]
                        figures[interpreter, name].append(answer["cpu"] / count * 1e6)
        print(f"| | {' | '.join(ORDERS)} | with |\n|---|{'---:|' * len(ORDERS)}---|")
        for interpreter, worker in workers.items():
            versions = worker.do("versions")
            row = " | ".join(f"{median(figures[interpreter, name]):.3g}" for name in ORDERS)
            packages = ", ".join(f"{name} {versions[name]}" for name in ("httpx", "pydantic"))
            print(f"| Python {versions['python']} | {row} | {packages} |")


if __name__ == "__main__":
    main()
