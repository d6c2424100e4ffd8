"""The notebooks run from top to bottom in real kernels, and what they show is what is kept in them.

A kernel has an event loop that is running already (any-llm#359, llama_deploy#162, chatlas#153), and collects
what was not closed at moments of its own choice (deepeval#3120).
"""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))

pytestmark = pytest.mark.notebooks


@pytest.fixture(scope="module")
def notebooks() -> Any:
    sys.path.insert(0, str(ROOT / "scripts"))
    return importlib.import_module("notebooks")


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def words(output: Any) -> tuple[str, ...]:
    """What an output shows, but for what differs from run to run: figures, and pictures of them."""
    if output.output_type == "stream":
        return (output.name, words_of(output.text))
    texts = {kind: words_of(text) for kind, text in output.data.items() if kind == "text/markdown"}
    return (output.output_type, *sorted(output.data), *texts.values())


def words_of(text: str) -> str:
    return " ".join(re.sub(r"\d+(?:\.\d+)?", "#", text).split())


def test_there_are_four() -> None:
    assert {path.stem for path in NOTEBOOKS} == {"affinity", "cold-starts", "quickstart", "tools"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_shows_what_is_kept_in_it(path: Path, notebooks: Any) -> None:
    kept = notebooks.nbformat.read(path, as_version=4)
    fresh, kernel = notebooks.executed(path)
    for number, (before, now) in enumerate(zip(code_cells(kept), code_cells(fresh), strict=True), start=1):
        assert before.execution_count == number, "kept from a run that was not from top to bottom"
        was, shown = (sorted(words(output) for output in cell.outputs) for cell in (before, now))
        assert shown == was, f"cell {number} showed\n{was}\nand shows\n{shown}\nMeant? scripts/notebooks.py keeps it."
    everything = str([cell.outputs for cell in code_cells(fresh)])
    for trouble in ("Event loop is closed", "never awaited", "Unclosed", "ResourceWarning", "Traceback"):
        assert trouble not in everything
    if path.stem == "quickstart":
        # Shown while it came: the last one says where it came from, those before hold what had come so far.
        assert len(kernel.drawn) == 4
        assert max(kernel.drawn.values()) > 2
