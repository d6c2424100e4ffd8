"""A process forks at any moment: the child uses the client as a fresh one, and the parent is not disturbed."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from .forking import WHOLE

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

ROOT = Path(__file__).resolve().parents[2]
PIECES = ["One ", "two ", "three."]
BOUND = 120
"""Seconds after which a program is taken to hang."""


class Server(ThreadingHTTPServer):
    """An engine that does as it is told. "Wait" is answered by one piece, and the rest after `go`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.scheme = "http"
        self.up, self.go = threading.Event(), threading.Event()
        self.up.set()
        self.seen: list[tuple[str, int]] = []
        self.broken = 0

    @property
    def url(self) -> str:
        return f"{self.scheme}://localhost:{self.server_address[1]}"

    def told(self, what: str) -> Any:
        if what == "cool":
            self.up.clear()
        elif what == "hold":
            self.go.clear()
        elif what == "go":
            self.go.set()
        elif what == "seen":
            return self.seen
        return self.broken

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Connections end as they like."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Any  # a Server

    def do_GET(self) -> None:
        _, tell, what = self.path.rpartition("/_tell/")
        if tell:
            self.answer(200, self.server.told(what))
        elif self.ready():
            model = {"id": "m", "object": "model", "created": 1, "owned_by": "x"}
            self.answer(200, {"object": "list", "data": [model]})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if not self.ready():
            return
        if asked.get("stream"):
            self.stream(wait=asked["messages"][-1]["content"] == "Wait")
        else:
            message = {"role": "assistant", "content": WHOLE}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            self.answer(200, {**HEAD, "object": "chat.completion", "choices": [choice]})

    def ready(self) -> bool:
        who = self.headers.get("x-who", "nobody")
        self.server.seen.append((who, self.client_address[1]))
        if who == "child":
            self.server.up.set()
        if self.server.up.is_set():
            return True
        self.answer(503, {})
        return False

    def answer(self, status: int, body: Any) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.send_header("modal-replica", "one")
        self.end_headers()
        self.wfile.write(content)

    def stream(self, *, wait: bool) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        try:
            for number, piece in enumerate(PIECES):
                if number and wait:
                    self.watch()
                self.event({"delta": {"content": piece}, "finish_reason": None})
            self.event({"delta": {}, "finish_reason": "stop"})
            self.wfile.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
        except OSError:
            self.server.broken += 1

    def watch(self) -> None:
        """Wait for the word to go on; notice a client that leaves."""
        self.connection.settimeout(0.01)
        while not self.server.go.is_set():
            try:
                if not self.connection.recv(1):
                    raise ConnectionResetError
            except TimeoutError:
                pass
        self.connection.settimeout(None)

    def event(self, choice: dict[str, Any]) -> None:
        body = {**HEAD, "object": "chat.completion.chunk", "choices": [{"index": 0, **choice}]}
        data = b"data: " + json.dumps(body).encode() + b"\n\n"
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class has named it
        """Say nothing."""


HEAD = {"id": "x", "created": 1, "model": "m"}


@contextmanager
def serving(authority: trustme.CA | None = None) -> Iterator[Server]:
    server = Server()
    if authority is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(context)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.scheme = "https"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.go.set()
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


def run(program: str, server: Server, **environment: str) -> None:
    """Run one of the programs of `forking` to its end."""
    known = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    # From Python 3.12 on forking with threads is warned of; here it is the point.
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-m", "tests.attack.forking", program, server.url]
    done = subprocess.run(
        command, cwd=ROOT, env={**known, **environment}, capture_output=True, text=True, timeout=BOUND, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "program",
    ["cold_start", "look_up", "locks", "idle", "idle_async", "streams", "streams_async", "unbegun", "chance", "pools"],
)
def test_fork(server: Server, program: str) -> None:
    run(program, server)


@pytest.mark.slow
@pytest.mark.parametrize("program", ["idle", "idle_async", "streams_async"])
def test_fork_with_tls(tmp_path: Path, program: str) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with serving(authority) as server:
        run(program, server, SSL_CERT_FILE=str(tmp_path / "ca.pem"))


@pytest.mark.slow
@pytest.mark.parametrize("program", ["cold_start", "idle", "idle_async"])
def test_fork_behind_a_proxy(server: Server, program: str) -> None:
    run(program, server, HTTP_PROXY=server.url)


@pytest.mark.skipif(find_spec("homing.core.process.mutex") is None, reason="a turn's lock must know its process")
def test_fork_while_a_turn_runs(server: Server) -> None:
    run("turn", server)


@pytest.mark.slow
@pytest.mark.parametrize("worker", ["sync", "gthread"])
def test_gunicorn_forks_a_client_in_use(server: Server, tmp_path: Path, worker: str) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    gunicorn = [sys.executable, "-m", "gunicorn", "--preload", "--workers", "3", "--threads", "2"]
    environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    environment |= {"HOMING_BASE_URL": server.url, "PYTHONWARNINGS": "ignore"}
    server.up.clear()  # a thread of the arbiter leads while it forks
    with socket.create_server(("127.0.0.1", 0)) as listener:
        options = ["--worker-class", worker, "--bind", f"fd://{listener.fileno()}", "--log-level", "warning"]
        arbiter = subprocess.Popen(
            [*gunicorn, *options, "--chdir", str(tmp_path), "program:app"],
            env=environment,
            stderr=subprocess.PIPE,
            pass_fds=[listener.fileno()],
        )
        try:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            with httpx.Client(base_url=url, trust_env=False, timeout=BOUND) as http:
                pids = {http.get("/", headers={"connection": "close"}).raise_for_status().text for _ in range(20)}
            assert str(arbiter.pid) not in pids
        finally:
            arbiter.terminate()
            said = arbiter.communicate(timeout=BOUND)[1].decode()
    assert arbiter.returncode == 0, said
    who: dict[str, set[int]] = {}
    for name, port in server.seen:
        who.setdefault(name, set()).add(port)
    assert who["child"]
    assert not who["child"] & who["parent"]


PROGRAM = """
import os, threading
from homing import Client, Hooks

waits = threading.Event()
client = Client(model="m", hooks=Hooks(on_wait=lambda notice: waits.set()))
parent = client.with_options(default_headers={"x-who": "parent"})
threading.Thread(target=parent.wait_until_ready, daemon=True).start()
assert waits.wait(60)
child = client.with_options(default_headers={"x-who": "child"})

def app(environ, start_response):
    assert child.conversation().send("Hello").text == "One two three."
    start_response("200 OK", [("content-type", "text/plain")])
    return [str(os.getpid()).encode()]
"""
