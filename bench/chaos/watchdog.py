"""Notices a turn that never ends, says where it is, and ends the process: nothing else would."""

from __future__ import annotations

import asyncio
import faulthandler
import io
import os
import sys
import threading
import time
from typing import Any

from .journal import Journal

PATIENCE = 10
"""Times its own limit that a turn may take. The limit bounds each wait; a run has several, and a busy machine adds."""
HUNG = 3
"""Exit status of a process that was ended for it."""
TICK = 0.25


class Watched(Journal):
    """A journal that knows which turns are under way, and since when."""

    def __init__(self, journal: Journal, limit: float) -> None:
        super().__init__(journal._write)
        self.limit = limit
        self.loop: asyncio.AbstractEventLoop | None = None
        """Whose tasks are shown as well: a thread's stack says nothing of them."""
        self._since: dict[str, float] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> Watched:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def note(self, what: str, turn: str = "", **facts: Any) -> None:
        """Take down that this has happened, now."""
        if what == "begin":
            self._since[turn] = time.monotonic()
        elif what not in ("tool", "stray"):
            self._since.pop(turn, None)
        super().note(what, turn, **facts)

    def _watch(self) -> None:
        while not self._over.wait(TICK):
            late = time.monotonic() - PATIENCE * self.limit
            hung = [turn for turn, since in list(self._since.items()) if since < late]
            if hung:
                self._end(hung)

    def _end(self, hung: list[str]) -> None:
        for turn in hung:
            super().note("hung", turn, error=f"no end after {PATIENCE} times its {self.limit:g} s")
        print(f"HUNG: {', '.join(hung)}", file=sys.stderr, flush=True)
        faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
        for task in asyncio.all_tasks(self.loop) if self.loop is not None else ():
            stack = io.StringIO()
            task.print_stack(file=stack)
            print(stack.getvalue(), file=sys.stderr)
        sys.stderr.flush()
        os._exit(HUNG)
