"""Cold starts with 200 waiters: by simulation from 3 s to 20 min, and for real at 37 s."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from typing import Any

from ..bench import Bench
from ..environments import ROOT, python, variables
from ..workers import complain, own

WAITERS = 200
REAL = {
    "homing": ("homing", "homing"),
    "seed: 1 s polls": ("aiohttp", "polls"),
    "polls each 0.25 s": ("aiohttp", "fast_polls"),
    "tenacity, exponential with jitter": ("httpx", "tenacity"),
    "openai, as it is": ("openai3", "openai"),
    "openai, 100 retries": ("openai3", "openai_patient"),
}


def run(bench: Bench) -> None:
    """Note regret (seconds between the server's readiness and an answer), requests, and who failed."""
    if not bench.chosen(["homing"]):
        return
    for policy, by_start in own("cold", str(WAITERS), "2" if bench.quick else "5").items():
        for seconds, figures in by_start.items():
            for name, value in figures.items():
                bench.results.add(f"cold.simulated.{seconds}.{name}", policy, value)
    milliseconds = 3_300 if bench.quick else 37_300
    bench.results.about["cold_real_s"] = milliseconds / 1000
    # Homing by itself: the others' polling would take the processor away from it, and the delay would be its.
    for policies in (["homing"], [policy for policy in REAL if policy != "homing"]):
        started = {policy: start(bench, policy, milliseconds) for policy in policies}
        for policy, process in started.items():
            out, err = process.communicate()
            if process.returncode:
                bench.results.failures[f"cold, real: {policy}"] = err.strip().splitlines()[-1]
            else:
                note(bench, policy, json.loads(out), stats(bench.origin, policy_key(policy)))
    complain(f"  cold starts of {milliseconds / 1000:g} s: Homing, then all others at once")


def start(bench: Bench, policy: str, milliseconds: int) -> subprocess.Popen[str]:
    environment, function = REAL[policy]
    url = f"{bench.origin}/cold-{policy_key(policy)}-{milliseconds}"
    command = [python(environment), str(ROOT / "bench" / "peers" / "cold.py"), function, url, str(WAITERS)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, text=True, env=variables(environment), **pipes)


def policy_key(policy: str) -> str:
    return f"policy{list(REAL).index(policy)}"


def stats(origin: str, key: str) -> Any:
    with urllib.request.urlopen(f"{origin}/stats-{key}") as answer:
        return json.load(answer)


def note(bench: Bench, policy: str, seen: Any, server: Any) -> None:
    lost = [(when - server["ready"]) / 1e9 for when in seen["served"]]
    bench.results.add("cold.real.requests", policy, server["refused"] + server["served"])
    bench.results.add("cold.real.failed", policy, len(seen["failed"]))
    if lost:
        bench.results.add("cold.real.mean", policy, sum(lost) / len(lost))
        bench.results.add("cold.real.worst", policy, max(lost))
