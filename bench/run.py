"""How fast Homing is beside its peers: one interleaved run, a table, plots, and a verdict on every goal.

    python bench/run.py [--quick] [--sections events,requests] [--peers homing,openai3] [--publish]

The peers live in environments of their own under .cache/bench, made when first needed. Only ratios
from one run mean anything. Exits with 1 when a goal that was measured is missed, or a measurement failed.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "bench"))
sys.path.insert(0, str(ROOT / "bench" / "loopback"))

from launch import pin_apart, running  # noqa: E402  # type: ignore[import-not-found]
from speed import plots, report  # noqa: E402  # type: ignore[import-not-found]
from speed.bench import Bench  # noqa: E402  # type: ignore[import-not-found]
from speed.environments import HERE, PEERS  # noqa: E402  # type: ignore[import-not-found]
from speed.goals import judge  # noqa: E402  # type: ignore[import-not-found]

SECTIONS = ["events", "streams", "requests", "concurrency", "imports", "memory", "framing", "cold"]
PAGE = ROOT / "docs" / "performance.md"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three rounds, less of everything: under two minutes")
    parser.add_argument("--rounds", type=int, help="default: 9, quick: 3")
    parser.add_argument("--sections", default=",".join(SECTIONS), help="which, separated by commas")
    parser.add_argument("--peers", default="", help="which, separated by commas; default: all")
    parser.add_argument("--here", action="store_true", help="no environments of their own: only to see that it runs")
    parser.add_argument("--out", type=Path, default=ROOT / ".cache" / "bench" / "results")
    parser.add_argument("--publish", action="store_true", help="put tables and plots into docs/performance.md")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    sections = options.sections.split(",")
    if options.here:
        HERE.update(peer.environment for peer in PEERS.values())
    unknown = set(sections) - set(SECTIONS)
    if unknown:
        raise SystemExit(f"no such section: {min(unknown)} (there are {', '.join(SECTIONS)})")
    cpu = pin_apart()
    with running(cpu=cpu) as origin:
        bench = Bench(
            origin,
            cpu=None if cpu is None else str(min(os.sched_getaffinity(0))),
            quick=options.quick,
            rounds=options.rounds or (3 if options.quick else 9),
            only=frozenset(filter(None, options.peers.split(","))),
        )
        bench.results.about["rounds"] = bench.rounds
        bench.results.about["server"] = "the server on a core of its own" if cpu else "server and client on one core"
        bench.make_environments(list(PEERS))
        for name in sections:
            began = time.perf_counter()
            try:
                importlib.import_module(f"speed.sections.{name}").run(bench)
            except Exception as error:  # noqa: BLE001  # what the others have measured must not be lost
                bench.results.failures[name] = repr(error)
            print(f"{name}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    verdicts = judge(bench.results)
    options.out.mkdir(parents=True, exist_ok=True)
    bench.results.save(options.out / "results.json")
    text = report.whole(bench.results, verdicts)
    (options.out / "report.md").write_text(text)
    print(text)
    try:
        plots.draw(bench.results, ROOT / "docs" / "images" / "performance" if options.publish else options.out)
    except ImportError:
        print("no plots: they need matplotlib (pip install -r requirements/bench.txt)", file=sys.stderr)
    if options.publish:
        report.publish(PAGE, report.sections(bench.results, verdicts))
    return 1 if bench.results.failures or any(verdict.met is False for verdict in verdicts) else 0


if __name__ == "__main__":
    sys.exit(main())
