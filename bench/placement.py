"""Which guide to place new conversations by: a simulation of replicas, without sockets, GPUs or waiting.

    python bench/placement.py                # a minute
    python bench/placement.py --seeds 20

Replicas prefill in batches, decode in steps, and keep an LRU prefix cache of bounded size; speeds
are near those of a quarter of an H100 with a 4B model, and the first scene is that of bench/affinity.py,
so that it can be held against what was measured. ``balanced`` is the client's own
`homing.core.affinity.placement`; the other guides see what it sees, or everything (``all-knowing``).
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import random
import sys
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import mean

from homing.core.affinity.placement import DRAWS, RECENT, Replicas, Search

# Tokens, and seconds.
SYSTEM, USER, REPLY = 500, 700, 96
PREFILL_RATE = 7_000.0
PREFILL_BATCH = 8_192
DECODE_STEP, DECODE_STEP_EACH = 0.012, 0.0004
MAX_RUNNING = 48


class Time:
    """Runs what was put off, in order."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()

    def after(self, delay: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._due, (self.now + delay, next(self._count), action))

    def run(self) -> None:
        while self._due:
            self.now, _, action = heapq.heappop(self._due)
            action()


@dataclass(slots=True, eq=False)
class SimulatedTurn:
    conversation: int
    prompt: int
    began: float
    ended: Callable[[], None]
    left: int = 0
    uncached: int = 0
    first_token: float = 0.0


class SimulatedReplica:
    """One engine: prefill before decode, longest cached prefix first, as SGLang's lpm does."""

    def __init__(self, time: Time, capacity: int) -> None:
        self._time = time
        self._free = capacity
        self._cache: OrderedDict[int, list[int]] = OrderedDict()  # per conversation, tokens of each turn
        self._warm = False
        self._busy = False
        self.waiting: list[SimulatedTurn] = []
        self.running: list[SimulatedTurn] = []

    def take(self, turn: SimulatedTurn) -> None:
        self.waiting.append(turn)
        self._go_on()

    def _go_on(self) -> None:
        if self._busy:
            return
        if batch := self._admit():
            self._busy = True
            self._time.after(sum(turn.uncached for turn in batch) / PREFILL_RATE, lambda: self._prefilled(batch))
        elif self.running:
            self._busy = True
            decoding = list(self.running)
            pause = DECODE_STEP + DECODE_STEP_EACH * len(decoding)
            self._time.after(pause, lambda: self._decoded(decoding))

    def _admit(self) -> list[SimulatedTurn]:
        batch: list[SimulatedTurn] = []
        self.waiting.sort(key=lambda turn: -sum(self._cache.get(turn.conversation, [])))
        for turn in list(self.waiting):
            tokens = sum(one.uncached for one in batch)
            if len(self.running) >= MAX_RUNNING or tokens >= PREFILL_BATCH:
                break
            kept = min(sum(self._cache.get(turn.conversation, [])), turn.prompt - SYSTEM - 1)
            turn.uncached = turn.prompt - kept - (SYSTEM if self._warm else 0)
            if turn.conversation in self._cache:
                self._cache.move_to_end(turn.conversation)
            self.running.append(turn)
            if not self._evict(turn.uncached + REPLY):
                self.running.remove(turn)
                break
            self._free -= turn.uncached + REPLY
            self._warm = True
            self.waiting.remove(turn)
            batch.append(turn)
        return batch

    def _evict(self, needed: int) -> bool:
        held = {turn.conversation for turn in self.running}
        for conversation in [one for one in self._cache if one not in held]:
            while self._free < needed and self._cache[conversation]:
                self._free += self._cache[conversation].pop()
            if self._cache[conversation]:
                break
            del self._cache[conversation]
        return self._free >= needed

    def _prefilled(self, batch: list[SimulatedTurn]) -> None:
        self._busy = False
        for turn in batch:
            turn.first_token, turn.left = self._time.now - turn.began, REPLY - 1
        self._go_on()

    def _decoded(self, turns: list[SimulatedTurn]) -> None:
        self._busy = False
        for turn in turns:
            turn.left -= 1
            if turn.left == 0:
                self.running.remove(turn)
                said = self._cache.pop(turn.conversation, [])
                total = turn.prompt - SYSTEM + REPLY
                self._free += turn.uncached + REPLY - (total - sum(said))
                self._cache[turn.conversation] = [*said, total - sum(said)]
                turn.ended()
        self._go_on()


@dataclass(slots=True)
class Scene:
    """Conversations over replicas: all at once (``burst``), or ``rate`` new ones a second for two minutes."""

    name: str
    capacity: int
    burst: int = 0
    rate: float = 0.0
    clients: int = 1
    replicas: int = 4
    turns: int = 8
    think: tuple[float, float] = (0.2, 0.8)


