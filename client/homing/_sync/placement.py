# Generated from client/homing/_async/placement.py by scripts/unasync.py: edit that file, not this one.
"""A turn's replica: chosen before a conversation's first turn, and counted as busy while a turn runs."""

from __future__ import annotations

from .._http.request_control import Aborted
from ..core.request.request import Request
from ..core.retry.timers import Timeout
from .attempt import Attempt, Endpoint

DRAW_TIMEOUT = 2.0
"""Seconds to try a key. The response takes one round trip and doesn't need the engine, but a turn waits for it."""


class Placement:
    """Chooses the key of one turn's ``request``, and counts the turn while it is running.

    Only with ``placement="balanced"``; otherwise both do nothing.
    """

    __slots__ = (
        "_counted",
        "_endpoint",
        "_probe",
        "_request",
        "_stopped",
        "placed",
    )

    def __init__(self, endpoint: Endpoint, request: Request) -> None:
        self.placed = True
        """If not, the request's key may be replaced by one of a less busy replica."""
        self._endpoint = endpoint
        self._request = request
        self._stopped = False
        self._probe: Attempt | None = None
        self._counted: str | None = None

    def place(self) -> None:
        """Find a key that leads to a replica with little load, if the client is configured to look for one."""
        if self.placed:
            return
        options, request = self._endpoint.options, self._request
        search = options.search()
        while search is not None and (key := search.draw(options.clock())) is not None:
            question = Request("GET", "/v1/models", Timeout(total=DRAW_TIMEOUT), affinity=request.affinity, key=key)
            self._probe = probe = Attempt(self._endpoint, ends_at=options.clock() + DRAW_TIMEOUT)
            try:
                if self._stopped:
                    raise Aborted
                failure = probe.send(question, with_key=True)
                failure = failure or probe.read_whole(limit=None)
            finally:
                self._probe = None
                probe.release()
            if failure is not None:
                search.give_up()
        if search is not None:
            request.key = search.key
        self.placed = True

    def begin(self) -> None:
        """Count the turn as running on its replica."""
        if self._endpoint.options.placement != "balanced":
            return
        key = self._request.key
        if key is not None and self._counted is None and self._request.params is not None:
            self._counted = key
            self._endpoint.options.server_state.replicas.begin(key, self._endpoint.options.clock())

    def end(self) -> None:
        """Stop counting the turn as running on its replica."""
        key, self._counted = self._counted, None
        if key is not None:
            self._endpoint.options.server_state.replicas.end(key, self._endpoint.options.clock())

    def stop(self) -> None:
        """End the search immediately, from any thread or task."""
        self._stopped = True
        if self._probe is not None:
            self._probe.abort()
        self.end()
