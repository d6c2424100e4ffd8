"""The pytest plugin in a run of its own, and the assertion helpers (openai-python#398: everyone writes them)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import homing.testing
from homing.testing import Fault, assert_no_running, assert_one_replica, replicas_of, requests_of
from homing_server.local import Edge

from .talk import ask, post, user

HELLO = user("hello")


class Conversation:
    affinity_key = "k"


def test_assertions(edge: Edge) -> None:
    with pytest.raises(AssertionError, match="no request of 'k'"):
        assert_one_replica(edge, "k")
    for _ in range(3):
        ask(edge.url, HELLO, key="k")
    home = assert_one_replica(edge, Conversation())
    assert replicas_of(edge, "k") == [home] * 3
    assert [record.number for record in requests_of(edge, "k")] == [1, 2, 3]
    assert_no_running(edge)
    edge.kill(home)
    ask(edge.url, HELLO, key="k")
    with pytest.raises(AssertionError, match="went to"):
        assert_one_replica(edge, "k")


def test_what_still_runs_is_shown(edge: Edge) -> None:
    import threading

    edge.inject(Fault.hang(before_headers=True))
    call = threading.Thread(target=post, args=(edge.url, HELLO))
    call.start()
    edge.wait_for(lambda e: e.running == 1)
    with pytest.raises(AssertionError, match=r"still running after 0.01 s: \[Record\(number=1"):
        assert_no_running(edge, timeout=0.01)
    edge.kill(edge.log[0].replica or "")
    call.join()


def test_everything_promised_is_there() -> None:
    assert set(dir(homing.testing)) == set(homing.testing.__all__)
    for name in homing.testing.__all__:
        assert getattr(homing.testing, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'nope'"):
        _ = homing.testing.nope


USERS_TESTS = """
import httpx, pytest
from homing_server.local import EdgeSettings

def test_default(edge):
    assert len(edge.ready) == 3
    answer = httpx.post(edge.url + "/v1/chat/completions", json={"messages": [{"role": "user", "content": "hi"}]})
    assert answer.status_code == 200

@pytest.mark.edge(replicas=1, model="mine")
def test_marked(edge):
    assert len(edge.ready) == 1
    assert httpx.get(edge.url + "/v1/models").json()["data"][0]["id"] == "mine"

class TestOverridden:
    @pytest.fixture
    def edge_settings(self):
        return EdgeSettings.instant(replicas=2)

    def test_it(self, edge):
        assert len(edge.ready) == 2

@pytest.mark.edge(colour="red")
def test_bad_setting(edge):
    pass

def test_sync_client(edge, homing_client):
    assert homing_client.conversation().send("hello").text
    assert edge.log[-1].outcome == "completed"

@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_async_client(edge, async_homing_client):
    reply = await async_homing_client.conversation().send("hello")
    assert reply.text
"""


def run_pytest(folder: Path, source: str, *arguments: str) -> str:
    (folder / "test_users.py").write_text(source)
    command = [sys.executable, "-m", "pytest", "-W", "error", "--strict-markers", "-q", *arguments, "test_users.py"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    return result.stdout + result.stderr


def test_fixtures_and_marker_in_somebody_elses_tests(tmp_path: Path) -> None:
    output = run_pytest(tmp_path, USERS_TESTS, "-k", "not client")
    assert "3 passed" in output
    assert "1 error" in output
    assert "ConfigurationError: EdgeSettings: colour" in output


def test_client_fixtures_in_somebody_elses_tests(tmp_path: Path) -> None:
    output = run_pytest(tmp_path, USERS_TESTS, "-k", "client")
    assert "3 passed" in output, output


def test_the_plugin_costs_other_peoples_test_runs_nothing() -> None:
    heavy = [
        "uvicorn",
        "starlette",
        "click",
        "rich",
        "modal",
        "homing_server",
        "homing._async",
        "homing._sync",
        "httpx",
    ]
    source = f"import sys, homing.testing.plugin; print([name for name in {heavy} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
