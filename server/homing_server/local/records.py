"""What the edge remembers of each request."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from .replica import Tokens, parsed

Outcome = Literal["running", "completed", "refused", "aborted", "cut", "failed"]
"""running · completed · refused by the edge (401, 403, 429, 503) · aborted by the client ·
cut by a fault, a killed replica or the end of a grace period · failed inside the edge."""

_CREDENTIALS = {"authorization", "modal-key", "modal-secret", "modal-authorization", "cookie"}


@dataclass(slots=True)
class Record:
    """One request. ``time`` is Unix seconds at arrival; ``key`` the affinity key.

    ``digest`` identifies the messages without showing them. ``fault`` is the label of a fault that
    has shown in the reply; one that was armed for a place behind its end has not. ``headers`` come without
    credentials; ``request`` is the JSON body where the settings keep it.
    """

    number: int
    time: float
    method: str
    path: str
    key: str | None
    headers: Mapping[str, str] = field(repr=False)
    digest: str | None = None
    stream: bool = False
    replica: str | None = None
    status: int | None = None
    outcome: Outcome = "running"
    fault: str | None = None
    tokens: Tokens = field(default_factory=Tokens)
    seconds: float | None = None
    request: dict[str, Any] | None = field(default=None, repr=False)

    def to_json(self) -> dict[str, Any]:
        """Return what ``/_edge/log`` shows."""
        shown = ("number", "time", "method", "path", "key", "digest", "stream", "replica", "status")
        return {
            **{name: getattr(self, name) for name in shown},
            "outcome": self.outcome,
            "fault": self.fault,
            "seconds": self.seconds,
            "prompt_tokens": self.tokens.prompt,
            "cached_tokens": self.tokens.cached,
            "completion_tokens": self.tokens.completion,
        }


class Log:
    """The latest requests, oldest first, and counts of all of them."""

    def __init__(self, *, size: int) -> None:
        self._records: deque[Record] = deque(maxlen=size)
        self._numbered = 0
        self.outcomes: Counter[str] = Counter()

    @property
    def records(self) -> tuple[Record, ...]:
        """A snapshot, safe to read while the edge works."""
        return tuple(self._records)

    def open(
        self,
        *,
        time: float,
        method: str,
        path: str,
        key: str | None,
        headers: Mapping[str, str],
    ) -> Record:
        """Begin the record of a request that has just arrived."""
        self._numbered += 1
        shown = {name: "…" if name in _CREDENTIALS else value for name, value in headers.items()}
        record = Record(self._numbered, time, method, path, key, shown)
        self._records.append(record)
        return record

    def close(self, record: Record, outcome: Outcome, *, time: float) -> None:
        """Say how a request ended."""
        record.outcome = outcome
        record.seconds = time - record.time
        self.outcomes[outcome] += 1

    def clear(self) -> None:
        """Forget everything, the numbers too."""
        self._records.clear()
        self.outcomes.clear()
        self._numbered = 0


def describe(record: Record, body: bytes, *, keep: bool) -> None:
    """Note what the body says, where it is JSON."""
    try:
        given = parsed(body)
        if not isinstance(given, dict):
            return
        text = json.dumps(given["messages"], sort_keys=True) if "messages" in given else None
    except (ValueError, RecursionError):
        return
    record.stream = bool(given.get("stream"))
    if text is not None:
        record.digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    if keep:
        record.request = given
