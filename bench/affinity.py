"""What session affinity is worth: conversations over replicas, by policy, through Homing's client and edge.

    python bench/affinity.py                                       # emulated replicas, seconds
    python bench/affinity.py --engine sglang --replicas 2          # real SGLang (homing engine install)

Each conversation sends turn after turn with think time between; its prompt grows by what was
said. Between policies every replica's prefix cache is emptied, and their order rotates with
each repeat. The edge is `homing up`, a process of its own; what is measured is what the
client's callers get. Writes ``affinity.json`` and ``affinity.md``, and with matplotlib
``affinity.svg``, to ``--out``.

Policies: ``homing`` one random key for each conversation, what ``client.conversation()`` does ·
``balanced`` the same with ``placement="balanced"``, so that new ones begin where little runs ·
``prefix`` a key derived from the first messages, what ``chat.completions.create`` does ·
``none`` no key, so the edge chooses at random · ``round-robin`` each turn on the next
replica · ``constant`` one key for everybody, as in the example this server grew out of.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx

from homing import AsyncClient, AsyncConversation
from homing.cli.bench.figures import summarise, table
from homing.cli.bench.load import COMMON_WORDS, Load, Policy, Shape
from homing.cli.bench.plots import plot
from homing.core.affinity.strategies import prefix_key
from homing.errors import ConfigurationError
from homing_server.local.engine_environment import EngineEnvironment
from homing_server.local.routing import home_of

# Seconds for the replicas to become idle, so that their caches can be emptied.
FLUSH_TIMEOUT = 30.0


def key_of(replica: str, replicas: Sequence[str]) -> str:
    """Return a key that the edge takes to ``replica``."""
    return next(key for key in map(str, itertools.count()) if home_of(key, replicas) == replica)


def policies(replicas: Sequence[str]) -> dict[str, Policy]:
    """Return what each policy does to a conversation before a turn."""
    turns = itertools.cycle([key_of(replica, replicas) for replica in replicas])
    salt = os.urandom(16)

    def keep(chat: AsyncConversation, turn: int, text: str) -> None:
        """Keep the conversation's own key."""

    def prefix(chat: AsyncConversation, turn: int, text: str) -> None:
        if turn == 0:
            chat.affinity_key = prefix_key([*chat.history, {"role": "user", "content": text}], salt=salt)

    def constant(chat: AsyncConversation, turn: int, text: str) -> None:
        chat.affinity_key = "0"

    def round_robin(chat: AsyncConversation, turn: int, text: str) -> None:
        chat.affinity_key = next(turns)

    changes: dict[str, Policy] = {"prefix": prefix, "round-robin": round_robin, "constant": constant}
    return {**dict.fromkeys(POLICIES, keep), **changes}


POLICIES = ("homing", "balanced", "prefix", "none", "round-robin", "constant")


def client_of(policy: str, url: str, timeout: float) -> AsyncClient:
    """Return a client that knows nothing yet: what others have seen of the replicas is not this policy's."""
    return AsyncClient(
        base_url=url,
        timeout=timeout,
        affinity="none" if policy == "none" else "prefix",
        placement="balanced" if policy == "balanced" else "hash",
    )


def load_of(given: argparse.Namespace, words: Sequence[str], repeat: int) -> Load:
    """Return the conversations that every policy of one repeat holds."""
    names = ("conversations", "turns", "system_tokens", "user_tokens", "reply_tokens", "ramp")
    shape = Shape(**{name: getattr(given, name) for name in names}, think=tuple(given.think))
    params: dict[str, Any] = {"temperature": 0, "ignore_eos": True}
    if given.no_thinking:
        params["chat_template_kwargs"] = {"enable_thinking": False}
    return Load(shape, seed=f"{given.seed} {repeat}", params=params, words=words)


