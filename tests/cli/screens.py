"""Screens kept as text: what a terminal shows must be what `screens/` and docs/cli.md hold.

``HOMING_WRITE_SCREENS=1 python -m pytest tests/cli tests/server/test_cli.py`` writes both anew.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

FOLDER = Path(__file__).parent / "screens"
PAGE = Path(__file__).resolve().parents[2] / "docs" / "cli.md"
WRITE = os.environ.get("HOMING_WRITE_SCREENS") == "1"
# What differs from run to run, and how it is told apart from what does not.
VARIES = {
    r"127\.0\.0\.1:\d+": "127.0.0.1:8000",
    r"\b[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}\b": "01a2f0c4-5b7e-7c3a-9d11-4e8f2a6b7c90",
    r"(?s)HOMING_SERVER_SETTINGS=\{.*?\}\}": "HOMING_SERVER_SETTINGS={…}",  # every setting, wrapped: not for reading
}
MASKS = (r"\d+(?:\.\d+)?(?= m?s\b)", r"\br\d\b", r"\d{4}-\d\d-\d\d \d\d:\d\d")
BLOCK = "<!-- screen: {} -->\n```text\n{}\n```\n"


def check(name: str, screen: str, *, numbers: bool = True) -> None:
    """Assert that ``screen`` is the one kept as ``name``, but for times, ports and replicas.

    ``numbers`` False: all numbers may differ.
    """
    for pattern, instead in VARIES.items():
        screen = re.sub(pattern, instead, screen)
    path = FOLDER / f"{name}.txt"
    if WRITE:
        path.write_text(screen + "\n")
        _publish(name, screen)
    kept = path.read_text()
    assert masked(screen, numbers=numbers) == masked(kept, numbers=numbers), f"{path.name} holds\n{kept}\nnow\n{screen}"


def masked(screen: str, *, numbers: bool = True) -> str:
    """Return a screen without what may differ. Columns move with it, so there blanks count once."""
    lines = []
    for line in screen.strip().splitlines():
        told = line
        for mask in MASKS if numbers else (r"\d+(?:\.\d+)?",):
            told = re.sub(mask, "#", told)
        lines.append(line.rstrip() if told == line and numbers else re.sub(" +", " ", told).rstrip())
    return "\n".join(lines)


def published(page: str) -> dict[str, str]:
    """Return the screens of docs/cli.md by name."""
    return dict(re.findall(r"^<!-- screen: ([\w-]+) -->\n```text\n(.*?\n)```\n", page, re.MULTILINE | re.DOTALL))


def _publish(name: str, screen: str) -> None:
    block = BLOCK.format(name, screen)
    text = PAGE.read_text()
    pattern = re.compile(rf"^<!-- screen: {name} -->\n```text\n.*?^```\n", re.MULTILINE | re.DOTALL)
    PAGE.write_text(pattern.sub(lambda _: block, text) if pattern.search(text) else f"{text}\n{block}")
