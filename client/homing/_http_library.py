"""The HTTP library of a user's client: httpx, or its successor httpx2, which has the same names in another package.

httpx2 is never imported here. A caller that has an instance of its classes has already imported it.
"""

from __future__ import annotations

import sys
from typing import Any

import httpx

from .errors import ConfigurationError


def library_of(value: object) -> Any:
    """Return the library that the class of ``value`` comes from: httpx2, or httpx for everything else."""
    packages = {kind.__module__.partition(".")[0] for kind in type(value).__mro__}
    return _httpx2() if "httpx2" in packages else httpx


def http_errors(*others: type[Exception]) -> tuple[type[Exception], ...]:
    """Return the exceptions that either library raises, plus ``others``, for use in ``except``."""
    return (*others, *_classes("HTTPError", "InvalidURL", "StreamError"))


def read_timeouts(*others: type[Exception]) -> tuple[type[Exception], ...]:
    """Return the exceptions that either library raises when a read times out, plus ``others``."""
    return (*others, *_classes("ReadTimeout"))


def check_client(http_client: object, kind: type[Any]) -> None:
    """Raise `ConfigurationError` unless ``http_client`` is a ``kind``, a class of httpx, or its namesake in httpx2."""
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
    # Another thread may be importing httpx2 right now. Nothing can have raised a class that it still lacks.
    found = (getattr(library, name, None) for library in (httpx, _httpx2()) for name in names)
    return tuple(kind for kind in found if kind is not None)
