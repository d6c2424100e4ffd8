"""Markdown for notebooks: code is left as it is, HTML becomes text (attacks on it: tests/attack/test_terminal.py)."""

from __future__ import annotations

import pytest

from homing.core.text.markdown import sanitize_markdown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<b>", "<\u200bb>"),
        ("```html\n<b>\n```\n<b>", "```html\n<b>\n```\n<\u200bb>"),
        ("~~~\n```\n<b>\n~~~~\n<b>", "~~~\n```\n<b>\n~~~~\n<\u200bb>"),
        ("- ```\n  <b>\n```\n<b>", "- ```\n  <\u200bb>\n```\n<\u200bb>"),  # where this code ends is in doubt
    ],
)
def test_only_code_that_certainly_ends_is_left_as_it_is(text: str, shown: str) -> None:
    assert sanitize_markdown(text) == shown
