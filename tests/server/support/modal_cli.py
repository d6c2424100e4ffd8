"""The real `modal` command, against a loopback control plane and never anything else."""

from __future__ import annotations

import atexit
import functools
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .control_plane import ControlPlane, serving
from .fork_server import ForkServer

HTTP_SERVER = "homing_server.sglang_low_latency"
SERVER = "homing_server.server"


def environment(url: str, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """A fake login. MODAL_CONFIG_PATH keeps a developer's own ~/.modal.toml out of it."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MODAL_", "HOMING_"))}
    return {
        **clean,
        "MODAL_SERVER_URL": url,
        "MODAL_TOKEN_ID": "ak-fake",
        "MODAL_TOKEN_SECRET": "as-fake",
        "MODAL_CONFIG_PATH": "/nonexistent/modal.toml",
        "NO_COLOR": "1",
        "COLUMNS": "200",
        **(extra or {}),
    }


@dataclass
class Deployed:
    """What a deploy printed, and what it asked Modal for."""

    plane: ControlPlane
    returncode: int
    stdout: str
    stderr: str

    def function(self, tag: str) -> Any:
        creates = self.plane.requests("FunctionCreate")
        return next(one.function for one in creates if one.function.function_name == tag)

    @property
    def dockerfile(self) -> list[str]:
        return [line for one in self.plane.requests("ImageGetOrCreate") for line in one.image.dockerfile_commands]


@functools.cache
def fork_server() -> ForkServer:
    """One for the whole run of the tests."""
    server = ForkServer(environment("http://127.0.0.1:9"))
    atexit.register(server.close)
    return server


def python(
    url: str, *argv: str, env: Mapping[str, str] | None = None, fresh: bool = False, timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run `python <argv>` with a control plane at `url`. `fresh`: by an interpreter of its own."""
    if not fresh:
        return fork_server().run(argv, environment(url, env), timeout=timeout)
    return subprocess.run(
        [sys.executable, "-W", "always", *argv],
        env=environment(url, env),
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def run(plane: ControlPlane, *args: str, env: Mapping[str, str] | None = None, fresh: bool = False) -> Deployed:
    """Run `python -m <args>` beside a control plane."""
    with serving(plane) as url:
        done = python(url, "-m", *args, env=env, fresh=fresh)
    return Deployed(plane, done.returncode, done.stdout, done.stderr)


def deploy(
    module: str,
    settings: str = "{}",
    *,
    plane: ControlPlane | None = None,
    args: tuple[str, ...] = (),
    fresh: bool = False,
) -> Deployed:
    env = {"HOMING_SERVER_SETTINGS": settings}
    return run(plane or ControlPlane(), "modal", "deploy", *args, "-m", module, env=env, fresh=fresh)
