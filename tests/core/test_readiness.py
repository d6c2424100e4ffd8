"""Cold starts on a simulated clock: the real decisions, driven by a priority queue instead of sockets."""

from __future__ import annotations

import functools
import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from homing.core.retry.attempts import Attempts, CallBudget, Deliver, Hold, Send, Sleep, attempts
from homing.core.retry.policy import RetryPolicy
from homing.core.retry.readiness import GAP_SHARE, MAX_GAP, MIN_GAP, Readiness, Waiter
from homing.errors import APIError, ColdStartTimeout, DeadlineExceeded, InternalServerError, ServerUnreachable
from homing.types.events import Waiting

ROUND_TRIP = 0.002


def refused(retry_after: float | None = None) -> InternalServerError:
    import httpx

    headers = {} if retry_after is None else {"retry-after": str(retry_after)}
    return InternalServerError("503", status_code=503, response=httpx.Response(503, headers=headers))


@dataclass
class World:
    """A server that is ready at ``ready_at``, and the calls that wait for it."""

    ready_at: float
    answer_after: float = ROUND_TRIP
    error: Callable[[], Exception] = refused
    now: float = 0.0
    sent: list[float] = field(default_factory=list)
    served: list[float] = field(default_factory=list)
    failed: list[Exception] = field(default_factory=list)
    readiness: Readiness = field(default_factory=Readiness)
    _queue: list[tuple[float, int, Callable[[], object]]] = field(default_factory=list)
    _ids: itertools.count[int] = field(default_factory=itertools.count)

    def at(self, when: float, action: Callable[[], object]) -> None:
        heapq.heappush(self._queue, (when, next(self._ids), action))

    def run(self, until: float = 10_000.0) -> None:
        while self._queue and self._queue[0][0] <= until:
            self.now, _, action = heapq.heappop(self._queue)
            action()

    def call(self, *, cold_start_timeout: float = 1200.0, total: float | None = None) -> Call:
        plan = CallBudget(
            RetryPolicy(),
            cold_start_timeout,
            started=self.now,
            ends_at=None if total is None else self.now + total,
            total=total,
        )
        return Call(self, plan)


class Call:
    """Drives one call's generator in the simulated world."""

    def __init__(self, world: World, plan: CallBudget) -> None:
        self.world = world
        self.plan = plan
        self.waiting = 0
        self.over = False
        self.shown: list[Waiting] = []
        self.ticket = Waiter(self._woken)
        self.steps: Attempts = attempts(plan, world.readiness, self.ticket, lambda: world.now)
        world.at(world.now, lambda: self._go(None, first=True))

    def cancel(self) -> None:
        self.over = True
        self.steps.close()

    def _woken(self) -> None:
        if self.waiting:
            turn = self.waiting
            self.world.at(self.world.now, lambda: self._wake(turn))

    def _wake(self, turn: int) -> None:
        if self.waiting == turn:
            self.waiting = 0
            self._go(None)

    def _go(self, result: Exception | None, *, first: bool = False) -> None:
        if self.over:
            return
        world = self.world
        try:
            effect = next(self.steps) if first else self.steps.send(result)
        except StopIteration:
            self.over = True
            return
        except Exception as error:  # noqa: BLE001
            self.over = True
            world.failed.append(error)
            return
        if isinstance(effect, Send):
            world.sent.append(world.now)
            if world.now >= world.ready_at:
                world.at(world.now + world.answer_after, lambda: self._go(None))
            else:
                world.at(world.now + ROUND_TRIP, lambda: self._go(world.error()))
        elif isinstance(effect, Deliver):
            world.served.append(world.now)
            self._go(None)
        else:
            assert isinstance(effect, (Hold, Sleep))
            if isinstance(effect.notice, Waiting):
                self.shown.append(effect.notice)
            self.waiting = turn = next(world._ids) + 1
            world.at(world.now + effect.seconds, lambda: self._wake(turn))


@functools.cache
def waited_out(callers: int, ready_at: float) -> World:
    """So many calls that begin together, all served."""
    world = World(ready_at)
    for _ in range(callers):
        world.call()
    world.run()
    return world


