"""Tools for testing programs that use Homing: an in-process local edge, faults, assertions.

The pytest plugin provides the fixtures ``edge``, ``homing_client`` and ``async_homing_client``.
This module exports the assertions, and the edge for tests without pytest. The edge needs
``pip install 'homing[local]'``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from homing_server.local import Answer, Edge, EdgeSettings, EngineSettings, Fault, ToolCall

    from .assertions import assert_no_running, assert_one_replica, replicas_of, requests_of

__all__ = [
    "Answer",
    "Edge",
    "EdgeSettings",
    "EngineSettings",
    "Fault",
    "ToolCall",
    "assert_no_running",
    "assert_one_replica",
    "replicas_of",
    "requests_of",
]

_ASSERTIONS = {"assert_no_running", "assert_one_replica", "replicas_of", "requests_of"}


# Lazy (PEP 562): the pytest plugin lives in this package, and every pytest run imports it.
def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = f"{__name__}.assertions" if name in _ASSERTIONS else "homing_server.local"
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return __all__
