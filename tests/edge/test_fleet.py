"""The fleet's decisions on an injected clock: cold start, autoscaling, drain, limits."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homing_server.local.fleet import Fleet, NoReplicaReady, ReplicaSaturated, ReplicaState, Start, Stop
from homing_server.local.settings import EdgeSettings


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class Steered:
    """A fleet whose engines boot at once, and a hand on its clock."""

    def __init__(self, **settings: Any) -> None:
        self.clock = Clock()
        self.fleet = Fleet(EdgeSettings(**settings), clock=self.clock)
        self.stopped: list[str] = []
        self.settle()

    def settle(self) -> None:
        while commands := self.fleet.advance():
            for command in commands:
                if isinstance(command, Start):
                    self.fleet.booted(command.replica_id)
                elif isinstance(command, Stop):
                    self.stopped.append(command.replica_id)
        self.fleet.advance()

    def later(self, seconds: float) -> None:
        self.clock.now += seconds
        self.settle()

    def states(self) -> dict[str, str]:
        return {member.id: member.state.value for member in self.fleet.members}

    def refused(self) -> None:
        with pytest.raises(NoReplicaReady):
            self.fleet.admit("key")
        self.settle()


def test_cold_edge_refuses_at_once_and_the_refusal_starts_it() -> None:
    edge = Steered(min_replicas=0, initial_replicas=0, cold_start=30)
    assert edge.states() == {}
    assert edge.fleet.next_due() is None
    edge.refused()
    assert edge.states() == {"r1": "starting"}
    assert edge.fleet.next_due() == edge.clock.now + 30
    edge.later(29.9)
    edge.refused()
    assert edge.states() == {"r1": "starting"}, "waiting clients do not start more"
    edge.later(0.1)
    assert edge.fleet.admit("key") == "r1"


def test_a_cold_fleet_wakes_as_many_as_its_minimum() -> None:
    edge = Steered(min_replicas=3, max_replicas=3, initial_replicas=0, cold_start=5)
    edge.refused()
    edge.later(5)
    assert edge.fleet.ready == ["r1", "r2", "r3"]


def test_a_slow_engine_is_not_ready_when_its_cold_start_is_over() -> None:
    clock = Clock()
    fleet = Fleet(EdgeSettings(initial_replicas=1), clock=clock)
    fleet.advance()
    clock.now += 100
    fleet.advance()
    assert fleet.ready == []
    fleet.booted("r1")
    fleet.advance()
    assert fleet.ready == ["r1"]


def test_it_scales_up_on_concurrency_and_down_when_idle() -> None:
    edge = Steered(min_replicas=1, max_replicas=3, target_concurrency=2, cold_start=4, scaledown_window=60)
    homes = [edge.fleet.admit(None) for _ in range(5)]
    edge.settle()
    assert edge.states() == {"r1": "ready", "r2": "starting", "r3": "starting"}
    edge.later(4)
    assert edge.fleet.ready == ["r1", "r2", "r3"]
    for home in homes:
        edge.fleet.release(home)
    edge.later(59)
    assert len(edge.fleet.ready) == 3
    edge.later(1)
    assert len(edge.fleet.ready) == 1
    edge.later(1_000)
    assert len(edge.fleet.ready) == 1, "never below min_replicas"


def test_it_never_exceeds_max_replicas() -> None:
    edge = Steered(max_replicas=2, target_concurrency=1, cold_start=0)
    for _ in range(50):
        edge.fleet.admit(None)
        edge.settle()
    assert len(edge.fleet.ready) == 2


def test_scale_to_zero_and_wake_again() -> None:
    edge = Steered(min_replicas=0, initial_replicas=1, scaledown_window=10, cold_start=1)
    edge.later(10)
    assert edge.states() == {}
    edge.refused()
    edge.later(1)
    assert edge.fleet.ready == ["r2"], "a replacement has a new id: its cache is empty"


def test_draining_takes_nothing_new_and_ends_with_its_last_request() -> None:
    edge = Steered(min_replicas=2, max_replicas=2, exit_grace=30, cold_start=1)
    home = edge.fleet.admit("k")
    edge.fleet.drain(home)
    edge.settle()
    assert edge.states()[home] == "draining"
    assert edge.fleet.admit("k") != home
    edge.later(29)
    assert home not in edge.stopped
    edge.fleet.release(home)
    edge.settle()
    assert edge.stopped == [home]


def test_the_exit_grace_ends_what_still_runs() -> None:
    edge = Steered(exit_grace=30)
    home = edge.fleet.admit("k")
    edge.fleet.drain(home)
    assert edge.fleet.next_due() == edge.clock.now + 30
    edge.later(30)
    assert edge.stopped == [home]
    edge.fleet.release(home)  # the cut request reports its end later: harmless


def test_a_saturated_home_refuses_its_key_rather_than_move_it() -> None:
    edge = Steered(min_replicas=2, max_replicas=2, max_concurrency=1)
    home = edge.fleet.admit("k")
    with pytest.raises(ReplicaSaturated) as full:
        edge.fleet.admit("k")
    assert full.value.replica_id == home
    assert edge.fleet.admit(None) != home, "without a key any free replica will do"
    with pytest.raises(ReplicaSaturated):
        edge.fleet.admit(None)


def test_held_cold_until_released() -> None:
    edge = Steered(min_replicas=2, max_replicas=2, cold_start=1)
    edge.fleet.hold_cold()
    edge.settle()
    assert edge.states() == {}
    edge.refused()
    edge.later(1_000)
    assert set(edge.states().values()) == {"starting"}
    edge.fleet.release_cold(1)
    edge.later(1_000)
    assert len(edge.fleet.ready) == 1, "the others stay held"
    edge.fleet.release_cold()
    edge.settle()
    assert len(edge.fleet.ready) == 2


def test_scaling_by_hand_skips_the_cold_start_and_drains_the_newest() -> None:
    edge = Steered(max_replicas=3, cold_start=100)
    edge.fleet.scale(5)
    edge.settle()
    assert len(edge.fleet.ready) == 5
    edge.fleet.scale(2)
    edge.settle()
    assert edge.fleet.ready == ["r1", "r2"]
    edge.fleet.scale(0)
    edge.settle()
    assert edge.states() == {}


def test_a_killed_replica_is_replaced_after_a_cold_start() -> None:
    edge = Steered(min_replicas=2, max_replicas=2, cold_start=7)
    edge.fleet.kill("r1")
    edge.settle()
    assert edge.states() == {"r2": "ready", "r3": "starting"}
    edge.later(7)
    assert edge.fleet.ready == ["r2", "r3"]


def test_routing_without_a_key_repeats_with_the_seed() -> None:
    def route(seed: int) -> list[str]:
        edge = Steered(min_replicas=3, max_replicas=3, seed=seed)
        return [edge.fleet.admit(None) for _ in range(30)]

    assert route(1) == route(1) != route(2)
    assert set(route(1)) == {"r1", "r2", "r3"}


@given(st.lists(st.sampled_from(["ask", "end", "drain", "kill", "tick", "cold", "warm"]), max_size=60))
def test_whatever_happens_the_counts_stay_true(happenings: list[str]) -> None:
    edge = Steered(min_replicas=1, max_replicas=3, target_concurrency=2, cold_start=3, exit_grace=5)
    running: list[str] = []
    for happening in happenings:
        if happening == "ask":
            try:
                running.append(edge.fleet.admit(None))
            except NoReplicaReady:
                pass
        elif happening == "end" and running:
            edge.fleet.release(running.pop())
        elif happening == "drain" and edge.fleet.ready:
            edge.fleet.drain(edge.fleet.ready[0])
        elif happening == "kill" and edge.fleet.members:
            edge.fleet.kill(edge.fleet.members[0].id)
        elif happening == "cold":
            edge.fleet.hold_cold()
        elif happening == "warm":
            edge.fleet.release_cold()
        edge.later(1.0)
        alive = {member.id: member for member in edge.fleet.members}
        assert all(alive[i].running == running.count(i) for i in alive)
        assert sum(m.state is not ReplicaState.DRAINING for m in alive.values()) <= 3
        due = edge.fleet.next_due()
        assert due is None or due > edge.clock.now, "nothing that is due is left undone"


def test_a_replica_that_cannot_start_is_tried_again_later_and_later() -> None:
    edge = Steered(min_replicas=1)
    fleet, clock = edge.fleet, edge.clock
    fleet.kill("r1")
    tries: list[float] = []

    def starts() -> list[str]:
        return [command.replica_id for command in fleet.advance() if isinstance(command, Start)]

    (replica,) = starts()
    for _ in range(9):
        fleet.failed(replica)
        assert starts() == [], "not at once"
        due = fleet.next_due()
        assert due is not None
        tries.append(due - clock.now)
        clock.now = due
        (replica,) = starts()
    assert tries == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    fleet.booted(replica)
    fleet.advance()
    fleet.kill(replica)
    assert starts(), "one that starts ends the pause"


def test_a_late_failure_of_a_replica_that_is_gone_changes_nothing() -> None:
    edge = Steered(min_replicas=1, cold_start=0)
    edge.fleet.kill("r1")
    edge.settle()
    edge.fleet.failed("r1")
    assert edge.states() == {"r2": "ready"}
