"""Growing Markdown: finished blocks are printed once, the part that may still change is redrawn."""

from __future__ import annotations

import itertools

from markdown_it import MarkdownIt
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markdown import Markdown
from rich.segment import Segment

from ...core.text.control_characters import strip_controls

_PARSER = MarkdownIt("commonmark", {"html": False}).enable("strikethrough").enable("table")
"""Like rich's own, except for HTML: rich omits it, which would leave holes in a model's answer about HTML."""


class Block:
    """One block of Markdown, such as a paragraph, without blank lines around it.

    rich adds them around some blocks and not around others, depending on what comes before. Link addresses are
    written out, because a link's text may hide where it leads.
    """

    def __init__(self, text: str) -> None:
        self._markdown = Markdown("", code_theme="ansi_dark", hyperlinks=False)
        self._markdown.parsed = _PARSER.parse(text)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = console.render_lines(self._markdown, options.update(height=None), pad=False)
        lines = [_without_blanks(line) for line in lines]
        shown = [number for number, line in enumerate(lines) if line]
        for line in lines[shown[0] : shown[-1] + 1] if shown else ():
            yield from map(_clean, line)
            yield Segment.line()


def _clean(segment: Segment) -> Segment:
    """Strip control characters again: Markdown can also spell them as ``&rlm;`` or ``&#8238;``."""
    return Segment(strip_controls(segment.text), segment.style, segment.control)


def _without_blanks(line: list[Segment]) -> list[Segment]:
    """Remove trailing blanks, so that text copied from the screen has none either."""
    kept = list(line)
    while kept and not kept[-1].text.strip():
        kept.pop()
    if kept:
        kept[-1] = Segment(kept[-1].text.rstrip(), kept[-1].style, kept[-1].control)
    return kept


def blocks(text: str) -> list[str]:
    """Return the blocks of ``text``, each with all lines up to the next. Joined, they equal ``text``. Pure."""
    tokens = _PARSER.parse(text)
    starts = [token.map[0] for token in tokens if token.level == 0 and token.nesting >= 0 and token.map]
    if not starts:
        return [text] if text else []
    lines = text.split("\n")
    bounds = [0, *starts[1:], len(lines)]
    parts = ["\n".join(lines[begin:end]) for begin, end in itertools.pairwise(bounds)]
    return [f"{part}\n" for part in parts[:-1]] + parts[-1:]


def split_finished(text: str) -> tuple[list[str], str]:
    """Return the blocks that more text can't change, and the rest. Pure.

    These are all blocks of complete lines except the last. An incomplete line may still become
    an item of the list before it.
    """
    finished = blocks(text[: text.rfind("\n") + 1])[:-1]
    return finished, text[sum(map(len, finished)) :]
