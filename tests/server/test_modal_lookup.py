"""`homing.integrations.modal`: looking a server up, and sticky sessions."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import homing.integrations.modal as modal_integration
from homing.errors import APIConnectionError, APIResponseValidationError, APIStatusError, ConfigurationError
from homing.integrations.modal import AsyncModalStickySession, ModalStickySession

from .support.container import free_port
from .support.control_plane import ControlPlane, serving
from .support.modal_cli import HTTP_SERVER, SERVER, deploy, environment, python

TOKEN = "wk-id.ws-secret"


def look_up(app: str, name: str, plane: ControlPlane, *, asynchronously: bool = False) -> tuple[str, str]:
    """In a process of its own, as modal keeps its connection and its loop for the process's life."""
    call = f"server_url({app!r}, {name!r})"
    if asynchronously:
        call = f"anyio.run(async_server_url, {app!r}, {name!r}, backend='trio')"
    program = f"import anyio\nfrom homing.integrations.modal import *\nprint({call})"
    with serving(plane) as url:
        done = python(url, "-c", program)
    assert "DeprecationWarning" not in done.stderr
    return done.stdout.strip(), done.stderr


@pytest.mark.parametrize("asynchronously", [False, True])
def test_a_deployed_server_is_found(asynchronously: bool) -> None:
    plane = deploy(SERVER).plane
    url, errors = look_up("homing", "SGLangServer", plane, asynchronously=asynchronously)
    assert url == "https://workspace--homing-sglangserver.us-east.modal.direct", errors


def test_the_examples_class_is_found_too() -> None:
    plane = deploy(HTTP_SERVER, '{"public": true}').plane
    url, errors = look_up("example-sglang-low-latency", "SGLang", plane)
    assert url == "https://workspace--example-sglang-low-latency-sglang.us-east.modal.direct", errors


def test_a_server_that_is_not_there_is_named() -> None:
    _, errors = look_up("homing", "Nothing", ControlPlane())
    assert "ConfigurationError: no server 'Nothing' with a URL in the Modal App 'homing'" in errors
    assert "homing deploy" in errors


def test_nobody_logged_in_is_said_with_the_command() -> None:
    program = "from homing.integrations.modal import server_url; server_url('a', 'b')"
    env = environment(f"http://127.0.0.1:{free_port()}")
    del env["MODAL_TOKEN_ID"], env["MODAL_TOKEN_SECRET"]
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=60)
    assert "ConfigurationError: not logged in to Modal: run `modal setup`" in done.stderr


def test_without_modal_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "modal", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'homing\[server\]'"):
        modal_integration.server_url("a")


class Edge(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.answers: list[tuple[int, bytes]] = []
        self.seen: list[tuple[str, dict[str, str]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answer(BaseHTTPRequestHandler):
    def log_request(self, code: int | str = "-", size: int | str = "-") -> None: ...

    def do_POST(self) -> None:
        assert isinstance(self.server, Edge)
        self.server.seen.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        status, body = self.server.answers.pop(0)
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def edge(monkeypatch: pytest.MonkeyPatch) -> Iterator[Edge]:
    for name in ("MODAL_PROXY_TOKEN_ID", "MODAL_PROXY_TOKEN_SECRET"):
        monkeypatch.delenv(name, raising=False)
    edge = Edge()
    thread = threading.Thread(target=edge.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield edge
    edge.shutdown()
    thread.join()
    edge.server_close()


GOOD = (200, b'{"session_id": "se-1", "token": "jwt-1"}')


def test_a_session_is_started_sent_along_and_ended(edge: Edge) -> None:
    edge.answers = [GOOD, (200, b"")]
    with ModalStickySession(edge.url + "/v1", proxy_token=TOKEN, idle_timeout=30) as session:
        assert session.session_id == "se-1"
        assert session.headers() == {"Modal-Authorization": "Bearer jwt-1"}
        assert "jwt-1" not in repr(session)
        assert "ws-secret" not in repr(session)
    (start_path, start), (end_path, end) = edge.seen
    assert (start_path, end_path) == ("/_modal/sessions/start", "/_modal/sessions/terminate")
    assert start["x-modal-server-session-idle-timeout"] == "30"
    assert (start["modal-key"], start["modal-secret"]) == ("wk-id", "ws-secret")
    assert end["x-modal-server-session-token"] == "jwt-1"
    with pytest.raises(ConfigurationError, match="call start"):
        session.headers()
    session.terminate()  # again: nothing to do
    assert len(edge.seen) == 2


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_a_session_for_coroutines(edge: Edge) -> None:
    edge.answers = [(503, b""), GOOD, (404, b"gone")]
    async with AsyncModalStickySession(edge.url, proxy_token=TOKEN) as session:
        assert session.headers() == {"Modal-Authorization": "Bearer jwt-1"}
    keys = [headers.get("x-idempotency-key") for _, headers in edge.seen]
    assert keys[0] == keys[1]  # a retry starts no second session


def test_a_refused_start_is_not_tried_again(edge: Edge) -> None:
    edge.answers = [(401, b"modal-http: missing credentials")]
    with pytest.raises(APIStatusError, match="@modal.sessioned") as caught:
        ModalStickySession(edge.url, proxy_token=TOKEN).start()
    assert caught.value.status_code == 401
    assert "ws-secret" not in str(caught.value)


def test_a_start_answered_with_nonsense(edge: Edge) -> None:
    edge.answers = [(200, b"<html>")]
    with pytest.raises(APIResponseValidationError, match="session_id and token"):
        ModalStickySession(edge.url, proxy_token=TOKEN).start()


def test_an_end_that_fails_says_what_happens_then(edge: Edge) -> None:
    edge.answers = [GOOD, (403, b"")]
    session = ModalStickySession(edge.url, proxy_token=TOKEN).start()
    with pytest.raises(APIStatusError, match="ends by itself after 600 idle seconds"):
        session.terminate()


def test_an_edge_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modal_integration, "START_TRIES", 1)
    with pytest.raises(APIConnectionError, match="cannot be reached"):
        ModalStickySession(f"http://127.0.0.1:{free_port()}", proxy_token=TOKEN).start()


def test_settings_that_cannot_work(edge: Edge) -> None:
    with pytest.raises(ConfigurationError, match="MODAL_PROXY_TOKEN_ID"):
        ModalStickySession(edge.url)
    with pytest.raises(ConfigurationError, match="idle_timeout"):
        ModalStickySession(edge.url, proxy_token=TOKEN, idle_timeout=0)
