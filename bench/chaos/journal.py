"""What a client says about its turns, while it lives."""

from __future__ import annotations

import json
import os
import select
from collections.abc import Callable
from typing import Any

Entry = dict[str, Any]

# begin · acked (the call returned) · failed (it raised) · cancelled (on purpose) · struck (by a signal) · dropped (with
# nobody to close the stream) · answered (in a forked child) · hung · unsure (the store failed behind the reply) ·
# tool (a tool ran) · stray (an exception where there should be none) · end (all is done and closed)


class Journal:
    """Takes down one entry after another. ``write`` must not be torn by a sudden end of the process."""

    def __init__(self, write: Callable[[Entry], None]) -> None:
        self._write = write

    def note(self, what: str, turn: str = "", **facts: Any) -> None:
        """Take down that this has happened, now."""
        self._write({"what": what, "turn": turn, **facts})


def to_pipe(descriptor: int) -> Callable[[Entry], None]:
    """Write entries as lines, past every buffer: what was said before a kill is heard, and in one piece."""

    def write(entry: Entry) -> None:
        line = json.dumps(entry, ensure_ascii=False).encode() + b"\n"
        assert len(line) <= select.PIPE_BUF, "a longer line may come torn"
        os.write(descriptor, line)

    return write
