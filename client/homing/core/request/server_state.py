"""What a client has learned about its server, shared with its `with_options` copies."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Any

from ..affinity.cookies import CookieStore
from ..affinity.placement import Replicas
from ..encoding.cache import EncodingCache
from ..process.fork import renew_after_fork
from ..retry.readiness import Readiness
from ..telemetry.measurements import Telemetry, Totals
from .environment import Credentials

if TYPE_CHECKING:
    from .options import Options


CALLERS = 10_000
"""Callers of one client and its copies whose model is remembered. For the oldest, the server is asked again."""


class ServedModels:
    """The model that a server reported to each caller: gateways may serve another model for each key."""

    def __init__(self) -> None:
        # Holds the credentials too, so that no other function can get the id() of their key function.
        self._told: OrderedDict[bytes, tuple[str, Credentials]] = OrderedDict()

    def of(self, options: Options) -> str | None:
        """Return the model reported to a client with these ``options``, or None if it hasn't asked yet."""
        told = self._told.get(options.caller)
        return None if told is None else told[0]

    def tell(self, options: Options, model: str) -> None:
        """Record the model reported to a client with these ``options``."""
        self._told[options.caller] = model, options.credentials
        while len(self._told) > CALLERS:
            self._told.popitem(last=False)


class ServerState:
    """What a client and its `with_options` copies share, since they use the same server."""

    def __init__(self) -> None:
        self.readiness = Readiness()
        self.replicas = Replicas()
        self.cookies = CookieStore()
        self.models = ServedModels()
        self.owner: str | None = None
        """The engine that serves the model, according to ``/v1/models``; None if the server hasn't been asked."""
        self.resumes = True
        """Whether the server may still be asked to resume a broken reply. False once that has failed."""
        self.totals = Totals()
        self.histories = EncodingCache()
        self.dropped: deque[Any] = deque()
        """Streams that were collected instead of closed. The next call closes them, since a finalizer may not."""
        self._lock = threading.RLock()
        renew_after_fork(self)

    def _after_fork(self) -> None:
        self._lock = threading.RLock()
        self.dropped.clear()  # the parent closes them

    def count(self, telemetry: Telemetry) -> None:
        """Add one reply's telemetry to the client's totals."""
        with self._lock:
            self.totals.add(telemetry)
