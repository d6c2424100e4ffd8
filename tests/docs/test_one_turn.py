"""docs/one-turn.md names files and names that are there."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "one-turn.md").read_text()
PROSE = re.sub(r"^```.*?^```$", "", PAGE, flags=re.MULTILINE | re.DOTALL)
CODE = re.findall(r"`([^`]+)`", PROSE)
FILES = sorted({code for code in CODE if code.endswith(".py") and " " not in code})
FOLDERS = sorted({code for code in CODE if "/" in code and not code.endswith(".py")})
ROWS = re.findall(r"^\| `([\w/]+\.py)` \| (`.+?) \|", PAGE, re.MULTILINE)
NAME = re.compile(r"[A-Za-z_][\w.]*")


@functools.cache
def defined(path: str) -> frozenset[str]:
    """The names that a file defines, those in a class behind its name."""
    found: set[str] = set()

    def walk(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                found.add(prefix + node.name)
            elif isinstance(node, ast.ClassDef):
                found.add(prefix + node.name)
                walk(node.body, f"{prefix}{node.name}.")
            elif isinstance(node, ast.Assign):
                found.update(prefix + target.id for target in node.targets if isinstance(target, ast.Name))
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                found.add(prefix + node.target.id)

    walk(ast.parse((ROOT / path).read_text()).body, "")
    return frozenset(found)


def test_it_goes_all_the_way() -> None:
    assert len(ROWS) > 40
    assert {Path(path).parts[:3] for path, _ in ROWS} >= {
        ("client", "homing", "_async"),
        ("client", "homing", "core"),
        ("server", "homing_server", "local"),
    }


@pytest.mark.parametrize("path", [*FILES, *FOLDERS])
def test_every_file_is_there(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize(("path", "names"), ROWS)
def test_a_row_s_names_are_in_its_file(path: str, names: str) -> None:
    named = re.findall(r"`([^`]+)`", names)
    assert named
    assert set(named) <= defined(path), set(named) - defined(path)


def test_every_name_in_the_prose_is_somewhere_in_these_files() -> None:
    everything = {name for path in FILES for name in defined(path)}
    known = everything | {name.rpartition(".")[2] for name in everything}
    # Words of Python, parameters of the API, fields of the wire.
    words = {"async", "await", "on_busy", "stream_options", "cached_tokens", "partial", "placement"}
    named = {code for code in CODE if NAME.fullmatch(code) and not code.endswith(".py")}
    assert named - words <= known, named - words - known
