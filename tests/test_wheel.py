"""What is installed: both packages with their types, the command, the pytest plugin, and nothing else."""

from __future__ import annotations

import configparser
import os
import re
import subprocess
import sys
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

import homing

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {"homing": ROOT / "client" / "homing", "homing_server": ROOT / "server" / "homing_server"}
INFO = f"homing-{homing.__version__}.dist-info/"
DATA = {".py", ".typed", ".txt"}
"""What the packages hold: modules, the mark of typed ones, lists of requirements."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), str(ROOT)]
    built = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert built.returncode == 0, built.stderr
    [path] = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def metadata(wheel: zipfile.ZipFile) -> Message:
    return Parser().parsestr(wheel.read(INFO + "METADATA").decode())


def test_it_holds_both_packages_as_they_are_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    sources = {
        f"{package}/{path.relative_to(folder).as_posix()}": path
        for package, folder in PACKAGES.items()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {path.suffix for path in sources.values()} <= DATA
    names = set(wheel.namelist())
    assert {name for name in names if not name.startswith(INFO)} == set(sources)
    assert names - set(sources) == {
        INFO + name for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE")
    }
    for name, path in sources.items():
        assert wheel.read(name) == path.read_bytes()


@pytest.mark.parametrize("package", PACKAGES)
def test_both_packages_say_that_they_are_typed(wheel: zipfile.ZipFile, package: str) -> None:
    assert f"{package}/py.typed" in wheel.namelist()


def test_the_command_and_the_plugin_are_declared(wheel: zipfile.ZipFile) -> None:
    points = configparser.ConfigParser()
    points.read_string(wheel.read(INFO + "entry_points.txt").decode())
    assert {name: dict(points[name]) for name in points.sections()} == {
        "console_scripts": {"homing": "homing.cli:main"},
        "pytest11": {"homing": "homing.testing.plugin"},
    }


def test_extras_add_and_dependencies_stay_few(wheel: zipfile.ZipFile) -> None:
    said = metadata(wheel)
    assert said["Requires-Python"] == ">=3.10"
    assert said["License-Expression"] == "Apache-2.0"
    extras = set(said.get_all("Provides-Extra", []))
    assert extras >= {"server", "sglang", "local", "cli", "redis", "sql", "httpx2", "openai", "all"}
    needs = said.get_all("Requires-Dist", [])
    plain = {re.split(r"[<>=]", need)[0] for need in needs if "extra ==" not in need}
    assert plain == {
        *("anyio", "docstring-parser", "h11", "httpcore", "httpx", "httpx-sse", "pydantic", "pydantic-core"),
        *("tenacity", "typing-extensions"),
    }


def test_it_runs_from_where_it_was_unpacked(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path)
    code = """
import importlib.metadata, homing, homing_server
from homing import Client
print(homing.__file__, homing_server.__file__)
print(*(point.load().__name__ for point in importlib.metadata.distribution("homing").entry_points), sep=",")
"""
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", code]
    run = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode == 0, run.stderr
    files, points = run.stdout.splitlines()
    assert all(file.startswith(str(tmp_path)) for file in files.split())
    assert sorted(points.split(",")) == ["homing.testing.plugin", "main"]
