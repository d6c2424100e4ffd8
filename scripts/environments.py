"""Run tests in an environment of their own, made from a file of pins and kept while that stays the same.

    python scripts/environments.py NAME [--python PYTHON] [pytest arguments]
    python scripts/environments.py --make        # all of them, and run nothing

Names: ``openai-2``, ``litellm``, ``ecosystem`` and ``instructor``, peers that cannot share our own; ``lowest``,
the oldest dependencies that pyproject.toml allows, on the oldest Python that is here; and
``newest``, today's dependencies on the newest Python that is here. ``--python`` says which to take instead.
What is made lies under ``.cache/environments`` and may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".cache" / "environments"

# Tests that take long, and in which no dependency's version changes what is found.
LONG = ("5000", "every_split", "every_cut", "five_real_seconds", "properties", "docs_quote", "trio", "uvloop")
# What leans on a dependency: the client on every transport, the stores, the edge under them.
VERSION_TESTS = (
    "tests/test_versions.py",
    "tests/test_imports.py",
    "tests/core",
    "tests/transport",
    "tests/_async",
    "tests/_sync",
    "tests/stores",
    "tests/edge/test_edge.py",
    "tests/edge/test_faults.py",
    "tests/edge/test_plugin.py",
    "tests/integrations/test_fastapi.py",
    # httpx2 cannot be installed beside the oldest anyio; the lanes of other SDKs run these.
    "--ignore=tests/_async/test_sdk_transport.py",
    "--ignore=tests/_sync/test_sdk_transport.py",
    "--numprocesses=2",
    "--dist=worksteal",
    "-k=" + " and ".join(f"not {name}" for name in LONG),
)
# Once more with the ordinary wake-up of readers (docs/performance.md, "The loop").
WOKEN = (
    "tests/transport",
    "tests/_async/test_streams.py",
    "tests/_async/test_cancel.py",
    "--numprocesses=2",
    "-k=asyncio and " + " and ".join(f"not {name}" for name in LONG),
)


@dataclass(frozen=True)
class Environment:
    """An environment: its packages, the Pythons it may have in order of preference, its tests."""

    requirements: str
    tests: Sequence[str]
    pythons: Sequence[str] = ()
    """Minor versions such as ``3.10``; the first that is here is taken, else the one that runs this."""
    extras: str = "local"
    variables: Mapping[str, str] = field(default_factory=dict)
    daily: bool = False
    """Made again each day: its requirements name no versions."""


ENVIRONMENTS = {
    "openai-2": Environment(
        requirements="requirements/openai-2.txt",
        tests=["tests/sdks/test_openai.py", "tests/sdks/test_integrations.py"],
        variables={"HOMING_TEST_OPENAI": "2"},
    ),
    "litellm": Environment(
        requirements="requirements/litellm.txt",
        tests=["tests/sdks"],
        variables={"HOMING_TEST_SDKS": "openai,openai-async,litellm"},
    ),
    "ecosystem": Environment(
        requirements="requirements/ecosystem.txt",
        tests=["tests/sdks/test_integrations.py"],
        variables={"HOMING_TEST_SDKS": "langchain,pydantic-ai,agents"},
    ),
    "instructor": Environment(
        requirements="requirements/instructor.txt",
        tests=["tests/sdks/test_integrations.py"],
        variables={"HOMING_TEST_SDKS": "instructor"},
    ),
    "lowest": Environment(
        requirements="requirements/lowest.txt",
        # httpx's own transport on this anyio leaves a closed socket to the garbage collector. Ours does not.
        tests=[*VERSION_TESTS, "-W=ignore:unclosed transport <_SelectorSocketTransport:ResourceWarning"],
        pythons=["3.10", "3.11", "3.12"],
        extras="local,cli,redis,sql,fastapi",
        variables={"HOMING_TEST_VERSIONS": "lowest"},
    ),
    "newest": Environment(
        requirements="requirements/newest.txt",
        tests=VERSION_TESTS,
        pythons=["3.14", "3.13", "3.12"],
        extras="local,cli,redis,sql,fastapi",
        variables={"HOMING_TEST_VERSIONS": "newest"},
        daily=True,
    ),
}


def runs(python: Path | str, version: str) -> bool:
    """Whether this is a Python of that minor version which can make environments."""
    code = "import ensurepip, sys, venv; print('{}.{}'.format(*sys.version_info))"
    try:
        run = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    except OSError:
        return False
    return run.stdout.strip() == version


def find_python(versions: Sequence[str]) -> str:
    """Return the first of these Pythons that is on the PATH or beside pyenv's others; else the one that runs this."""
    for version in versions:
        pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
        found = [shutil.which(f"python{version}"), *sorted(pyenv.glob(f"{version}.*/bin/python"), reverse=True)]
        for python in found:
            if python is not None and runs(python, version):
                return str(python)
    if versions:
        print(f"no Python {' or '.join(versions)} here: taking {sys.version.split()[0]}", flush=True)
    return sys.executable


def prepare(name: str, python: str | None = None) -> Path:
    """Make the environment unless it is there, on ``python`` if that is said; return its Python."""
    wanted = ENVIRONMENTS[name]
    requirements = ROOT / wanted.requirements
    python = python or find_python(wanted.pythons)
    version = subprocess.run([python, "-VV"], capture_output=True, text=True, check=True).stdout
    facts = [version, requirements.read_text(), (ROOT / "pyproject.toml").read_text()]
    if wanted.daily:
        facts.append(date.today().isoformat())
    digest = hashlib.sha256("\0".join(facts).encode()).hexdigest()[:12]
    folder = HOME / f"{name}-{digest}"
    inside = folder / "bin" / "python"
    if not (folder / "complete").exists():
        for old in HOME.glob(f"{name}-*"):
            shutil.rmtree(old)
        print(f"making {folder.relative_to(ROOT)} on {version.split(' (')[0]}", flush=True)
        subprocess.run([python, "-m", "venv", folder], check=True)
        install = [inside, "-m", "pip", "install", "-q", "--disable-pip-version-check", "-r", requirements]
        subprocess.run([*install, "-e", f"{ROOT}[{wanted.extras}]"], check=True)
        (folder / "complete").touch()
    return inside


def main(argv: Sequence[str]) -> int:
    """Run the tests of one environment; return pytest's exit status."""
    if argv == ["--make"]:
        for name in ENVIRONMENTS:
            prepare(name)
        return 0
    if not argv or argv[0] not in ENVIRONMENTS:
        names = ",".join(ENVIRONMENTS)
        print(f"usage: environments.py {{{names}}} [--python PYTHON] [pytest arguments] | --make", file=sys.stderr)
        return 2
    name, *arguments = argv
    asked = None
    if arguments[:1] == ["--python"] and len(arguments) > 1:
        asked, *arguments = arguments[1:]
    wanted = ENVIRONMENTS[name]
    python = prepare(name, asked)
    # What needs services or an engine is not here to be run.
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not services and not engine"]
    environment = {**os.environ, **wanted.variables}
    status = subprocess.run([*command, *(arguments or wanted.tests)], cwd=ROOT, env=environment, check=False).returncode
    if status or arguments or name not in ("lowest", "newest"):
        return status
    environment["HOMING_EAGER_WAKEUP"] = "0"
    return subprocess.run([*command, *WOKEN], cwd=ROOT, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