@dataclass(slots=True)
class Guide:
    """What one client knows, and how it chooses a replica for a new conversation."""

    name: str
    rng: random.Random
    engines: list[SimulatedReplica]
    seen: Replicas = field(default_factory=Replicas)
    home: dict[int, int] = field(default_factory=dict)
    used: dict[int, float] = field(default_factory=dict)
    tokens: dict[int, int] = field(default_factory=dict)
    first_token: dict[int, float] = field(default_factory=dict)
    store: Counter[int] = field(default_factory=Counter)
    keys: dict[str, int] = field(default_factory=dict)
    draws: int = 0

    def place(self, now: float) -> tuple[int, str]:
        if self.name == "balanced":
            search = Search(self.seen)
            while (key := search.draw(now)) is not None:
                self.keys[key] = self._drawn()
                self.seen.seen(key, str(self.keys[key]), now)
            return self.keys.setdefault(search.key or "", self.rng.randrange(len(self.engines))), search.key or ""
        if self.name == "hash":
            return self.rng.randrange(len(self.engines)), ""
        loads = {place: self._load(place, now) for place in range(len(self.engines))}
        if self.name == "all-knowing":
            return min(loads, key=lambda place: (loads[place], self.rng.random())), ""
        for _ in range(DRAWS):
            if any(self.store[place] for place in loads if loads[place] == min(loads.values())):
                break
            self.store[self._drawn()] += 1
        known = [place for place in loads if self.store[place]]
        best = min(known, key=lambda place: (loads[place], self.rng.random()))
        self.store[best] -= 1
        return best, ""

    def _drawn(self) -> int:
        self.draws += 1
        return self.rng.randrange(len(self.engines))

    def _load(self, place: int, now: float) -> float:
        here = [one for one, home in self.home.items() if home == place and now - self.used[one] < RECENT]
        if self.name == "conversations":
            return len(here)
        if self.name == "tokens":
            return sum(self.tokens[one] for one in here)
        if self.name == "first token":
            return self.first_token.get(place, 0.0)
        return len(self.engines[place].running) + len(self.engines[place].waiting)


GUIDES = ("hash", "balanced", "conversations", "tokens", "first token", "all-knowing")
ROUTERS = ("round robin", "random")


def simulate(scene: Scene, policy: str, seed: int) -> tuple[float, float, float, float]:
    """Return cached share, time to first token p50 and p95, and draws for each conversation."""
    rng, time = random.Random(f"{seed} {policy}"), Time()
    engines = [SimulatedReplica(time, scene.capacity) for _ in range(scene.replicas)]
    guides = [Guide(policy, rng, engines) for _ in range(scene.clients)]
    turns: list[SimulatedTurn] = []
    nexts = itertools.count()

    def begin(number: int, pause: random.Random, count: int) -> None:
        guide = guides[number % len(guides)]
        place, key = (0, "") if policy in ROUTERS else guide.place(time.now)
        guide.home[number] = place
        say(number, pause, 0, count, guide, key)

    def say(number: int, pause: random.Random, turn: int, count: int, guide: Guide, key: str) -> None:
        place = guide.home[number]
        if policy in ROUTERS:
            place = next(nexts) % len(engines) if policy == "round robin" else rng.randrange(len(engines))
        prompt = SYSTEM + USER * (turn + 1) + REPLY * turn
        guide.used[number], guide.tokens[number] = time.now, prompt + REPLY
        if policy == "balanced":
            guide.seen.begin(key, time.now)

        def ended() -> None:
            guide.first_token[place] = 0.7 * guide.first_token.get(place, this.first_token) + 0.3 * this.first_token
            if policy == "balanced":
                guide.seen.seen(key, str(place), time.now)
                guide.seen.end(key, time.now)
            if turn + 1 < count:
                time.after(pause.uniform(*scene.think), lambda: say(number, pause, turn + 1, count, guide, key))

        this = SimulatedTurn(number, prompt, time.now, ended)
        turns.append(this)
        engines[place].take(this)

    arrivals, when = random.Random(f"{seed}"), 0.0
    for number in itertools.count():
        if number >= scene.burst and (not scene.rate or when > 120):
            break
        when = arrivals.uniform(0, 2) if scene.burst else when + arrivals.expovariate(scene.rate)
        count = scene.turns if scene.burst else min(1 + int(arrivals.expovariate(1 / scene.turns)), 30)
        pause = random.Random(f"{seed} {number}")
        time.after(when, lambda n=number, p=pause, c=count: begin(n, p, c))  # type: ignore[misc]
    time.run()
    first = sorted(turn.first_token for turn in turns)
    prompt = sum(turn.prompt for turn in turns)
    share = 1 - sum(turn.uncached for turn in turns) / prompt
    begun = len({turn.conversation for turn in turns})
    return share, first[len(first) // 2], first[len(first) * 95 // 100], sum(g.draws for g in guides) / begun


SCENES = (
    Scene("40 conversations at once, room for all", 262_144, burst=40),
    Scene("… in pools that overflow", 49_152, burst=40),
    Scene("… that overflow early", 32_768, burst=40),
    Scene("arriving over time, one client", 98_304, rate=1.5, turns=6, think=(1, 8)),
    Scene("… 8 clients, each of which sees its own", 98_304, rate=1.5, turns=6, think=(1, 8), clients=8),
    Scene("… 64 clients", 98_304, rate=1.5, turns=6, think=(1, 8), clients=64),
    Scene("… one client, 8 replicas", 98_304, rate=3.0, turns=6, think=(1, 8), replicas=8),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=6)
    given = parser.parse_args()
    print("| scene | placed by | cached | TTFT p50 | p95 | draws |\n|---|---|---|---|---|---|")
    for scene in SCENES:
        for policy in (*GUIDES, *(ROUTERS if scene.burst else ())):
            runs = [simulate(scene, policy, seed) for seed in range(given.seeds)]
            share, p50, p95, draws = map(mean, zip(*runs, strict=True))
            figures = f"{share:.1%} | {1_000 * p50:.0f} | {1_000 * p95:.0f} | {draws:.1f}"
            print(f"| {scene.name} | {policy} | {figures} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
