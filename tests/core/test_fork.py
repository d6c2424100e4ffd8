"""What begins anew in a forked child, looked at without one (tests/attack/test_fork.py forks)."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from weakref import WeakSet

import pytest

from homing._http.pool import Pool
from homing._http.pool import PoolRequest as Request
from homing._http.request_control import Aborted, RequestControl
from homing.core.affinity.placement import Replicas
from homing.core.affinity.strategies import EchoAffinity
from homing.core.encoding.cache import EncodingCache
from homing.core.process import fork
from homing.core.process.fork import Renewable
from homing.core.request.server_state import ServerState
from homing.core.retry.readiness import Readiness, Waiter

MESSAGES = [{"role": "user" if number % 2 else "system", "content": str(number)} for number in range(6)]


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what else the tests' process has from beginning anew."""
    monkeypatch.setattr(fork, "_kept", WeakSet())


class Connection:
    """Stands for one."""


def pool() -> Pool[object]:
    return Pool(max_connections=1, keepalive_expiry=1.0, close=lambda connection: None)


@pytest.mark.parametrize("make", [Readiness, Replicas, EncodingCache, ServerState, EchoAffinity, RequestControl, pool])
def test_a_lock_that_another_thread_held_is_free(make: Callable[[], Renewable]) -> None:
    owner = make()
    with ThreadPoolExecutor(1) as another:
        another.submit(owner._lock.acquire).result()  # type: ignore[attr-defined]
        fork._renew()
    assert owner._lock.acquire(blocking=False)  # type: ignore[attr-defined]


def test_a_child_leads_for_itself() -> None:
    readiness = Readiness()
    leader, follower = (Waiter(lambda: None) for _ in range(2))
    readiness.not_ready(leader, 1.0)
    assert readiness.ask(follower, 1.0) is not None
    fork._renew()
    assert (readiness.state, readiness.waiting) == ("unknown", 0)
    assert readiness.ask(Waiter(lambda: None), 2.0) is None


def test_the_parent_s_turns_burden_no_replica_of_the_child_s() -> None:
    replicas = Replicas()
    replicas.begin("key", 0.0)
    replicas.seen("key", "one", 0.0)
    replicas.seen("spare", "two", 0.0)
    assert replicas.loads(0.0) == {"one": (1, 1), "two": (0, 0)}
    fork._renew()
    assert replicas.loads(0.0) == {}


def test_the_parent_s_connections_are_not_in_the_child_s_pool() -> None:
    connections = pool()
    waits: Request[object] = Request(("http", "host", 80), lambda: None)
    connections.checkout(waits, now=0.0)
    connection = Connection()
    connections.opened(connection, waits)
    fork._renew()
    assert (connections.idle, connections.in_use, connections.waiting) == (0, 0, 0)
    connections.checkin(connection, ("http", "host", 80), now=0.0)  # by a response that the child closes
    assert (connections.idle, connections.in_use) == (0, 0)


def test_a_call_of_the_parent_s_is_out_of_reach() -> None:
    call, broken = RequestControl(), []
    call.attach(lambda: broken.append(True))
    fork._renew()
    call.abort()
    assert not broken
    with pytest.raises(Aborted):
        call.attach(lambda: None)


def test_encodings_are_made_again() -> None:
    histories = EncodingCache()
    encoded = histories.encode(MESSAGES)
    fork._renew()
    assert histories.size == 0
    assert histories.encode(MESSAGES) == encoded


def test_what_was_learnt_and_counted_stays() -> None:
    server_state, affinity = ServerState(), EchoAffinity()
    server_state.owner = "sglang"
    affinity.observe("key", {"x-session-token": "t"})
    totals = server_state.totals
    fork._renew()
    assert server_state.owner == "sglang"
    assert server_state.totals is totals
    headers: dict[str, str] = {}
    affinity.apply("key", headers, {})
    assert "t" in headers.values()


def test_nothing_is_kept_alive() -> None:
    Readiness()
    assert not list(fork._kept)
