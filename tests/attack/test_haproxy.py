"""Cookies behind a real balancer: ``make test-services`` installs it and runs this."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal

from .balancer import SERVERS, Balancer
from .voices import AsyncVoice, Voice

pytestmark = pytest.mark.services

CONFIGURATION = """\
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s

listen replicas
    bind fd@{listener}
    balance roundrobin
    cookie SRV insert indirect nocache
"""

STOP_TIMEOUT = 20.0
"""Seconds for HAProxy to end, which takes it a few milliseconds."""


@contextlib.contextmanager
def haproxy(home: Path, replicas: dict[str, Balancer]) -> Iterator[str]:
    """Run HAProxy in front of ``replicas``; yield its URL."""
    program = os.environ.get("HOMING_TEST_HAPROXY")
    if not program:
        pytest.fail("HOMING_TEST_HAPROXY is not set: run `make test-services`, which installs it")
    with socket.create_server(("127.0.0.1", 0)) as listener:  # from here on connections wait to be accepted
        listener.set_inheritable(True)
        lines = [f"    server {name} 127.0.0.1:{replica.http.port} cookie {name}" for name, replica in replicas.items()]
        configuration = home / "haproxy.cfg"
        configuration.write_text(CONFIGURATION.format(listener=listener.fileno()) + "\n".join(lines) + "\n")
        with (home / "haproxy.log").open("wb") as log:
            process = subprocess.Popen(
                [program, "-db", "-f", str(configuration)],
                pass_fds=[listener.fileno()],
                stdout=log,
                stderr=log,
            )
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
            assert process.poll() is None, (home / "haproxy.log").read_text()
        finally:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture
def replicas() -> Iterator[dict[str, Balancer]]:
    """The servers behind it, which set no cookies themselves."""
    started = {name: Balancer(sets=lambda asked, server: []) for name in SERVERS}
    yield started
    for replica in started.values():
        replica.http.stop()


@pytest.fixture(params=["sync", "async"])
def voice(request: pytest.FixtureRequest) -> Iterator[Voice]:
    with contextlib.ExitStack() as stack:
        spoken = Voice() if request.param == "sync" else AsyncVoice(stack.enter_context(start_blocking_portal()))
        stack.callback(spoken.close)
        yield spoken


def test_twelve_conversations_spread_over_three_servers_and_each_stays_at_home(
    voice: Voice, replicas: dict[str, Balancer], tmp_path: Path
) -> None:
    with haproxy(tmp_path, replicas) as url:
        client = voice.client(url)
        chats = [client.conversation() for _ in range(12)]
        for order in (chats, chats[::-1], chats[3:] + chats[:3]):
            for chat in order:
                voice.do(chat.send, "q")
        homes = {name: [seen.key for seen in replica.seen] for name, replica in replicas.items()}
    assert [len(set(keys)) for keys in homes.values()] == [4, 4, 4]
    assert [len(keys) for keys in homes.values()] == [12, 12, 12]
    # The balancer keeps its cookie to itself ("indirect"): no server sees it.
    assert {seen.cookie for replica in replicas.values() for seen in replica.seen} == {None}
