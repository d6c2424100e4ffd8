# Generated from tests/_async/conftest.py by scripts/unasync.py: edit that file, not this one.
from __future__ import annotations

from collections.abc import Iterator, Callable
from importlib import import_module
from typing import Any

import pytest

import homing
from homing_server.local import Edge

from ..libraries import LIBRARIES


@pytest.fixture
def settled(homing_client: homing.Client, edge: Edge) -> Iterator[None]:
    """After the test nothing is left: no connection in use, nothing running on the engines."""
    yield
    pool = homing_client._endpoint.http.pool  # type: ignore[union-attr]
    assert pool.in_use == 0
    edge.wait_for(lambda e: e.running == 0)


@pytest.fixture(params=["own", *LIBRARIES])
def any_client(
    request: pytest.FixtureRequest, homing_client: homing.Client, edge: Edge
) -> Iterator[homing.Client]:
    """All ways to the network, our own transport and a user's own ``http_client``: what is promised holds for each."""
    if request.param == "own":
        yield homing_client
        return
    library: Any = import_module(request.param)
    with library.Client() as http, homing.Client(base_url=edge.url, http_client=http) as client:
        yield client


@pytest.fixture
def waits() -> list[Any]:
    """What ``on_wait`` was called with."""
    return []


@pytest.fixture
def hooks(waits: list[Any]) -> homing.Hooks:
    record: Callable[[Any], None] = waits.append
    return homing.Hooks(on_wait=record)
