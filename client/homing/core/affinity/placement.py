"""Which replica a new conversation should begin on, as far as a client can tell.

A router hashes the affinity key. Nobody outside knows its hash, and hashing is uneven: of 40
conversations on four replicas one gets 13 or 14, and sets the tail for all. But a server that names
its replicas (`REPLICA_HEADER`) tells with every answer where a key leads, and that holds for small
questions too. So before a conversation's first turn a few fresh keys may be tried out, and the one
taken that leads to the least loaded replica; the others are kept for later conversations, so that in
the long run it is little more than one question for each. A conversation that has begun never moves.

What counts as load was chosen by simulation (``bench/placement.py``): turns in flight first, then
conversations of late. Times to first token were tried and are no better a guide: they tell of what a
replica was burdened with when the turn came, and all newcomers run to the one that was fastest.
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
"""Seconds for which a conversation counts as one of its replica's after its last turn, and for which it
is believed where an unused key leads: longer than people pause to read, shorter than a fleet lasts."""

DRAWS = 4
"""Keys tried out, at most, for one conversation. Of four replicas the least loaded is found with two
chances in three; a replica that is nearly as good has been found by then, or lies in store."""

KEYS_EACH = 6
"""Keys known for each replica that was seen, after which these are taken to be all there are: that yet
another one got none of them has a chance of 2 % beside one replica and 0.5 % beside four."""

MEMORY = 10_000
"""Keys that are remembered; the longest unused are forgotten first."""


@dataclass(slots=True)
class _Home:
    """Where a key in use leads."""

    replica: str | None
    used: float
    running: int = 0


class Replicas:
    """What one client has seen of its server's replicas. `now` is always passed in, in seconds."""

    def __init__(self) -> None:
        self._begin()
        renew_after_fork(self)

    def _begin(self) -> None:
        self._homes: OrderedDict[str, _Home] = OrderedDict()
        self._spare: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._tells: bool | None = None
        # `end` may be called in the middle of another: by a signal handler, or by a coroutine that is collected.
        self._lock = threading.RLock()

    _after_fork = _begin  # the turns that run are the parent's, and so are the spare keys: no two shall take one

    def seen(self, key: str | None, replica: str | None, now: float) -> None:
        """Note that ``replica`` has answered a request with ``key``; None where it was not named."""
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
                self._spare.clear()  # the fleet has changed, and with it where all the others lead
            self._spare[key] = (replica, now)
            while len(self._spare) > MEMORY:
                self._spare.popitem(last=False)

    def begin(self, key: str, now: float) -> None:
        """Note that a turn with ``key`` is on its way."""
        with self._lock:
            self._forget(now)  # else a client of many short conversations would hold on to the last 10,000
            replica, _ = self._spare.pop(key, (None, now))
            home = self._homes.pop(key, None) or _Home(replica, now)
            self._homes[key] = home  # the last used is the last
            home.used = now
            home.running += 1
            while len(self._homes) > MEMORY:
                self._homes.popitem(last=False)

    def end(self, key: str, now: float) -> None:
        """Note that a turn with ``key``, begun before, is over."""
        with self._lock:
            home = self._homes.get(key)
            if home is not None:
                home.used = now
                home.running -= 1
                self._homes.move_to_end(key)

    def loads(self, now: float) -> dict[str, tuple[int, int]]:
        """Return for each replica that was heard of lately: its turns in flight, and its conversations."""
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
        """Return the key for a new conversation; None when it is worth trying out another.

        That is an unused key that leads to a least busy replica, of which nobody knows whether it is
        one of all before enough keys are known. With ``settle`` the best that is at hand will do. Where
        nothing can be gained by looking it is any key: answers name no replica, there is one, or nothing
        is under way.
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
            chosen = random.choice(best)  # else all clients would begin with the same one
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
    """The search for one new conversation's key. Ask `draw` until it returns None; then `key` is there."""

    def __init__(self, replicas: Replicas) -> None:
        self._replicas = replicas
        self._left = DRAWS
        self.key: str | None = None

    def draw(self, now: float) -> str | None:
        """Return a key to try out, by a request whose answer goes to `Replicas.seen`; or None."""
        self.key = self._replicas.choose(now, settle=self._left == 0)
        if self.key is not None:
            return None
        self._left -= 1
        return new_key()

    def give_up(self) -> None:
        """Try out no more: a question was not answered, and a turn is waiting."""
        self._left = 0


def sends_headers(affinity: Affinity) -> bool:
    """Whether ``affinity`` sends the key in a header, so that a request without a body can try one out."""
    headers: dict[str, str] = {}
    affinity.apply(new_key(), headers, {})
    return bool(headers)
