"""The queue that interrupted, dropped and forked holders cannot block. `now` is passed in: nothing waits here."""

from __future__ import annotations

from weakref import WeakSet

import pytest

from homing.core.process import fork as forked
from homing.core.process.mutex import GONE_AFTER, LOOK_AGAIN, LOOK_AGAIN_BEHIND, LOST_AFTER, Claim, Mutex


class Woken(Claim):
    """A claim that counts how often it was woken."""

    __slots__ = ("lost", "times")

    def __init__(self) -> None:
        super().__init__(self.count, owner=self)
        self.times = 0
        self.lost = False

    def count(self) -> None:
        self.times += 1

    def is_lost(self) -> bool:
        return self.lost


def held(mutex: Mutex, now: float = 0.0) -> Woken:
    claim = Woken()
    assert mutex.try_take(claim, now)
    return claim


def test_first_come_first_served() -> None:
    mutex = Mutex()
    first, second, third = held(mutex), Woken(), Woken()
    assert mutex.ask(second, 0.0) == LOOK_AGAIN
    assert mutex.ask(third, 0.0) == LOOK_AGAIN_BEHIND
    assert mutex.holder is first
    mutex.release(first, 0.1)
    assert (second.times, third.times) == (1, 0)
    assert mutex.holder is None, "it is about to be taken"
    assert mutex.ask(third, 0.1) == LOOK_AGAIN, "the third may be woken by anything, and does not jump the queue"
    assert mutex.ask(second, 0.1) is None
    assert mutex.holder is second
    mutex.release(second, 0.2)
    assert mutex.ask(third, 0.2) is None


def test_who_holds_it_or_waits_is_known() -> None:
    mutex = Mutex()
    first, waiting = held(mutex), Woken()
    mutex.ask(waiting, 0.0)
    assert mutex.is_claimed_by(first)
    assert mutex.is_claimed_by(waiting)
    assert not mutex.is_claimed_by(Woken())
    waiting.released = True
    assert not mutex.is_claimed_by(waiting)


def test_a_free_one_is_taken_at_once_and_again() -> None:
    mutex = Mutex()
    claim = Woken()
    assert mutex.ask(claim, 0.0) is None
    assert mutex.ask(claim, 0.0) is None
    assert not mutex.try_take(Woken(), 0.0)
    mutex.release(claim, 0.0)
    mutex.release(claim, 0.0)
    held(mutex)


def test_nobody_passes_those_who_wait() -> None:
    mutex = Mutex()
    first, waiting = held(mutex), Woken()
    mutex.ask(waiting, 0.0)
    mutex.release(first, 0.0)
    assert not mutex.try_take(Woken(), 0.0)
    assert mutex.ask(waiting, 0.0) is None


def test_one_attribute_store_is_enough_to_give_it_up() -> None:
    """An interrupted thread may get no further. Nobody is woken; whoever waits looks again."""
    mutex = Mutex()
    first, waiting = held(mutex), Woken()
    mutex.ask(waiting, 0.0)
    first.released = True
    assert waiting.times == 0
    assert mutex.holder is None
    assert mutex.ask(waiting, LOOK_AGAIN) is None


def test_a_waiter_that_gives_up_is_passed_by_and_wakes_nobody_who_holds() -> None:
    mutex = Mutex()
    first, second, third = held(mutex), Woken(), Woken()
    mutex.ask(second, 0.0)
    mutex.ask(third, 0.0)
    mutex.release(second, 0.0)
    assert (first.times, third.times) == (0, 0)
    mutex.release(first, 0.0)
    assert third.times == 1
    assert mutex.ask(third, 0.0) is None


def test_the_one_that_was_woken_gives_up_in_that_moment() -> None:
    """Cancelled between the wake-up and its next question: the turn goes to the one behind it."""
    mutex = Mutex()
    first, second, third = held(mutex), Woken(), Woken()
    mutex.ask(second, 0.0)
    mutex.ask(third, 0.0)
    mutex.release(first, 0.0)
    assert second.times == 1
    mutex.release(second, 0.0)
    assert third.times == 1
    assert mutex.ask(third, 0.0) is None


def test_a_waiter_that_asks_no_more_is_passed_by_and_queues_up_again() -> None:
    mutex = Mutex()
    first, slow, waiting = held(mutex), Woken(), Woken()
    mutex.ask(slow, 0.0)
    mutex.ask(waiting, 0.0)
    mutex.release(first, 0.0)
    assert mutex.ask(waiting, GONE_AFTER) == LOOK_AGAIN
    assert mutex.ask(waiting, GONE_AFTER + 0.1) is None
    assert mutex.ask(slow, GONE_AFTER + 0.1) == LOOK_AGAIN
    mutex.release(waiting, GONE_AFTER + 0.2)
    assert mutex.ask(slow, GONE_AFTER + 0.2) is None


def test_a_holder_may_take_its_time() -> None:
    mutex = Mutex()
    held(mutex)
    assert mutex.ask(Woken(), 1000 * GONE_AFTER) is not None


def test_a_holder_that_is_no_more_is_given_time_for_its_finalizer() -> None:
    mutex = Mutex()
    first, waiting = held(mutex), Woken()
    first.lost = True
    assert mutex.ask(waiting, 0.0) is not None
    assert mutex.ask(waiting, LOST_AFTER) is not None
    assert mutex.ask(waiting, LOST_AFTER + 0.1) is None
    assert not Claim(lambda: None).is_lost()


def test_a_signal_handler_takes_it_in_the_middle_of_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    mutex, handlers, claim = Mutex(), Woken(), Woken()
    enqueue = mutex._enqueue

    def interrupted(one: Claim, now: float) -> None:
        enqueue(handlers, now)
        enqueue(one, now)

    monkeypatch.setattr(mutex, "_enqueue", interrupted)
    assert not mutex.try_take(claim, 0.0)
    monkeypatch.undo()
    assert mutex.ask(handlers, 0.0) is None
    mutex._forget(claim)  # forgotten already
    assert mutex.ask(claim, 0.0) == LOOK_AGAIN


def test_a_child_process_is_not_held_up_by_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forked, "_kept", WeakSet())
    mutex = Mutex()
    held(mutex)
    mutex.ask(Woken(), 0.0)
    mutex._guard.acquire()  # by another thread, in the instant of the fork
    forked._renew()
    held(mutex)
