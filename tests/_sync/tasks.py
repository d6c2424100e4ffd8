"""Doing several things at once, written by hand for tasks and for threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any


def gather(*actions: Callable[..., Any]) -> list[Any]:
    """Run all actions at once (those that want an argument get a question) and return their results."""

    def run(action: Callable[..., Any]) -> Any:
        return action() if action.__name__ == "wake" else action("Hello")

    with ThreadPoolExecutor(len(actions)) as pool:
        return list(pool.map(run, actions))


class Hanging:
    """A tool that never returns by itself."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.released = threading.Event()

    def __call__(self) -> None:
        self.began.set()
        assert self.released.wait(60), "nobody let it go"

    def has_begun(self) -> None:
        """Wait until it runs."""
        self.began.wait(30)


@contextmanager
def hangs_until_cancelled() -> Iterator[Hanging]:
    """Make such a tool; a thread cannot be cancelled, so it is let go afterwards."""
    hanging = Hanging()
    try:
        yield hanging
    finally:
        hanging.released.set()
