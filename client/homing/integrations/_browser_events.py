"""A reply as the browser sees it: a few kinds of server-sent events, which reveal no internal details.

::

    waiting    elapsed, deadline, attempt, next_in      no replica is ready yet
    reasoning  text                                     a piece of the model's reasoning
    delta      text                                     a piece of the visible reply
    refusal    text                                     a piece of a refusal
    tool       id, name, state                          started, finished or failed
    resumed    at                                       broke, and resumes after that many characters
    done       finish_reason, telemetry                 the end
    failed     type, message, retry, status             also the end

(The name is not ``error``, because an EventSource uses that for its own events when a connection breaks.) A
failure's message is a sentence that we wrote for the user. The exception's own message contains addresses and
quotes the server, so it belongs in the log.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .. import errors
from ..core.encoding.messages import encode_json
from ..core.telemetry.measurements import Telemetry
from ..core.text.surrogates import replace_surrogates
from ..types import events, tool_events

KEEP_ALIVE_EVERY = 15.0
"""Seconds of silence before a comment is sent. The standard recommends this interval because of proxies that
drop idle connections (https://html.spec.whatwg.org/multipage/server-sent-events.html#authoring-notes)."""

KEEP_ALIVE = b": keep-alive\n\n"

_LAST = ("done", "failed")
_TEXT = ("delta", "reasoning", "refusal")
_TOLD = (
    "verdict",
    "replica",
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
    "time_to_first_token",
    "tokens_per_second",
    "duration",
    "waited",
    "retries",
    "resumes",
)

_AGAIN = "Please try again."
_MESSAGES: Mapping[type[Exception], tuple[str, bool]] = {
    errors.ColdStartTimeout: (f"The server did not get ready in time. {_AGAIN}", True),
    errors.APITimeoutError: (f"The server took too long. {_AGAIN}", True),
    errors.APIConnectionError: (f"The server could not be reached. {_AGAIN}", True),
    errors.StreamInterrupted: (f"The reply broke off. {_AGAIN}", True),
    errors.APIResponseValidationError: (f"The server's answer could not be read. {_AGAIN}", True),
    errors.RateLimitError: (f"The server is busy. Wait a moment. {_AGAIN}", True),
    errors.InternalServerError: (f"The server failed. {_AGAIN}", True),
    errors.ContextWindowExceeded: ("The conversation has become too long for the model.", False),
    errors.APIStatusError: ("The server refused the request.", False),
    errors.ConversationBusy: ("A reply is still being written. Wait for it, or stop it.", True),
    errors.VersionConflict: ("The conversation has moved on elsewhere. Reload it.", False),
    errors.StoreError: ("The conversation could not be read or saved. Reload it before you go on.", False),
    Exception: ("Something went wrong here.", False),
}
"""The message for each error, and whether sending the same again may help. The nearest class in the MRO applies."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One server-sent event."""

    event: str
    data: dict[str, Any] = field(repr=False)  # user content, which must not be logged

    @property
    def last(self) -> bool:
        """Whether this is the last frame."""
        return self.event in _LAST

    def encode(self, event_id: str | None = None) -> bytes:
        """Return the encoded event."""
        name = b"" if event_id is None else b"id: " + event_id.encode() + b"\n"
        data = encode_json(self.data, name="the frame")  # encoded JSON contains no line breaks
        return name + b"event: " + self.event.encode() + b"\ndata: " + data + b"\n\n"


def frame_of(event: events.StreamEvent) -> Frame | None:
    """Return the frame for a stream's event, or None if the browser doesn't need it.

    Tool arguments and results stay on the server, and so do all choices but the first.
    """
    if isinstance(event, events.Waiting):
        return Frame(
            "waiting",
            {
                "elapsed": round(event.elapsed, 3),
                "deadline": round(event.deadline, 3),
                "attempt": event.attempt,
                "next_in": round(event.next_in, 3),
            },
        )
    if isinstance(event, events.ContentDelta | events.ReasoningDelta | events.RefusalDelta) and event.index == 0:
        return Frame(_TEXT_EVENTS[event.type], {"text": replace_surrogates(event.delta)})
    if isinstance(event, events.Resumed):
        return Frame("resumed", {"at": event.at})
    if isinstance(event, tool_events.ToolStarted | tool_events.ToolFinished | tool_events.ToolFailed):
        return Frame("tool", {"id": event.id, "name": event.name, "state": event.type.removeprefix("tool.")})
    return None


_TEXT_EVENTS = {"content.delta": "delta", "reasoning.delta": "reasoning", "refusal.delta": "refusal"}


def done_frame(finish_reason: str | None, telemetry: Telemetry) -> Frame:
    """Return the last frame of a reply that has finished or was stopped.

    In its ``telemetry``, null means unknown, which is not the same as zero.
    """
    told = {name: getattr(telemetry, name) for name in _TOLD}
    return Frame("done", {"finish_reason": finish_reason, "telemetry": told})


def failed_frame(error: Exception) -> Frame:
    """Return the last frame of a reply that failed."""
    known = next(kind for kind in type(error).__mro__ if kind in _MESSAGES)
    message, retry = _MESSAGES[known]
    data = {
        # Other exceptions, and their names, may come from any code.
        "type": type(error).__name__ if isinstance(error, errors.HomingError) else "InternalError",
        "message": message,
        "retry": retry,
        "status": error.status_code if isinstance(error, errors.APIStatusError) else None,
    }
    return Frame("failed", data)


def merged(frames: Iterable[tuple[int, Frame]]) -> list[tuple[int, Frame]]:
    """Merge numbered frames into fewer ones with the same meaning, for a follower that joins late.

    Joins pieces of text, and keeps only the last of consecutive waits. A merged frame has the number of its last part.
    """
    result: list[tuple[int, Frame]] = []
    pieces: list[str] = []
    for number, frame in frames:
        same = bool(result) and result[-1][1].event == frame.event
        if same and frame.event in _TEXT:
            pieces.append(frame.data["text"])
            result[-1] = (number, frame)
            continue
        _splice(result, pieces)
        if same and frame.event == "waiting":
            result[-1] = (number, frame)
        else:
            result.append((number, frame))
        pieces = [frame.data["text"]] if frame.event in _TEXT else []
    _splice(result, pieces)
    return result


def _splice(result: list[tuple[int, Frame]], pieces: list[str]) -> None:
    if len(pieces) > 1:
        number, frame = result[-1]
        result[-1] = (number, Frame(frame.event, {"text": "".join(pieces)}))


class Journal:
    """The frames of one reply, numbered from 1.

    ``name`` identifies the reply. An event's id is ``name:number``, so a reader that reconnects tells how far
    it had read, and one that was reading another reply starts at the beginning.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.frames: list[Frame] = []

    @property
    def ended(self) -> bool:
        """Whether the last frame has been added."""
        return bool(self.frames) and self.frames[-1].last

    def since(self, number: int) -> list[tuple[int, Frame]]:
        """Return the frames after that number, merged."""
        return merged(enumerate(self.frames[number:], number + 1))


def event_id(name: str, number: int) -> str:
    """Return the id of a reply's frame."""
    return f"{name}:{number}"


def number_after(last_event_id: str | None, name: str) -> int:
    """Return the frame number in a ``Last-Event-ID``, or 0 if it is missing or belongs to another reply."""
    found, _, number = (last_event_id or "").rpartition(":")
    return int(number) if found == name and number.isascii() and number.isdigit() else 0
