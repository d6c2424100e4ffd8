"""`Client.from_modal`, and clients of a server under ``@modal.sessioned()``."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from homing import AsyncClient, Client, ConfigurationError, PermissionDeniedError, RetryPolicy
from homing.integrations.modal import AsyncModalStickySession, ModalStickySession
from homing_server.local import Edge

from .support.control_plane import ControlPlane, serving
from .support.modal_cli import HTTP_SERVER, SERVER, deploy, environment

TOKEN = "wk-id.ws-secret"
MESSAGES: list[Any] = [{"role": "user", "content": "Hello!"}]

SYNC = """
from homing import Client
with Client.from_modal({arguments}) as client:
    print(client.base_url, client.conversation().send("Hello!").finish_reason)
"""
ASYNC = """
import anyio
from homing import AsyncClient
async def main():
    async with await AsyncClient.from_modal({arguments}) as client:
        print(client.base_url, (await client.conversation().send("Hello!")).finish_reason)
anyio.run(main, backend={backend!r})
"""


def python(plane: ControlPlane, program: str) -> tuple[str, str]:
    """Run a program in a process of its own: modal keeps its connection and its loop for the process's life."""
    with serving(plane) as url:
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment(url), capture_output=True, text=True, timeout=60
        )
    return done.stdout.strip(), done.stderr


@pytest.mark.parametrize("backend", ["", "asyncio", "trio"])
def test_a_client_finds_its_server(edge: Edge, backend: str) -> None:
    plane = deploy(SERVER, plane=ControlPlane(edge=edge.url)).plane
    program = (ASYNC if backend else SYNC).format(arguments="'homing', model='m'", backend=backend)
    out, errors = python(plane, program)
    assert out == f"{edge.url} stop", errors


def test_the_examples_class_has_another_name(edge: Edge) -> None:
    plane = deploy(HTTP_SERVER, '{"public": true}', plane=ControlPlane(edge=edge.url)).plane
    out, errors = python(plane, SYNC.format(arguments="'example-sglang-low-latency', 'SGLang'"))
    assert out == f"{edge.url} stop", errors


def test_settings_are_checked_as_ever() -> None:
    plane = deploy(SERVER).plane
    _, errors = python(plane, SYNC.format(arguments="'homing', api_key='ak-wrong-kind'"))
    assert "ConfigurationError: api_key cannot be used here" in errors
    assert "ak-wrong-kind" not in errors.splitlines()[-1]


def test_a_modal_that_refuses_is_told_from_a_missing_server() -> None:
    plane = deploy(SERVER).plane
    plane.refusing = {"FunctionGet"}
    _, errors = python(plane, SYNC.format(arguments="'homing'"))
    assert "APIConnectionError: Modal could not say where 'SGLangServer' of 'homing' is" in errors
    assert "not for you" in errors


class Sessioned(ThreadingHTTPServer):
    """An edge under `@modal.sessioned()`: no token, no answer. `refusals` are given first."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.refusals: list[int] = []
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.running: set[str] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answer(BaseHTTPRequestHandler):
    def log_request(self, code: int | str = "-", size: int | str = "-") -> None: ...

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        self.do_GET()

    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, Sessioned)
        headers = {name.lower(): value for name, value in self.headers.items()}
        server.seen.append((self.path, headers))
        if self.path == "/_modal/sessions/start":
            token = f"jwt-{len(server.seen)}"
            server.running.add(token)
            self.answer(200, {"session_id": "se-1", "token": token})
        elif self.path == "/_modal/sessions/terminate":
            server.running.discard(headers["x-modal-server-session-token"])
            self.answer(200, {})
        elif headers.get("modal-authorization", "").removeprefix("Bearer ") not in server.running:
            # A careless edge, which repeats what it was sent.
            self.answer(403, {"error": {"message": f"no session {headers.get('modal-authorization')}"}})
        elif server.refusals:
            self.answer(server.refusals.pop(0), {})
        elif self.path == "/v1/models":
            self.answer(200, {"object": "list", "data": [{"id": "m", "object": "model"}]})
        else:
            choice = {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
            self.answer(200, {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]})

    def answer(self, status: int, body: object) -> None:
        payload = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)


@pytest.fixture
def sessioned() -> Iterator[Sessioned]:
    server = Sessioned()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def tokens(server: Sessioned) -> set[str | None]:
    return {headers.get("modal-authorization") for path, headers in server.seen if "/_modal/" not in path}


def test_a_session_goes_along_with_every_request(sessioned: Sessioned) -> None:
    """With those that have no affinity key (/v1/models, /health), and with attempts that leave it off."""
    quick = RetryPolicy(max_retries=6, wait=lambda state: 0.0)
    with (
        ModalStickySession(sessioned.url, proxy_token=TOKEN) as session,
        Client(sessioned.url, affinity=session, retry=quick) as client,
    ):
        assert client.wait_until_ready().attempts == 1
        assert client.health()
        assert client.chat.completions.create(messages=MESSAGES).choices[0].message.content == "hi"
        sessioned.refusals = [429] * 5
        assert client.chat.completions.create(messages=MESSAGES).choices[0].message.content == "hi"
    assert len(tokens(sessioned)) == 1
    assert [path for path, _ in sessioned.seen].count("/v1/chat/completions") == 7
    assert not sessioned.running


def test_each_conversation_may_have_a_session_of_its_own(sessioned: Sessioned) -> None:
    with Client(sessioned.url, model="m") as client:
        for _ in range(2):
            with ModalStickySession(client.base_url, proxy_token=TOKEN) as session:
                client.with_options(affinity=session).chat.completions.create(messages=MESSAGES)
    assert len(tokens(sessioned)) == 2


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_a_session_of_coroutines_goes_along(sessioned: Sessioned) -> None:
    async with (
        AsyncModalStickySession(sessioned.url, proxy_token=TOKEN) as session,
        AsyncClient(sessioned.url, affinity=session) as client,
    ):
        completion = await client.chat.completions.create(messages=MESSAGES)
    assert completion.choices[0].message.content == "hi"
    assert len(tokens(sessioned)) == 1
    assert not sessioned.running


def test_a_session_that_is_not_running_goes_nowhere(sessioned: Sessioned) -> None:
    session = ModalStickySession(sessioned.url, proxy_token=TOKEN)
    with (
        Client(sessioned.url, affinity=session, model="m") as client,
        pytest.raises(ConfigurationError, match="call start"),
    ):
        client.chat.completions.create(messages=MESSAGES)
    assert not sessioned.seen


def test_the_sessions_token_is_not_repeated(sessioned: Sessioned) -> None:
    with (
        ModalStickySession(sessioned.url, proxy_token=TOKEN) as session,
        Client(sessioned.url, affinity=session, model="m") as client,
    ):
        sessioned.running.clear()  # it was idle for too long
        with pytest.raises(PermissionDeniedError) as caught:
            client.chat.completions.create(messages=MESSAGES)
    assert "no session" in str(caught.value)
    assert "jwt-1" not in str(caught.value)
    assert "jwt-1" not in repr(caught.value)
