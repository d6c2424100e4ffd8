"""Soak: 200 conversations at once for half an hour, on threads and tasks, with a little of every fault.

    python bench/soak.py                                    # 30 minutes
    python bench/soak.py --seconds 60 --conversations 40 --pause 0.2

Each conversation is begun, talks, and is deleted; then come the next ones. Behind each round, when no turn
is running, the client process is looked at: resident memory, what tracemalloc and the garbage collector
know of, files, threads, tasks, connections. Exits with 1 when memory has grown by more than 5 % from the
first quarter behind the warm-up to the last, when anything else has grown, or when anything is left over.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from pathlib import Path

from soak.campaign import Plan, run
from soak.sample import MEMORY, Sample, growth


def show(sample: Sample) -> None:
    print(
        f"{sample.turns:8} turns  {sample.rss / 1e6:7.1f} MB resident  {sample.traced / 1e6:6.2f} MB traced  "
        f"{sample.objects} objects  {sample.blocks} blocks  {sample.files} files  {sample.threads} threads",
        flush=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    plan = Plan()
    parser.add_argument("--conversations", type=int, default=plan.conversations, help="at once")
    parser.add_argument("--turns", type=int, default=plan.turns, help="of each conversation")
    parser.add_argument("--seconds", type=float, default=plan.seconds)
    parser.add_argument("--rounds", type=int, default=plan.rounds, help="at least")
    parser.add_argument("--pause", type=float, default=plan.pause, help="mean seconds before a turn")
    parser.add_argument("--no-trace", dest="trace", action="store_false", help="without tracemalloc")
    parser.add_argument("--seed", type=int, default=plan.seed)
    plan = Plan(**vars(parser.parse_args()))
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # it warns of each write to a client that is gone
    with tempfile.TemporaryDirectory() as folder:
        result = run(plan, Path(folder), heard=show)
    print(f"turns: {', '.join(f'{count} {what}' for what, count in result.turns.most_common())}")
    print(f"faults: {result.faults} among the last requests")
    if result.samples:
        grown = growth(result.samples)
        print("growth behind the warm-up: " + ", ".join(f"{name} {grown[name]:+.2%}" for name in MEMORY))
    print("\n".join(result.problems) or "flat")
    return 1 if result.problems else 0


if __name__ == "__main__":
    sys.exit(main())
