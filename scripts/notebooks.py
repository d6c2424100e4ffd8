"""Run the notebooks in real kernels.

    python scripts/notebooks.py            run them all, and keep what they print and draw
    python scripts/notebooks.py NAME …     these only

What is kept has no times of execution and no version of Python, so that a diff shows what has changed.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from traitlets.config import Config

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "examples" / "notebooks"
TIMEOUT = 120
"""Seconds for a cell: the longest waits two for a replica, on machines that are busy."""


class Kernel(NotebookClient):
    """A kernel of its own for a notebook, and how often each of its displays was drawn anew."""

    def __init__(self, notebook: nbformat.NotebookNode, sockets: str) -> None:
        # Files in the folder ``sockets`` instead of ports: nobody else on the machine can listen.
        config = Config({"KernelManager": {"transport": "ipc", "ip": f"{sockets}/kernel"}})
        super().__init__(notebook, timeout=TIMEOUT, kernel_name="python3", record_timing=False, config=config)
        self.drawn: dict[str, int] = {}

    def process_message(self, msg: dict[str, Any], cell: nbformat.NotebookNode, cell_index: int) -> Any:
        """Count the drawings, which the notebook itself does not keep."""
        if msg["msg_type"] == "update_display_data":
            name = msg["content"]["transient"]["display_id"]
            self.drawn[name] = self.drawn.get(name, 0) + 1
        return super().process_message(msg, cell, cell_index)


def executed(path: Path) -> tuple[nbformat.NotebookNode, Kernel]:
    """Return the notebook with fresh outputs, and its kernel. Raises ``CellExecutionError`` when a cell fails."""
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as sockets:
        kernel = Kernel(notebook, sockets)
        kernel.execute(cwd=str(ROOT))
    notebook.metadata.language_info = {"name": "python"}
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            output.get("metadata", {}).clear()
    return notebook, kernel


def main(names: list[str]) -> int:
    """Run and write."""
    for path in sorted(FOLDER.glob("*.ipynb")):
        if not names or path.stem in names:
            nbformat.write(executed(path)[0], path)
            print(path.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
