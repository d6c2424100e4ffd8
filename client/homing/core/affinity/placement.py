"""Choosing the replica on which a new conversation should begin, as well as a client can.

A router hashes the affinity key. Clients don't know its hash, and hashing is uneven: of 40 conversations on
four replicas, one replica gets 13 or 14 and determines the tail latency of all. But a server that names its
replicas (`REPLICA_HEADER`) reveals with every response where a key leads, even for small requests. So before a
conversation's first turn, the client may probe a few fresh keys and take the one that leads to the least
loaded replica. It keeps the other keys for later conversations, so in the long run this takes little more than
one probe per conversation. A conversation that has begun never moves.

The measure of load was chosen by simulation (``bench/placement.py``): turns in flight first, then recent
conversations. Times to first token were tried too and are no better: they show a replica's load when the turn
arrived, and all new conversations then rush to the replica that was fastest.
"""

from __future__ import annotations

import random
import threading
from collections import Counter, OrderedDict
from dataclasses import dataclass
from typing import Literal

from ..process.fork import renew_after_fork
from .strategies import Affinity, new_key

Placement = Literal["hash", "balanced"]

RECENT = 60.0
"""Seconds for which a conversation counts towards its replica's load after its last turn, and for which the
replica of an unused key is trusted. Longer than people pause to read, shorter than a fleet lasts."""

DRAWS = 4
"""Most keys probed for one conversation. Of four replicas, this finds the least loaded one with a probability
of two thirds; by then one that is nearly as good has been found, or is in reserve."""

KEYS_EACH = 6
"""Known keys per known replica at which these replicas are taken to be all. The chance that another replica
got none of these keys is then 2 % with one known replica and 0.5 % with four."""

MEMORY = 10_000
"""Keys remembered. The least recently used are dropped first."""


@dataclass(slots=True)
class _Home:
    """Where a key in use leads."""

    replica: str | None
    used: float
    running: int = 0


class Replicas:
    """What one client has observed of its server's replicas. Callers always pass in `now`, in seconds."""

    def __init__(self) -> None:
        self._begin()
        renew_after_fork(self)

    def _begin(self) -> None:
        self._homes: OrderedDict[str, _Home] = OrderedDict()
        self._spare: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._tells: bool | None = None
        # Reentrant: a signal handler or a garbage-collected coroutine may call `end` in the middle of another call.
        self._lock = threading.RLock()

    _after_fork = _begin  # running turns and spare keys are the parent's: a key must not be taken twice

    def seen(self, key: str | None, replica: str | None, now: float) -> None:
        """Record that ``replica`` responded to a request with ``key``; None if the response didn't name it."""
        with self._lock:
            self._tells = replica is not None
            if key is None or replica is None:
                return
            home = self._homes.get(key)
            if home is not None:
                home.replica = replica
                return
            known = self._spare.pop(key, None)
            if known is not None and known[0] != replica:
                self._spare.clear()  # the fleet has changed, so the other keys may lead elsewhere too
            self._spare[key] = (replica, now)
            while len(self._spare) > MEMORY:
                self._spare.popitem(last=False)

    def begin(self, key: str, now: float) -> None:
        """Record that a turn with ``key`` has started."""
        with self._lock:
            self._forget(now)  # otherwise a client with many short conversations would keep the last 10,000
            replica, _ = self._spare.pop(key, (None, now))
            home = self._homes.pop(key, None) or _Home(replica, now)
            self._homes[key] = home  # the most recently used comes last
            home.used = now
            home.running += 1
            while len(self._homes) > MEMORY:
                self._homes.popitem(last=False)

    def end(self, key: str, now: float) -> None:
        """Record that a turn with ``key`` has ended."""
        with self._lock:
            home = self._homes.get(key)
            if home is not None:
                home.used = now
                home.running -= 1
                self._homes.move_to_end(key)

    def loads(self, now: float) -> dict[str, tuple[int, int]]:
        """Return, for each replica seen recently, its turns in flight and its conversations."""
        with self._lock:
            return self._loads(now)

    def _loads(self, now: float) -> dict[str, tuple[int, int]]:
        self._forget(now)
        running: Counter[str] = Counter()
        conversations: Counter[str] = Counter()
        for home in self._homes.values():
            if home.replica is not None:
                running[home.replica] += home.running
                conversations[home.replica] += 1
        names = conversations.keys() | {replica for replica, _ in self._spare.values()}
        return {name: (running[name], conversations[name]) for name in names}

    def choose(self, now: float, *, settle: bool) -> str | None:
        """Return the key for a new conversation, or None if another key is worth probing.

        The key is an unused one that leads to a least loaded replica. Until enough keys are known to have seen
        all replicas, that replica must also be idle. With ``settle``, the best known one will do. Any key will do
        where probing can't help: responses name no replica, there is only one, or there was no recent traffic.
        """
        with self._lock:
            loads = self._loads(now)
            known = sum(conversations for _, conversations in loads.values()) + len(self._spare)
            explored = known >= KEYS_EACH * max(len(loads), 1)
            if self._tells is False or not (self._homes or self._spare) or (explored and len(loads) == 1):
                return new_key()
            reached = {replica for replica, _ in self._spare.values()}
            least = min((loads[name] for name in (reached if settle else loads)), default=None)
            best = [name for name in reached if loads[name] == least and (explored or settle or not loads[name][0])]
            if not best:
                return new_key() if settle else None
            chosen = random.choice(best)  # otherwise all clients would begin with the same one
            key = next(key for key, (replica, _) in self._spare.items() if replica == chosen)
            del self._spare[key]
            self._homes[key] = _Home(chosen, now)
            return key

    def _forget(self, now: float) -> None:
        while self._spare and now - next(iter(self._spare.values()))[1] >= RECENT:
            self._spare.popitem(last=False)
        while self._homes:
            home = next(iter(self._homes.values()))
            if home.running or now - home.used < RECENT:
                break
            self._homes.popitem(last=False)


class Search:
    """The search for one new conversation's key. Call `draw` until it returns None; then `key` is set."""

    def __init__(self, replicas: Replicas) -> None:
        self._replicas = replicas
        self._left = DRAWS
        self.key: str | None = None

    def draw(self, now: float) -> str | None:
        """Return a key to probe, or None if the search is over. The probe's outcome goes to `Replicas.seen`."""
        self.key = self._replicas.choose(now, settle=self._left == 0)
        if self.key is not None:
            return None
        self._left -= 1
        return new_key()

    def give_up(self) -> None:
        """Stop probing: a probe got no response, and a turn is waiting."""
        self._left = 0


def sends_headers(affinity: Affinity) -> bool:
    """Return whether ``affinity`` sends the key in a header, so that a request without a body can probe it."""
    headers: dict[str, str] = {}
    affinity.apply(new_key(), headers, {})
    return bool(headers)
