"""The replicas of an edge and the decisions about them. No I/O; the clock is injected.

A replica is ``starting`` until its cold start is over and its engine has booted, then
``ready``, then ``draining`` until its last request ends or the exit grace is over, then
gone. Ids are never used again, so a replacement is a new home with an empty cache.

The owner performs what ``advance`` returns and calls it again whenever something happened
or ``next_due`` has passed.
"""

from __future__ import annotations

import enum
import math
import random
from collections.abc import Callable
from dataclasses import dataclass

from .routing import home_of
from .settings import EdgeSettings

# Seconds until another replica is started where one could not: twice as long each time, so that
# a model that cannot be loaded is not loaded without pause.
FAILED_PAUSE = 1.0
FAILED_PAUSE_MOST = 60.0


class ReplicaState(str, enum.Enum):
    """Where a replica is in its life."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"


@dataclass(slots=True)
class Member:
    """One replica as the edge sees it. Times are the injected clock's, in seconds."""

    id: str
    state: ReplicaState
    ready_at: float
    booted: bool = False
    released: bool = False
    running: int = 0
    idle_since: float = math.inf
    gone_at: float = math.inf


@dataclass(frozen=True, slots=True)
class Start:
    """Boot an engine for this replica, then call ``Fleet.booted``."""

    replica_id: str


@dataclass(frozen=True, slots=True)
class Stop:
    """This replica is gone: cut what still runs on it and release it."""

    replica_id: str


class NoReplicaReady(Exception):
    """Nothing can answer now (503). The refusal has woken a replica if none was on its way."""


class ReplicaSaturated(Exception):
    """The replica is at ``max_concurrency`` (429)."""

    def __init__(self, replica_id: str) -> None:
        super().__init__(replica_id)
        self.replica_id = replica_id


