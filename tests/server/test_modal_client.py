"""`Client.from_modal`, and clients of a server under ``@modal.sessioned()``."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from homing import AsyncClient, Client, ConfigurationError, PermissionDeniedError, RetryPolicy
from homing.integrations.modal import AsyncModalStickySession, ModalStickySession
from homing_server.local import Edge

from .support.control_plane import ControlPlane, serving
from .support.modal_cli import HTTP_SERVER, SERVER, deploy, python

PAGE = Path(__file__).resolve().parents[2] / "docs" / "deploy.md"
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


def executed(plane: ControlPlane, program: str) -> tuple[str, str]:
    """Run a program in a process of its own: modal keeps its connection and its loop for the process's life."""
    with serving(plane) as url:
        done = python(url, "-c", program)
    return done.stdout.strip(), done.stderr


@pytest.mark.parametrize("backend", ["", "asyncio", "trio"])
def test_a_client_finds_its_server(edge: Edge, backend: str) -> None:
    plane = deploy(SERVER, plane=ControlPlane(edge=edge.url)).plane
    program = (ASYNC if backend else SYNC).format(arguments="'homing', model='m'", backend=backend)
    out, errors = executed(plane, program)
    assert out == f"{edge.url} stop", errors


def test_the_examples_class_has_another_name(edge: Edge) -> None:
    plane = deploy(HTTP_SERVER, '{"public": true}', plane=ControlPlane(edge=edge.url)).plane
    out, errors = executed(plane, SYNC.format(arguments="'example-sglang-low-latency', 'SGLang'"))
    assert out == f"{edge.url} stop", errors


def test_settings_are_checked_as_ever() -> None:
    plane = deploy(SERVER).plane
    _, errors = executed(plane, SYNC.format(arguments="'homing', api_key='ak-wrong-kind'"))
    assert "ConfigurationError: api_key cannot be used here" in errors
    assert "ak-wrong-kind" not in errors.splitlines()[-1]


def test_a_modal_that_refuses_is_told_from_a_missing_server() -> None:
    plane = deploy(SERVER).plane
    plane.refusing = {"FunctionGet"}
    _, errors = executed(plane, SYNC.format(arguments="'homing'"))
    assert "APIConnectionError: Modal could not say where 'SGLangServer' of 'homing' is" in errors
    assert "not for you" in errors


def test_what_the_deploy_page_says(sessioned: Sessioned) -> None:
    """Its blocks that need Modal run here, against a server under `@modal.sessioned()`."""
    found, sticky = re.findall(r"^```python modal\n(.*?)^```", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)
    program = f"""
import os
os.environ.update(MODAL_PROXY_TOKEN_ID="wk-id", MODAL_PROXY_TOKEN_SECRET="ws-secret")
from homing import PermissionDeniedError
try:
    exec({found!r})
except PermissionDeniedError:
    print("no session")
exec({sticky!r})
"""
    plane = deploy(SERVER, plane=ControlPlane(edge=sessioned.url)).plane
    out, errors = executed(plane, program)
    assert out.splitlines() == ["no session", "hi"], errors
    assert not sessioned.running


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
        self.do_GET(self.rfile.read(int(self.headers.get("content-length") or 0)))

    def do_GET(self, body: bytes = b"") -> None:
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
        elif body and json.loads(body).get("stream"):
            choice = {"index": 0, "delta": {"content": "hi"}, "finish_reason": "stop"}
            chunk = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
            self.send("text/event-stream", f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n".encode())
        else:
            choice = {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
            self.answer(200, {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]})

    def answer(self, status: int, body: object) -> None:
        self.send("application/json", json.dumps(body).encode(), status)

    def send(self, kind: str, payload: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
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
