"""What it costs to import a client and make the first one, and how much is installed."""

from __future__ import annotations

import os
import subprocess

from ..bench import Bench
from ..environments import PINS, installed_size, python, variables

BENCH = PINS.parent

BARE = ("homing", "pass")
CODE = {
    "homing": ("homing", "import homing"),
    "httpx": ("httpx", "import httpx, httpx_sse; from pydantic import BaseModel"),
    "aiohttp": ("aiohttp", "import aiohttp"),
    "httpx2": ("httpx2", "import httpx2"),
    "openai3": ("openai3", "import openai"),
    "openai2": ("openai2", "import openai"),
    "litellm": ("litellm", "import litellm"),
}
URL = "'http://127.0.0.1:1/v1'"
FIRST_CLIENT = {
    "homing": ("homing", f"import homing; homing.Client({URL})"),
    "httpx": ("httpx", f"from peers.stacks.httpx import Stack; Stack({URL}).client()"),  # four models of its own
    "openai3": ("openai3", f"import openai; openai.OpenAI(base_url={URL}, api_key='none').chat.completions"),
    "openai2": ("openai2", f"import openai; openai.OpenAI(base_url={URL}, api_key='none').chat.completions"),
    "litellm": ("litellm", "import litellm; litellm.completion"),
}  # fmt: skip


def run(bench: Bench) -> None:
    """Fresh interpreters in turn; each figure is above one that imports nothing."""
    for turn in range(bench.rounds + 1):
        cpu, memory = cost(*BARE)
        for figure, codes in (("import", CODE), ("first_client", FIRST_CLIENT)):
            for peer in bench.chosen(list(codes)):
                if peer == "litellm" and turn > 3:
                    continue
                used, held = cost(*codes[peer])
                if turn:  # the first one compiles
                    bench.results.add(f"{figure}.cpu", peer, (used - cpu) * 1e3)
                    bench.results.add(f"{figure}.memory", peer, (held - memory) / 2**20)
    for peer in bench.chosen(list(CODE)):
        bench.results.add("installed", peer, installed_size(CODE[peer][0]) / 1e6)


def cost(environment: str, code: str) -> tuple[float, float]:
    """Run ``code`` in a fresh interpreter; return its CPU seconds and its peak memory in bytes."""
    process = subprocess.Popen([python(environment), "-c", code], env=variables(environment), cwd=BENCH)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{code!r} ended with {process.returncode} in {environment}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024
