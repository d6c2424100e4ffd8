"""``homing up`` as a process, and the command table without its extras."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from .talk import CHAT, ask, user

COMMAND = "from homing.cli import main; main()"
HELLO = user("hello")


def run(*arguments: str, without: str = "") -> subprocess.CompletedProcess[str]:
    hidden = f"import sys; sys.modules[{without!r}] = None; " if without else ""
    return subprocess.run(
        [sys.executable, "-c", hidden + COMMAND, *arguments], capture_output=True, text=True, timeout=60, check=False
    )


class Up:
    """A running ``homing up``; ``read_until`` blocks on its output, so nothing here sleeps."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.output = ""
        self.url = self.read_until("export HOMING_BASE_URL=").partition("=")[2].strip()

    def read_until(self, wanted: str) -> str:
        assert self.process.stdout
        for line in self.process.stdout:
            self.output += line
            if wanted in line:
                return line
        raise AssertionError(f"no {wanted!r} in {self.output}")


@contextmanager
def up(*arguments: str) -> Iterator[Up]:
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND, "up", "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:
        try:
            yield Up(process)
        finally:
            process.kill()


def test_a_cold_edge_in_the_foreground() -> None:
    with up("--cold-start", "0.05", "--decode-rate", "0") as edge:
        edge.read_until("cold: the first request starts it")
        assert "not a production router" in edge.output
        assert httpx.get(edge.url + "/v1/models").status_code == 503
        edge.read_until("replicas: r1 ready")
        ask(edge.url, HELLO, key="conversation-42")
        line = edge.read_until("conversation-42"[-12:])
        assert "200" in line
        assert "completed" in line
        assert "0/10 cached" in line
        edge.process.send_signal(signal.SIGTERM)
        edge.read_until("Stopped.")
        assert edge.process.wait(30) == 0


def test_ctrl_c_drains_and_a_second_one_stops_at_once() -> None:
    with up("--warm", "--decode-rate", "1") as edge:
        body = {"messages": [HELLO], "stream": True}
        with httpx.stream("POST", edge.url + CHAT, json=body, timeout=30) as running:
            assert running.status_code == 200
            edge.process.send_signal(signal.SIGINT)
            edge.read_until("Draining 1 running")
            assert edge.process.poll() is None
            while edge.process.poll() is None:  # until its second handler is in place
                edge.process.send_signal(signal.SIGINT)
                try:
                    edge.process.wait(0.05)
                except subprocess.TimeoutExpired:
                    continue
        assert edge.process.returncode == 128 + signal.SIGINT


def test_backends_of_others_are_ready_at_once() -> None:
    with up("--warm", "--quiet") as behind, up("--url", behind.url) as edge:
        edge.read_until("1 proxied replicas, 1 ready")
        assert ask(edge.url, HELLO)
        edge.read_until("completed")


def test_proxy_token_from_the_command_line() -> None:
    with up("--proxy-token", "wk-a.ws-b", "--warm") as edge:
        assert httpx.get(edge.url + "/v1/models").status_code == 401
        headers = {"Authorization": "Bearer wk-a.ws-b"}
        assert httpx.get(edge.url + "/v1/models", headers=headers).status_code == 200
        edge.process.send_signal(signal.SIGINT)
        edge.read_until("Stopped.")
        assert "ws-b" not in edge.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--proxy-token", "secret-without-shape"], "--proxy-token: must look like"),
        (["--min-replicas", "9"], r"min_replicas (9) must not be above max_replicas (3)"),
        (["--cold-start", "-1"], "cold_start"),
        (["--port", "70000"], "port"),
        (["--api-key", "secret-without-shape", "--engine", "sglang"], "--api-key is for emulated engines"),
        (["--api-key", "secret-without-shape", "--url", "http://127.0.0.1:9"], "--api-key is for emulated engines"),
    ],
)
def test_bad_options_are_one_line_without_traceback(arguments: list[str], message: str) -> None:
    result = run("up", *arguments)
    assert result.returncode != 0
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert "secret-without-shape" not in result.stderr


def test_a_missing_extra_is_named_and_stops_only_its_own_command() -> None:
    missing = run("up", without="uvicorn")
    assert missing.returncode != 0
    assert "pip install 'homing[local]'" in missing.stderr
    assert "Traceback" not in missing.stderr
    listed = run("--help", without="uvicorn")
    assert listed.returncode == 0
    assert "up" in listed.stdout
    clickless = run("--help", without="click")
    assert clickless.returncode != 0
    assert "pip install 'homing[cli]'" in clickless.stderr


def test_version_and_unknown_commands() -> None:
    assert run("--version").stdout.startswith("homing, version ")
    assert "No such command 'nope'" in run("nope").stderr