def little_is_lost(callers: int, ready_at: float) -> None:
    world = waited_out(callers, ready_at)
    assert not world.failed
    assert len(world.served) == callers
    bound = 0.02 * ready_at + 0.3
    assert min(world.served) - ready_at <= bound
    assert max(world.served) - ready_at <= bound + 2 * ROUND_TRIP
    probes = [when for when in world.sent if ROUND_TRIP < when < ready_at]
    assert len(probes) <= 1 + ready_at / 0.25
    assert all(later - earlier >= 0.249 for earlier, later in itertools.pairwise(probes))


@pytest.mark.parametrize("ready_at", [3.0, 30.0, 37.3, 300.0, 1190.0])
def test_little_is_lost_after_readiness_and_little_is_sent_before(ready_at: float) -> None:
    # modal-examples#1553, OpenLLM#607
    for callers in (1, 200, 5000) if ready_at < 100 else (1, 200):
        little_is_lost(callers, ready_at)


COLD_STARTS = (Path(__file__).resolve().parents[2] / "docs" / "cold-starts.md").read_text()
LONG = [pytest.param(ready_at, marks=pytest.mark.slow) for ready_at in (300.0, 1190.0)]
"""Each caller looks again every few seconds: for 5000 of them these are millions of steps."""


@pytest.mark.parametrize("ready_at", [3.0, 30.0, *LONG])
def test_the_docs_quote_these_figures(ready_at: float) -> None:
    for callers in (1, 200, 5000):
        little_is_lost(callers, ready_at)
    late = [f"{max(waited_out(callers, ready_at).served) - ready_at:.2f} s" for callers in (1, 200, 5000)]
    cold = [when for when in waited_out(200, ready_at).sent if when < ready_at]
    row = " | ".join([f"{ready_at:.0f} s", str(len(cold)), *late])
    assert f"| {row} |" in COLD_STARTS


def test_the_docs_quote_where_the_gap_grows() -> None:
    assert f"from {MIN_GAP / GAP_SHARE:.0f} s on" in COLD_STARTS
    assert f"from {MAX_GAP / GAP_SHARE:.0f} s on" in COLD_STARTS


def test_200_conversations_wait_out_30_seconds() -> None:
    # modal-examples#1553, lilbee#465, huggingface_hub#1454
    world = World(30.0)
    calls = [world.call() for _ in range(200)]
    world.run()
    assert (len(world.served), world.failed) == (200, [])
    assert min(world.served) - 30.0 <= 0.02 * 30.0 + 0.3, "regret"
    # One prober: whoever asks, nobody asks within a quarter of a second of another.
    probes = [when for when in world.sent if ROUND_TRIP < when < 30.0]
    assert all(later - earlier >= 0.249 for earlier, later in itertools.pairwise(probes))
    # Everybody's hook is told, at once and then every five or six seconds, of a wait that grows.
    for call in calls:
        told = [notice.elapsed for notice in call.shown]
        assert told == sorted(told)
        assert max(later - earlier for earlier, later in itertools.pairwise([0.0, *told, 30.0])) <= 6.1
        assert {notice.deadline for notice in call.shown} == {1200.0}
        assert {notice.cause for notice in call.shown} <= {"HTTP 503", "another call found no replica ready"}
    # No storm: once it is ready each asks once, and no hundredth of a second sees more than a few.
    released = sorted(when for when in world.sent if when >= 30.0)
    assert len(released) == 200
    assert max(sum(start <= when < start + 0.01 for when in released) for start in released) <= 25


def test_200_waiters_send_a_twentieth_of_what_polling_each_second_sends() -> None:
    # lilbee#465; the seed's loop sends 7,600 requests at a start of 37.3 s
    world = World(37.3)
    for _ in range(200):
        world.call()
    world.run()
    assert len(world.sent) <= 380


def test_the_released_do_not_all_come_at_once() -> None:
    world = World(30.0)
    for _ in range(200):
        world.call()
    world.run()
    after = [when for when in world.sent if when >= 30.0]
    assert len(after) == 200
    assert max(after) - min(after) >= 0.15
    assert len({round(when, 4) for when in after}) >= 190


