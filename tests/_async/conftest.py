from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

import homing
from homing_server.local import Edge


@pytest.fixture
async def settled(async_homing_client: homing.AsyncClient, edge: Edge) -> AsyncIterator[None]:
    """After the test nothing is left: no connection in use, nothing running on the engines."""
    yield
    pool = async_homing_client._endpoint.http.pool  # type: ignore[union-attr]
    assert pool.in_use == 0
    edge.wait_for(lambda e: e.running == 0)


@pytest.fixture
async def plain_client(edge: Edge, anyio_backend: object) -> AsyncIterator[homing.AsyncClient]:
    """A client over httpx's own transport, as with a user's own ``http_client``."""
    import httpx

    async with httpx.AsyncClient() as http, homing.AsyncClient(base_url=edge.url, http_client=http) as client:
        yield client


@pytest.fixture(params=["own", "httpx"])
def any_client(
    request: pytest.FixtureRequest, async_homing_client: homing.AsyncClient, plain_client: homing.AsyncClient
) -> homing.AsyncClient:
    """Both ways to the network: what is promised holds for either."""
    return async_homing_client if request.param == "own" else plain_client


@pytest.fixture
def waits() -> list[Any]:
    """What ``on_wait`` was called with."""
    return []


@pytest.fixture
def hooks(waits: list[Any]) -> homing.Hooks:
    record: Callable[[Any], None] = waits.append
    return homing.Hooks(on_wait=record)
