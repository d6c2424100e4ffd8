"""Modal's container ends or breaks while a client reads from it: nothing hangs, nothing is lost.

Two containers, booted by Modal's own entry point around the stand-in engine, behind a relay that stands
for Modal's edge: it forwards bytes to the replica that is in routing, and says 503 when there is none.
What a machine that vanishes does to open connections is not shown here (see tests/attack for resets).
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import tenacity

from homing import Client, ColdStartTimeout, ResumeStyle, RetryPolicy, StreamInterrupted
from tests.server.support.container import Container, alive, booted, until

pytestmark = [pytest.mark.container, pytest.mark.slow]

VARIANTS = ["server", "http_server"]
WORDS = 30
WHOLE = "".join(f"t{index} " for index in range(WORDS))
ASK: dict[str, Any] = {"max_tokens": WORDS}
# Seconds that guard against hanging; each test takes a few.
GUARD = 60.0
NONE_READY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Relay:
    """Forwards each new connection to the replica `to`."""

    def __init__(self) -> None:
        self.to: Container | None = None
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def _start(self, target: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=target, args=args)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(near)
            try:
                if self.to is None:
                    raise ConnectionRefusedError
                far = socket.create_connection(("127.0.0.1", self.to.port))
            except OSError:
                near.recv(65536)
                near.sendall(NONE_READY)
                near.close()
                continue
            self._open.append(far)
            self._start(self._pump, near, far)
            self._start(self._pump, far, near)

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for one in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(GUARD)
        for one in (self._listener, *self._open):
            one.close()


class Deployment:
    """Two replicas, the first of them in routing, and a client."""

    def __init__(self, relay: Relay, first: Container, second: Container, client: Client) -> None:
        self.relay, self.first, self.second, self.client = relay, first, second, client
        relay.to = first

    def hand_over(self) -> None:
        """The edge routes to the second one from here on."""
        self.relay.to = self.second


Deploy = Callable[..., Deployment]


@pytest.fixture(scope="module")
def survivor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """The second replica of every deployment."""
    with booted(tmp_path_factory.mktemp("second"), "server", script={"pace": 0.001}) as container:
        container.wait_ready()
        yield container


@pytest.fixture
def deploy(tmp_path: Path, survivor: Container) -> Iterator[Deploy]:
    with ExitStack() as stack:

        def deployment(variant: str, script: dict[str, Any], **settings: Any) -> Deployment:
            # exit_grace_period: how long Modal's side sleeps on an http_server before it ends the container.
            settings = {"exit_grace_period": 1, **settings}
            first = stack.enter_context(
                booted(tmp_path, variant, script={"pace": 0.02, "child": True, **script}, **settings)
            )
            first.wait_ready()
            relay = Relay()
            stack.callback(relay.close)
            at_once = RetryPolicy(wait=tenacity.wait_none())
            client = Client(base_url=relay.url, api_key="sk-caller", model="m", timeout=GUARD, retry=at_once)
            return Deployment(relay, first, survivor, stack.enter_context(client))

        yield deployment


def nothing_left(container: Container) -> bool:
    return not any(alive(pid) for pid in container.engines())


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_drained_replica_finishes_the_reply_and_the_next_turn_goes_elsewhere(deploy: Deploy, variant: str) -> None:
    deployed = deploy(variant, {})
    conversation = deployed.client.conversation()
    with conversation.stream("One?", resume="never", **ASK) as stream:
        text = iter(stream.text)
        seen = next(text)
        deployed.first.end()
        deployed.hand_over()
        seen += "".join(text)
        reply = stream.reply()
    assert (seen, reply.text, reply.resumed) == (WHOLE, WHOLE, 0)
    assert deployed.first.wait() == 0
    assert deployed.first.events("sigterm", "stream-done", "drained") == ["sigterm", "stream-done", "drained"]
    assert conversation.send("Two?", **ASK).text == WHOLE
    assert len(conversation.turns) == 2
    until(lambda: nothing_left(deployed.first))


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_reply_longer_than_the_drain_goes_on_at_another_replica(deploy: Deploy, variant: str) -> None:
    """The engine is killed in the middle of it: as long a pause between words as no drain would wait for."""
    deployed = deploy(variant, {"pace": 5, "term": "ignore"}, drain_timeout=0.2)
    conversation = deployed.client.conversation()
    with conversation.stream("One?", resume=ResumeStyle(), **ASK) as stream:
        text = iter(stream.text)
        seen = next(text)
        deployed.hand_over()
        deployed.first.end()
        seen += "".join(text)
        reply = stream.reply()
    assert (seen, reply.text, reply.resumed) == (WHOLE, WHOLE, 1)
    assert conversation.send("Two?", **ASK).text == WHOLE
    assert len(conversation.turns) == 2
    deployed.first.wait()
    until(lambda: nothing_left(deployed.first))


def test_an_engine_that_crashes_in_mid_stream_costs_no_word(deploy: Deploy) -> None:
    deployed = deploy("server", {"crash_at": 7}, watchdog_interval=0.1)
    conversation = deployed.client.conversation()
    with conversation.stream("One?", resume=ResumeStyle(), **ASK) as stream:
        text = iter(stream.text)
        seen = next(text)
        deployed.hand_over()
        seen += "".join(text)
        reply = stream.reply()
    assert (seen, reply.text, reply.resumed) == (WHOLE, WHOLE, 1)
    assert deployed.first.events("crash") == ["crash"]
    until(lambda: "the engine exited with code 9" in deployed.first.text)  # Modal's log says why
    until(lambda: nothing_left(deployed.first))  # and the port is closed, so that Modal replaces the replica
    assert conversation.send("Two?", **ASK).text == WHOLE
    assert len(conversation.turns) == 2


@pytest.mark.parametrize("resume", [ResumeStyle(), "never"], ids=["resume", "never"])
def test_a_crash_with_no_other_replica_is_a_typed_error_and_the_next_turn_works(deploy: Deploy, resume: Any) -> None:
    deployed = deploy("server", {"crash_at": 7})
    client = deployed.client.with_options(cold_start_timeout=0.5)
    conversation = client.conversation()
    with conversation.stream("One?", resume=resume, **ASK) as stream:
        text = iter(stream.text)
        seen = next(text)
        deployed.relay.to = None
        with pytest.raises((StreamInterrupted, ColdStartTimeout)) as caught:
            seen += "".join(text)
    assert WHOLE.startswith(seen)
    if isinstance(caught.value, StreamInterrupted):
        assert caught.value.partial_text == "".join(f"t{index} " for index in range(7))
    assert len(conversation.turns) == 0
    with pytest.raises(ColdStartTimeout):
        conversation.send("Two?", **ASK)
    deployed.hand_over()
    assert conversation.send("Two?", **ASK).text == WHOLE
    assert len(conversation.turns) == 1
