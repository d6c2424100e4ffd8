"""docs/faq.md: each thread that it names is borne by a test, which is what its answer stands on."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "faq.md").read_text()
THREAD = re.compile(r"[\w.-]+(?:/[\w.-]+)?#\d+")
QUESTIONS = re.findall(r"^### (.+)\n\n((?s:.+?))(?=\n#|\Z)", PAGE, re.MULTILINE)
HERE = Path(__file__)
TESTS = "\n".join(path.read_text() for path in sorted((ROOT / "tests").rglob("*.py")) if path != HERE)


def test_there_are_questions() -> None:
    assert len(QUESTIONS) > 25
    assert len(set(THREAD.findall(PAGE))) > 50


@pytest.mark.parametrize("thread", sorted(set(THREAD.findall(PAGE))))
def test_a_thread_has_its_test(thread: str) -> None:
    assert re.search(rf"(?<![\w-]){re.escape(thread)}(?!\d)", TESTS), f"no test bears the number of {thread}"


@pytest.mark.parametrize(("question", "answer"), QUESTIONS, ids=[question for question, _ in QUESTIONS])
def test_a_question_is_somebody_s(question: str, answer: str) -> None:
    assert THREAD.search(answer) or "migration.md" in answer, question
