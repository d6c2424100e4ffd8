# Generated from tests/_async/conftest.py by scripts/unasync.py: edit that file, not this one.
from __future__ import annotations

from collections.abc import Iterator, Callable
from typing import Any

import pytest

import homing
from homing_server.local import Edge


@pytest.fixture
def settled(homing_client: homing.Client, edge: Edge) -> Iterator[None]:
    """After the test nothing is left: no connection in use, nothing running on the engines."""
    yield
    pool = homing_client._endpoint.http.pool  # type: ignore[union-attr]
    assert pool.in_use == 0
    edge.wait_for(lambda e: e.running == 0)


@pytest.fixture
def plain_client(edge: Edge) -> Iterator[homing.Client]:
    """A client over httpx's own transport, as with a user's own ``http_client``."""
    import httpx

    with httpx.Client() as http, homing.Client(base_url=edge.url, http_client=http) as client:
        yield client


@pytest.fixture(params=["own", "httpx"])
def any_client(
    request: pytest.FixtureRequest, homing_client: homing.Client, plain_client: homing.Client
) -> homing.Client:
    """Both ways to the network: what is promised holds for either."""
    return homing_client if request.param == "own" else plain_client


@pytest.fixture
def waits() -> list[Any]:
    """What ``on_wait`` was called with."""
    return []


@pytest.fixture
def hooks(waits: list[Any]) -> homing.Hooks:
    record: Callable[[Any], None] = waits.append
    return homing.Hooks(on_wait=record)
