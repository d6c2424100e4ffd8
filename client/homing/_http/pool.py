"""Decides which connection serves which request.

Everything here takes constant time for each request. httpcore's pool looks at all its
connections for every request, which costs 1 to 2 ms when 200 streams open at once.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar
from weakref import WeakSet

from ..core.process.fork import renew_after_fork

C = TypeVar("C")

Origin = tuple[str, str, int]
"""Scheme, host and port. Connections to the same origin are interchangeable."""


_CLOSED = "Cannot send a request, as the transport has been closed."


class PoolRequest(Generic[C]):
    """One request's place in the pool, and in the queue when the pool is full.

    Once it is served, ``connection`` is an idle connection to reuse, or None: then its holder may
    open one, and must call `Pool.opened` or `Pool.failed`. It is ``refused`` if the pool was
    closed while it waited. ``wake`` is called in either case.
    """

    __slots__ = ("__weakref__", "_wake", "connection", "origin", "refused", "served")

    def __init__(self, origin: Origin, wake: Callable[[], None]) -> None:
        self.origin = origin
        self.served = False
        self.connection: C | None = None
        self.refused = False
        self._wake = wake

    def serve(self, connection: C | None) -> None:
        """Give it a connection, or permission to open one."""
        self.connection = connection
        self.served = True
        self._wake()

    def refuse(self) -> None:
        """Report that it won't be served."""
        self.refused = True
        self._wake()


