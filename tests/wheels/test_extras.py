"""The wheel with each extra alone, where there is nothing else: what it brings works, what it lacks says so.

`make test-modal` runs this. The wheels of the extras stay in .cache/wheelhouse; the environments are
made anew for each run, from these and without an index, so that nothing else can slip in.
"""

from __future__ import annotations

import json
import subprocess
import sys
import venv
import zipfile
from dataclasses import dataclass
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PINS = ROOT / "requirements" / "constraints.txt"
WHEELHOUSE = ROOT / ".cache" / "wheelhouse"

pytestmark = pytest.mark.wheels


@dataclass(frozen=True)
class Feature:
    """Something that an extra brings: the program that uses it, and the extras that it works with."""

    code: str
    works_with: frozenset[str]
    named: str | None
    """The extra that the error names where it is missing; None where no code of ours is asked."""


def feature(code: str, *works_with: str, named: str | None = None) -> Feature:
    return Feature(code, frozenset(works_with), named)


# The code runs in a function of its own, in one process for all of them. No feature needs a network.
FEATURES = {
    "core": feature(
        "import homing; homing.Client('http://127.0.0.1:9').conversation(system='s').to_dict()",
        *("", "server", "local", "cli", "redis", "sql", "fastapi", "otel", "httpx2", "openai", "notebook", "plot"),
    ),
    "a server on Modal": feature(
        "from homing_server import server, sglang_low_latency; server.app; sglang_low_latency.app", "server"
    ),
    "Client.from_modal": feature(
        # Nobody is logged in: what is missing is modal itself, or the login.
        "import homing\n"
        "try: homing.Client.from_modal('app')\n"
        "except homing.ConfigurationError as error:\n"
        "    if 'not logged in' not in str(error): raise",
        "server",
        named="server",
    ),
    "the local edge": feature(
        "from homing import Client\n"
        "from homing.testing import Edge, EdgeSettings\n"
        "with Edge(EdgeSettings.instant()) as edge, Client(edge.url) as client:\n"
        "    assert client.conversation().send('Hello!').text",
        "local",
        "cli",
        named="local",
    ),
    "the command line": feature(
        "from homing.cli import main; import sys\nsys.argv = ['homing', '--version']\n"
        "try: main()\nexcept SystemExit as stop:\n    if stop.code: raise",
        "cli",
        "local",  # uvicorn brings click as well
        "server",
        named="cli",
    ),
    "RedisStore": feature("from homing.stores import RedisStore; RedisStore.__init__", "redis", named="redis"),
    "SQLStore": feature("from homing.stores import SQLStore; SQLStore('sqlite://')", "sql", named="sql"),
    "OpenTelemetry": feature(
        "from homing.integrations.otel import instrument; assert instrument().on_call",
        "otel",
        "fastapi",  # which brings its API
        named="otel",
    ),
    "httpx2 below an SDK": feature(
        "from homing.integrations.openai import http_client; http_client(library='httpx2').close()",
        "httpx2",
        "openai",  # openai 3 is built on it
        named="httpx2",
    ),
    "the openai SDK": feature(
        "from openai import OpenAI; from homing.integrations.openai import http_client\n"
        "OpenAI(base_url='http://127.0.0.1:9/v1', api_key='-', http_client=http_client()).close()",
        "openai",
    ),
    "a notebook's display": feature(
        "from homing import Client\n"
        "from homing.integrations.notebook import turns\n"
        "turns(Client('http://127.0.0.1:9').conversation())",
        "notebook",
        named="notebook",
    ),
    "events for a page": feature("from homing.integrations.fastapi import sse_response", "fastapi", named="fastapi"),
    "plots of a load": feature(
        "from pathlib import Path\nfrom homing.cli.bench.plots import check_plot\ncheck_plot(Path('load.svg'))",
        "plot",
        named="plot",
    ),
}
ELSEWHERE = {
    "all": "the sum of the others; `make test` runs with it",
    "sglang": "1.6 GB, and for a GPU; its CPU form is what `make test-engine` installs and runs",
}
EXTRAS = sorted({extra for one in FEATURES.values() for extra in one.works_with})

PROGRAM = """
import json, sys
from pathlib import Path
found, results = {}, Path(sys.argv[1])
for name, code in json.load(sys.stdin).items():
    try:
        exec(code, {"__name__": "feature"})
    except (Exception, SystemExit) as error:
        found[name] = f"{type(error).__name__}: {error}"
    else:
        found[name] = None
results.write_text(json.dumps(found))
"""


@pytest.fixture(scope="module")
def wheelhouse(wheel: Path) -> Path:
    """The wheels of all extras and of what they ask for."""
    stamp = WHEELHOUSE / "requirements"
    wanted = "\n".join([sys.version, PINS.read_text(), *said(wheel, "Requires-Dist")])
    if not stamp.exists() or stamp.read_text() != wanted:
        download = [sys.executable, "-m", "pip", "download", "-q", "-d", str(WHEELHOUSE), "-c", str(PINS)]
        subprocess.run([*download, f"{wheel}[all]"], check=True)
        (WHEELHOUSE / wheel.name).unlink(missing_ok=True)  # the one to try is the one just built
        stamp.write_text(wanted)
    return WHEELHOUSE


def said(wheel: Path, field: str) -> list[str]:
    """All lines of its metadata that begin with ``field``."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode()).get_all(field, [])


def environment(folder: Path, wheelhouse: Path, wheel: Path, extra: str) -> Path:
    """Return the Python of a new environment that holds the wheel, and what it and this extra ask for."""
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    wanted = f"{wheel}[{extra}]" if extra else str(wheel)
    offline = ["--no-index", "--find-links", str(wheelhouse), "--no-compile", "-c", str(PINS)]
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", *offline, wanted]
    done = subprocess.run(install, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return python


def tried(python: Path, home: Path) -> dict[str, str | None]:
    """What each feature's program came to there: None, or its error."""
    programs = json.dumps({name: one.code for name, one in FEATURES.items()})
    # A home of its own: nobody is logged in to Modal, and no variable points anywhere.
    clean = {"HOME": str(home), "MODAL_CONFIG_PATH": str(home / "modal.toml"), "PATH": "/usr/bin:/bin"}
    results = home / "results.json"
    command = [str(python), "-c", PROGRAM, str(results)]
    done = subprocess.run(
        command, input=programs, env=clean, cwd=home, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, str | None] = json.loads(results.read_text())
    return found


@pytest.mark.parametrize("extra", EXTRAS, ids=lambda extra: extra or "none")
def test_each_extra_alone_brings_what_it_says_and_names_what_is_missing(
    extra: str, wheel: Path, wheelhouse: Path, tmp_path: Path
) -> None:
    python = environment(tmp_path / "environment", wheelhouse, wheel, extra)
    for name, error in tried(python, tmp_path).items():
        one = FEATURES[name]
        if extra in one.works_with:
            assert error is None, f"homing[{extra}]: {name}: {error}"
            continue
        assert error is not None, f"{name} works with homing[{extra}]: say so in its row"
        line = "ModuleNotFoundError: No module" if one.named is None else f"pip install 'homing[{one.named}]'"
        assert line in error, f"homing[{extra}]: {name}: {error}"


def test_every_extra_is_tried(wheel: Path) -> None:
    assert {*said(wheel, "Provides-Extra")} == {*EXTRAS, *ELSEWHERE} - {""}
