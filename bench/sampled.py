"""Where Homing's own time goes: samples of one load, by part of the code.

    python bench/sampled.py [SCENE]

Scenes: streams, requests, concurrent; without one, all of them. A timer of the process's CPU time
rings each millisecond and notes which function runs; C code and system calls count for the Python
function that makes them. Needs nothing but Homing. (One stream at 1,000 events a second sleeps between
the clock's ticks, so there is nothing to sample.)
"""

from __future__ import annotations

import argparse
import asyncio
import inspect
import resource
import signal
import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "bench"))
sys.path.insert(0, str(ROOT / "bench" / "loopback"))

from launch import pin_apart, running  # noqa: E402  # type: ignore[import-not-found]
from peers import measures  # noqa: E402  # type: ignore[import-not-found]
from peers.stacks.homing import Stack  # noqa: E402  # type: ignore[import-not-found]

TICK = 0.001
ENDLESS = 1_000_000_000
SCENES: dict[str, tuple[str, dict[str, Any]]] = {
    "streams": ("paced", {"path": f"paced-{ENDLESS}-50", "count": 300, "warm_up": 1.2, "window": 5.0}),
    "requests": ("requests", {"path": "json-2000", "times": 3000}),
    "concurrent": ("concurrent", {"path": "json-2000", "tasks": 64, "requests": 6000}),
}
PARTS = (
    ("homing/core", "decisions: framing, events, timers, telemetry"),
    ("homing/_", "the shell: sockets, streams, attempts"),
    ("homing", "types and faces"),
    ("httpx", "httpx: requests, responses, URLs"),
    ("httpcore", "httpcore"),
    ("pydantic", "pydantic"),
    ("asyncio", "the event loop"),
    ("selectors", "the event loop"),
    ("bench", "the load itself"),
)


class Sampler:
    """Counts what runs while it is on."""

    def __init__(self) -> None:
        self.functions: Counter[str] = Counter()
        self.parts: Counter[str] = Counter()

    def __enter__(self) -> Sampler:
        signal.signal(signal.SIGPROF, self._note)
        signal.setitimer(signal.ITIMER_PROF, TICK, TICK)
        return self

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)

    def _note(self, _: int, frame: FrameType | None) -> None:
        if frame is not None:
            code = frame.f_code
            self.functions[f"{Path(code.co_filename).stem}.{code.co_name}"] += 1
            self.parts[part_of(code.co_filename)] += 1


def part_of(file: str) -> str:
    path = file.rpartition("site-packages/")[2] if "site-packages/" in file else file
    for name, part in PARTS:
        if f"/{name}" in f"/{path}":
            return part
    return "the rest of Python"


def profile(scene: str, origin: str) -> str:
    """Run one scene; return its table."""
    name, order = SCENES[scene]
    measure, stack = getattr(measures, name), Stack(origin)
    for _ in range(50):
        stack.request("json-2000")
    before = resource.getrusage(resource.RUSAGE_SELF)
    with Sampler() as sampler:
        if inspect.iscoroutinefunction(measure):
            asyncio.run(measure(stack, **order))
        else:
            measure(stack, **order)
    after = resource.getrusage(resource.RUSAGE_SELF)
    user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
    kernel, total = system / (user + system), sum(sampler.parts.values())
    lines = [f"{scene}: {user + system:.2f} s of CPU, {kernel:.0%} of it in the kernel", ""]
    lines += [f"  {count / total:5.1%}  {part}" for part, count in sampler.parts.most_common()]
    lines += ["", *(f"  {count / total:5.1%}  {name}" for name, count in sampler.functions.most_common(12))]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", nargs="*", metavar="SCENE", help="default: all")
    scenes = parser.parse_args().scenes or list(SCENES)
    if unknown := set(scenes) - set(SCENES):
        parser.error(f"no such scene: {min(unknown)} (there are {', '.join(SCENES)})")
    cpu = pin_apart()
    with running(cpu=cpu) as origin:
        print("\n\n".join(profile(scene, origin) for scene in scenes))


if __name__ == "__main__":
    main()