class Pool(Generic[C]):
    """The connections of one transport. Thread-safe. It does no I/O itself except calling ``close``.

    The connection used last is reused first: its congestion window is warm and its server has
    just shown life, while the others may grow old and expire.

    ``max_connections`` None means no limit (backends hold hundreds of streams; httpx's 100 ends
    in PoolTimeout: openai-python#821). With a limit, requests are served first come, first served.
    ``keepalive_expiry`` is in seconds. ``close`` must neither block nor raise.
    """

    def __init__(self, *, max_connections: int | None, keepalive_expiry: float, close: Callable[[C], None]) -> None:
        self._max = max_connections
        self._expiry = keepalive_expiry
        self._close = close
        self._closed = False
        self._begin()
        renew_after_fork(self)

    def _begin(self) -> None:
        self._lock = threading.RLock()  # a signal handler may call this in the middle of a step
        self._idle: dict[Origin, deque[tuple[float, C]]] = {}
        self._idle_count = 0
        self._busy: set[C] = set()
        self.dropped: deque[C] = deque()
        """Connections of responses that were garbage-collected, not closed. Finalizers take no lock: see `admit`."""
        # Weak references: an interrupt may come between the permission to open a connection and its use.
        self._opening: WeakSet[PoolRequest[C]] = WeakSet()
        self._queue: deque[PoolRequest[C]] = deque()

    _after_fork = _begin  # the connections close by themselves

    @property
    def idle(self) -> int:
        """How many connections are idle."""
        return self._idle_count

    @property
    def in_use(self) -> int:
        """How many connections serve a request or are being opened for one."""
        return len(self._busy.difference(self.dropped)) + len(self._opening)

    @property
    def waiting(self) -> int:
        """How many requests wait for a connection."""
        return len(self._queue)

    def take_idle(self, origin: Origin, taken: list[C], *, now: float) -> C | None:
        """Return an idle connection if there is one: the common case, without a ticket.

        It is put into ``taken`` too, where the caller finds it even if an interrupt keeps this from returning.
        """
        with self._lock:
            if self._closed:
                raise RuntimeError(_CLOSED)
            self._forget_dropped()
            doomed = self._expired(origin, now)
            connection = self._pop_idle(origin, taken)
        self._close_all(doomed)
        return connection

    def checkout(self, ticket: PoolRequest[C], *, now: float, fresh: bool = False) -> None:
        """Serve ``ticket`` at once or put it into the queue. ``fresh`` rules out an idle connection."""
        with self._lock:
            if self._closed:
                raise RuntimeError(_CLOSED)
            self._forget_dropped()
            doomed = self._expired(ticket.origin, now)
            connection = None if fresh else self._pop_idle(ticket.origin, [])
            if connection is not None:
                ticket.serve(connection)
            elif self._has_room() or self._evict(doomed):
                self._opening.add(ticket)
                ticket.serve(None)
            else:
                self._queue.append(ticket)
        self._close_all(doomed)

    def admit(self) -> None:
        """Serve waiting requests if there is room: connections may have been dropped without notice."""
        with self._lock:
            self._forget_dropped()
            self._admit()

    def opened(self, connection: C, ticket: PoolRequest[C]) -> None:
        """Record the connection that a served ``ticket`` has opened."""
        with self._lock:
            self._opening.discard(ticket)
            self._busy.add(connection)
            doomed = [connection] if self._closed else []
        self._close_all(doomed)

    def failed(self, ticket: PoolRequest[C]) -> None:
        """Record that a served ``ticket`` has opened no connection."""
        with self._lock:
            self._opening.discard(ticket)
            self._admit()

    def checkin(self, connection: C, origin: Origin, *, now: float) -> None:
        """Take back a connection that can be reused."""
        with self._lock:
            if connection not in self._busy:  # forgotten, or closed with the pool
                doomed = [connection]
            elif self._queue and self._queue[0].origin == origin:
                self._queue.popleft().serve(connection)
                doomed = []
            else:
                self._busy.remove(connection)
                doomed = self._expired(origin, now)
                if self._queue or self._closed:
                    doomed.append(connection)
                    self._admit()
                else:
                    self._idle.setdefault(origin, deque()).append((now, connection))
                    self._idle_count += 1
        self._close_all(doomed)

    def discard(self, connection: C) -> None:
        """Close a connection that can't be reused."""
        with self._lock:
            if connection in self._busy:
                self._busy.remove(connection)
                self._admit()
        self._close(connection)

    def withdraw(self, ticket: PoolRequest[C], *, now: float) -> None:
        """Give up a ticket, even if it has been served meanwhile."""
        with self._lock:
            if not ticket.served:
                if ticket in self._queue:  # not after `close`
                    self._queue.remove(ticket)
                return
        if ticket.connection is None:
            self.failed(ticket)
        else:
            self.checkin(ticket.connection, ticket.origin, now=now)

    def close(self) -> tuple[list[C], list[C]]:
        """Give up all connections and return the idle and the busy ones. Nothing can be sent afterwards."""
        with self._lock:
            self._closed = True
            busy = list(self._busy)
            self._busy.clear()
            idle = self.forget()
            tickets = list(self._queue)
            self._queue.clear()
        for ticket in tickets:
            ticket.refuse()
        return idle, busy

    def forget(self) -> list[C]:
        """Remove all connections from the pool and return them, without closing them.

        For connections that another event loop has left behind.
        """
        connections = [connection for stack in self._idle.values() for _, connection in stack]
        connections += self._busy
        self._idle.clear()
        self._idle_count = 0
        self._busy.clear()
        return connections

    def _forget_dropped(self) -> None:
        while self.dropped:
            self._busy.discard(self.dropped.popleft())

    def _pop_idle(self, origin: Origin, taken: list[C]) -> C | None:
        stack = self._idle.get(origin)
        if not stack:
            return None
        connection = stack.pop()[1]
        taken.append(connection)
        self._idle_count -= 1
        self._busy.add(connection)
        return connection

    def _has_room(self) -> bool:
        return self._max is None or len(self._busy) + len(self._opening) + self._idle_count < self._max

    def _admit(self) -> None:
        while self._queue and self._has_room():
            ticket = self._queue.popleft()
            self._opening.add(ticket)
            ticket.serve(None)

    def _expired(self, origin: Origin, now: float) -> list[C]:
        # The oldest are at the bottom, so each call looks at only one connection that it doesn't remove.
        stack = self._idle.get(origin)
        expired: list[C] = []
        while stack and now - stack[0][0] >= self._expiry:
            expired.append(stack.popleft()[1])
            self._idle_count -= 1
        return expired

    def _evict(self, doomed: list[C]) -> bool:
        """Make room at the limit: an idle connection is worth less than a waiting request."""
        for stack in self._idle.values():
            if stack:
                doomed.append(stack.popleft()[1])
                self._idle_count -= 1
                return True
        return False

    def _close_all(self, connections: list[C]) -> None:
        for connection in connections:
            self._close(connection)

    def __repr__(self) -> str:
        return f"<Pool idle={self.idle} in_use={self.in_use} waiting={self.waiting}>"
