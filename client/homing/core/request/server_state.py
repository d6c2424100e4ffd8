"""What a client has learned of its server, shared with its `with_options` copies."""

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
"""Callers of one client and its copies for whom the server's model is remembered; the oldest are asked for anew."""


class ServedModels:
    """Which model a server serves, as it has told each caller: gateways serve each key something else."""

    def __init__(self) -> None:
        # The credentials too: while they are held, no other function can have their function's number.
        self._told: OrderedDict[bytes, tuple[str, Credentials]] = OrderedDict()

    def of(self, options: Options) -> str | None:
        """Return the model that was told to a client with these ``options``, None if it has not asked yet."""
        told = self._told.get(options.caller)
        return None if told is None else told[0]

    def tell(self, options: Options, model: str) -> None:
        """Note the server's answer to a client with these ``options``."""
        self._told[options.caller] = model, options.credentials
        while len(self._told) > CALLERS:
            self._told.popitem(last=False)


class ServerState:
    """What a client and its `with_options` copies share: they talk to the same server."""

    def __init__(self) -> None:
        self.readiness = Readiness()
        self.replicas = Replicas()
        self.cookies = CookieStore()
        self.models = ServedModels()
        self.owner: str | None = None
        """Which engine serves the model, as ``/v1/models`` says; None when it has not been asked."""
        self.resumes = True
        """Whether the server may still be asked to go on with a broken reply: it has not failed to."""
        self.totals = Totals()
        self.histories = EncodingCache()
        self.dropped: deque[Any] = deque()
        """Streams that were collected instead of closed. Whoever calls next closes them: a finalizer may not."""
        self._lock = threading.RLock()
        renew_after_fork(self)

    def _after_fork(self) -> None:
        self._lock = threading.RLock()
        self.dropped.clear()  # the parent closes them

    def count(self, telemetry: Telemetry) -> None:
        """Add one reply to the client's sums."""
        with self._lock:
            self.totals.add(telemetry)
