"""What a browser is told of a reply."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homing import errors
from homing.core.streaming.sse import EventDecoder
from homing.core.telemetry.measurements import Telemetry
from homing.integrations._browser_events import (
    KEEP_ALIVE,
    Frame,
    Journal,
    done_frame,
    event_id,
    failed_frame,
    frame_of,
    merged,
    number_after,
)
from homing.types import events, tool_events

SECRET = "wk-1.ws-2 at http://10.0.0.7:30000"


@pytest.mark.parametrize(
    ("event", "told"),
    [
        (events.ContentDelta("Hi"), ("delta", {"text": "Hi"})),
        (events.ContentDelta("half \ud83d"), ("delta", {"text": "half \ufffd"})),
        (events.ReasoningDelta("Hm"), ("reasoning", {"text": "Hm"})),
        (events.RefusalDelta("No"), ("refusal", {"text": "No"})),
        (
            events.Waiting(1.23456, 1200, 3, 0.5, SECRET),
            ("waiting", {"elapsed": 1.235, "deadline": 1200, "attempt": 3, "next_in": 0.5}),
        ),
        (events.Resumed(17, 2), ("resumed", {"at": 17})),
        (
            tool_events.ToolStarted("c1", "look", {"key": SECRET}),
            ("tool", {"id": "c1", "name": "look", "state": "started"}),
        ),
        (
            tool_events.ToolFinished("c1", "look", SECRET, SECRET, 0.1),
            ("tool", {"id": "c1", "name": "look", "state": "finished"}),
        ),
        (
            tool_events.ToolFailed("c1", "look", ValueError(SECRET), SECRET, 0.1),
            ("tool", {"id": "c1", "name": "look", "state": "failed"}),
        ),
        (events.ContentDelta("another choice", index=1), None),
        (events.ContentDone("Hi"), None),
        (events.Finished("stop"), None),
        (tool_events.RoundStarted(1), None),
    ],
    ids=lambda value: getattr(value, "type", ""),
)
def test_what_is_told_of_an_event(event: Any, told: tuple[str, dict[str, Any]] | None) -> None:
    frame = frame_of(event)
    assert (None if frame is None else (frame.event, frame.data)) == told
    assert frame is None or not frame.last


def test_the_end_has_the_telemetry_and_unknown_is_not_zero() -> None:
    telemetry = Telemetry("warm", 100, 20, None, replica="r1", time_to_first_token=0.5, duration=1.5, resumes=1)
    frame = done_frame("stop", telemetry)
    assert frame.last
    assert frame.data["finish_reason"] == "stop"
    told = frame.data["telemetry"]
    assert told["cached_tokens"] is None
    assert told["tokens_per_second"] == 19
    assert {told[name] for name in ("verdict", "prompt_tokens", "replica", "resumes")} == {"warm", 100, "r1", 1}


def every_error() -> list[Exception]:
    plain: list[Exception] = [
        errors.ColdStartTimeout(SECRET, waited=1, attempts=1, last=None),
        errors.VersionConflict(SECRET, expected=1, found=2),
        errors.RateLimitError(SECRET, status_code=429),
        errors.InternalServerError(SECRET, status_code=502),
        errors.BadRequestError(SECRET, status_code=400),
        errors.ContextWindowExceeded(SECRET, status_code=400),
        errors.AuthenticationError(SECRET, status_code=401, body={"error": SECRET}),
        KeyError(SECRET),
    ]
    kinds = (
        errors.GapTimeout,
        errors.ServerUnreachable,
        errors.StreamTruncated,
        errors.APIResponseValidationError,
        errors.ConversationBusy,
        errors.StoreError,
        errors.MaxRoundsExceeded,
    )
    return plain + [kind.__new__(kind, SECRET) for kind in kinds]


@pytest.mark.parametrize("error", every_error(), ids=lambda error: type(error).__name__)
def test_an_error_says_nothing_that_is_not_for_the_browser(error: Exception) -> None:
    frame = failed_frame(error)
    assert frame.last
    sent = frame.encode()
    assert not any(part in sent.decode() for part in ("wk-1", "10.0.0.7"))
    assert set(frame.data) == {"type", "message", "retry", "status"}
    # It is said exactly where it may help; for a busy conversation in other words.
    hopeful = frame.data["retry"] and not isinstance(error, errors.ConversationBusy)
    assert ("try again" in frame.data["message"]) is hopeful


@pytest.mark.parametrize(
    ("error", "kind", "retry", "status"),
    [
        (errors.StreamTruncated("x"), "StreamTruncated", True, None),
        (errors.AuthenticationError("x", status_code=401), "AuthenticationError", False, 401),
        (errors.RateLimitError("x", status_code=429), "RateLimitError", True, 429),
        (errors.VersionConflict("x", expected=1, found=2), "VersionConflict", False, None),
        (ZeroDivisionError("x"), "InternalError", False, None),
    ],
)
def test_an_error_s_kind(error: Exception, kind: str, retry: bool, status: int | None) -> None:
    told = failed_frame(error).data
    assert (told["type"], told["retry"], told["status"]) == (kind, retry, status)


@given(st.text(st.characters(codec="utf-8")))
def test_any_text_comes_back_from_the_wire(text: str) -> None:
    wire = Frame("delta", {"text": text}).encode("name:7") + KEEP_ALIVE
    [event] = EventDecoder().feed(wire)
    assert (event.name, json.loads(event.data)) == ("delta", {"text": text})
    assert wire.startswith(b"id: name:7\nevent: delta\n")


def test_a_frame_without_an_id() -> None:
    assert Frame("done", {}).encode() == b"event: done\ndata: {}\n\n"


def test_what_people_say_is_in_no_repr() -> None:
    assert "Hi" not in repr(Frame("delta", {"text": "Hi"}))


def told(*frames: tuple[str, str]) -> list[Frame]:
    return [Frame(event, {"text": text}) for event, text in frames]


def test_whoever_comes_late_is_told_the_same_in_fewer_frames() -> None:
    journal = Journal("a")
    journal.frames += told(("waiting", "1"), ("waiting", "2"), ("reasoning", "so"), ("delta", "a"), ("delta", "b"))
    journal.frames += told(("resumed", "x"), ("resumed", "y"), ("delta", "c"), ("delta", "d"), ("delta", "e"))
    said = [(number, frame.event, frame.data["text"]) for number, frame in journal.since(0)]
    assert said == [
        (2, "waiting", "2"),
        (3, "reasoning", "so"),
        (5, "delta", "ab"),
        (6, "resumed", "x"),
        (7, "resumed", "y"),
        (10, "delta", "cde"),
    ]
    assert [(number, frame.data["text"]) for number, frame in journal.since(8)] == [(10, "de")]
    assert [frame.data["text"] for frame in journal.frames[3:5]] == ["a", "b"]  # left as they were
    assert journal.since(10) == []
    assert not journal.ended
    journal.frames.append(done_frame("stop", Telemetry()))
    assert journal.ended
    assert not Journal("b").ended


@given(st.lists(st.tuples(st.sampled_from(["delta", "reasoning", "waiting", "tool"]), st.text())), st.integers(0, 9))
def test_merging_loses_no_text_wherever_one_comes_in(frames: list[tuple[str, str]], after: int) -> None:
    numbered = list(enumerate(told(*frames), 1))[after:]
    short = merged(numbered)
    for kind in ("delta", "reasoning"):
        assert "".join(f.data["text"] for _, f in short if f.event == kind) == "".join(
            f.data["text"] for _, f in numbered if f.event == kind
        )
    numbers = [number for number, _ in short]
    assert numbers == sorted(set(numbers))
    assert not numbered or numbers[-1] == numbered[-1][0]
    assert merged(short) == short


@pytest.mark.parametrize(
    ("last", "number"),
    [("a:12", 12), ("b:12", 0), (None, 0), ("", 0), ("a", 0), ("a:", 0), ("a:-1", 0), ("a:x", 0), ("a:²", 0)],
)
def test_where_to_go_on(last: str | None, number: int) -> None:
    assert number_after(last, "a") == number
    assert event_id("a", 12) == "a:12"
