"""What a deployer must install, and what a container must have: tried where there is nothing else.

`make test-modal` runs this; the two environments stay in .cache/.
"""

from __future__ import annotations

import shutil
import subprocess
import venv
from pathlib import Path

import pytest

from tests.server.support.control_plane import ControlPlane, serving
from tests.server.support.modal_cli import environment
from tests.server.test_deploy import MODULES

ROOT = Path(__file__).resolve().parents[2]
PINS = ROOT / "requirements" / "constraints.txt"

pytestmark = pytest.mark.wheels


def installed(name: str, *packages: str) -> Path:
    """The Python of an environment that holds `packages` and what they ask for."""
    folder = ROOT / ".cache" / name
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    command = [str(python), "-m", "pip", "install", "--quiet", "--upgrade", "-c", str(PINS), *packages]
    subprocess.run(command, check=True)
    return python


def test_the_container_modules_need_modal_pydantic_and_the_standard_library(tmp_path: Path) -> None:
    """Modal ships the package `homing_server` alone, to /root, and installs nothing."""
    python = installed("container-environment", "modal", "pydantic")
    shutil.copytree(ROOT / "server" / "homing_server", tmp_path / "homing_server")
    program = f"""
import importlib, importlib.util
assert not [name for name in ("homing", "httpx", "starlette", "uvicorn") if importlib.util.find_spec(name)]
for name in {MODULES!r}:
    print(importlib.import_module("homing_server." + name).__file__)
"""
    done = subprocess.run(
        [str(python), "-W", "error", "-c", program],
        cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    files = done.stdout.splitlines()
    assert len(files) == len(MODULES)
    assert all(file.startswith(str(tmp_path)) for file in files)


@pytest.fixture(scope="module")
def deployer(wheel: Path) -> Path:
    """`pip install 'homing[server]'`, from the wheel and nothing else."""
    python = installed("deployer-environment", f"{wheel}[server]")
    again = ["install", "-q", "--no-deps", "--force-reinstall", str(wheel)]  # same version, other contents
    subprocess.run([str(python), "-m", "pip", *again], check=True)
    return python


@pytest.mark.parametrize("variant", ["server", "http_server"])
def test_deploying_needs_the_server_extra_only(deployer: Path, variant: str, tmp_path: Path) -> None:
    plane = ControlPlane()
    with serving(plane) as url:
        done = subprocess.run(
            [str(deployer.parent / "homing"), "deploy", "--variant", variant],
            cwd=tmp_path, env=environment(url), capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert plane.requests("AppPublish")
    assert "URL: https://workspace--" in done.stdout
    assert "client = Client(" in done.stdout
