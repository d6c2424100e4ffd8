"""Ways to choose a session's replica, each over the same crowd of sessions."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from .race import Ids, Race

Sessions = NDArray[np.intp]

BOUND = 1.25
"""Times the average load that a replica takes before requests pass on to the next choice: the
figure of Google's paper (Mirrokni, Thorup, Zadimoghaddam 2016) and of most proxies that offer it."""
BOUND_RANKS = 3
"""Choices that a request has under bounded load; what finds all of them full stays with the last."""
POPULAR = 1_000
"""Openers that many people type (a button's text, a test prompt), by Zipf's law."""
POPULAR_SHARE = 0.2
"""Of all sessions, those that begin with one of them."""


class Policy(ABC):
    """Where the next turn goes."""

    name: str
    keyed = True
    """Whether a session has a home at all."""

    def __init__(self, sessions: int, live: Ids, rng: np.random.Generator) -> None:
        self.live = live
        self.rng = rng
        self.sessions = sessions

    def begin(self, sessions: Sessions) -> None:  # noqa: B027  # without keys there is nothing to do
        """New sessions begin in these places."""

    @abstractmethod
    def route(self, sessions: Sessions) -> Ids:
        """Return the replica of each session's next turn."""

    def home(self) -> Ids | None:
        """Return each session's home, None where there is none."""
        return None

    def add(self, new: Ids) -> float:
        """Let replicas join; return the share of sessions that moved."""
        self.live = np.concatenate([self.live, new])
        return 0.0

    def remove(self, gone: Ids) -> float:
        """Let replicas leave; return the share of sessions that moved."""
        self.live = np.setdiff1d(self.live, gone)
        return 0.0


class Random(Policy):
    """No key: the edge chooses at random."""

    name, keyed = "random", False

    def route(self, sessions: Sessions) -> Ids:
        return np.asarray(self.rng.choice(self.live, sessions.size), dtype=np.int32)


class RoundRobin(Policy):
    """Each turn on the next replica."""

    name, keyed = "round robin", False

    def __init__(self, sessions: int, live: Ids, rng: np.random.Generator) -> None:
        super().__init__(sessions, live, rng)
        self._next = 0

    def route(self, sessions: Sessions) -> Ids:
        turns = self._next + self.rng.permutation(sessions.size)
        self._next += sessions.size
        return self.live[turns % self.live.size]


class Rendezvous(Policy):
    """A random key for each session: what Homing sends, and Modal's edge hashes."""

    name = "rendezvous"
    ranks = 1
    spare = 0
    """Keys beside one for each session."""

    def __init__(self, sessions: int, live: Ids, rng: np.random.Generator) -> None:
        super().__init__(sessions, live, rng)
        self.key = np.arange(sessions)
        self.race = Race(sessions + self.spare, ranks=self.ranks, live=live, rng=rng)

    def begin(self, sessions: Sessions) -> None:
        self.race.draw(sessions)

    def route(self, sessions: Sessions) -> Ids:
        return np.asarray(self.race.home[0, self.key[sessions]])

    def home(self) -> Ids:
        return np.asarray(self.race.home[0, self.key])

    def add(self, new: Ids) -> float:
        super().add(new)
        return float(self.race.add(new)[self.key].mean())

    def remove(self, gone: Ids) -> float:
        super().remove(gone)
        return float(self.race.remove(gone)[self.key].mean())


class BoundedLoad(Rendezvous):
    """Rendezvous with bounded load: a replica with over `BOUND` times the average of the requests
    under way passes them on. A router's choice; Modal's edge documents nothing of the kind."""

    name = "bounded load"
    ranks = BOUND_RANKS

    def route(self, sessions: Sessions) -> Ids:
        keys = self.key[sessions]
        bound = int(np.ceil(BOUND * sessions.size / self.live.size))
        rank = np.zeros(sessions.size, dtype=np.intp)
        arrival = self.rng.random(sessions.size)
        while True:
            chosen = self.race.home[rank, keys]
            order = np.lexsort((arrival, rank, chosen))
            ordered = chosen[order]
            place = np.arange(ordered.size) - np.searchsorted(ordered, ordered)
            over = order[place >= bound]
            over = over[rank[over] < self.ranks - 1]
            if not over.size:
                return np.asarray(chosen)
            rank[over] += 1


class PrefixKeys(Rendezvous):
    """A key derived from the first messages: sessions that begin alike share a home."""

    name = "prefix keys"
    spare = POPULAR

    def __init__(self, sessions: int, live: Ids, rng: np.random.Generator) -> None:
        super().__init__(sessions, live, rng)
        weights = 1.0 / np.arange(1, POPULAR + 1)
        self._popularity = np.cumsum(weights / weights.sum())
        self._name(np.arange(sessions))

    def begin(self, sessions: Sessions) -> None:
        super().begin(sessions)
        self._name(sessions)

    def _name(self, sessions: Sessions) -> None:
        opener = np.searchsorted(self._popularity, self.rng.random(sessions.size))
        popular = self.rng.random(sessions.size) < POPULAR_SHARE
        self.key[sessions] = np.where(popular, self.sessions + np.minimum(opener, POPULAR - 1), sessions)


class Balanced(Rendezvous):
    """A random key for each session, the better of two: the one whose replica holds fewer sessions.
    What one client that sees all sessions could do; existing sessions never move for it."""

    name = "balanced keys"

    def begin(self, sessions: Sessions) -> None:
        load = np.bincount(self.race.home[0], minlength=int(self.live.max()) + 1)
        self.race.draw(sessions)
        first = self.race.of(sessions)
        self.race.draw(sessions)
        better = load[first.home[0]] <= load[self.race.home[0, sessions]]
        self.race.restore(sessions[better], first.only(better))


POLICIES: tuple[type[Policy], ...] = (Random, RoundRobin, Rendezvous, BoundedLoad, PrefixKeys, Balanced)
