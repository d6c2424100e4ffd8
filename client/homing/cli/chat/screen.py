"""A reply on a terminal: the wait, dimmed reasoning, the answer as growing Markdown, and its cost."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from homing import Reply, ReplyStream, Waiting
from homing.errors import ConfigurationError

try:
    from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
    from rich.live import Live
    from rich.segment import Segment
    from rich.text import Text
except ImportError:
    raise ConfigurationError("homing chat needs rich at a terminal: pip install 'homing[cli]', or --plain") from None

from ...core.text.control_characters import strip_controls
from ..output import columns
from ..progress import told
from .markdown import Block, blocks, split_finished
from .reading import read, remarks

REFRESH = 12
"""Redraws per second: text seems to flow, and slow terminals keep up."""


def console() -> Console:
    """Return a console for this terminal."""
    return Console(highlight=False)


class Screen:
    """Shows replies and short notes on ``console``."""

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock

    def reply(self, stream: ReplyStream[None]) -> Reply:
        """Show a reply as it arrives and return it.

        Ctrl-C stops it; what had arrived stays on the screen and in the conversation. Raises the errors of
        `homing.errors`, after showing what had arrived.
        """
        page = _Page(self._console, self._clock)
        with silent_keyboard(), page:
            answer = read(stream, content=page.content, reasoning=page.reasoning, waiting=page.waiting)
        for line in remarks(answer):
            self.note(line)
        return answer

    def note(self, text: str) -> None:
        """Show a remark that isn't from the model."""
        self._console.print(Text(strip_controls(text), style="dim"))

    def warning(self, text: str) -> None:
        """Show what went wrong."""
        self._console.print(Text(strip_controls(text), style="yellow"))

    def said(self, role: str, text: str) -> None:
        """Show an earlier message."""
        if role == "user":
            self._console.print(Text(f"> {strip_controls(text)}", style="bold"))
        else:
            self._console.print(_spaced(map(Block, blocks(strip_controls(text)))))

    def table(self, rows: list[tuple[str, ...]]) -> None:
        """Show ``rows`` in columns."""
        for line in columns(rows):
            self._console.print(Text(line), soft_wrap=True)


@contextmanager
def silent_keyboard() -> Iterator[None]:
    """Keep the terminal from echoing input, including ``^C``, into what is being drawn.

    No input is lost: it appears on the line at the next prompt.
    """
    if os.name != "posix" or not sys.stdin.isatty():
        yield
        return
    import termios

    number = sys.stdin.fileno()
    before = termios.tcgetattr(number)
    changed = [*before[:3], before[3] & ~termios.ECHO, *before[4:]]
    termios.tcsetattr(number, termios.TCSADRAIN, changed)
    try:
        yield
    finally:
        termios.tcsetattr(number, termios.TCSADRAIN, before)


class _Page:
    """A reply in progress. Printed text is final; rendering this object gives the part that is still growing.

    While this context manager is open, a thread redraws the growing part. rich has such a thread too, but
    another thread may print between its reading the cursor position and moving the cursor.
    """

    def __init__(self, console: Console, clock: Callable[[], float]) -> None:
        self._console = console
        self._clock = clock
        self._wait: tuple[float, Waiting] | None = None
        self._thought = ""
        self._text = ""
        self._printed = False
        self._live = Live(get_renderable=lambda: self, console=console, transient=True, auto_refresh=False)
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._drawing = threading.Thread(target=self._draw, name="homing-screen", daemon=True)

    def __enter__(self) -> None:
        self._live.start()
        self._drawing.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._drawing.join()
        self._wait = None
        self._end_thought()
        for block in blocks(self._text):
            self._print(Block(block))
        self._text = ""
        self._live.stop()

    def _draw(self) -> None:
        while not self._over.wait(1 / REFRESH):
            with self._lock:
                self._live.refresh()

    def waiting(self, wait: Waiting) -> None:
        """Show that the request is waiting for a replica."""
        with self._lock:
            self._wait = (self._clock(), wait)

    def reasoning(self, piece: str) -> None:
        """Show a piece of reasoning. Complete lines are final."""
        with self._lock:
            self._awake()
            self._thought += strip_controls(piece)
            whole, newline, rest = self._thought.rpartition("\n")
            if newline:
                self._print_thoughts(whole)
                self._thought = rest

    def content(self, piece: str) -> None:
        """Show a piece of the answer. Complete blocks are final."""
        with self._lock:
            self._awake()
            self._end_thought()
            self._text += strip_controls(piece)
            if "\n" in piece:
                finished, self._text = split_finished(self._text)
                for block in finished:
                    self._print(Block(block))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self._wait is not None:
            began, wait = self._wait
            growing: RenderableType = Text(told(wait, since=self._clock() - began), style="dim")
        elif self._thought:
            growing = _thoughts(self._thought)
        elif self._text.strip():
            growing = _spaced(map(Block, blocks(self._text)), space_before=self._printed)
        else:
            return
        lines = console.render_lines(growing, options.update(height=None), pad=False)
        # Text too long for the screen shows its end, because that is where it grows.
        for line in lines[-max(console.height - 2, 1) :]:
            yield from line
            yield Segment.line()

    def _awake(self) -> None:
        if self._wait is not None:
            began, wait = self._wait
            self._wait = None
            elapsed = wait.elapsed + self._clock() - began
            self._console.print(Text(f"a replica answered after {elapsed:.1f} s", style="dim"))

    def _end_thought(self) -> None:
        if self._thought:
            thought, self._thought = self._thought, ""
            self._print_thoughts(thought)

    def _print_thoughts(self, text: str) -> None:
        self._console.print(_thoughts(text))
        self._printed = True

    def _print(self, block: Block) -> None:
        self._console.print(_spaced([block], space_before=self._printed))
        self._printed = True


def _thoughts(text: str) -> Text:
    return Text(text, style="dim italic")


def _spaced(shown: Iterable[Block], *, space_before: bool = False) -> Group:
    """Put one blank line between blocks."""
    parts: list[RenderableType] = []
    for block in shown:
        if parts or space_before:
            parts.append(Text())
        parts.append(block)
    return Group(*parts)
