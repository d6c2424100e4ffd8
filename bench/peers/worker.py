"""Measures one stack, in its own environment: one JSON order a line in, one JSON answer a line out.

    python worker.py STACK[:CLASS] ORIGIN [CPU]

The runner keeps one worker for each peer and gives them orders in turn, so that all meet the
machine in the same moods. Needs nothing but the standard library and the peer.
"""

import asyncio
import gc
import importlib
import importlib.metadata
import inspect
import json
import os
import sys
import traceback
from pathlib import Path

# Not the directory of this file: stacks/aiohttp.py must not be found as `aiohttp`.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from peers import measures  # noqa: E402


class Loops:
    """One event loop of each kind, and a stack for each: async clients belong to their loop."""

    def __init__(self, make):
        self._make = make
        self._made = {}
        self.stack = make()

    def run(self, kind, measure, **order):
        if kind not in self._made:
            if kind == "uvloop":
                import uvloop

                loop = uvloop.new_event_loop()
            else:
                loop = asyncio.new_event_loop()
            self._made[kind] = loop, self._make()
        loop, stack = self._made[kind]
        asyncio.set_event_loop(loop)
        return loop.run_until_complete(measure(stack, **order))

    def close(self):
        for loop, stack in self._made.values():
            loop.run_until_complete(stack.aclose())


def version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def versions(packages):
    found = {package: version(package) for package in packages}
    return {"python": sys.version.split()[0]} | {name: number for name, number in found.items() if number}


def perform(loops, packages, order):
    do = order.pop("do")
    if do == "versions":
        return versions(packages)
    gc.collect()
    measure, loop = getattr(measures, do), order.pop("loop", "asyncio")
    if inspect.iscoroutinefunction(measure):
        return loops.run(loop, measure, **order)
    return measure(loops.stack, **order)


def main():
    stack, origin, *cpu = sys.argv[1:]
    if cpu:
        os.sched_setaffinity(0, {int(cpu[0])})
    # What a library prints belongs to the log, not between the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    module, _, name = stack.partition(":")
    peer = importlib.import_module(f"peers.stacks.{module}")
    loops = Loops(lambda: getattr(peer, name or "Stack")(origin))
    for line in sys.stdin:
        try:
            answer = {"ok": perform(loops, peer.PACKAGES, json.loads(line))}
        except Exception as error:  # noqa: BLE001  # it is told to the runner
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)
    loops.close()


if __name__ == "__main__":
    main()
