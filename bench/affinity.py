"""What session affinity is worth: conversations over replicas, by policy, through Homing's client and edge.

    python bench/affinity.py                                       # emulated replicas, seconds
    python bench/affinity.py --engine sglang --replicas 2          # real SGLang (homing engine install)

Each conversation sends turn after turn with think time between; its prompt grows by what was
said. Between policies every replica's prefix cache is emptied, and their order rotates with
each repeat. The edge is `homing up`, a process of its own; what is measured is what the
client's callers get. Writes ``affinity.json`` and ``affinity.md``, and with matplotlib
``affinity.svg``, to ``--out``.

Policies: ``homing`` one random key for each conversation, what ``client.conversation()`` does ·
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
import random
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
from affinity_figures import Measured, plot, summarise, table

from homing import AsyncClient, AsyncConversation, HomingError, NoAffinity
from homing.core.affinity import prefix_key
from homing_server.local.engine_environment import EngineEnvironment
from homing_server.local.routing import home_of

# Words that any tokenizer knows, for models that bring no list of their own.
COMMON_WORDS = [" time", " year", " people", " way", " day", " thing", " life", " world", " school"]
# Seconds for the replicas to become idle, so that their caches can be emptied.
FLUSH_TIMEOUT = 30.0

Policy = Callable[[AsyncConversation, int, str], None]


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

    return {"homing": keep, "prefix": prefix, "none": keep, "round-robin": round_robin, "constant": constant}


POLICIES = ("homing", "prefix", "none", "round-robin", "constant")


class Load:
    """The same conversations for every policy of one repeat."""

    def __init__(self, given: argparse.Namespace, words: Sequence[str], repeat: int) -> None:
        self._given = given
        self._words = words
        self._repeat = repeat
        self._params: dict[str, Any] = {"max_tokens": given.reply_tokens, "temperature": 0, "ignore_eos": True}
        if given.no_thinking:
            self._params["chat_template_kwargs"] = {"enable_thinking": False}
        self.system = self._text("system", given.system_tokens)

    def _text(self, name: str, tokens: int) -> str:
        rng = random.Random(f"{self._given.seed} {self._repeat} {name}")
        return "".join(rng.choice(self._words) for _ in range(tokens))

    async def run(self, client: AsyncClient, choose: Policy) -> tuple[list[Measured], float]:
        """Hold all conversations; return their turns and the seconds from first to last."""
        started = time.perf_counter()
        talks = [self._talk(client, choose, number) for number in range(self._given.conversations)]
        turns = await asyncio.gather(*talks)
        return list(itertools.chain.from_iterable(turns)), time.perf_counter() - started

    async def _talk(self, client: AsyncClient, choose: Policy, number: int) -> list[Measured]:
        given, measured = self._given, []
        pause = random.Random(f"{given.seed} {self._repeat} {number}")
        chat = client.conversation(system=self.system)
        await asyncio.sleep(pause.uniform(0, given.ramp))
        for turn in range(given.turns):
            text = self._text(f"{number} {turn}", given.user_tokens)
            choose(chat, turn, text)
            measured.append(await self._turn(chat, text, Measured(number, turn)))
            if measured[-1].error:
                break  # the rest of this conversation would be another load than the others'
            await asyncio.sleep(pause.uniform(*given.think))
        return measured

    async def _turn(self, chat: AsyncConversation, text: str, measured: Measured) -> Measured:
        last: float | None = None
        try:
            async with chat.stream(text, **self._params) as stream:
                async for _ in stream.text:
                    now = time.perf_counter()
                    if last is not None:
                        measured.gaps.append(now - last)
                    last = now
                reply = await stream.reply()
        except HomingError as error:
            measured.error = f"{type(error).__name__}: {error}"[:200]
            return measured
        told = reply.telemetry
        measured.replica, measured.duration = told.replica, told.duration
        measured.first_token = told.time_to_first_token
        measured.prompt = told.prompt_tokens or 0
        measured.cached = told.cached_tokens or 0
        measured.completion = told.completion_tokens or 0
        return measured


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
    async with AsyncClient(base_url=url, timeout=given.timeout) as client:
        warm = argparse.Namespace(**{**vars(given), "turns": min(given.turns, 3)})
        for name in ("round-robin", "homing"):  # every replica, every batch size: kernels are compiled now
            await Load(warm, words, -1).run(client, policies(replicas)[name])
        print(f"warm after {time.monotonic() - started:.0f} s", flush=True)
        for repeat in range(given.repeats):
            shift = repeat % len(given.policies)
            for policy in given.policies[shift:] + given.policies[:shift]:
                if time.monotonic() - started > given.budget:
                    print(f"no time left for {policy}, repeat {repeat + 1}", flush=True)
                    continue
                flush(url, replicas)
                one = client.with_options(affinity=NoAffinity()) if policy == "none" else client
                turns, wall = await Load(given, words, repeat).run(one, policies(replicas)[policy])
                figures = summarise(turns, wall=wall, replicas=replicas)
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


def words_of(model: str | None, engine: str) -> list[str]:
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
    except ImportError:
        print("(no plot: pip install matplotlib)")
    return int(any(run["figures"]["failed"] for run in result["runs"]) or not result["runs"])


if __name__ == "__main__":
    sys.exit(main())
