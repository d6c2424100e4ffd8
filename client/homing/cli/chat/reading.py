"""Reads one reply to its end or to Ctrl-C. All displays share this."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from homing import Reply, ReplyStream, Telemetry, Waiting

from ...core.text.control_characters import one_line


def read(
    stream: ReplyStream[None],
    *,
    content: Callable[[str], None],
    waiting: Callable[[Waiting], None],
    reasoning: Callable[[str], None] | None = None,
) -> Reply:
    """Pass a reply to the callbacks piece by piece, then return it.

    Ctrl-C stops the engine; the conversation keeps what had arrived. Raises the errors of `homing.errors`.
    """
    with _Interrupt(stream.cancel), stream:
        for event in stream:
            if event.type == "content.delta":
                content(event.delta)
            elif event.type == "reasoning.delta" and reasoning is not None:
                reasoning(event.delta)
            elif event.type == "waiting":
                waiting(event)
    return stream.reply()


class _Interrupt:
    """Makes the first Ctrl-C call ``stop`` instead of raising at an arbitrary point; the second one raises.

    A separate thread calls ``stop``: the signal handler may have interrupted code that holds a lock ``stop`` needs.
    """

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop = stop
        self._news = threading.Event()
        self._asked = False
        self._thread = threading.Thread(target=self._wait, name="homing-interrupt", daemon=True)
        self._before: Any = None
        self._installed = threading.current_thread() is threading.main_thread()  # other threads get no signals

    def __enter__(self) -> None:
        if self._installed:
            self._thread.start()
            self._before = signal.signal(signal.SIGINT, self._ask)

    def __exit__(self, *_: object) -> None:
        if self._installed:
            signal.signal(signal.SIGINT, self._before)
            self._news.set()
            self._thread.join()

    def _ask(self, number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.default_int_handler)
        self._asked = True
        self._news.set()

    def _wait(self) -> None:
        self._news.wait()
        if self._asked:
            self._stop()


def remarks(reply: Reply) -> list[str]:
    """Return the lines to show below a reply: whether it was stopped, and what it cost. Pure."""
    if not reply.interrupted:
        return [cost(reply.telemetry)]
    kept = "what had come is kept" if reply.text else "before its first word; /regenerate asks again"
    return [f"stopped: {kept}", cost(reply.telemetry)]


def cost(telemetry: Telemetry) -> str:
    """Return one line about what a reply cost. Pure."""
    parts = []
    if telemetry.replica is not None:
        parts.append(telemetry.replica)
    if telemetry.time_to_first_token is not None:
        parts.append(f"first token after {telemetry.time_to_first_token:.2f} s")
    if telemetry.prompt_tokens is not None:
        cached = "?" if telemetry.cached_tokens is None else telemetry.cached_tokens
        parts.append(f"{cached} of {telemetry.prompt_tokens} prompt tokens cached")
    if telemetry.resumes:
        parts.append(f"resumed {telemetry.resumes}×")
    if telemetry.verdict != "unknown":
        parts.append(telemetry.verdict)
    return one_line(" · ".join(parts))
