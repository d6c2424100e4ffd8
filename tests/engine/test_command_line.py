"""``homing up --engine sglang`` as a process. It comes first, so that no more than two engines run at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from homing import Client

from .conftest import PLAIN

COMMAND = [sys.executable, "-c", "from homing.cli import main; main()"]
# Seconds for processes of a dead edge to be gone: each looks for its parent once a second.
ENDED = 15.0


def read_until(process: subprocess.Popen[str], wanted: str) -> str:
    assert process.stdout
    said = ""
    for line in process.stdout:
        said += line
        if wanted in line:
            return line
    raise AssertionError(f"no {wanted!r} in {said}")


def group_is_gone(pid: int) -> bool:
    """Whether no process of the engine's group runs any more."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == pid and fields[0] != "Z":
            return False
    return True


def wait_gone(pid: int) -> None:
    deadline = time.monotonic() + ENDED
    while not group_is_gone(pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def up(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    # A grace that the stream needs no part of on an idle machine, and may need much of on a busy one.
    options = ["--port", "0", "--engine", "sglang", "--device", "cpu", "--exit-grace", "120"]
    options += ["--log-folder", str(tmp_path)]
    with subprocess.Popen(
        [*COMMAND, "up", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_it_serves_drains_and_leaves_nothing(up: subprocess.Popen[str], tmp_path: Path, how: signal.Signals) -> None:
    url = read_until(up, "export HOMING_BASE_URL=").partition("=")[2].strip()
    (replica,) = httpx.get(url + "/_edge/state").json()["replicas"]
    assert not group_is_gone(replica["pid"])
    with Client(base_url=url) as client:
        chat = client.conversation(**PLAIN)
        with chat.stream("Hello?", max_tokens=300, ignore_eos=True) as stream:
            text = iter(stream.text)
            next(text)
            up.send_signal(how)
            if how is signal.SIGTERM:
                for _ in text:
                    pass
                reply = stream.reply()
                assert (reply.finish_reason, reply.telemetry.completion_tokens) == ("length", 300)
                read_until(up, "Stopped.")
    assert up.wait(30) == (0 if how is signal.SIGTERM else -signal.SIGKILL)
    wait_gone(replica["pid"])
    assert "The server is fired up" in (tmp_path / "r1.log").read_text()


def test_a_missing_model_is_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "up", "--port", "0", "--engine", "sglang", "--model", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "holds no config.json" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_engine_that_dies_at_the_start_shows_its_last_lines(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    options = ["--port", "0", "--engine", "sglang", "--device", "cpu", "--model", str(tmp_path)]
    done = subprocess.run([*COMMAND, "up", *options], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "the engine exited with code" in done.stderr
    assert "whole log:" in done.stderr
