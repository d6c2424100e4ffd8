"""The HTTP library of a user's client: httpx, or httpx2, its successor, with the same names in another package.

httpx2 is never imported here. Whoever has an object of its classes has imported it.
"""

from __future__ import annotations

import sys
from typing import Any

import httpx

from .errors import ConfigurationError


def library_of(value: object) -> Any:
    """Return the library whose class ``value`` is an instance of: httpx2, or httpx for everything else."""
    packages = {kind.__module__.partition(".")[0] for kind in type(value).__mro__}
    return _httpx2() if "httpx2" in packages else httpx


def http_errors(*others: type[Exception]) -> tuple[type[Exception], ...]:
    """Return what either library raises, and ``others``: for ``except``."""
    return (*others, *_classes("HTTPError", "InvalidURL", "StreamError"))


def read_timeouts(*others: type[Exception]) -> tuple[type[Exception], ...]:
    """Return what either library raises when a read takes too long, and ``others``."""
    return (*others, *_classes("ReadTimeout"))


def check_client(http_client: object, kind: type[Any]) -> None:
    """Raise `ConfigurationError` for an ``http_client`` of another class than ``kind``, which is httpx's, or its
    namesake in httpx2."""
    name = kind.__name__
    if not isinstance(http_client, (kind, getattr(library_of(http_client), name))):
        given = type(http_client)
        raise ConfigurationError(
            f"http_client must be an httpx.{name} or an httpx2.{name}, got {given.__module__}.{given.__name__}: "
            "pass one of these, or leave it out"
        )


def _httpx2() -> Any:
    return sys.modules.get("httpx2") or httpx


def _classes(*names: str) -> tuple[type[Exception], ...]:
    # Another thread may be importing httpx2 just now. What it lacks then, nobody can have raised.
    found = (getattr(library, name, None) for library in (httpx, _httpx2()) for name in names)
    return tuple(kind for kind in found if kind is not None)
