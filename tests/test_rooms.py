"""The client's packages import each other in one direction, as the map in docs/architecture.md draws it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from scripts import rooms

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "architecture.md").read_text()


def test_imports_follow_the_arrows() -> None:
    assert rooms.problems() == []


def test_the_drawing_is_fresh() -> None:
    assert rooms.DRAWING.read_text() == rooms.drawing()


def test_the_page_shows_the_map_and_names_every_room() -> None:
    assert "(images/rooms.svg)" in PAGE
    assert set(re.findall(r"^\| `([\w.]+)` \|", PAGE, re.MULTILINE)) == rooms.ROOMS


@pytest.mark.parametrize(
    ("source", "target"),
    [("core.retry", "core.request"), ("core.text", "errors"), ("stores", "_async"), ("_http", "core.request")],
)
def test_an_arrow_back_up_is_noticed(source: str, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    there = rooms.imports()
    monkeypatch.setattr(rooms, "imports", lambda: {**there, (source, target): ["somewhere"]})
    assert rooms.problems() == [f"{source} may not import {target}: somewhere"]


@pytest.mark.parametrize(
    ("line", "package", "targets"),
    [
        ("from ..retry.policy import Kind", "core.request", ["core.retry.policy.Kind"]),
        ("from . import options, request", "core.request", ["core.request.options", "core.request.request"]),
        ("from ...errors import APIError", "core.request", ["errors.APIError"]),
        ("from homing.core.text import surrogates", "cli", ["core.text.surrogates"]),
        ("from httpx import Client", "cli", []),
    ],
)
def test_imports_are_read(line: str, package: str, targets: list[str]) -> None:
    [node] = ast.parse(line).body
    assert isinstance(node, ast.ImportFrom)
    assert rooms.targets_of(node, package.split(".")) == targets


@pytest.mark.parametrize(
    "room", sorted(room for room in rooms.ROOMS if (rooms.PACKAGE / room.replace(".", "/")).is_dir())
)
def test_every_room_says_what_is_in_it(room: str) -> None:
    tree = ast.parse((rooms.PACKAGE / room.replace(".", "/") / "__init__.py").read_text())
    assert len((ast.get_docstring(tree) or "").split()) >= 5, f"{room}/__init__.py needs a docstring"
