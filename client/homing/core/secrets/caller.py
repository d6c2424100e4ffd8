"""Tells callers apart by a digest of what their requests carry.

What a server returns (a cookie, a token, the model that it serves to this key) belongs to that
caller. It is stored under the digest, so it never reaches another caller.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Final

PASSING: Final = frozenset(
    {
        "baggage",
        "b3",
        "idempotency-key",
        "request-id",
        "traceparent",
        "tracestate",
        "x-amzn-trace-id",
        "x-cloud-trace-context",
        "x-correlation-id",
        "x-request-id",
    }
)
"""Headers that identify a request, not a caller. Any other may be a credential or a tenant's name. No list of
those is ever complete, and taking one caller for two costs a cache at most."""


def caller_digest(headers: Iterable[tuple[str, str]], query: Mapping[str, Any], *, salt: bytes) -> bytes:
    """Return the digest, keyed with ``salt``, of the headers and query parameters that a caller has set."""
    said = sorted((low, value) for name, value in headers if not _is_passing(low := name.lower()))
    asked = sorted((name, repr(value)) for name, value in query.items())
    return hashlib.blake2b(repr((said, asked)).encode(), key=salt, digest_size=16).digest()


def _is_passing(name: str) -> bool:
    return name in PASSING or name.startswith("x-b3-")
