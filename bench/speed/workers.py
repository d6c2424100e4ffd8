"""The peers' processes, as the runner sees them."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from .environments import PEERS, ROOT, python, variables


class Failed(Exception):
    """A peer could not do what it was asked to."""


class Worker:
    """One process with one stack. It is told what to do, and answers when it has done it.

    ``interpreter`` is a Python that has what the peer needs; without it the peer's own environment.
    """

    def __init__(self, peer: str, origin: str, cpu: str | None, *, interpreter: str | None = None) -> None:
        settings = PEERS[peer]
        program = str(ROOT / "bench" / "peers" / "worker.py")
        command = [interpreter or python(settings.environment), program, settings.stack, origin]
        self._process = subprocess.Popen(
            command + ([] if cpu is None else [cpu]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=variables(settings.environment),
        )
        self._loop = settings.loop

    def do(self, what: str, **order: Any) -> Any:
        """Return what the measurement gave. Raises `Failed`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"do": what, "loop": self._loop, **order}) + "\n")
            self._process.stdin.flush()
            answer = json.loads(self._process.stdout.readline() or '{"error": "the worker has died"}')
        except BrokenPipeError:
            answer = {"error": "the worker has died"}
        if "error" in answer:
            raise Failed(answer["error"])
        return answer["ok"]

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


class Workers:
    """The workers of one section, started when first needed."""

    def __init__(self, origin: str, cpu: str | None) -> None:
        self._origin = origin
        self._cpu = cpu
        self._running: dict[str, Worker] = {}

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._running.values():
            worker.close()

    def of(self, peer: str) -> Worker:
        """Return the worker of that peer."""
        if peer not in self._running:
            self._running[peer] = Worker(peer, self._origin, self._cpu)
        return self._running[peer]


def complain(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def own(*order: str) -> Any:
    """Run peers/own.py, which looks into Homing itself, in a fresh process; return its answer."""
    command = [python("homing"), str(ROOT / "bench" / "peers" / "own.py"), *order]
    done = subprocess.run(command, env=variables("homing"), capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(done.stderr)
    return json.loads(done.stdout)
