"""The replicas' prefix caches: who still holds how much of which session."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Caches:
    """A token pool for each replica, least recently used out first.

    A replica counts the tokens that its turns touched. A prefix is gone once more than ``pool``
    tokens were touched there after it: LRU, except that a session which speaks twice in between
    is counted twice. Each session's last ``visits`` replicas are remembered; that is what
    a session without affinity may find again.
    """

    def __init__(self, sessions: int, replicas: int, *, pool: float, visits: int) -> None:
        self.pool = pool
        self._touched = np.zeros(replicas)
        self._where = np.full((visits, sessions), -1, dtype=np.int32)
        self._mark = np.zeros((visits, sessions))
        self._length = np.zeros((visits, sessions), dtype=np.float32)

    def forget(self, sessions: NDArray[np.intp]) -> None:
        """Other sessions begin in these places."""
        self._where[:, sessions] = -1

    def turn(self, sessions: NDArray[np.intp], replicas: NDArray[np.int32], prompt: Floats, total: Floats) -> Floats:
        """Let each of ``sessions`` speak on its replica; return the prompt tokens found cached there.

        ``total`` is prompt and reply: what the replica holds afterwards.
        """
        where = self._where[:, sessions]
        here = where == replicas
        fresh = here & (self._touched[replicas] - self._mark[:, sessions] + prompt <= self.pool)
        cached = np.where(fresh, self._length[:, sessions], 0).max(axis=0).astype(float)
        self._touched += np.bincount(replicas, weights=total, minlength=self._touched.size)
        # Its old entry of this replica if there is one, else its oldest.
        slot = np.where(here.any(axis=0), here.argmax(axis=0), self._mark_order(sessions, where))
        self._where[slot, sessions] = replicas
        self._mark[slot, sessions] = self._touched[replicas]
        self._length[slot, sessions] = total
        return np.minimum(cached, prompt)

    def _mark_order(self, sessions: NDArray[np.intp], where: NDArray[np.int32]) -> NDArray[np.intp]:
        # Prefixes grow with each turn, so the shortest is the oldest; an empty place comes first.
        return np.asarray(np.where(where < 0, -1.0, self._length[:, sessions]).argmin(axis=0))
