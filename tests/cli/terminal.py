"""A terminal for the tests: a pty, with pyte behind it as the screen."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from typing import Any

import pyte

from homing.cli.app import homing

from .command import CLEAN

PATIENCE = 30.0
"""Seconds for what is waited for; only a broken test needs them."""
# What the shell does for the programs that it starts: Ctrl-C is theirs.
_CHILD = """
import fcntl, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from homing.cli import main
main()
"""


class _Screen(pyte.Screen):
    """Answers when it is asked where the cursor is, as a terminal does (prompt_toolkit asks)."""

    answer: int | None = None

    def write_process_input(self, data: str) -> None:
        if self.answer is not None:
            os.write(self.answer, data.encode())


class Terminal:
    """A terminal of ``columns`` by ``lines``. Programs run in it as a process, or as a function here."""

    def __init__(self, *, columns: int = 80, lines: int = 24) -> None:
        self._master, self.slave = pty.openpty()
        self._screen = _Screen(columns, lines)
        self._screen.answer = self._master
        self._stream = pyte.ByteStream(self._screen)
        self._changed = threading.Condition()
        self.written = b""
        self.resize(columns=columns, lines=lines)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        if self.slave >= 0:
            os.close(self.slave)
            self.slave = -1
            self._reader.join(PATIENCE)
            os.close(self._master)

    def resize(self, *, columns: int = 80, lines: int = 24) -> None:
        """Give it another size, before a program looks."""
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self._size = {"COLUMNS": str(columns), "LINES": str(lines), "TERM": "xterm-256color"}
        with self._changed:
            self._screen.resize(lines, columns)

    def clear(self) -> None:
        """Empty the screen."""
        with self._changed:
            self._screen.reset()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 65_536)
            except OSError:  # nobody has the other end open
                return
            with self._changed:
                self._stream.feed(data)
                self.written += data
                self._changed.notify_all()

    @property
    def text(self) -> str:
        """What is on the screen, without the blanks at the ends."""
        with self._changed:
            return "\n".join(line.rstrip() for line in self._screen.display).rstrip()

    def style(self, shown: str) -> Any:
        """Return pyte's character at the beginning of ``shown``: its colour, whether it is bold or italic."""
        with self._changed:
            for number, line in enumerate(self._screen.display):
                if shown in line:
                    return self._screen.buffer[number][line.index(shown)]
        raise AssertionError(f"no {shown!r} in\n{self.text}")

    def wait_for(self, pattern: str) -> None:
        """Wait until the screen shows ``pattern``, a regular expression."""
        with self._changed:
            seen = self._changed.wait_for(lambda: re.search(pattern, self.text, re.MULTILINE), PATIENCE)
        assert seen, f"no {pattern!r} in\n{self.text}"

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._master, keys.encode())

    @contextlib.contextmanager
    def process(self, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run ``homing`` in the foreground of this terminal: Ctrl-C reaches it from the keyboard."""
        with subprocess.Popen(
            [sys.executable, "-c", _CHILD, *arguments],
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            start_new_session=True,
            env={**CLEAN, **self._size, "PYTHONUTF8": "1", **environment},
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def run(self, *arguments: str, **environment: str) -> int:
        """Run ``homing`` in this thread, with this terminal as its own; return its exit status."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(_environment({**self._size, **environment}))
            streams = {}
            for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
                streams[name] = stack.enter_context(self._file(mode))
                stack.callback(setattr, sys, name, getattr(sys, name))
                setattr(sys, name, streams[name])
            try:
                homing.main(arguments, prog_name="homing")
            except SystemExit as end:
                status = end.code
            finally:
                for name in ("stdout", "stderr"):
                    streams[name].flush()
        self._settle()
        assert status is None or isinstance(status, int), status
        return status or 0

    def _settle(self) -> None:
        """Wait until the screen has what was written."""
        mark = f"\x1b]2;{len(self.written)}\x07"  # a title, of which the screen shows nothing
        os.write(self.slave, mark.encode())
        with self._changed:
            assert self._changed.wait_for(lambda: mark.encode() in self.written, PATIENCE)

    def _file(self, mode: str) -> io.TextIOWrapper:
        return open(os.dup(self.slave), mode, encoding="utf-8", newline=None if mode == "r" else "")  # type: ignore[return-value]


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    for name in {*before} - {*CLEAN}:
        del os.environ[name]
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
