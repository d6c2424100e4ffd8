"""Two real SGLang replicas behind one edge, for the whole lane. `make test-engine` installs SGLang first.

The model's weights are random, so its text means nothing; what a test needs it to say is
forced by a grammar. `THINKING` and `PLAIN` choose whether SGLang's reasoning parser expects
a thought; it does unless told otherwise.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from homing import AsyncClient, Client
from homing_server.local import Edge, EdgeSettings, SGLangSettings
from homing_server.local.engine_environment import TINY_MODEL, EngineEnvironment

PLAIN: dict[str, Any] = {"chat_template_kwargs": {"enable_thinking": False}, "temperature": 0}
THINKING: dict[str, Any] = {"chat_template_kwargs": {"enable_thinking": True}, "temperature": 0}
# Small bounds, so that a handful of requests meets them.
MAX_RUNNING, MAX_QUEUED, CONTEXT = 4, 2, 1_024


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/engine" in item.path.as_posix():
            item.add_marker(pytest.mark.engine)


@pytest.fixture(scope="session", autouse=True)
def installed() -> None:
    """The lane says that SGLang must be there; elsewhere a missing one is no failure."""
    if not EngineEnvironment().ready and os.environ.get("HOMING_TEST_ENGINE") != "1":
        pytest.skip("SGLang is not installed: make test-engine")


@pytest.fixture(scope="session")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    engine = SGLangSettings(
        device="cpu",
        reasoning_parser="qwen3",
        tool_call_parser="qwen25",
        max_running=MAX_RUNNING,
        max_queued=MAX_QUEUED,
        context_length=CONTEXT,
        # In bfloat16 two words often weigh the same, and then a prefill chooses otherwise than a decode did.
        extra_args=("--dtype", "float32"),
        watchdog=0,  # its probe would count as a running request
        log_folder=tmp_path_factory.mktemp("engine"),
    )
    settings = EdgeSettings(min_replicas=2, max_replicas=2, cold_start=0, keep_requests=True, smg_routing_key=True)
    with Edge(settings, engine=engine) as edge:
        yield edge


@pytest.fixture
def client(edge: Edge) -> Iterator[Client]:
    with Client(base_url=edge.url, model=TINY_MODEL) as client:
        yield client


@pytest.fixture
async def async_client(edge: Edge) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(base_url=edge.url, model=TINY_MODEL) as client:
        yield client


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def end_of_thought() -> str:
    """The id of ``</think>``: with a bias for it a thought of random words ends."""
    tokenizer = json.loads((EngineEnvironment().tiny_model / "tokenizer.json").read_text())
    return next(str(token["id"]) for token in tokenizer["added_tokens"] if token["content"] == "</think>")