class Fleet:
    """Replicas, routing, autoscaler and lifecycle of one edge.

    ``held`` keeps starting replicas from becoming ready, for tests of cold starts.
    """

    def __init__(self, settings: EdgeSettings, *, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._rng = random.Random(f"routing {settings.seed}")
        self._minted = 0
        self._members: dict[str, Member] = {}
        self._commands: list[Start | Stop] = []
        self.minimum = settings.min_replicas
        self.maximum = settings.max_replicas
        self.held = False
        self._failures = 0
        self._not_before = -math.inf
        self._awake = settings.first_replicas > 0
        for _ in range(settings.first_replicas):
            self._start(cold_start=0.0)

    @property
    def members(self) -> list[Member]:
        """Every replica that is not gone."""
        return list(self._members.values())

    @property
    def ready(self) -> list[str]:
        """Ids of the replicas that take requests."""
        return [m.id for m in self._members.values() if m.state is ReplicaState.READY]

    @property
    def running(self) -> int:
        """Requests in flight on all replicas."""
        return sum(member.running for member in self._members.values())

    # Requests

    def admit(self, key: str | None) -> str:
        """Choose the replica for a request and count the request there.

        Raises ``NoReplicaReady`` or ``ReplicaSaturated``. A key whose home is saturated is
        refused rather than moved, as on Modal; without a key any free replica will do.
        """
        ready = self.ready
        if not ready:
            self._awake = True
            raise NoReplicaReady
        limit = self._settings.max_concurrency or math.inf
        if key is None:
            free = [replica_id for replica_id in ready if self._members[replica_id].running < limit]
            chosen = self._rng.choice(free or ready)
        else:
            chosen = home_of(key, ready)
        member = self._members[chosen]
        if member.running >= limit:
            raise ReplicaSaturated(chosen)
        member.running += 1
        member.idle_since = math.inf
        return chosen

    def release(self, replica_id: str) -> None:
        """Count a request as ended."""
        member = self._members.get(replica_id)
        if member is not None:
            member.running -= 1
            if member.running == 0:
                member.idle_since = self._clock()

    # Lifecycle

    def booted(self, replica_id: str) -> None:
        """Say that the engine of a replica answers."""
        if replica_id in self._members:
            self._members[replica_id].booted = True
            self._failures = 0

    def failed(self, replica_id: str) -> None:
        """Say that the engine of a replica could not start. The next one waits a little."""
        if replica_id in self._members:
            self._not_before = self._clock() + min(FAILED_PAUSE * 2**self._failures, FAILED_PAUSE_MOST)
            self._failures += 1
            self.kill(replica_id)

    def drain(self, replica_id: str) -> None:
        """Route nothing new to a replica and let it finish within the exit grace."""
        member = self._members[replica_id]
        member.state = ReplicaState.DRAINING
        member.gone_at = min(member.gone_at, self._clock() + self._settings.exit_grace)

    def kill(self, replica_id: str) -> None:
        """Let a replica be gone at once, as a preempted container is."""
        del self._members[replica_id]
        self._commands.append(Stop(replica_id))

    def replace(self) -> None:
        """Start one replica without a cold start."""
        self._start(cold_start=0.0)

    def restart(self) -> None:
        """Kill every replica and begin as at first, with new ids."""
        for member in self.members:
            self.kill(member.id)
        self.minimum, self.maximum = self._settings.min_replicas, self._settings.max_replicas
        self.held = False
        self._awake = self._settings.first_replicas > 0
        for _ in range(self._settings.first_replicas):
            self._start(cold_start=0.0)

    def scale(self, count: int) -> None:
        """Fix the number of replicas: new ones skip the cold start, the newest superfluous drain.

        0 puts the fleet to sleep instead, so that the next request starts it as it was set up.
        """
        self._awake = count > 0
        if self._awake:
            self.minimum = self.maximum = count
        living = self._living()
        for _ in range(count - len(living)):
            self._start(cold_start=0.0)
        for member in living[count:]:
            self.drain(member.id)

    def hold_cold(self) -> None:
        """Kill every replica and let none become ready until ``release_cold``."""
        for member in self.members:
            self.kill(member.id)
        self.held = True
        self._awake = False

    def release_cold(self, count: int | None = None) -> list[str]:
        """End the cold start of ``count`` starting replicas; starts some if none is on its way.

        None ends it for all and lifts the hold; with a count the others stay held. Returns
        the ids of those whose cold start has ended.
        """
        self.held = self.held and count is not None
        self._awake = True
        if not self._living():
            for _ in range(count or self._floor()):
                self._start(cold_start=0.0)
        starting = [m for m in self._members.values() if m.state is ReplicaState.STARTING]
        for member in starting[:count]:
            member.released, member.ready_at = True, self._clock()
        return [member.id for member in starting[:count]]

    def advance(self) -> list[Start | Stop]:
        """Bring every replica to where it should be by now and return what is to be done."""
        now = self._clock()
        for member in self.members:
            if member.state is ReplicaState.STARTING:
                if member.booted and member.ready_at <= now and (member.released or not self.held):
                    member.state, member.idle_since = ReplicaState.READY, now
            elif member.state is ReplicaState.DRAINING and (not member.running or member.gone_at <= now):
                self.kill(member.id)
        self._autoscale(now)
        commands, self._commands = self._commands, []
        return commands

    def next_due(self) -> float | None:
        """Return when ``advance`` will next have something to do by the clock alone, None if never."""
        times = [m.gone_at for m in self._members.values()]
        if not self.held:
            times += [m.ready_at for m in self._members.values() if m.state is ReplicaState.STARTING and m.booted]
        if len(self._living()) > self._floor():
            times += [m.idle_since + self._settings.scaledown_window for m in self._living()]
        if self._failures and self._awake and len(self._living()) < self._floor():
            times.append(self._not_before)
        return min((t for t in times if t < math.inf), default=None)

    def _autoscale(self, now: float) -> None:
        if not self._awake:
            return
        living = self._living()
        wanted = math.ceil(sum(m.running for m in living) / self._settings.target_concurrency)
        wanted = max(self._floor(), min(wanted, self.maximum))
        for _ in range(wanted - len(living) if now >= self._not_before else 0):
            self._start(cold_start=self._settings.cold_start)
        idle = [m for m in living if m.idle_since + self._settings.scaledown_window <= now]
        for member in sorted(idle, key=lambda m: m.idle_since)[: max(len(living) - wanted, 0)]:
            self.kill(member.id)
        if not self._living() and now >= self._not_before:
            self._awake = False  # back at zero: the next request wakes it

    def _floor(self) -> int:
        # Woken from zero it needs one, also where min_replicas is 0; an idle one leaves by its window.
        return max(self.minimum, 0 if self._living() else min(1, self.maximum))

    def _living(self) -> list[Member]:
        return [m for m in self._members.values() if m.state is not ReplicaState.DRAINING]

    def _start(self, *, cold_start: float) -> None:
        self._minted += 1
        replica_id = f"r{self._minted}"
        self._members[replica_id] = Member(replica_id, ReplicaState.STARTING, self._clock() + cold_start)
        self._commands.append(Start(replica_id))
