"""Replies as plain text, for pipes and for users who want no redrawing, and as JSON."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TextIO

from homing import APIError, Conversation, HomingError, Reply, ReplyStream

from ...core.text.control_characters import strip_controls
from ..output import columns
from ..progress import WaitLine
from .reading import read, remarks


class PlainScreen:
    """Writes answers as they arrive, without the reasoning.

    On a terminal, control characters are removed; a pipe gets the answer unchanged. Notes go to standard error,
    because they aren't part of the answer.
    """

    def __init__(self, out: TextIO | None = None, notes: TextIO | None = None) -> None:
        self._out = sys.stdout if out is None else out
        self._notes = sys.stderr if notes is None else notes
        self._clean: Callable[[str], str] = strip_controls if self._out.isatty() else str

    def reply(self, stream: ReplyStream[None]) -> Reply:
        """Write a reply as it arrives. Raises the errors of `homing.errors`, after writing what had arrived."""
        line = WaitLine(self._notes)
        began = False

        def content(piece: str) -> None:
            nonlocal began
            line.clear()
            began = True
            self._out.write(self._clean(piece))
            self._out.flush()

        try:
            answer = read(stream, content=content, waiting=line)
        finally:
            line.clear()
            if began:
                self._out.write("\n")
                self._out.flush()
        if self._notes.isatty():
            for remark in remarks(answer):
                self.note(remark)
        return answer

    def note(self, text: str) -> None:
        """Print a remark that isn't from the model."""
        print(strip_controls(text), file=self._notes)

    warning = note

    def said(self, role: str, text: str) -> None:
        """Show an earlier message."""
        print(f"{'> ' if role == 'user' else ''}{self._clean(text)}", file=self._out)

    def table(self, rows: list[tuple[str, ...]]) -> None:
        """Show ``rows`` in columns."""
        for line in columns(rows):
            print(line, file=self._out)


def reply_as_data(chat: Conversation, text: str) -> dict[str, Any]:
    """Send ``text`` and return the reply as data, or the error together with the partial text."""
    line = WaitLine()
    try:
        reply = read(chat.stream(text), content=lambda _: None, waiting=line)
    except HomingError as error:
        partial = error.partial_text if isinstance(error, APIError) else ""
        return {"id": chat.id, "error": type(error).__name__, "message": str(error), "partial": partial}
    finally:
        line.clear()
    return {
        "id": chat.id,
        "text": reply.text,
        "reasoning": reply.reasoning,
        "finish_reason": reply.finish_reason,
        "telemetry": reply.telemetry.to_dict(),
    }
