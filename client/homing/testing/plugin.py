"""The pytest plugin: a fast, warm edge for each test, and clients for it.

Every pytest run in an environment with Homing loads this, so heavy imports wait until a fixture is used.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import homing
    from homing_server.local import Edge, EdgeSettings


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line(
        "markers",
        "edge(**settings): settings of the `edge` fixture, e.g. edge(replicas=2, cold_start=0.5, thinking=True)",
    )


@pytest.fixture
def edge_settings(request: pytest.FixtureRequest) -> EdgeSettings:
    """Return the settings of ``edge``: ``EdgeSettings.instant()`` with the ``edge`` marker's changes.

    Override this fixture to configure all edges of a module or a project.
    """
    from homing_server.local import EdgeSettings

    marker = request.node.get_closest_marker("edge")
    return EdgeSettings.instant(**(marker.kwargs if marker else {}))


@pytest.fixture
def edge(edge_settings: EdgeSettings) -> Iterator[Edge]:
    """Run a local edge for one test: three warm replicas that respond immediately."""
    from homing_server.local import Edge

    with Edge(edge_settings) as edge:
        yield edge


@pytest.fixture
def homing_client(edge: Edge) -> Iterator[homing.Client]:
    """Return a ``homing.Client`` for the edge."""
    import homing

    client = homing.Client(base_url=edge.url)
    yield client
    client.close()


@pytest.fixture
async def async_homing_client(edge: Edge, anyio_backend: object) -> AsyncIterator[homing.AsyncClient]:
    """Return a ``homing.AsyncClient`` for the edge, for tests run by anyio's pytest plugin."""
    import homing

    client = homing.AsyncClient(base_url=edge.url)
    yield client
    await client.aclose()
