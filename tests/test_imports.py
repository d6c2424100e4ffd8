"""What importing Homing costs, and what happens where an extra is not installed."""

from __future__ import annotations

import json
import pkgutil
import subprocess
import sys

import pytest

import homing

DEPENDENCIES = {"anyio", "httpcore", "httpx", "pydantic", "tenacity"}
EXTRAS = {
    "click",
    "fastapi",
    "modal",
    "openai",
    "opentelemetry",
    "redis",
    "rich",
    "sglang",
    "sqlalchemy",
    "starlette",
    "trio",
    "uvicorn",
}
TAKEN_BY_HTTPX = {"click", "rich", "trio"}
"""Where they are installed, httpx and httpcore import them, for a command line of their own and for tasks."""

NEEDS = {
    "homing.cli.app": "click",
    "homing.cli.deploy": "click",
    "homing.cli.engine": "click",
    "homing.cli.server": "click",
    "homing.cli.up": "click",
    "homing.stores.redis": "redis",
    "homing.stores.sqlalchemy": "sqlalchemy",
    "homing.testing.plugin": "pytest",
}
"""Modules that cannot be imported without something that is not a dependency of the client."""


def python(code: str, *blocked: str) -> subprocess.CompletedProcess[str]:
    """Run ``code`` in a fresh interpreter where the ``blocked`` packages are not installed."""
    block = f"import sys\nsys.modules.update(dict.fromkeys({blocked!r}))\n"
    command = [sys.executable, "-c", block + code]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def loaded_by(code: str) -> set[str]:
    """Return the modules that ``code`` imports."""
    run = python(f"old = set(sys.modules)\n{code}\nimport json; print(json.dumps(sorted(set(sys.modules) - old)))")
    assert run.returncode == 0, run.stderr
    return set(json.loads(run.stdout))


def packages(modules: set[str]) -> set[str]:
    return {module.partition(".")[0] for module in modules}


def test_import_homing_loads_next_to_nothing() -> None:
    modules = loaded_by("import homing")
    assert {module for module in modules if module.startswith("homing")} == {"homing", "homing._version"}
    assert packages(modules) & (EXTRAS | DEPENDENCIES) == set()


@pytest.mark.parametrize("name", ["Client", "AsyncClient"])
def test_a_client_loads_no_extra(name: str) -> None:
    code = f"import homing; homing.{name}('http://127.0.0.1:9').conversation(system='s').to_dict()"
    modules = loaded_by(code)
    assert packages(modules) & (EXTRAS - TAKEN_BY_HTTPX) == set()
    # For type checkers only: a server newer than these dictionaries can be used to the full.
    assert "homing.types.params" not in modules


def test_every_exported_name_is_there() -> None:
    assert len(set(homing.__all__)) == len(homing.__all__)
    for name in homing.__all__:
        value = getattr(homing, name)
        assert getattr(value, "__name__", name).rpartition(".")[2] == name
    assert dir(homing) == sorted(homing.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Klient'"):
        _ = homing.Klient


def test_every_module_is_importable_without_the_extras() -> None:
    names = [module.name for module in pkgutil.walk_packages(homing.__path__, "homing.")]
    assert len(names) > 60
    assert set(names) > set(NEEDS)
    rest = [name for name in names if name not in NEEDS]
    run = python(f"import importlib\nfor name in {rest!r}: importlib.import_module(name)", *EXTRAS, "pytest")
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize(("module", "package"), NEEDS.items())
def test_the_list_of_those_that_need_one_is_honest(module: str, package: str) -> None:
    assert python(f"import {module}", package).returncode == 1


SHOWN = "import homing.cli, sys; sys.argv = ['homing', *{!r}]; homing.cli.main()"


@pytest.mark.parametrize(
    ("missing", "code", "extra"),
    [
        ("redis", "from homing.stores import RedisStore", "redis"),
        ("sqlalchemy", "from homing.stores import SQLStore", "sql"),
        ("uvicorn", "from homing.testing import Edge", "local"),
        ("modal", "from homing.integrations.modal import server_url; server_url('app')", "server"),
        ("click", SHOWN.format(["up"]), "cli"),
        ("uvicorn", SHOWN.format(["up"]), "local"),
        ("modal", SHOWN.format(["deploy"]), "server"),
    ],
)
def test_a_missing_extra_is_named(missing: str, code: str, extra: str) -> None:
    run = python(code, missing)
    assert run.returncode == 1
    assert f"pip install 'homing[{extra}]'" in run.stderr.splitlines()[-1]
