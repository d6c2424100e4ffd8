from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from importlib import import_module
from typing import Any

import pytest

import homing
from homing_server.local import Edge

from ..libraries import LIBRARIES


@pytest.fixture
async def settled(async_homing_client: homing.AsyncClient, edge: Edge) -> AsyncIterator[None]:
    """After the test nothing is left: no connection in use, nothing running on the engines."""
    yield
    pool = async_homing_client._endpoint.http.pool  # type: ignore[union-attr]
    assert pool.in_use == 0
    edge.wait_for(lambda e: e.running == 0)


@pytest.fixture(params=["own", *LIBRARIES])
async def any_client(
    request: pytest.FixtureRequest, async_homing_client: homing.AsyncClient, edge: Edge, anyio_backend: object
) -> AsyncIterator[homing.AsyncClient]:
    """All ways to the network, our own transport and a user's own ``http_client``: what is promised holds for each."""
    if request.param == "own":
        yield async_homing_client
        return
    library: Any = import_module(request.param)
    async with library.AsyncClient() as http, homing.AsyncClient(base_url=edge.url, http_client=http) as client:
        yield client


@pytest.fixture
def waits() -> list[Any]:
    """What ``on_wait`` was called with."""
    return []


@pytest.fixture
def hooks(waits: list[Any]) -> homing.Hooks:
    record: Callable[[Any], None] = waits.append
    return homing.Hooks(on_wait=record)
