"""The line that a waiting command shows: rewritten in place on a terminal, printed occasionally elsewhere."""

from __future__ import annotations

import sys
from typing import TextIO

from homing import Waiting

from ..core.text.control_characters import one_line

QUIET = 5.0
"""Seconds between two lines if the output isn't a terminal: often enough to show that the command is alive."""


def told(wait: Waiting, *, since: float = 0.0) -> str:
    """Return what to display ``since`` seconds after the notice arrived. Pure."""
    elapsed, cause = wait.elapsed + since, one_line(str(wait.cause))
    return f"waiting for a replica: {elapsed:.0f} s of at most {wait.deadline:.0f} s ({cause})"


class WaitLine:
    """Shows `Waiting` notices on ``out``, standard error by default; use it as the ``on_wait`` hook."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = sys.stderr if out is None else out
        self._live = self._out.isatty()
        self._shown: float | None = None

    def __call__(self, wait: Waiting) -> None:
        """Show one notice."""
        text = told(wait)
        if self._live:
            self._out.write(f"\r\x1b[2K{text}")
        elif self._shown is None or wait.elapsed - self._shown >= QUIET or wait.elapsed < self._shown:
            self._out.write(f"{text}\n")
        else:
            return
        self._shown = wait.elapsed
        self._out.flush()

    def clear(self) -> None:
        """Remove the line."""
        if self._live and self._shown is not None:
            self._out.write("\r\x1b[2K")
            self._out.flush()
        self._shown = None
