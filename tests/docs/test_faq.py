"""docs/faq.md: each thread that it names is borne by a test, which is what its answer stands on."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "faq.md").read_text()
THREAD = re.compile(r"[\w.-]+(?:/[\w.-]+)?#\d+")
HERE = Path(__file__)
TESTS = "\n".join(path.read_text() for path in sorted((ROOT / "tests").rglob("*.py")) if path != HERE)


@pytest.mark.parametrize("thread", sorted(set(THREAD.findall(PAGE))))
def test_a_thread_has_its_test(thread: str) -> None:
    assert re.search(rf"(?<![\w-]){re.escape(thread)}(?!\d)", TESTS), f"no test bears the number of {thread}"