def test_a_leader_that_leaves_hands_over() -> None:
    world = World(10.0)
    first = world.call()
    world.at(0.1, world.call)
    world.at(0.2, world.call)
    world.at(5.0, first.cancel)
    world.run()
    assert len(world.served) == 2
    assert max(world.served) <= 10.5


def test_a_long_generation_does_not_hold_up_the_rest() -> None:
    # The leader's answer takes a minute: that it was accepted is seen after a second.
    world = World(10.0, answer_after=60.0)
    for _ in range(20):
        world.call()
    world.run()
    accepted = [when for when in world.sent if when >= 10.0]
    assert len(accepted) == 20
    assert max(accepted) <= 10.0 + 0.5 + 1.1


def test_giving_up_says_how_long_how_often_and_why() -> None:
    # transformers#32665
    world = World(1e9)
    world.call(cold_start_timeout=60)
    world.call(cold_start_timeout=90)
    world.run()
    first, second = world.failed
    assert isinstance(first, ColdStartTimeout)
    assert isinstance(second, ColdStartTimeout)
    assert first.waited == pytest.approx(60, abs=0.1)
    assert second.waited == pytest.approx(90, abs=0.1)
    assert isinstance(first.last, InternalServerError)
    assert world.readiness.waiting == 0
    assert world.readiness.state == "unknown"


def test_total_caps_the_wait_too() -> None:
    world = World(1e9)
    world.call(total=5)
    world.run()
    assert isinstance(world.failed[0], APIError)
    assert "total" in str(world.failed[0])
    assert world.now <= 5.1


def test_retry_after_is_honoured_within_the_deadline() -> None:
    world = World(20.0, error=lambda: refused(7.0))
    world.call()
    world.run()
    gaps = [later - earlier for earlier, later in itertools.pairwise(world.sent)]
    assert all(gap >= 7.0 for gap in gaps)
    assert len(world.served) == 1
    late = World(1e9, error=lambda: refused(3600))
    late.call(cold_start_timeout=60)
    late.run()
    assert isinstance(late.failed[0], ColdStartTimeout)
    assert late.now == pytest.approx(60, abs=0.1)


def test_a_refused_connection_is_a_cold_start_while_the_server_has_never_answered() -> None:
    # smolagents#2435
    world = World(10.0, error=lambda: ServerUnreachable("refused"))
    world.call()
    world.run()
    assert len(world.served) == 1


def test_a_server_that_was_ready_gets_two_quick_tries_before_everybody_waits() -> None:
    world = World(0.0)
    world.call()
    world.run()
    assert world.readiness.state == "ready"
    world.ready_at = world.now + 10.0
    began = len(world.sent)
    world.call()
    world.run()
    assert len(world.served) == 2
    early = [when for when in world.sent[began:] if when < world.ready_at - 8.5]
    assert len(early) >= 3


def test_states() -> None:
    readiness = Readiness()
    ticket, other = Waiter(lambda: None), Waiter(lambda: None)
    assert (readiness.state, readiness.ask(ticket, 0.0)) == ("unknown", None)
    assert readiness.ask(other, 0.01) == pytest.approx(0.09)  # the first goes ahead
    assert readiness.ask(other, 0.1) is None  # but not for long
    readiness.not_ready(ticket, 0.0)
    assert readiness.state == "waiting"
    assert readiness.ask(ticket, 0.0) == 0.25
    assert readiness.ask(other, 0.1) is not None
    assert readiness.waiting == 2
    readiness.not_ready(other, 0.2)  # a late answer to an early request changes nothing
    assert readiness.ask(ticket, 0.25) is None
    readiness.answered(ticket, 0.3)
    assert (readiness.state, readiness.waiting) == ("ready", 0)
    assert readiness.ask(other, 0.3) is None


def test_a_warm_server_is_not_kept_waiting() -> None:
    world = World(0.0)
    for _ in range(50):
        world.call()
    world.run()
    assert len(world.served) == 50
    assert max(world.sent) == pytest.approx(ROUND_TRIP)


