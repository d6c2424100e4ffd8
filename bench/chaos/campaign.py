"""The whole of it: an edge, clients in processes of their own, faults, sudden ends, and the audit."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from homing.stores import SQLiteStore
from homing.testing import Edge, EdgeSettings

from . import oracle
from .audit import Findings, audit
from .balancer import SERVERS, Balancer, astray
from .journal import Entry
from .leftovers import Holdings, left_over
from .schedule import STORM, schedule
from .watchdog import HUNG

REPLICAS = 4
COLD_START = 0.3
"""Seconds that a killed replica's place stays empty."""
KILLED_AFTER = (2, 60)
"""Entries of a client's journal behind which it is killed, least and most of them."""
IN_STORMS = "503 in storms"
"""Refusals of all storms together. Each storm counts as one fault."""
STUCK = 180.0
"""Seconds without a word from any client, after which they count as hung: not even their watchdogs run."""
STRIKES = ("signals", "forks", "drops", "collector", "cookies")
"""What befalls the clients from inside, or on the way: see `disturb`, `lane.DROPS` and `balancer`."""
SHARE = 0.6
"""Of the faults, how many are the edge's, where there are strikes as well."""
SURPLUS = 1.25
"""Faults armed for each that must show: some wait for a request that never comes."""


@dataclass(frozen=True)
class Plan:
    """How much of everything. ``turns`` are to be acknowledged, in all; ``kills`` are of client processes."""

    turns: int
    faults: int
    conversations: int
    workers: int = 4
    lanes: int = 5
    kills: int = 40
    storms: int = 10
    outages: int = 10
    shared: float = 0.1
    """Share of the conversations in which two processes write at once."""
    patience: float = 1.0
    """Seconds without progress after which a client leaves a replica that hangs."""
    limit: float = 5.0
    """Seconds that a turn may take. After ten times as many it counts as hung."""
    strikes: Sequence[str] = STRIKES
    seed: int = 1


@dataclass
class Report:
    """How it went."""

    plan: Plan
    seconds: float
    turns: Counter[str]
    """By what became of them."""
    kinds: Counter[str]
    """Of acknowledged turns."""
    failures: Counter[str]
    resumed: int
    requests: Counter[str]
    faults: Counter[str]
    findings: Findings
    struck_and_stored: int = 0

    @property
    def injected(self) -> int:
        """Faults that have shown; a storm is one."""
        return self.faults.total() - self.faults[IN_STORMS]

    @property
    def passed(self) -> bool:
        """Whether nothing was found, in enough of everything."""
        return not (self.findings.total or self.short)

    @property
    def short(self) -> list[str]:
        """What there was too little of for the result to mean what it should."""
        plan = self.plan
        wanted = {"turns": (self.turns["acked"], plan.turns), "faults": (self.injected, plan.faults)}
        return [f"{what}: {got} of {least}" for what, (got, least) in wanted.items() if got < least]


@dataclass
class Client:
    """One client process, and the next ones in its place."""

    name: str
    process: subprocess.Popen[bytes]
    dies_after: int | None
    ended: bool = False


