"""The pool by itself: who gets which connection."""

from __future__ import annotations

import threading

import pytest

from homing._http.pool import Pool, PoolRequest

HERE = ("http", "here", 80)
THERE = ("http", "there", 80)


class Book:
    """A pool of names, and what it has closed."""

    def __init__(self, max_connections: int | None = None, keepalive_expiry: float = 4.0) -> None:
        self.closed: list[str] = []
        self.woken = 0
        self.tickets: list[PoolRequest[str]] = []
        self.pool: Pool[str] = Pool(
            max_connections=max_connections, keepalive_expiry=keepalive_expiry, close=self.closed.append
        )

    def ask(self, origin: tuple[str, str, int] = HERE, *, now: float = 0.0, fresh: bool = False) -> PoolRequest[str]:
        ticket: PoolRequest[str] = PoolRequest(origin, self.wake)
        self.tickets.append(ticket)
        self.pool.checkout(ticket, now=now, fresh=fresh)
        return ticket

    def wake(self) -> None:
        self.woken += 1

    def lend(self, name: str, origin: tuple[str, str, int] = HERE, *, now: float = 0.0) -> None:
        """Open a connection of that name."""
        ticket = self.ask(origin, now=now, fresh=True)
        assert ticket.served
        assert ticket.connection is None
        self.pool.opened(name, ticket)

    @property
    def counts(self) -> tuple[int, int, int]:
        return self.pool.idle, self.pool.in_use, self.pool.waiting


def test_the_last_used_is_used_next() -> None:
    book = Book()
    for name in "abc":
        book.lend(name)
    for name in "abc":
        book.pool.checkin(name, HERE, now=1.0)
    assert [book.ask(now=2.0).connection for _ in range(4)] == ["c", "b", "a", None]
    assert book.counts == (0, 4, 0)


def test_who_waits_is_served_when_a_connection_was_dropped() -> None:
    book = Book(max_connections=1)
    book.lend("a")
    waiting, woken = book.ask(), book.woken
    book.pool.admit()
    assert not waiting.served
    book.pool.dropped.append("a")
    book.pool.admit()
    assert waiting.served
    assert waiting.connection is None
    assert book.woken == woken + 1


def test_a_connection_that_was_dropped_makes_room() -> None:
    book = Book(max_connections=1)
    book.lend("a")
    book.pool.dropped.append("a")
    assert book.counts == (0, 0, 0)
    assert book.ask().served
    assert not book.pool.dropped


def test_origins_do_not_mix() -> None:
    book = Book()
    book.lend("a")
    book.pool.checkin("a", HERE, now=0.0)
    assert book.ask(THERE).connection is None
    assert book.ask(HERE).connection == "a"


def test_idle_connections_expire_before_the_server_closes_them() -> None:
    book = Book()
    for name in "ab":
        book.lend(name)
    book.pool.checkin("a", HERE, now=0.0)
    book.pool.checkin("b", HERE, now=3.0)
    assert book.ask(now=4.0).connection == "b"
    assert book.closed == ["a"]
    book.pool.checkin("b", HERE, now=5.0)
    assert book.ask(now=9.0).connection is None
    assert book.closed == ["a", "b"]


def test_no_limit_by_default() -> None:
    """openai-python#2539, #821: PoolTimeout at 100 streams."""
    book = Book()
    assert all(book.ask().served for _ in range(5000))


def test_at_the_limit_first_come_first_served() -> None:
    book = Book(max_connections=1)
    book.lend("a")
    second, third = book.ask(), book.ask()
    assert book.counts == (0, 1, 2)
    book.pool.checkin("a", HERE, now=0.0)
    assert (second.served, second.connection, third.served) == (True, "a", False)
    book.pool.discard("a")
    assert (third.served, third.connection) == (True, None)
    assert book.counts == (0, 1, 0)
    assert book.closed == ["a"]


def test_a_request_elsewhere_is_worth_more_than_an_idle_connection() -> None:
    book = Book(max_connections=1)
    book.lend("a")
    book.pool.checkin("a", HERE, now=0.0)
    assert book.ask(THERE).served
    assert book.closed == ["a"]


