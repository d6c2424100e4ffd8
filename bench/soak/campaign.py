"""One soak: an edge with a little of every fault, a client process, and what it says of itself."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from chaos import oracle
from chaos.schedule import FAULTS

from homing.testing import Edge, EdgeSettings

from .sample import Sample, problems

REPLICAS = 4
COLD_START = 0.3
LOG = 1_000
"""Requests that the edge remembers: it has to stay flat too."""
FAULT_CHANCE = 0.01
"""That a request meets a fault of one kind, before weights: about one request in twenty meets any."""


@dataclass(frozen=True)
class Plan:
    """How much, and for how long. ``rounds`` is the least; ``pause`` the mean before a turn, in seconds."""

    conversations: int = 200
    turns: int = 5
    seconds: float = 1800.0
    rounds: int = 0
    pause: float = 3.0
    trace: bool = True
    patience: float = 1.0
    seed: int = 1


@dataclass
class Result:
    """How it went."""

    samples: list[Sample] = field(default_factory=list)
    turns: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    faults: int = 0


def run(plan: Plan, folder: Path, *, heard: Callable[[Sample], object] = lambda sample: None) -> Result:
    """Soak; ``heard`` is called with each sample."""
    settings = EdgeSettings.instant(
        replicas=REPLICAS, cold_start=COLD_START, keep_requests=False, log_size=LOG, seed=plan.seed
    )
    result = Result()
    with Edge(settings) as edge:
        edge.answer_with(oracle.answer)
        dice = random.Random(f"soak {plan.seed}")
        most = max(weight for weight, _ in FAULTS.values())
        for number, (name, (weight, make)) in enumerate(FAULTS.items()):
            always = {"times": None, "probability": FAULT_CHANCE * weight / most, "seed": plan.seed + number}
            edge.inject(make(dice, name).model_copy(update=always))
        orders = {**asdict(plan), "url": edge.url, "path": str(folder.resolve() / "chats.db")}
        process = subprocess.Popen(
            [sys.executable, "-m", "soak.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": _path()},
        )
        try:
            with process:
                assert process.stdin is not None
                assert process.stdout is not None
                with process.stdin as stdin:
                    stdin.write(json.dumps(orders).encode())
                ended = False
                for line in process.stdout:
                    ended = _take(json.loads(line), result, heard) or ended
        finally:
            process.kill()
        result.faults = sum(record.fault is not None for record in edge.log)
    if not ended:
        result.problems.append(f"the client process ended with {process.returncode}")
    result.problems += problems(result.samples)
    return result


def _take(entry: Mapping[str, Any], result: Result, heard: Callable[[Sample], object]) -> bool:
    facts = {name: value for name, value in entry.items() if name not in ("what", "turn")}
    if entry["what"] == "sample":
        result.samples.append(Sample(**facts))
        heard(result.samples[-1])
    elif entry["what"] == "turns":
        result.turns.update(facts)
    elif entry["what"] == "end":
        result.problems += [f"left over: {leak}" for leak in facts["leaks"]]
    else:
        result.problems.append(f"stray: {facts['error']}")
    return bool(entry["what"] == "end")


def _path() -> str:
    return os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")]))