def test_a_slow_first_answer_holds_the_others_for_a_moment_only() -> None:
    world = World(0.0, answer_after=60.0)
    for _ in range(50):
        world.call()
    world.run()
    assert max(world.sent) == pytest.approx(0.1)


def test_a_deputy_that_leaves_hands_over() -> None:
    readiness = Readiness()
    woken: list[str] = []
    tickets = {name: Waiter(functools.partial(woken.append, name)) for name in ("leader", "deputy", "third")}
    readiness.not_ready(tickets["leader"], 0.0)
    for ticket in tickets.values():
        readiness.ask(ticket, 0.0)
    woken.clear()
    readiness.leave(tickets["third"])
    assert woken == []  # the last in the queue is missed by nobody
    readiness.ask(tickets["third"], 0.0)
    readiness.leave(tickets["deputy"])
    assert woken == ["third"]
    # It watches the leader now: one whose request has been out for a second has been accepted.
    assert readiness.ask(tickets["leader"], 0.25) is None
    assert readiness.ask(tickets["third"], 0.25) == 1.0
    assert readiness.ask(tickets["third"], 1.25) is None
    assert readiness.state == "ready"


def test_a_first_call_that_is_cancelled_lets_the_next_go() -> None:
    readiness = Readiness()
    woken: list[int] = []
    first, second = Waiter(lambda: None), Waiter(lambda: woken.append(2))
    assert readiness.ask(first, 0.0) is None
    assert readiness.ask(second, 0.0) is not None
    readiness.leave(first)
    assert woken == [2]
    assert readiness.ask(second, 0.0) is None


def test_a_call_released_at_the_very_end_of_its_budget_is_served() -> None:
    # The leader is answered a moment before the others' time ends; their release is staggered past it.
    world = World(30.0)
    for _ in range(200):
        world.call(cold_start_timeout=1200.0)
    world.run()
    answered = min(world.served)
    edge = World(30.0)
    edge.call(cold_start_timeout=1200.0)
    for _ in range(199):
        edge.call(cold_start_timeout=answered + 0.005)
    edge.run()
    assert not edge.failed
    assert len(edge.served) == 200
    assert max(edge.served) > answered + 0.05  # some were let out after their budget's end


def test_a_total_that_ends_during_the_release_still_holds() -> None:
    world = World(30.0)
    for _ in range(200):
        world.call(cold_start_timeout=1200.0)
    world.run()
    edge = World(30.0)
    edge.call()
    for _ in range(199):
        edge.call(total=min(world.served) + 0.005)
    edge.run()
    assert {type(error) for error in edge.failed} == {DeadlineExceeded}
    assert len(edge.served) + len(edge.failed) == 200


def test_a_leader_and_a_deputy_that_could_not_say_that_they_left() -> None:
    """An interrupt kept them from it: one attribute store says enough, and the next who asks goes on."""
    readiness = Readiness()
    leader, deputy, third = (Waiter(lambda: None) for _ in range(3))
    readiness.not_ready(leader, 0.0)
    assert readiness.ask(deputy, 0.0) is not None
    assert readiness.ask(third, 0.0) is not None
    leader.gone = deputy.gone = True
    assert readiness.ask(third, 1.0) is None
    assert readiness.waiting == 1


def test_a_call_that_the_collector_closes_in_the_middle_of_a_step() -> None:
    """It waits for no lock that its own thread holds: whoever asks next sees that it has gone."""
    readiness = Readiness()
    leader, woken, third = Waiter(lambda: None), Waiter(lambda: readiness.leave(leader)), Waiter(lambda: None)
    readiness.not_ready(leader, 0.0)
    assert readiness.ask(woken, 0.0) is not None
    readiness.not_ready(leader, 1.0)  # wakes the deputy, within the step
    assert leader.gone
    assert readiness.waiting == 2
    assert readiness.ask(third, 1.5) is None, "it leads now"
    assert readiness.waiting == 2
    assert readiness.ask(woken, 1.5) is not None


def test_a_ticket_that_was_gone_comes_back() -> None:
    readiness = Readiness()
    ticket = Waiter(lambda: None)
    readiness.leave(ticket)
    assert ticket.gone
    assert readiness.ask(ticket, 0.0) is None
    assert not ticket.gone