def test_a_connection_returned_to_a_queue_for_elsewhere_makes_room() -> None:
    book = Book(max_connections=1)
    book.lend("a")
    waiting = book.ask(THERE)
    book.pool.checkin("a", HERE, now=0.0)
    assert (waiting.served, waiting.connection) == (True, None)
    assert book.closed == ["a"]


def test_a_failed_connect_lets_the_next_in() -> None:
    book = Book(max_connections=1)
    assert book.ask().served
    waiting = book.ask()
    book.pool.failed(book.tickets[0])
    assert waiting.served
    assert book.counts == (0, 1, 0)


@pytest.mark.parametrize("served_meanwhile", [False, True])
def test_who_gives_up_waiting_takes_nothing_away(served_meanwhile: bool) -> None:
    book = Book(max_connections=1)
    book.lend("a")
    waiting = book.ask()
    if served_meanwhile:
        book.pool.checkin("a", HERE, now=0.0)
    book.pool.withdraw(waiting, now=0.0)
    if not served_meanwhile:
        book.pool.checkin("a", HERE, now=0.0)
    assert book.counts == (1, 0, 0)


def test_who_gives_up_leave_to_open_frees_the_place() -> None:
    book = Book(max_connections=1)
    book.pool.withdraw(book.ask(), now=0.0)
    assert book.counts == (0, 0, 0)


def test_fresh_passes_by_idle_connections() -> None:
    book = Book()
    book.lend("a")
    book.pool.checkin("a", HERE, now=0.0)
    assert book.ask(fresh=True).connection is None
    assert book.counts == (1, 1, 0)


def test_the_representation_counts() -> None:
    book = Book()
    book.lend("a")
    book.lend("b")
    book.pool.checkin("b", HERE, now=0.0)
    assert repr(book.pool) == "<Pool idle=1 in_use=1 waiting=0>"


def test_closing() -> None:
    book = Book(max_connections=2)
    book.lend("a")
    book.lend("b")
    book.pool.checkin("a", HERE, now=0.0)
    busy = book.ask(THERE)
    waiting = book.ask()
    assert busy.served
    idle, in_use = book.pool.close()
    assert (idle, in_use) == ([], ["b"])
    assert waiting.refused
    book.pool.withdraw(waiting, now=0.0)
    book.pool.opened("late", busy)
    book.pool.checkin("b", HERE, now=0.0)
    assert book.closed == ["a", "late", "b"]
    with pytest.raises(RuntimeError, match="closed"):
        book.ask()


def test_a_connection_that_the_pool_has_given_up_is_still_closed() -> None:
    book = Book()
    book.lend("a")
    assert book.pool.close() == ([], ["a"])
    book.pool.discard("a")
    assert book.closed == ["a"]
    assert book.counts == (0, 0, 0)


def test_forgetting_closes_nothing() -> None:
    book = Book()
    book.lend("a")
    book.lend("b")
    book.pool.checkin("a", HERE, now=0.0)
    assert sorted(book.pool.forget()) == ["a", "b"]
    assert book.closed == []
    assert book.counts == (0, 0, 0)


def test_threads_never_share_a_connection() -> None:
    book = Book(max_connections=8)
    names = iter(range(1000))
    taken: set[str] = set()
    mine = threading.Lock()
    failures: list[str] = []

    def work() -> None:
        for _ in range(300):
            served = threading.Event()
            ticket: PoolRequest[str] = PoolRequest(HERE, served.set)
            book.pool.checkout(ticket, now=0.0)
            assert served.wait(10)
            name = ticket.connection
            if name is None:
                with mine:
                    name = str(next(names))
                book.pool.opened(name, ticket)
            with mine:
                if name in taken:
                    failures.append(name)
                taken.add(name)
            with mine:
                taken.remove(name)
            book.pool.checkin(name, HERE, now=0.0)

    threads = [threading.Thread(target=work) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert book.pool.in_use == 0
    assert 1 <= book.pool.idle <= 8
