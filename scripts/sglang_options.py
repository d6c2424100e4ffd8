"""What SGLang's command lines take, version by version, by SGLang's own parsers.

    python scripts/sglang_options.py              write tests/server/sglang_options.json
    python scripts/sglang_options.py VERSION …    say whether our flags parse in other versions

The wheels are fetched without their dependencies, which are gigabytes of CUDA, and their
parsers are run by `sglang_parser.py`. The file is for `make test`, which has no network;
`make test-modal` reads the wheels again and compares. Needs msgspec (requirements/modal.txt).
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FIXTURE = ROOT / "tests" / "server" / "sglang_options.json"
CACHE = ROOT / ".cache" / "sglang"

# The example's version and the newest one that was read.
VERSIONS = ("0.5.9", "0.5.23")
# Whatever Python runs this: only the wheel's Python files are read. Its Rust is not.
PLATFORM = ("--python-version", "3.12", "--platform", "manylinux_2_34_x86_64", "--platform", "manylinux2014_x86_64")


def sources(version: str) -> Path:
    """Fetch and unpack a wheel's Python files unless they are there; return the folder."""
    folder = CACHE / version
    if not folder.exists():
        wheels = CACHE / "wheels"
        wheels.mkdir(parents=True, exist_ok=True)
        fetch = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        subprocess.run([*fetch, *PLATFORM, f"sglang=={version}", "--dest", str(wheels)], check=True)
        unpacked = folder.with_suffix(".new")
        with zipfile.ZipFile(next(wheels.glob(f"sglang-{version}-*.whl"))) as archive:
            archive.extractall(unpacked, [name for name in archive.namelist() if name.endswith(".py")])
        unpacked.rename(folder)
    return folder


def ask(version: str, **wanted: list[list[str]]) -> dict[str, Any]:
    """Run the parsers of a version; see `sglang_parser.py` for what may be wanted."""
    command = [sys.executable, str(ROOT / "scripts" / "sglang_parser.py"), str(sources(version))]
    done = subprocess.run(command, input=json.dumps(wanted), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the parser of sglang {version} does not run without its dependencies:\n{done.stderr}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def served(version: str) -> list[str]:
    """What is handed to uvicorn first: our gate is put around an `app` that is an object."""

    def calls(tree: ast.AST) -> Iterator[str]:
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("uvicorn.run", "uvicorn.Config"):
                yield ast.unparse(node.args[0])

    file = sources(version) / "sglang" / "srt" / "entrypoints" / "http_server.py"
    return sorted(set(calls(ast.parse(file.read_text()))))


def read(version: str) -> dict[str, Any]:
    """What the file says of one version."""
    answer = ask(version)
    extra = {name: how for name, how in answer["compile_options"].items() if name not in answer["options"]}
    return {
        "options": answer["options"],
        "compile_options": extra,
        "served": served(version),
    }


def text() -> str:
    """The whole file, an option a line."""
    lines = []
    for version in VERSIONS:
        parts = []
        for part, content in read(version).items():
            if isinstance(content, dict):
                each = [f"{json.dumps(name)}: {json.dumps(how)}" for name, how in sorted(content.items())]
                parts.append(f" {json.dumps(part)}: {{\n  " + ",\n  ".join(each) + "}")
            else:
                parts.append(f" {json.dumps(part)}: [\n  " + ",\n  ".join(map(json.dumps, content)) + "]")
        lines.append(f"{json.dumps(version)}: {{\n" + ",\n".join(parts) + "}")
    return "{\n" + ",\n".join(lines) + "}\n"


def attempt(version: str) -> bool:
    """Parse the default command lines of every preset with another version, and say how it went."""
    from homing_server.engine import command
    from homing_server.presets import PRESETS
    from homing_server.settings import ServerSettings

    lines = [command(ServerSettings.of(preset, sglang_version=version))[3:] for preset in PRESETS]
    answer = ask(version, parse=lines)
    problems = {parsed["error"] for parsed in answer["parsed"] if "error" in parsed}
    if served(version) and "app" not in served(version):
        problems.add("the app is not handed to uvicorn: homing_server.launcher needs work")
    print(f"{version}: {'; '.join(sorted(problems)) or 'every flag parses'}")
    return not problems


def main() -> None:
    if others := sys.argv[1:]:
        failed = [version for version in others if not attempt(version)]
        raise SystemExit(len(failed))
    FIXTURE.write_text(text())


if __name__ == "__main__":
    main()
