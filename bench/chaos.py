"""Chaos: conversations of many clients under faults of every kind, and an audit of every single turn.

    python bench/chaos.py                                   # 10,000 turns, 2,000 faults: minutes
    python bench/chaos.py --turns 300 --faults 80 --conversations 12 --workers 2 --kills 3 --strikes forks drops

Client processes (threads with the sync client, tasks with the async one) talk to a local edge and keep
their conversations in one SQLite file. A seeded schedule strikes requests; replicas die; clients are
killed with SIGKILL in the middle of turns and started again. Signals whose handlers raise strike turns on main
threads, processes fork whatever they are doing and the children talk too, readers drop streams without closing them
while another turn waits, the garbage collector runs at almost any allocation, and a tenth of the conversations go
through a balancer with sticky cookies. A turn that takes ten times its limit has hung: its process shows all stacks
and ends. Then the audit: what was acknowledged is
stored exactly once, in order, as it was streamed and as the engine says it; what was not is absent or
whole; nothing is left open. Exits with 1 when it finds anything, or when there was less of it than asked.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from pathlib import Path

from chaos.campaign import STRIKES, Campaign, Plan
from chaos.report import lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=10_000, help="to be acknowledged, in all")
    parser.add_argument("--faults", type=int, default=2_000, help="to show, at least")
    parser.add_argument("--conversations", type=int, default=200)
    parser.add_argument("--workers", type=int, default=4, help="client processes")
    parser.add_argument("--lanes", type=int, default=5, help="threads and tasks of each")
    parser.add_argument("--kills", type=int, default=40, help="of client processes")
    parser.add_argument("--storms", type=int, default=10, help="rows of 503s")
    parser.add_argument("--outages", type=int, default=20, help="replicas taken away from outside")
    parser.add_argument(
        "--strikes", nargs="*", choices=STRIKES, default=STRIKES, help="what else befalls the clients (default: all)"
    )
    parser.add_argument("--limit", type=float, default=5.0, help="seconds that a turn may take")
    parser.add_argument("--seed", type=int, default=1)
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # it warns of each write to a client that is gone
    plan = Plan(**vars(parser.parse_args()))
    with tempfile.TemporaryDirectory() as folder:
        report = Campaign(plan, Path(folder)).run()
    print("\n".join(lines(report)))
    return 0 if report.passed else 1


if __name__ == "__main__":
    sys.exit(main())
