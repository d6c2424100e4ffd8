"""One call's attempts, step by step, on a clock that only waiting moves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from homing.core.retry.attempts import Broken, CallBudget, Deliver, Effect, Hold, Send, Sleep, attempts
from homing.core.retry.policy import FIRST_BACKOFF, LAPSE_PAUSE, LAPSES, MAX_RESUMES, RESUME_PROGRESS, RetryPolicy
from homing.core.retry.readiness import Readiness, Waiter
from homing.errors import (
    APIStatusError,
    BadRequestError,
    ColdStartTimeout,
    DeadlineExceeded,
    RateLimitError,
    ServerUnreachable,
    StreamInterrupted,
)


def status(code: int, **headers: str) -> APIStatusError:
    kind = {400: BadRequestError, 429: RateLimitError}.get(code, APIStatusError)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return kind(str(code), status_code=code, response=httpx.Response(code, headers=named))


REFUSED = ServerUnreachable("refused")
BROKE = StreamInterrupted("broke")
OK = None


@dataclass
class Server:
    """Answers attempts from a list; an answer is what `Send`, then `Deliver`, are told."""

    answers: list[Any]
    ready: bool = True
    takes: float = 0.0
    now: float = 0.0
    effects: list[Effect] = field(default_factory=list)
    readiness: Readiness = field(default_factory=Readiness)

    def __post_init__(self) -> None:
        if self.ready:
            self.readiness.answered(Waiter(lambda: None), 0.0)

    def call(self, *, cold_start_timeout: float = 1200.0, total: float | None = None, **policy: Any) -> CallBudget:
        ends_at = None if total is None else self.now + total
        plan = CallBudget(RetryPolicy(**policy), cold_start_timeout, started=self.now, ends_at=ends_at, total=total)
        steps = attempts(plan, self.readiness, Waiter(lambda: None), lambda: self.now)
        answers = iter(self.answers)
        result = None
        delivery = None
        while True:
            try:
                effect = steps.send(result)
            except StopIteration:
                assert next(answers, "none left") == "none left"
                assert self.readiness.waiting == 0
                return plan
            self.effects.append(effect)
            result = None
            if isinstance(effect, Send):
                self.now += self.takes
                answer = next(answers)
                result, delivery = answer if isinstance(answer, tuple) else (answer, None)
            elif isinstance(effect, Deliver):
                result = delivery
            else:
                self.now += effect.seconds

    def of(self, kind: type[Any]) -> list[Any]:
        return [effect for effect in self.effects if isinstance(effect, kind)]


def test_a_warm_server_is_sent_to_at_once() -> None:
    server = Server([OK])
    plan = server.call()
    assert server.effects == [Send(1, with_key=True), Deliver()]
    assert (plan.sent, plan.retries, plan.waited) == (1, 0, 0.0)


@pytest.mark.parametrize("error", [status(400), ValueError("odd")])
def test_what_is_final_is_raised_at_once(error: Exception) -> None:
    server = Server([error], ready=False)
    with pytest.raises(type(error)):
        server.call()
    # Whoever says 400 is up.
    assert server.readiness.state == ("ready" if isinstance(error, APIStatusError) else "unknown")


def test_passing_failures_are_retried_within_their_budget() -> None:
    server = Server([status(500), REFUSED, OK])
    plan = server.call(max_retries=2)
    assert (plan.sent, plan.retries) == (3, 2)
    first, second = server.of(Sleep)
    assert first.seconds <= FIRST_BACKOFF
    assert second.seconds <= 2 * FIRST_BACKOFF
    assert (first.notice.attempt, first.notice.next_in) == (1, first.seconds)
    assert [first.notice.error.status_code, second.notice.error] == [500, REFUSED]
    with pytest.raises(APIStatusError, match="500"):
        Server([REFUSED, REFUSED, status(500)]).call(max_retries=2)


def test_a_reply_that_broke_before_anything_was_shown_is_a_failed_attempt() -> None:
    server = Server([(OK, BROKE), OK])  # hermes-agent#112419
    plan = server.call()
    assert [type(effect) for effect in server.effects] == [Send, Deliver, Sleep, Send, Deliver]
    assert plan.retries == 1
    with pytest.raises(StreamInterrupted):
        Server([(OK, BROKE)]).call(max_retries=0)


def test_a_servers_wish_is_waited_out() -> None:
    server = Server([status(429, retry_after="7"), OK])
    server.call()
    assert server.of(Sleep)[0].seconds == 7.0


def test_a_503_of_a_warm_server_is_tried_again_soon_and_then_a_cold_start() -> None:
    server = Server([status(503)] * (LAPSES + 1) + [OK])
    plan = server.call(max_retries=0)  # not out of the budget for passing failures
    assert len(server.of(Sleep)) == LAPSES
    assert all(sleep.seconds <= LAPSE_PAUSE for sleep in server.of(Sleep))
    assert server.of(Hold)
    assert plan.waited > 0


@pytest.mark.parametrize("tries", range(LAPSES + 2))
def test_who_will_not_wait_for_a_replica_asks_a_warm_one_again_within_the_retries(tries: int) -> None:
    again = min(tries, LAPSES)
    server = Server([status(503)] * (again + 1))
    with pytest.raises(ColdStartTimeout, match="last: HTTP 503") as caught:
        server.call(cold_start_timeout=0, max_retries=tries)
    assert caught.value.attempts == again + 1
    assert len(server.of(Sleep)) == again
    assert server.of(Hold) == []


@pytest.mark.parametrize("shown", [False, True], ids=["whole", "streamed"])
def test_a_turn_that_ran_too_long_for_the_engine_is_not_run_again(shown: bool) -> None:
    ended = APIStatusError("503: Request running timeout reached.", status_code=503)
    server = Server([(OK, ended) if shown else ended])
    with pytest.raises(APIStatusError) as caught:
        server.call()
    assert caught.value is ended
    assert server.of(Sleep) == server.of(Hold) == []
    assert server.readiness.state == "ready"


def test_a_503_that_asks_for_patience_gets_it() -> None:
    server = Server([status(503, retry_after="3"), OK])
    server.call()
    assert [sleep.seconds for sleep in server.of(Sleep)] == [3.0]
    late = Server([status(503, retry_after="300"), OK])
    plan = late.call()
    assert late.of(Sleep) == []  # too long for a passing trouble: it is waited out, and shown, as a cold start
    assert plan.waited == pytest.approx(300)
    assert late.of(Hold)[0].notice.cause == "HTTP 503"


def test_saturated_replicas_are_left_once_by_sending_without_the_key() -> None:
    server = Server([status(429)] * 5 + [OK])
    server.call(max_retries=9)
    assert [send.with_key for send in server.of(Send)] == [True, True, False, True, True, False]
    cold = Server([status(503)] * 4 + [OK], ready=False)
    cold.call()
    assert all(send.with_key for send in cold.of(Send))  # nobody is there to be saturated


def test_a_cold_start_is_waited_out_and_shown() -> None:
    server = Server([REFUSED, status(502), status(503), OK], ready=False)
    plan = server.call(max_retries=0)
    assert (plan.sent, plan.retries) == (4, 0)
    assert plan.waited == pytest.approx(server.now)
    notices = [hold.notice for hold in server.of(Hold) if hold.notice is not None]
    assert [notice.cause for notice in notices] == ["refused", "HTTP 502", "HTTP 503"]
    assert [notice.attempt for notice in notices] == [1, 2, 3]
    assert all(notice.deadline == 1200.0 and notice.next_in > 0 for notice in notices)


def test_two_cold_starts_in_one_call_are_added_up() -> None:
    server = Server([status(503), (OK, BROKE), *[status(503)] * (LAPSES + 1), OK], ready=False)
    plan = server.call()
    slept = sum(sleep.seconds for sleep in server.of(Sleep))
    assert plan.waited == pytest.approx(server.now - slept)


def test_who_will_not_wait_is_told_at_once() -> None:
    server = Server([status(503)], ready=False)
    with pytest.raises(ColdStartTimeout, match="last: HTTP 503") as caught:
        server.call(cold_start_timeout=0)
    assert (caught.value.attempts, server.now) == (1, 0.0)
    assert caught.value.__cause__ is caught.value.last


def test_a_total_that_has_ended_stops_all_of_it() -> None:
    with pytest.raises(DeadlineExceeded, match="total of 5 s"):
        Server([status(500)], takes=5.0).call(total=5.0)
    hopeless = Server([status(429, retry_after="10")])
    with pytest.raises(DeadlineExceeded):
        hopeless.call(total=5.0)
    assert hopeless.now == 0.0  # not slept through first
    with pytest.raises(DeadlineExceeded):
        Server([status(503)], ready=False, takes=6.0).call(total=5.0)
    plan = CallBudget(RetryPolicy(), 5.0, started=0.0, ends_at=9.0)
    with pytest.raises(DeadlineExceeded, match="call's total ends"):
        next(attempts(plan, Readiness(), Waiter(print), lambda: 10.0))


def broken(came: int = 1) -> tuple[None, Broken]:
    return OK, Broken(StreamInterrupted("broke"), came)


def test_a_broken_reply_is_gone_on_with_whatever_the_retries_are() -> None:
    server = Server([broken(), broken(), OK])
    plan = server.call(max_retries=0)
    assert (plan.sent, plan.retries, plan.resumes) == (3, 0, 2)
    first, second = server.of(Sleep)
    assert first.seconds <= FIRST_BACKOFF
    assert second.seconds <= 2 * FIRST_BACKOFF
    assert (first.notice.attempt, str(first.notice.error)) == (1, "broke")


def test_a_reply_that_breaks_without_getting_on_is_given_up() -> None:
    with pytest.raises(StreamInterrupted, match="broke; not resumed: it broke 3 times"):
        Server([broken()] * (MAX_RESUMES + 1)).call()
    plan = Server([broken(RESUME_PROGRESS)] * 9 + [OK]).call()
    assert plan.resumes == 9


def test_a_resume_waits_for_a_lost_replica_and_has_tries_of_its_own() -> None:
    # The replica is killed in mid-stream: 503s, then a cold start, then the rest.
    server = Server([status(500), broken(), status(500), *[status(503)] * (LAPSES + 2), OK])
    plan = server.call(max_retries=1)
    assert plan.resumes == 1
    assert plan.waited > 0
    assert server.of(Hold)[0].notice.cause == "HTTP 503"


def test_a_resume_keeps_to_the_total() -> None:
    with pytest.raises(DeadlineExceeded):
        Server([broken()], takes=5.0).call(total=5.0)


def test_a_retry_that_finds_others_waiting_says_what_it_met() -> None:
    readiness, other, now = Readiness(), Waiter(print), [0.0]
    readiness.answered(other, 0.0)
    steps = attempts(CallBudget(RetryPolicy(), 60.0, started=0.0), readiness, Waiter(print), lambda: now[0])
    assert isinstance(next(steps), Send)
    assert isinstance(steps.send(None), Deliver)
    assert isinstance(steps.send(BROKE), Sleep)
    readiness.not_ready(other, 0.5)  # meanwhile the last replica went
    hold = steps.send(None)
    assert isinstance(hold, Hold)
    assert hold.notice is not None
    assert hold.notice.cause == "StreamInterrupted"
    steps.close()
    assert readiness.waiting == 1
