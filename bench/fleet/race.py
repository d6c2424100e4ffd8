"""Rendezvous hashing of millions of keys over thousands of replicas, without a hash for each pair.

Rendezvous gives a key to the replica with the best of n independent uniform weights. Let each
weight be a runner's time instead, exponential with rate 1: the winner of n is uniform, its time
exponential with rate n, and what the others would have needed is forgotten (Efraimidis and
Spirakis' view of weighted sampling). So a key only remembers its first few finishers, and a
replica that comes or goes is one more draw: O(keys) for each event instead of O(keys × replicas).
How many keys move, and where to, is exact in distribution; what is forgotten is where a key would
return to when the replica that took it goes again. `tests/bench` holds it against the edge's own hash.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int32]
Times = NDArray[np.float64]


@dataclass(frozen=True)
class Standings:
    """The races of some keys, to go back to."""

    home: Ids
    time: Times
    known: Times

    def only(self, chosen: NDArray[np.bool_]) -> Standings:
        """Return those of the ``chosen`` keys."""
        return Standings(self.home[:, chosen], self.time[:, chosen], self.known[chosen])


class Race:
    """The ``ranks`` best replicas of each of ``keys`` keys."""

    def __init__(self, keys: int, *, ranks: int, live: Ids, rng: np.random.Generator) -> None:
        self._rng = rng
        self._live = live
        self._known = np.zeros(keys)  # nobody who finished before this time is unknown
        self.home: Ids = np.full((ranks, keys), -1, dtype=np.int32)
        self._time: Times = np.full((ranks, keys), np.inf)
        self.draw(np.arange(keys))

    def draw(self, keys: NDArray[np.intp]) -> None:
        """Give ``keys`` new names: their races are run anew."""
        self._known[keys] = 0.0
        self._time[:, keys] = np.inf
        self._fill(keys)

    def of(self, keys: NDArray[np.intp]) -> Standings:
        """Return a copy of the races of ``keys``."""
        return Standings(self.home[:, keys], self._time[:, keys], self._known[keys])

    def restore(self, keys: NDArray[np.intp], standings: Standings) -> None:
        """Take the races of ``keys`` back to what they were."""
        self.home[:, keys] = standings.home
        self._time[:, keys] = standings.time
        self._known[keys] = standings.known

    def add(self, new: Ids) -> NDArray[np.bool_]:
        """Let replicas join; return which keys have another first choice now."""
        before = self.home[0].copy()
        ranks, keys = self.home.shape
        times, homes = [self._time], [self.home]
        at = np.zeros(keys)
        for ahead in range(min(ranks, len(new))):
            at = at + self._rng.exponential(1.0 / (len(new) - ahead), keys)
            times.append(np.where(at <= self._known, at, np.inf)[None])
            homes.append(self._rng.choice(new, keys)[None])
        time, home = np.concatenate(times), np.concatenate(homes)
        order = np.argsort(time, axis=0, kind="stable")[:ranks]
        self._time = np.take_along_axis(time, order, axis=0)
        self.home = np.take_along_axis(home, order, axis=0)
        self._known = self._time[-1].copy()
        self._live = np.concatenate([self._live, new])
        return np.asarray(self.home[0] != before)

    def remove(self, gone: Ids) -> NDArray[np.bool_]:
        """Let replicas leave; return which keys have another first choice now."""
        dead = np.zeros(int(self._live.max()) + 1, dtype=bool)
        dead[gone] = True
        self._live = self._live[~dead[self._live]]
        lost = dead[self.home]
        moved = lost[0].copy()
        affected = np.flatnonzero(lost.any(axis=0))
        time = np.where(lost[:, affected], np.inf, self._time[:, affected])
        order = np.argsort(time, axis=0, kind="stable")
        self._time[:, affected] = np.take_along_axis(time, order, axis=0)
        self.home[:, affected] = np.take_along_axis(self.home[:, affected], order, axis=0)
        self._fill(affected)
        return moved

    def _fill(self, keys: NDArray[np.intp]) -> None:
        """Run the races of ``keys`` on until all ranks are taken."""
        for rank in range(len(self.home)):
            open_ = keys[np.isinf(self._time[rank, keys])]
            if open_.size:
                # Who is left: all live replicas but those that have finished already, a few of thousands.
                left = max(1, len(self._live) - rank)
                self._known[open_] += self._rng.exponential(1.0 / left, open_.size)
                self._time[rank, open_] = self._known[open_]
                self.home[rank, open_] = self._rng.choice(self._live, open_.size)
