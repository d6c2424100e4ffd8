"""An engine with a key and time limits of its own, and no edge in front. Early, so that it is gone when others run."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from homing import AsyncClient, AuthenticationError, Client, Hooks, InternalServerError
from homing_server.local import SGLangSettings

from ..server.support.container import free_port
from .conftest import PLAIN

KEY = "the-right-key"
# Seconds until `/health` answers, on a busy machine.
READY = 180.0
# Seconds for one request; it must not end the engine's own warm-up.
RUNNING = 4
LONG: dict[str, Any] = {"max_tokens": 30_000, "ignore_eos": True}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    limits = {"SGLANG_REQ_RUNNING_TIMEOUT": str(RUNNING)}
    found = SGLangSettings(device="cpu", extra_args=("--api-key", KEY), extra_env=limits).located()
    log = tmp_path_factory.mktemp("engine") / "log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            found.command(replica_id="bare", port=port, replicas=1),
            env=found.environ(replicas=1),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process,
    ):
        try:
            url = f"http://127.0.0.1:{port}"
            deadline = time.monotonic() + READY
            while not healthy(url):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
            yield url
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def healthy(url: str) -> bool:
    """Without a key: `/health` is open to everybody."""
    try:
        return httpx.get(url + "/health").status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("key", [None, "a-wrong-key"])
@pytest.mark.parametrize("streamed", [False, True])
def test_no_or_a_wrong_key(engine: str, key: str | None, streamed: bool) -> None:
    with Client(base_url=engine, api_key=key, model="tiny") as client:
        chat = client.conversation()
        with pytest.raises(AuthenticationError, match="Unauthorized") as caught:
            if streamed:
                with chat.stream("Hello?") as stream:
                    stream.reply()
            else:
                chat.send("Hello?")
        assert caught.value.status_code == 401
        assert caught.value.body == {"error": "Unauthorized"}
        assert "a-wrong-key" not in f"{caught.value!r} {caught.value}"
        assert chat.history == []


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # the limit takes its time with every one
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_turn_may_run_too_long_for_the_engine(engine: str, streamed: bool) -> None:
    """Its own 503, for a whole reply as a status and for a running stream as data, then ``[DONE]``. It is no
    cold start: the turn is not run again, as patient as the client is."""
    seen = ""
    again: list[object] = []
    hooks = Hooks(on_wait=again.append, on_retry=again.append)
    async with AsyncClient(base_url=engine, api_key=KEY, model="tiny", hooks=hooks, timeout=READY) as client:
        chat = client.conversation(**PLAIN)
        with pytest.raises(InternalServerError) as caught:
            if streamed:
                async with chat.stream("Go on.", resume="never", **LONG) as stream:
                    async for piece in stream.text:
                        seen += piece
            else:
                await chat.send("Go on.", **LONG)
    error = caught.value
    assert again == []
    assert error.status_code == 503
    assert "Request running timeout reached." in str(error)
    if streamed:
        assert error.partial_text == seen
        assert len(seen) > 100, "seconds of it"
