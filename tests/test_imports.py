"""What importing Homing costs, and what happens where an extra is not installed."""

from __future__ import annotations

import json
import pkgutil
import subprocess
import sys

import pytest

import homing

DEPENDENCIES = {
    *("anyio", "docstring_parser", "h11", "httpcore", "httpx", "httpx_sse", "pydantic", "pydantic_core", "tenacity"),
}
EXTRAS = {
    "IPython",
    "click",
    "fastapi",
    "httpx2",
    "markdown_it",
    "matplotlib",
    "modal",
    "openai",
    "opentelemetry",
    "prompt_toolkit",
    "redis",
    "rich",
    "sglang",
    "sqlalchemy",
    "starlette",
    "trio",
    "uvicorn",
}
TAKEN_BY_HTTPX = {"click", "markdown_it", "rich", "trio"}
"""Where they are installed, httpx and httpcore import them, for a command line of their own and for tasks."""

NEEDS = {
    "homing.cli.bench.command": "click",
    "homing.cli.chat.command": "click",
    "homing.cli.chat.editor": "prompt_toolkit",
    "homing.cli.chat.markdown": "rich",
    "homing.cli.chat.screen": "rich",
    "homing.cli.chat.shelf": "click",
    "homing.cli.chat.talk": "click",
    "homing.cli.completion": "click",
    "homing.cli.app": "click",
    "homing.cli.connection": "click",
    "homing.cli.deploy": "click",
    "homing.cli.doctor": "click",
    "homing.cli.engine": "click",
    "homing.cli.server": "click",
    "homing.cli.status": "click",
    "homing.cli.up": "click",
    "homing.cli.wait": "click",
    "homing.integrations.fastapi": "starlette",
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


@pytest.mark.parametrize("library", ["httpx", "httpx2"])
def test_only_who_uses_httpx2_imports_it(library: str) -> None:
    """Not even to see whether an error is one of its."""
    pytest.importorskip(library)
    code = f"""
import {library}, homing
with {library}.Client(trust_env=False) as http:
    client = homing.Client('http://127.0.0.1:9', http_client=http, model='m', cold_start_timeout=0, max_retries=0)
    try:
        client.conversation().send('Hello')
    except homing.ColdStartTimeout as error:
        assert 'cannot connect to 127.0.0.1:9' in str(error.last)
"""
    assert ("httpx2" in packages(loaded_by(code))) is (library == "httpx2")


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


FAILING = """
import importlib
for name in {!r}:
    try:
        importlib.import_module(name)
    except (ImportError, ValueError):  # ConfigurationError is one
        print(name)
"""


@pytest.mark.parametrize("package", sorted(set(NEEDS.values())))
def test_the_list_of_those_that_need_one_is_honest(package: str) -> None:
    wanted = [name for name, needed in NEEDS.items() if needed == package]
    assert python(FAILING.format(wanted), package).stdout.split() == wanted


SHOWN = "import homing.cli, sys; sys.argv = ['homing', *{!r}]; homing.cli.main()"


@pytest.mark.parametrize(
    ("missing", "code", "extra"),
    [
        ("redis", "from homing.stores import RedisStore", "redis"),
        ("sqlalchemy", "from homing.stores import SQLStore", "sql"),
        ("uvicorn", "from homing.testing import Edge", "local"),
        ("starlette", "import homing.integrations.fastapi", "fastapi"),
        ("modal", "from homing.integrations.modal import server_url; server_url('app')", "server"),
        ("IPython", "from homing.integrations.notebook import show; show(None)", "notebook"),
        ("click", SHOWN.format(["up"]), "cli"),
        ("uvicorn", SHOWN.format(["up"]), "local"),
        ("rich", "import homing.cli.chat.screen", "cli"),
        ("prompt_toolkit", "import homing.cli.chat.editor", "cli"),
        ("matplotlib", SHOWN.format(["bench", "http://127.0.0.1:9", "--plot", "a.svg"]), "plot"),
        ("modal", SHOWN.format(["deploy"]), "server"),
    ],
)
def test_a_missing_extra_is_named(missing: str, code: str, extra: str) -> None:
    run = python(code, missing)
    assert run.returncode == 1
    assert f"pip install 'homing[{extra}]'" in run.stderr.splitlines()[-1]
