"""The time limits of a call, and which one runs out next."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ...errors import (
    APITimeoutError,
    ConfigurationError,
    DeadlineExceeded,
    FirstTokenTimeout,
    GapTimeout,
    SilenceTimeout,
)

CONNECT = 10.0
"""A router in the same region answers a SYN in tens of milliseconds; three lost packets fit in 10 s."""

FIRST_TOKEN = 600.0
"""A long prompt on a busy replica may queue for minutes (cline#12839: 30 s kills cold models)."""

GAP = 120.0
"""Engines that decode at all are far faster than this; langchain#36949 settled on the same value."""

SILENCE = 60.0
"""Proxies that send keep-alives do so every 15 to 30 s."""

WRITE = 60.0
"""A megabyte of history over a slow uplink."""

LATE_BYTES = 1 << 20
"""Bytes that are still read once a limit has passed. Data that the server sent in time may have waited for
a slow consumer in the receive buffers, which hold less than this when the reader pauses. Anything more is a
flood, which obeys the same limits as silence."""

LATE_GRACE = 0.01
"""Seconds to fetch data that had already arrived when the limit passed, where checking requires a wait."""

LATE_READ = 4096
"""Extra bytes that each late read counts for: data that still trickles in had not arrived in time."""


@dataclass(frozen=True, slots=True)
class Timeout:
    """Time limits of one call, in seconds; None means no limit.

    Liveness and progress are different things (anthropic-sdk-typescript#867, pi#5558): a
    keep-alive shows that the server is alive, not that the reply makes progress. So there are
    separate timers, and keep-alives reset only ``silence``.

    Raises:
        ConfigurationError: A limit is neither a positive number nor None.
    """

    connect: float | None = CONNECT
    """To open a connection."""
    first_token: float | None = FIRST_TOKEN
    """From sending the request to the first content, reasoning or tool argument; for a call
    without streaming, to its response. Waiting for a cold server does not count."""
    gap: float | None = GAP
    """Between two pieces of content, reasoning or tool arguments."""
    silence: float | None = SILENCE
    """Between two bytes of any kind, once the stream has begun."""
    total: float | None = None
    """From the start of the call to its end, including waits and retries. Unset by default, because
    a healthy reply may take long, and the other limits notice a dead server sooner."""
    write: float | None = WRITE
    """To write one piece of the request to the network."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
                raise ConfigurationError(f"Timeout.{name} must be a positive number of seconds or None, got {value!r}")

    @classmethod
    def of(cls, value: Timeout | float | None) -> Timeout:
        """Convert what a ``timeout=`` argument accepts.

        Args:
            value: A number limits the whole call (``total``); None lifts all limits except ``write``.

        Raises:
            ConfigurationError: ``value`` is neither a `Timeout`, a positive number nor None.
        """
        if isinstance(value, Timeout):
            return value
        if value is None:
            return cls(connect=None, first_token=None, gap=None, silence=None, total=None, write=None)
        if not isinstance(value, (int, float)):
            raise ConfigurationError(f"timeout must be a homing.Timeout, a number of seconds or None, got {value!r}")
        return cls(total=value)


class Timers:
    """When a running exchange must give up.

    ``deadline`` is the earliest of all limits, for the code that blocks on the next read. Moving it
    is cheap, since it happens for every chunk.
    """

    __slots__ = (
        "_ends_at",
        "_gap",
        "_late_for",
        "_leeway",
        "_progress_by",
        "_progressed",
        "_silence",
        "_timeout",
        "deadline",
    )

    def __init__(self, timeout: Timeout, *, now: float, ends_at: float | None = None) -> None:
        self._timeout = timeout
        self._gap = math.inf if timeout.gap is None else timeout.gap
        self._silence = math.inf if timeout.silence is None else timeout.silence
        self._ends_at = math.inf if ends_at is None else ends_at
        self._progressed = False
        self._late_for = math.inf
        self._leeway = 0
        self._progress_by = math.inf if timeout.first_token is None else now + timeout.first_token
        self.deadline = min(self._progress_by, self._ends_at)

    def heard(self, now: float, *, progress: bool, size: int = 0) -> None:
        """Record that ``size`` bytes came at ``now``, and whether they made progress.

        Raises what `expired` returns if more comes after a limit than can have arrived before it.
        """
        if progress:
            self._progressed = True
            self._progress_by = now + self._gap
        self.deadline = deadline = min(self._progress_by, now + self._silence, self._ends_at)
        if now >= deadline:
            if self._late_for != deadline:
                self._late_for = deadline
                self._leeway = LATE_BYTES
            self._leeway -= size + LATE_READ
            if self._leeway < 0:
                raise self.expired(now)

    def expired(self, now: float) -> APITimeoutError:
        """Return the error for the limit that has run out at ``now`` (the nearest one, if the clock is coarse)."""
        timeout = self._timeout
        if now >= self._ends_at or self.deadline == self._ends_at:
            return DeadlineExceeded(
                f"the call did not end within its total of {_seconds(timeout.total)}: "
                "raise Timeout.total (or `timeout=`), or ask for fewer tokens"
            )
        if self.deadline < self._progress_by:
            return SilenceTimeout(
                f"not a byte came for {_seconds(timeout.silence)} in mid-stream: the connection or the "
                "replica is dead (Timeout.silence)"
            )
        if self._progressed:
            return GapTimeout(
                f"the stream made no progress for {_seconds(timeout.gap)}: the replica hangs or is "
                "overloaded (Timeout.gap)"
            )
        return FirstTokenTimeout(
            f"no answer within {_seconds(timeout.first_token)} of sending the request: the replica is "
            "overloaded, or the prompt is very long (Timeout.first_token)"
        )


def _seconds(value: float | None) -> str:
    return "the limit" if value is None else f"{value:g} s"