@dataclass
class Campaign:
    """One run of a plan."""

    plan: Plan
    folder: Path
    entries: list[Entry] = field(default_factory=list)
    steered: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        plan = self.plan
        self._dice = random.Random(f"campaign {plan.seed}")
        self._news = threading.Condition()
        self._kills_left = plan.kills
        self._lanes = dict(assignment(plan))
        self._parts = sum(len(names) for lanes in self._lanes.values() for names in lanes.values())
        self._acknowledged = 0
        self._balancer: Balancer | None = None

    @property
    def target(self) -> int:
        """Turns of each writer in each of its conversations."""
        return -(-self.plan.turns // self._parts)

    def run(self) -> Report:
        """Do it."""
        plan, began = self.plan, time.monotonic()
        before = Holdings.now()
        settings = EdgeSettings.instant(
            replicas=REPLICAS, cold_start=COLD_START, keep_requests=False, log_size=20 * plan.turns, seed=plan.seed
        )
        with Edge(settings) as edge, contextlib.ExitStack() as stack:
            edge.answer_with(oracle.answer)
            count = round(plan.faults * SURPLUS * (SHARE if plan.strikes else 1))
            for fault in schedule(seed=plan.seed, faults=count, storms=plan.storms, requests=plan.turns):
                edge.inject(fault)
            if "cookies" in plan.strikes:
                self._balancer = stack.enter_context(Balancer(edge.url))
            self._talk(edge)
            edge.wait_for(lambda e: e.running == 0)
            log = edge.log
        with SQLiteStore(self.folder / "chats.db") as store:
            loaded = [store.load(f"c{number}") for number in range(plan.conversations)]
        stored = {conversation.id: conversation for conversation in loaded if conversation is not None}
        findings, turns = audit(self.entries, stored, log)
        findings.leaked += left_over(before)
        if self._balancer is not None:
            findings.astray += astray(self._balancer.visits)
        ends = [fate.end or {"what": "killed", "error": ""} for fate in turns.values()]
        return Report(
            plan,
            time.monotonic() - began,
            turns=Counter(end["what"] for end in ends),
            kinds=Counter(fate.kind for fate in turns.values() if fate.end and fate.end["what"] == "acked"),
            failures=Counter(end["error"] for end in ends if end["what"] == "failed"),
            resumed=sum(end["what"] == "acked" and end["resumed"] > 0 for end in ends),
            requests=Counter(record.outcome for record in log),
            faults=counted(record.fault for record in log if record.fault) + self.steered + struck(self.entries),
            findings=findings,
            struck_and_stored=sum(
                fate.stored > 0 for fate in turns.values() if fate.end and fate.end["what"] == "struck"
            ),
        )

    def _talk(self, edge: Edge) -> None:
        """Let the clients say all they have to say, and steer meanwhile."""
        plan = self.plan
        places = sorted(self._dice.sample(range(plan.turns // 10, plan.turns * 9 // 10), plan.outages))
        with contextlib.ExitStack() as stack:
            clients = [self._start(f"w{number}", edge, stack) for number in range(plan.workers)]
            for place in places:
                self._wait(lambda place=place: self._acknowledged >= place or all(c.ended for c in clients), clients)
                self._outage(edge)
            self._wait(lambda: all(client.ended for client in clients), clients)

    def _outage(self, edge: Edge) -> None:
        """Take replicas away from outside: one, or all of them for a while; or a server from the balancer."""
        if self._balancer is not None and self._dice.random() < 0.3:
            self._balancer.take_away(self._dice.choice(SERVERS))
            self.steered["balancer's server taken away"] += 1
            return
        if self._dice.random() < 0.5:
            ready = edge.ready
            if ready:
                with contextlib.suppress(ValueError, KeyError):  # gone meanwhile: somebody else has killed it
                    edge.kill(self._dice.choice(ready))
                    self.steered["replica killed from outside"] += 1
            return
        refused = edge.running
        edge.hold_cold()
        with contextlib.suppress(TimeoutError):  # nobody has asked: then nobody was refused
            edge.wait_for(lambda e: sum(r.status == 503 for r in e.log[-50:]) > min(refused, 5), timeout=1.0)
        edge.become_ready()
        self.steered["no replica at all"] += 1

    def _wait(self, done: Any, clients: list[Client]) -> None:
        with self._news:
            heard = len(self.entries)
            while not self._news.wait_for(done, STUCK):
                if len(self.entries) == heard:
                    for client in clients:
                        if not client.ended:
                            client.process.send_signal(signal.SIGABRT)  # faulthandler shows where it is
                            error = f"client {client.name} has said nothing for {STUCK:g} s"
                            self.entries.append({"what": "hung", "turn": "", "error": error})
                heard = len(self.entries)

    def _start(self, name: str, edge: Edge, stack: contextlib.ExitStack) -> Client:
        client = Client(name, self._spawn(name, edge.url), self._death())
        reader = threading.Thread(target=self._hear, args=(client, edge.url), name=f"reader {name}")
        reader.start()
        stack.callback(reader.join)
        stack.callback(lambda: client.process.poll() is None and client.process.kill())
        return client

    def _death(self) -> int | None:
        if not self._kills_left:
            return None
        self._kills_left -= 1
        return self._dice.randint(*KILLED_AFTER)

    def _spawn(self, name: str, url: str) -> subprocess.Popen[bytes]:
        orders = {
            "url": url,
            "path": str(self.folder / "chats.db"),
            "seed": self.plan.seed,
            "target": self.target,
            "patience": self.plan.patience,
            "limit": self.plan.limit,
            "strikes": self.plan.strikes,
            "balancer": None if self._balancer is None else self._balancer.url,
            "lanes": self._progress(self._lanes[name]),
        }
        path = os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")]))
        process = subprocess.Popen(
            [sys.executable, "-m", "chaos.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
        )
        assert process.stdin is not None
        with process.stdin as stdin:
            stdin.write(json.dumps(orders).encode())
        return process

    def _progress(self, lanes: dict[str, list[str]]) -> dict[str, dict[str, tuple[int, int]]]:
        """Return how far each writer is in each conversation: acknowledged turns, and the next number."""
        came: dict[tuple[str, str], list[int]] = {}
        with self._news:
            for entry in self.entries:
                if entry["what"] in ("begin", "acked"):
                    name, writer, number = entry["turn"].split(".")
                    at = came.setdefault((name, writer), [0, 0])
                    at[0] += entry["what"] == "acked"
                    at[1] = max(at[1], int(number) + 1)
        return {
            writer: {name: (*came.get((name, writer), (0, 0)),) for name in names}  # type: ignore[misc]
            for writer, names in lanes.items()
        }

    def _hear(self, client: Client, url: str) -> None:
        """Take down what a client says; kill it in the middle of it, and put another in its place."""
        while True:
            over = self._listen(client)
            code = client.process.wait()
            if over or code != -signal.SIGKILL:
                break
            with self._news:
                client.dies_after = self._death()
            client.process = self._spawn(client.name, url)
        with self._news:
            if not over and code not in (HUNG, -signal.SIGABRT):  # these have been told of
                self.entries.append({"what": "stray", "turn": "", "error": f"client {client.name} ended with {code}"})
            client.ended = True
            self._news.notify_all()

    def _listen(self, client: Client) -> bool:
        """Read one process's journal; return whether it has come to its end by itself."""
        heard, over = 0, False
        assert client.process.stdout is not None
        with client.process.stdout as lines:
            for line in lines:
                entry = json.loads(line)
                heard += 1
                with self._news:
                    self.entries.append(entry)
                    self._acknowledged += entry["what"] == "acked"
                    over = over or entry["what"] == "end"
                    if heard == client.dies_after:
                        client.process.kill()
                        self.steered["client killed"] += 1
                    self._news.notify_all()
        return over


def counted(faults: Iterable[str]) -> Counter[str]:
    """Count faults by their kind, and the storms among them."""
    kinds = Counter(faults)
    storms = {name: kinds.pop(name) for name in list(kinds) if name.startswith(STORM)}
    if storms:
        kinds.update({"503 storm": len(storms), IN_STORMS: sum(storms.values())})
    return kinds


def struck(entries: Iterable[Entry]) -> Counter[str]:
    """Count what has befallen the clients from inside."""
    kinds: Counter[str] = Counter()
    for entry in entries:
        if entry["what"] == "struck":
            kinds[f"{entry['signal']} in a turn"] += 1
        elif entry["what"] == "dropped":
            kinds["stream dropped in a cycle" if entry["cycle"] else "stream dropped"] += 1
        elif entry["what"] == "begin" and entry["kind"] == "fork":
            kinds["fork"] += 1
    return kinds


def assignment(plan: Plan) -> Iterator[tuple[str, dict[str, list[str]]]]:
    """Yield each worker's lanes, half of them threads and half tasks, and their conversations."""
    names = [f"w{worker}" for worker in range(plan.workers)]
    writers = [(worker, f"{'ta'[lane % 2]}{lane}") for lane in range(plan.lanes) for worker in names]
    workers: dict[str, dict[str, list[str]]] = {worker: {} for worker in names}
    for number in range(plan.conversations):
        for place in (number, number + 1)[: 2 if number < plan.conversations * plan.shared else 1]:
            worker, lane = writers[place % len(writers)]  # a neighbour is of the next process
            workers[worker].setdefault(worker + lane, []).append(f"c{number}")
    yield from workers.items()
