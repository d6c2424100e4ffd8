"""For the site's API reference: docstrings are Markdown, but for the ``::`` before their indented blocks."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

LITERAL = re.compile(r"^(.*?)::$", re.MULTILINE)


class LiteralBlocks(Extension):
    """Turns the ``::`` that introduces an indented block into a colon, or into nothing."""

    def on_instance(self, *, obj: Object, **_: Any) -> None:
        """Rewrite the docstring of anything that has one."""
        if obj.docstring is not None:
            text = obj.docstring.value
            obj.docstring.value = LITERAL.sub(lambda line: f"{line[1]}:" if line[1].strip() else "", text)
