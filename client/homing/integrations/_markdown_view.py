"""A live view of a running reply: Markdown, redrawn periodically."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..core.text.control_characters import one_line
from ..core.text.markdown import sanitize_markdown
from ..types.events import ContentDelta, ReasoningDelta, RefusalDelta, StreamEvent, Waiting
from ..types.tool_events import ToolFailed, ToolFinished, ToolStarted

if TYPE_CHECKING:
    from ..core.conversation.transcript import Turn
    from ..core.telemetry.measurements import Telemetry
    from ..reply import Reply

REDRAW = 0.1
"""Seconds between redraws. Each redraw renders the whole text again; ten per second look fluid."""

SHORT = 80
"""How many characters of a tool's arguments and result to show: one line."""


class LiveMarkdown:
    """The visible state of one stream. Pass each event to `take`, and draw `markdown` when it is `due`."""

    def __init__(self) -> None:
        self._blocks: list[tuple[str, list[str]]] = []
        self._waiting = ""
        self._changed = False
        self._drawn = -math.inf

    def take(self, event: StreamEvent) -> None:
        """Process one event of a conversation's stream."""
        if isinstance(event, Waiting):
            self._waiting = f"*No replica is ready: waiting for {event.elapsed:.0f} s ({event.cause}).*"
        elif isinstance(event, ReasoningDelta):
            self._grow("thought", event.delta)
        elif isinstance(event, (ContentDelta, RefusalDelta)):
            self._grow("text", event.delta)
        elif isinstance(event, ToolStarted):
            arguments = ", ".join(f"{name}={value!r}" for name, value in event.arguments.items())
            self._grow("tool", _code(f"{event.name}({arguments})"))
        elif isinstance(event, (ToolFinished, ToolFailed)):
            arrow = "→" if isinstance(event, ToolFinished) else "failed:"
            self._grow("tool", f"{_code(event.name)} {arrow} {_code(event.content)}")
        else:
            return
        self._changed = True

    def due(self, now: float) -> bool:
        """Return whether to redraw at ``now``, on a monotonic clock. If true, this counts as a redraw."""
        if not self._changed or now - self._drawn < REDRAW:
            return False
        self._changed, self._drawn = False, now
        return True

    @property
    def markdown(self) -> str:
        """The whole view: reasoning as a quotation, tools as code, and the model's text unchanged."""
        if not self._blocks:
            return self._waiting
        return sanitize_markdown("\n\n".join(_block(kind, "".join(pieces)) for kind, pieces in self._blocks))

    def ended(self, reply: Reply[Any]) -> str:
        """Return the same, followed by a summary line of the reply's telemetry."""
        return f"{self.markdown}\n\n*{summary(reply.telemetry, interrupted=reply.interrupted)}*".strip()

    def _grow(self, kind: str, piece: str) -> None:
        if not self._blocks or self._blocks[-1][0] != kind or kind == "tool":
            self._blocks.append((kind, []))
        self._blocks[-1][1].append(piece)


def summary(telemetry: Telemetry, *, interrupted: bool = False) -> str:
    """Summarize one reply's telemetry in a line, without unknown values."""
    parts = ["stopped"] if interrupted else []
    if telemetry.replica is not None:
        parts.append(_cell(telemetry.replica))
    parts.append(telemetry.verdict)
    if telemetry.cached_tokens is not None and telemetry.prompt_tokens is not None:
        parts.append(f"{telemetry.cached_tokens} of {telemetry.prompt_tokens} prompt tokens cached")
    if telemetry.time_to_first_token is not None:
        parts.append(f"first token after {telemetry.time_to_first_token * 1000:.0f} ms")
    if telemetry.waited:
        parts.append(f"waited {telemetry.waited:.1f} s for a replica")
    return " · ".join(parts)


def turns_table(turns: Iterable[Turn]) -> str:
    """Return a conversation's turns and their telemetry as a Markdown table. ``–`` marks unknown values."""
    names = ("turn", "replica", "verdict", "prompt", "cached", "first token, ms", "waited, s")
    rows = [names, ("---",) * len(names)]
    for number, turn in enumerate(turns):
        met = turn.telemetry
        first = None if met.time_to_first_token is None else f"{met.time_to_first_token * 1000:.0f}"
        cells = (number, met.replica, met.verdict, met.prompt_tokens, met.cached_tokens, first, f"{met.waited:.1f}")
        rows.append(tuple("–" if cell is None else _cell(str(cell)) for cell in cells))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(text: str) -> str:
    return sanitize_markdown(one_line(text)).replace("|", "\\|")


def _block(kind: str, text: str) -> str:
    return textwrap.indent(text, "> ", lambda line: True) if kind == "thought" else text


def _code(text: str) -> str:
    """Return one short line of inline code. Replaces backticks, which would end it."""
    return f"`{textwrap.shorten(text.replace('`', chr(39)), SHORT, placeholder=' …')}`"