@contextmanager
def edge(given: argparse.Namespace) -> Iterator[str]:
    """Run ``homing up`` for the length of a block, unless there is an edge; yield its URL."""
    if given.url:
        yield given.url
        return
    command = [sys.executable, "-c", "from homing.cli import main; main()", "up", "--port", "0", "--quiet"]
    command += ["--engine", given.engine, "--replicas", str(given.replicas), "--target-concurrency", "1000000"]
    for name in ("model", "device", "mem_fraction", "max_total_tokens", "context_length", "engine_args"):
        if (value := getattr(given, name)) is not None:
            command += [f"--{name.replace('_', '-')}={value}"]
    if given.engine == "sglang":
        command += ["--log-folder", str(given.out / "logs")]
    print(shlex.join(command[3:]), flush=True)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            assert process.stdout is not None
            said = []
            for line in process.stdout:
                said.append(line)
                if "export HOMING_BASE_URL=" in line:
                    yield line.partition("=")[2].strip()
                    break
            else:
                raise SystemExit("homing up did not start:\n" + "".join(said))
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.communicate(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()  # its engines end with it


def flush(url: str, replicas: Sequence[str]) -> None:
    """Empty every replica's prefix cache: a replica refuses while a request is ending."""
    with httpx.Client(base_url=url, timeout=FLUSH_TIMEOUT, trust_env=False) as http:
        for replica in replicas:
            headers = {"Modal-Session-ID": key_of(replica, replicas)}
            deadline = time.monotonic() + FLUSH_TIMEOUT
            while http.post("/flush_cache", headers=headers).status_code != 200:
                if time.monotonic() > deadline:
                    raise SystemExit(f"{replica} does not empty its cache")
                time.sleep(0.1)


def replicas_of(url: str) -> list[str]:
    state = httpx.get(url + "/_edge/state", trust_env=False).json()
    return [member["id"] for member in state["replicas"]]


async def measure(given: argparse.Namespace, url: str, words: Sequence[str]) -> dict[str, Any]:
    """Run every policy in every repeat that the budget leaves time for."""
    started = time.monotonic()
    replicas = replicas_of(url)
    result: dict[str, Any] = {"arguments": {k: str(v) for k, v in vars(given).items()}, "runs": []}
    result |= about(given, replicas)
    warm = argparse.Namespace(**{**vars(given), "turns": min(given.turns, 3)})
    for name in ("round-robin", "homing"):  # every replica, every batch size: kernels are compiled now
        async with client_of(name, url, given.timeout) as client:
            await load_of(warm, words, -1).run(client, policies(replicas)[name])
    print(f"warm after {time.monotonic() - started:.0f} s", flush=True)
    for repeat in range(given.repeats):
        shift = repeat % len(given.policies)
        once = given.once if repeat == 0 else []
        for policy in given.policies[shift:] + given.policies[:shift] + once:
            if time.monotonic() - started > given.budget:
                print(f"no time left for {policy}, repeat {repeat + 1}", flush=True)
                continue
            flush(url, replicas)
            async with client_of(policy, url, given.timeout) as client:
                turns, wall = await load_of(given, words, repeat).run(client, policies(replicas)[policy])
            figures = summarise(turns, wall=wall, replicas=replicas, reported=True)
            result["runs"].append({"policy": policy, "repeat": repeat, "figures": figures})
            print(table(result["runs"][-1:]).splitlines()[-1], flush=True)
            write(given.out, result)
            if given.raw:
                with (given.out / "turns.jsonl").open("a") as lines:
                    for turn in turns:
                        lines.write(json.dumps({"policy": policy, "repeat": repeat, **asdict(turn)}) + "\n")
    return result


def about(given: argparse.Namespace, replicas: Sequence[str]) -> dict[str, Any]:
    """Say what was measured, on what, when."""
    title = (
        f"{given.conversations} conversations × {given.turns} turns on {len(replicas)} replicas ({given.engine}); "
        f"system {given.system_tokens}, user {given.user_tokens}, reply {given.reply_tokens} tokens"
    )
    date = time.strftime("%Y-%m-%d", time.gmtime())
    return {"title": title, "date": date, "machine": given.machine, "engine": given.engine, "replicas": list(replicas)}


def write(out: Path, result: dict[str, Any]) -> None:
    """Write what there is so far: a run that is broken off keeps its finished part."""
    (out / "affinity.json").write_text(json.dumps(result, indent=1) + "\n")
    heading = f"{result['title']}\n{result['date']}, {result['machine']}\n\n"
    (out / "affinity.md").write_text(heading + table(result["runs"]) + "\n")


def words_of(model: str | None, engine: str) -> Sequence[str]:
    """Return words that are one token each to the model, where it brings a list."""
    folder = Path(model) if model else EngineEnvironment().tiny_model if engine == "sglang" else Path()
    path = folder / "words.json"
    return json.loads(path.read_text()) if path.is_file() else COMMON_WORDS


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=["emulated", "sglang"], default="emulated")
    parser.add_argument("--url", help="an edge that runs already, in front of replicas with nothing else to do")
    parser.add_argument("--model", help="folder or repository; default: the tiny random model")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--mem-fraction", type=float)
    parser.add_argument("--max-total-tokens", type=int, help="KV cache of each replica, in tokens")
    parser.add_argument("--context-length", type=int)
    parser.add_argument("--engine-args", help="more arguments for SGLang, in one string")
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--conversations", type=int, default=8)
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--system-tokens", type=int, default=100)
    parser.add_argument("--user-tokens", type=int, default=150)
    parser.add_argument("--reply-tokens", type=int, default=16)
    parser.add_argument("--no-thinking", action="store_true", help="for a model that would think aloud first")
    parser.add_argument("--think", type=float, nargs=2, default=(0.05, 0.2), help="seconds between turns, from to")
    parser.add_argument("--ramp", type=float, default=0.5, help="seconds over which conversations begin")
    parser.add_argument("--policies", nargs="+", choices=POLICIES, default=list(POLICIES))
    parser.add_argument("--once", nargs="+", choices=POLICIES, default=[], help="after the first repeat only")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--budget", type=float, default=3_600, help="seconds after which no run is begun")
    parser.add_argument("--timeout", type=float, default=300, help="seconds for one turn")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--machine", default=f"{os.cpu_count()} CPU cores", help="written into the results")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out" / "affinity")
    parser.add_argument("--raw", action="store_true", help="also write every turn, to turns.jsonl")
    return parser.parse_args(argv)


def main() -> int:
    """Run it; exit status 1 when a turn failed."""
    given = arguments()
    given.out.mkdir(parents=True, exist_ok=True)
    words = words_of(given.model, given.engine)
    with edge(given) as url:
        result = asyncio.run(measure(given, url, words))
    print(f"\n{result['title']}\n\n{table(result['runs'])}")
    try:
        plot(result, given.out / "affinity.svg")
    except ConfigurationError as error:
        print(f"(no plot: {error})")
    return int(any(run["figures"]["failed"] for run in result["runs"]) or not result["runs"])


if __name__ == "__main__":
    sys.exit(main())
