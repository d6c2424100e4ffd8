"""What reads the input, whole and in pieces, and what must be the same."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from pydantic import BaseModel
from tests.core.standard import reference

from homing._http.chunked import ChunkedDecoder, HeadEnd
from homing.core.streaming.accumulator import Accumulator
from homing.core.streaming.chunks import parse_response
from homing.core.streaming.decoder import Mode, StreamDecoder
from homing.core.streaming.sse import EventDecoder
from homing.errors import APIError, APIResponseValidationError
from homing.types import ChatCompletion

from .inputs import pieces

MODES: tuple[Mode, ...] = ("text", "chunks", "events")


class Different(Exception):
    """The same bytes were read in two ways."""


def check(data: bytes, dice: random.Random) -> None:
    """Read ``data`` with every reader. Raises `Different`, and whatever a reader raises that it should not."""
    parts = pieces(dice, data)
    events = decoded([data])
    same("events", events, decoded(parts))
    same("events by the standard", events, ([tuple(event) for event in reference(data)], None))
    limits = {"max_line": dice.randint(1, 30), "max_event": dice.randint(1, 40)}
    same("events within limits", decoded([data], **limits), decoded(parts, **limits))
    mode = dice.choice(MODES)
    same(f"reply as {mode}", read([data], mode), read(parts, mode))
    same("HTTP chunks", unchunked([data]), unchunked(parts))
    same("end of head", end_of_head([data]), end_of_head(parts))
    try:
        parse_response(data, ChatCompletion)
    except APIError:
        pass


def same(what: str, whole: object, in_parts: object) -> None:
    if whole != in_parts:
        raise Different(f"{what}: {whole!r} and {in_parts!r}")


def decoded(parts: Sequence[bytes], **limits: int) -> tuple[list[tuple[str, bytes]], str | None]:
    """Return the events, and the error that came instead of more."""
    decoder = EventDecoder(**limits)
    events: list[tuple[str, bytes]] = []
    try:
        for part in parts:
            events += map(tuple, decoder.feed(part))  # type: ignore[arg-type]
        events += map(tuple, decoder.close())  # type: ignore[arg-type]
    except APIResponseValidationError as error:
        return events, str(error)
    return events, None


def read(parts: Sequence[bytes], mode: Mode) -> tuple[list[object], str | None, object]:
    """Return what a reader in this mode sees of a reply, the error at its end, and what has been gathered."""
    accumulator = Accumulator()
    decoder = StreamDecoder(accumulator)
    items: list[object] = []
    failure = None
    try:
        for part in parts:
            items += map(plain, decoder.take(part, mode))
            if accumulator.done:
                break
            decoder.check()
        items += map(plain, decoder.end(mode))
    except APIError as error:
        failure = f"{type(error).__name__}: {error}"
    return items, failure, plain(accumulator.completion)


def plain(item: object) -> Any:
    """Return an item so that equal ones are equal."""
    if isinstance(item, BaseModel):
        return repr(item.model_dump(exclude_unset=True))  # NaN is not equal to itself
    if is_dataclass(item) and not isinstance(item, type):
        values = {field.name: plain(getattr(item, field.name)) for field in fields(item) if field.name[0] != "_"}
        gathered = getattr(item, "snapshot", None) or getattr(item, "arguments", None)
        return type(item).__name__, values, repr(gathered)
    return item


def unchunked(parts: Sequence[bytes]) -> tuple[bytes, bool, bytes]:
    """Return the payload, whether it is sound, and what is left for h11."""
    body = ChunkedDecoder()
    payload, left = b"", list(parts)
    while left and body.rest is None:
        part = left.pop(0)
        payload += body.feed(part) if part else b""  # no bytes would be the end of the connection
    if body.rest is None:
        payload += body.feed(b"")
    return payload, body.fault is None, b"" if body.fault else (body.rest or b"") + b"".join(left)


def end_of_head(parts: Sequence[bytes]) -> int | None:
    """Return where the head of a message ends."""
    head, consumed = HeadEnd(), 0
    for part in parts:
        at = head.feed(part)
        if at is not None:
            return consumed + at
        consumed += len(part)
    return None
