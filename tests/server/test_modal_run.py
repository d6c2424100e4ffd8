"""`modal run`: the example's two-prompt test, against a stand-in for the edge that was cold at first."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from homing import AuthenticationError
from homing_server.probe import probe

from .support.control_plane import ControlPlane
from .support.modal_cli import HTTP_SERVER, SERVER, Deployed, run


class Edge(ThreadingHTTPServer):
    """Answers chat completions; `answers` is used up first: a status, or "cut" for a dropped connection."""

    def __init__(self, answers: list[int | str]) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.answers = answers
        self.seen: list[tuple[dict[str, str], Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answer(BaseHTTPRequestHandler):
    def log_request(self, code: int | str = "-", size: int | str = "-") -> None: ...

    def do_POST(self) -> None:
        assert isinstance(self.server, Edge)
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.seen.append(({name.lower(): value for name, value in self.headers.items()}, body))
        answer = self.server.answers.pop(0) if self.server.answers else 200
        if answer == "cut":
            self.close_connection = True
            return
        self.send_response(int(answer))
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        if answer == 200:
            for text in ("Arr, ", "Harvard — ça va?"):
                choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
                chunk = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
                self.wfile.write(f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n".encode())
            self.wfile.write(b"data: [DONE]\n\n")


@pytest.fixture
def edge() -> Iterator[Edge]:
    edge = Edge([])
    thread = threading.Thread(target=edge.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield edge
    edge.shutdown()
    thread.join()
    edge.server_close()


def modal_run(edge: Edge, *args: str, module: str = HTTP_SERVER, fresh: bool = False, **env: str) -> Deployed:
    plane = ControlPlane(edge=edge.url)
    settings = {"HOMING_SERVER_SETTINGS": '{"public": true}'} if module == HTTP_SERVER else {}
    return run(plane, "modal", "run", "-m", module, *args, env={**settings, **env}, fresh=fresh)


@pytest.mark.parametrize("module", [SERVER, HTTP_SERVER])
def test_two_prompts_are_streamed_after_a_cold_start(edge: Edge, module: str) -> None:
    edge.answers[:] = [503]
    done = modal_run(edge, module=module, fresh=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("Arr, Harvard — ça va?") == 2
    assert "You are Jar Jar Binks." in done.stdout
    assert [body["messages"][0]["content"][:14] for _, body in edge.seen] == ["You are a pira"] * 2 + ["You are Jar Ja"]
    assert edge.seen[0][1]["messages"][1]["content"][0]["text"] == "Explain the Singular Value Decomposition."


def test_each_conversation_has_a_key_of_its_own_under_both_names(edge: Edge) -> None:  # hermes-agent#14612
    modal_run(edge)
    keys = [(headers["modal-session-id"], headers["modal-routing-affinity-key"]) for headers, _ in edge.seen]
    assert len(keys) == 2
    assert all(one == other for one, other in keys)
    assert keys[0] != keys[1]


def test_the_examples_arguments_work(edge: Edge) -> None:
    done = modal_run(edge, "--no-twice", "--prompt", "Why?", "--test-timeout", "30", HOMING_API_KEY="sk-caller")
    assert done.returncode == 0, done.stdout + done.stderr
    ((headers, body),) = edge.seen
    assert body["messages"][1]["content"] == [{"type": "text", "text": "Why?"}]
    assert headers["authorization"] == "Bearer sk-caller"


@pytest.mark.parametrize("module", [SERVER, HTTP_SERVER])
def test_an_app_without_a_url_is_told(module: str) -> None:
    done = run(ControlPlane(edge=""), "modal", "run", "-m", module, env={"HOMING_SERVER_SETTINGS": '{"keys": true}'})
    assert done.returncode != 0
    assert "Modal assigned no URL to this server" in done.stdout + done.stderr


def test_a_proxy_token_goes_along_to_our_server(edge: Edge) -> None:
    token: dict[str, Any] = {"MODAL_PROXY_TOKEN_ID": "wk-1", "MODAL_PROXY_TOKEN_SECRET": "ws-2"}
    done = modal_run(edge, "--no-twice", module=SERVER, **token)
    assert done.returncode == 0, done.stdout + done.stderr
    ((headers, _),) = edge.seen
    assert (headers["modal-key"], headers["modal-secret"]) == ("wk-1", "ws-2")


def test_the_test_gives_up_in_time_and_says_why(edge: Edge) -> None:
    edge.answers[:] = [503] * 100
    done = modal_run(edge, "--no-twice", "--test-timeout", "1")
    assert done.returncode != 0
    assert "ColdStartTimeout" in done.stderr + done.stdout
    assert "503" in done.stderr + done.stdout


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_a_dropped_connection_is_tried_again_and_a_refusal_is_not(edge: Edge) -> None:
    edge.answers[:] = ["cut"]
    assert await probe(edge.url) == "Arr, Harvard — ça va?"
    edge.answers[:] = [401]
    with pytest.raises(AuthenticationError):
        await probe(edge.url)
    assert len(edge.seen) == 3
