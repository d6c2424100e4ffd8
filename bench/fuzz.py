"""A million random byte sequences through the event decoder, the chunk reader and the HTTP framing.

    python bench/fuzz.py                           # 1,000,000: minutes
    python bench/fuzz.py --count 20000 --seed 7
    python bench/fuzz.py --again 1/4711            # one of them, to look at

Each input is read whole and in pieces, and the event stream also by the standard's own algorithm: the
result must be the same, and nothing but Homing's own typed errors may be raised. Then the sizes at which
anything quadratic would show, with their times. Exits with 1 when a fault was found.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fuzz import campaign, inputs, sizes

SHOWN = 10
"""Faults after which it stops."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--again", help="the name of one input: show it, and what is wrong with it")
    options = parser.parse_args()
    if options.again:
        data = inputs.generate(random.Random(options.again))
        print(data, campaign.tried(options.again, data) or "nothing wrong", sep="\n")
        return 0
    began, tried, found = time.monotonic(), 0, []
    for case in campaign.run(seed=options.seed, numbers=range(options.count)):
        tried += 1
        if case is not None:
            found.append(case)
            print(case, flush=True)
            if len(found) == SHOWN:
                break
    print(f"{tried} inputs with seed {options.seed} in {time.monotonic() - began:.0f} s: {len(found)} faults")
    for name, read in sizes.SIZES.items():
        began = time.perf_counter()
        read(1.0)
        print(f"{name}: {time.perf_counter() - began:.2f} s")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
