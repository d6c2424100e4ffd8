"""Incremental encoding of message lists that grow.

A conversation encodes each message once. Callers that keep a plain list and send all of it with every turn, as
OpenAI's API requires, get the same from this cache. It keeps the last list with the same beginning, along with its
encodings, and reuses the part that the new list has in common with it. It compares messages with private copies,
so an edit anywhere is noticed.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from itertools import takewhile
from operator import eq
from typing import Any, Final, NamedTuple

from ...types.wire import WireModel
from ..process.fork import renew_after_fork
from .messages import encode_messages

LIMIT: Final = 32 * 1024 * 1024
"""Bytes of encodings kept per client: thirty histories of a megabyte. The least recently used go first."""

SHORT: Final = 4
"""Lists with fewer messages are faster to encode than to look up."""


class _Known(NamedTuple):
    copies: list[Any]
    encoded: list[bytes]
    size: int


class EncodingCache:
    """Encodes message lists like `encode_messages`, with the same bytes and errors. Thread-safe."""

    def __init__(self, *, limit: int = LIMIT) -> None:
        self._limit = limit
        self._begin()
        renew_after_fork(self)

    def _begin(self) -> None:
        self._lock = threading.RLock()  # reentrant: a signal handler may call in the middle of a step
        self._known: OrderedDict[tuple[str, ...], _Known] = OrderedDict()
        self._size = 0

    _after_fork = _begin  # another thread may have been changing it

    @property
    def size(self) -> int:
        """Bytes of all stored encodings."""
        return self._size

    def encode(self, messages: Any) -> list[bytes]:
        """Return the encoding of each message."""
        key = _beginning(messages)
        if key is None:
            return encode_messages(messages)
        known = self._known.get(key, _NOTHING)
        same = _in_common(known.copies, messages)
        encoded = known.encoded[:same] + encode_messages(messages[same:], first=same)
        # Keep only the messages before the first one that cannot be compared: only a prefix can be reused.
        copies = known.copies[:same] + _copies(messages[same:])
        self._keep(key, copies, encoded[: len(copies)])
        return encoded

    def _keep(self, key: tuple[str, ...], copies: list[Any], encoded: list[bytes]) -> None:
        new = _Known(copies, encoded, sum(map(len, encoded)))
        with self._lock:
            old = self._known.pop(key, _NOTHING)
            self._known[key] = new
            self._size += new.size - old.size
            while self._size > self._limit:
                _, forgotten = self._known.popitem(last=False)
                self._size -= forgotten.size


_NOTHING: Final = _Known([], [], 0)


def _beginning(messages: Any) -> tuple[str, ...] | None:
    """Return what identifies a conversation: its texts up to the first user message. None if it can't be cached."""
    if type(messages) is not list or len(messages) < SHORT:
        return None
    texts: list[str] = []
    for message in messages:
        content = message.get("content") if type(message) is dict else None
        if type(content) is not str:
            return None
        texts.append(content)
        if message.get("role") == "user":
            return tuple(texts)
    return None


def _in_common(copies: list[Any], messages: list[Any]) -> int:
    """Return how many leading messages are unchanged."""
    if messages[: len(copies)] == copies:  # compares in C
        return len(copies)
    return sum(1 for _ in takewhile(bool, map(eq, copies, messages)))


def _copies(messages: Iterable[Any]) -> list[Any]:
    """Return copies of the messages before the first one that cannot be compared."""
    copies = []
    for message in messages:
        try:
            copies.append(_copy(message))
        except TypeError:
            break
    return copies


def _copy(value: Any) -> Any:
    """Return a copy that equals only values with the same encoding. Raises `TypeError` where that is impossible.

    It is impossible for numbers, since 1 equals 1.0 and True, and for objects of foreign classes.
    """
    kind = type(value)
    if value is None or kind is str:
        return value
    if kind is dict:
        return {_copy(name): _copy(inner) for name, inner in value.items()}
    if kind is list:
        return [_copy(inner) for inner in value]
    if isinstance(value, WireModel):
        _copy({**value.__dict__, **(value.__pydantic_extra__ or {})})
        return value.model_copy(deep=True)
    raise TypeError(kind)
